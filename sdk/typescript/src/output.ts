import type { MediaKind } from "./control.js";
import { TurnpikeError } from "./error.js";
import { isUint } from "./frame.js";
import type { Route, Router } from "./route.js";

/** Where an output stands: without a track, waiting for its first media, playing it, or refused. */
export type OutputState = "idle" | "waiting" | "playing" | "failed";

/** What video and audio outputs have in common: a route to a stream, and a MediaStream that outlives connections. */
abstract class Output {
  /** Called after each change of `state`; `error` says why the device does not send the stream. */
  onstatechange: ((state: OutputState, error?: TurnpikeError) => void) | null = null;
  /**
   * The media itself, for WebAudio, recording or a canvas. Its track changes when a connection comes back.
   */
  readonly media: MediaStream = new MediaStream();

  readonly #kind: MediaKind;
  #state: OutputState = "idle";
  #route: { connection: Router; route: Route } | undefined;

  constructor(kind: MediaKind) {
    this.#kind = kind;
  }

  /** Where the output stands. */
  get state(): OutputState {
    return this.#state;
  }

  /**
   * Chooses what is played: a stream of a connection, by its id, or the device's first of the kind. It can be
   * done before or after connecting; the output is taken off what it was attached to.
   */
  attach(connection: Router, stream?: number): void {
    if (stream !== undefined && !isUint(stream, 255)) {
      throw new TurnpikeError("bad_id", 0, "A stream id is a number from 0 to 255.");
    }
    this.detach();
    const route: Route = {
      kind: this.#kind,
      stream,
      give: (track) => this.#take(track),
      fail: (error) => this.#enter("failed", error),
    };
    this.#route = { connection, route };
    connection.addRoute(route);
  }

  /** Takes the output off its stream. Doing so twice does no harm. */
  detach(): void {
    const attached = this.#route;
    this.#route = undefined;
    attached?.connection.removeRoute(attached.route);
  }

  /** Media arrived and plays. */
  protected playing(at: number): void {
    if (this.#kind === "video") this.#route?.connection.noteFirstFrame(at);
    this.#enter("playing");
  }

  /** A new track is in `media`. */
  protected abstract started(): void;

  #take(track: MediaStreamTrack | undefined): void {
    const [current] = this.media.getTracks();
    if (track === current) return;
    // The last picture stays on the screen until the next track brings a new one.
    if (current !== undefined) this.media.removeTrack(current);
    if (track === undefined) {
      this.#enter("idle");
      return;
    }
    this.media.addTrack(track);
    this.#enter("waiting");
    this.started();
  }

  #enter(state: OutputState, error?: TurnpikeError): void {
    if (state === this.#state) return;
    this.#state = state;
    this.onstatechange?.(state, error);
  }
}

/**
 * Shows one video stream in a `<video>` element.
 *
 * `attachView` says where, `attach` says what, `Connection.connect` makes it flow: three acts, in any order.
 */
export class VideoOutput extends Output {
  #view: HTMLVideoElement | undefined;
  #frame = 0;

  constructor() {
    super("video");
  }

  /** Shows the stream in this element from now on. The element is muted: sound has its own output. */
  attachView(view: HTMLVideoElement): void {
    this.detachView();
    this.#view = view;
    view.muted = true;
    view.autoplay = true;
    view.playsInline = true;
    if (this.media.getTracks().length > 0) this.started();
  }

  /** Takes the stream out of its element. */
  detachView(): void {
    const view = this.#view;
    this.#view = undefined;
    if (view === undefined) return;
    this.#cancel(view);
    view.srcObject = null;
  }

  protected override started(): void {
    const view = this.#view;
    if (view === undefined) return;
    this.#cancel(view);
    // Not before there is a track: an element that waits for media holds up the page's load event.
    if (view.srcObject !== this.media) view.srcObject = this.media;
    // A muted video may start by itself; a refusal comes from a page that is being left.
    view.play().catch(() => undefined);
    if ("requestVideoFrameCallback" in view) {
      this.#frame = view.requestVideoFrameCallback((now) => this.playing(now));
    } else {
      (view as HTMLVideoElement).addEventListener("loadeddata", () => this.playing(performance.now()), {
        once: true,
      });
    }
  }

  #cancel(view: HTMLVideoElement): void {
    if ("cancelVideoFrameCallback" in view) view.cancelVideoFrameCallback(this.#frame);
  }
}

/** Plays one audio stream. */
export class AudioOutput extends Output {
  /** Called when the browser does not let the page play sound before the user has done something. */
  onblocked: (() => void) | null = null;

  readonly #player = new Audio();

  constructor() {
    super("audio");
    this.#player.addEventListener("playing", () => this.playing(performance.now()));
  }

  /** Silences the output. A muted one starts without the user's doing. */
  get muted(): boolean {
    return this.#player.muted;
  }

  set muted(muted: boolean) {
    this.#player.muted = muted;
    if (!muted && this.state !== "idle") void this.play();
  }

  /** Loudness from 0 to 1. */
  get volume(): number {
    return this.#player.volume;
  }

  set volume(volume: number) {
    this.#player.volume = Math.min(1, Math.max(0, volume));
  }

  /** Starts the sound; to be called from a click after `onblocked`. Resolves to whether it plays. */
  async play(): Promise<boolean> {
    try {
      await this.#player.play();
      return true;
    } catch (reason) {
      if (reason instanceof DOMException && reason.name === "NotAllowedError") this.onblocked?.();
      return false;
    }
  }

  protected override started(): void {
    // Chromium plays no sound that is added to a stream the element had while it was empty.
    this.#player.srcObject = null;
    this.#player.srcObject = this.media;
    void this.play();
  }
}
