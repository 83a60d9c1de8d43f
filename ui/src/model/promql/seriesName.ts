/** How a series is called in legends and tables. */
export function seriesName(labels: Readonly<Record<string, string>>): string {
  const { __name__: metric = "", ...rest } = labels;
  const pairs = Object.entries(rest).map(([name, value]) => `${name}="${value}"`);
  if (pairs.length === 0) return metric || "value";
  return `${metric}{${pairs.join(", ")}}`;
}

/** Labels that differ between the series: the others say the same about all, and are left out of short names. */
export function shortNames(all: readonly Readonly<Record<string, string>>[]): string[] {
  const names = [...new Set(all.flatMap((labels) => Object.keys(labels)))];
  const telling = names.filter((name) => new Set(all.map((labels) => labels[name])).size > 1);
  if (telling.length === 0) return all.map(seriesName);
  return all.map((labels) => telling.map((name) => labels[name] ?? "–").join(" · "));
}
