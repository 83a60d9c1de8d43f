/** One trace: its waterfall, and what each hop's proxies wrote about it. */
import { useEffect, useMemo, useState } from "preact/hooks";
import { fetchAccessLogs } from "../../api/accessLogs";
import { fetchTrace } from "../../api/traces";
import { ApiError } from "../../api/door";
import { isDark } from "../../app/preferences";
import { useKeys } from "../../app/keyboard";
import { useResource } from "../../app/resource";
import { hrefTo, navigate, useUrlState } from "../../app/route";
import { serviceColour } from "../../model/serviceColour";
import { ago, dateAndClock } from "../../model/timeWindow";
import { criticalPath } from "../../model/trace/criticalPath";
import { withAccessLogs } from "../../model/trace/matchRows";
import { type Trace, type TraceSpan, readTrace } from "../../model/trace/tree";
import { type Codec, flag, text } from "../../model/urlState";
import { millis, plural } from "../../model/units";
import { Icon } from "../../widgets/Icon";
import { Check, Link } from "../../widgets/controls";
import { ErrorNote, Loading } from "../../widgets/states";
import { SpanPanel } from "./SpanPanel";
import { Waterfall } from "./Waterfall";

interface TraceState {
  span: string;
  find: string;
  path: boolean;
}

const codec: Codec<TraceState> = { span: text(), find: text(), path: flag(true) };

/** More rows than any sensible trace has hops. */
const MAX_ROWS = 5000;

export function TraceView({ traceId }: { traceId: string }) {
  const [state, update] = useUrlState(codec);
  const wire = useResource(traceId, (signal) => fetchTrace(traceId, signal));
  const padded = traceId.toLowerCase().padStart(32, "0");
  const logs = useResource(traceId, (signal) => fetchAccessLogs({ filter: `trace:${padded}`, span: null, limit: MAX_ROWS }, signal));
  const trace = useMemo(() => {
    if (!wire.data) return null;
    const read = readTrace(wire.data);
    return logs.data ? withAccessLogs(read, logs.data.rows) : read;
  }, [wire.data, logs.data]);
  const [folded, setFolded] = useState<ReadonlySet<string>>(new Set());
  const visible = useMemo(() => (trace ? visibleSpans(trace, folded) : []), [trace, folded]);
  const found = useMemo(() => (trace ? findSpans(trace, state.find) : null), [trace, state.find]);
  const path = useMemo(() => (trace && state.path ? criticalPath(trace) : null), [trace, state.path]);
  const selected = trace?.spans.find(({ id }) => id === state.span) ?? null;
  const select = (span: TraceSpan | null) => update({ span: span?.id ?? "" });
  const toggle = (span: TraceSpan) => setFolded((before) => flipped(before, span.id));

  const move = (by: number) => {
    const at = visible.findIndex(({ id }) => id === state.span);
    const next = visible[Math.max(0, Math.min(visible.length - 1, at + by))];
    if (next) select(next);
  };
  useKeys({
    f: () => move(1),
    b: () => move(-1),
    ArrowDown: () => move(1),
    ArrowUp: () => move(-1),
    ArrowLeft: () => selected && setFolded((before) => new Set([...before, selected.id])),
    ArrowRight: () => selected && folded.has(selected.id) && toggle(selected),
    Enter: () => selected && toggle(selected),
    "[": () => trace && setFolded(new Set(trace.spans.filter(({ children }) => children.length > 0).map(({ id }) => id))),
    "]": () => setFolded(new Set()),
    Escape: () => (state.span ? select(null) : navigate(hrefTo("/traces"))),
  });

  // The first origin of failure is what a person came for.
  useEffect(() => {
    const origin = trace?.spans.find(({ isOrigin }) => isOrigin);
    if (origin && !state.span && logs.data) select(origin);
  }, [trace === null, logs.data === null]);

  if (wire.error?.status === 404 || (wire.data === null && !wire.loading && !wire.error)) return <NoTrace traceId={traceId} />;
  if (wire.error) return <ErrorNote error={wire.error} retry={wire.reload} />;
  if (!trace) return <Loading what="the trace" />;
  return (
    <div class="trace-page">
      <TraceHeader trace={trace} onSelect={select} />
      <div class="toolbar" role="toolbar" aria-label="Trace settings">
        <input
          class="field find-spans"
          type="search"
          aria-label="Find in this trace"
          placeholder="Find: service, operation, attribute value"
          value={state.find}
          data-search=""
          onInput={(event) => update({ find: event.currentTarget.value })}
        />
        {found && <span class="count">{plural(found.size, "span")}</span>}
        <Check checked={state.path} onChange={(on) => update({ path: on })}>
          Critical path
        </Check>
        <div class="spacer" />
        {logs.error && <span class="problem">Access logs: {logs.error.detail}</span>}
        {logs.data && <span class="hint">{plural(logs.data.rows.length, "access-log row")} of this trace</span>}
        <a class="button" href={`/api/traces/${traceId}`} target="_blank" rel="noopener">
          JSON
        </a>
      </div>
      <div class="trace-body">
        <Waterfall
          trace={trace}
          spans={visible}
          folded={folded}
          found={found}
          path={path}
          selected={selected}
          onSelect={select}
          onToggle={toggle}
        />
        {selected && <SpanPanel span={selected} trace={trace} close={() => select(null)} />}
      </div>
    </div>
  );
}

function TraceHeader({ trace, onSelect }: { trace: Trace; onSelect: (span: TraceSpan) => void }) {
  const root = trace.roots[0];
  const origins = trace.spans.filter(({ isOrigin }) => isOrigin);
  const startMs = trace.startUs / 1000;
  const dark = isDark.value;
  return (
    <header class="trace-header">
      <div class="trace-title">
        <Link href={hrefTo("/traces")} class="button icon-only" title="Back to the search (Esc)">
          <span class="visually-hidden">Back to the search</span>‹
        </Link>
        <div>
          <h1>
            {root?.service ?? "Trace"} <span>{root?.name}</span>
          </h1>
          <p class="sub">
            {dateAndClock(startMs)} ({ago(startMs, Date.now())}) · <b>{millis(trace.durationUs / 1000)}</b> · {plural(trace.spans.length, "span")} ·{" "}
            {plural(trace.services.length, "service")} · <code>{trace.id}</code>
            {trace.orphans > 0 && <em> · incomplete: {plural(trace.orphans, "span")} without parent</em>}
          </p>
        </div>
      </div>
      <div class="services">
        {trace.services.map(({ name, spans }) => (
          <span key={name} class="pill">
            <i style={{ background: serviceColour(name, dark) }} />
            {name} {spans}
          </span>
        ))}
      </div>
      {origins.length > 0 && (
        <div class="origins" role="group" aria-label="Where it failed first">
          <Icon name="error" size={14} />
          <b>Failed first at</b>
          {origins.slice(0, 4).map((span) => (
            <button key={span.id} type="button" class="button small" onClick={() => onSelect(span)}>
              {span.service} {span.statusCode} {span.flags !== "-" && <em class="flag">{span.flags}</em>}
            </button>
          ))}
        </div>
      )}
      {trace.warnings.map((warning) => (
        <p key={warning} class="problem">
          {warning}
        </p>
      ))}
    </header>
  );
}

function NoTrace({ traceId }: { traceId: string }) {
  const error = new ApiError("No such trace", `Pharos holds no spans of ${traceId}. It may not have been sampled, or it is older than the retention.`, 404);
  return (
    <div>
      <ErrorNote error={error} />
      <p class="quiet">
        <Link href={hrefTo("/logs", { q: `trace:${traceId}`, d: "1d" })}>Look for its access-log rows</Link>, or{" "}
        <Link href={hrefTo("/traces")}>search for other traces</Link>.
      </p>
    </div>
  );
}

function flipped(set: ReadonlySet<string>, id: string): Set<string> {
  const next = new Set(set);
  if (!next.delete(id)) next.add(id);
  return next;
}

/** Without what lies below folded spans. */
function visibleSpans(trace: Trace, folded: ReadonlySet<string>): TraceSpan[] {
  if (folded.size === 0) return trace.spans;
  const visible: TraceSpan[] = [];
  let hiddenBelow = Infinity;
  for (const span of trace.spans) {
    if (span.depth > hiddenBelow) continue;
    hiddenBelow = folded.has(span.id) ? span.depth : Infinity;
    visible.push(span);
  }
  return visible;
}

function findSpans(trace: Trace, wanted: string): Set<string> | null {
  const needle = wanted.trim().toLowerCase();
  if (needle === "") return null;
  const has = (value: unknown) => String(value).toLowerCase().includes(needle);
  const hits = trace.spans.filter(
    ({ service, name, tags, rows }) =>
      has(service) || has(name) || tags.some(({ key, value }) => has(value) || has(key)) || rows.some(({ path, responseFlags }) => has(path) || has(responseFlags)),
  );
  return new Set(hits.map(({ id }) => id));
}
