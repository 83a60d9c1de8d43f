/** What the command palette offers for what was typed. */
export interface Entry {
  title: string;
  detail: string;
  href: string;
}

const SHOWN = 12;

/** Every typed word must occur; titles that start with the first word come first, then the order of `entries`. */
export function rankEntries(entries: readonly Entry[], typed: string): Entry[] {
  const words = typed.toLowerCase().split(/\s+/).filter((word) => word !== "");
  if (words.length === 0) return entries.slice(0, SHOWN);
  const traceId = /^[0-9a-f]{16,32}$/.test(words[0]!) ? words[0]! : null;
  const found = entries.filter(({ title, detail }) => {
    const text = `${title} ${detail}`.toLowerCase();
    return words.every((word) => text.includes(word));
  });
  const starts = found.filter(({ title }) => title.toLowerCase().startsWith(words[0]!));
  const others = found.filter((entry) => !starts.includes(entry));
  const direct = traceId ? [{ title: traceId, detail: "trace", href: `/traces/${traceId}` }] : [];
  return [...direct, ...starts, ...others].slice(0, SHOWN);
}
