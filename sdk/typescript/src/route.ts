import type { MediaKind } from "./control.js";
import type { TurnpikeError } from "./error.js";

/** An output's wish for a stream, as a connection keeps it. */
export interface Route {
  readonly kind: MediaKind;
  /** The wanted stream; undefined is the device's first of the kind. */
  readonly stream: number | undefined;
  /** Hands over the track that carries the stream, or takes it away. */
  give(track: MediaStreamTrack | undefined): void;
  /** Says that the device will not send the stream. */
  fail(error: TurnpikeError): void;
}

/** What an output needs of a connection. */
export interface Router {
  /** @internal */
  addRoute(route: Route): void;
  /** @internal */
  removeRoute(route: Route): void;
  /** @internal */
  noteFirstFrame(at: number): void;
}
