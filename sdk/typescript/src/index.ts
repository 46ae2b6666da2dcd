/**
 * The browser client of Turnpike: connect to a device with a connect token, play its video and sound, exchange
 * commands and messages.
 *
 * @packageDocumentation
 */
export { Connection, type ConnectionOptions, type ConnectionState } from "./connection.js";
export type { MediaKind, StreamDescription } from "./control.js";
export { TurnpikeError } from "./error.js";
export type { Command, Payload, StreamMessage } from "./frame.js";
export { AudioOutput, type OutputState, VideoOutput } from "./output.js";
export type { Router } from "./route.js";
export type { AudioStats, Path, Stats, Timings, VideoStats } from "./timing.js";
export type { Fetch } from "./whep.js";
