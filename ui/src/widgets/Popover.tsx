/** A button with a panel below it. Escape and a press outside close it; focus returns to the button. */
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { Icon } from "./Icon";

interface Props {
  label: ComponentChildren;
  /** Names the panel; shown on hover over the button. */
  title: string;
  align?: "left" | "right";
  children: ComponentChildren | ((close: () => void) => ComponentChildren);
  class?: string;
}

export function Popover({ label, title, align = "left", children, class: extra = "" }: Props) {
  const [open, setOpen] = useState(false);
  const root = useRef<HTMLDivElement>(null);
  const button = useRef<HTMLButtonElement>(null);
  const close = () => {
    setOpen(false);
    button.current?.focus();
  };
  useEffect(() => {
    if (!open) return;
    const onPress = (event: PointerEvent) => {
      if (!root.current?.contains(event.target as Node)) setOpen(false);
    };
    document.addEventListener("pointerdown", onPress, true);
    return () => document.removeEventListener("pointerdown", onPress, true);
  }, [open]);
  const onKey = (event: KeyboardEvent) => {
    if (event.key !== "Escape" || !open) return;
    event.preventDefault();
    event.stopPropagation();
    close();
  };
  return (
    <div class={`popover ${extra}`} ref={root} onKeyDown={onKey}>
      <button
        type="button"
        class="button"
        ref={button}
        aria-haspopup="dialog"
        aria-expanded={open}
        title={title}
        onClick={() => setOpen(!open)}
      >
        {label}
        <Icon name="down" size={12} />
      </button>
      {open && (
        <div class={`popover-panel ${align}`} role="dialog" aria-label={title}>
          {typeof children === "function" ? children(close) : children}
        </div>
      )}
    </div>
  );
}
