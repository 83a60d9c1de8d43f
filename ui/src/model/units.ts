/** Numbers into the words that a person reads. Every function is total: null gives "–". */

const NONE = "–";

/** Three significant digits at most, thousands shortened: 0.042, 1.23, 12.3, 4.57k, 1.2M. */
export function compact(value: number | null | undefined): string {
  if (value === null || value === undefined || Number.isNaN(value)) return NONE;
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "-∞";
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size >= 999.5e9) return value.toExponential(1);
  if (size >= 999.5e6) return trim(value / 1e9, 3) + "G";
  if (size >= 999.5e3) return trim(value / 1e6, 3) + "M";
  if (size >= 9999.5) return trim(value / 1e3, 3) + "k";
  if (size >= 999.5) return String(Math.round(value));
  if (size >= 0.001) return trim(value, 3);
  return value.toExponential(1);
}

function trim(value: number, digits: number): string {
  const text = value.toPrecision(digits);
  const plain = text.includes("e") ? String(Number(text)) : text;
  return plain.includes(".") ? plain.replace(/\.?0+$/, "") : plain;
}

/** Rates below one in ten seconds read better by the minute. */
export function perSecond(rate: number | null | undefined): string {
  if (rate === null || rate === undefined) return NONE;
  return rate > 0 && rate < 0.1 ? `${trim(rate * 60, 2)}/min` : `${compact(rate)}/s`;
}

/** A share of 0..1 as percent; a share above zero never reads as "0%". */
export function percent(share: number | null | undefined): string {
  if (share === null || share === undefined || Number.isNaN(share)) return NONE;
  const value = share * 100;
  if (value === 0) return "0%";
  if (value < 0.01) return "<0.01%";
  if (value < 1) return `${trim(value, 2)}%`;
  if (value > 99.9 && value < 100) return ">99.9%";
  return `${trim(value, 3)}%`;
}

/** Milliseconds as the unit a person would say: 0.8µs, 120µs, 34ms, 1.20s, 2m 5s. */
export function millis(ms: number | null | undefined): string {
  if (ms === null || ms === undefined || Number.isNaN(ms)) return NONE;
  if (!Number.isFinite(ms)) return "∞";
  const size = Math.abs(ms);
  if (size === 0) return "0ms";
  if (size < 1) return `${trim(ms * 1000, 3)}µs`;
  if (size < 999.5) return `${trim(ms, 3)}ms`;
  if (size < 59_950) return `${trim(ms / 1000, 3)}s`;
  return seconds(ms / 1000);
}

/** Whole seconds as the two largest units: 45s, 2m 5s, 3h, 1d 4h. */
export function seconds(total: number): string {
  let left = Math.round(total);
  const parts: string[] = [];
  for (const [name, size] of [["d", 86_400], ["h", 3600], ["m", 60], ["s", 1]] as const) {
    if (left >= size) {
      parts.push(`${Math.floor(left / size)}${name}`);
      left %= size;
    }
  }
  return parts.slice(0, 2).join(" ") || "0s";
}

export function bytes(count: number | null | undefined): string {
  if (count === null || count === undefined) return NONE;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = count;
  let unit = 0;
  while (Math.abs(value) >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${trim(value, 3)} ${units[unit]}`;
}

/** Counts in full with thin group marks: 1 234 567. */
export const count = (value: number | null | undefined): string =>
  value === null || value === undefined
    ? NONE
    : Math.round(value).toString().replace(/\B(?=(\d{3})+$)/g, "\u202f");

export const plural = (value: number, one: string, many = `${one}s`): string =>
  `${count(value)} ${value === 1 ? one : many}`;
