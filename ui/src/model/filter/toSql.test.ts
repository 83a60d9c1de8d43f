import { describe, expect, test } from "vitest";
import { bucketsOf, histogramQuery } from "../logHistogram";
import { accessLogCondition } from "./toSql";

describe("the filter as SQL", () => {
  test.each([
    ["", null],
    ["status:5xx", "(response_code / 100 = 5)"],
    ["status>=500", "(response_code >= 500)"],
    ["dur>250ms", "(duration_us > 250000)"],
    ["dest:ratings-*", "(coalesce(lower(destination_workload), '') like 'ratings-%' escape '\\')"],
    ["-method:GET", "not (coalesce(lower(method), '') like 'get' escape '\\')"],
    ["host:a_b", "(coalesce(lower(authority), '') like 'a\\_b' escape '\\')"],
    ["flag:DI", "(coalesce(lower(',' || response_flags || ','), '') like '%,di,%' escape '\\')"],
    ["trace:ab", `(trace_id = x'${"0".repeat(30)}ab')`],
  ])("%s", (text, sql) => expect(accessLogCondition(text)).toBe(sql));

  test("quotes cannot end the text", () => {
    expect(accessLogCondition("host:a';drop")).toContain("'a'';drop'");
    expect(accessLogCondition("trace:x'")).toBe("(false)");
    expect(accessLogCondition("status:5;drop")).toBe("(response_code = 0)");
  });
});

test("buckets cover the span, empty ones too", () => {
  const span = { startMs: Date.parse("2026-01-01T00:00:03Z"), endMs: Date.parse("2026-01-01T00:00:31Z") };
  expect(histogramQuery("(true)", span, 10)).toContain("interval '10 seconds'");
  const buckets = bucketsOf([["2026-01-01T00:00:10Z", 2, 7], ["2026-01-01T00:00:10Z", 5, 1]], span, 10);
  expect(buckets.map(({ total }) => total)).toEqual([0, 8, 0, 0]);
  expect(buckets[1]!.classes).toEqual({ 2: 7, 5: 1 });
});
