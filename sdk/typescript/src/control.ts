// Messages of the control channel (protocol/device.md, section 5).
import { isUint } from "./frame.js";

/** One stream a device has. */
export interface StreamDescription {
  /** 0 to 255. */
  id: number;
  kind: MediaKind;
  /** `H264`, `PCMA`, `G722`, … */
  codec: string;
  /** Samples per second, for audio. */
  rate?: number;
}

/** What a stream carries. */
export type MediaKind = "video" | "audio";

/** The stream ids wanted for an offer's media sections, in the order of the sections of each kind. */
export interface Wanted {
  video?: number[];
  audio?: number[];
}

/** What a client says. */
export type Request =
  | { type: "subscribe" | "unsubscribe"; id: number; stream: number }
  | { type: "key_frame"; stream: number }
  | { type: "offer"; id: number; sdp: string; streams?: Wanted };

/** What a device says. */
export type Notice =
  | { type: "streams"; streams: StreamDescription[]; sending: number[] }
  | { type: "done"; id: number }
  | { type: "refused"; id: number; code: string; message: string }
  | { type: "answer"; id: number; sdp: string };

const maxStreams = 256;
const maxText = 500;

/** Reads a message of the device; undefined when it is none of those above. */
export function parseNotice(text: unknown): Notice | undefined {
  if (typeof text !== "string" || text.length > 65_536) return undefined;
  let m: unknown;
  try {
    m = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof m !== "object" || m === null) return undefined;
  const o = m as Record<string, unknown>;
  if (o.type === "streams") return parseStreams(o);
  const id = o.id;
  if (!isUint(id, Number.MAX_SAFE_INTEGER)) return undefined;
  if (o.type === "done") return { type: "done", id };
  if (o.type === "answer" && typeof o.sdp === "string") return { type: "answer", id, sdp: o.sdp };
  if (o.type === "refused" && typeof o.code === "string" && /^[a-z][a-z0-9_]{0,63}$/.test(o.code)) {
    const message = typeof o.message === "string" ? o.message.slice(0, maxText) : "";
    return { type: "refused", id, code: o.code, message };
  }
  return undefined;
}

function parseStreams(o: Record<string, unknown>): Notice | undefined {
  const list = o.streams;
  if (!Array.isArray(list) || list.length > maxStreams) return undefined;
  const streams: StreamDescription[] = [];
  for (const entry of list) {
    const stream = parseStream(entry);
    if (stream === undefined) return undefined;
    streams.push(stream);
  }
  const sending = Array.isArray(o.sending) ? o.sending.filter((id) => isUint(id, 255)) : [];
  return { type: "streams", streams, sending: sending.slice(0, maxStreams) };
}

function parseStream(entry: unknown): StreamDescription | undefined {
  if (typeof entry !== "object" || entry === null) return undefined;
  const { id, kind, codec, rate } = entry as Record<string, unknown>;
  if (!isUint(id, 255) || (kind !== "video" && kind !== "audio") || typeof codec !== "string")
    return undefined;
  const stream: StreamDescription = { id, kind, codec: codec.slice(0, 32) };
  if (isUint(rate, 768_000) && rate > 0) stream.rate = rate;
  return stream;
}
