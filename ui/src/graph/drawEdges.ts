/** The layer below the traffic: boxes and edges. Edges are batched by how they look. */
import type { Health } from "../model/graph/meshGraph";
import { type Bounds, type Camera, overlaps } from "./camera";
import { traceCurve } from "./curve";
import type { Palette } from "./palette";
import type { Scene, SceneBox, SceneEdge } from "./scene";
import type { Emphasis } from "./emphasis";

/** Health is never colour alone: each state has its own line. */
const DASHES: Record<Health, number[]> = { healthy: [], degraded: [14, 6], failing: [5, 4], idle: [1.5, 5] };
const WIDTH_FACTOR: Record<Health, number> = { healthy: 1, degraded: 1.25, failing: 2, idle: 0.8 };

const ARROW_SCALE = 0.3;
const BOX_TITLE_SCALE = 0.45;
/** With more edges in view than this, the least busy healthy ones are left out. */
const MAX_DRAWN_EDGES = 3000;
export const FADED = 0.13;

export function drawBoxes(context: CanvasRenderingContext2D, scene: Scene, seen: Bounds, camera: Camera, palette: Palette): void {
  for (const kind of ["namespace", "app"] as const) {
    for (const box of scene.boxes) {
      if (box.box.kind !== kind || !overlaps(box, seen)) continue;
      drawBox(context, box, camera, palette);
    }
  }
}

function drawBox(context: CanvasRenderingContext2D, box: SceneBox, camera: Camera, palette: Palette): void {
  context.beginPath();
  context.roundRect(box.left, box.top, box.right - box.left, box.bottom - box.top, 12);
  context.fillStyle = palette.box;
  context.fill();
  context.strokeStyle = palette.boxBorder;
  context.lineWidth = 1 / Math.min(1, camera.scale);
  context.setLineDash(box.box.kind === "app" ? [4, 4] : []);
  context.stroke();
  context.setLineDash([]);
  const isNamespace = box.box.kind === "namespace";
  if (!isNamespace && camera.scale < BOX_TITLE_SCALE) return;
  // Far out, a namespace's name keeps a readable size and stands above its box, clear of the nodes.
  const isFar = camera.scale < BOX_TITLE_SCALE;
  const size = isNamespace ? Math.max(12, 10.5 / camera.scale) : 10.5;
  context.font = `600 ${size}px ${palette.font}`;
  const room = box.right - box.left + (isFar ? size : -12);
  if (context.measureText(box.box.title).width > room) return;
  context.fillStyle = palette.boxText;
  context.textAlign = "left";
  context.textBaseline = isFar ? "bottom" : "middle";
  if (isFar) context.fillText(box.box.title, box.left, box.top - size * 0.2);
  else context.fillText(box.box.title, box.left + 14, box.top + 17);
}

interface Batch {
  health: Health;
  tcp: boolean;
  lineWidth: number;
  alpha: number;
  edges: SceneEdge[];
}

export function drawEdges(
  context: CanvasRenderingContext2D,
  scene: Scene,
  seen: Bounds,
  camera: Camera,
  palette: Palette,
  emphasis: Emphasis,
): void {
  let visible = scene.edges.filter((edge) => overlaps(edge.curve.bounds, seen));
  if (visible.length > MAX_DRAWN_EDGES) {
    const rank = ({ edge }: SceneEdge): number => (edge.health === "failing" || edge.health === "degraded" ? 1e9 : edge.rate);
    visible = visible.sort((a, b) => rank(b) - rank(a)).slice(0, MAX_DRAWN_EDGES);
  }
  const batches = new Map<string, Batch>();
  for (const edge of visible) {
    const { health, protocol } = edge.edge;
    const lineWidth = Math.round(edge.lineWidth * WIDTH_FACTOR[health] * 2) / 2;
    const alpha = emphasis.edgeAlpha(edge.edge.id);
    const tcp = protocol === "tcp";
    const key = `${health}|${tcp}|${lineWidth}|${alpha}`;
    const batch = batches.get(key);
    if (batch) batch.edges.push(edge);
    else batches.set(key, { health, tcp, lineWidth, alpha, edges: [edge] });
  }
  const crowded = visible.length > 250;
  // Many healthy edges together step back, so that the others show.
  const healthyAlpha = Math.min(0.62, Math.max(0.16, 40 / Math.max(1, visible.length)));
  for (const batch of [...batches.values()].sort((a, b) => a.alpha - b.alpha)) {
    const path = new Path2D();
    for (const { curve } of batch.edges) traceCurve(path, curve);
    const base = batch.health === "healthy" ? healthyAlpha : batch.health === "idle" ? 0.5 : 0.95;
    context.globalAlpha = base * batch.alpha;
    context.strokeStyle = batch.tcp && batch.health === "healthy" ? palette.tcp : palette.health[batch.health];
    context.lineWidth = Math.max(batch.lineWidth, (crowded ? 0.7 : 1) / camera.scale);
    context.setLineDash(crowded && camera.scale < 0.2 ? [] : DASHES[batch.health]);
    context.stroke(path);
    if (camera.scale < ARROW_SCALE) continue;
    context.setLineDash([]);
    context.globalAlpha = Math.min(1, base + 0.25) * batch.alpha;
    context.fillStyle = context.strokeStyle;
    const heads = new Path2D();
    for (const edge of batch.edges) arrowHead(heads, edge.curve.samples, 5 + batch.lineWidth * 1.1);
    context.fill(heads);
  }
  context.globalAlpha = 1;
  context.setLineDash([]);
}

function arrowHead(path: Path2D, samples: Float32Array, size: number): void {
  const end = samples.length;
  const [x, y] = [samples[end - 2]!, samples[end - 1]!];
  const angle = Math.atan2(y - samples[end - 3]!, x - samples[end - 4]!);
  const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
  path.moveTo(x, y);
  path.lineTo(x - size * 1.5 * cos + size * 0.62 * sin, y - size * 1.5 * sin - size * 0.62 * cos);
  path.lineTo(x - size * 1.5 * cos - size * 0.62 * sin, y - size * 1.5 * sin + size * 0.62 * cos);
  path.closePath();
}

/** A halo behind the selected and the hovered edge. */
export function drawEdgeHalo(context: CanvasRenderingContext2D, edge: SceneEdge, palette: Palette, strong: boolean): void {
  const path = new Path2D();
  traceCurve(path, edge.curve);
  context.globalAlpha = strong ? 0.34 : 0.18;
  context.strokeStyle = palette.selected;
  context.lineWidth = edge.lineWidth * WIDTH_FACTOR[edge.edge.health] + 9;
  context.lineCap = "round";
  context.stroke(path);
  context.lineCap = "butt";
  context.globalAlpha = 1;
}
