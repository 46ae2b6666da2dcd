// Numbers and names as people read them.
import type { Path, Stats } from "@turnpike-rtc/client";

/** A span of seconds: "5 minutes", "90 seconds", "24 hours". */
export function span(seconds: number): string {
  const [n, unit] =
    seconds >= 7200 && seconds % 3600 === 0
      ? [seconds / 3600, "hours"]
      : seconds >= 120 && seconds % 60 === 0
        ? [seconds / 60, "minutes"]
        : [seconds, "seconds"];
  return `${n} ${n === 1 ? unit.slice(0, -1) : unit}`;
}

/** Milliseconds, in seconds from ten seconds up. */
export function ms(milliseconds: number): string {
  return milliseconds < 10_000 ? `${Math.round(milliseconds)} ms` : `${(milliseconds / 1000).toFixed(1)} s`;
}

const candidates: Record<string, string> = {
  host: "its own address",
  srflx: "an address seen by STUN",
  prflx: "an address the other side saw",
  relay: "a TURN relay",
  unknown: "an unknown address",
};

/** A path: which candidates it joins. */
export function route({ local, remote, protocol }: Path): string {
  const here = candidates[local] ?? local;
  const there = candidates[remote] ?? remote;
  return `${protocol.toUpperCase()}, from ${here} (${local}) to ${there} (${remote}).`;
}

/** kbit/s of everything that arrived between two sets of numbers. */
export function kilobits(before: Stats, now: Stats): number {
  const total = (s: Stats) => (s.video?.bytes ?? 0) + (s.audio?.bytes ?? 0);
  const elapsed = now.at - before.at;
  return elapsed <= 0 ? 0 : Math.max(0, Math.round(((total(now) - total(before)) * 8) / elapsed));
}
