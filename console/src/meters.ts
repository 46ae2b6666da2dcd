// The live numbers below the picture.
import type { Connection, Stats } from "@turnpike-rtc/client";
import { element } from "./dom.js";
import { kilobits } from "./words.js";

const everyMs = 500;

/** Shows a connection's numbers while it is connected. */
export class Meters {
  readonly #level = element<HTMLMeterElement>("level");
  #before: Stats | undefined;

  constructor(connection: Connection) {
    setInterval(async () => this.#show(await connection.stats().catch(() => undefined)), everyMs);
  }

  #show(now: Stats | undefined): void {
    const video = now?.video;
    // The frame rate of a connection without video is no number.
    write("fps", video && video.framesDecoded > 0 ? String(Math.round(video.framesPerSecond)) : "–");
    write("size", video && video.width > 0 ? `${video.width} × ${video.height}` : "–");
    write("codec", video?.codec ?? "");
    write("rate", now && this.#before ? String(kilobits(this.#before, now)) : "–");
    write("lost", now ? String((video?.packetsLost ?? 0) + (now.audio?.packetsLost ?? 0)) : "–");
    // Loudness is felt by its logarithm: -60 dB is the left end.
    const level = now?.audio?.level ?? 0;
    this.#level.value = level > 0.001 ? 1 + Math.log10(level) / 3 : 0;
    this.#before = now;
  }
}

function write(id: string, text: string): void {
  const place = element(id);
  if (place.textContent !== text) place.textContent = text;
}
