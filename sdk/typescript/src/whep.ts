// The HTTP side of a connection: WHEP with resume tickets (protocol/device.md, section 2).
import { problem, TurnpikeError } from "./error.js";
import { parseIceServers } from "./link.js";

/** What fetch is, so that a page can bring its own. */
export type Fetch = (input: string, init: RequestInit) => Promise<Response>;

/** What the server's yes to an offer brings. */
export interface Accepted {
  /** The device's SDP answer. */
  answer: string;
  /** The session's address; whoever knows it may end the session. */
  session: string;
  etag: string | null;
  iceServers: RTCIceServer[];
  ticket: Ticket | undefined;
}

/** What brings a client back after its connection was lost. */
export interface Ticket {
  secret: string;
  /** When it ends, on the clock of performance.now(). */
  ends: number;
}

interface Answer {
  status: number;
  headers: Headers;
  body: string;
}

const maxAnswer = 65_536;
// The server gives the device 10 seconds.
const answerTimeoutMs = 15_000;
const otherTimeoutMs = 10_000;

// A credential travels in its header alone, to the server that was named alone.
const privately = {
  credentials: "omit",
  cache: "no-store",
  redirect: "error",
  referrerPolicy: "no-referrer",
} as const satisfies RequestInit;

/** The device id of a remote id, which is the bare id or `device://<id>` (protocol/token.md, section 1). */
export function deviceOf(remoteId: string): string {
  const id = remoteId.trim().replace(/^device:\/\//, "");
  if (!/^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$/.test(id)) {
    throw new TurnpikeError("bad_id", 0, "A remote id is a device id, or device:// and a device id.");
  }
  return id;
}

/** Speaks to one server about one session at a time. */
export class Whep {
  readonly #server: string;
  readonly #fetch: Fetch;

  constructor(server: string, fetch: Fetch) {
    this.#server = server;
    this.#fetch = fetch;
  }

  /** Presents a token or ticket with an offer. */
  async post(
    device: string,
    credential: string,
    offer: string,
    query: string,
    signal: AbortSignal,
  ): Promise<Accepted> {
    const url = new URL(`/whep/device/${device}${query}`, this.#server).href;
    const response = await this.#ask(url, answerTimeoutMs, signal, {
      method: "POST",
      headers: { "Content-Type": "application/sdp", Authorization: `Bearer ${credential}` },
      body: offer,
    });
    const location = response.headers.get("Location");
    if (response.status !== 201 || location === null || !response.body.startsWith("v=0")) {
      throw new TurnpikeError("bad_answer", response.status, "The server's answer is not one of WHEP.");
    }
    return {
      answer: response.body,
      session: new URL(location, url).href,
      etag: response.headers.get("ETag"),
      iceServers: parseIceServers(response.headers.get("Link")),
      ticket: ticketOf(response),
    };
  }

  /** Hands candidates to the device. */
  async patch(session: string, etag: string | null, sdpFragment: string, signal: AbortSignal): Promise<void> {
    const headers: Record<string, string> = { "Content-Type": "application/trickle-ice-sdpfrag" };
    if (etag !== null) headers["If-Match"] = etag;
    await this.#ask(session, otherTimeoutMs, signal, { method: "PATCH", headers, body: sdpFragment });
  }

  /** Exchanges the ticket for one that lives longer. */
  async renew(session: string, ticket: Ticket, signal: AbortSignal): Promise<Ticket | undefined> {
    const response = await this.#ask(session, otherTimeoutMs, signal, {
      method: "POST",
      headers: { Authorization: `Bearer ${ticket.secret}` },
    });
    return ticketOf(response);
  }

  /** Ends the session. It is sent even while the page is being left. */
  async delete(session: string): Promise<void> {
    await this.#ask(session, otherTimeoutMs, new AbortController().signal, {
      method: "DELETE",
      keepalive: true,
    });
  }

  /** Asks, and reads the answer within the time; a refusal is thrown. */
  async #ask(url: string, timeoutMs: number, signal: AbortSignal, init: RequestInit): Promise<Answer> {
    const timeout = AbortSignal.timeout(timeoutMs);
    const both = new AbortController();
    const abort = () => both.abort();
    timeout.addEventListener("abort", abort);
    signal.addEventListener("abort", abort);
    if (signal.aborted) abort();
    try {
      const response = await this.#fetch(url, { ...init, ...privately, signal: both.signal });
      const body = await text(response);
      if (response.ok) return { status: response.status, headers: response.headers, body };
      const type = response.headers.get("Content-Type") ?? "";
      throw problem(response.status, type, body, response.headers.get("Retry-After"));
    } catch (reason) {
      if (reason instanceof TurnpikeError) throw reason;
      if (signal.aborted) throw new TurnpikeError("closed", 0, "The connection was closed.");
      if (timeout.aborted) throw new TurnpikeError("timeout", 0, "The server did not answer in time.");
      throw new TurnpikeError(
        "unreachable",
        0,
        "The server cannot be reached. Check the network and its address.",
      );
    } finally {
      timeout.removeEventListener("abort", abort);
      signal.removeEventListener("abort", abort);
    }
  }
}

/** Reads a body of bounded length; a longer one counts as empty. */
async function text(response: Response): Promise<string> {
  const reader = response.body?.getReader();
  if (reader === undefined) return "";
  const decoder = new TextDecoder();
  let whole = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return whole + decoder.decode();
    whole += decoder.decode(value, { stream: true });
    if (whole.length > maxAnswer) {
      await reader.cancel();
      return "";
    }
  }
}

function ticketOf({ headers }: Answer): Ticket | undefined {
  const secret = headers.get("Turnpike-Resume-Ticket");
  const expires = headers.get("Turnpike-Resume-Expires") ?? "";
  if (secret === null || !/^rt1\.[A-Za-z0-9_-]{43}$/.test(secret) || !/^\d{1,6}$/.test(expires))
    return undefined;
  return { secret, ends: performance.now() + Number(expires) * 1000 };
}
