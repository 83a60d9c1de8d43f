/**
 * Layout with boxes: each box is laid out on its own, then takes part in its parent's layout as
 * one item. An edge is routed on the level of the innermost box that holds both its ends.
 */
import { type Point, type Spacing, layoutLayered } from "./layered";

export interface LayoutGroup {
  id: string;
  nodes: string[];
  groups: LayoutGroup[];
}

export interface LayoutInput {
  root: LayoutGroup;
  /** Size of each node. */
  sizes: Record<string, { width: number; height: number }>;
  edges: { id: string; source: string; target: string }[];
  /** Height at which a node was drawn before; it keeps its order among its neighbours. */
  previousY: Record<string, number>;
  /** Width that edge labels need between columns. */
  labelRoom: number;
}

export interface Rectangle {
  /** Left and top. */
  x: number;
  y: number;
  width: number;
  height: number;
}

export interface LayoutResult {
  /** Centre of each node. */
  nodes: Record<string, Point>;
  boxes: Record<string, Rectangle>;
  /** Points that each edge passes between its ends. */
  routes: Record<string, Point[]>;
  width: number;
  height: number;
}

export const BOX_PADDING = { side: 20, top: 34, bottom: 18 };

interface Placed {
  width: number;
  height: number;
  nodes: Map<string, Point>;
  boxes: Map<string, Rectangle>;
  routes: Map<string, Point[]>;
}

export function layoutCompound(input: LayoutInput): LayoutResult {
  const homes = new Map<string, string[]>();
  collectHomes(input.root, [], homes);
  const byGroup = new Map<string, LayoutInput["edges"]>();
  for (const edge of input.edges) {
    const from = homes.get(edge.source);
    const to = homes.get(edge.target);
    if (!from || !to) continue;
    const shared = commonGroup(from, to);
    const edges = byGroup.get(shared);
    if (edges) edges.push(edge);
    else byGroup.set(shared, [edge]);
  }
  const placed = placeGroup(input.root, 0, input, homes, byGroup);
  return {
    nodes: Object.fromEntries(placed.nodes),
    boxes: Object.fromEntries(placed.boxes),
    routes: Object.fromEntries(placed.routes),
    width: placed.width,
    height: placed.height,
  };
}

/** For each node the ids of the groups around it, outermost first. */
function collectHomes(group: LayoutGroup, around: readonly string[], homes: Map<string, string[]>): void {
  const path = [...around, group.id];
  for (const node of group.nodes) homes.set(node, path);
  for (const inner of group.groups) collectHomes(inner, path, homes);
}

function commonGroup(a: readonly string[], b: readonly string[]): string {
  let shared = "";
  for (let depth = 0; depth < a.length && a[depth] === b[depth]; depth += 1) shared = a[depth]!;
  return shared;
}

function placeGroup(
  group: LayoutGroup,
  depth: number,
  input: LayoutInput,
  homes: ReadonlyMap<string, readonly string[]>,
  byGroup: ReadonlyMap<string, LayoutInput["edges"]>,
): Placed {
  const inner = group.groups.map((child) => placeGroup(child, depth + 1, input, homes, byGroup));
  const indexOf = new Map<string, number>();
  const items = [
    ...group.nodes.map((id) => {
      indexOf.set(id, indexOf.size);
      return { ...input.sizes[id]!, seed: input.previousY[id] ?? 0 };
    }),
    ...inner.map((placed, position) => {
      indexOf.set(group.groups[position]!.id, indexOf.size);
      const seeds = [...placed.nodes.keys()].map((id) => input.previousY[id]).filter((y) => y !== undefined);
      const seed = seeds.length > 0 ? seeds.reduce((sum, y) => sum + y, 0) / seeds.length : 0;
      return {
        width: placed.width + BOX_PADDING.side * 2,
        height: placed.height + BOX_PADDING.top + BOX_PADDING.bottom,
        seed,
      };
    }),
  ];
  const edges = byGroup.get(group.id) ?? [];
  const itemOf = (node: string): number => indexOf.get(homes.get(node)![depth + 1] ?? node)!;
  const links = edges.map(({ source, target }) => ({ from: itemOf(source), to: itemOf(target) }));
  const laid = layoutLayered(items, links, spacingAt(depth, group, edges.length, input.labelRoom));

  const result: Placed = { width: laid.width, height: laid.height, nodes: new Map(), boxes: new Map(), routes: new Map() };
  for (const id of group.nodes) result.nodes.set(id, laid.centres[indexOf.get(id)!]!);
  for (const [position, placed] of inner.entries()) {
    const { id } = group.groups[position]!;
    const index = indexOf.get(id)!;
    const { width, height } = items[index]!;
    const x = laid.centres[index]!.x - width / 2;
    const y = laid.centres[index]!.y - height / 2;
    result.boxes.set(id, { x, y, width, height });
    shiftInto(result, placed, x + BOX_PADDING.side, y + BOX_PADDING.top);
  }
  for (const [position, edge] of edges.entries()) result.routes.set(edge.id, laid.routes[position]!);
  return result;
}

/** Room for edge labels between columns; less in small boxes, more where many edges run. */
function spacingAt(depth: number, group: LayoutGroup, edgeCount: number, labelRoom: number): Spacing {
  const members = group.nodes.length + group.groups.length;
  // Where edges are many, labels are not placed with care, and need no room.
  const room = (edgeCount > 150 ? 60 : labelRoom) + 34;
  const gapX = depth < 2 ? room + Math.min(170, Math.max(0, edgeCount - 20) * 0.6) : room;
  // Drawings are wider than high: while there are few nodes, height is free, and keeps labels apart.
  const gapY = members > 60 ? 18 : members > 16 ? 30 : 52;
  return { gapX, gapY };
}

function shiftInto(target: Placed, source: Placed, dx: number, dy: number): void {
  const shift = ({ x, y }: Point): Point => ({ x: x + dx, y: y + dy });
  for (const [id, point] of source.nodes) target.nodes.set(id, shift(point));
  for (const [id, box] of source.boxes) target.boxes.set(id, { ...box, ...shift(box) });
  for (const [id, points] of source.routes) target.routes.set(id, points.map(shift));
}
