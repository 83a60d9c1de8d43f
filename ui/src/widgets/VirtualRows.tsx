/** A long list of equally high rows, of which only those in sight are in the document. */
import type { ComponentChildren, RefObject } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

interface Props {
  count: number;
  rowHeight: number;
  render: (index: number) => ComponentChildren;
  /** The scrolling element; its scroll position decides what is in sight. */
  scroller: RefObject<HTMLElement | null>;
  /** Asked for when the end comes into sight. */
  onEnd?: () => void;
}

const MARGIN_ROWS = 12;

export function VirtualRows({ count, rowHeight, render, scroller, onEnd }: Props) {
  const host = useRef<HTMLDivElement>(null);
  const [range, setRange] = useState({ first: 0, last: 60 });
  const latestEnd = useRef(onEnd);
  latestEnd.current = onEnd;

  useEffect(() => {
    const element = scroller.current;
    if (!element) return;
    const look = () => {
      const top = element.scrollTop - (host.current?.offsetTop ?? 0);
      const first = Math.max(0, Math.floor(top / rowHeight) - MARGIN_ROWS);
      const last = Math.ceil((top + element.clientHeight) / rowHeight) + MARGIN_ROWS;
      setRange((before) => (before.first === first && before.last === last ? before : { first, last }));
      if (last >= count) latestEnd.current?.();
    };
    look();
    element.addEventListener("scroll", look, { passive: true });
    const resizes = new ResizeObserver(look);
    resizes.observe(element);
    return () => {
      element.removeEventListener("scroll", look);
      resizes.disconnect();
    };
  }, [count, rowHeight, scroller]);

  const shown: ComponentChildren[] = [];
  for (let index = range.first; index < Math.min(count, range.last); index += 1) shown.push(render(index));
  return (
    <div ref={host} class="virtual" role="presentation" style={{ height: `${count * rowHeight}px` }}>
      <div role="presentation" style={{ transform: `translateY(${range.first * rowHeight}px)` }}>
        {shown}
      </div>
    </div>
  );
}
