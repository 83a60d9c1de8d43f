/** How the traffic of a node or an edge is asked for elsewhere: in PromQL, and in the log filter. */
import { term } from "../filter/grammar";
import type { GraphEdge, GraphNode } from "./meshGraph";

type Labels = Record<string, string>;

/** A service that calls is known by its app: Istio names no source service. */
const callerApp = (service: GraphNode): Labels => ({ source_app: service.service, source_workload_namespace: service.namespace });

/** Istio's labels for one end of the traffic. */
function endLabels(node: GraphNode, side: "source" | "destination"): Labels {
  if (node.kind === "service") {
    const { service, namespace } = node;
    const unreached: Labels = node.isUnreached ? { destination_workload: "unknown" } : {};
    return { destination_service_name: service, destination_service_namespace: namespace, ...unreached };
  }
  if (node.kind === "namespace") return { [`${side}_workload_namespace`]: node.namespace };
  if (node.kind === "unknown") return { [`${side}_workload`]: "unknown" };
  if (node.workload) return { [`${side}_workload`]: node.workload, [`${side}_workload_namespace`]: node.namespace };
  return { [`${side}_app`]: node.app, [`${side}_workload_namespace`]: node.namespace };
}

function selector(labels: Labels): string {
  const parts = Object.entries(labels).map(([name, value]) => `${name}=${JSON.stringify(value)}`);
  return `{${parts.join(",")}}`;
}

/** One reporter, so that a request is counted once: the caller's proxy where it has one. */
function reporterFor(edge: GraphEdge): "source" | "destination" {
  const { source, destination } = edge.reporters;
  return source && source.requests > 0 ? "source" : destination && destination.requests > 0 ? "destination" : "source";
}

/** From a service to its workload, the service says what was asked for; to another service, who asked. */
const isCallingService = (source: GraphNode, target: GraphNode): boolean => source.kind === "service" && target.kind === "service";

export function edgeSelector(edge: GraphEdge, source: GraphNode, target: GraphNode): string {
  const from = isCallingService(source, target) ? callerApp(source) : endLabels(source, "source");
  return selector({ reporter: reporterFor(edge), ...from, ...endLabels(target, "destination") });
}

export function nodeSelector(node: GraphNode, direction: "in" | "out"): string {
  const side = direction === "in" ? "destination" : "source";
  // A gateway that is called from outside has no calling proxy: only its own view exists.
  const reporter = direction === "in" && node.kind !== "service" ? "destination" : "source";
  const end = node.kind === "service" && direction === "out" ? callerApp(node) : endLabels(node, side);
  return selector({ reporter, ...end });
}

export interface TrafficQueries {
  byCode: string;
  /** Quantile to query, milliseconds. */
  quantiles: [quantile: "p50" | "p95" | "p99", query: string][];
}

export function trafficQueries(labels: string, rateWindowS: number, protocol: string): TrafficQueries {
  const range = `[${rateWindowS}s]`;
  if (protocol === "tcp") {
    return { byCode: `sum by (response_flags) (rate(istio_tcp_sent_bytes_total${labels}${range}))`, quantiles: [] };
  }
  const buckets = `sum by (le) (rate(istio_request_duration_milliseconds_bucket${labels}${range}))`;
  const code = protocol === "grpc" ? "grpc_response_status" : "response_code";
  return {
    byCode: `sum by (${code}) (rate(istio_requests_total${labels}${range}))`,
    quantiles: [
      ["p50", `histogram_quantile(0.5, ${buckets})`],
      ["p95", `histogram_quantile(0.95, ${buckets})`],
      ["p99", `histogram_quantile(0.99, ${buckets})`],
    ],
  };
}

function endTerms(node: GraphNode, side: "source" | "dest"): string[] {
  switch (node.kind) {
    case "service":
      return [
        term("service", node.service.includes(".") || node.namespace === "unknown" ? node.service : `${node.service}.${node.namespace}`),
        ...(node.isUnreached ? [term("dest", "unknown")] : []),
      ];
    case "namespace":
      return side === "dest" ? [term("ns", node.namespace)] : [];
    case "unknown":
      return [];
    default:
      return [term(side, node.workload || `${node.app}*`)];
  }
}

export function edgeFilter(source: GraphNode, target: GraphNode): string {
  const from = isCallingService(source, target) ? [term("source", `${source.service}*`)] : endTerms(source, "source");
  return [...new Set([...from, ...endTerms(target, "dest")])].join(" ");
}

/** Rows that say what the node was asked; for a node that only calls, what it asked. */
export const nodeFilter = (node: GraphNode): string =>
  endTerms(node, node.isRoot && node.kind !== "service" ? "source" : "dest").join(" ");
