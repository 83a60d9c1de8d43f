/** Edge labels: their words, and places where they cover neither nodes nor each other. */
import type { GraphEdge } from "../model/graph/meshGraph";
import { bytes, millis, perSecond, percent } from "../model/units";
import type { Point } from "../model/layout/layered";
import { pointAt } from "./curve";
import { LABEL_PX, textWidth } from "./measure";
import type { Scene, SceneEdge } from "./scene";

export type LabelKind = "rate" | "errors" | "p50" | "p95" | "p99";
export const LABEL_KINDS: readonly LabelKind[] = ["rate", "errors", "p50", "p95", "p99"];

export interface EdgeLabel {
  edge: SceneEdge;
  lines: string[];
  x: number;
  y: number;
  width: number;
  height: number;
  locked: boolean;
}

const LINE_HEIGHT = 14;
const LOCK_WIDTH = 11;
/** Beyond so many edges labels are not placed with care; they show only when zoomed in. */
const CAREFUL_EDGES = 600;

export function labelLines(edge: GraphEdge, kinds: ReadonlySet<LabelKind>): string[] {
  if (edge.rate <= 0) return [];
  const first: string[] = [];
  if (kinds.has("rate")) first.push(edge.protocol === "tcp" ? `${bytes(edge.rate)}/s` : perSecond(edge.rate));
  if (kinds.has("errors") && edge.errorShare > 0) first.push(percent(edge.errorShare));
  const bound = edge.percentilesAreBounds ? "≤" : "";
  const wanted = (["p50", "p95", "p99"] as const).filter((kind) => kinds.has(kind) && edge[`${kind}Ms`] !== null);
  const second = wanted.map((kind) => `${kind} ${bound}${millis(edge[`${kind}Ms`])}`);
  return [first.join(" · "), second.join("  ")].filter((line) => line !== "");
}

/** Width that labels of these kinds commonly need: the layout leaves that much between columns. */
export function labelRoom(kinds: ReadonlySet<LabelKind>): number {
  const latencies = ["p50", "p95", "p99"].filter((kind) => kinds.has(kind as LabelKind)).length;
  return Math.max(kinds.has("rate") ? 92 : 40, latencies * 66);
}

export function placeLabels(scene: Scene, kinds: ReadonlySet<LabelKind>, showLocks: boolean, font: string): EdgeLabel[] {
  const face = `${LABEL_PX}px ${font}`;
  const careful = scene.edges.length <= CAREFUL_EDGES;
  const taken: { left: number; top: number; right: number; bottom: number }[] = careful ? [...scene.nodes] : [];
  const labels: EdgeLabel[] = [];
  const at: Point = { x: 0, y: 0 };
  const busiestFirst = [...scene.edges].sort((a, b) => b.edge.rate - a.edge.rate || (a.edge.id < b.edge.id ? -1 : 1));
  for (const edge of busiestFirst) {
    const lines = labelLines(edge.edge, kinds);
    const locked = showLocks && edge.edge.mtlsShare > 0;
    if (lines.length === 0 && !locked) continue;
    const text = lines.reduce((widest, line) => Math.max(widest, textWidth(line, face)), 0);
    const width = text + 10 + (locked ? LOCK_WIDTH : 0);
    const height = Math.max(1, lines.length) * LINE_HEIGHT + 5;
    let best = { x: 0, y: 0, overlap: Infinity };
    for (const share of careful ? [0.5, 0.42, 0.58, 0.34, 0.66, 0.26, 0.74] : [0.5]) {
      pointAt(edge.curve, share, at);
      const overlap = careful ? overlapWith(taken, at, width + 4, height + 3) : 0;
      if (overlap < best.overlap) best = { ...at, overlap };
      if (overlap === 0) break;
    }
    taken.push({ left: best.x - width / 2, right: best.x + width / 2, top: best.y - height / 2, bottom: best.y + height / 2 });
    labels.push({ edge, lines, x: best.x, y: best.y, width, height, locked });
  }
  return labels;
}

function overlapWith(
  taken: readonly { left: number; top: number; right: number; bottom: number }[],
  at: Point,
  width: number,
  height: number,
): number {
  let sum = 0;
  for (const other of taken) {
    const x = Math.min(at.x + width / 2, other.right) - Math.max(at.x - width / 2, other.left);
    const y = Math.min(at.y + height / 2, other.bottom) - Math.max(at.y - height / 2, other.top);
    if (x > 0 && y > 0) sum += x * y;
  }
  return sum;
}
