// A device in a browser page, for the tests of the client: it answers offers, shows a moving picture, plays a
// tone, and speaks the control channel. Streams: 0 and 2 are video, 1 is audio.

type Kind = "video" | "audio";
interface Wanted {
  video?: number[];
  audio?: number[];
}

const kinds: Record<number, Kind> = { 0: "video", 1: "audio", 2: "video" };
const codecs = { video: "VP8", audio: "OPUS" };

class Viewer {
  readonly pc = new RTCPeerConnection();
  readonly heard: string[] = [];
  /** The stream of each media section, by mid. */
  readonly placed = new Map<string, number>();

  constructor(private readonly tracks: Record<number, MediaStreamTrack>) {
    this.pc.ondatachannel = ({ channel }) => {
      channel.binaryType = "arraybuffer";
      if (channel.label === "turnpike.control") this.control(channel);
      else channel.onmessage = ({ data }) => channel.send(data); // commands and messages come back as they are
    };
  }

  async answer(sdp: string, wanted: Wanted): Promise<string> {
    await this.pc.setRemoteDescription({ type: "offer", sdp });
    const next = { video: [...(wanted.video ?? [0, 2])], audio: [...(wanted.audio ?? [1])] };
    for (const transceiver of this.pc.getTransceivers()) {
      const kind = transceiver.receiver.track.kind as Kind;
      const stream = next[kind].shift() ?? -1;
      const track = kinds[stream] === kind ? this.tracks[stream] : undefined;
      transceiver.direction = track === undefined ? "inactive" : "sendonly";
      await transceiver.sender.replaceTrack(track ?? null);
      if (transceiver.mid !== null) this.placed.set(transceiver.mid, stream);
    }
    await this.pc.setLocalDescription();
    await gathered(this.pc);
    return this.named(this.pc.localDescription?.sdp ?? "");
  }

  /** A browser cannot choose the ids of its media streams, so they are written into the answer. */
  private named(sdp: string): string {
    return sdp
      .split(/(?=^m=)/m)
      .map((section) => {
        const mid = /^a=mid:(\S+)/m.exec(section)?.[1] ?? "";
        return section
          .replace(/^a=ssrc:\d+ msid:.*\r\n/gm, "")
          .replace(/^a=msid:\S+/m, `a=msid:stream-${this.placed.get(mid)}`);
      })
      .join("");
  }

  private control(channel: RTCDataChannel): void {
    const say = (message: object) => channel.send(JSON.stringify(message));
    channel.onopen = () => {
      const streams = Object.entries(kinds).map(([id, kind]) => ({
        id: Number(id),
        kind,
        codec: codecs[kind],
      }));
      say({ type: "streams", streams, sending: [...this.placed.values()] });
    };
    channel.onmessage = async ({ data }) => {
      const { type, id, stream, sdp, streams } = JSON.parse(data);
      this.heard.push(stream === undefined ? type : `${type} ${stream}`);
      if (type === "key_frame") return;
      if (type === "offer") return say({ type: "answer", id, sdp: await this.answer(sdp, streams ?? {}) });
      if (kinds[stream] === undefined) return say({ type: "refused", id, code: "no_such_stream" });
      if (![...this.placed.values()].includes(stream))
        return say({ type: "refused", id, code: "renegotiate" });
      say({ type: "done", id });
    };
  }
}

async function gathered(pc: RTCPeerConnection): Promise<void> {
  const deadline = performance.now() + 500;
  while (pc.iceGatheringState !== "complete" && performance.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** A picture that changes with every frame, in a colour of its own. */
function picture(hue: number): MediaStreamTrack {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [320, 180];
  const context = canvas.getContext("2d") as CanvasRenderingContext2D;
  let n = 0;
  setInterval(() => {
    context.fillStyle = `hsl(${hue} 80% 50%)`;
    context.fillRect(0, 0, 320, 180);
    context.fillStyle = "white";
    context.fillRect((n++ * 5) % 300, 40, 20, 100);
  }, 40);
  return canvas.captureStream(25).getVideoTracks()[0] as MediaStreamTrack;
}

function tone(hz: number): MediaStreamTrack {
  const context = new AudioContext();
  const oscillator = new OscillatorNode(context, { frequency: hz });
  const end = context.createMediaStreamDestination();
  oscillator.connect(end);
  oscillator.start();
  return end.stream.getAudioTracks()[0] as MediaStreamTrack;
}

const tracks = { 0: picture(0), 1: tone(440), 2: picture(240) };
const viewers = new Map<string, Viewer>();

/** What the test's server calls. */
export const device = {
  offer(session: string, sdp: string, wanted: Wanted): Promise<string> {
    const viewer = new Viewer(tracks);
    viewers.set(session, viewer);
    return viewer.answer(sdp, wanted);
  },
  async candidate(session: string, fragment: string): Promise<void> {
    const sdpMid = /^a=mid:(\S+)/m.exec(fragment)?.[1] ?? "0";
    for (const [, candidate] of fragment.matchAll(/^a=(candidate:.*?)\r?$/gm)) {
      if (candidate !== undefined) await viewers.get(session)?.pc.addIceCandidate({ candidate, sdpMid });
    }
  },
  end(session: string): void {
    viewers.get(session)?.pc.close();
  },
  heard: (session: string) => viewers.get(session)?.heard ?? [],
};

declare global {
  interface Window {
    device: typeof import("./device.js").device;
  }
}
window.device = device;
