// What a page knows of tokens without being able to check them.

/** A credential somebody brought: to be presented at once, or to ask for a connect token with. */
export type Credential = { kind: "connect"; token: string } | { kind: "user"; token: string };

/** Tells the two kinds of token apart; undefined when the text is neither. */
export function credentialOf(text: string): Credential | undefined {
  const token = text.trim();
  if (/^v1\.[A-Za-z0-9_-]{1,2000}\.[A-Za-z0-9_-]{1,86}$/.test(token)) return { kind: "connect", token };
  // A JWT: the first part is a JSON object in base64url, so it begins with "ey".
  if (token.length <= 8192 && /^ey[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$/.test(token)) {
    return { kind: "user", token };
  }
  return undefined;
}

/** Reads `#user=…` or `#token=…` of an address. */
export function credentialIn(fragment: string): Credential | undefined {
  const parts = new URLSearchParams(fragment.replace(/^#/, ""));
  for (const [name, kind] of [
    ["user", "user"],
    ["token", "connect"],
  ] as const) {
    const found = credentialOf(parts.get(name) ?? "");
    if (found?.kind === kind) return found;
  }
  return undefined;
}

/** What a connect token says about itself; nothing of it is checked, and the token is not in it. */
export interface Description {
  subject?: string;
  /** How long it lives, in seconds. */
  lives?: number;
  /** By which it is spent, revoked and found in the audit trail (protocol/token.md, section 2). */
  id?: string;
}

/** Reads a connect token's payload. Whatever is not as it should be is left out. */
export async function describe(token: string): Promise<Description> {
  const claims = claimsOf(token.split(".")[1] ?? "");
  const description: Description = {};
  if (typeof claims.sub === "string") description.subject = claims.sub.slice(0, 256);
  if (typeof claims.iat === "number" && typeof claims.exp === "number" && claims.exp > claims.iat) {
    description.lives = claims.exp - claims.iat;
  }
  // Only secure contexts have crypto.subtle.
  if (typeof claims.iss === "string" && typeof claims.nonce === "string" && crypto.subtle !== undefined) {
    const text = new TextEncoder().encode(`${claims.iss}\n${claims.nonce}`);
    const sum = new Uint8Array(await crypto.subtle.digest("SHA-256", text));
    const base64 = btoa(String.fromCharCode(...sum));
    description.id = base64.replaceAll("+", "-").replaceAll("/", "_").slice(0, 22);
  }
  return description;
}

function claimsOf(part: string): Record<string, unknown> {
  try {
    const binary = atob(part.replaceAll("-", "+").replaceAll("_", "/"));
    const text = new TextDecoder().decode(Uint8Array.from(binary, (c) => c.charCodeAt(0)));
    const claims: unknown = JSON.parse(text);
    return typeof claims === "object" && claims !== null ? (claims as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}
