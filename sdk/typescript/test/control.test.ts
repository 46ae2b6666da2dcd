import assert from "node:assert/strict";
import { test } from "node:test";
import { parseNotice } from "../src/control.js";

test("reads the device's messages", () => {
  assert.deepEqual(
    parseNotice(
      `{"type":"streams","streams":[{"id":0,"kind":"video","codec":"H264"},{"id":1,"kind":"audio","codec":"PCMA","rate":8000}],"sending":[0],"new":1}`,
    ),
    {
      type: "streams",
      streams: [
        { id: 0, kind: "video", codec: "H264" },
        { id: 1, kind: "audio", codec: "PCMA", rate: 8000 },
      ],
      sending: [0],
    },
  );
  assert.deepEqual(parseNotice(`{"type":"done","id":3}`), { type: "done", id: 3 });
  assert.deepEqual(parseNotice(`{"type":"refused","id":3,"code":"no_such_stream"}`), {
    type: "refused",
    id: 3,
    code: "no_such_stream",
    message: "",
  });
  assert.deepEqual(parseNotice(`{"type":"answer","id":1,"sdp":"v=0"}`), {
    type: "answer",
    id: 1,
    sdp: "v=0",
  });
});

test("passes over anything else", () => {
  for (const text of [
    "",
    "null",
    "1",
    "[]",
    "{",
    "{}",
    `{"type":"later"}`,
    `{"type":"done"}`,
    `{"type":"done","id":-1}`,
    `{"type":"done","id":1.5}`,
    `{"type":"done","id":1e300}`,
    `{"type":"done","id":"1"}`,
    `{"type":"refused","id":1}`,
    `{"type":"refused","id":1,"code":"<b>"}`,
    `{"type":"answer","id":1,"sdp":7}`,
    `{"type":"streams"}`,
    `{"type":"streams","streams":{}}`,
    `{"type":"streams","streams":[null]}`,
    `{"type":"streams","streams":[{"id":256,"kind":"video","codec":"H264"}]}`,
    `{"type":"streams","streams":[{"id":1,"kind":"smell","codec":"H264"}]}`,
    `{"type":"streams","streams":[{"id":1,"kind":"video"}]}`,
    `{"type":"streams","streams":[${Array(257).fill('{"id":1,"kind":"video","codec":"H264"}').join(",")}]}`,
    `{"type":"done","id":1,"x":"${"x".repeat(70_000)}"}`,
    "[".repeat(60_000),
    new ArrayBuffer(4),
    undefined,
  ]) {
    assert.equal(parseNotice(text), undefined, String(text).slice(0, 60));
  }
});

test("bounds what a device can make a page show", () => {
  const long = parseNotice(`{"type":"refused","id":1,"code":"refused","message":"${"m".repeat(5000)}"}`);
  assert.equal(long?.type === "refused" && long.message.length, 500);
  const odd = parseNotice(
    `{"type":"streams","streams":[{"id":1,"kind":"audio","codec":"${"c".repeat(99)}","rate":-1}]}`,
  );
  assert.deepEqual(odd?.type === "streams" && odd.streams, [{ id: 1, kind: "audio", codec: "c".repeat(32) }]);
});
