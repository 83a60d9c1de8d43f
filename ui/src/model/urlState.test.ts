import { expect, test } from "vitest";
import { type Codec, decodeState, encodeState, flag, list, oneOf, text, whole } from "./urlState";

interface State {
  q: string;
  view: "graph" | "table";
  labels: readonly ("rate" | "p95" | "p99")[];
  on: boolean;
  every: number;
}

const codec: Codec<State> = {
  q: text(),
  view: oneOf(["graph", "table"], "graph"),
  labels: list<"rate" | "p95" | "p99">(["rate", "p95"], ["rate", "p95", "p99"]),
  on: flag(true),
  every: whole(5, 0, 60),
};

const defaults: State = { q: "", view: "graph", labels: ["rate", "p95"], on: true, every: 5 };

test("defaults are not written", () => expect(encodeState(codec, defaults)).toBe(""));

test("nonsense reads as the default", () => {
  expect(decodeState(codec, "?view=pie&labels=x,y&on=maybe&every=-3")).toEqual({ ...defaults, labels: [] });
  expect(decodeState(codec, "?every=61&every=9")).toEqual(defaults);
});

test.each<Partial<State>>([
  { q: "status:5xx dur>250ms -path:/a&b=c" },
  { labels: [] },
  { labels: ["p99"] },
  { on: false, every: 0, view: "table" },
])("%j survives the address line", (patch) => {
  const written = encodeState(codec, { ...defaults, ...patch });
  expect(decodeState(codec, written)).toEqual({ ...defaults, ...patch });
});

test("other parameters stay", () => {
  expect(encodeState(codec, { view: "table" }, "?d=5m&view=graph")).toBe("?d=5m&view=table");
  expect(encodeState(codec, { view: "graph" }, "?d=5m&view=table")).toBe("?d=5m");
});
