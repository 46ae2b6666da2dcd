// The little that the client reads and writes of SDP itself.

const maxFragment = 32_768;

/** Which of the server's media stream ids names a device stream: `stream-<id>` (protocol/device.md, section 3). */
export function streamOf(mediaStreamId: string): number | undefined {
  const id = /^stream-(\d{1,3})$/.exec(mediaStreamId)?.[1];
  return id !== undefined && Number(id) <= 255 ? Number(id) : undefined;
}

/** A local candidate, as RTCPeerConnection hands it out. */
export type LocalCandidate = Pick<RTCIceCandidate, "candidate" | "sdpMid">;

/**
 * Writes candidates as an SDP fragment (RFC 8840, section 9): the credentials of the ICE
 * session, then the candidates under their media sections. `done` says that no more will come.
 */
export function fragment(offer: string, candidates: LocalCandidate[], done: boolean): string {
  const section = (name: string) => new RegExp(`^a=${name}:(.*)$`, "m").exec(offer)?.[1]?.trim() ?? "";
  const media = mediaLines(offer);
  const byMid = new Map<string, string[]>();
  const first = media.keys().next().value ?? "0";
  if (done) byMid.set(first, []);
  for (const { candidate, sdpMid } of candidates) {
    if (candidate === "") continue;
    const mid = sdpMid ?? first;
    byMid.set(mid, [...(byMid.get(mid) ?? []), `a=${candidate}`]);
  }
  const lines = [`a=ice-ufrag:${section("ice-ufrag")}`, `a=ice-pwd:${section("ice-pwd")}`];
  for (const [mid, list] of byMid) {
    lines.push(media.get(mid) ?? "m=audio 9 UDP/TLS/RTP/SAVPF 0", `a=mid:${mid}`, ...list);
    if (done) lines.push("a=end-of-candidates");
  }
  const text = `${lines.join("\r\n")}\r\n`;
  return text.length > maxFragment ? "" : text;
}

/** The media lines of an SDP by their mid. */
function mediaLines(sdp: string): Map<string, string> {
  const lines = new Map<string, string>();
  let current = "";
  for (const line of sdp.split(/\r?\n/)) {
    if (line.startsWith("m=")) current = line;
    const mid = /^a=mid:(\S+)$/.exec(line)?.[1];
    if (mid !== undefined && current !== "") lines.set(mid, current);
  }
  return lines;
}
