/** Where the app is: path and search of the address line as signals. */
import { computed, signal } from "@preact/signals";
import { useMemo } from "preact/hooks";
import { type Codec, type Field, decodeState, encodeState } from "../model/urlState";
import { type TimeWindow, formatDurationS, parseDurationS } from "../model/timeWindow";

export const path = signal(location.pathname);
export const search = signal(location.search);

window.addEventListener("popstate", () => {
  path.value = location.pathname;
  search.value = location.search;
});

/** Goes to another place; Back returns to this one. */
export function navigate(to: string): void {
  const url = new URL(to, location.href);
  history.pushState(null, "", url);
  path.value = url.pathname;
  search.value = url.search;
}

function replaceSearch(next: string, push: boolean): void {
  if (next === search.value) return;
  const url = location.pathname + next;
  if (push) history.pushState(null, "", url);
  else history.replaceState(null, "", url);
  search.value = next;
}

export type Update<T> = (patch: Partial<T>, how?: { push?: boolean }) => void;

/** A page's state, read from the address line and written back to it. */
export function useUrlState<T extends object>(codec: Codec<T>): [state: T, update: Update<T>] {
  const found = search.value;
  const state = useMemo(() => decodeState(codec, found), [codec, found]);
  const update = useMemo<Update<T>>(
    () => (patch, how) => replaceSearch(encodeState(codec, patch, search.value), how?.push ?? false),
    [codec],
  );
  return [state, update];
}

const duration = (fallbackS: number): Field<number> => ({
  read: (found) => (found === null ? null : parseDurationS(found)) ?? fallbackS,
  write: (value) => (value === fallbackS ? null : formatDurationS(value)),
});

const instant: Field<number | null> = {
  read: (found) => (found !== null && /^\d{9,11}$/.test(found) ? Number(found) : null),
  write: (value) => (value === null ? null : String(Math.round(value))),
};

/** The time window is the same on all pages: `d` is its length, `at` its end (absent: now). */
export const windowCodec: Codec<{ d: number; at: number | null }> = { d: duration(300), at: instant };

export const timeWindow = computed<TimeWindow>(() => {
  const { d, at } = decodeState(windowCodec, search.value);
  return { durationS: d, endUnixS: at };
});

export function setTimeWindow(window: TimeWindow, how?: { push?: boolean }): void {
  replaceSearch(encodeState(windowCodec, { d: window.durationS, at: window.endUnixS }, search.value), how?.push ?? false);
}

/** An address inside the app that keeps the time window. */
export function hrefTo(to: string, params: Record<string, string | null> = {}): string {
  const query = new URLSearchParams(encodeState(windowCodec, decodeState(windowCodec, search.value)));
  for (const [key, value] of Object.entries(params)) if (value !== null && value !== "") query.set(key, value);
  const encoded = query.toString();
  return encoded === "" ? to : `${to}?${encoded}`;
}
