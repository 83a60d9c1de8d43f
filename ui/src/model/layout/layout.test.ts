import { describe, expect, test } from "vitest";
import { type LayoutInput, layoutCompound } from "./compound";
import { crossings } from "./ordering";
import { layoutBetween } from "./tween";

const SIZE = { width: 120, height: 50 };

function input(edges: [string, string][], groups: Record<string, string[]> = {}): LayoutInput {
  const names = [...new Set([...edges.flat(), ...Object.values(groups).flat()])];
  const grouped = new Set(Object.values(groups).flat());
  return {
    root: {
      id: "",
      nodes: names.filter((name) => !grouped.has(name)),
      groups: Object.entries(groups).map(([id, nodes]) => ({ id, nodes, groups: [] })),
    },
    sizes: Object.fromEntries(names.map((name) => [name, SIZE])),
    edges: edges.map(([source, target]) => ({ id: `${source}>${target}`, source, target })),
    previousY: {},
    labelRoom: 100,
  };
}

/** A fixed mesh: layers, a few popular services, a few calls back. */
function mesh(nodes: number, edges: number): [string, string][] {
  let seed = 7;
  const random = () => (seed = (Math.imul(seed, 1103515245) + 12345) >>> 0) / 4_294_967_296;
  return Array.from({ length: edges }, () => {
    const from = Math.floor(random() * (nodes - 1));
    const to = Math.min(nodes - 1, from + 1 + Math.floor(random() ** 2 * nodes * 0.3));
    return random() < 0.02 ? [`n${to}`, `n${from}`] : [`n${from}`, `n${to}`];
  });
}

function overlapsIn(nodes: Record<string, { x: number; y: number }>): string[] {
  const all = Object.entries(nodes);
  return all.flatMap(([a, one], index) =>
    all
      .slice(index + 1)
      .filter(([, other]) => Math.abs(one.x - other.x) < SIZE.width - 0.5 && Math.abs(one.y - other.y) < SIZE.height - 0.5)
      .map(([b]) => `${a} and ${b}`),
  );
}

const BOOKINFO: [string, string][] = [
  ["gateway", "productpage"],
  ["productpage", "details"],
  ["productpage", "reviews-v1"],
  ["productpage", "reviews-v2"],
  ["productpage", "reviews-v3"],
  ["reviews-v2", "ratings"],
  ["reviews-v3", "ratings"],
];

describe("layered layout", () => {
  test("callers stand left of what they call", () => {
    const { nodes } = layoutCompound(input(BOOKINFO));
    for (const [source, target] of BOOKINFO) expect(nodes[source]!.x).toBeLessThan(nodes[target]!.x);
  });

  test("the versions of an app stay in their box, one below the other", () => {
    const { nodes, boxes } = layoutCompound(input(BOOKINFO, { reviews: ["reviews-v1", "reviews-v2", "reviews-v3"] }));
    const box = boxes.reviews!;
    for (const name of ["reviews-v1", "reviews-v2", "reviews-v3"]) {
      expect(nodes[name]!.y - 25).toBeGreaterThanOrEqual(box.y);
      expect(nodes[name]!.y + 25).toBeLessThanOrEqual(box.y + box.height);
      expect(nodes[name]!.x).toBeCloseTo(nodes["reviews-v1"]!.x);
    }
    expect(nodes.details!.y < box.y || nodes.details!.y > box.y + box.height).toBe(true);
  });

  test.each([
    [30, 60],
    [300, 900],
    [1000, 3000],
  ])("%s nodes with %s edges: none overlap, every edge has a route", (nodeCount, edgeCount) => {
    const edges = mesh(nodeCount, edgeCount);
    const { nodes, routes } = layoutCompound(input(edges));
    expect(overlapsIn(nodes)).toEqual([]);
    for (const [source, target] of edges) expect(routes).toHaveProperty(`${source}>${target}`);
  });

  test("cycles and calls to itself are drawn, not endless", () => {
    const { nodes } = layoutCompound(input([["a", "b"], ["b", "c"], ["c", "a"], ["b", "b"]]));
    expect(overlapsIn(nodes)).toEqual([]);
    expect(Object.keys(nodes).sort()).toEqual(["a", "b", "c"]);
  });

  test("a long chain does not become one thin line", () => {
    const edges = mesh(60, 240);
    const { width, height } = layoutCompound(input(edges));
    expect(width / height).toBeLessThan(8);
  });

  test("the same input gives the same drawing", () => {
    expect(layoutCompound(input(mesh(100, 300)))).toEqual(layoutCompound(input(mesh(100, 300))));
  });

  test("seeded with an order, it keeps that order", () => {
    const before = layoutCompound(input([["a", "x"], ["a", "y"], ["a", "z"]]));
    const upsideDown = Object.fromEntries(Object.entries(before.nodes).map(([id, { y }]) => [id, -y]));
    const after = layoutCompound({ ...input([["a", "x"], ["a", "y"], ["a", "z"]]), previousY: upsideDown });
    expect(after.nodes.z!.y).toBeLessThan(after.nodes.x!.y);
  });

  test("nodes without edges are placed too", () => {
    const { nodes } = layoutCompound(input([["a", "b"]], { lonely: ["c", "d", "e", "f", "g", "h", "i"] }));
    expect(overlapsIn(nodes)).toEqual([]);
    expect(Object.keys(nodes)).toHaveLength(9);
  });
});

test("on the way between two layouts, nodes lie between, new ones where they belong", () => {
  const from = layoutCompound(input([["a", "b"]]));
  const to = layoutCompound(input([["a", "c"], ["a", "b"]]));
  expect(layoutBetween(from, to, 0).nodes.a).toEqual(from.nodes.a);
  expect(layoutBetween(from, to, 0).nodes.c).toEqual(to.nodes.c);
  expect(layoutBetween(from, to, 1)).toEqual(to);
});

test("crossings are counted per pair of edges", () => {
  expect(crossings([[0, 1], [2, 3]], [[3], [2], [], []], 4)).toBe(1);
  expect(crossings([[0, 1], [2, 3]], [[2], [3], [], []], 4)).toBe(0);
});
