import { describe, expect, test } from "vitest";
import { bytes, compact, count, millis, perSecond, percent, seconds } from "./units";

describe("numbers as a person reads them", () => {
  test.each([
    [0, "0"],
    [0.04217, "0.0422"],
    [1.234, "1.23"],
    [19.96, "20"],
    [4567, "4567"],
    [45_670, "45.7k"],
    [1_234_000, "1.23M"],
    [NaN, "–"],
    [null, "–"],
    [Infinity, "∞"],
  ])("compact %s is %s", (value, text) => expect(compact(value)).toBe(text));

  test.each([
    [0, "0%"],
    [0.00001, "<0.01%"],
    [0.0042, "0.42%"],
    [0.5, "50%"],
    [0.99999, ">99.9%"],
    [1, "100%"],
  ])("share %s is %s", (share, text) => expect(percent(share)).toBe(text));

  test.each([
    [0.0008, "0.8µs"],
    [0.12, "120µs"],
    [34.4, "34.4ms"],
    [1200, "1.2s"],
    [125_000, "2m 5s"],
    [null, "–"],
  ])("%s milliseconds are %s", (ms, text) => expect(millis(ms)).toBe(text));

  test.each([
    [0, "0/s"],
    [0.0033333, "0.2/min"],
    [0.0167, "1/min"],
    [0.1, "0.1/s"],
    [12.34, "12.3/s"],
  ])("a rate of %s is %s", (rate, text) => expect(perSecond(rate)).toBe(text));

  test("bytes, counts and seconds", () => {
    expect(bytes(1536)).toBe("1.5 KiB");
    expect(count(1_234_567)).toBe("1\u202f234\u202f567");
    expect(seconds(93_784)).toBe("1d 2h");
  });
});
