// The page of `turnpike demo`, in Chromium: the whole way from a user token to a moving picture with sound.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { Browser } from "playwright-core";
import { Demo, frames, launch, picture, plays, step, tone, type Visit, visit } from "./demo.js";

const demo = new Demo();
let browser: Browser;

before(
  async () => {
    await demo.start();
    browser = await launch();
  },
  { timeout: 60_000 },
);

after(async () => {
  await browser?.close();
  await demo.stop();
});

/** Runs a test in a fresh profile; no page may complain of an error or of a broken policy. */
function inBrowser(name: string, act: (v: Visit) => Promise<void>): void {
  test(name, { timeout: 60_000 }, async () => {
    const v = await visit(browser);
    try {
      await act(v);
      assert.deepEqual(v.complaints, []);
    } finally {
      await v.context.close();
    }
  });
}

const until = async (what: string, holds: () => Promise<boolean>, timeoutMs = 10_000) => {
  const deadline = Date.now() + timeoutMs;
  while (!(await holds())) {
    assert.ok(Date.now() < deadline, `in vain waited for: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
};

inBrowser("plays the device's moving picture", async ({ page }) => {
  await page.goto(demo.page);
  await plays(page);
  const [first, start] = [await picture(page), await frames(page)];
  await until("25 more frames", async () => (await frames(page)) >= start + 25);
  assert.notEqual(await picture(page), first);
  await until("numbers", async () => Number(await page.innerText("#fps")) > 15);
  assert.equal(await page.innerText("#size"), "640 × 360");
  assert.ok(Number(await page.innerText("#rate")) > 50);
});

inBrowser("plays the device's tone once sound is turned on", async ({ page }) => {
  await page.goto(demo.page);
  await plays(page);
  await page.click("#unmute");
  const { hz, db } = await tone(page);
  assert.ok(Math.abs(hz - 440) < 20, `the peak is at ${hz} Hz`);
  assert.ok(db > -60, `and has ${db} dB`);
  await until("a level", () =>
    page.evaluate(() => (document.getElementById("level") as HTMLMeterElement).value > 0.1),
  );
  assert.equal(await page.isVisible("#unmute"), false);
  await page.click("#mute");
  assert.equal(await page.isVisible("#unmute"), true);
});

inBrowser("tells what happened, and shows no token", async ({ page, requests }) => {
  await page.goto(demo.page);
  await plays(page);
  assert.equal(new URL(page.url()).hash, "", "the user token left the address bar");
  assert.match(
    await step(page, "issued"),
    /For “demo”, lives 5 minutes, good for one connection, id [\w-]{22}\./,
  );
  assert.match(await step(page, "connected"), /Connected directly/);
  assert.match(await step(page, "connected"), /UDP, .*\(host\)\./);
  const order = await page.$$eval("#steps li", (all) => all.map((li) => li.getAttribute("data-step")));
  assert.deepEqual(order, ["issued", "presented", "spent", "answered", "connected", "first-frame"]);
  assert.match(await page.innerText("#summary"), /\d+ ms/);
  const shown = await page.content();
  assert.ok(!shown.includes(demo.user) && !shown.includes("v1.ey") && !shown.includes("rt1."));
  const origin = new URL(demo.page).origin;
  assert.deepEqual(
    requests.filter((r) => !r.url.startsWith(origin)),
    [],
    "nothing is asked of anybody else",
  );
});

inBrowser("is refused a second use of the token, and plays on", async ({ page }) => {
  await page.goto(demo.page);
  await plays(page);
  await page.click("#again");
  assert.match(await step(page, "again"), /Second use refused.*401 token_refused/s);
  const start = await frames(page);
  await until("more frames", async () => (await frames(page)) > start + 10);
});

inBrowser("plays again after a reload, with a new token", async ({ page }) => {
  await page.goto(demo.page);
  await plays(page);
  const first = await step(page, "issued");
  await page.reload();
  await plays(page);
  assert.notEqual(await step(page, "issued"), first);
});

inBrowser("comes back after a loss with its resume ticket", async ({ page, requests }) => {
  await page.goto(demo.page);
  await plays(page);
  await page.evaluate(() => {
    window.peers[0]?.close(); // as when the network goes
    window.peers[0]?.dispatchEvent(new Event("connectionstatechange"));
  });
  assert.match(await step(page, "resumed"), /Back, without a new token/);
  const start = await frames(page);
  await until("more frames", async () => (await frames(page)) > start + 10);
  assert.equal(requests.filter((r) => r.url.includes("/connect-token")).length, 1);
});

inBrowser("renews its resume ticket every minute", async ({ page, requests }) => {
  await page.clock.install();
  await page.goto(demo.page);
  await plays(page);
  const posts = () => requests.filter((r) => r.method === "POST").map((r) => r.status);
  assert.deepEqual(posts(), [201]);
  await page.clock.runFor(61_000);
  await until("a renewal", async () => posts().length > 1);
  assert.deepEqual(posts(), [201, 200]);
});

inBrowser("ends its session, and connects anew", async ({ page, requests }) => {
  await page.goto(demo.page);
  await plays(page);
  const deleted = page.waitForResponse((r) => r.request().method() === "DELETE");
  await page.click("#end");
  const response = await deleted;
  assert.equal(response.status(), 200);
  assert.equal(await page.innerText("#state"), "Not connected");
  const again = await page.evaluate(
    async (url) => (await fetch(url, { method: "DELETE" })).status,
    response.url(),
  );
  assert.ok(again === 404 || again === 200, `a second DELETE is answered ${again}`);
  const { sessions } = JSON.parse(await demo.cli("session", "list", "--json"));
  const ended = response.url().split("/").at(-1) ?? "";
  assert.ok(!JSON.stringify(sessions ?? []).includes(ended), "the session is off the list");
  await page.click("#reconnect");
  await plays(page);
  assert.ok(requests.filter((r) => r.url.includes("/connect-token")).length === 2);
});

inBrowser("says so when an operator ends the session", async ({ page }) => {
  await page.goto(demo.page);
  await plays(page);
  const listed = JSON.parse(await demo.cli("session", "list", "--json"));
  const sessions: { session?: string; id?: string }[] = Array.isArray(listed) ? listed : listed.sessions;
  assert.ok(sessions.length > 0);
  for (const s of sessions) await demo.cli("session", "end", s.session ?? s.id ?? "");
  await page.waitForSelector("#notice:not([hidden])");
  assert.match(await page.innerText("#notice"), /The session was ended/);
  await page.click("#retry");
  await plays(page);
});

inBrowser("says that a device is offline, and that nothing was spent", async ({ page }) => {
  await demo.cli("device", "add", "--app", "demo", "unplugged");
  await demo.cli("grant", "add", "--app", "demo", "--sub", "demo", "--device", "unplugged");
  await page.goto(demo.pageOf("unplugged", `#user=${demo.user}`));
  await page.waitForSelector("#notice:not([hidden])");
  assert.match(
    await page.innerText("#notice"),
    /The device is offline.*Nothing was spent.*404 device_offline/s,
  );
  assert.equal(await page.isVisible("#retry"), true);
});

inBrowser("says that a user may not connect, the same for a device that does not exist", async ({ page }) => {
  await page.goto(demo.pageOf("no-such-device", `#user=${demo.user}`));
  await page.waitForSelector("#notice:not([hidden])");
  assert.match(await page.innerText("#notice"), /You may not connect to this device.*403 forbidden/s);
});

inBrowser("asks for a token when it has none, and refuses a forged one", async ({ page }) => {
  await page.goto(demo.pageOf("demo-camera"));
  await page.fill("#token", "hello");
  await page.click("#ask button");
  assert.equal(await page.$eval("#token", (input) => (input as HTMLInputElement).validity.customError), true);
  await page.fill("#token", `v1.eyJzdWIiOiJldmUifQ.${"A".repeat(43)}`);
  await page.click("#ask button");
  await page.waitForSelector("#notice:not([hidden]) >> text=401 token_refused");
  assert.match(await page.innerText("#notice"), /The token was not accepted/);
  await page.fill("#token", demo.user);
  await page.click("#ask button");
  await plays(page);
});

inBrowser("forgets a user token that is no longer good", async ({ page }) => {
  const [head, body] = demo.user.split(".");
  await page.goto(demo.pageOf("demo-camera", `#user=${head}.${body}.${"A".repeat(43)}`));
  await page.waitForSelector("#notice:not([hidden])");
  assert.match(await page.innerText("#notice"), /401 token_refused/);
  assert.equal(await page.isVisible("#ask"), true);
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
});

inBrowser("leads from the front page to a device", async ({ page }) => {
  await page.goto(new URL("/", demo.page).href);
  await until("what runs here", async () => (await page.innerText("#about")).includes("ready"));
  assert.match(await page.innerText("#about"), /Node/);
  await page.fill("#device", "device://demo-camera");
  await page.click("#watch button");
  await page.waitForURL("**/watch/device/demo-camera");
  await page.waitForSelector("#ask:not([hidden])");
});
