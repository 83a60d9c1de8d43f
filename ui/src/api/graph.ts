/** `GET /api/v1/graph`: Kiali's graph document with exact counts per edge beside it. */
import { dictionary, flag, list, nullable, number, numeric, or, presence, record, string } from "./decode";
import { get } from "./door";

export type GraphType = "versionedApp" | "workload" | "app" | "service";

export interface GraphRequest {
  namespaces: readonly string[];
  graphType: GraphType;
  durationS: number;
  /** null: now. */
  queryTimeUnixS: number | null;
  injectServiceNodes: boolean;
  includeIdleEdges: boolean;
}

export type ReporterView = { requests: number; errors: number };

export type EdgeFacts = {
  /** Requests in the window. */
  requests: number;
  errors: number;
  /** Requests per second. */
  rate: number;
  p50Ms: number | null;
  p95Ms: number | null;
  p99Ms: number | null;
  /** Response code to count; "-" is no response. */
  codes: Record<string, number>;
  /** Envoy response flag to count. */
  flags: Record<string, number>;
  reporters: { source: ReporterView | null; destination: ReporterView | null };
};

const traffic = record({ protocol: or(string, ""), rates: dictionary(numeric) });
const reporterView = record<ReporterView>({ requests: or(number, 0), errors: or(number, 0) });

const edgeFacts = record<EdgeFacts>({
  requests: or(number, 0),
  errors: or(number, 0),
  rate: or(number, 0),
  p50Ms: nullable(number),
  p95Ms: nullable(number),
  p99Ms: nullable(number),
  codes: dictionary(number),
  flags: dictionary(number),
  reporters: or(record({ source: nullable(reporterView), destination: nullable(reporterView) }), {
    source: null,
    destination: null,
  }),
});

const nodeData = record({
  id: string,
  nodeType: string,
  cluster: or(string, "unknown"),
  namespace: or(string, "unknown"),
  workload: or(string, ""),
  app: or(string, ""),
  version: or(string, ""),
  service: or(string, ""),
  aggregate: or(string, ""),
  isBox: or(string, ""),
  traffic: list(traffic),
  isGateway: presence,
  isOutOfMesh: flag,
  isOutside: flag,
  isRoot: flag,
  isIdle: flag,
  isDead: flag,
  isInaccessible: flag,
  isServiceEntry: presence,
  isInjected: flag,
  hasVS: presence,
  hasCB: flag,
  hasFaultInjection: flag,
  hasMirroring: flag,
  hasRequestRouting: flag,
  hasRequestTimeout: flag,
  hasTrafficShifting: flag,
});

const edgeData = record({
  id: string,
  source: string,
  target: string,
  traffic: or(traffic, { protocol: "", rates: {} }),
  isMTLS: nullable(numeric),
  healthStatus: nullable(string),
  sourcePrincipal: nullable(string),
  destPrincipal: nullable(string),
  pharos: nullable(edgeFacts),
});

const graphDocument = record({
  timestamp: number,
  duration: number,
  graphType: or(string, ""),
  elements: record({
    nodes: list(record({ data: nodeData })),
    edges: list(record({ data: edgeData })),
  }),
  pharos: or(
    record({
      namespaces: list(string),
      oldestDataUnixS: nullable(number),
      empty: nullable(record({ reason: or(string, ""), hint: or(string, "") })),
    }),
    { namespaces: [], oldestDataUnixS: null, empty: null },
  ),
});

export type GraphDocument = ReturnType<typeof graphDocument>;
export type NodeData = ReturnType<typeof nodeData>;
export type EdgeData = ReturnType<typeof edgeData>;

export function fetchGraph(request: GraphRequest, signal?: AbortSignal): Promise<GraphDocument> {
  return get(
    "/api/v1/graph",
    {
      namespaces: request.namespaces.join(","),
      duration: `${request.durationS}s`,
      queryTime: request.queryTimeUnixS,
      graphType: request.graphType,
      injectServiceNodes: request.injectServiceNodes,
      includeIdleEdges: request.includeIdleEdges,
    },
    graphDocument,
    signal,
  );
}
