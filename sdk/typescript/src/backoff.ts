const firstMs = 250;
const longestMs = 10_000;

/**
 * How long to wait before attempt n (from 0), in milliseconds: twice as long each time, drawn between half
 * and the whole so that many clients do not come back at once. `random` is from 0 to 1.
 */
export function backoff(attempt: number, random: number): number {
  const whole = Math.min(longestMs, firstMs * 2 ** Math.min(attempt, 16));
  return whole / 2 + (whole / 2) * random;
}
