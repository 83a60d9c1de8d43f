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
  const index = new SpanIndex(spans);
  const leftOver: AccessLogRow[] = [];
  for (const row of [...rows].sort((a, b) => a.timeUnixUs - b.timeUnixUs)) {
    const span = index.byIdOf(row) ?? index.nearestTo(row);
    if (span) span.rows.push(row);
    else leftOver.push(row);
  }
  const added = leftOver.map((row, position) => hopFromRow(row, position, index.around(row)));
  return buildTrace(trace.id, [...spans, ...added], trace.warnings);
}

/** Finds spans by id, by start, and by the names that their workload may go by. Traces can have 50,000 of them. */
class SpanIndex {
  private readonly byId: Map<string, TraceSpan>;
  private readonly byStart: TraceSpan[];
  private readonly names = new Map<TraceSpan, ReadonlySet<string>>();
  private readonly byName = new Map<string, TraceSpan[]>();

  constructor(spans: readonly TraceSpan[]) {
    this.byId = new Map(spans.map((span) => [span.id, span]));
    this.byStart = [...spans].sort((a, b) => a.startUs - b.startUs);
    for (const span of this.byStart) {
      const names = new Set(namesOf(span));
      this.names.set(span, names);
      for (const name of names) {
        const known = this.byName.get(name);
        if (known) known.push(span);
        else this.byName.set(name, [span]);
      }
    }
  }

  /** A shared span id belongs to two spans: the reporter says which. */
  byIdOf(row: AccessLogRow): TraceSpan | undefined {
    if (row.spanId === "") return undefined;
    return (row.reporter === "destination" ? this.byId.get(`${row.spanId}:server`) : undefined) ?? this.byId.get(row.spanId);
  }

  /** The span of the same side of the same hop that starts nearest to the row. */
  nearestTo(row: AccessLogRow): TraceSpan | null {
    let best: TraceSpan | null = null;
    let least = SLACK_US;
    for (let at = this.firstFrom(row.timeUnixUs - SLACK_US); at < this.byStart.length; at += 1) {
      const span = this.byStart[at]!;
      if (span.startUs > row.timeUnixUs + SLACK_US) break;
      const away = Math.abs(span.startUs - row.timeUnixUs);
      if (away < least && this.isSameSide(span, row) && !span.rows.some(({ reporter }) => reporter === row.reporter)) {
        least = away;
        best = span;
      }
    }
    return best;
  }

  /** The shortest span of the calling workload within which the row lies. */
  around(row: AccessLogRow): TraceSpan | undefined {
    const endUs = row.timeUnixUs + row.durationUs;
    let shortest: TraceSpan | undefined;
    for (const name of [row.sourceApp, row.sourceWorkload]) {
      for (const span of this.byName.get(name) ?? []) {
        if (span.startUs > row.timeUnixUs + SLACK_US) break;
        if (span.startUs + span.durationUs < endUs - SLACK_US) continue;
        if (!shortest || span.durationUs < shortest.durationUs) shortest = span;
      }
    }
    return shortest;
  }

  /** Place of the first span that starts at `startUs` or later. */
  private firstFrom(startUs: number): number {
    let [low, high] = [0, this.byStart.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.byStart[middle]!.startUs < startUs) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  private isSameSide(span: TraceSpan, row: AccessLogRow): boolean {
    const fromSource = row.reporter === "source";
    if (span.kind === "client" && !fromSource) return false;
    if (span.kind === "server" && fromSource) return false;
    const names = this.names.get(span)!;
    const [app, workload] = fromSource ? [row.sourceApp, row.sourceWorkload] : [row.destinationApp, row.destinationWorkload];
    return names.has(app) || names.has(workload) || names.has(workload.replace(/-v?\d[\w.]*$/, ""));
  }
}

/** What a span may call its workload: the service name, with or without namespace, and Envoy's node id. */
function namesOf(span: TraceSpan): string[] {
  const node = tagValue(span.tags, "node_id").split("~")[2] ?? "";
  const names = [
    span.service,
    span.service.split(".")[0]!,
    node.split(".")[0]!,
    tagValue(span.tags, "istio.canonical_service"),
    tagValue(span.processTags, "k8s.deployment.name"),
  ];
  return names.filter((name) => name !== "");
}

function hopFromRow(row: AccessLogRow, position: number, parent: TraceSpan | undefined): TraceSpan {
  const fromSource = row.reporter === "source";
  return {
    id: `row:${position}`,
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
