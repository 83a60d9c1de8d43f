/**
 * The graph as the UI thinks of it: the server's document made plain (numbers are numbers, boxes
 * are left out: the UI draws its own), with a health for every node and edge.
 */
import type { EdgeData, EdgeFacts, GraphDocument, NodeData } from "../../api/graph";

export type Health = "healthy" | "degraded" | "failing" | "idle";
export type NodeKind = "workload" | "app" | "service" | "aggregate" | "unknown" | "namespace";

export interface GraphNode {
  id: string;
  kind: NodeKind;
  /** What is written large. */
  title: string;
  /** What is written small: version, or the kind. */
  subtitle: string;
  namespace: string;
  workload: string;
  app: string;
  version: string;
  service: string;
  health: Health;
  /** Requests per second that reach the node, and that it sends. */
  rateIn: number;
  rateOut: number;
  /** Share of failed requests among those that reach it, 0..1. */
  errorShareIn: number;
  isGateway: boolean;
  isRoot: boolean;
  isOutOfMesh: boolean;
  isExternal: boolean;
  /** A service node without the workloads behind it: requests that reached none. */
  isUnreached: boolean;
  /** Istio configuration that touches the node, in words. */
  config: readonly string[];
  /** Nodes that this one stands for; 1 unless it is a collapsed namespace. */
  size: number;
}

export interface GraphEdge {
  id: string;
  source: string;
  target: string;
  protocol: string;
  health: Health;
  /** Requests per second; bytes per second when the protocol is tcp. */
  rate: number;
  /** 0..1 */
  errorShare: number;
  p50Ms: number | null;
  p95Ms: number | null;
  p99Ms: number | null;
  /** Set when the percentiles are upper bounds, because several edges were merged into this one. */
  percentilesAreBounds: boolean;
  /** Share of mutual TLS, 0..1. */
  mtlsShare: number;
  requests: number;
  errors: number;
  codes: Record<string, number>;
  flags: Record<string, number>;
  reporters: EdgeFacts["reporters"];
  sourcePrincipal: string | null;
  destPrincipal: string | null;
}

export interface MeshGraph {
  nodes: GraphNode[];
  edges: GraphEdge[];
  /** Length of the time that the counts cover: the window, or as much of it as there is data. */
  durationS: number;
  timestampUnixS: number;
}

const rateNames: Record<string, { total: string; errors: readonly string[] }> = {
  http: { total: "http", errors: ["http4xx", "http5xx", "httpNoResponse"] },
  grpc: { total: "grpc", errors: ["grpcErr", "grpcNoResponse"] },
  tcp: { total: "tcp", errors: [] },
};

/** Kiali's tolerances (5xx and no answer: any is degraded, 10 % is failing; 4xx: 10 % and 20 %). */
export function healthOf(requests: number, codes: Record<string, number>, protocol: string): Health {
  if (requests <= 0) return "idle";
  let severe = 0;
  let client = 0;
  for (const [code, count] of Object.entries(codes)) {
    if (code === "-" || code === "0" ? protocol !== "tcp" && code === "-" : /^5\d\d$/.test(code)) severe += count;
    else if (/^4\d\d$/.test(code)) client += count;
    else if (protocol === "grpc" && /^([1-9]|1[0-6])$/.test(code)) severe += count;
  }
  if (severe / requests >= 0.1 || client / requests >= 0.2) return "failing";
  return severe > 0 || client / requests >= 0.1 ? "degraded" : "healthy";
}

const SEVERITY: readonly Health[] = ["idle", "healthy", "degraded", "failing"];

export const worse = (a: Health, b: Health): Health => (SEVERITY.indexOf(a) >= SEVERITY.indexOf(b) ? a : b);

const fromWire: Record<string, Health> = { Healthy: "healthy", Degraded: "degraded", Failure: "failing" };

/** A rate over less than this is chance. */
const LEAST_OBSERVED_S = 10;

/** The part of the window of which there is data: a young server has not seen five minutes yet. */
export function observedS(document: GraphDocument): number {
  const { timestamp, duration, pharos } = document;
  if (pharos.oldestDataUnixS === null) return duration;
  return Math.min(duration, Math.max(LEAST_OBSERVED_S, timestamp - pharos.oldestDataUnixS));
}

/** `scale` turns rates over the whole window into rates over its observed part. */
function readEdge(data: EdgeData, durationS: number, scale: number): GraphEdge {
  const protocol = data.traffic.protocol;
  const names = rateNames[protocol] ?? { total: protocol, errors: [] };
  const rates = data.traffic.rates;
  const wireRate = rates[names.total] ?? 0;
  const wireErrors = names.errors.reduce((sum, name) => sum + (rates[name] ?? 0), 0);
  const facts = data.pharos;
  const requests = facts?.requests ?? wireRate * durationS;
  const errors = facts?.errors ?? wireErrors * durationS;
  const rate = (protocol === "tcp" ? wireRate : (facts?.rate ?? wireRate)) * scale;
  const codes = facts?.codes ?? {};
  return {
    id: data.id,
    source: data.source,
    target: data.target,
    protocol,
    rate,
    requests,
    errors,
    errorShare: requests > 0 ? errors / requests : 0,
    p50Ms: facts?.p50Ms ?? null,
    p95Ms: facts?.p95Ms ?? null,
    p99Ms: facts?.p99Ms ?? null,
    percentilesAreBounds: false,
    mtlsShare: (data.isMTLS ?? 0) / 100,
    codes,
    flags: Object.fromEntries(Object.entries(facts?.flags ?? {}).filter(([flag]) => flag !== "-" && flag !== "")),
    reporters: facts?.reporters ?? { source: null, destination: null },
    sourcePrincipal: data.sourcePrincipal,
    destPrincipal: data.destPrincipal,
    health:
      rate <= 0 ? "idle" : (fromWire[data.healthStatus ?? ""] ?? healthOf(requests, codes, protocol)),
  };
}

const CONFIG_WORDS: [keyof NodeData, string][] = [
  ["hasFaultInjection", "fault injection"],
  ["hasTrafficShifting", "traffic shifting"],
  ["hasRequestRouting", "request routing"],
  ["hasRequestTimeout", "request timeout"],
  ["hasMirroring", "mirroring"],
  ["hasCB", "circuit breaker"],
  ["hasVS", "virtual service"],
];

function titleOf(data: NodeData): [title: string, subtitle: string] {
  switch (data.nodeType) {
    case "service":
      return [data.service, data.isServiceEntry ? "service entry" : "service"];
    case "aggregate":
      return [data.aggregate.split("=").pop() || data.aggregate, "operation"];
    case "workload":
      return [data.workload, data.isGateway ? "gateway" : "workload"];
    case "app":
      return [data.app || data.workload, data.version || (data.isGateway ? "gateway" : "app")];
    default:
      return [data.service || "unknown", data.isInaccessible ? "outside the mesh" : "unknown caller"];
  }
}

function readNode(data: NodeData, graphType: string): GraphNode {
  const [title, subtitle] = titleOf(data);
  const kinds: readonly string[] = ["workload", "app", "service", "aggregate"];
  return {
    id: data.id,
    kind: (kinds.includes(data.nodeType) ? data.nodeType : "unknown") as NodeKind,
    title,
    subtitle,
    namespace: data.namespace,
    workload: data.workload,
    app: data.app,
    version: data.version,
    service: data.service,
    health: "idle",
    rateIn: 0,
    rateOut: 0,
    errorShareIn: 0,
    isGateway: data.isGateway,
    isRoot: data.isRoot,
    isOutOfMesh: data.isOutOfMesh,
    isExternal: data.isServiceEntry,
    isUnreached: graphType !== "service" && data.nodeType === "service" && !data.isInjected && !data.isServiceEntry,
    config: CONFIG_WORDS.filter(([key]) => data[key] === true).map(([, words]) => words),
    size: 1,
  };
}

export function readGraph(document: GraphDocument): MeshGraph {
  const nodes = document.elements.nodes.filter(({ data }) => data.nodeType !== "box").map(({ data }) => readNode(data, document.graphType));
  const known = new Set(nodes.map(({ id }) => id));
  const observed = observedS(document);
  const edges = document.elements.edges
    .map(({ data }) => readEdge(data, document.duration, document.duration / observed))
    .filter(({ source, target }) => known.has(source) && known.has(target));
  return withNodeTotals({ nodes, edges, durationS: observed, timestampUnixS: document.timestamp });
}

/** Fills in what follows from the edges: rates, error share and health of each node. */
export function withNodeTotals(graph: MeshGraph): MeshGraph {
  const byId = new Map(graph.nodes.map((node) => [node.id, { ...node, rateIn: 0, rateOut: 0, errorShareIn: 0 }]));
  const errorsIn = new Map<string, number>();
  for (const edge of graph.edges) {
    const source = byId.get(edge.source)!;
    const target = byId.get(edge.target)!;
    target.health = worse(target.health, edge.health);
    if (source.health === "idle" && edge.health !== "idle") source.health = "healthy";
    if (edge.protocol === "tcp") continue;
    source.rateOut += edge.rate;
    target.rateIn += edge.rate;
    errorsIn.set(edge.target, (errorsIn.get(edge.target) ?? 0) + edge.rate * edge.errorShare);
  }
  for (const node of byId.values()) {
    if (node.rateIn > 0) node.errorShareIn = (errorsIn.get(node.id) ?? 0) / node.rateIn;
  }
  return { ...graph, nodes: [...byId.values()] };
}

/** Health in one word per state, as the legend and screen readers say it. */
export const HEALTH_WORDS: Record<Health, string> = {
  healthy: "healthy",
  degraded: "degraded",
  failing: "failing",
  idle: "idle",
};

export const nameOf = (node: GraphNode): string =>
  node.kind === "app" && node.version ? `${node.title} ${node.version}` : node.title;
