import { describe, expect, test } from "vitest";
import type { AccessLogRow } from "../../api/accessLogs";
import { criticalPath } from "./criticalPath";
import { withAccessLogs } from "./matchRows";
import { parseTraceSearch } from "./search";
import { type Trace, type TraceSpan, buildTrace } from "./tree";

function span(id: string, parentId: string | null, startUs: number, durationUs: number, more: Partial<TraceSpan> = {}): TraceSpan {
  return {
    id,
    parentId,
    name: id,
    service: "s",
    kind: "",
    startUs,
    durationUs,
    tags: [],
    processTags: [],
    events: [],
    warnings: [],
    isError: false,
    isOrigin: false,
    isOrphan: false,
    statusCode: "",
    flags: "-",
    children: [],
    depth: 0,
    selfUs: 0,
    rows: [],
    isFromLogs: false,
    ...more,
  };
}

function row(more: Partial<AccessLogRow>): AccessLogRow {
  const empty = {
    sourceNamespace: "", sourceApp: "", sourceVersion: "", sourcePrincipal: "", sourceWorkload: "",
    destinationNamespace: "", destinationApp: "", destinationVersion: "", destinationPrincipal: "", destinationWorkload: "", destinationService: "",
    authority: "", protocol: "", responseCodeDetails: "", routeName: "", upstreamCluster: "", upstreamHost: "",
    connectionTerminationDetails: "", upstreamTransportFailureReason: "", securityPolicy: "",
    requestId: "", traceId: "", spanId: "", userAgent: "",
  };
  return {
    ...empty, timeUnixUs: 0, durationUs: 10, reporter: "source", method: "GET", path: "/", responseCode: 200, responseFlags: "-",
    requestBytes: 0, responseBytes: 0, grpcStatus: null, upstreamAttempts: 1, ...more,
  };
}

const trace = (spans: TraceSpan[]): Trace => buildTrace("t", spans, []);

describe("the tree", () => {
  test("depth first, by start, with self time", () => {
    const built = trace([span("b", "root", 50, 30), span("a", "root", 10, 30), span("root", null, 0, 100), span("c", "a", 15, 10)]);
    expect(built.spans.map(({ id, depth }) => [id, depth])).toEqual([["root", 0], ["a", 1], ["c", 2], ["b", 1]]);
    expect(built.spans[0]!.selfUs).toBe(40);
    expect(built.durationUs).toBe(100);
  });

  test("children that overlap are not counted twice", () => {
    const built = trace([span("root", null, 0, 100), span("a", "root", 0, 60), span("b", "root", 40, 40)]);
    expect(built.spans[0]!.selfUs).toBe(20);
  });

  test("a missing parent makes an orphan, a circle makes no endless loop", () => {
    const built = trace([span("x", "gone", 0, 5), span("p", "q", 0, 5), span("q", "p", 0, 5)]);
    expect(built.spans).toHaveLength(3);
    expect(built.orphans).toBeGreaterThan(0);
  });

  test("client and server with one id become parent and child", () => {
    const built = trace([span("1", null, 0, 10, { kind: "client", service: "a" }), span("1", null, 2, 6, { kind: "server", service: "b" })]);
    expect(built.spans.map(({ service, depth }) => [service, depth])).toEqual([["a", 0], ["b", 1]]);
  });

  test("the origin of a failure is the deepest failed span", () => {
    const built = trace([span("root", null, 0, 100, { isError: true }), span("a", "root", 0, 60, { isError: true }), span("b", "root", 70, 10)]);
    expect(built.spans.filter(({ isOrigin }) => isOrigin).map(({ id }) => id)).toEqual(["a"]);
  });
});

test("the critical path covers the whole trace once", () => {
  const built = trace([span("root", null, 0, 100), span("a", "root", 10, 40), span("b", "root", 55, 40), span("late", "root", 60, 10), span("c", "b", 60, 20)]);
  const path = criticalPath(built);
  const total = [...path.values()].flat().reduce((sum, { startUs, endUs }) => sum + endUs - startUs, 0);
  expect(total).toBe(100);
  expect([...path.keys()].map(({ id }) => id).sort()).toEqual(["a", "b", "c", "root"]);
});

describe("access-log rows of a hop", () => {
  const spans = () => [
    span("root", null, 0, 1000, { service: "productpage.bookinfo", kind: "client" }),
    span("srv", "root", 100, 800, { service: "reviews.bookinfo", kind: "server" }),
  ];

  test("by span id, whoever wrote the row", () => {
    const built = withAccessLogs(trace(spans()), [row({ spanId: "srv", timeUnixUs: 90 })]);
    expect(built.spans.find(({ id }) => id === "srv")!.rows).toHaveLength(1);
  });

  test("otherwise by workload, side and time", () => {
    const built = withAccessLogs(trace(spans()), [
      row({ reporter: "source", sourceApp: "productpage", destinationApp: "reviews", timeUnixUs: 5 }),
      row({ reporter: "destination", sourceApp: "productpage", destinationApp: "reviews", destinationWorkload: "reviews-v2", timeUnixUs: 105 }),
    ]);
    expect(built.spans.map(({ rows }) => rows.map(({ reporter }) => reporter))).toEqual([["source"], ["destination"]]);
  });

  test("a row without a span becomes a hop below its caller", () => {
    const built = withAccessLogs(trace(spans()), [
      row({ reporter: "source", sourceApp: "reviews", sourceWorkload: "reviews-v2", destinationApp: "ratings", timeUnixUs: 300, durationUs: 50, path: "/ratings/0" }),
    ]);
    const added = built.spans.find(({ isFromLogs }) => isFromLogs)!;
    expect(added).toMatchObject({ name: "GET /ratings/0", depth: 2, parentId: "srv" });
    expect(built.orphans).toBe(0);
  });
});

describe("the search box", () => {
  test("short keys stand for the attributes that proxies write", () => {
    expect(parseTraceSearch('status:503 flag:FI error:true my.attr:"a b" dur>250ms dur<2s')).toEqual({
      attributes: { "http.status_code": "503", response_flags: "FI", error: "true", "my.attr": "a b" },
      durationMin: "250ms",
      durationMax: "2s",
    });
  });
  test("guid:x-request-id is one key", () => {
    expect(parseTraceSearch("guid:x-request-id:abc-1").attributes).toEqual({ "guid:x-request-id": "abc-1" });
  });
  test.each(["word", "-error:true", "status:5xx", "dur>soon"])("%s is refused", (text) => expect(() => parseTraceSearch(text)).toThrow());
});
