/** What is on the canvas: nodes, boxes and edges with their places, and an index to find them by point. */
import type { Box } from "../model/graph/boxes";
import type { GraphEdge, GraphNode } from "../model/graph/meshGraph";
import type { LayoutResult, Rectangle } from "../model/layout/compound";
import type { Bounds } from "./camera";
import { type Curve, curveThrough, selfLoop } from "./curve";
import { NODE_HEIGHT } from "./measure";

export interface SceneNode extends Bounds {
  node: GraphNode;
  x: number;
  y: number;
  width: number;
  height: number;
}

export interface SceneEdge {
  edge: GraphEdge;
  source: SceneNode;
  target: SceneNode;
  curve: Curve;
  lineWidth: number;
}

export interface SceneBox extends Bounds {
  box: Box;
}

export interface Scene {
  nodes: SceneNode[];
  edges: SceneEdge[];
  boxes: SceneBox[];
  nodeById: Map<string, SceneNode>;
  edgeById: Map<string, SceneEdge>;
  bounds: Bounds;
  index: PointIndex;
}

const toBounds = ({ x, y, width, height }: Rectangle): Bounds => ({ left: x, top: y, right: x + width, bottom: y + height });

export interface SceneInput {
  nodes: readonly GraphNode[];
  edges: readonly GraphEdge[];
  boxes: ReadonlyMap<string, Box>;
  layout: LayoutResult;
  sizes: Record<string, { width: number; height: number }>;
}

export function buildScene({ nodes, edges, boxes, layout, sizes }: SceneInput): Scene {
  const nodeById = new Map<string, SceneNode>();
  for (const node of nodes) {
    const centre = layout.nodes[node.id];
    if (!centre) continue;
    const { width, height } = sizes[node.id] ?? { width: 120, height: NODE_HEIGHT };
    const left = centre.x - width / 2;
    const top = centre.y - height / 2;
    nodeById.set(node.id, { node, ...centre, width, height, left, top, right: left + width, bottom: top + height });
  }
  const edgeById = new Map<string, SceneEdge>();
  for (const edge of edges) {
    const source = nodeById.get(edge.source);
    const target = nodeById.get(edge.target);
    if (!source || !target) continue;
    edgeById.set(edge.id, {
      edge,
      source,
      target,
      curve: courseOf(source, target, layout.routes[edge.id] ?? []),
      lineWidth: lineWidthOf(edge),
    });
  }
  const sceneBoxes: SceneBox[] = [];
  for (const [id, rectangle] of Object.entries(layout.boxes)) {
    const box = boxes.get(id);
    if (box) sceneBoxes.push({ box, ...toBounds(rectangle) });
  }
  const scene = { nodes: [...nodeById.values()], edges: [...edgeById.values()], boxes: sceneBoxes, nodeById, edgeById };
  return { ...scene, bounds: boundsOf(scene.nodes, sceneBoxes), index: new PointIndex(scene.nodes, scene.edges) };
}

function courseOf(source: SceneNode, target: SceneNode, via: readonly { x: number; y: number }[]): Curve {
  if (source === target) return selfLoop(source.x, source.top, source.width);
  // Leave on the side that faces the target; an edge that runs back leaves on the left.
  const forward = target.x >= source.x;
  const start = { x: forward ? source.right : source.left, y: source.y };
  const end = { x: forward ? target.left : target.right, y: target.y };
  if (Math.abs(target.x - source.x) < (source.width + target.width) / 2) {
    // In one column: out and in on the right, with a bow.
    const bow = Math.max(source.right, target.right) + 46;
    return curveThrough([{ x: source.right, y: source.y }, { x: bow, y: (source.y + target.y) / 2 }, { x: target.right, y: target.y }]);
  }
  return curveThrough([start, ...via, end]);
}

const lineWidthOf = (edge: GraphEdge): number => {
  if (edge.rate <= 0) return 1;
  const rate = edge.protocol === "tcp" ? edge.rate / 1024 : edge.rate;
  return Math.min(5, 1.3 + 0.75 * Math.log10(1 + rate));
};

function boundsOf(nodes: readonly SceneNode[], boxes: readonly SceneBox[]): Bounds {
  const bounds = { left: Infinity, top: Infinity, right: -Infinity, bottom: -Infinity };
  for (const part of [...nodes, ...boxes]) {
    bounds.left = Math.min(bounds.left, part.left);
    bounds.top = Math.min(bounds.top, part.top);
    bounds.right = Math.max(bounds.right, part.right);
    bounds.bottom = Math.max(bounds.bottom, part.bottom);
  }
  return nodes.length === 0 ? { left: 0, top: 0, right: 1, bottom: 1 } : bounds;
}

const CELL = 220;

/** A grid over the scene: a point is looked up in one cell, never by pixel or by scanning all. */
export class PointIndex {
  private readonly nodeCells = new Map<string, SceneNode[]>();
  private readonly edgeCells = new Map<string, SceneEdge[]>();

  constructor(nodes: readonly SceneNode[], edges: readonly SceneEdge[]) {
    for (const node of nodes) for (const key of cellsOf(node)) push(this.nodeCells, key, node);
    for (const edge of edges) {
      const { samples } = edge.curve;
      const keys = new Set<string>();
      for (let at = 0; at < samples.length; at += 2) keys.add(cellAt(samples[at]!, samples[at + 1]!));
      for (const key of keys) push(this.edgeCells, key, edge);
    }
  }

  nodeAt(x: number, y: number): SceneNode | null {
    const found = this.nodeCells.get(cellAt(x, y));
    return found?.find((node) => x >= node.left && x <= node.right && y >= node.top && y <= node.bottom) ?? null;
  }

  /** The nearest edge within `reach` world units. */
  edgeAt(x: number, y: number, reach: number): SceneEdge | null {
    let best: SceneEdge | null = null;
    let nearest = reach;
    for (const dx of [-reach, 0, reach]) {
      for (const dy of [-reach, 0, reach]) {
        for (const edge of this.edgeCells.get(cellAt(x + dx, y + dy)) ?? []) {
          const distance = distanceTo(edge.curve.samples, x, y);
          if (distance < nearest) {
            nearest = distance;
            best = edge;
          }
        }
      }
    }
    return best;
  }
}

const cellAt = (x: number, y: number): string => `${Math.floor(x / CELL)},${Math.floor(y / CELL)}`;

function* cellsOf(part: Bounds): Iterable<string> {
  for (let column = Math.floor(part.left / CELL); column <= Math.floor(part.right / CELL); column += 1) {
    for (let row = Math.floor(part.top / CELL); row <= Math.floor(part.bottom / CELL); row += 1) yield `${column},${row}`;
  }
}

function push<T>(cells: Map<string, T[]>, key: string, item: T): void {
  const found = cells.get(key);
  if (found) found.push(item);
  else cells.set(key, [item]);
}

function distanceTo(samples: Float32Array, x: number, y: number): number {
  let nearest = Infinity;
  for (let at = 2; at < samples.length; at += 2) {
    const [ax, ay, bx, by] = [samples[at - 2]!, samples[at - 1]!, samples[at]!, samples[at + 1]!];
    const length2 = (bx - ax) ** 2 + (by - ay) ** 2;
    const share = length2 === 0 ? 0 : Math.min(1, Math.max(0, ((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / length2));
    nearest = Math.min(nearest, Math.hypot(x - ax - share * (bx - ax), y - ay - share * (by - ay)));
  }
  return nearest;
}
