import { describe, expect, test } from "vitest";
import { type PromqlSource, completePromql, contextAt } from "./completion";
import { seriesName, shortNames } from "./seriesName";

const source: PromqlSource = {
  metrics: async () => ["istio_requests_total", "istio_request_bytes_sum", "up"],
  labels: async (metric) => (metric === "up" ? ["job"] : ["reporter", "response_code"]),
  values: async (label) => (label === "reporter" ? ["source", "destination"] : []),
};

/** `|` marks the cursor. */
const split = (marked: string): [string, number] => [marked.replace("|", ""), marked.indexOf("|")];

test.each([
  ["rat|", "word"],
  ["sum(rate(istio|", "word"],
  ["up{|", "label"],
  ['up{job="a", |', "label"],
  ['up{job="pro|', "value"],
  ["rate(up[|", "range"],
  ["sum by (|", "label"],
  ['up{job="a"} |', "word"],
  ['label_replace(up, "dst|', "none"],
])("%s is a %s", (marked, kind) => expect(contextAt(...split(marked)).kind).toBe(kind));

describe("suggestions", () => {
  const labels = async (marked: string) => (await completePromql(...split(marked), source)).suggestions.map(({ label }) => label);

  test("functions and metrics that start so come first", async () => {
    expect((await labels("hist|"))[0]).toBe("histogram_quantile");
    expect((await labels("istio_requests|"))[0]).toBe("istio_requests_total");
  });
  test("labels of the metric in front of the brace", async () => expect(await labels("up{|")).toEqual(["job"]));
  test("values of the label", async () => expect(await labels('istio_requests_total{reporter=~"sou|')).toEqual(["source"]));
  test("grouping knows the metric that follows", async () => expect(await labels("sum by (|) (rate(up[1m]))")).toEqual(["job"]));
});

test("series names", () => {
  expect(seriesName({ __name__: "up", job: "a" })).toBe('up{job="a"}');
  expect(seriesName({})).toBe("value");
  expect(shortNames([{ job: "a", zone: "x" }, { job: "b", zone: "x" }])).toEqual(["a", "b"]);
});
