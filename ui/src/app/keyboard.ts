/** Keys of the whole app. A sequence like "g t" is two presses within a second. */
import { useEffect, useRef } from "preact/hooks";

export type Bindings = Record<string, (event: KeyboardEvent) => void>;

const SEQUENCE_MS = 1000;

const isTyping = (target: EventTarget | null): boolean =>
  target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));

/** Names are `KeyboardEvent.key` values, sequences are joined by a space, Ctrl is "Ctrl+". */
export function useKeys(bindings: Bindings): void {
  const current = useRef(bindings);
  current.current = bindings;
  useEffect(() => {
    let first: { key: string; atMs: number } | null = null;
    const onKey = (event: KeyboardEvent) => {
      if (event.defaultPrevented || event.altKey || event.metaKey) return;
      if (isTyping(event.target) && event.key !== "Escape" && !event.ctrlKey) return;
      const key = event.ctrlKey ? `Ctrl+${event.key}` : event.key;
      const sequence = first && event.timeStamp - first.atMs < SEQUENCE_MS ? `${first.key} ${key}` : null;
      const bound = (sequence && current.current[sequence]) ?? current.current[key];
      const starts = Object.keys(current.current).some((name) => name.startsWith(`${key} `));
      first = starts ? { key, atMs: event.timeStamp } : null;
      if (!bound) return;
      event.preventDefault();
      bound(event);
    };
    window.addEventListener("keydown", onKey);
    return () => window.removeEventListener("keydown", onKey);
  }, []);
}
