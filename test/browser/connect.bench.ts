// Measures connections in headless Chromium: server and device are given, a connect token comes with each line of
// standard input, and for each one a line of JSON goes to standard output. The milliseconds count from the call of
// `connect`: "connected" is when media can flow, "frame" when the first frame was presented.
//
//   node connect.bench.mjs http://127.0.0.1:5080 CAMERA
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import type { Connection as Client, VideoOutput as Output } from "@turnpike-rtc/client";
import type { Page } from "playwright-core";
import { launch } from "./demo.js";

const [server, device] = process.argv.slice(2);
if (server === undefined || device === undefined) throw new Error("usage: connect.bench SERVER DEVICE");

declare global {
  interface Window {
    sdk: { Connection: typeof Client; VideoOutput: typeof Output };
  }
}

/** Opens an empty page of the server's origin with the client in it. */
async function open(page: Page): Promise<void> {
  const sdk = await readFile(createRequire(import.meta.url).resolve("@turnpike-rtc/client"), "utf8");
  await page.route("**/bench/", (route) =>
    route.fulfill({
      contentType: "text/html",
      body: `<!doctype html><video></video><script type="module">window.sdk = await import("./sdk.js")</script>`,
    }),
  );
  await page.route("**/bench/sdk.js", (route) =>
    route.fulfill({ contentType: "text/javascript", body: sdk }),
  );
  await page.goto(`${server}/bench/`);
  await page.waitForFunction(() => "sdk" in window);
}

/** Connects once and closes again. */
function connect(page: Page, token: string): Promise<{ connected: number; frame: number }> {
  return page.evaluate(
    async ([id, credential]) => {
      const connection = new window.sdk.Connection({ server: location.origin, resume: false });
      const video = new window.sdk.VideoOutput();
      video.attachView(document.querySelector("video") as HTMLVideoElement);
      video.attach(connection, 0);
      const playing = new Promise<void>((resolve, reject) => {
        setTimeout(() => reject(new Error("no picture comes")), 15_000);
        video.onstatechange = (state) => state === "playing" && resolve();
      });
      await connection.connect(id as string, credential as string);
      await playing;
      const { connected, firstFrame } = connection.timings;
      await connection.close();
      video.detach();
      video.detachView();
      return { connected: connected ?? Number.NaN, frame: firstFrame ?? Number.NaN };
    },
    [device, token],
  );
}

const browser = await launch();
try {
  const page = await browser.newPage();
  page.setDefaultTimeout(20_000);
  await open(page);
  for await (const token of createInterface({ input: process.stdin })) {
    process.stdout.write(`${JSON.stringify(await connect(page, token))}\n`);
  }
} finally {
  await browser.close();
}
