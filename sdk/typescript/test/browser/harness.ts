// A WHEP server in node, whose one device is a browser page, and the browser that both pages run in.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { build } from "esbuild";
import { type Browser, chromium, type Page } from "playwright-core";

const flags = [
  "--no-sandbox",
  "--autoplay-policy=no-user-gesture-required",
  "--disable-background-networking",
  // Both peers are pages of one browser, and there is nobody to resolve their mDNS names.
  "--disable-features=WebRtcHideLocalIpsWithMdns",
];

const page = (script: string) =>
  `<!doctype html><video id="v"></video><script type="module">${script}</script>`;

/** One session, as the server sees it. */
interface Session {
  credential: string;
  ticket: string;
  deleted: boolean;
  fragments: string[];
}

/** The test bed. `open` it before the tests, `close` it after them. */
export class Bed {
  browser!: Browser;
  device!: Page;
  readonly sessions = new Map<string, Session>();
  readonly posts: { url: string; status: number; credential: string }[] = [];
  /** Device gone: 404. */
  online = true;
  renewals = 0;
  #server!: Server;
  #files = new Map<string, string>();
  readonly #spent = new Set<string>();
  readonly #tickets = new Map<string, string>();

  async open(): Promise<void> {
    for (const [name, entry] of [
      ["client.js", "src/index.ts"],
      ["device.js", "test/browser/device.ts"],
    ] as const) {
      const { outputFiles } = await build({
        entryPoints: [entry],
        bundle: true,
        format: "esm",
        write: false,
      });
      this.#files.set(`/${name}`, outputFiles[0]?.text ?? "");
    }
    this.#server = createServer((request, response) => {
      this.#serve(request, response).catch((reason) => response.writeHead(500).end(String(reason)));
    });
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    this.browser = await chromium.launch({
      executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
      args: flags,
      timeout: 30_000,
    });
    this.device = await this.#page("/device", "device");
  }

  async close(): Promise<void> {
    await this.browser?.close();
    this.#server?.closeAllConnections();
    this.#server?.close();
  }

  get address(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** A page with the client as `turnpike`. */
  client(): Promise<Page> {
    return this.#page("/", "turnpike");
  }

  async #page(path: string, global: string): Promise<Page> {
    const opened = await this.browser.newPage();
    opened.setDefaultTimeout(20_000);
    opened.on("pageerror", (error) => console.error(path, error));
    await opened.goto(this.address + path);
    await opened.waitForFunction((name) => name in window, global);
    return opened;
  }

  /** Ends a session as an operator would: its ticket is void. */
  async kick(id: string): Promise<void> {
    this.#tickets.delete(this.sessions.get(id)?.ticket ?? "");
    await this.lose(id);
  }

  /** Breaks a session's media; its ticket stays good. */
  async lose(id: string): Promise<void> {
    await this.device.evaluate((session) => window.device.end(session), id);
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? "/", this.address);
    const file = this.#files.get(url.pathname);
    if (file !== undefined) return void response.setHeader("Content-Type", "text/javascript").end(file);
    if (url.pathname === "/" || url.pathname === "/device") {
      const script =
        url.pathname === "/"
          ? `import * as turnpike from "/client.js"; window.turnpike = turnpike;`
          : `import "/device.js";`;
      return void response.setHeader("Content-Type", "text/html").end(page(script));
    }
    let body = "";
    for await (const chunk of request) body += chunk;
    const credential = (request.headers.authorization ?? "").replace(/^Bearer /, "");
    const [, id] = /^\/session\/(\w+)$/.exec(url.pathname) ?? [];
    if (id !== undefined) return this.#session(id, credential, body, request.method ?? "", response);
    if (request.method === "POST" && url.pathname === "/whep/device/cam") {
      const status = await this.#connect(url, credential, body, response);
      this.posts.push({ url: url.pathname + url.search, status, credential });
      return;
    }
    response.writeHead(404).end();
  }

  async #connect(url: URL, credential: string, offer: string, response: ServerResponse): Promise<number> {
    const refuse = (status: number, code: string) => {
      response.writeHead(status, { "Content-Type": "application/problem+json" });
      response.end(
        JSON.stringify({ type: "about:blank", title: "No", status, code, detail: `It is ${code}.` }),
      );
      return status;
    };
    const resumed = this.#tickets.has(credential);
    if (!resumed && (!credential.startsWith("v1.") || this.#spent.has(credential)))
      return refuse(401, "token_refused");
    if (!this.online) return refuse(404, "device_offline");
    const ids = (kind: string) => url.searchParams.getAll(kind).map(Number);
    const wanted = Object.fromEntries(
      ["video", "audio"].map((k) => [k, ids(k)]).filter(([, list]) => list?.length),
    );
    const id = randomBytes(16).toString("hex");
    const answer = await this.device.evaluate(([s, o, w]) => window.device.offer(s, o, w), [
      id,
      offer,
      wanted,
    ] as const);
    this.#spent.add(credential);
    this.#tickets.delete(credential);
    this.sessions.set(id, { credential, ticket: "", deleted: false, fragments: [] });
    response.writeHead(201, {
      "Content-Type": "application/sdp",
      Location: `/session/${id}`,
      ETag: '"e"',
      Link: '<stun:127.0.0.1:9>; rel="ice-server"',
      ...this.#ticket(id),
    });
    response.end(answer);
    return 201;
  }

  async #session(
    id: string,
    credential: string,
    body: string,
    method: string,
    response: ServerResponse,
  ): Promise<void> {
    const session = this.sessions.get(id);
    if (session === undefined || session.deleted) return void response.writeHead(404).end();
    if (method === "PATCH") {
      assert.equal(response.req.headers["content-type"], "application/trickle-ice-sdpfrag");
      session.fragments.push(body);
      await this.device.evaluate(([s, f]) => window.device.candidate(s, f), [id, body] as const);
      return void response.writeHead(204).end();
    }
    if (method === "DELETE") {
      session.deleted = true;
      this.#tickets.delete(session.ticket);
      await this.lose(id);
      return void response.writeHead(200).end();
    }
    if (method !== "POST" || credential !== session.ticket) return void response.writeHead(401).end();
    this.renewals++;
    response.writeHead(200, this.#ticket(id)).end();
  }

  #ticket(id: string): Record<string, string> {
    const ticket = `rt1.${randomBytes(32).toString("base64url")}`;
    const session = this.sessions.get(id) as Session;
    this.#tickets.delete(session.ticket);
    this.#tickets.set(ticket, id);
    session.ticket = ticket;
    return { "Turnpike-Resume-Ticket": ticket, "Turnpike-Resume-Expires": "120" };
  }
}

declare global {
  interface Window {
    turnpike: typeof import("../../src/index.js");
  }
}
