/** What may come next in a filter box: keys while a key is typed, known values after the colon. */
import { tokens } from "./grammar";

export interface Suggestion {
  /** Text that takes the place of the token at the cursor. */
  insert: string;
  label: string;
  detail: string;
}

export interface Completion {
  start: number;
  end: number;
  suggestions: Suggestion[];
}

const LIMIT = 12;

export function completeFilter(
  text: string,
  cursor: number,
  keys: Readonly<Record<string, string>>,
  values: (key: string) => readonly string[],
): Completion {
  const token = tokens(text).find(({ start, end }) => start <= cursor && cursor <= end) ?? { text: "", start: cursor, end: cursor };
  const typed = token.text.slice(0, cursor - token.start);
  const sign = typed.startsWith("-") ? "-" : "";
  const body = typed.slice(sign.length);
  const colon = body.indexOf(":");
  const place = { start: token.start, end: token.end };
  if (colon < 0) {
    const suggestions = Object.entries(keys)
      .filter(([key]) => key.startsWith(body.toLowerCase()))
      .map(([key, detail]) => ({ insert: `${sign}${key}${key === "dur" || key === "err" || key === "rate" ? ">" : ":"}`, label: key, detail }));
    return { ...place, suggestions: suggestions.slice(0, LIMIT) };
  }
  const key = body.slice(0, colon);
  const wanted = body.slice(colon + 1).replaceAll('"', "").toLowerCase();
  const suggestions = values(key)
    .filter((value) => value.toLowerCase().includes(wanted))
    .map((value) => ({ insert: `${sign}${key}:${/\s/.test(value) ? `"${value}"` : value} `, label: value, detail: "" }));
  return { ...place, suggestions: suggestions.slice(0, LIMIT) };
}

/** The text and cursor after a suggestion was taken. */
export function applySuggestion(text: string, completion: Completion, suggestion: Suggestion): { text: string; cursor: number } {
  const rest = text.slice(completion.end);
  const insert = suggestion.insert.endsWith(" ") && rest.startsWith(" ") ? suggestion.insert.trimEnd() : suggestion.insert;
  return { text: text.slice(0, completion.start) + insert + rest, cursor: completion.start + insert.length };
}
