/**
 * The filter grammar of the graph, traces and logs: terms in a row, all of which must hold.
 * `key:value`, `-key:value`, `key>1`, `>=`, `<`, `<=`, `*` in values, quotes around spaces, and
 * bare words. The server reads the same grammar; here it serves the graph's find box, completion,
 * and a first check while a person types.
 */
export type Operator = ":" | ">" | ">=" | "<" | "<=";

export class FilterError extends Error {}

export class Term {
  private readonly pattern: RegExp;

  constructor(
    /** "" for a bare word. */
    readonly key: string,
    readonly operator: Operator,
    readonly value: string,
    readonly negated: boolean,
  ) {
    this.pattern = wildcard(key === "" ? `*${value}*` : value, key === "status");
  }

  matchesText(text: string): boolean {
    return this.pattern.test(text) !== this.negated;
  }

  /** True when any of the texts fits; for a negated term, when none does. */
  matchesAny(texts: readonly string[]): boolean {
    return texts.some((text) => text !== "" && this.pattern.test(text)) !== this.negated;
  }

  matchesNumber(found: number): boolean {
    return compare(found, this.operator, numberOf(this.value)) !== this.negated;
  }
}

function compare(found: number, operator: Operator, wanted: number): boolean {
  switch (operator) {
    case ">":
      return found > wanted;
    case ">=":
      return found >= wanted;
    case "<":
      return found < wanted;
    case "<=":
      return found <= wanted;
    default:
      return found === wanted;
  }
}

/** `250ms`, `1.5s`, `2m` and `300us` as milliseconds; a bare number as itself. NaN when it is none. */
export function numberOf(text: string): number {
  const found = /^(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)?$/.exec(text);
  if (!found) return NaN;
  const scale = { ns: 1e-6, us: 1e-3, "µs": 1e-3, ms: 1, s: 1000, m: 60_000, h: 3_600_000 }[found[2] ?? "ms"]!;
  return Number(found[1]) * scale;
}

function wildcard(value: string, isStatus: boolean): RegExp {
  const classed = isStatus && /^[1-5]xx$/i.test(value) ? `${value[0]}??` : value;
  const source = classed.replace(/[.+^${}()|[\]\\]/g, "\\$&").replace(/\*/g, ".*").replace(/\?/g, isStatus ? "." : "\\?");
  return new RegExp(`^${source}$`, "i");
}

export interface Token {
  text: string;
  start: number;
  end: number;
}

/** Splits at spaces outside of quotes. */
export function tokens(text: string): Token[] {
  const found: Token[] = [];
  for (const match of text.matchAll(/(?:"[^"]*"?|[^\s"])+/g)) {
    found.push({ text: match[0], start: match.index, end: match.index + match[0].length });
  }
  return found;
}

const NUMERIC_KEYS = new Set(["dur", "rate", "err"]);

export function parseFilter(text: string, keys: Readonly<Record<string, string>>): Term[] {
  return tokens(text).map(({ text: token }) => parseTerm(token, keys));
}

function parseTerm(token: string, keys: Readonly<Record<string, string>>): Term {
  const negated = token.startsWith("-") && token.length > 1;
  const body = negated ? token.slice(1) : token;
  const found = /^([A-Za-z_][\w.]*)(:|>=|<=|>|<)(.*)$/.exec(body);
  if (!found) return new Term("", ":", body.replaceAll('"', ""), negated);
  const [, key, operator, rawValue] = found as unknown as [string, string, Operator, string];
  const value = rawValue.replaceAll('"', "");
  if (!(key in keys)) throw new FilterError(`unknown key “${key}”; known keys: ${Object.keys(keys).join(", ")}`);
  if (value === "") throw new FilterError(`“${key}${operator}” lacks a value`);
  const numeric = NUMERIC_KEYS.has(key) || operator !== ":";
  if (numeric && Number.isNaN(numberOf(value))) throw new FilterError(`“${value}” is no number for ${key}`);
  return new Term(key, operator, value, negated);
}

/** Quotes a value where the grammar needs it. */
export const term = (key: string, value: string): string => `${key}:${/[\s"]/.test(value) ? `"${value.replaceAll('"', "")}"` : value}`;
