// Commands and stream messages on the wire (protocol/device.md, section 4).
import { TurnpikeError } from "./error.js";

/** The largest message of a data channel, header included, in bytes. */
export const maxMessage = 65_536;
/** The first command word an application may use. */
export const firstCommand = 0x2000;

const commandHeader = 4;
const messageHeader = 8;

/** A 32-bit word and a payload; nothing between the two applications gives them a meaning. */
export interface Command {
  /** 0x2000 to 0xffffffff. */
  word: number;
  /** At most 65,532 bytes. */
  payload: Uint8Array<ArrayBuffer>;
}

/** Data that belongs to a moment of a stream. */
export interface StreamMessage {
  /** The stream's id, 0 to 255. */
  stream: number;
  /** Eight bits of the application's own; 0 unless set. */
  flags: number;
  /** Milliseconds on the stream's clock, as an unsigned 32-bit number. */
  timestamp: number;
  /** At most 65,528 bytes. */
  payload: Uint8Array<ArrayBuffer>;
}

/** What a payload may be given as; text is sent as UTF-8. */
export type Payload = string | ArrayBuffer | ArrayBufferView;

/** Copies a payload into bytes of its own. */
export function bytes(payload: Payload): Uint8Array<ArrayBuffer> {
  if (typeof payload === "string") return new Uint8Array(new TextEncoder().encode(payload));
  if (ArrayBuffer.isView(payload)) {
    return new Uint8Array(new Uint8Array(payload.buffer, payload.byteOffset, payload.byteLength));
  }
  return new Uint8Array(payload.slice(0));
}

/** Writes a command as one message. */
export function encodeCommand(word: number, payload: Payload): Uint8Array<ArrayBuffer> {
  if (!isUint(word, 0xffffffff) || word < firstCommand) {
    throw new TurnpikeError("reserved_command", 0, "A command word is a number from 0x2000 to 0xffffffff.");
  }
  const { frame, view } = framed(commandHeader, payload);
  view.setUint32(0, word);
  return frame;
}

/** Reads a command; undefined when it is too short, too long, or of a reserved word. */
export function decodeCommand(data: ArrayBuffer): Command | undefined {
  if (data.byteLength < commandHeader || data.byteLength > maxMessage) return undefined;
  const word = new DataView(data).getUint32(0);
  if (word < firstCommand) return undefined;
  return { word, payload: new Uint8Array(data, commandHeader) };
}

/** Writes a stream message as one message. */
export function encodeMessage(
  stream: number,
  timestamp: number,
  payload: Payload,
  flags = 0,
): Uint8Array<ArrayBuffer> {
  if (!isUint(stream, 255)) throw new TurnpikeError("bad_id", 0, "A stream id is a number from 0 to 255.");
  if (!isUint(flags, 255)) throw new TurnpikeError("bad_id", 0, "Flags are a number from 0 to 255.");
  const { frame, view } = framed(messageHeader, payload);
  view.setUint8(0, stream);
  view.setUint8(1, flags);
  view.setUint32(4, Math.trunc(timestamp)); // wraps, as the 32-bit clock does
  return frame;
}

/** Reads a stream message; undefined when it is too short or too long. */
export function decodeMessage(data: ArrayBuffer): StreamMessage | undefined {
  if (data.byteLength < messageHeader || data.byteLength > maxMessage) return undefined;
  const view = new DataView(data);
  return {
    stream: view.getUint8(0),
    flags: view.getUint8(1),
    timestamp: view.getUint32(4),
    payload: new Uint8Array(data, messageHeader),
  };
}

function framed(header: number, payload: Payload) {
  const body = bytes(payload);
  if (header + body.byteLength > maxMessage) {
    throw new TurnpikeError("too_large", 0, `A payload has at most ${maxMessage - header} bytes here.`);
  }
  const frame = new Uint8Array(header + body.byteLength);
  frame.set(body, header);
  return { frame, view: new DataView(frame.buffer) };
}

/** Reports whether n is a whole number from 0 to max. */
export function isUint(n: unknown, max: number): n is number {
  return typeof n === "number" && Number.isInteger(n) && n >= 0 && n <= max;
}
