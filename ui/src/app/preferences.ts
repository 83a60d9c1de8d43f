/** What a person prefers, in localStorage. Only a person's own action writes it, never a link. */
import { effect, signal } from "@preact/signals";

export type Theme = "system" | "light" | "dark";

const KEY = "pharos.theme";

function stored(): Theme {
  try {
    const found = localStorage.getItem(KEY);
    return found === "light" || found === "dark" ? found : "system";
  } catch {
    return "system";
  }
}

export const theme = signal<Theme>(stored());

const darkQuery = matchMedia("(prefers-color-scheme: dark)");
const motionQuery = matchMedia("(prefers-reduced-motion: reduce)");

/** What the page shows now. */
export const isDark = signal(false);
export const reducedMotion = signal(motionQuery.matches);

effect(() => {
  isDark.value = theme.value === "dark" || (theme.value === "system" && darkQuery.matches);
  document.documentElement.dataset.theme = isDark.value ? "dark" : "light";
});
darkQuery.addEventListener("change", () => {
  if (theme.peek() !== "system") return;
  isDark.value = darkQuery.matches;
  document.documentElement.dataset.theme = isDark.value ? "dark" : "light";
});
motionQuery.addEventListener("change", () => (reducedMotion.value = motionQuery.matches));

export function chooseTheme(next: Theme): void {
  theme.value = next;
  try {
    if (next === "system") localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, next);
  } catch {
    // Private windows may refuse storage; the choice then lasts as long as the page.
  }
}

const HINT_KEY = "pharos.hint";

/** The first-run hint on the graph, until it is dismissed. */
export const showHint = signal(readHint());

function readHint(): boolean {
  try {
    return localStorage.getItem(HINT_KEY) === null;
  } catch {
    return false;
  }
}

export function dismissHint(): void {
  showHint.value = false;
  try {
    localStorage.setItem(HINT_KEY, "seen");
  } catch {
    // It comes back with the next page load, which does no harm.
  }
}

export const toggleTheme = (): void => chooseTheme(isDark.peek() ? "light" : "dark");
