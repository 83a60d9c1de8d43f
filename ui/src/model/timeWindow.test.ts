import { expect, test } from "vitest";
import { DURATIONS_S, ago, formatDurationS, parseDurationS, spanOf } from "./timeWindow";

test.each([
  ["90s", 90],
  ["5m", 300],
  ["1h30m", 5400],
  ["2d", 172_800],
  ["", null],
  ["5", null],
  ["0s", null],
  ["5 m", null],
  ["9999d", null],
])("duration %j is %s seconds", (text, durationS) => expect(parseDurationS(text)).toBe(durationS));

test("a written duration reads back as itself", () => {
  for (const durationS of [...DURATIONS_S, 1, 59, 61, 3661, 90_061]) expect(parseDurationS(formatDurationS(durationS))).toBe(durationS);
});

test("a live window ends now, a fixed one where it says", () => {
  expect(spanOf({ durationS: 60, endUnixS: null }, 1_000_000)).toEqual({ startMs: 940_000, endMs: 1_000_000 });
  expect(spanOf({ durationS: 60, endUnixS: 500 }, 1_000_000)).toEqual({ startMs: 440_000, endMs: 500_000 });
});

test("ago", () => {
  expect(ago(0, 1000)).toBe("just now");
  expect(ago(0, 45_000)).toBe("45s ago");
  expect(ago(0, 7_200_000)).toBe("2h ago");
});
