import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { adviceFor } from "../src/advice.js";
import { credentialIn, credentialOf, describe } from "../src/credential.js";
import { kilobits, ms, route, span } from "../src/words.js";

const connect = "v1.eyJzdWIiOiJhIn0.ttJRiSYSBjJIMXLi9ZTufCjaxPHYojtkH6VProqdB1U";
const user = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln";

test("tells connect tokens from user tokens", () => {
  assert.deepEqual(credentialOf(` ${connect}\n`), { kind: "connect", token: connect });
  assert.deepEqual(credentialOf(user), { kind: "user", token: user });
  for (const text of [
    "",
    "v1",
    "v1..",
    "v2.a.b",
    "hello",
    "a.b.c",
    `${user}.x`,
    `${user} x`,
    `ey${"a".repeat(9000)}.b.c`,
  ]) {
    assert.equal(credentialOf(text), undefined, text.slice(0, 30));
  }
});

test("takes a credential out of the address only under its own name", () => {
  assert.deepEqual(credentialIn(`#user=${user}`), { kind: "user", token: user });
  assert.deepEqual(credentialIn(`#token=${connect}`), { kind: "connect", token: connect });
  for (const fragment of [
    "",
    "#",
    `#token=${user}`,
    `#user=${connect}`,
    `#${user}`,
    "#user=",
    "#user=%00%ff&token=<b>",
  ]) {
    assert.equal(credentialIn(fragment), undefined, fragment);
  }
});

interface Vector {
  name: string;
  token: string;
  claims?: { sub: string; iat: number; exp: number; id: string };
}

test("describes tokens as the vectors do, and never throws", async () => {
  const { vectors } = JSON.parse(await readFile("../protocol/vectors/connect-token.json", "utf8")) as {
    vectors: Vector[];
  };
  assert.ok(vectors.some((v) => v.claims));
  for (const { name, token, claims } of vectors) {
    const found = await describe(token);
    if (claims === undefined) continue;
    assert.deepEqual(found, { subject: claims.sub, lives: claims.exp - claims.iat, id: claims.id }, name);
  }
  for (const token of ["", "v1", "v1.!.x", "v1.bnVsbA.x", "v1.W10.x", "v1.eyJzdWIiOjd9.x"]) {
    assert.deepEqual(await describe(token), {}, token);
  }
});

test("has advice for every code of the contract, and the server's words for others", async () => {
  const contract = await readFile("../protocol/device.md", "utf8");
  const codes = [...contract.matchAll(/^\| [45]\d\d `([a-z_]+)`/gm)].map(([, code]) => code ?? "");
  assert.ok(codes.length >= 8);
  for (const code of codes.filter((c) => c !== "too_large"))
    assert.notEqual(adviceFor(code, "x").text, "x", code);
  for (const code of ["other", "constructor", "__proto__", ""])
    assert.equal(adviceFor(code, "Said so.").text, "Said so.");
});

test("writes numbers for people", () => {
  assert.deepEqual([300, 90, 60, 3600, 86400, 1].map(span), [
    "5 minutes",
    "90 seconds",
    "60 seconds",
    "60 minutes",
    "24 hours",
    "1 second",
  ]);
  assert.deepEqual([12.4, 9999, 12_340].map(ms), ["12 ms", "9999 ms", "12.3 s"]);
  assert.match(
    route({ kind: "direct", local: "prflx", remote: "host", protocol: "udp" }),
    /^UDP, .*\(prflx\).*\(host\)/,
  );
});

test("counts bits between two moments", () => {
  const at = (time: number, bytes: number) => ({ at: time, video: { bytes } as never, audio: undefined });
  assert.equal(kilobits(at(0, 0), at(500, 62_500)), 1000);
  assert.equal(kilobits(at(0, 9000), at(500, 0)), 0, "a new connection counts from zero");
  assert.equal(kilobits(at(5, 0), at(5, 9)), 0);
});
