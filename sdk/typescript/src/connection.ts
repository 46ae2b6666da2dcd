import { backoff } from "./backoff.js";
import type { Notice, StreamDescription } from "./control.js";
import { asTurnpikeError, TurnpikeError } from "./error.js";
import {
  type Command,
  decodeCommand,
  decodeMessage,
  encodeCommand,
  encodeMessage,
  isUint,
  type Payload,
  type StreamMessage,
} from "./frame.js";
import { Peer, type Section } from "./peer.js";
import type { Route, Router } from "./route.js";
import { type Stats, statsOf, type Timings } from "./timing.js";
import { deviceOf, type Fetch, type Ticket, Whep } from "./whep.js";

/**
 * Where a connection stands. A lost connection is `connecting` again while the resume ticket is good, and then
 * `connected` or `disconnected`.
 */
export type ConnectionState = "idle" | "connecting" | "connected" | "disconnected";

/** How to make a connection. */
export interface ConnectionOptions {
  /** The server's address, for example `https://media.example.com`. */
  server: string | URL;
  /** ICE servers besides those the server names. */
  iceServers?: RTCIceServer[];
  /** Takes the place of the global `fetch`. */
  fetch?: Fetch;
  /** Comes back by itself after a loss, true unless set. */
  resume?: boolean;
}

const renewEveryMs = 60_000;
const renewRetryMs = 10_000;
const deletePatienceMs = 1_000;

/**
 * A connection to one device.
 *
 * Outputs are attached to it before or after connecting, in any order. It can be used again after it has ended,
 * with a new token.
 */
export class Connection implements Router {
  /** Called after each change of `state`; `error` says why a connection ended by itself. */
  onstatechange: ((state: ConnectionState, error?: TurnpikeError) => void) | null = null;
  /** Called with each command of the device. */
  onCommand: ((command: Command) => void) | null = null;
  /** Called with each stream message of the device. */
  onMessage: ((message: StreamMessage) => void) | null = null;
  /** Called when the device says what streams it has. */
  onStreams: ((streams: StreamDescription[]) => void) | null = null;

  readonly #whep: Whep;
  readonly #iceServers: RTCIceServer[];
  readonly #resumes: boolean;
  readonly #routes = new Set<Route>();
  #state: ConnectionState = "idle";
  #timings: Timings = { startedAt: 0 };
  #streams: StreamDescription[] = [];
  #peer: Peer | undefined;
  #device = "";
  #session: string | undefined;
  #ticket: Ticket | undefined;
  /** Aborted when this use of the connection ends. */
  #life = new AbortController();
  #renewal: ReturnType<typeof setTimeout> | undefined;

  constructor(options: ConnectionOptions) {
    const server = new URL(options.server);
    if (server.protocol !== "https:" && server.protocol !== "http:") {
      throw new TurnpikeError("bad_id", 0, "The server is an http or https address.");
    }
    this.#whep = new Whep(server.href, options.fetch ?? ((input, init) => fetch(input, init)));
    this.#iceServers = options.iceServers ?? [];
    this.#resumes = options.resume ?? true;
  }

  /** Where the connection stands. */
  get state(): ConnectionState {
    return this.#state;
  }

  /** What happened on the way, of the last `connect` or the last return after a loss. */
  get timings(): Readonly<Timings> {
    return this.#timings;
  }

  /** The streams the device has, once it has said so. */
  get streams(): readonly StreamDescription[] {
    return this.#streams;
  }

  /** The address of the session while there is one. Whoever knows it can end the session. */
  get session(): string | undefined {
    return this.#session;
  }

  /**
   * Connects to a device, given by its id or `device://<id>`, with a connect token. Resolves when media can flow.
   * A token is spent once the device has answered; after `device_offline`, `device_refused` or `device_timeout`
   * it can be used again.
   */
  async connect(remoteId: string, token: string): Promise<void> {
    if (this.#state === "connecting" || this.#state === "connected") {
      throw new TurnpikeError("already_connected", 0, "Close the connection before it is used again.");
    }
    this.#device = deviceOf(remoteId);
    if (!/^[\x21-\x7e]{1,2048}$/.test(token)) {
      throw new TurnpikeError("token_refused", 0, "This is no token: it has spaces, is empty or too long.");
    }
    const life = new AbortController();
    this.#life = life;
    this.#session = this.#ticket = undefined;
    this.#enter("connecting");
    try {
      await this.#open(token, life);
    } catch (reason) {
      const error = asTurnpikeError(reason);
      if (this.#life === life && !life.signal.aborted) await this.#finish(error);
      throw error;
    }
    this.#settle(life);
  }

  /** Ends the session and the connection. Doing so twice does no harm. */
  async close(): Promise<void> {
    if (this.#state === "connecting" || this.#state === "connected") await this.#finish(undefined);
  }

  /** Sends a command word from 0x2000 up, with a payload. Delivered in order, once. */
  sendCommand(word: number, payload: Payload = ""): void {
    this.#connected().channels.sendCommand(encodeCommand(word, payload));
  }

  /** Sends data that belongs to a moment (in ms) of a stream. Delivered in order, once. */
  sendMessage(stream: number, timestamp: number, payload: Payload, flags = 0): void {
    this.#connected().channels.sendMessage(encodeMessage(stream, timestamp, payload, flags));
  }

  /** Asks the device to send a stream that an output is attached to. The device may refuse. */
  async subscribe(stream: number): Promise<void> {
    await this.#ask("subscribe", stream);
  }

  /** Asks the device to stop sending a stream. Its outputs stay attached. */
  async unsubscribe(stream: number): Promise<void> {
    await this.#ask("unsubscribe", stream);
  }

  /** Asks for a key frame of a video stream. It comes soon, or the device cannot make one. */
  async requestKeyFrame(stream: number): Promise<void> {
    checkStream(stream);
    this.#connected().channels.keyFrame(stream);
  }

  /** Live numbers of what arrives; undefined when not connected. */
  async stats(): Promise<Stats | undefined> {
    const peer = this.#state === "connected" ? this.#peer : undefined;
    return peer && statsOf(await peer.stats(), performance.now());
  }

  /** @internal */
  addRoute(route: Route): void {
    this.#routes.add(route);
    const peer = this.#state === "connected" ? this.#peer : undefined;
    if (peer !== undefined) this.#bring(peer, route);
  }

  /** @internal */
  removeRoute(route: Route): void {
    if (!this.#routes.delete(route)) return;
    route.give(undefined);
    const section = this.#peer?.find(route.kind, this.#streamOf(route));
    if (this.#state !== "connected" || section?.stream === undefined) return;
    for (const other of this.#routes)
      if (this.#peer?.find(other.kind, this.#streamOf(other)) === section) return;
    // Nobody looks at it any more. Whether the device stops does not matter to anybody here.
    section.paused = true;
    this.#peer?.channels.ask("unsubscribe", section.stream).catch(() => undefined);
  }

  /** @internal */
  noteFirstFrame(at: number): void {
    if (this.#state !== "connected" && this.#state !== "connecting") return;
    this.#timings.firstFrame ??= at - this.#timings.startedAt;
  }

  /** One attempt: a peer with the streams that are wanted now. */
  async #open(credential: string, life: AbortController): Promise<void> {
    this.#timings = { startedAt: performance.now() };
    const peer: Peer = new Peer(
      {
        ontracks: () => this.#deliver(peer),
        onlost: () => void this.#resume(life),
        onnotice: (notice) => this.#onNotice(peer, notice),
        oncommand: (data) => this.#pass(this.onCommand, decodeCommand(data)),
        onmessage: (data) => this.#pass(this.onMessage, decodeMessage(data)),
      },
      this.#iceServers,
    );
    this.#peer = peer;
    try {
      await peer.open({
        whep: this.#whep,
        device: this.#device,
        credential,
        wanted: this.#wanted(),
        timings: this.#timings,
        iceServers: this.#iceServers,
        signal: life.signal,
      });
    } catch (reason) {
      peer.close();
      throw reason;
    } finally {
      // A session may stand although the peer connection failed.
      if (peer.accepted !== undefined && !life.signal.aborted) {
        this.#session = peer.accepted.session;
        this.#ticket = peer.accepted.ticket;
      } else if (peer.accepted !== undefined) this.#forget(peer.accepted.session);
    }
  }

  /** Connected: look after the ticket, and bring what was attached meanwhile. */
  #settle(life: AbortController): void {
    if (life.signal.aborted || this.#peer === undefined) return;
    this.#renewIn(renewEveryMs, life);
    this.#enter("connected");
    const peer = this.#peer;
    this.#deliver(peer);
    for (const route of this.#routes) this.#bring(peer, route);
  }

  /** The streams to ask for in the first offer. */
  #wanted() {
    const wanted: { kind: Route["kind"]; stream: number | undefined }[] = [];
    const routes = [...this.#routes];
    for (const { kind, stream } of routes) {
      // The device's first stream of a kind can only be asked for alone; beside others it is brought later.
      if (stream === undefined && routes.some((r) => r.kind === kind && r.stream !== undefined)) continue;
      if (!wanted.some((w) => w.kind === kind && w.stream === stream)) wanted.push({ kind, stream });
    }
    return wanted;
  }

  /** The stream a route means, as far as that is known. */
  #streamOf(route: Route): number | undefined {
    if (route.stream !== undefined) return route.stream;
    const ids = this.#streams.filter((s) => s.kind === route.kind).map((s) => s.id);
    return ids.length > 0 ? Math.min(...ids) : undefined;
  }

  #sectionOf(peer: Peer, route: Route): Section | undefined {
    const section = peer.find(route.kind, this.#streamOf(route));
    if (section !== undefined || route.stream !== undefined) return section;
    // A device that does not name its streams sends its first one.
    return peer.sections.find(
      (s) => s.kind === route.kind && s.stream === undefined && s.track !== undefined,
    );
  }

  /** Gives every route the track it wants, as far as it is there. */
  #deliver(peer: Peer): void {
    if (peer !== this.#peer) return;
    for (const route of this.#routes) route.give(this.#sectionOf(peer, route)?.track);
  }

  /** Sees to it that a route's stream is sent: it is there, or asked for again, or offered anew. */
  #bring(peer: Peer, route: Route): void {
    const stream = this.#streamOf(route);
    const section = this.#sectionOf(peer, route);
    if (section?.track !== undefined) {
      route.give(section.track);
      if (!section.paused || section.stream === undefined) return;
      section.paused = false;
      peer.channels.ask("subscribe", section.stream).catch((reason) => route.fail(asTurnpikeError(reason)));
      return;
    }
    // Without an id, the device's list of streams decides; #onNotice comes back here.
    if (stream === undefined) return;
    peer.want(route.kind, stream).catch((reason) => {
      if (peer === this.#peer && this.#routes.has(route)) route.fail(asTurnpikeError(reason));
    });
  }

  #onNotice(peer: Peer, notice: Notice): void {
    if (notice.type !== "streams" || peer !== this.#peer) return;
    this.#streams = notice.streams;
    this.onStreams?.(notice.streams);
    if (this.#state !== "connected") return;
    this.#deliver(peer);
    // What is there already stays as it is: the application may have paused it.
    for (const route of this.#routes) {
      if (route.stream === undefined && this.#sectionOf(peer, route)?.track === undefined)
        this.#bring(peer, route);
    }
  }

  async #ask(type: "subscribe" | "unsubscribe", stream: number): Promise<void> {
    checkStream(stream);
    const peer = this.#connected();
    await peer.channels.ask(type, stream);
    for (const section of peer.sections)
      if (section.stream === stream) section.paused = type === "unsubscribe";
  }

  /** Comes back with the ticket, again and again until it ends. */
  async #resume(life: AbortController): Promise<void> {
    if (life.signal.aborted || this.#state !== "connected") return;
    clearTimeout(this.#renewal);
    let error = new TurnpikeError("connection_lost", 0, "The connection was lost.");
    if (this.#resumes && this.#ticket !== undefined) this.#enter("connecting");
    for (let attempt = 0; this.#resumes && this.#ticket !== undefined; attempt++) {
      const wait = Math.max(
        attempt === 0 ? 0 : backoff(attempt - 1, Math.random()),
        (error.retryAfter ?? 0) * 1000,
      );
      if (performance.now() + wait >= this.#ticket.ends) break;
      await sleep(wait, life.signal);
      if (life.signal.aborted) return;
      try {
        await this.#open(this.#ticket.secret, life);
        return this.#settle(life);
      } catch (reason) {
        error = asTurnpikeError(reason);
      }
      if (life.signal.aborted) return;
      if (error.status === 401 || error.status === 403) {
        error = new TurnpikeError(
          "session_ended",
          error.status,
          "The session was ended. Ask for a new token.",
        );
        break;
      }
    }
    await this.#finish(error);
  }

  #renewIn(ms: number, life: AbortController): void {
    clearTimeout(this.#renewal);
    this.#renewal = setTimeout(async () => {
      const session = this.#session;
      if (life.signal.aborted || session === undefined || this.#ticket === undefined) return;
      let next = renewEveryMs;
      try {
        const ticket = await this.#whep.renew(session, this.#ticket, life.signal);
        // A return after a loss may have brought a newer one meanwhile.
        if (ticket !== undefined && session === this.#session) this.#ticket = ticket;
      } catch {
        next = renewRetryMs;
      }
      if (!life.signal.aborted && this.#state === "connected") this.#renewIn(next, life);
    }, ms);
  }

  /** Ends this use of the connection: nothing of it happens afterwards. */
  async #finish(error: TurnpikeError | undefined): Promise<void> {
    this.#life.abort();
    clearTimeout(this.#renewal);
    const peer = this.#peer;
    const session = this.#session;
    this.#peer = undefined;
    this.#session = this.#ticket = undefined;
    this.#streams = [];
    // The server hears of it before the device does: a device that reports the end first leaves the ticket good.
    const told = session === undefined || error?.code === "session_ended" ? undefined : this.#forget(session);
    for (const route of this.#routes) route.give(undefined);
    this.#enter("disconnected", error);
    if (told !== undefined) await Promise.race([told, sleep(deletePatienceMs)]);
    peer?.close();
    await told;
  }

  /** Deletes a session. It ends by itself too, when the server cannot be reached. */
  async #forget(session: string): Promise<void> {
    await this.#whep.delete(session).catch(() => undefined);
  }

  #enter(state: ConnectionState, error?: TurnpikeError): void {
    if (state === this.#state) return;
    this.#state = state;
    this.onstatechange?.(state, error);
  }

  #pass<T>(listener: ((value: T) => void) | null, value: T | undefined): void {
    if (value !== undefined) listener?.(value);
  }

  #connected(): Peer {
    if (this.#state === "connected" && this.#peer !== undefined) return this.#peer;
    throw new TurnpikeError("not_connected", 0, "There is no connection. Wait for the state connected.");
  }
}

function checkStream(stream: number): void {
  if (!isUint(stream, 255)) throw new TurnpikeError("bad_id", 0, "A stream id is a number from 0 to 255.");
}

function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}
