// One attempt at a connection: one RTCPeerConnection with its session on the server.

import { Channels } from "./channels.js";
import type { MediaKind, Notice, Wanted } from "./control.js";
import { asTurnpikeError, TurnpikeError } from "./error.js";
import { fragment, type LocalCandidate, streamOf } from "./sdp.js";
import { pathOf, type Timings } from "./timing.js";
import type { Accepted, Whep } from "./whep.js";

/** A media section of the peer connection, and the stream that is in it. */
export interface Section {
  readonly kind: MediaKind;
  readonly transceiver: RTCRtpTransceiver;
  /** Undefined: whichever the device chose, or none. */
  stream: number | undefined;
  /** Undefined: the device sends nothing here. */
  track: MediaStreamTrack | undefined;
  /** The client asked the device to stop sending. */
  paused: boolean;
}

/** What a peer reports while it lives. */
export interface PeerEvents {
  /** The tracks of the sections changed. */
  ontracks(): void;
  /** The connection is gone; said once. */
  onlost(): void;
  onnotice(notice: Notice): void;
  oncommand(data: ArrayBuffer): void;
  onmessage(data: ArrayBuffer): void;
}

/** What a peer needs to open. */
export interface Opening {
  whep: Whep;
  device: string;
  credential: string;
  /** The streams to ask for at once, in the order of the sections of each kind. */
  wanted: { kind: MediaKind; stream: number | undefined }[];
  timings: Timings;
  iceServers: RTCIceServer[];
  signal: AbortSignal;
}

const connectTimeoutMs = 15_000;
// A short loss of the path heals by itself; after this the ticket is quicker.
const lossPatienceMs = 3_000;

/** One peer connection to a device. */
export class Peer {
  readonly sections: Section[] = [];
  readonly channels: Channels;
  readonly #pc: RTCPeerConnection;
  readonly #events: PeerEvents;
  #accepted: Accepted | undefined;
  #lossTimer: ReturnType<typeof setTimeout> | undefined;
  #watching = false;
  #over = false;
  /** Later offers wait for one another. */
  #negotiation: Promise<void> = Promise.resolve();

  constructor(events: PeerEvents, iceServers: RTCIceServer[]) {
    this.#events = events;
    this.#pc = new RTCPeerConnection({ bundlePolicy: "max-bundle", iceServers });
    this.channels = new Channels(this.#pc, events, () => this.#lose());
    this.#pc.ontrack = (event) => this.#onTrack(event);
  }

  /** What the server answered; undefined before. */
  get accepted(): Accepted | undefined {
    return this.#accepted;
  }

  /** Connects: offer and credential out, answer in, ICE, DTLS, data channels. */
  open(o: Opening): Promise<void> {
    return new Promise((resolve, reject) => {
      // The operations of a closed RTCPeerConnection never settle, so the end of waiting is said here.
      o.signal.addEventListener("abort", () => reject(closed()), { once: true });
      this.#open(o).then(resolve, reject);
    });
  }

  async #open(o: Opening): Promise<void> {
    for (const { kind, stream } of o.wanted) this.#addSection(kind, stream);
    const since = () => performance.now() - o.timings.startedAt;
    const offer = await this.#pc.createOffer();
    const sdp = offer.sdp ?? "";
    o.timings.requestSent = since();
    const accepted = await o.whep.post(o.device, o.credential, sdp, query(o.wanted), o.signal);
    this.#accepted = accepted;
    o.timings.answered = since();
    // The answer brings the ICE servers, so gathering starts only now: setLocalDescription starts it.
    if (accepted.iceServers.length > 0) {
      this.#pc.setConfiguration({
        bundlePolicy: "max-bundle",
        iceServers: [...o.iceServers, ...accepted.iceServers],
      });
    }
    this.#trickle(o.whep, accepted, sdp, o.signal);
    const connected = this.#connected(o.timings, o.signal);
    try {
      await this.#pc.setLocalDescription(offer);
      await this.#pc.setRemoteDescription({ type: "answer", sdp: accepted.answer });
    } catch (reason) {
      connected.catch(() => undefined); // #over ends it
      this.close();
      throw asTurnpikeError(reason, "bad_answer");
    }
    this.#events.ontracks();
    await connected;
    this.#watch();
    const path = pathOf((await this.#pc.getStats()).values() as Iterable<RTCStats>);
    if (path !== undefined) o.timings.path = path;
  }

  /** Adds a stream to a connection that stands, with a later offer. */
  want(kind: MediaKind, stream: number): Promise<void> {
    const turn = this.#negotiation.then(() => this.#renegotiate(kind, stream));
    this.#negotiation = turn.catch(() => undefined);
    return turn;
  }

  /** The section of a stream; without an id the first one of the kind that carries any. */
  find(kind: MediaKind, stream: number | undefined): Section | undefined {
    const ofKind = this.sections.filter((s) => s.kind === kind);
    return stream === undefined ? ofKind.find((s) => s.track) : ofKind.find((s) => s.stream === stream);
  }

  async stats(): Promise<Iterable<RTCStats>> {
    return (await this.#pc.getStats()).values() as Iterable<RTCStats>;
  }

  /** Ends the peer connection and reports nothing more. */
  close(): void {
    this.#over = true;
    clearTimeout(this.#lossTimer);
    this.channels.close();
    this.#pc.onconnectionstatechange = null;
    this.#pc.close();
  }

  #addSection(kind: MediaKind, stream: number | undefined): Section {
    const transceiver = this.#pc.addTransceiver(kind, { direction: "recvonly" });
    const section: Section = { kind, transceiver, stream, track: undefined, paused: false };
    this.sections.push(section);
    return section;
  }

  #onTrack({ transceiver, track, streams }: RTCTrackEvent): void {
    const section = this.sections.find((s) => s.transceiver === transceiver);
    if (section === undefined) return;
    section.track = track;
    section.stream = streamOf(streams[0]?.id ?? "") ?? section.stream;
  }

  /** Sends candidates one request at a time; those found meanwhile go together. */
  #trickle(whep: Whep, { session, etag }: Accepted, offer: string, signal: AbortSignal): void {
    let found: LocalCandidate[] = [];
    let done = false;
    let sending = false;
    const send = async () => {
      if (sending || this.#over) return;
      sending = true;
      try {
        while ((found.length > 0 || done) && !this.#over) {
          const text = fragment(offer, found, done);
          found = [];
          const last = done;
          done = false;
          if (text !== "") await whep.patch(session, etag, text, signal);
          if (last) return;
        }
      } catch {
        // Without trickled candidates the device still sees our checks arrive from their source.
      } finally {
        sending = false;
      }
    };
    this.#pc.onicecandidate = ({ candidate }) => {
      if (candidate === null) done = true;
      else if (candidate.candidate !== "") found.push(candidate);
      queueMicrotask(() => void send());
    };
  }

  /** Waits for ICE, DTLS and the data channels. */
  #connected(timings: Timings, signal: AbortSignal): Promise<void> {
    const since = () => performance.now() - timings.startedAt;
    return new Promise<void>((resolve, reject) => {
      const finish = (error?: TurnpikeError) => {
        clearTimeout(timer);
        signal.removeEventListener("abort", onabort);
        this.#pc.onconnectionstatechange = null;
        if (error === undefined) return resolve();
        this.close();
        reject(error);
      };
      const onabort = () => finish(closed());
      const timer = setTimeout(() => finish(noPath()), connectTimeoutMs);
      signal.addEventListener("abort", onabort);
      this.#pc.oniceconnectionstatechange = () => {
        if (/^(connected|completed)$/.test(this.#pc.iceConnectionState)) timings.iceConnected ??= since();
      };
      this.#pc.onconnectionstatechange = () => {
        const state = this.#pc.connectionState;
        if (state === "failed" || state === "closed") return finish(noPath());
        if (state !== "connected") return;
        timings.connected ??= since();
        timings.iceConnected ??= timings.connected;
        void this.channels.opened(this.#pc).then(() => finish());
      };
    });
  }

  /** From here on, a lost connection is reported. */
  #watch(): void {
    this.#watching = true;
    const look = () => {
      clearTimeout(this.#lossTimer);
      const state = this.#pc.connectionState;
      if (state === "failed" || state === "closed") this.#lose();
      if (state === "disconnected") this.#lossTimer = setTimeout(() => this.#lose(), lossPatienceMs);
    };
    this.#pc.onconnectionstatechange = look;
    look();
    if (this.channels.lost) this.#lose();
  }

  #lose(): void {
    // Before that, open() still waits, and fails by itself.
    if (this.#over || !this.#watching) return;
    this.close();
    this.#events.onlost();
  }

  async #renegotiate(kind: MediaKind, stream: number): Promise<void> {
    if (this.find(kind, stream)?.track !== undefined) return;
    // A section the device left empty takes the next stream of its kind.
    const empty = this.sections.find((s) => s.kind === kind && s.track === undefined);
    const section = this.find(kind, stream) ?? empty ?? this.#addSection(kind, undefined);
    section.stream = stream;
    await this.#pc.setLocalDescription();
    try {
      const sdp = await this.channels.offer(this.#pc.localDescription?.sdp ?? "", wantedOf(this.sections));
      await this.#pc.setRemoteDescription({ type: "answer", sdp });
    } catch (reason) {
      section.stream = undefined;
      if (this.#pc.signalingState === "have-local-offer")
        await this.#pc.setLocalDescription({ type: "rollback" });
      throw asTurnpikeError(reason, "bad_answer");
    }
    this.#events.ontracks();
    if (section.track === undefined) {
      section.stream = undefined;
      throw new TurnpikeError("no_such_stream", 0, `The device has no ${kind} stream ${stream}.`);
    }
  }
}

function query(wanted: Opening["wanted"]): string {
  const parts = wanted.flatMap(({ kind, stream }) => (stream === undefined ? [] : [`${kind}=${stream}`]));
  return parts.length === 0 ? "" : `?${parts.join("&")}`;
}

/** The ids of the sections of each kind; a kind with an empty section goes without, and the device chooses. */
function wantedOf(sections: Section[]): Wanted {
  const wanted: Wanted = {};
  for (const kind of ["video", "audio"] as const) {
    const ids = sections.filter((s) => s.kind === kind).map((s) => s.stream);
    if (ids.length > 0 && ids.every((id) => id !== undefined)) wanted[kind] = ids;
  }
  return wanted;
}

function closed(): TurnpikeError {
  return new TurnpikeError("closed", 0, "The connection was closed.");
}

function noPath(): TurnpikeError {
  return new TurnpikeError(
    "connection_failed",
    0,
    "No path to the device was found. A TURN server may be needed.",
  );
}
