// The three data channels of a connection, and the requests on the control channel
// (protocol/device.md, sections 4 and 5).
import { type Notice, parseNotice, type Request, type Wanted } from "./control.js";
import { TurnpikeError } from "./error.js";

/** What arrives. */
export interface ChannelEvents {
  onnotice(notice: Notice): void;
  oncommand(data: ArrayBuffer): void;
  onmessage(data: ArrayBuffer): void;
}

type Reply = Extract<Notice, { type: "done" | "refused" | "answer" }>;

// More than this waiting in a channel means that the path is too slow: sending fails.
const maxBuffered = 1 << 20;
const maxRequests = 64;
const requestTimeoutMs = 10_000;

/** The data channels `turnpike.control`, `turnpike.command` and `turnpike.message`. */
export class Channels {
  /** The device closed a channel. */
  lost = false;
  readonly #control: RTCDataChannel;
  readonly #command: RTCDataChannel;
  readonly #message: RTCDataChannel;
  readonly #events: ChannelEvents;
  readonly #waiting = new Map<number, (reply: Reply | TurnpikeError) => void>();
  #nextId = 1;

  constructor(pc: RTCPeerConnection, events: ChannelEvents, onlost: () => void) {
    this.#events = events;
    this.#control = pc.createDataChannel("turnpike.control");
    this.#command = pc.createDataChannel("turnpike.command");
    this.#message = pc.createDataChannel("turnpike.message");
    for (const channel of this.#all()) {
      channel.binaryType = "arraybuffer";
      channel.onclose = () => {
        this.lost = true;
        onlost();
      };
    }
    this.#control.onmessage = ({ data }) => this.#onControl(data);
    this.#command.onmessage = ({ data }) => this.#onBinary(data, (d) => events.oncommand(d));
    this.#message.onmessage = ({ data }) => this.#onBinary(data, (d) => events.onmessage(d));
  }

  /** Resolves when all are open, or at once when the other side has no data channels. */
  async opened(pc: RTCPeerConnection): Promise<void> {
    if (pc.sctp === null) return;
    await Promise.all(
      this.#all()
        .filter((channel) => channel.readyState !== "open")
        .map((channel) => new Promise((open) => channel.addEventListener("open", open, { once: true }))),
    );
  }

  sendCommand(data: Uint8Array<ArrayBuffer>): void {
    this.#send(this.#command, data);
  }

  sendMessage(data: Uint8Array<ArrayBuffer>): void {
    this.#send(this.#message, data);
  }

  /** Asks for a key frame; the device answers with the frame alone. */
  keyFrame(stream: number): void {
    this.#send(this.#control, JSON.stringify({ type: "key_frame", stream } satisfies Request));
  }

  /** Asks the device to send or stop a stream; a refusal is thrown with the device's word as its code. */
  async ask(type: "subscribe" | "unsubscribe", stream: number): Promise<void> {
    await this.#request((id) => ({ type, id, stream }));
  }

  /** Sends a later offer and returns the SDP answer. */
  async offer(sdp: string, streams: Wanted): Promise<string> {
    const reply = await this.#request((id) => ({ type: "offer", id, sdp, streams }));
    if (reply.type !== "answer")
      throw new TurnpikeError("bad_answer", 0, "The device did not answer the offer.");
    return reply.sdp;
  }

  close(): void {
    for (const channel of this.#all()) channel.onclose = channel.onmessage = null;
    for (const settle of [...this.#waiting.values()]) settle(notConnected());
  }

  #request(message: (id: number) => Request): Promise<Reply> {
    return new Promise((resolve, reject) => {
      if (this.#waiting.size >= maxRequests) throw queueFull();
      const id = this.#nextId++;
      const settle = (reply: Reply | TurnpikeError) => {
        clearTimeout(timer);
        this.#waiting.delete(id);
        if (reply instanceof TurnpikeError) reject(reply);
        else if (reply.type === "refused") reject(new TurnpikeError(reply.code, 0, refusal(reply)));
        else resolve(reply);
      };
      const timer = setTimeout(() => {
        settle(new TurnpikeError("timeout", 0, "The device did not answer in time."));
      }, requestTimeoutMs);
      this.#waiting.set(id, settle);
      try {
        this.#send(this.#control, JSON.stringify(message(id)));
      } catch (reason) {
        settle(reason as TurnpikeError);
      }
    });
  }

  #onControl(data: unknown): void {
    const notice = parseNotice(data);
    if (notice === undefined) return;
    if (notice.type === "streams") this.#events.onnotice(notice);
    else this.#waiting.get(notice.id)?.(notice);
  }

  #onBinary(data: unknown, deliver: (data: ArrayBuffer) => void): void {
    if (data instanceof ArrayBuffer) deliver(data);
  }

  #send(channel: RTCDataChannel, data: string | Uint8Array<ArrayBuffer>): void {
    if (channel.readyState !== "open") throw notConnected();
    if (channel.bufferedAmount > maxBuffered) throw queueFull();
    if (typeof data === "string") channel.send(data);
    else channel.send(data);
  }

  #all(): RTCDataChannel[] {
    return [this.#control, this.#command, this.#message];
  }
}

function refusal({ code, message }: { code: string; message: string }): string {
  if (message !== "") return message;
  const known: Record<string, string> = {
    no_such_stream: "The device has no such stream.",
    refused: "The device's application refused.",
    renegotiate: "No output is attached to this stream. Attach one.",
  };
  return known[code] ?? "The device refused.";
}

function notConnected(): TurnpikeError {
  return new TurnpikeError("not_connected", 0, "There is no connection. Wait for the state connected.");
}

function queueFull(): TurnpikeError {
  return new TurnpikeError("queue_full", 0, "The connection does not keep up. Send less, or later.");
}
