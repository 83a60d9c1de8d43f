/** Recording and alerting rules, and the alerts that they have raised: Prometheus' `/api/v1/rules`. */
import type { Alert, Rule, RuleGroup } from "../model/rules/rules";
import { type Decode, dictionary, list, nullable, number, or, record, string } from "./decode";
import { get } from "./door";

/** RFC 3339; Prometheus writes the year 1 for "never". */
const instant: Decode<number | null> = (value, at) => {
  const unixMs = Date.parse(string(value, at));
  return Number.isNaN(unixMs) || unixMs <= 0 ? null : unixMs;
};

const oneOf =
  <T extends string>(choices: readonly T[], fallback: T): Decode<T> =>
  (value) =>
    choices.includes(value as T) ? (value as T) : fallback;

const states = ["inactive", "pending", "firing"] as const;

const alert: Decode<Alert> = (value, at) => {
  const found = record({
    labels: dictionary(string),
    annotations: dictionary(string),
    state: oneOf(states, "pending"),
    activeAt: instant,
    keepFiringSince: nullable(instant),
    value: string,
  })(value, at);
  return { ...found, activeAtMs: found.activeAt, keptSinceMs: found.keepFiringSince };
};

const rule: Decode<Rule> = (value, at) => {
  const found = record({
    type: oneOf(["alerting", "recording"] as const, "recording"),
    name: string,
    query: string,
    labels: dictionary(string),
    annotations: dictionary(string),
    duration: or(number, 0),
    keepFiringFor: or(number, 0),
    state: oneOf(states, "inactive"),
    alerts: list(alert),
    health: oneOf(["ok", "err", "unknown"] as const, "unknown"),
    lastError: or(string, ""),
    evaluationTime: number,
    lastEvaluation: instant,
  })(value, at);
  return { ...found, holdS: found.duration, keepS: found.keepFiringFor, tookS: found.evaluationTime, evaluatedMs: found.lastEvaluation };
};

const group: Decode<RuleGroup> = (value, at) => {
  const found = record({
    name: string,
    file: string,
    interval: number,
    evaluationTime: number,
    lastEvaluation: instant,
    rules: list(rule),
  })(value, at);
  return { name: found.name, file: found.file, intervalS: found.interval, tookS: found.evaluationTime, evaluatedMs: found.lastEvaluation, rules: found.rules };
};

const answer = record({ data: record({ groups: list(group) }) });

export const fetchRules = async (signal?: AbortSignal): Promise<RuleGroup[]> => (await get("/api/v1/rules", {}, answer, signal)).data.groups;
