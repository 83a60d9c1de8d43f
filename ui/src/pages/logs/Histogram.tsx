/** How many rows match over time, by class of response. Dragging over it narrows the window. */
import { useMemo, useRef, useState } from "preact/hooks";
import { stepFor } from "../../api/prometheus";
import { runSql } from "../../api/sql";
import { useResource } from "../../app/resource";
import { setTimeWindow, timeWindow } from "../../app/route";
import { accessLogCondition } from "../../model/filter/toSql";
import { type Bucket, bucketsOf, histogramQuery } from "../../model/logHistogram";
import { codeColour } from "../../model/statusColour";
import { type Span, clock, spanOf } from "../../model/timeWindow";
import { count } from "../../model/units";

const BUCKETS = 90;
const CLASSES = [5, 4, 3, 2, 1, 0];
/** A drag shorter than this is a slip of the hand. */
const LEAST_DRAG_PX = 6;

/** `filter` has been read without fault. */
export function Histogram({ filter, turn }: { filter: string; turn: unknown }) {
  const window = timeWindow.value;
  const bucketS = stepFor(window.durationS, BUCKETS);
  const span = useRef<Span>({ startMs: 0, endMs: 0 });
  const turns = useTurns(turn);
  const found = useResource(`${filter}|${window.durationS}|${window.endUnixS}|${turns}`, (signal) => {
    span.current = spanOf(window, Date.now());
    return runSql(histogramQuery(accessLogCondition(filter), span.current, bucketS), signal);
  });
  const buckets = useMemo(() => (found.data ? bucketsOf(found.data.rows, span.current, bucketS) : []), [found.data]);
  if (found.error) return <p class="hint histogram-note">No histogram: {found.error.detail}</p>;
  return <Bars buckets={buckets} bucketS={bucketS} />;
}

/** Counts how often a value changed: a reload of the rows reloads the bars. */
function useTurns(value: unknown): number {
  const seen = useRef({ value, turns: 0 });
  if (seen.current.value !== value) seen.current = { value, turns: seen.current.turns + 1 };
  return seen.current.turns;
}

function Bars({ buckets, bucketS }: { buckets: readonly Bucket[]; bucketS: number }) {
  const [drag, setDrag] = useState<{ from: number; to: number } | null>(null);
  const host = useRef<HTMLDivElement>(null);
  const most = buckets.reduce((max, { total }) => Math.max(max, total), 1);
  const total = buckets.reduce((sum, bucket) => sum + bucket.total, 0);
  const failed = buckets.reduce((sum, { classes }) => sum + (classes[5] ?? 0) + (classes[0] ?? 0), 0);
  const share = (event: PointerEvent): number => {
    const { left, width } = host.current!.getBoundingClientRect();
    return Math.min(1, Math.max(0, (event.clientX - left) / width));
  };
  const release = () => {
    const first = buckets[0];
    if (drag && first && Math.abs(drag.to - drag.from) * host.current!.clientWidth >= LEAST_DRAG_PX) {
      const lengthS = buckets.length * bucketS;
      const [low, high] = [Math.min(drag.from, drag.to), Math.max(drag.from, drag.to)];
      const endUnixS = Math.ceil(first.startMs / 1000 + high * lengthS);
      setTimeWindow({ durationS: Math.max(1, Math.round((high - low) * lengthS)), endUnixS }, { push: true });
    }
    setDrag(null);
  };
  return (
    <div
      ref={host}
      class="histogram"
      role="img"
      aria-label={`${count(total)} rows match, ${count(failed)} of them failed`}
      onPointerDown={(event) => {
        host.current!.setPointerCapture(event.pointerId);
        setDrag({ from: share(event), to: share(event) });
      }}
      onPointerMove={(event) => drag && setDrag({ from: drag.from, to: share(event) })}
      onPointerUp={release}
      onPointerCancel={() => setDrag(null)}
    >
      {buckets.map((bucket) => (
        <div key={bucket.startMs} class="bucket" title={describe(bucket, bucketS)}>
          {CLASSES.map(
            (kind) =>
              bucket.classes[kind] !== undefined && (
                <i key={kind} style={{ height: `max(1px, ${(bucket.classes[kind]! / most) * 100}%)`, background: `var(${codeColour(kind * 100)})` }} />
              ),
          )}
        </div>
      ))}
      {drag && <div class="histogram-drag" style={{ left: `${Math.min(drag.from, drag.to) * 100}%`, width: `${Math.abs(drag.to - drag.from) * 100}%` }} />}
      <span class="histogram-scale">{count(most)}</span>
      <span class="histogram-total">{count(total)} match</span>
    </div>
  );
}

function describe({ startMs, classes, total }: Bucket, bucketS: number): string {
  const parts = CLASSES.filter((kind) => classes[kind]).map((kind) => `${kind === 0 ? "no answer" : `${kind}xx`} ${count(classes[kind])}`);
  return `${clock(startMs)} to ${clock(startMs + bucketS * 1000)}: ${count(total)}${parts.length > 0 ? ` (${parts.join(", ")})` : ""}`;
}
