import assert from "node:assert/strict";
import { test } from "node:test";
import { backoff } from "../src/backoff.js";
import { asTurnpikeError, problem, TurnpikeError } from "../src/error.js";
import { fragment, streamOf } from "../src/sdp.js";
import { pathOf, statsOf } from "../src/timing.js";
import { deviceOf } from "../src/whep.js";

test("reads problem details", () => {
  const body = JSON.stringify({
    type: "about:blank",
    status: 401,
    code: "token_refused",
    detail: "Ask for a new one.",
  });
  const e = problem(401, "application/problem+json; charset=utf-8", body, "7");
  assert.deepEqual(
    [e.code, e.status, e.detail, e.retryAfter],
    ["token_refused", 401, "Ask for a new one.", 7],
  );
});

test("falls back to the status for any other body", () => {
  for (const [type, body] of [
    ["text/html", '{"code":"x"}'],
    ["application/problem+json", "{"],
    ["application/problem+json", "null"],
    ["application/json", "[]"],
    ["application/json", '{"code":7}'],
    ["application/json", '{"code":"<script>"}'],
    ["application/json", `{"code":"${"x".repeat(99)}"}`],
    ["", ""],
  ] as const) {
    assert.equal(problem(502, type, body, "soon").code, "http_502", body);
  }
  assert.equal(
    problem(500, "application/json", `{"code":"a","detail":"${"d".repeat(9999)}"}`, null).detail.length,
    500,
  );
  assert.equal(problem(429, "", "", "999999").retryAfter, 3600);
});

test("keeps an error that is one already", () => {
  const e = new TurnpikeError("closed", 0, "x");
  assert.equal(asTurnpikeError(e), e);
  assert.equal(asTurnpikeError(new Error("boom"), "bad_answer").code, "bad_answer");
});

test("takes bare and spelled-out remote ids", () => {
  assert.equal(deviceOf(" AABBCCDDEEFF "), "AABBCCDDEEFF");
  assert.equal(deviceOf("device://demo-camera"), "demo-camera");
  for (const id of [
    "",
    "a/b",
    "http://a",
    "device://",
    "device://a/../b",
    "-a",
    "a".repeat(33),
    "a?video=1",
    "ä",
  ]) {
    assert.throws(() => deviceOf(id), { code: "bad_id" }, id);
  }
});

test("reads stream ids out of media stream ids", () => {
  assert.equal(streamOf("stream-0"), 0);
  assert.equal(streamOf("stream-255"), 255);
  for (const id of ["stream-", "stream-256", "stream--1", "stream-1x", "xstream-1", "-", ""]) {
    assert.equal(streamOf(id), undefined, id);
  }
});

test("writes candidates as a fragment", () => {
  const offer = [
    "v=0",
    "m=video 9 UDP/TLS/RTP/SAVPF 96",
    "a=mid:0",
    "a=ice-ufrag:abcd",
    "a=ice-pwd:secret",
    "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
    "a=mid:1",
    "",
  ].join("\r\n");
  assert.equal(
    fragment(offer, [{ candidate: "candidate:1 1 udp 1 192.0.2.1 9 typ host", sdpMid: "0" }], true),
    [
      "a=ice-ufrag:abcd",
      "a=ice-pwd:secret",
      "m=video 9 UDP/TLS/RTP/SAVPF 96",
      "a=mid:0",
      "a=candidate:1 1 udp 1 192.0.2.1 9 typ host",
      "a=end-of-candidates",
      "",
    ].join("\r\n"),
  );
  assert.match(fragment(offer, [], true), /a=mid:0\r\na=end-of-candidates\r\n$/);
  const many = Array(2000).fill({ candidate: "candidate:1 1 udp 1 192.0.2.1 9 typ host", sdpMid: "0" });
  assert.equal(fragment(offer, many, false), "", "never more than the server takes");
});

test("waits longer each time, within bounds", () => {
  assert.equal(backoff(0, 1), 250);
  assert.equal(backoff(0, 0), 125);
  assert.equal(backoff(3, 1), 2000);
  assert.equal(backoff(1000, 1), 10_000);
});

const report = (entries: Record<string, unknown>[]) => entries as unknown as RTCStats[];
const candidates = (local: string, remote: string) => [
  { id: "L", type: "local-candidate", candidateType: local, protocol: "udp" },
  { id: "R", type: "remote-candidate", candidateType: remote },
  {
    id: "P",
    type: "candidate-pair",
    localCandidateId: "L",
    remoteCandidateId: "R",
    nominated: true,
    state: "succeeded",
  },
];

test("tells direct from relayed", () => {
  const transport = { id: "T", type: "transport", selectedCandidatePairId: "P" };
  assert.deepEqual(pathOf(report([transport, ...candidates("prflx", "host")])), {
    kind: "direct",
    local: "prflx",
    remote: "host",
    protocol: "udp",
  });
  assert.equal(pathOf(report(candidates("host", "relay")))?.kind, "relay", "without a transport entry");
  assert.equal(pathOf(report([transport])), undefined);
  assert.equal(pathOf([]), undefined);
});

test("condenses stats, and takes missing numbers for zero", () => {
  const stats = statsOf(
    report([
      { id: "C", type: "codec", mimeType: "video/H264" },
      { id: "a", type: "inbound-rtp", kind: "video", bytesReceived: 0 },
      {
        id: "b",
        type: "inbound-rtp",
        kind: "video",
        bytesReceived: 9,
        frameWidth: 640,
        framesPerSecond: 25,
        codecId: "C",
      },
    ]),
    5,
  );
  assert.equal(stats.video?.width, 640);
  assert.equal(stats.video?.framesPerSecond, 25);
  assert.equal(stats.video?.packetsLost, 0);
  assert.equal(stats.video?.codec, "H264");
  assert.equal(stats.audio, undefined);
});
