// ICE servers in Link headers: `<stun:host:port>; rel="ice-server"`, with `username` and
// `credential` for TURN (RFC 9725, section 4.6; the header is RFC 8288, section 3).

const maxHeader = 16_384;
const maxServers = 16;

/** Reads the ICE servers of a Link header. Other links and malformed parts are passed over. */
export function parseIceServers(header: string | null): RTCIceServer[] {
  if (header === null || header.length > maxHeader) return [];
  const servers: RTCIceServer[] = [];
  for (const link of split(header, ",")) {
    const server = iceServer(link);
    if (server !== undefined) servers.push(server);
    if (servers.length === maxServers) break;
  }
  return servers;
}

function iceServer(link: string): RTCIceServer | undefined {
  const [target, ...parameters] = split(link, ";");
  const url = /^<([^<>\s]+)>$/.exec(target?.trim() ?? "")?.[1];
  if (url === undefined || !/^(stuns?|turns?):[^/]/i.test(url)) return undefined;
  const values = new Map<string, string>();
  for (const parameter of parameters) {
    const equals = parameter.indexOf("=");
    if (equals < 0) continue;
    const name = parameter.slice(0, equals).trim().toLowerCase();
    // RFC 8288, 3.3: the first occurrence counts.
    if (!values.has(name)) values.set(name, unquote(parameter.slice(equals + 1).trim()));
  }
  if (!(values.get("rel") ?? "").toLowerCase().split(/\s+/).includes("ice-server")) return undefined;
  const server: RTCIceServer = { urls: [url] };
  const username = values.get("username");
  const credential = values.get("credential");
  if (/^turns?:/i.test(url)) {
    // A browser throws at a TURN server without both, and would then use none of the others.
    if (username === undefined || credential === undefined) return undefined;
    server.username = username;
    server.credential = credential;
  }
  return server;
}

/** Splits at a separator that is outside of quotes and angle brackets. */
function split(text: string, separator: "," | ";"): string[] {
  const parts: string[] = [];
  let start = 0;
  let closing = "";
  for (let i = 0; i < text.length; i++) {
    const c = text[i];
    if (closing === '"' && c === "\\") i++;
    else if (closing !== "") closing = c === closing ? "" : closing;
    else if (c === '"') closing = '"';
    else if (c === "<") closing = ">";
    else if (c === separator) {
      parts.push(text.slice(start, i));
      start = i + 1;
    }
  }
  parts.push(text.slice(start));
  return parts;
}

function unquote(text: string): string {
  if (text.length < 2 || !text.startsWith('"') || !text.endsWith('"')) return text;
  return text.slice(1, -1).replace(/\\(.)/g, "$1");
}
