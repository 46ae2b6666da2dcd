// The page that plays a device, and tells what happened on the way.
import { AudioOutput, Connection, TurnpikeError, VideoOutput } from "@turnpike-rtc/client";
import { type Credential, credentialIn, credentialOf, describe } from "./credential.js";
import { element } from "./dom.js";
import { Meters } from "./meters.js";
import { Stage } from "./stage.js";
import { Timeline } from "./timeline.js";
import { ms, route, span } from "./words.js";

const remembered = "turnpike.user";
const device = location.pathname.split("/").at(-1) ?? "";

/** The page: one connection, its outputs, and the credential in hand. */
class Watch {
  readonly #connection = new Connection({ server: location.origin });
  readonly #video = new VideoOutput();
  readonly #audio = new AudioOutput();
  readonly #stage = new Stage();
  readonly #timeline = new Timeline();
  #credential: Credential | undefined;
  /** The connect token that was spent last, for the button that proves it. */
  #spent = "";
  /** From the start of an attempt to its end. */
  #starting = false;
  #firstShown = false;

  constructor() {
    this.#audio.muted = true;
    this.#video.attachView(this.#stage.video);
    this.#video.attach(this.#connection);
    this.#audio.attach(this.#connection);
    this.#video.onstatechange = (state, error) => {
      if (state === "playing") this.#showFirstFrame();
      if (error !== undefined) this.#timeline.add("no-picture", "No picture", error.detail, "note");
    };
    this.#audio.onstatechange = () => this.#showSound();
    this.#audio.onblocked = () => {
      this.#audio.muted = true;
      this.#showSound();
    };
    this.#connection.onstatechange = (state, error) => this.#changed(state, error);
    new Meters(this.#connection);
    this.#wire();
  }

  /** Takes the credential that came with the address, or the one of this tab, or asks for one. */
  begin(): void {
    element("device").textContent = device;
    document.title = `${device} · Turnpike`;
    const brought = credentialIn(location.hash);
    // A token must not stay in the address bar, the history or a screenshot.
    if (location.hash !== "") history.replaceState(null, "", location.pathname);
    const kept = credentialOf(sessionStorage.getItem(remembered) ?? "");
    const credential = brought ?? (this.#credential === undefined ? kept : undefined);
    if (credential !== undefined) void this.#start(credential);
    else if (this.#credential === undefined) this.#ask("This page needs a token", "Paste one below.");
  }

  #wire(): void {
    const click = (id: string, act: () => unknown) => element(id).addEventListener("click", () => void act());
    click("unmute", () => this.#setSound(true));
    click("mute", () => this.#setSound(this.#audio.muted));
    click("retry", () => this.#credential && this.#start(this.#credential));
    click("reconnect", () => this.#reconnect());
    click("end", () => this.#end());
    click("again", () => this.#useAgain());
    element<HTMLFormElement>("ask").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#take(element<HTMLInputElement>("token"));
    });
    addEventListener("hashchange", () => this.begin());
    addEventListener("pagehide", () => void this.#connection.close());
    addEventListener("pageshow", (event) => event.persisted && this.begin());
  }

  #take(input: HTMLInputElement): void {
    const credential = credentialOf(input.value);
    input.setCustomValidity(credential ? "" : "This is neither a connect token nor a user token.");
    if (!input.reportValidity() || credential === undefined) {
      input.addEventListener("input", () => input.setCustomValidity(""), { once: true });
      return;
    }
    input.value = "";
    void this.#start(credential);
  }

  #ask(title: string, text: string): void {
    element("ask").hidden = false;
    this.#stage.say("idle", title, text);
    this.#buttons();
  }

  /** One attempt from a credential to media. */
  async #start(credential: Credential): Promise<void> {
    if (this.#starting) return;
    this.#starting = true;
    this.#firstShown = false;
    this.#credential = credential;
    element("ask").hidden = true;
    await this.#connection.close();
    this.#timeline.begin();
    try {
      const token = await this.#connectToken(credential);
      await this.#showToken(token, credential);
      this.#stage.busy(`Connecting to ${device}`);
      this.#buttons();
      await this.#connection.connect(device, token);
      this.#spent = token;
      this.#showWay();
    } catch (reason) {
      this.#fail(reason);
    } finally {
      this.#starting = false;
      this.#buttons();
    }
    this.#showFirstFrame();
  }

  /** Asks for a connect token for the signed-in user (protocol/device.md, section 7). */
  async #connectToken(credential: Credential): Promise<string> {
    if (credential.kind === "connect") return credential.token;
    sessionStorage.setItem(remembered, credential.token);
    this.#stage.busy("Asking for a connect token");
    const query = new URLSearchParams({ peer_id: `device://${device}` });
    const response = await fetch(`/connect-token?${query}`, {
      headers: { Authorization: `Bearer ${credential.token}` },
      cache: "no-store",
      signal: AbortSignal.timeout(10_000),
    }).catch(() => {
      throw new TurnpikeError("unreachable", 0, "The server cannot be reached.");
    });
    const body = (await response.json().catch(() => ({}))) as Record<string, unknown>;
    if (response.ok && typeof body.token === "string") return body.token;
    if (response.status === 401) sessionStorage.removeItem(remembered);
    const code = typeof body.code === "string" ? body.code : `http_${response.status}`;
    throw new TurnpikeError(
      code,
      response.status,
      String(body.detail ?? "The server gave no connect token."),
    );
  }

  async #showToken(token: string, credential: Credential): Promise<void> {
    const at = performance.now();
    const { subject, lives, id } = await describe(token);
    const about = [
      subject === undefined ? "" : `For “${subject}”`,
      lives === undefined ? "" : `lives ${span(lives)}`,
      "good for one connection",
      id === undefined ? "" : `id ${id}`,
    ];
    const title = credential.kind === "user" ? "Token issued" : "Token brought along";
    this.#timeline.add("issued", title, `${about.filter(Boolean).join(", ")}.`, "good", at);
  }

  /** Lists how the connection came about, from its timings. */
  #showWay(): void {
    const { startedAt, requestSent = 0, answered = 0, connected = 0, path } = this.#connection.timings;
    const at = (since: number) => startedAt + since;
    this.#timeline.add("presented", "Token presented", "With an offer, by WHEP.", "good", at(requestSent));
    this.#timeline.add("spent", "Token spent", "Admitted: a session is on the list.", "good", at(answered));
    const took = `The server and the device took ${ms(answered - requestSent)}.`;
    this.#timeline.add("answered", "Device answered", took, "good", at(answered));
    const title = path?.kind === "relay" ? "Connected by relay" : "Connected directly";
    this.#timeline.add("connected", title, path ? route(path) : "", "good", at(connected));
  }

  /** The first frame may come before connect() resolves; it is listed after the rest. */
  #showFirstFrame(): void {
    const { startedAt, firstFrame } = this.#connection.timings;
    if (this.#connection.state !== "connected" || this.#starting || firstFrame === undefined) return;
    this.#stage.show("connected");
    if (this.#firstShown) return;
    this.#firstShown = true;
    this.#timeline.add("first-frame", "First frame shown", "", "good", startedAt + firstFrame);
    this.#timeline.summarise(ms(firstFrame), "from connecting to the first picture");
  }

  /** What happens to a connection that stood. */
  #changed(state: Connection["state"], error: TurnpikeError | undefined): void {
    this.#buttons();
    if (this.#starting) return;
    if (state === "connecting") {
      this.#timeline.add("lost", "Connection lost", "Coming back with the resume ticket.", "note");
      this.#stage.busy("Coming back");
    } else if (state === "connected") {
      const { path } = this.#connection.timings;
      this.#timeline.add("resumed", "Back, without a new token", path ? route(path) : "");
      this.#stage.show("connected");
    } else if (error !== undefined) this.#fail(error);
  }

  #fail(reason: unknown): void {
    const error = reason instanceof TurnpikeError ? reason : new TurnpikeError("failed", 0, String(reason));
    if (error.code === "closed") return;
    const next = this.#stage.fail(error.code, error.status, error.detail);
    const word = error.status > 0 ? `${error.status} ${error.code}` : error.code;
    this.#timeline.add("failed", "Did not work", `${word}: ${error.detail}`, "bad");
    // Only a user token, or a connect token that was not spent, is of further use.
    const useless = this.#credential?.kind === "connect" && error.code === "session_ended";
    element("ask").hidden = next !== "token" && !useless;
  }

  #reconnect(): void {
    if (this.#credential?.kind === "user") void this.#start(this.#credential);
    else void this.#connection.close().then(() => this.#ask("The token is spent", "Paste a new one below."));
  }

  async #end(): Promise<void> {
    await this.#connection.close();
    this.#timeline.add("ended", "Session ended", "By you. Its resume ticket is void.", "note");
    if (this.#credential?.kind === "user")
      this.#stage.say("idle", "Session ended", "Reconnect asks for a new token.");
    else this.#ask("Session ended", "To connect again, paste a new token below.");
    this.#buttons();
  }

  /** Presents the spent token once more, beside the connection that stands. It must be refused. */
  async #useAgain(): Promise<void> {
    element<HTMLButtonElement>("again").disabled = true;
    const second = new Connection({ server: location.origin, resume: false });
    try {
      await second.connect(device, this.#spent);
      await second.close();
      this.#timeline.add(
        "again",
        "Second use was accepted",
        "That must not happen. Please report it.",
        "bad",
      );
    } catch (reason) {
      const { status, code, detail } = reason as TurnpikeError;
      const refused = status === 401;
      const title = refused ? "Second use refused, as it must be" : "Second use did not get through";
      this.#timeline.add("again", title, `${status} ${code}: ${detail}`, refused ? "good" : "note");
    }
    this.#buttons();
  }

  #setSound(on: boolean): void {
    this.#audio.muted = !on;
    this.#showSound();
  }

  #showSound(): void {
    const has = this.#connection.state === "connected" && /waiting|playing/.test(this.#audio.state);
    element("unmute").hidden = !has || !this.#audio.muted;
    const mute = element<HTMLButtonElement>("mute");
    mute.disabled = !has;
    mute.textContent = this.#audio.muted ? "Sound on" : "Sound off";
    // A browser measures no level of sound that is off.
    element("level-name").textContent =
      has && this.#audio.muted ? "Sound level, once sound is on" : "Sound level";
  }

  #buttons(): void {
    const connected = this.#connection.state === "connected";
    const allow = (id: string, allowed: boolean) => {
      element<HTMLButtonElement>(id).disabled = !allowed;
    };
    allow("reconnect", this.#credential !== undefined && !this.#starting);
    allow("end", connected);
    allow("again", this.#spent !== "" && connected);
    this.#showSound();
  }
}

new Watch().begin();
