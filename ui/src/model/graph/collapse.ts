/**
 * Collapse by namespace: a folded namespace becomes one node, and the edges that then run between
 * the same two ends become one edge.
 */
import { type GraphEdge, type GraphNode, type MeshGraph, healthOf, withNodeTotals, worse } from "./meshGraph";

/** Above so many nodes all namespaces start folded. */
export const FOLD_ABOVE_NODES = 300;

export const namespaceNodeId = (namespace: string): string => `ns:${namespace}`;

/** Namespaces to fold: those named in `folded`, all when null and the graph is large, less `open`. */
export function namespacesToFold(graph: MeshGraph, open: readonly string[] | "all", folded: readonly string[]): Set<string> {
  const explicit = new Set(folded);
  if (open === "all" || graph.nodes.length <= FOLD_ABOVE_NODES) return explicit;
  const all = new Set(graph.nodes.map(({ namespace }) => namespace));
  for (const namespace of open) if (!explicit.has(namespace)) all.delete(namespace);
  return all;
}

export function collapseNamespaces(graph: MeshGraph, namespaces: ReadonlySet<string>): MeshGraph {
  if (namespaces.size === 0) return graph;
  const standIn = new Map<string, string>();
  const nodes: GraphNode[] = [];
  const folded = new Map<string, GraphNode>();
  const troubled = new Map<string, number>();
  for (const node of graph.nodes) {
    // The unknown caller is nobody's namespace: it stays itself.
    if (!namespaces.has(node.namespace) || node.kind === "unknown") {
      nodes.push(node);
      standIn.set(node.id, node.id);
      continue;
    }
    const id = namespaceNodeId(node.namespace);
    standIn.set(node.id, id);
    const group = folded.get(id);
    if (group) {
      group.size += 1;
      if (node.health === "failing") troubled.set(id, (troubled.get(id) ?? 0) + 1);
      group.health = worse(group.health, node.health);
      group.isGateway ||= node.isGateway;
    } else {
      if (node.health === "failing") troubled.set(id, 1);
      folded.set(id, { ...node, ...namespaceFace, id, title: node.namespace, namespace: node.namespace });
    }
  }
  for (const group of folded.values()) {
    const failing = troubled.get(group.id);
    group.subtitle = failing ? `${failing} of ${group.size} failing` : `${group.size} nodes`;
    nodes.push(group);
  }
  const edges = new Map<string, GraphEdge>();
  for (const edge of graph.edges) {
    const source = standIn.get(edge.source)!;
    const target = standIn.get(edge.target)!;
    if (source === target && source.startsWith("ns:")) continue;
    if (source === edge.source && target === edge.target) {
      edges.set(edge.id, edge);
      continue;
    }
    const id = `${source}>${target}:${edge.protocol}`;
    const merged = edges.get(id);
    edges.set(id, merged ? mergeEdges(merged, edge) : { ...edge, id, source, target });
  }
  // Trouble inside a folded namespace must show, but one bad service is not a failing namespace.
  const collapsed = withNodeTotals({ ...graph, nodes, edges: [...edges.values()] });
  for (const node of collapsed.nodes) {
    const inside = folded.get(node.id)?.health;
    if (inside) node.health = worse(node.health, inside === "failing" ? "degraded" : inside);
  }
  return collapsed;
}

const namespaceFace = {
  kind: "namespace" as const,
  subtitle: "",
  workload: "",
  app: "",
  version: "",
  service: "",
  config: [],
  isRoot: false,
  isOutOfMesh: false,
  isExternal: false,
  isUnreached: false,
  size: 1,
};

function addCounts(a: Record<string, number>, b: Record<string, number>): Record<string, number> {
  const sum = { ...a };
  for (const [key, value] of Object.entries(b)) sum[key] = (sum[key] ?? 0) + value;
  return sum;
}

const upperBound = (a: number | null, b: number | null): number | null =>
  a === null ? b : b === null ? a : Math.max(a, b);

const addViews = (a: GraphEdge["reporters"]["source"], b: GraphEdge["reporters"]["source"]) =>
  a && b ? { requests: a.requests + b.requests, errors: a.errors + b.errors } : (a ?? b);

/** Counts add up. Percentiles do not: the merged one is at most the largest part's, and says so. */
export function mergeEdges(a: GraphEdge, b: GraphEdge): GraphEdge {
  const requests = a.requests + b.requests;
  const errors = a.errors + b.errors;
  const rate = a.rate + b.rate;
  const codes = addCounts(a.codes, b.codes);
  const codesOf = Object.keys(codes).length;
  return {
    ...a,
    requests,
    errors,
    rate,
    errorShare: requests > 0 ? errors / requests : 0,
    p50Ms: upperBound(a.p50Ms, b.p50Ms),
    p95Ms: upperBound(a.p95Ms, b.p95Ms),
    p99Ms: upperBound(a.p99Ms, b.p99Ms),
    percentilesAreBounds: true,
    mtlsShare: rate > 0 ? (a.mtlsShare * a.rate + b.mtlsShare * b.rate) / rate : a.mtlsShare,
    codes,
    flags: addCounts(a.flags, b.flags),
    reporters: {
      source: addViews(a.reporters.source, b.reporters.source),
      destination: addViews(a.reporters.destination, b.reporters.destination),
    },
    health: codesOf > 0 ? healthOf(requests, codes, a.protocol) : worse(a.health, b.health),
    sourcePrincipal: a.sourcePrincipal === b.sourcePrincipal ? a.sourcePrincipal : null,
    destPrincipal: a.destPrincipal === b.destPrincipal ? a.destPrincipal : null,
  };
}
