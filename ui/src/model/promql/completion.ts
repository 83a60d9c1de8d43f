/** What may come next in a PromQL expression: worked out from the text before the cursor. */
import type { Completion, Suggestion } from "../filter/completion";

export interface PromqlSource {
  metrics(): Promise<readonly string[]>;
  labels(metric: string | null): Promise<readonly string[]>;
  values(label: string, metric: string | null): Promise<readonly string[]>;
}

export type Context =
  | { kind: "word"; start: number; typed: string }
  | { kind: "label"; start: number; typed: string; metric: string | null; within: "selector" | "grouping" }
  | { kind: "value"; start: number; typed: string; label: string; metric: string | null }
  | { kind: "range"; start: number; typed: string }
  | { kind: "none" };

const FUNCTIONS: Record<string, string> = {
  rate: "per-second increase of a counter",
  irate: "per-second increase of the last two samples",
  increase: "increase over the range",
  delta: "difference over the range, for gauges",
  histogram_quantile: "quantile from buckets: histogram_quantile(0.95, …)",
  sum: "sum over series",
  avg: "mean over series",
  min: "smallest over series",
  max: "largest over series",
  count: "number of series",
  topk: "the k largest series: topk(5, …)",
  bottomk: "the k smallest series",
  quantile: "quantile over series",
  stddev: "standard deviation over series",
  group: "1 for each group",
  avg_over_time: "mean over the range",
  min_over_time: "smallest over the range",
  max_over_time: "largest over the range",
  sum_over_time: "sum over the range",
  count_over_time: "samples in the range",
  quantile_over_time: "quantile over the range",
  last_over_time: "newest sample in the range",
  changes: "value changes over the range",
  resets: "counter resets over the range",
  deriv: "slope by linear regression",
  predict_linear: "value after so many seconds",
  abs: "absolute value",
  ceil: "next whole number up",
  floor: "next whole number down",
  round: "nearest whole number",
  clamp_min: "at least this",
  clamp_max: "at most this",
  ln: "natural logarithm",
  log2: "logarithm to base 2",
  log10: "logarithm to base 10",
  sqrt: "square root",
  absent: "1 when there is no such series",
  label_replace: "sets a label by a regular expression",
  label_join: "joins labels into one",
  sort: "by value, rising",
  sort_desc: "by value, falling",
  scalar: "a single series as a number",
  vector: "a number as a series",
  time: "evaluation time, unix seconds",
  timestamp: "time of each sample",
};

const AGGREGATES = new Set(["sum", "avg", "min", "max", "count", "topk", "bottomk", "quantile", "stddev", "stdvar", "group"]);
const KEYWORDS: Record<string, string> = { by: "group by labels", without: "group by all but labels", on: "match on labels", ignoring: "match on all but labels", offset: "look back", bool: "compare to 0 or 1", and: "both sides", or: "either side", unless: "left without right" };
const RANGES = ["1m", "2m", "5m", "10m", "30m", "1h"];
const LIMIT = 40;

export function contextAt(text: string, cursor: number): Context {
  let brace = -1;
  let quote = -1;
  let bracket = -1;
  for (let at = 0; at < cursor; at += 1) {
    const char = text[at]!;
    if (quote >= 0) {
      if (char === "\\") at += 1;
      else if (char === text[quote]) quote = -1;
    } else if (char === '"' || char === "'" || char === "`") quote = at;
    else if (char === "{") brace = at;
    else if (char === "}") brace = -1;
    else if (char === "[") bracket = at;
    else if (char === "]") bracket = -1;
  }
  const before = text.slice(0, cursor);
  if (brace >= 0) {
    const metric = /([a-zA-Z_:][\w:]*)\s*$/.exec(text.slice(0, brace))?.[1] ?? null;
    if (quote >= 0) {
      const label = /([a-zA-Z_]\w*)\s*(?:=~|!~|!=|=)\s*$/.exec(text.slice(brace + 1, quote))?.[1];
      return label ? { kind: "value", start: quote + 1, typed: text.slice(quote + 1, cursor), label, metric } : { kind: "none" };
    }
    const typed = /(?:^|[{,]\s*)([a-zA-Z_]\w*)?$/.exec(before.slice(brace));
    return typed ? { kind: "label", start: cursor - (typed[1]?.length ?? 0), typed: typed[1] ?? "", metric, within: "selector" } : { kind: "none" };
  }
  if (quote >= 0) return { kind: "none" };
  if (bracket >= 0) return { kind: "range", start: bracket + 1, typed: text.slice(bracket + 1, cursor) };
  const grouping = /\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^()]*)$/.exec(before);
  if (grouping) {
    const typed = /\w*$/.exec(grouping[1]!)![0];
    return { kind: "label", start: cursor - typed.length, typed, metric: anyMetric(text), within: "grouping" };
  }
  const word = /[a-zA-Z_:][\w:]*$/.exec(before)?.[0] ?? "";
  return { kind: "word", start: cursor - word.length, typed: word };
}

/** The first name in the text that is neither function nor keyword. */
function anyMetric(text: string): string | null {
  const withoutGroups = text.replace(/\b(?:by|without|on|ignoring)\s*\([^)]*\)?/g, " ").replace(/\{[^}]*\}?/g, " ").replace(/\[[^\]]*\]?/g, " ");
  for (const [name] of withoutGroups.matchAll(/[a-zA-Z_:][\w:]*/g)) if (!(name in FUNCTIONS) && !(name in KEYWORDS)) return name;
  return null;
}

export async function completePromql(text: string, cursor: number, source: PromqlSource): Promise<Completion> {
  const context = contextAt(text, cursor);
  const none = { start: cursor, end: cursor, suggestions: [] };
  switch (context.kind) {
    case "none":
      return none;
    case "range":
      return place(context, cursor, ranked(RANGES, context.typed).map((range) => ({ insert: `${range}]`, label: range, detail: "" })), text[cursor] === "]" ? 1 : 0);
    case "value": {
      const values = ranked(await source.values(context.label, context.metric), context.typed);
      return place(context, cursor, values.map((value) => ({ insert: value + (text[cursor] === text[context.start - 1] ? "" : text[context.start - 1]), label: value, detail: "" })));
    }
    case "label": {
      const labels = ranked((await source.labels(context.metric)).filter((label) => label !== "__name__"), context.typed);
      const suffix = context.within === "selector" ? '="' : "";
      return place(context, cursor, labels.map((label) => ({ insert: label + suffix, label, detail: "" })));
    }
    default: {
      if (context.typed === "") return none;
      const functions = { ...FUNCTIONS, ...KEYWORDS };
      const metrics: Suggestion[] = ranked(await source.metrics(), context.typed).map((name) => ({ insert: name, label: name, detail: "metric" }));
      const words: Suggestion[] = ranked(Object.keys(functions), context.typed).map((name) => ({
        insert: name in FUNCTIONS ? `${name}${AGGREGATES.has(name) ? " " : "("}` : name,
        label: name,
        detail: functions[name]!,
      }));
      const exact = words.filter(({ label }) => label.startsWith(context.typed.toLowerCase()));
      return place(context, cursor, [...exact, ...metrics, ...words.filter((word) => !exact.includes(word))]);
    }
  }
}

const place = (context: { start: number }, cursor: number, suggestions: Suggestion[], over = 0): Completion => ({
  start: context.start,
  end: cursor + over,
  suggestions: suggestions.slice(0, LIMIT),
});

/** Names that start with what was typed, then those that hold it anywhere. */
function ranked(names: readonly string[], typed: string): string[] {
  const wanted = typed.toLowerCase();
  const starts = names.filter((name) => name.toLowerCase().startsWith(wanted));
  const holds = names.filter((name) => !name.toLowerCase().startsWith(wanted) && name.toLowerCase().includes(wanted));
  return [...starts, ...holds];
}
