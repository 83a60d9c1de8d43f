/** Jaeger's APIs: v3 summaries for search, and the legacy document for one trace. */
import { type Decode, dictionary, list, nullable, number, numeric, or, raw, record, string } from "./decode";
import { get } from "./door";
import type { Span } from "../model/timeWindow";

const summary = record({
  traceId: string,
  rootServiceName: or(string, ""),
  rootOperationName: or(string, ""),
  minStartTimeUnixNano: string,
  maxEndTimeUnixNano: string,
  spanCount: or(number, 0),
  errorSpanCount: or(number, 0),
  orphanSpanCount: or(number, 0),
  services: list(record({ name: string, spanCount: or(number, 0), errorSpanCount: or(number, 0) })),
});

type WireSummary = ReturnType<typeof summary>;

export interface TraceSummary extends Omit<WireSummary, "minStartTimeUnixNano" | "maxEndTimeUnixNano"> {
  startUnixMs: number;
  durationMs: number;
}

/** Nanoseconds since 1970 do not fit a double; the difference of two is taken before rounding. */
function readable({ minStartTimeUnixNano, maxEndTimeUnixNano, ...rest }: WireSummary): TraceSummary {
  const start = BigInt(minStartTimeUnixNano);
  const end = BigInt(maxEndTimeUnixNano);
  return { ...rest, startUnixMs: Number(start / 1000n) / 1000, durationMs: Number(end - start) / 1e6 };
}

export interface TraceSearch {
  service: string;
  operation: string;
  attributes: Record<string, string>;
  durationMin: string;
  durationMax: string;
  limit: number;
  span: Span;
}

export async function searchTraces(search: TraceSearch, signal?: AbortSignal): Promise<TraceSummary[]> {
  const attributes = Object.keys(search.attributes).length > 0 ? JSON.stringify(search.attributes) : null;
  const found = await get(
    "/api/v3/trace-summaries",
    {
      "query.serviceName": search.service,
      "query.operationName": search.operation,
      "query.startTimeMin": new Date(search.span.startMs).toISOString(),
      "query.startTimeMax": new Date(search.span.endMs).toISOString(),
      "query.durationMin": search.durationMin,
      "query.durationMax": search.durationMax,
      "query.attributes": attributes,
      "query.searchDepth": search.limit,
    },
    record({ summaries: list(summary) }),
    signal,
  );
  return found.summaries.map(readable);
}

export const traceServices = async (signal?: AbortSignal): Promise<string[]> =>
  (await get("/api/v3/services", {}, record({ services: list(string) }), signal)).services.sort();

export const traceOperations = async (service: string, signal?: AbortSignal): Promise<string[]> => {
  const operation = record({ name: or(string, "") });
  const found = await get("/api/v3/operations", { service }, record({ operations: list(operation) }), signal);
  return [...new Set(found.operations.map(({ name }) => name))].sort();
};

const tag = record({ key: string, type: or(string, "string"), value: raw });

const wireSpan = record({
  spanID: string,
  operationName: or(string, ""),
  references: list(record({ refType: or(string, "CHILD_OF"), traceID: or(string, ""), spanID: string })),
  startTime: numeric,
  duration: or(numeric, 0),
  tags: list(tag),
  logs: list(record({ timestamp: numeric, fields: list(tag) })),
  processID: or(string, ""),
  warnings: list(string),
});

const wireTrace = record({
  traceID: string,
  spans: list(wireSpan),
  processes: dictionary(record({ serviceName: or(string, "unknown"), tags: list(tag) })),
  warnings: list(string),
});

export type WireTrace = ReturnType<typeof wireTrace>;
export type WireSpan = ReturnType<typeof wireSpan>;
export type Tag = ReturnType<typeof tag>;

const traceEnvelope: Decode<{ data: WireTrace[] | null }> = record({ data: nullable(list(wireTrace)) });

/** null when the store has no such trace. */
export async function fetchTrace(traceId: string, signal?: AbortSignal): Promise<WireTrace | null> {
  const found = await get(`/api/traces/${encodeURIComponent(traceId)}`, {}, traceEnvelope, signal);
  return found.data?.[0] ?? null;
}
