import { describe, expect, test } from "vitest";
import type { GraphDocument } from "../../api/graph";
import { boxTree } from "./boxes";
import { collapseNamespaces, mergeEdges, namespaceNodeId, namespacesToFold } from "./collapse";
import { findInGraph } from "./findHide";
import { type GraphEdge, type GraphNode, type MeshGraph, healthOf, readGraph, withNodeTotals } from "./meshGraph";
import { edgeFilter, edgeSelector, trafficQueries } from "./selectors";

function node(id: string, more: Partial<GraphNode> = {}): GraphNode {
  const [app, version = "v1"] = id.split("-");
  return {
    id,
    kind: "app",
    title: app!,
    subtitle: version,
    namespace: "bookinfo",
    workload: `${app}-${version}`,
    app: app!,
    version,
    service: "",
    health: "idle",
    rateIn: 0,
    rateOut: 0,
    errorShareIn: 0,
    isGateway: false,
    isRoot: false,
    isOutOfMesh: false,
    isExternal: false,
    isUnreached: false,
    config: [],
    size: 1,
    ...more,
  };
}

function edge(source: string, target: string, more: Partial<GraphEdge> = {}): GraphEdge {
  return {
    id: `${source}>${target}`,
    source,
    target,
    protocol: "http",
    health: "healthy",
    rate: 10,
    errorShare: 0,
    p50Ms: 5,
    p95Ms: 20,
    p99Ms: 50,
    percentilesAreBounds: false,
    mtlsShare: 1,
    requests: 600,
    errors: 0,
    codes: { 200: 600 },
    flags: {},
    reporters: { source: { requests: 600, errors: 0 }, destination: { requests: 600, errors: 0 } },
    sourcePrincipal: null,
    destPrincipal: null,
    ...more,
  };
}

const graph = (nodes: GraphNode[], edges: GraphEdge[]): MeshGraph => withNodeTotals({ nodes, edges, durationS: 60, timestampUnixS: 0 });

describe("health, by Kiali's tolerances", () => {
  test.each([
    [100, { 200: 100 }, "http", "healthy"],
    [100, { 200: 99, 500: 1 }, "http", "degraded"],
    [100, { 200: 90, 503: 10 }, "http", "failing"],
    [100, { 200: 91, 404: 9 }, "http", "healthy"],
    [100, { 200: 90, 404: 10 }, "http", "degraded"],
    [100, { 200: 80, 404: 20 }, "http", "failing"],
    [100, { 0: 99, 14: 1 }, "grpc", "degraded"],
    [100, { "-": 100 }, "tcp", "healthy"],
    [0, {}, "http", "idle"],
  ] as const)("%s requests with %j over %s: %s", (requests, codes, protocol, health) => {
    expect(healthOf(requests, codes, protocol)).toBe(health);
  });
});

describe("rates of a young server", () => {
  const document = (oldestDataUnixS: number | null) =>
    ({
      timestamp: 1000,
      duration: 300,
      graphType: "app",
      elements: {
        nodes: ["a", "b"].map((id) => ({ data: { id, nodeType: "app", app: id, version: "", traffic: [] } })),
        edges: [{ data: { id: "e", source: "a", target: "b", traffic: { protocol: "http", rates: { http: 2 } }, isMTLS: null, healthStatus: null, pharos: null } }],
      },
      pharos: { namespaces: [], oldestDataUnixS, empty: null },
    }) as unknown as GraphDocument;
  test.each([
    [null, 2, 300],
    [100, 2, 300],
    [940, 10, 60],
    [999, 60, 10],
  ])("data since %s: %s/s over %s s", (oldest, rate, durationS) => {
    const read = readGraph(document(oldest));
    expect(read.edges[0]!.rate).toBeCloseTo(rate);
    expect(read.durationS).toBe(durationS);
  });
});

test("a node's totals come from its edges", () => {
  const { nodes } = graph([node("a"), node("b")], [edge("a", "b", { errorShare: 0.1, health: "failing" })]);
  expect(nodes.find(({ id }) => id === "b")).toMatchObject({ rateIn: 10, errorShareIn: 0.1, health: "failing" });
  expect(nodes.find(({ id }) => id === "a")).toMatchObject({ rateOut: 10, health: "healthy" });
});

describe("folding namespaces", () => {
  const mesh = graph(
    [node("gw", { namespace: "edge" }), node("a"), node("b"), node("c", { namespace: "pay" })],
    [
      edge("gw", "a", { p95Ms: 20 }),
      edge("gw", "b", { p95Ms: 80, errors: 60, errorShare: 0.1, codes: { 200: 540, 503: 60 }, flags: { UO: 60 } }),
      edge("a", "b"),
      edge("b", "c"),
    ],
  );

  test("edges between the same ends become one: counts add, percentiles are bounds", () => {
    const { nodes, edges } = collapseNamespaces(mesh, new Set(["bookinfo"]));
    expect(nodes.map(({ id }) => id).sort()).toEqual(["c", "gw", namespaceNodeId("bookinfo")].sort());
    const merged = edges.find(({ target }) => target === namespaceNodeId("bookinfo"))!;
    expect(merged).toMatchObject({ requests: 1200, errors: 60, rate: 20, p95Ms: 80, percentilesAreBounds: true, flags: { UO: 60 } });
    expect(merged.errorShare).toBeCloseTo(0.05);
    expect(merged.codes).toEqual({ 200: 1140, 503: 60 });
    expect(edges).toHaveLength(2);
  });

  test("small graphs stay open, large ones fold but for what was opened", () => {
    expect(namespacesToFold(mesh, [], [])).toEqual(new Set());
    const many = { ...mesh, nodes: Array.from({ length: 301 }, (_, index) => node(`n${index}`, { namespace: `ns${index % 3}` })) };
    expect(namespacesToFold(many, ["ns1"], [])).toEqual(new Set(["ns0", "ns2"]));
    expect(namespacesToFold(many, "all", ["ns2"])).toEqual(new Set(["ns2"]));
  });

  test("merging keeps both proxies' views", () => {
    const { reporters } = mergeEdges(edge("a", "b"), edge("a", "c", { reporters: { source: { requests: 1, errors: 1 }, destination: null } }));
    expect(reporters).toEqual({ source: { requests: 601, errors: 1 }, destination: { requests: 600, errors: 0 } });
  });
});

test("boxes: an app with several versions, a namespace with several nodes, never the unknown caller", () => {
  const nodes = [node("reviews-v1"), node("reviews-v2"), node("ratings-v1"), node("gw", { namespace: "edge" }), node("who", { kind: "unknown", namespace: "unknown" })];
  const { root, boxes } = boxTree(nodes, { byNamespace: true, byApp: true });
  expect([...boxes.keys()]).toEqual(["box:bookinfo", "box:bookinfo/reviews"]);
  expect(root.nodes.sort()).toEqual(["gw", "who"]);
  expect(root.groups[0]!.nodes).toEqual(["ratings-v1"]);
  expect(root.groups[0]!.groups[0]!.nodes).toEqual(["reviews-v1", "reviews-v2"]);
});

describe("find", () => {
  const nodes = [node("a", { health: "failing" }), node("b"), node("c", { namespace: "pay" })];
  const edges = [edge("a", "b", { p95Ms: 300, codes: { 503: 1 } }), edge("b", "c", { flags: { DI: 3 } })];
  test.each([
    ["is:failing", ["a"], []],
    ["ns:pay", ["c"], ["b>c"]],
    ["dur>250ms", [], ["a>b"]],
    ["status:5xx", [], ["a>b"]],
    ["flag:DI", [], ["b>c"]],
    ["-ns:pay is:healthy", [], ["a>b"]],
    ["source:a", [], ["a>b"]],
  ])("%s", (text, wantedNodes, wantedEdges) => {
    const found = findInGraph(text, nodes, edges)!;
    expect([...found.nodes]).toEqual(wantedNodes);
    expect([...found.edges]).toEqual(wantedEdges);
  });
  test("nothing asked, nothing stands out", () => expect(findInGraph("  ", nodes, edges)).toBeNull());
});

describe("the traffic of an edge elsewhere", () => {
  test("PromQL counts each request once, by the proxy that saw it", () => {
    const both = edgeSelector(edge("a", "b"), node("a"), node("b"));
    expect(both).toBe(
      '{reporter="source",source_workload="a-v1",source_workload_namespace="bookinfo",destination_workload="b-v1",destination_workload_namespace="bookinfo"}',
    );
    const unseen = edge("a", "b", { reporters: { source: null, destination: { requests: 3, errors: 0 } } });
    expect(edgeSelector(unseen, node("a", { kind: "unknown" }), node("b"))).toContain('reporter="destination",source_workload="unknown"');
    expect(trafficQueries(both, 60, "http").quantiles[1]![1]).toBe(
      `histogram_quantile(0.95, sum by (le) (rate(istio_request_duration_milliseconds_bucket${both}[60s])))`,
    );
  });
  test("between services, the caller is known by its app", () => {
    const [from, to] = ["productpage", "reviews"].map((service) => node(service, { kind: "service", service })) as [GraphNode, GraphNode];
    expect(edgeSelector(edge("a", "b"), from, to)).toBe(
      '{reporter="source",source_app="productpage",source_workload_namespace="bookinfo",destination_service_name="reviews",destination_service_namespace="bookinfo"}',
    );
    expect(edgeFilter(from, to)).toBe("source:productpage* service:reviews.bookinfo");
  });
  test("log filter", () => {
    expect(edgeFilter(node("a"), node("b"))).toBe("source:a-v1 dest:b-v1");
    expect(edgeFilter(node("a"), node("s", { kind: "service", service: "reviews" }))).toBe("source:a-v1 service:reviews.bookinfo");
    const unreached = node("s", { kind: "service", service: "reviews", isUnreached: true });
    expect(edgeFilter(node("a"), unreached)).toBe("source:a-v1 service:reviews.bookinfo dest:unknown");
    expect(edgeSelector(edge("a", "s"), node("a"), unreached)).toContain('destination_workload="unknown"');
  });
});
