/** What the page of alerts knows of rules: which of them are shown, and what stands above them. */
export type AlertState = "inactive" | "pending" | "firing";

export interface Alert {
  labels: Record<string, string>;
  annotations: Record<string, string>;
  state: AlertState;
  activeAtMs: number | null;
  /** Since when the condition is over while the alert is kept firing. */
  keptSinceMs: number | null;
  /** As the server writes it. */
  value: string;
}

export interface Rule {
  type: "alerting" | "recording";
  name: string;
  query: string;
  labels: Record<string, string>;
  annotations: Record<string, string>;
  holdS: number;
  keepS: number;
  state: AlertState;
  alerts: Alert[];
  health: "ok" | "err" | "unknown";
  lastError: string;
  tookS: number;
  evaluatedMs: number | null;
}

export interface RuleGroup {
  name: string;
  file: string;
  intervalS: number;
  tookS: number;
  evaluatedMs: number | null;
  rules: Rule[];
}

/** What a rule counts as: a rule that fails is that before anything else. */
export type Standing = "failing" | "firing" | "pending" | "inactive" | "recording";

export const STANDINGS: readonly Standing[] = ["failing", "firing", "pending", "inactive", "recording"];

export function standingOf(rule: Rule): Standing {
  if (rule.health === "err") return "failing";
  return rule.type === "recording" ? "recording" : rule.state;
}

export function countStandings(groups: readonly RuleGroup[]): Record<Standing, number> {
  const counts = { failing: 0, firing: 0, pending: 0, inactive: 0, recording: 0 };
  for (const { rules } of groups) for (const rule of rules) counts[standingOf(rule)] += 1;
  return counts;
}

/** Everything that the box searches of a rule. */
function textOf(group: RuleGroup, rule: Rule): string {
  const pairs = (labels: Record<string, string>) => Object.entries(labels).map(([name, value]) => `${name}=${value}`);
  return [group.name, group.file, rule.name, rule.query, ...pairs(rule.labels), ...rule.alerts.flatMap(({ labels }) => pairs(labels))].join("\n").toLowerCase();
}

/** The groups with those of their rules that are of a wanted standing (none named: of any) and hold every word. */
export function filterRules(groups: readonly RuleGroup[], standings: readonly Standing[], words: string): RuleGroup[] {
  const wanted = words.toLowerCase().split(/\s+/).filter((word) => word !== "");
  return groups
    .map((group) => ({
      ...group,
      rules: group.rules.filter((rule) => {
        if (standings.length > 0 && !standings.includes(standingOf(rule))) return false;
        const text = wanted.length > 0 ? textOf(group, rule) : "";
        return wanted.every((word) => text.includes(word));
      }),
    }))
    .filter(({ rules }) => rules.length > 0);
}

/** "5e+00" as "5": the server writes the values of alerts with an exponent. */
export function valueText(value: string): string {
  const parsed = Number(value);
  return value.trim() === "" || Number.isNaN(parsed) ? value : String(parsed);
}
