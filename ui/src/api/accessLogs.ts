/** `GET /api/v1/access-logs` and its live tail: one row is one request seen by one proxy. */
import { type Decode, list, nullable, number, numeric, or, record, string } from "./decode";
import { address, get } from "./door";
import type { Span } from "../model/timeWindow";

const text = or(string, "");
const amount = or(number, 0);

export const accessLogRow = record({
  timeUnixUs: numeric,
  durationUs: or(numeric, 0),
  reporter: text,
  sourceWorkload: text,
  sourceNamespace: text,
  sourceApp: text,
  sourceVersion: text,
  sourcePrincipal: text,
  destinationWorkload: text,
  destinationNamespace: text,
  destinationApp: text,
  destinationVersion: text,
  destinationPrincipal: text,
  destinationService: text,
  method: text,
  authority: text,
  path: text,
  protocol: text,
  responseCode: amount,
  responseFlags: or(string, "-"),
  grpcStatus: nullable(number),
  responseCodeDetails: text,
  connectionTerminationDetails: text,
  upstreamTransportFailureReason: text,
  upstreamAttempts: amount,
  securityPolicy: text,
  routeName: text,
  upstreamCluster: text,
  upstreamHost: text,
  requestId: text,
  traceId: text,
  spanId: text,
  requestBytes: amount,
  responseBytes: amount,
  userAgent: text,
});

export type AccessLogRow = ReturnType<typeof accessLogRow>;

/** The cursor of the next page is opaque: it is handed back as it came. */
const cursor: Decode<string> = (value, at) => (typeof value === "number" ? String(value) : string(value, at));

const page = record({
  rows: list(accessLogRow),
  nextBefore: nullable(cursor),
  scannedRows: or(number, 0),
  tookMs: or(number, 0),
});

export type AccessLogPage = ReturnType<typeof page>;

export interface AccessLogRequest {
  filter: string;
  /** null: all times. */
  span: Span | null;
  limit: number;
  before?: string | null;
}

export function fetchAccessLogs(request: AccessLogRequest, signal?: AbortSignal): Promise<AccessLogPage> {
  return get(
    "/api/v1/access-logs",
    {
      filter: request.filter,
      start: request.span && Math.floor(request.span.startMs),
      end: request.span && Math.ceil(request.span.endMs),
      limit: request.limit,
      before: request.before,
    },
    page,
    signal,
  );
}

export interface Tail {
  close(): void;
}

export interface TailEvents {
  rows(rows: AccessLogRow[]): void;
  /** Whether the stream is up. */
  state(connected: boolean): void;
  /** Rows came faster than this reader took them, and some were left out. */
  lost(): void;
}

/** Follows new rows as they are stored. */
export function tailAccessLogs(filter: string, events: TailEvents): Tail {
  const source = new EventSource(address("/api/v1/access-logs/tail", { filter }));
  const decodeRows = list(accessLogRow);
  source.addEventListener("open", () => events.state(true));
  source.addEventListener("error", () => events.state(false));
  source.addEventListener("lost", () => events.lost());
  source.addEventListener("rows", (event) => {
    try {
      events.rows(decodeRows(JSON.parse((event as MessageEvent<string>).data), "tail"));
    } catch {
      events.state(false);
    }
  });
  return { close: () => source.close() };
}
