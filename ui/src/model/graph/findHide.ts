/**
 * Find and Hide on the loaded graph, in the filter grammar that logs and traces use:
 * `ns:bookinfo status:5xx -service:ratings dur>250ms err>1 rate>=5 is:failing`.
 */
import { type Term, parseFilter } from "../filter/grammar";
import { type GraphEdge, type GraphNode, nameOf } from "./meshGraph";

export const GRAPH_KEYS: Record<string, string> = {
  name: "name of a node, or of either end of an edge",
  ns: "namespace",
  app: "application",
  service: "service",
  workload: "workload",
  version: "version",
  source: "name of an edge's caller",
  dest: "name of an edge's callee",
  status: "edges with this response code (5xx classes too)",
  flag: "edges with this response flag",
  protocol: "http, grpc or tcp",
  rate: "requests per second",
  err: "percent of failed requests",
  dur: "an edge's p95 (dur>250ms)",
  is: "healthy, degraded, failing, idle, gateway, root, external, mtls, plaintext",
};

export interface Matches {
  nodes: Set<string>;
  edges: Set<string>;
}

const EDGE_KEYS = new Set(["source", "dest", "status", "flag", "protocol", "dur"]);
const NODE_KEYS = new Set(["app", "service", "workload", "version"]);

/** null when the text has no terms. Throws `FilterError` on bad input. */
export function findInGraph(text: string, nodes: readonly GraphNode[], edges: readonly GraphEdge[]): Matches | null {
  const terms = parseFilter(text, GRAPH_KEYS);
  if (terms.length === 0) return null;
  const aboutEdges = terms.some(({ key }) => EDGE_KEYS.has(key));
  const aboutNodes = terms.some(({ key }) => NODE_KEYS.has(key));
  const byId = new Map(nodes.map((node) => [node.id, node]));
  const found: Matches = { nodes: new Set(), edges: new Set() };
  if (!aboutEdges) for (const node of nodes) if (terms.every((term) => nodeMatches(term, node))) found.nodes.add(node.id);
  if (!aboutNodes) {
    for (const edge of edges) {
      const source = byId.get(edge.source);
      const target = byId.get(edge.target);
      if (source && target && terms.every((term) => edgeMatches(term, edge, source, target))) found.edges.add(edge.id);
    }
  }
  return found;
}

function nodeMatches(term: Term, node: GraphNode): boolean {
  switch (term.key) {
    case "":
    case "name":
      return term.matchesText(nameOf(node));
    case "ns":
      return term.matchesText(node.namespace);
    case "app":
      return term.matchesText(node.app);
    case "service":
      return term.matchesText(node.service);
    case "workload":
      return term.matchesText(node.workload);
    case "version":
      return term.matchesText(node.version);
    case "rate":
      return term.matchesNumber(node.rateIn);
    case "err":
      return term.matchesNumber(node.errorShareIn * 100);
    case "is":
      return term.matchesAny([
        node.health,
        node.isGateway ? "gateway" : "",
        node.isRoot ? "root" : "",
        node.isExternal ? "external" : "",
      ]);
    default:
      return term.negated;
  }
}

function edgeMatches(term: Term, edge: GraphEdge, source: GraphNode, target: GraphNode): boolean {
  switch (term.key) {
    case "":
    case "name":
      return term.matchesAny([nameOf(source), nameOf(target)]);
    case "ns":
      return term.matchesAny([source.namespace, target.namespace]);
    case "source":
      return term.matchesAny([nameOf(source), source.title, source.workload]);
    case "dest":
      return term.matchesAny([nameOf(target), target.title, target.workload, target.service]);
    case "status":
      return term.matchesAny(Object.keys(edge.codes));
    case "flag":
      return term.matchesAny(Object.keys(edge.flags));
    case "protocol":
      return term.matchesText(edge.protocol);
    case "rate":
      return term.matchesNumber(edge.rate);
    case "err":
      return term.matchesNumber(edge.errorShare * 100);
    case "dur":
      return edge.p95Ms === null ? term.negated : term.matchesNumber(edge.p95Ms);
    case "is":
      return term.matchesAny([edge.health, edge.mtlsShare > 0.995 ? "mtls" : "", edge.mtlsShare < 0.995 ? "plaintext" : ""]);
    default:
      return term.negated;
  }
}
