// The browser client against the real server and the real device: what the page itself does not do.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { build } from "esbuild";
import type { Browser, Page } from "playwright-core";
import { Demo, launch, visit } from "./demo.js";

declare global {
  interface Window {
    turnpike: typeof import("../../sdk/typescript/src/index.js");
    /** A connect token for the demo's device. */
    token(): Promise<string>;
  }
}

const demo = new Demo();
let browser: Browser;
let page: Page;

before(
  async () => {
    await demo.start();
    browser = await launch();
    const bundle = { bundle: true, format: "iife", globalName: "turnpike", write: false } as const;
    const { outputFiles } = await build({ entryPoints: ["../../sdk/typescript/src/index.ts"], ...bundle });
    ({ page } = await visit(browser));
    await page.addInitScript({ content: `${outputFiles[0]?.text}; window.turnpike = turnpike;` });
    await page.goto(new URL("/", demo.page).href);
    await page.evaluate((user) => {
      window.token = async () => {
        const headers = { Authorization: `Bearer ${user}` };
        return (await (await fetch("/connect-token?remote_id=demo-camera", { headers })).json()).token;
      };
    }, demo.user);
  },
  { timeout: 60_000 },
);

after(async () => {
  await browser?.close();
  await demo.stop();
});

test("attaches outputs after connecting", { timeout: 30_000 }, async () => {
  const shown = await page.evaluate(async () => {
    const c = new window.turnpike.Connection({ server: location.origin });
    await c.connect("device://demo-camera", await window.token());
    const playing = (
      output: InstanceType<typeof window.turnpike.VideoOutput | typeof window.turnpike.AudioOutput>,
    ) =>
      new Promise<string>((resolve) => {
        output.onstatechange = (state, error) =>
          /playing|failed/.test(state) && resolve(error?.code ?? state);
      });
    const [video, audio, none] = [
      new window.turnpike.VideoOutput(),
      new window.turnpike.AudioOutput(),
      new window.turnpike.VideoOutput(),
    ];
    const states = [video, audio, none].map((o) => playing(o));
    video.attachView(document.body.appendChild(document.createElement("video")));
    video.attach(c);
    audio.attach(c);
    none.attach(c, 200);
    const all = await Promise.all(states);
    const streams = c.streams.map((s) => `${s.kind} ${s.codec}`).sort();
    await c.close();
    return [...all, ...streams];
  });
  assert.deepEqual(shown, ["playing", "playing", "no_such_stream", "audio PCMA", "video H264"]);
});

test("subscribes, unsubscribes and hears refusals", { timeout: 30_000 }, async () => {
  const words = await page.evaluate(async () => {
    const c = new window.turnpike.Connection({ server: location.origin });
    const video = new window.turnpike.VideoOutput();
    const view = document.body.appendChild(document.createElement("video"));
    video.attachView(view);
    video.attach(c);
    await c.connect("demo-camera", await window.token());
    while (c.streams.length === 0) await new Promise((resolve) => setTimeout(resolve, 20));
    const id = c.streams.find((s) => s.kind === "video")?.id ?? -1;
    const word = (act: Promise<void>) =>
      act.then(
        () => "done",
        (e) => e.code,
      );
    const frames = () => view.getVideoPlaybackQuality().totalVideoFrames;
    const flows = async () => {
      await new Promise((resolve) => setTimeout(resolve, 500));
      const before = frames();
      await new Promise((resolve) => setTimeout(resolve, 1000));
      return frames() > before + 5 ? "flows" : "rests";
    };
    const said = [await flows(), await word(c.unsubscribe(id)), await flows()];
    said.push(await word(c.subscribe(id)), await flows(), await word(c.requestKeyFrame(id)));
    said.push(await word(c.subscribe(200)));
    await c.close();
    return said;
  });
  assert.deepEqual(words, ["flows", "done", "rests", "done", "flows", "done", "no_such_stream"]);
});

test("admits one of many presentations of a token at once", { timeout: 30_000 }, async () => {
  const answers = await page.evaluate(async () => {
    const token = await window.token();
    const one = async () => {
      const c = new window.turnpike.Connection({ server: location.origin, resume: false });
      try {
        await c.connect("demo-camera", token);
        await c.close();
        return "connected";
      } catch (e) {
        return (e as { code: string }).code;
      }
    };
    return Promise.all(Array.from({ length: 8 }, one));
  });
  assert.equal(answers.filter((a) => a === "connected").length, 1, answers.join());
  assert.equal(answers.filter((a) => a === "token_refused").length, 7, answers.join());
});
