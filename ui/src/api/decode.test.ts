import { expect, test } from "vitest";
import { DecodeError, dictionary, list, number, numeric, or, record, string } from "./decode";

const decode = record({ name: string, size: or(number, 0), parts: list(record({ rate: numeric })), codes: dictionary(number) });

test("a good answer is typed, missing parts get their defaults", () => {
  expect(decode({ name: "a", parts: [{ rate: "1.5" }] }, "x")).toEqual({ name: "a", size: 0, parts: [{ rate: 1.5 }], codes: {} });
});

test.each([
  [{ name: 1 }, "x.name: expected a string, got a number"],
  [{ name: "a", parts: [{ rate: "fast" }] }, "x.parts[0].rate: expected a number, got a string"],
  [{ name: "a", codes: [] }, "x.codes: expected an object, got an array"],
  [null, "x: expected an object, got null"],
])("%j names the place", (value, message) => {
  expect(() => decode(value, "x")).toThrow(DecodeError);
  expect(() => decode(value, "x")).toThrow(message);
});

test("Prometheus writes infinities and NaN as text", () => {
  expect([numeric("+Inf", ""), numeric("-Inf", ""), numeric("NaN", "")]).toEqual([Infinity, -Infinity, NaN]);
});
