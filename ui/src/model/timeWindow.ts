/**
 * The one notion of time on all pages: a length, and an end. The end is null while the page is
 * live ("the last 5 minutes"), or a fixed instant (replay, absolute ranges).
 */
export interface TimeWindow {
  durationS: number;
  endUnixS: number | null;
}

export interface Span {
  startMs: number;
  endMs: number;
}

const UNIT_S: Record<string, number> = { s: 1, m: 60, h: 3600, d: 86_400, w: 604_800 };

/** "90s", "5m", "1h30m" into seconds; null when it is no duration. */
export function parseDurationS(text: string): number | null {
  if (!/^(\d+[smhdw])+$/.test(text)) return null;
  let total = 0;
  for (const [, amount, unit] of text.matchAll(/(\d+)([smhdw])/g)) total += Number(amount) * UNIT_S[unit!]!;
  return total > 0 && total <= 366 * 86_400 ? total : null;
}

/** The shortest text that `parseDurationS` reads back to the same number. */
export function formatDurationS(durationS: number): string {
  for (const unit of ["d", "h", "m"]) {
    const size = UNIT_S[unit]!;
    if (durationS >= size && durationS % size === 0) return `${durationS / size}${unit}`;
  }
  let left = durationS;
  let text = "";
  for (const unit of ["h", "m", "s"]) {
    const size = UNIT_S[unit]!;
    if (left >= size) {
      text += `${Math.floor(left / size)}${unit}`;
      left %= size;
    }
  }
  return text;
}

export function spanOf(window: TimeWindow, nowMs: number): Span {
  const endMs = window.endUnixS === null ? nowMs : window.endUnixS * 1000;
  return { startMs: endMs - window.durationS * 1000, endMs };
}

export const DURATIONS_S = [60, 300, 600, 1800, 3600, 10_800, 21_600, 43_200, 86_400, 604_800];

const pad = (value: number, width = 2): string => String(value).padStart(width, "0");

export function clock(unixMs: number, withMillis = false): string {
  const at = new Date(unixMs);
  const time = `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;
  return withMillis ? `${time}.${pad(at.getMilliseconds(), 3)}` : time;
}

export function dateAndClock(unixMs: number): string {
  const at = new Date(unixMs);
  return `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())} ${clock(unixMs)}`;
}

/** The value of an `<input type=datetime-local>` in the viewer's zone. */
export const localInput = (unixMs: number): string => dateAndClock(unixMs).replace(" ", "T");

/** How long ago, in words: "just now", "12s ago", "3m ago". */
export function ago(unixMs: number, nowMs: number): string {
  const pastS = Math.round((nowMs - unixMs) / 1000);
  if (pastS < 2) return "just now";
  if (pastS < 60) return `${pastS}s ago`;
  if (pastS < 3600) return `${Math.floor(pastS / 60)}m ago`;
  if (pastS < 86_400) return `${Math.floor(pastS / 3600)}h ago`;
  return `${Math.floor(pastS / 86_400)}d ago`;
}
