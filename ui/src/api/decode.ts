/**
 * Small decoders: what comes over the wire is checked once, at the door, and is typed from there
 * on. A failure names the place: "graph.elements.edges[3].data.source: expected a string".
 */
export type Decode<T> = (value: unknown, at: string) => T;

export class DecodeError extends Error {}

function fail(at: string, expected: string, value: unknown): never {
  const got = value === null ? "null" : Array.isArray(value) ? "an array" : `a ${typeof value}`;
  throw new DecodeError(`${at}: expected ${expected}, got ${got}`);
}

export const string: Decode<string> = (value, at) => (typeof value === "string" ? value : fail(at, "a string", value));

export const number: Decode<number> = (value, at) => (typeof value === "number" ? value : fail(at, "a number", value));

/** A number, or a string that holds one: Kiali and Prometheus write numbers as text. */
export const numeric: Decode<number> = (value, at) => {
  if (typeof value === "number") return value;
  if (value === "NaN") return NaN;
  if (value === "+Inf" || value === "Inf") return Infinity;
  if (value === "-Inf") return -Infinity;
  const parsed = typeof value === "string" && value.trim() !== "" ? Number(value) : NaN;
  return Number.isNaN(parsed) ? fail(at, "a number", value) : parsed;
};

export const flag: Decode<boolean> = (value) => value === true;

/** Present means true: Kiali marks some facts by an object (`isGateway`, `hasVS`). */
export const presence: Decode<boolean> = (value) => value !== undefined && value !== null && value !== false;

export const raw: Decode<unknown> = (value) => value;

export const nullable =
  <T>(inner: Decode<T>): Decode<T | null> =>
  (value, at) =>
    value === null || value === undefined ? null : inner(value, at);

export const or =
  <T>(inner: Decode<T>, fallback: T): Decode<T> =>
  (value, at) =>
    value === null || value === undefined ? fallback : inner(value, at);

export const list =
  <T>(inner: Decode<T>): Decode<T[]> =>
  (value, at) =>
    Array.isArray(value)
      ? value.map((item, index) => inner(item, `${at}[${index}]`))
      : value === null || value === undefined
        ? []
        : fail(at, "an array", value);

export const dictionary =
  <T>(inner: Decode<T>): Decode<Record<string, T>> =>
  (value, at) => {
    if (value === null || value === undefined) return {};
    if (typeof value !== "object" || Array.isArray(value)) return fail(at, "an object", value);
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, inner(item, `${at}.${key}`)]));
  };

export const record =
  <T extends object>(fields: { [K in keyof T]: Decode<T[K]> }): Decode<T> =>
  (value, at) => {
    if (typeof value !== "object" || value === null || Array.isArray(value)) return fail(at, "an object", value);
    const source = value as Record<string, unknown>;
    const result = {} as T;
    for (const key in fields) result[key] = fields[key](source[key], `${at}.${key}`);
    return result;
  };
