import assert from "node:assert/strict";
import { test } from "node:test";
import { decodeCommand, decodeMessage, encodeCommand, encodeMessage, maxMessage } from "../src/frame.js";

const hex = (data: Uint8Array) => Buffer.from(data).toString("hex");
const code = (code: string) => (error: unknown) => (error as { code?: string }).code === code;

test("writes a command as its word and payload", () => {
  assert.equal(hex(encodeCommand(0x2001, "hi")), "000020016869");
  assert.equal(hex(encodeCommand(0xffffffff, new Uint8Array([0, 255]))), "ffffffff00ff");
  assert.equal(hex(encodeCommand(0x2000, new ArrayBuffer(0))), "00002000");
});

test("writes only what a view shows", () => {
  const whole = new Uint8Array([1, 2, 3, 4]);
  assert.equal(hex(encodeCommand(0x2000, whole.subarray(1, 3))), "000020000203");
  assert.equal(hex(encodeCommand(0x2000, new DataView(whole.buffer, 3))), "0000200004");
});

test("refuses reserved and impossible command words", () => {
  for (const word of [0, 1, 0x1fff, -1, 0x2000 + 0.5, 2 ** 32, Number.NaN, Number.POSITIVE_INFINITY]) {
    assert.throws(() => encodeCommand(word, ""), code("reserved_command"), String(word));
  }
});

test("reads back what it wrote, whatever bit 0 is", () => {
  for (const word of [0x2000, 0x2001, 0x10000, 0x10002, 0x54524343, 0xffffffff]) {
    const read = decodeCommand(encodeCommand(word, "payload").buffer);
    assert.equal(read?.word, word);
    assert.equal(new TextDecoder().decode(read?.payload), "payload");
  }
});

test("passes over commands that are none", () => {
  for (const data of [[], [0], [0, 0, 0x20], [0, 0, 0x1f, 0xff], [0, 0, 0, 0, 1]]) {
    assert.equal(decodeCommand(new Uint8Array(data).buffer), undefined);
  }
  assert.equal(decodeCommand(new Uint8Array(maxMessage + 1).fill(0xff).buffer), undefined);
});

test("writes a stream message with its stream, flags and time", () => {
  assert.equal(hex(encodeMessage(255, 0x01020304, "x", 7)), "ff0700000102030478");
  assert.equal(hex(encodeMessage(0, 2 ** 32 + 5, "")), "0000000000000005", "the clock wraps");
  const read = decodeMessage(encodeMessage(12, 0xffffffff, "abc", 1).buffer);
  assert.deepEqual(
    { ...read, payload: read && hex(read.payload) },
    {
      stream: 12,
      flags: 1,
      timestamp: 0xffffffff,
      payload: "616263",
    },
  );
});

test("refuses impossible streams, and payloads that are too large", () => {
  for (const stream of [-1, 256, 1.5, Number.NaN])
    assert.throws(() => encodeMessage(stream, 0, ""), code("bad_id"));
  assert.throws(() => encodeMessage(1, 0, "", 256), code("bad_id"));
  assert.equal(encodeCommand(0x2000, new Uint8Array(maxMessage - 4)).length, maxMessage);
  assert.throws(() => encodeCommand(0x2000, new Uint8Array(maxMessage - 3)), code("too_large"));
  assert.equal(encodeMessage(1, 0, new Uint8Array(maxMessage - 8)).length, maxMessage);
  assert.throws(() => encodeMessage(1, 0, new Uint8Array(maxMessage - 7)), code("too_large"));
});

test("passes over stream messages that are none", () => {
  for (let n = 0; n < 8; n++) assert.equal(decodeMessage(new ArrayBuffer(n)), undefined);
  assert.equal(decodeMessage(new ArrayBuffer(maxMessage + 1)), undefined);
  assert.ok(
    decodeMessage(new Uint8Array([1, 2, 9, 9, 0, 0, 0, 1]).buffer),
    "reserved bytes are not looked at",
  );
});
