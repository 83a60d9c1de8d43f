import { describe, expect, test } from "vitest";
import { type Rule, type RuleGroup, countStandings, filterRules, standingOf, valueText } from "./rules";

const rule = (patch: Partial<Rule>): Rule => ({
  type: "alerting",
  name: "High",
  query: "m > 1",
  labels: {},
  annotations: {},
  holdS: 0,
  keepS: 0,
  state: "inactive",
  alerts: [],
  health: "ok",
  lastError: "",
  tookS: 0,
  evaluatedMs: null,
  ...patch,
});

const group = (name: string, rules: Rule[]): RuleGroup => ({ name, file: `${name}.yml`, intervalS: 60, tookS: 0, evaluatedMs: null, rules });

const alert = { labels: { pod: "reviews-v1" }, annotations: {}, state: "firing" as const, activeAtMs: 0, keptSinceMs: null, value: "1e+00" };

const groups = [
  group("mesh", [rule({ name: "Errors", state: "firing", labels: { severity: "page" }, alerts: [alert] }), rule({ name: "Slow", state: "pending" })]),
  group("records", [rule({ type: "recording", name: "m:sum", query: "sum(m)" }), rule({ name: "Broken", state: "firing", health: "err" })]),
];

describe("rules", () => {
  test("a rule that fails counts as failing, whatever its state", () => {
    expect(groups.flatMap(({ rules }) => rules).map(standingOf)).toEqual(["firing", "pending", "recording", "failing"]);
    expect(countStandings(groups)).toEqual({ failing: 1, firing: 1, pending: 1, inactive: 0, recording: 1 });
  });

  test.each([
    [[], "", ["Errors", "Slow", "m:sum", "Broken"]],
    [["firing"], "", ["Errors"]],
    [["pending", "failing"], "", ["Slow", "Broken"]],
    [[], "severity=page", ["Errors"]],
    [[], "REVIEWS mesh", ["Errors"]],
    [[], "sum(m) records", ["m:sum"]],
    [["pending"], "errors", []],
  ] as const)("%j and %j show %j", (standings, words, names) => {
    expect(filterRules(groups, standings, words).flatMap(({ rules }) => rules.map(({ name }) => name))).toEqual(names);
  });

  test.each([
    ["5e+00", "5"],
    ["1.25e-02", "0.0125"],
    ["1e+21", "1e+21"],
    ["NaN", "NaN"],
    ["+Inf", "+Inf"],
    ["", ""],
  ])("the value %s is shown as %s", (value, text) => {
    expect(valueText(value)).toBe(text);
  });
});
