/** A trace as a tree of spans, in the order of a waterfall. */
import type { Tag, WireSpan, WireTrace } from "../../api/traces";
import type { AccessLogRow } from "../../api/accessLogs";

export interface TraceSpan {
  id: string;
  parentId: string | null;
  name: string;
  service: string;
  /** "client", "server", "producer", "consumer", "internal", or "" when not said. */
  kind: string;
  startUs: number;
  durationUs: number;
  tags: Tag[];
  processTags: Tag[];
  events: { timeUs: number; fields: Tag[] }[];
  warnings: string[];
  isError: boolean;
  /** An error below which nothing else failed: where the failure began. */
  isOrigin: boolean;
  /** Its parent is not in the trace. */
  isOrphan: boolean;
  statusCode: string;
  flags: string;
  children: TraceSpan[];
  depth: number;
  /** Time not covered by children. */
  selfUs: number;
  /** Access-log rows of the same hop. */
  rows: AccessLogRow[];
  /** Made from access-log rows alone: no span was recorded for this hop. */
  isFromLogs: boolean;
}

export interface Trace {
  id: string;
  roots: TraceSpan[];
  /** Depth first, parents before children, by start. */
  spans: TraceSpan[];
  startUs: number;
  durationUs: number;
  services: { name: string; spans: number; errors: number }[];
  errors: number;
  orphans: number;
  maxDepth: number;
  warnings: string[];
}

export const tagValue = (tags: readonly Tag[], key: string): string => {
  const found = tags.find((tag) => tag.key === key);
  return found === undefined || found.value === null || found.value === undefined ? "" : String(found.value);
};

/** Names before and after OpenTelemetry's renaming. */
const firstOf = (tags: readonly Tag[], ...keys: string[]): string => {
  for (const key of keys) {
    const value = tagValue(tags, key);
    if (value !== "") return value;
  }
  return "";
};

function isErrorSpan(tags: readonly Tag[]): boolean {
  if (tagValue(tags, "error") === "true" || tagValue(tags, "otel.status_code").toUpperCase() === "ERROR") return true;
  return /^5\d\d$/.test(firstOf(tags, "http.status_code", "http.response.status_code"));
}

function readSpan(span: WireSpan, trace: WireTrace): TraceSpan {
  const parent = span.references.find(({ refType }) => refType === "CHILD_OF") ?? span.references[0];
  const process = trace.processes[span.processID];
  return {
    id: span.spanID,
    parentId: parent?.spanID ?? null,
    name: span.operationName,
    service: process?.serviceName ?? "unknown",
    kind: tagValue(span.tags, "span.kind").toLowerCase(),
    startUs: span.startTime,
    durationUs: span.duration,
    tags: span.tags,
    processTags: process?.tags ?? [],
    events: span.logs.map(({ timestamp, fields }) => ({ timeUs: timestamp, fields })),
    warnings: span.warnings,
    isError: isErrorSpan(span.tags),
    isOrigin: false,
    isOrphan: false,
    statusCode: firstOf(span.tags, "http.status_code", "http.response.status_code", "rpc.grpc.status_code", "grpc.status_code"),
    flags: tagValue(span.tags, "response_flags") || "-",
    children: [],
    depth: 0,
    selfUs: span.duration,
    rows: [],
    isFromLogs: false,
  };
}

export function readTrace(wire: WireTrace): Trace {
  return buildTrace(wire.traceID, wire.spans.map((span) => readSpan(span, wire)), wire.warnings);
}

/** Links spans by parent and works out what follows: order, depth, self time, origins of errors. */
export function buildTrace(id: string, spans: TraceSpan[], warnings: string[]): Trace {
  const byId = new Map<string, TraceSpan>();
  for (const span of spans) {
    span.children = [];
    // Zipkin's shared spans: client and server have one id; the server is the client's child.
    const twin = byId.get(span.id);
    if (twin) {
      const [client, server] = twin.kind === "server" && span.kind === "client" ? [span, twin] : [twin, span];
      byId.set(span.id, client);
      server.id = `${server.id}:${server.kind || "twin"}`;
      if (server !== client) server.parentId = client.id;
      byId.set(server.id, server);
    } else byId.set(span.id, span);
  }
  const roots: TraceSpan[] = [];
  for (const span of spans) {
    const parent = span.parentId === null ? undefined : byId.get(span.parentId);
    if (parent && parent !== span && !isAncestor(span, parent, byId)) parent.children.push(span);
    else {
      span.isOrphan = span.parentId !== null && !span.isFromLogs;
      roots.push(span);
    }
  }
  const byStart = (a: TraceSpan, b: TraceSpan) => a.startUs - b.startUs || b.durationUs - a.durationUs || (a.id < b.id ? -1 : 1);
  const ordered: TraceSpan[] = [];
  const stack = roots.sort(byStart).toReversed();
  for (const root of roots) root.depth = 0;
  for (let span = stack.pop(); span; span = stack.pop()) {
    ordered.push(span);
    span.children.sort(byStart);
    span.selfUs = span.durationUs - covered(span);
    for (const child of span.children.toReversed()) {
      child.depth = span.depth + 1;
      stack.push(child);
    }
  }
  markOrigins(ordered);
  const startUs = ordered.reduce((least, span) => Math.min(least, span.startUs), Infinity);
  const endUs = ordered.reduce((most, span) => Math.max(most, span.startUs + span.durationUs), -Infinity);
  return {
    id,
    roots,
    spans: ordered,
    startUs: ordered.length > 0 ? startUs : 0,
    durationUs: ordered.length > 0 ? endUs - startUs : 0,
    services: servicesOf(ordered),
    errors: ordered.filter(({ isError }) => isError).length,
    orphans: ordered.filter(({ isOrphan }) => isOrphan).length,
    maxDepth: ordered.reduce((most, { depth }) => Math.max(most, depth), 0),
    warnings,
  };
}

/** Broken parent links must not become an endless loop. */
function isAncestor(span: TraceSpan, of: TraceSpan, byId: ReadonlyMap<string, TraceSpan>): boolean {
  let at: TraceSpan | undefined = of;
  for (let steps = 0; at && steps < 10_000; steps += 1) {
    if (at === span) return true;
    at = at.parentId === null ? undefined : byId.get(at.parentId);
  }
  return at !== undefined;
}

function covered({ startUs, durationUs, children }: TraceSpan): number {
  let sum = 0;
  let until = startUs;
  for (const child of children) {
    const from = Math.max(until, child.startUs);
    const to = Math.min(startUs + durationUs, child.startUs + child.durationUs);
    if (to > from) {
      sum += to - from;
      until = to;
    }
  }
  return sum;
}

function markOrigins(ordered: readonly TraceSpan[]): void {
  const failedBelow = new Set<TraceSpan>();
  for (const span of ordered.toReversed()) {
    const below = span.children.some((child) => child.isError || failedBelow.has(child));
    if (below) failedBelow.add(span);
    span.isOrigin = span.isError && !below;
  }
}

function servicesOf(spans: readonly TraceSpan[]): Trace["services"] {
  const services = new Map<string, Trace["services"][number]>();
  for (const { service, isError } of spans) {
    const found = services.get(service) ?? { name: service, spans: 0, errors: 0 };
    found.spans += 1;
    if (isError) found.errors += 1;
    services.set(service, found);
  }
  return [...services.values()].sort((a, b) => b.spans - a.spans || (a.name < b.name ? -1 : 1));
}
