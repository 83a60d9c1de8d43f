/** Text and health colours keep a contrast of 4.5:1 on the surfaces that they stand on (WCAG AA). */
import { expect, test } from "vitest";
import css from "./tokens.css?raw";

const [light, dark] = css.split(':root[data-theme="dark"]') as [string, string];

const read = (block: string): Record<string, string> =>
  Object.fromEntries([...block.matchAll(/--([\w-]+):\s*(#[0-9a-f]{6});/g)].map(([, name, value]) => [name, value]));

const themes = { light: read(light), dark: { ...read(light), ...read(dark) } };

function luminance(hex: string): number {
  const channel = (at: number) => {
    const value = parseInt(hex.slice(at, at + 2), 16) / 255;
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  };
  return 0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5);
}

function contrast(a: string, b: string): number {
  const [high, low] = [luminance(a), luminance(b)].sort((x, y) => y - x) as [number, number];
  return (high + 0.05) / (low + 0.05);
}

const words = ["text", "text-soft", "text-muted", "accent", "bad"];
const states = ["healthy", "degraded", "failing", "idle", "code-2xx", "code-3xx", "code-4xx", "code-5xx", "code-none"];
const grounds: Record<string, string[]> = { surface: [...words, ...states], page: words, "graph-node": [...words, ...states] };
const pairs = Object.keys(themes).flatMap((theme) => Object.entries(grounds).flatMap(([ground, inks]) => inks.map((ink) => [theme, ink, ground] as const)));

test.each(pairs)("%s: %s on %s", (theme, ink, ground) => {
  const tokens = themes[theme as keyof typeof themes];
  expect(contrast(tokens[ink]!, tokens[ground]!)).toBeGreaterThanOrEqual(4.5);
});
