// What to tell people about each error, and what the page can do about it.

/** A message for people. */
export interface Advice {
  title: string;
  text: string;
  /** `retry`: trying again may help. `token`: a new token is needed first. */
  next: "retry" | "token" | "nothing";
}

const known: Record<string, Advice> = {
  token_refused: {
    title: "The token was not accepted",
    text: "It may have been used before, revoked, or be meant for another server. Ask your back end for a new one.",
    next: "token",
  },
  token_expired: {
    title: "The token has expired",
    text: "Connect tokens live a few minutes. Ask your back end for a new one.",
    next: "token",
  },
  token_not_yet_valid: {
    title: "The token is not valid yet",
    text: "Check the clock of the machine that signed it, and ask for a new one.",
    next: "token",
  },
  forbidden: {
    title: "You may not connect to this device",
    text: "No rule lets this user connect here. An operator adds one with “turnpike grant add”.",
    next: "token",
  },
  device_offline: {
    title: "The device is offline",
    text: "Nothing was spent. Check the device's power and network, then try again.",
    next: "retry",
  },
  device_refused: {
    title: "The device said no",
    text: "It is there and does not take another viewer now. Nothing was spent: try again in a moment.",
    next: "retry",
  },
  device_timeout: {
    title: "The device did not answer",
    text: "It is online and stayed silent for 10 seconds. Nothing was spent: try again.",
    next: "retry",
  },
  too_many_failures: {
    title: "Too many refusals from your address",
    text: "The server refuses more of them for a minute or two. A token that is good still works.",
    next: "retry",
  },
  draining: { title: "The server is restarting", text: "Try again in a few seconds.", next: "retry" },
  unavailable: {
    title: "The server cannot work at the moment",
    text: "Its database or its bus may be away. Nothing was spent: try again in a moment.",
    next: "retry",
  },
  not_found: {
    title: "There is no such device",
    text: "A device id has letters, digits, “-” and “_”, at most 32 of them. Check the address of this page.",
    next: "nothing",
  },
  bad_request: {
    title: "The server does not understand the request",
    text: "The stream ids of this page's address are no numbers from 0 to 255. Check it.",
    next: "nothing",
  },
  method_not_allowed: {
    title: "The server does not know this request",
    text: "The page may be older than the server. Load it again.",
    next: "retry",
  },
  unreachable: {
    title: "The server cannot be reached",
    text: "Check your network, and that the server runs.",
    next: "retry",
  },
  timeout: { title: "The server did not answer in time", text: "It may be busy. Try again.", next: "retry" },
  connection_failed: {
    title: "No path to the device",
    text: "The device agreed, and no packet found its way. A firewall on either side may block UDP; a TURN server helps.",
    next: "retry",
  },
  connection_lost: {
    title: "The connection was lost",
    text: "It did not come back within two minutes.",
    next: "retry",
  },
  session_ended: {
    title: "The session was ended",
    text: "By an operator, by a revocation, or because the device stopped.",
    next: "retry",
  },
  malformed_sdp: {
    title: "The server does not understand this browser",
    text: "Its offer lacks something that is needed. Try a current browser.",
    next: "nothing",
  },
  no_such_stream: { title: "There is no picture", text: "The device has no video stream.", next: "nothing" },
};

/** The message for an error code; `detail` is the server's own sentence, for codes this page does not know. */
export function adviceFor(code: string, detail: string): Advice {
  const found = Object.hasOwn(known, code) ? known[code] : undefined;
  return found ?? { title: "That did not work", text: detail, next: "retry" };
}
