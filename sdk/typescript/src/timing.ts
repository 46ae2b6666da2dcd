/** What happened on the way to the first frame. Times are milliseconds since `connect` was called. */
export interface Timings {
  /** performance.now() when `connect` was called. */
  readonly startedAt: number;
  /** The offer and the token left for the server. */
  requestSent?: number;
  /** The device's answer arrived; the token is spent. */
  answered?: number;
  /** ICE found a path. */
  iceConnected?: number;
  /** DTLS is through: media can flow. */
  connected?: number;
  /** The first frame was handed to the screen; set by a VideoOutput with a view. */
  firstFrame?: number;
  /** Which way the media takes. */
  path?: Path;
}

/** The pair of ICE candidates in use. */
export interface Path {
  /** `relay` when a TURN server stands on either side. */
  kind: "direct" | "relay";
  local: RTCIceCandidateType | "unknown";
  remote: RTCIceCandidateType | "unknown";
  protocol: string;
}

interface PairStats extends RTCStats {
  selectedCandidatePairId?: string;
  localCandidateId?: string;
  remoteCandidateId?: string;
  nominated?: boolean;
  state?: string;
  candidateType?: RTCIceCandidateType;
  protocol?: string;
}

/** Finds the path among the entries of a stats report. */
export function pathOf(report: Iterable<RTCStats>): Path | undefined {
  const byId = new Map<string, PairStats>();
  for (const entry of report) byId.set(entry.id, entry);
  const all = [...byId.values()];
  const selected = all.find((e) => e.type === "transport")?.selectedCandidatePairId;
  // Firefox and older Safari do not name the selected pair in the transport.
  const pair =
    byId.get(selected ?? "") ??
    all.find((e) => e.type === "candidate-pair" && e.nominated && e.state === "succeeded");
  if (pair === undefined) return undefined;
  const local = byId.get(pair.localCandidateId ?? "");
  const remote = byId.get(pair.remoteCandidateId ?? "");
  const relayed = local?.candidateType === "relay" || remote?.candidateType === "relay";
  return {
    kind: relayed ? "relay" : "direct",
    local: local?.candidateType ?? "unknown",
    remote: remote?.candidateType ?? "unknown",
    protocol: local?.protocol ?? "udp",
  };
}

/** Live numbers of what arrives. Totals count from the start of the current connection. */
export interface Stats {
  /** performance.now() when they were taken. */
  at: number;
  video: VideoStats | undefined;
  audio: AudioStats | undefined;
}

/** Numbers of the first video stream that arrives. */
export interface VideoStats {
  width: number;
  height: number;
  framesPerSecond: number;
  framesDecoded: number;
  framesDropped: number;
  bytes: number;
  packetsLost: number;
  codec: string;
}

/** Numbers of the first audio stream that arrives. */
export interface AudioStats {
  /** 0 (silence) to 1. */
  level: number;
  bytes: number;
  packetsLost: number;
  codec: string;
}

/** Condenses a stats report. */
export function statsOf(report: Iterable<RTCStats>, at: number): Stats {
  const entries = [...report] as (RTCStats & Record<string, unknown>)[];
  const inbound = (kind: string) =>
    entries
      .filter((e) => e.type === "inbound-rtp" && e.kind === kind)
      .sort((a, b) => number(b.bytesReceived) - number(a.bytesReceived))[0];
  const codec = (id: unknown) => {
    const mime = entries.find((e) => e.id === id)?.mimeType;
    return typeof mime === "string" ? mime.replace(/^.*\//, "") : "";
  };
  const v = inbound("video");
  const a = inbound("audio");
  return {
    at,
    video: v && {
      width: number(v.frameWidth),
      height: number(v.frameHeight),
      framesPerSecond: number(v.framesPerSecond),
      framesDecoded: number(v.framesDecoded),
      framesDropped: number(v.framesDropped),
      bytes: number(v.bytesReceived),
      packetsLost: number(v.packetsLost),
      codec: codec(v.codecId),
    },
    audio: a && {
      level: number(a.audioLevel),
      bytes: number(a.bytesReceived),
      packetsLost: number(a.packetsLost),
      codec: codec(a.codecId),
    },
  };
}

function number(value: unknown): number {
  return typeof value === "number" && Number.isFinite(value) ? value : 0;
}
