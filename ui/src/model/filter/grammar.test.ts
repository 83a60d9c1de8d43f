import { describe, expect, test } from "vitest";
import { applySuggestion, completeFilter } from "./completion";
import { FilterError, numberOf, parseFilter, term } from "./grammar";

const KEYS = { path: "", status: "", dur: "", ns: "" };

function check(text: string, found: string): boolean {
  return parseFilter(text, KEYS).every((one) => one.matchesText(found));
}

describe("text terms", () => {
  test.each([
    ["path:/productpage", "/productpage", true],
    ["path:/product*", "/productpage?u=1", true],
    ["path:*page", "/productpage", true],
    ["path:/product", "/productpage", false],
    ["-path:/health", "/health", false],
    ["-path:/health", "/reviews", true],
    ['path:"/a b"', "/a b", true],
    ["status:5xx", "503", true],
    ["status:5xx", "5030", false],
    ["status:503", "503", true],
    ["page", "/productpage", true],
    ["path:/a.c", "/abc", false],
    ["path:/A", "/a", true],
  ])("%s on %s: %s", (text, found, expected) => expect(check(text, found)).toBe(expected));
});

test("numbers carry units", () => {
  expect(numberOf("250ms")).toBe(250);
  expect(numberOf("1.5s")).toBe(1500);
  expect(numberOf("300us")).toBeCloseTo(0.3);
  expect(numberOf("fast")).toBeNaN();
  const [slow] = parseFilter("dur>=1.5s", KEYS);
  expect(slow!.matchesNumber(1500)).toBe(true);
  expect(slow!.matchesNumber(1499)).toBe(false);
});

test.each([
  ["colour:red", "colour"],
  ["status:", "lacks a value"],
  ["dur>soon", "soon"],
])("%s is refused, naming %s", (text, named) => {
  expect(() => parseFilter(text, KEYS)).toThrow(FilterError);
  expect(() => parseFilter(text, KEYS)).toThrow(named);
});

test("a value with spaces is quoted and reads back", () => {
  expect(term("path", "/a b")).toBe('path:"/a b"');
  expect(check(term("path", "/a b"), "/a b")).toBe(true);
});

describe("completion", () => {
  const values = (key: string) => (key === "ns" ? ["bookinfo", "istio-system"] : []);

  test("keys, then values", () => {
    expect(completeFilter("st", 2, KEYS, values).suggestions.map(({ insert }) => insert)).toEqual(["status:"]);
    expect(completeFilter("ns:istio", 8, KEYS, values).suggestions.map(({ label }) => label)).toEqual(["istio-system"]);
  });

  test("a suggestion takes the place of the word at the cursor only", () => {
    const text = "status:5xx -ns:bo dur>1s";
    const completion = completeFilter(text, 17, KEYS, values);
    expect(applySuggestion(text, completion, completion.suggestions[0]!)).toEqual({ text: "status:5xx -ns:bookinfo dur>1s", cursor: 23 });
  });
});
