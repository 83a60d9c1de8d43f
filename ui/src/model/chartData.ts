/** Puts series on one time axis. */
import type { QueryAnswer, Sample } from "../api/prometheus";

/** All times at which any series has a point, rising. */
export function alignTimes(answers: readonly QueryAnswer[]): number[] {
  const times = new Set<number>();
  for (const { series } of answers) for (const { samples } of series) for (const [unixS] of samples) times.add(unixS);
  return [...times].sort((a, b) => a - b);
}

/** The values at these times; null where there is none that can be drawn. */
export function valuesAt(times: readonly number[], samples: readonly Sample[]): (number | null)[] {
  const byTime = new Map(samples);
  return times.map((time) => {
    const value = byTime.get(time);
    return value === undefined || !Number.isFinite(value) ? null : value;
  });
}
