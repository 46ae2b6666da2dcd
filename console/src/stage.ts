// What covers the picture: progress, an error with what to do, the un-mute button. And the state in the header.
import { adviceFor } from "./advice.js";
import { element } from "./dom.js";

/** The states that people see. */
export type Shown = "idle" | "connecting" | "connected" | "failed";

const names: Record<Shown, string> = {
  idle: "Not connected",
  connecting: "Connecting",
  connected: "Live",
  failed: "Not connected",
};

/** The part of the page around the picture. */
export class Stage {
  readonly video = element<HTMLVideoElement>("video");
  readonly #state = element("state");
  readonly #notice = element("notice");
  readonly #busy = element("busy");
  readonly #retry = element("retry");

  /** Shows a state in the header, and takes away what covered the picture. */
  show(state: Shown): void {
    this.#state.dataset.state = state;
    this.#state.textContent = names[state];
    this.#notice.hidden = true;
    this.#busy.hidden = true;
  }

  /** Covers the picture while something goes on. */
  busy(text: string): void {
    this.show("connecting");
    element("busy-text").textContent = text;
    this.#busy.hidden = false;
  }

  /** Says what went wrong and what to do. Returns whether a new token is needed. */
  fail(code: string, status: number, detail: string): "retry" | "token" | "nothing" {
    const advice = adviceFor(code, detail);
    this.say("failed", advice.title, advice.text, status > 0 ? `${status} ${code}` : code);
    this.#retry.hidden = advice.next !== "retry";
    return advice.next;
  }

  /** Covers the picture with a message. */
  say(state: Shown, title: string, text: string, code = ""): void {
    this.show(state);
    element("notice-title").textContent = title;
    element("notice-text").textContent = text;
    element("notice-code").textContent = code;
    this.#retry.hidden = true;
    this.#notice.hidden = false;
  }
}
