/** Spans as bars in time, indented by who called whom. Only the rows in sight are in the document. */
import { useEffect, useRef } from "preact/hooks";
import { isDark } from "../../app/preferences";
import { serviceColour } from "../../model/serviceColour";
import type { Stretch } from "../../model/trace/criticalPath";
import type { Trace, TraceSpan } from "../../model/trace/tree";
import { splitFlags } from "../../model/responseFlags";
import { millis, plural } from "../../model/units";
import { Icon } from "../../widgets/Icon";
import { VirtualRows } from "../../widgets/VirtualRows";

const ROW_PX = 30;
const INDENT_PX = 14;
const MAX_INDENT_PX = 160;
const TICKS = 5;

interface Props {
  trace: Trace;
  spans: readonly TraceSpan[];
  folded: ReadonlySet<string>;
  found: ReadonlySet<string> | null;
  path: ReadonlyMap<TraceSpan, Stretch[]> | null;
  selected: TraceSpan | null;
  onSelect: (span: TraceSpan) => void;
  onToggle: (span: TraceSpan) => void;
}

export function Waterfall(props: Props) {
  const { trace, spans, selected } = props;
  const scroller = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const index = selected ? spans.indexOf(selected) : -1;
    const element = scroller.current;
    if (index < 0 || !element) return;
    const top = index * ROW_PX;
    if (top < element.scrollTop) element.scrollTop = top - ROW_PX * 2;
    else if (top + ROW_PX * 2 > element.scrollTop + element.clientHeight) element.scrollTop = top - element.clientHeight + ROW_PX * 3;
  }, [selected?.id]);
  return (
    <div class="waterfall">
      <div class="waterfall-head">
        <span>Service and operation</span>
        <div class="ruler" aria-hidden="true">
          {Array.from({ length: TICKS }, (_, tick) => (
            <span key={tick} style={{ left: `${(tick / (TICKS - 1)) * 100}%` }}>
              {millis((trace.durationUs / 1000) * (tick / (TICKS - 1)))}
            </span>
          ))}
        </div>
      </div>
      <div class="waterfall-rows" ref={scroller} role="treegrid" aria-label="Spans" aria-rowcount={spans.length}>
        <VirtualRows count={spans.length} rowHeight={ROW_PX} scroller={scroller} render={(index) => <Row key={spans[index]!.id} span={spans[index]!} {...props} />} />
      </div>
    </div>
  );
}

function Row({ span, trace, folded, found, path, selected, onSelect, onToggle }: Props & { span: TraceSpan }) {
  const colour = serviceColour(span.service, isDark.value);
  const total = Math.max(1, trace.durationUs);
  const left = ((span.startUs - trace.startUs) / total) * 100;
  const width = (span.durationUs / total) * 100;
  const inside = width > (span.isError || span.flags !== "-" ? 22 : 11);
  const classes = [
    "span-row",
    span === selected ? "selected" : "",
    found && !found.has(span.id) ? "dim" : "",
    span.isError ? "error" : "",
    span.isFromLogs ? "from-logs" : "",
  ];
  return (
    <div
      class={classes.join(" ")}
      role="row"
      aria-level={span.depth + 1}
      aria-selected={span === selected}
      aria-expanded={span.children.length > 0 ? !folded.has(span.id) : undefined}
      data-span={span.id}
      style={{ height: `${ROW_PX}px` }}
      onClick={() => onSelect(span)}
    >
      <div class="span-name" role="gridcell" style={{ paddingLeft: `${8 + Math.min(MAX_INDENT_PX, span.depth * INDENT_PX)}px` }}>
        <button
          type="button"
          class="fold"
          aria-label={folded.has(span.id) ? "Unfold" : "Fold"}
          disabled={span.children.length === 0}
          onClick={(event) => {
            event.stopPropagation();
            onToggle(span);
          }}
        >
          {span.children.length > 0 && <Icon name={folded.has(span.id) ? "right" : "down"} size={11} />}
        </button>
        <i class="swatch" style={{ background: colour }} />
        <button type="button" class="plain-link" title={`${span.service} ${span.name}`} onClick={() => onSelect(span)}>
          <b>{span.service}</b> <span>{span.name}</span>
        </button>
        {span.rows.length > 0 && (
          <small class="row-count" title={plural(span.rows.length, "access-log row")}>
            <Icon name="logs" size={11} /> {span.rows.length}
          </small>
        )}
        {span.isOrigin && <Icon name="error" size={13} />}
      </div>
      <div class="span-time" role="gridcell">
        <div class="span-bar" style={{ left: `${left}%`, width: `max(2px, ${width}%)`, "--colour": colour }}>
          {inside && <span class="bar-label">{labelOf(span)}</span>}
        </div>
        {path?.get(span)?.map(({ startUs, endUs }) => (
          <div
            key={startUs}
            class="on-path"
            title="On the critical path"
            style={{ left: `${((startUs - trace.startUs) / total) * 100}%`, width: `${((endUs - startUs) / total) * 100}%` }}
          />
        ))}
        {!inside && (
          <span class="bar-label outside" style={left + width < 78 ? { left: `calc(${left + width}% + 8px)` } : { right: `calc(${100 - left}% + 8px)` }}>
            {labelOf(span)}
          </span>
        )}
      </div>
    </div>
  );
}

function labelOf(span: TraceSpan) {
  const flags = new Set([...splitFlags(span.flags), ...span.rows.flatMap(({ responseFlags }) => splitFlags(responseFlags))]);
  return (
    <>
      {millis(span.durationUs / 1000)}
      {span.isError && span.statusCode && <em>{span.statusCode}</em>}
      {[...flags].map((flag) => (
        <em key={flag} class="flag">
          {flag}
        </em>
      ))}
    </>
  );
}
