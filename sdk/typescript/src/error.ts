/**
 * Everything that can go wrong, with a stable `code` to act on.
 *
 * The codes of the server are those of `protocol/device.md` (`token_refused`, `device_offline`, …). The client
 * adds its own, with status 0: `unreachable`, `timeout`, `closed`, `session_ended`, `connection_failed`,
 * `not_connected`, `queue_full`, `too_large`, `reserved_command`, `bad_id`, `bad_answer`, `already_connected`.
 * Refusals of the device carry its word: `no_such_stream`, `refused`, `renegotiate`.
 */
export class TurnpikeError extends Error {
  override readonly name = "TurnpikeError";
  /** A stable word in snake_case. */
  readonly code: string;
  /** The HTTP status, or 0 when no answer of the server is involved. */
  readonly status: number;
  /** A sentence for people: what happened and what to do. */
  readonly detail: string;
  /** Seconds to wait before trying again, where the server says so. */
  readonly retryAfter: number | undefined;

  constructor(code: string, status: number, detail: string, retryAfter?: number) {
    super(`${code}: ${detail}`);
    this.code = code;
    this.status = status;
    this.detail = detail;
    this.retryAfter = retryAfter;
  }
}

const maxDetail = 500;
const maxRetryAfter = 3600;

/** Reads problem details (RFC 9457) out of a refusal; anything else becomes `http_<status>`. */
export function problem(
  status: number,
  contentType: string,
  body: string,
  retryAfter: string | null,
): TurnpikeError {
  const wait = parseRetryAfter(retryAfter);
  const fallback = new TurnpikeError(
    `http_${status}`,
    status,
    `The server answered with status ${status}.`,
    wait,
  );
  if (!/^application\/(problem\+)?json\b/i.test(contentType)) return fallback;
  let parsed: unknown;
  try {
    parsed = JSON.parse(body);
  } catch {
    return fallback;
  }
  if (typeof parsed !== "object" || parsed === null) return fallback;
  const { code, detail, title } = parsed as Record<string, unknown>;
  if (typeof code !== "string" || !/^[a-z][a-z0-9_]{0,63}$/.test(code)) return fallback;
  const text = [detail, title].find((t): t is string => typeof t === "string" && t !== "") ?? fallback.detail;
  return new TurnpikeError(code, status, text.slice(0, maxDetail), wait);
}

/** Reads Retry-After in its form of seconds; dates and nonsense count as absent. */
function parseRetryAfter(text: string | null): number | undefined {
  if (text === null || !/^\d{1,6}$/.test(text.trim())) return undefined;
  return Math.min(Number(text), maxRetryAfter);
}

/** Makes a TurnpikeError of anything thrown. */
export function asTurnpikeError(reason: unknown, code = "connection_failed"): TurnpikeError {
  if (reason instanceof TurnpikeError) return reason;
  return new TurnpikeError(code, 0, reason instanceof Error ? reason.message : String(reason));
}
