/**
 * Joins access-log rows to the spans of the same hop, and turns rows without a span into hops of
 * their own, so that a trace is whole even where spans were not sampled or were lost.
 */
import type { AccessLogRow } from "../../api/accessLogs";
import { splitFlags } from "../responseFlags";
import { type Trace, type TraceSpan, buildTrace, tagValue } from "./tree";

/** Clocks of two proxies, or of a proxy and its workload, may differ by this much. */
const SLACK_US = 50_000;

export function withAccessLogs(trace: Trace, rows: readonly AccessLogRow[]): Trace {
  const spans = trace.spans.map((span) => ({ ...span, rows: [] as AccessLogRow[] }));
  const byId = new Map(spans.map((span) => [span.id, span]));
  const leftOver: AccessLogRow[] = [];
  for (const row of [...rows].sort((a, b) => a.timeUnixUs - b.timeUnixUs)) {
    const span = (row.spanId && spanBySpanId(byId, row)) || bestSpan(spans, row);
    if (span) span.rows.push(row);
    else leftOver.push(row);
  }
  if (leftOver.length === 0) return { ...trace, ...buildTrace(trace.id, spans, trace.warnings) };
  const added = leftOver.map((row, index) => hopFromRow(row, index, spans));
  return buildTrace(trace.id, [...spans, ...added], trace.warnings);
}

/** A shared span id belongs to two spans: the reporter says which. */
function spanBySpanId(byId: ReadonlyMap<string, TraceSpan>, row: AccessLogRow): TraceSpan | undefined {
  return (row.reporter === "destination" ? byId.get(`${row.spanId}:server`) : undefined) ?? byId.get(row.spanId);
}

function bestSpan(spans: readonly TraceSpan[], row: AccessLogRow): TraceSpan | null {
  let best: TraceSpan | null = null;
  let least = SLACK_US;
  for (const span of spans) {
    if (span.rows.some(({ reporter }) => reporter === row.reporter) || !sameSide(span, row)) continue;
    const away = Math.abs(span.startUs - row.timeUnixUs);
    if (away < least) {
      least = away;
      best = span;
    }
  }
  return best;
}

function sameSide(span: TraceSpan, row: AccessLogRow): boolean {
  const fromSource = row.reporter === "source";
  if (span.kind === "client" && !fromSource) return false;
  if (span.kind === "server" && fromSource) return false;
  const [app, workload] = fromSource ? [row.sourceApp, row.sourceWorkload] : [row.destinationApp, row.destinationWorkload];
  return namesOf(span).some((name) => name !== "" && (name === app || name === workload || (app !== "" && workload.startsWith(`${name}-`))));
}

/** What a span may call its workload: the service name, with or without namespace, and Envoy's node id. */
function namesOf(span: TraceSpan): string[] {
  const node = tagValue(span.tags, "node_id").split("~")[2] ?? "";
  return [
    span.service,
    span.service.split(".")[0]!,
    node.split(".")[0]!,
    tagValue(span.tags, "istio.canonical_service"),
    tagValue(span.processTags, "k8s.deployment.name"),
  ];
}

function hopFromRow(row: AccessLogRow, index: number, spans: readonly TraceSpan[]): TraceSpan {
  const endUs = row.timeUnixUs + row.durationUs;
  const fromSource = row.reporter === "source";
  // Its parent is the shortest span of the same or the calling workload that it lies within.
  const parent = spans
    .filter((span) => span.startUs <= row.timeUnixUs + SLACK_US && span.startUs + span.durationUs >= endUs - SLACK_US)
    .filter((span) => namesOf(span).includes(row.sourceApp) || namesOf(span).includes(row.sourceWorkload))
    .sort((a, b) => a.durationUs - b.durationUs)[0];
  return {
    id: `row:${index}`,
    parentId: parent?.id ?? null,
    name: `${row.method} ${row.path}`,
    service: (fromSource ? row.sourceApp || row.sourceWorkload : row.destinationApp || row.destinationWorkload) || "unknown",
    kind: fromSource ? "client" : "server",
    startUs: row.timeUnixUs,
    durationUs: row.durationUs,
    tags: [],
    processTags: [],
    events: [],
    warnings: [],
    isError: row.responseCode >= 500 || splitFlags(row.responseFlags).includes("FI"),
    isOrigin: false,
    isOrphan: false,
    statusCode: String(row.responseCode),
    flags: row.responseFlags,
    children: [],
    depth: 0,
    selfUs: row.durationUs,
    rows: [row],
    isFromLogs: true,
  };
}
