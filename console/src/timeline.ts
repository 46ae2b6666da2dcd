// The list "What happened".
import { element, make } from "./dom.js";
import { ms } from "./words.js";

/** How a step went: well, badly, or merely worth a note. */
export type Kind = "good" | "bad" | "note";

/** The steps on the way to the first picture, and what came after. */
export class Timeline {
  readonly #list = element("steps");
  readonly #empty = element("steps-empty");
  readonly #summary = element("summary");
  #zero = performance.now();

  /** Begins anew; times count from now. */
  begin(): void {
    this.#zero = performance.now();
    this.#list.replaceChildren();
    this.#summary.hidden = true;
    this.#empty.hidden = true;
  }

  /** Adds a step, at a time of performance.now(). */
  add(id: string, title: string, detail: string, kind: Kind = "good", at = performance.now()): void {
    const step = document.createElement("li");
    step.dataset.step = id;
    step.dataset.kind = kind;
    step.append(make("span", "title", title), make("time", "", ms(Math.max(0, at - this.#zero))));
    if (detail !== "") step.append(make("p", "detail", detail));
    this.#list.append(step);
  }

  /** Shows the number that counts. */
  summarise(number: string, meaning: string): void {
    this.#summary.replaceChildren(make("b", "", number), meaning);
    this.#summary.hidden = false;
  }
}
