// The client against a device that is a page of the same browser.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { Page } from "playwright-core";
import type { Connection, VideoOutput } from "../../src/index.js";
import { Bed } from "./harness.js";

const bed = new Bed();
before(() => bed.open(), { timeout: 60_000 });
after(() => bed.close());

declare global {
  interface Window {
    c: Connection;
    video: VideoOutput;
    states: string[];
    got: unknown[];
  }
}

let tokens = 0;
const fresh = () => `v1.token.${++tokens}`;

/** Runs a test in a page of its own, with `c` a new connection whose states are noted. */
function inPage(name: string, run: (page: Page) => Promise<void>): void {
  test(name, { timeout: 45_000 }, async () => {
    const page = await bed.client();
    try {
      await page.evaluate(() => {
        window.states = [];
        window.got = [];
        window.c = new window.turnpike.Connection({ server: location.origin });
        window.c.onstatechange = (state, error) =>
          window.states.push(error ? `${state} ${error.code}` : state);
        window.video = new window.turnpike.VideoOutput();
      });
      await run(page);
    } finally {
      await page.close();
    }
  });
}

const view = (page: Page) =>
  page.evaluate(() => window.video.attachView(document.querySelector("video") as HTMLVideoElement));
const attach = (page: Page, stream?: number) =>
  page.evaluate((s) => window.video.attach(window.c, s), stream);
const connect = (page: Page, token: string) =>
  page.evaluate((t) => window.c.connect("device://cam", t), token);
const plays = (page: Page) =>
  page.waitForFunction(() => (document.querySelector("video") as HTMLVideoElement).currentTime > 0.2);
const hue = (page: Page) =>
  page.evaluate(() => {
    const context = document.createElement("canvas").getContext("2d") as CanvasRenderingContext2D;
    context.drawImage(document.querySelector("video") as HTMLVideoElement, 0, 0);
    const [red = 0, , blue = 0] = context.getImageData(5, 5, 1, 1).data;
    return red > blue ? "red" : "blue";
  });
const session = async (page: Page) => (await page.evaluate(() => window.c.session))?.split("/").at(-1) ?? "";
const failure = (page: Page, token: string) =>
  page.evaluate(
    (t) =>
      window.c.connect("cam", t).then(
        () => "connected",
        (e) => `${e.status} ${e.code}`,
      ),
    token,
  );

for (const order of [
  ["view", "route", "connect"],
  ["route", "connect", "view"],
  ["connect", "view", "route"],
  ["connect", "route", "view"],
]) {
  inPage(`plays when the acts come as ${order.join(", ")}`, async (page) => {
    for (const act of order) {
      if (act === "view") await view(page);
      if (act === "route") await attach(page, 2);
      if (act === "connect") await connect(page, fresh());
    }
    await plays(page);
    assert.equal(await hue(page), "blue", "stream 2 was asked for");
    const timings = await page.evaluate(() => window.c.timings);
    assert.ok((timings.firstFrame ?? 0) > (timings.answered ?? Number.POSITIVE_INFINITY));
    assert.equal(timings.path?.kind, "direct");
  });
}

inPage("plays the device's first streams when none is named", async (page) => {
  await view(page);
  await attach(page);
  await connect(page, fresh());
  await plays(page);
  assert.equal(await hue(page), "red");
  assert.equal(bed.posts.at(-1)?.url, "/whep/device/cam");
});

inPage("asks for first streams after connecting too", async (page) => {
  await connect(page, fresh());
  await view(page);
  await attach(page);
  await plays(page);
  assert.equal(await hue(page), "red");
});

inPage("plays sound at the frequency it has", async (page) => {
  const hz = page.evaluate(async () => {
    const audio = new window.turnpike.AudioOutput();
    audio.attach(window.c, 1);
    const playing = new Promise<void>((resolve) => {
      audio.onstatechange = (state) => state === "playing" && resolve();
    });
    await playing;
    const context = new AudioContext();
    const analyser = new AnalyserNode(context, { fftSize: 8192 });
    context.createMediaStreamSource(audio.media).connect(analyser);
    await new Promise((resolve) => setTimeout(resolve, 1000));
    const bins = new Float32Array(analyser.frequencyBinCount);
    analyser.getFloatFrequencyData(bins);
    return (bins.indexOf(Math.max(...bins)) * context.sampleRate) / analyser.fftSize;
  });
  await connect(page, fresh());
  assert.ok(Math.abs((await hz) - 440) < 15, `${await hz} Hz`);
});

inPage("trickles its candidates", async (page) => {
  await connect(page, fresh());
  const id = await session(page);
  const { fragments } = bed.sessions.get(id) ?? { fragments: [] };
  assert.match(fragments[0] ?? "", /^a=ice-ufrag:\S+\r\na=ice-pwd:\S+\r\nm=/);
  assert.match(fragments.join(""), /a=candidate:/);
});

inPage("carries commands and messages both ways", async (page) => {
  const got = await page.evaluate(async (token) => {
    const { c } = window;
    const all = new Promise<void>((resolve) => {
      const one = (entry: unknown) => window.got.push(entry) === 2 && resolve();
      const text = (payload: Uint8Array<ArrayBuffer>) => new TextDecoder().decode(payload);
      c.onCommand = ({ word, payload }) => one([word, text(payload)]);
      c.onMessage = ({ stream, timestamp, flags, payload }) => one([stream, timestamp, flags, text(payload)]);
    });
    await c.connect("cam", token);
    c.sendCommand(0x2001, "hang up");
    await new Promise((resolve) => setTimeout(resolve, 50));
    c.sendMessage(12, 4_000_000_000, "now", 3);
    await all;
    return window.got;
  }, fresh());
  assert.deepEqual(got, [
    [0x2001, "hang up"],
    [12, 4_000_000_000, 3, "now"],
  ]);
});

inPage("subscribes, and hears refusals with their word", async (page) => {
  await attach(page, 0);
  await connect(page, fresh());
  const words = await page.evaluate(async () => {
    const word = (act: Promise<void>) =>
      act.then(
        () => "done",
        (e) => e.code,
      );
    const { c } = window;
    return [
      await word(c.unsubscribe(0)),
      await word(c.subscribe(0)),
      await word(c.requestKeyFrame(0)),
      await word(c.subscribe(9)),
      await word(c.subscribe(2)),
      await word(c.subscribe(256)),
    ];
  });
  assert.deepEqual(words, ["done", "done", "done", "no_such_stream", "renegotiate", "bad_id"]);
});

inPage("says so on the output when the device has no such stream", async (page) => {
  await attach(page, 7);
  await page.evaluate(() => {
    window.video.onstatechange = (state, error) => window.got.push(`${state} ${error?.code}`);
  });
  await connect(page, fresh());
  await page.waitForFunction(() => window.got.length > 0);
  assert.deepEqual(await page.evaluate(() => window.got), ["failed no_such_stream"]);
});

inPage("changes streams while connected, without a new session", async (page) => {
  await view(page);
  await attach(page, 0);
  await connect(page, fresh());
  await plays(page);
  const id = await session(page);
  for (const [stream, colour] of [
    [2, "blue"],
    [0, "red"],
    [2, "blue"],
  ] as const) {
    await attach(page, stream);
    await page.waitForFunction(() => window.video.state === "playing");
    await page.waitForTimeout(300);
    assert.equal(await hue(page), colour);
  }
  assert.equal(await session(page), id);
  const heard = await bed.device.evaluate((s) => window.device.heard(s), id);
  assert.equal(heard.filter((h) => h === "offer").length, 1, "the second section is used again");
  assert.ok(heard.includes("unsubscribe 0") && heard.includes("subscribe 0"));
});

inPage("is refused a second use of a token", async (page) => {
  const token = fresh();
  await connect(page, token);
  const error = await page.evaluate(async (t) => {
    const second = new window.turnpike.Connection({ server: location.origin });
    return second.connect("cam", t).catch((e) => [e.name, e.code, e.status, e.detail, second.state]);
  }, token);
  assert.deepEqual(error, ["TurnpikeError", "token_refused", 401, "It is token_refused.", "disconnected"]);
  assert.equal(await page.evaluate(() => window.c.state), "connected");
});

inPage("can be used again after a refusal that leaves the token good", async (page) => {
  const token = fresh();
  bed.online = false;
  assert.equal(await failure(page, token), "404 device_offline");
  bed.online = true;
  assert.equal(await failure(page, token), "connected");
});

inPage("comes back by itself after a loss, and plays on", async (page) => {
  await view(page);
  await attach(page, 0);
  await connect(page, fresh());
  await plays(page);
  const id = await session(page);
  await bed.lose(id);
  await page.waitForFunction(() => window.states.length === 4);
  assert.deepEqual(await page.evaluate(() => window.states), [
    "connecting",
    "connected",
    "connecting",
    "connected",
  ]);
  assert.match(bed.posts.at(-1)?.credential ?? "", /^rt1\./);
  await page.waitForFunction(() => window.video.state === "playing");
  assert.notEqual(await session(page), id);
});

inPage("waits for a device that went away for a moment", async (page) => {
  await connect(page, fresh());
  bed.online = false;
  await bed.lose(await session(page));
  await page.waitForFunction(() => window.c.state === "connecting");
  const before = bed.posts.length;
  while (bed.posts.length < before + 2) await page.waitForTimeout(50);
  bed.online = true;
  await page.waitForFunction(() => window.c.state === "connected");
});

inPage("stays away when its session was ended", async (page) => {
  await connect(page, fresh());
  await bed.kick(await session(page));
  await page.waitForFunction(() => window.c.state === "disconnected");
  assert.equal(await page.evaluate(() => window.states.at(-1)), "disconnected session_ended");
});

inPage("renews its ticket every minute", async (page) => {
  await page.clock.install();
  await connect(page, fresh());
  const before = bed.renewals;
  const id = await session(page);
  const first = bed.sessions.get(id)?.ticket;
  await page.clock.runFor(61_000);
  while (bed.renewals === before) await page.waitForTimeout(20);
  assert.notEqual(bed.sessions.get(id)?.ticket, first);
});

inPage("deletes its session when closed, also while connecting", async (page) => {
  await connect(page, fresh());
  const id = await session(page);
  await page.evaluate(() => window.c.close());
  assert.equal(bed.sessions.get(id)?.deleted, true);
  assert.equal(await page.evaluate(() => window.c.state), "disconnected");
  const code = await page.evaluate(async (token) => {
    const connecting = window.c.connect("cam", token).catch((e) => e.code);
    await window.c.close();
    return connecting;
  }, fresh());
  assert.equal(code, "closed");
  await page.evaluate(() => window.c.close());
});

inPage("refuses to send when it is not connected", async (page) => {
  const code = await page.evaluate(() => {
    try {
      window.c.sendCommand(0x2000);
      return "sent";
    } catch (e) {
      return (e as { code: string }).code;
    }
  });
  assert.equal(code, "not_connected");
});

inPage("says that the server cannot be reached", async (page) => {
  const code = await page.evaluate(() =>
    new window.turnpike.Connection({ server: "http://127.0.0.1:1" })
      .connect("cam", "v1.a.b")
      .catch((e) => e.code),
  );
  assert.equal(code, "unreachable");
});
