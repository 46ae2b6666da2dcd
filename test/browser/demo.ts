// Starts the built binary with its demo device, and drives Chromium at its page.
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { type Browser, type BrowserContext, chromium, type Page } from "playwright-core";

const run = promisify(execFile);
const startTimeoutMs = 30_000;
const stopTimeoutMs = 15_000;

/** The running demo. */
export class Demo {
  /** The page that `turnpike demo` prints, with the user token in its fragment. */
  page = "";
  /** The user token of the page. */
  user = "";
  readonly #binary = resolve(process.env.TURNPIKE ?? "../../bin/turnpike");
  #directory = "";
  #process: ChildProcess | undefined;
  #said = "";

  async start(): Promise<void> {
    if (!existsSync(this.#binary))
      throw new Error(`cannot find ${this.#binary}; run "make build", or set TURNPIKE`);
    this.#directory = await mkdtemp(join(tmpdir(), "turnpike-browser-"));
    const anyPort = ["--http", "127.0.0.1:0", "--media-udp", "127.0.0.1:0", "--media-tcp", "127.0.0.1:0"];
    this.#process = spawn(this.#binary, ["demo", "--data", this.#directory, ...anyPort], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    const deadline = Date.now() + startTimeoutMs;
    for (const stream of [this.#process.stdout, this.#process.stderr]) {
      stream?.on("data", (text) => {
        this.#said += text;
      });
    }
    for (;;) {
      const [page, user] = /http\S+#user=(\S+)/.exec(this.#said) ?? [];
      if (page !== undefined && user !== undefined) {
        this.page = page;
        this.user = user;
        return;
      }
      if (this.#process.exitCode !== null || Date.now() > deadline) {
        throw new Error(`the demo did not start:\n${this.#said}`);
      }
      await new Promise((next) => setTimeout(next, 50));
    }
  }

  /** The page of another device, with or without a fragment. */
  pageOf(device: string, fragment = ""): string {
    return new URL(`/watch/device/${device}${fragment}`, this.page).href;
  }

  /** Runs a sub-command against the running server. */
  async cli(...args: string[]): Promise<string> {
    const { stdout } = await run(this.#binary, [...args, "--data", this.#directory], { timeout: 20_000 });
    return stdout;
  }

  async stop(): Promise<void> {
    const child = this.#process;
    if (child !== undefined && child.exitCode === null) {
      const gone = new Promise((resolve) => child.once("exit", resolve));
      child.kill("SIGTERM");
      const timer = setTimeout(() => child.kill("SIGKILL"), stopTimeoutMs);
      await gone;
      clearTimeout(timer);
    }
    if (this.#directory !== "") await rm(this.#directory, { recursive: true, force: true });
  }
}

/** Starts Chromium with an empty profile. Sound plays without a click, so that tests can listen. */
export function launch(): Promise<Browser> {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--autoplay-policy=no-user-gesture-required", "--disable-background-networking"],
    timeout: 30_000,
  });
}

/** A page of its own, with what it asked for and complained about. */
export interface Visit {
  page: Page;
  context: BrowserContext;
  requests: { method: string; url: string; status: number }[];
  complaints: string[];
}

/** Opens a page of its own, whose peer connections can be reached as `window.peers`. */
export async function visit(browser: Browser): Promise<Visit> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  const requests: Visit["requests"] = [];
  const complaints: string[] = [];
  page.on("response", (r) =>
    requests.push({ method: r.request().method(), url: r.url(), status: r.status() }),
  );
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("console", (message) => {
    if (/Content Security Policy/.test(message.text())) complaints.push(message.text());
  });
  await page.addInitScript(() => {
    window.peers = [];
    window.RTCPeerConnection = class extends RTCPeerConnection {
      constructor(configuration?: RTCConfiguration) {
        super(configuration);
        window.peers.push(this);
      }
    };
  });
  return { page, context, requests, complaints };
}

/** Waits until the page has shown the first frame. */
export async function plays(page: Page): Promise<void> {
  await page.waitForSelector('[data-step="first-frame"]');
}

/** The text of a step of the timeline. */
export async function step(page: Page, name: string): Promise<string> {
  return (await page.waitForSelector(`[data-step="${name}"]`)).innerText();
}

/** How many frames the page has shown. */
export function frames(page: Page): Promise<number> {
  return page.evaluate(() => {
    return (document.getElementById("video") as HTMLVideoElement).getVideoPlaybackQuality().totalVideoFrames;
  });
}

/** The pixels of the picture, made small, as one string. */
export function picture(page: Page): Promise<string> {
  return page.evaluate(() => {
    const canvas = new OffscreenCanvas(64, 36);
    const context = canvas.getContext("2d") as OffscreenCanvasRenderingContext2D;
    context.drawImage(document.getElementById("video") as HTMLVideoElement, 0, 0, 64, 36);
    return context.getImageData(0, 0, 64, 36).data.join();
  });
}

/**
 * The strongest frequency of what the newest peer connection plays, in Hz, and how loud it is, in dB: at the
 * loudest moment of some seconds, since the demo's tone comes and goes.
 */
export function tone(page: Page): Promise<{ hz: number; db: number }> {
  return page.evaluate(async () => {
    const receivers = window.peers.at(-1)?.getReceivers() ?? [];
    const track = receivers.find((r) => r.track.kind === "audio")?.track;
    if (track === undefined) throw new Error("no sound arrives");
    const context = new AudioContext();
    const analyser = new AnalyserNode(context, { fftSize: 8192 });
    context.createMediaStreamSource(new MediaStream([track])).connect(analyser);
    const bins = new Float32Array(analyser.frequencyBinCount);
    let loudest = { hz: 0, db: Number.NEGATIVE_INFINITY };
    for (let i = 0; i < 40; i++) {
      await new Promise((resolve) => setTimeout(resolve, 100));
      analyser.getFloatFrequencyData(bins);
      const db = Math.max(...bins);
      const hz = (bins.indexOf(db) * context.sampleRate) / analyser.fftSize;
      if (db > loudest.db) loudest = { hz, db };
    }
    return loudest;
  });
}

declare global {
  interface Window {
    peers: RTCPeerConnection[];
  }
}
