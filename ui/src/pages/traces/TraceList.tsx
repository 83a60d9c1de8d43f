/** Found traces, one a row: what, how long, how many spans, which services. */
import { useRef } from "preact/hooks";
import type { TraceSummary } from "../../api/traces";
import { isDark } from "../../app/preferences";
import { hrefTo } from "../../app/route";
import { serviceColour } from "../../model/serviceColour";
import { clock, dateAndClock } from "../../model/timeWindow";
import { millis, plural } from "../../model/units";
import { VirtualRows } from "../../widgets/VirtualRows";
import { Link } from "../../widgets/controls";

const ROW_PX = 54;
const SERVICES_SHOWN = 6;

export function TraceList({ traces }: { traces: readonly TraceSummary[] }) {
  const scroller = useRef<HTMLDivElement>(null);
  const longest = traces.reduce((most, { durationMs }) => Math.max(most, durationMs), 0);
  return (
    <div class="trace-list" ref={scroller} role="list" aria-label="Traces found">
      <VirtualRows
        count={traces.length}
        rowHeight={ROW_PX}
        scroller={scroller}
        render={(index) => <Row key={traces[index]!.traceId} trace={traces[index]!} longest={longest} />}
      />
    </div>
  );
}

const isToday = (unixMs: number): boolean => new Date(unixMs).toDateString() === new Date().toDateString();

function Row({ trace, longest }: { trace: TraceSummary; longest: number }) {
  const dark = isDark.value;
  const failed = trace.errorSpanCount > 0;
  const more = trace.services.length - SERVICES_SHOWN;
  return (
    <div role="listitem" style={{ height: `${ROW_PX}px` }}>
      <Link href={hrefTo(`/traces/${trace.traceId}`)} class={`trace-row ${failed ? "failed" : ""}`}>
        <span class="what">
          <b>{trace.rootServiceName || "no root span"}</b> {trace.rootOperationName}
          <small>
            {trace.services.slice(0, SERVICES_SHOWN).map(({ name, spanCount, errorSpanCount }) => (
              <span key={name} class="pill">
                <i style={{ background: serviceColour(name, dark) }} />
                {name} {spanCount}
                {errorSpanCount > 0 && <em>{errorSpanCount} failed</em>}
              </span>
            ))}
            {more > 0 && <span class="pill">{more} more</span>}
          </small>
        </span>
        <span class="counts">
          {plural(trace.spanCount, "span")}
          {failed && <em class="bad">{plural(trace.errorSpanCount, "error")}</em>}
          {trace.orphanSpanCount > 0 && <em title="Spans whose parent is missing">incomplete</em>}
        </span>
        <span class="length">
          <i style={{ width: `${Math.max(1, (trace.durationMs / Math.max(0.001, longest)) * 100)}%` }} />
          <b>{millis(trace.durationMs)}</b>
        </span>
        <time title={dateAndClock(trace.startUnixMs)}>{isToday(trace.startUnixMs) ? clock(trace.startUnixMs) : dateAndClock(trace.startUnixMs)}</time>
      </Link>
    </div>
  );
}
