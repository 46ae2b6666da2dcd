import assert from "node:assert/strict";
import { test } from "node:test";
import { parseIceServers } from "../src/link.js";

const turn = `<turn:t.example:3478?transport=udp>; rel="ice-server"; username="17:u"; credential="p,;=\\"\\\\"`;

for (const [name, header, want] of [
  ["none", null, []],
  ["empty", "", []],
  ["a STUN server", '<stun:203.0.113.1:5082>; rel="ice-server"', [{ urls: ["stun:203.0.113.1:5082"] }]],
  ["without quotes", "<stun:s.example>;rel=ice-server", [{ urls: ["stun:s.example"] }]],
  ["IPv6", '<stun:[2001:db8::1]:5082>; rel="ice-server"', [{ urls: ["stun:[2001:db8::1]:5082"] }]],
  [
    "a TURN server with separators inside quotes",
    turn,
    [{ urls: ["turn:t.example:3478?transport=udp"], username: "17:u", credential: 'p,;="\\' }],
  ],
  [
    "two among others",
    `<https://x.example/a,b>; rel="next", <stun:a>; rel="ice-server" , <stuns:b:1>; rel="other ICE-SERVER"`,
    [{ urls: ["stun:a"] }, { urls: ["stuns:b:1"] }],
  ],
  ["the first of two parameters", `<stun:a>; rel="ice-server"; rel="x"`, [{ urls: ["stun:a"] }]],
  ["TURN without a credential", `<turn:a>; rel="ice-server"; username="u"`, []],
  ["another scheme", `<javascript:alert(1)>; rel="ice-server", <http://a>; rel="ice-server"`, []],
  ["a hierarchical address", `<stun://a>; rel="ice-server"`, []],
  ["an open bracket", `<stun:a; rel="ice-server"`, []],
  ["an open quote", `<stun:a>; rel="ice-server`, []],
  ["another relation", `<stun:a>; rel="ice-servers"`, []],
] as const) {
  test(`Link: ${name}`, () => assert.deepEqual(parseIceServers(header), want));
}

test("Link: keeps to its bounds", () => {
  const one = '<stun:a>; rel="ice-server"';
  assert.equal(parseIceServers(Array(40).fill(one).join(", ")).length, 16);
  assert.deepEqual(parseIceServers(Array(2000).fill(one).join(", ")), []);
});

test("Link: hostile text neither throws nor takes long", () => {
  const started = performance.now();
  for (const part of ['"', "\\", "<", ">", ";", ",", "=", '<"', '\\"', " ", "rel=", "\u0000", "💥"]) {
    assert.deepEqual(parseIceServers(part.repeat(16_384 / part.length)), []);
  }
  assert.ok(performance.now() - started < 1000);
});
