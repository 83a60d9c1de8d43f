/**
 * State that lives in the address line. Each field reads from text (never fails: nonsense gives
 * the default) and writes the shortest text, or null when it has the default value.
 */
export interface Field<T> {
  read(text: string | null): T;
  write(value: T): string | null;
}

export type Codec<T extends object> = { [K in keyof T]: Field<T[K]> };

export const text = (fallback = ""): Field<string> => ({
  read: (found) => found ?? fallback,
  write: (value) => (value === fallback ? null : value),
});

export const oneOf = <T extends string>(choices: readonly T[], fallback: T): Field<T> => ({
  read: (found) => (choices.includes(found as T) ? (found as T) : fallback),
  write: (value) => (value === fallback ? null : value),
});

export const flag = (fallback: boolean): Field<boolean> => ({
  read: (found) => (found === "1" ? true : found === "0" ? false : fallback),
  write: (value) => (value === fallback ? null : value ? "1" : "0"),
});

/** A set in a fixed order; "-" stands for the empty set when the default is not empty. */
export const list = <T extends string>(fallback: readonly T[] = [], choices?: readonly T[]): Field<readonly T[]> => ({
  read: (found) => {
    if (found === null) return fallback;
    if (found === "-") return [];
    const items = found.split(",").filter((item) => item !== "") as T[];
    return choices ? choices.filter((choice) => items.includes(choice)) : [...new Set(items)];
  },
  write: (value) => {
    const joined = value.join(",");
    if (joined === fallback.join(",")) return null;
    return joined === "" ? "-" : joined;
  },
});

export const whole = (fallback: number, least: number, most: number): Field<number> => ({
  read: (found) => {
    const value = found === null || !/^\d+$/.test(found) ? NaN : Number(found);
    return value >= least && value <= most ? value : fallback;
  },
  write: (value) => (value === fallback ? null : String(value)),
});

export function decodeState<T extends object>(codec: Codec<T>, search: string): T {
  const query = new URLSearchParams(search);
  const state = {} as T;
  for (const key in codec) state[key] = codec[key].read(query.get(key));
  return state;
}

/** The search text for a state; parameters of other fields in `search` stay as they are. */
export function encodeState<T extends object>(codec: Codec<T>, state: Partial<T>, search = ""): string {
  const query = new URLSearchParams(search);
  for (const key in codec) {
    const value = state[key];
    if (value === undefined) continue;
    const written = codec[key].write(value as T[typeof key]);
    if (written === null) query.delete(key);
    else query.set(key, written);
  }
  const encoded = query.toString().replaceAll("%2C", ",").replaceAll("%3A", ":").replaceAll("%2F", "/");
  return encoded === "" ? "" : `?${encoded}`;
}
