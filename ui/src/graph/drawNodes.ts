/** The layer above the traffic: nodes with their signs and badges, and edge labels. */
import { type GraphNode } from "../model/graph/meshGraph";
import { compact, perSecond, percent } from "../model/units";
import { type Bounds, type Camera, overlaps } from "./camera";
import type { Emphasis } from "./emphasis";
import { type EdgeLabel } from "./labels";
import { LABEL_PX, SUBTITLE_PX, TITLE_PX, ellipsis, textWidth } from "./measure";
import type { Palette } from "./palette";
import type { Scene, SceneNode } from "./scene";
import { badgesOf, healthSign, lock, nodeOutline } from "./shapes";

/** Zoomed out, text shrinks less than the rest, as far as there is room for it. */
const textPx = (worldPx: number, scale: number, leastScreenPx: number, most: number): number =>
  Math.min(worldPx * most, Math.max(worldPx, leastScreenPx / scale));

/** The wanted size, or what fits the room, but never below the size that the node was measured with. */
function fittedPx(text: string, wanted: number, least: number, weight: string, font: string, room: number): number {
  const width = (textWidth(text, `${weight}${least}px ${font}`) * wanted) / least;
  return width <= room ? wanted : Math.max(least, (wanted * room) / width);
}

const TEXT_SCALE = 0.4;
const SUBTITLE_SCALE = 0.55;
const LABEL_SCALE = 0.48;

export interface NodeMarks {
  selected: string | null;
  hovered: string | null;
  showBadges: boolean;
}

export function drawNodes(
  context: CanvasRenderingContext2D,
  scene: Scene,
  seen: Bounds,
  camera: Camera,
  palette: Palette,
  emphasis: Emphasis,
  marks: NodeMarks,
): void {
  const visible = scene.nodes.filter((node) => overlaps(node, seen));
  if (camera.scale < TEXT_SCALE) {
    drawFar(context, visible, camera, palette, emphasis, marks);
    return;
  }
  for (const node of visible) {
    context.globalAlpha = emphasis.nodeAlpha(node.node.id);
    drawCard(context, node, camera, palette, marks);
  }
  context.globalAlpha = 1;
}

/** From far away a node is its outline in the colour of its health; a folded namespace keeps its name. */
function drawFar(
  context: CanvasRenderingContext2D,
  nodes: readonly SceneNode[],
  camera: Camera,
  palette: Palette,
  emphasis: Emphasis,
  marks: NodeMarks,
): void {
  const batches = new Map<string, SceneNode[]>();
  for (const node of nodes) {
    const key = `${node.node.health}|${emphasis.nodeAlpha(node.node.id)}`;
    const batch = batches.get(key);
    if (batch) batch.push(node);
    else batches.set(key, [node]);
  }
  for (const [key, batch] of batches) {
    const path = new Path2D();
    for (const node of batch) nodeOutline(path, node, 0);
    context.globalAlpha = Number(key.split("|")[1]);
    context.fillStyle = palette.node;
    context.fill(path);
    context.strokeStyle = palette.health[batch[0]!.node.health];
    context.lineWidth = Math.max(1.5, 1.4 / camera.scale);
    context.stroke(path);
  }
  for (const node of nodes) {
    context.globalAlpha = emphasis.nodeAlpha(node.node.id);
    if (node.node.id === marks.selected || node.node.id === marks.hovered) drawRing(context, node, palette, camera);
    if (node.node.kind !== "namespace" && camera.scale < 0.2) continue;
    const size = Math.min(24, 10.5 / camera.scale);
    const face = `600 ${size}px ${palette.font}`;
    context.font = face;
    context.fillStyle = palette.nodeText;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.fillText(ellipsis(node.node.title, face, node.width - 8), node.x, node.y + 1);
  }
  context.globalAlpha = 1;
}

function drawRing(context: CanvasRenderingContext2D, node: SceneNode, palette: Palette, camera: Camera): void {
  const ring = new Path2D();
  nodeOutline(ring, node, 4);
  context.strokeStyle = palette.selected;
  context.lineWidth = Math.max(2.5, 2 / camera.scale);
  context.stroke(ring);
}

function drawCard(
  context: CanvasRenderingContext2D,
  node: SceneNode,
  camera: Camera,
  palette: Palette,
  marks: NodeMarks,
): void {
  const { node: data } = node;
  const outline = new Path2D();
  if (data.kind === "namespace") {
    // A second card behind says: several in one.
    const behind = new Path2D();
    nodeOutline(behind, { ...node, left: node.left + 5, top: node.top - 5, right: node.right + 5, bottom: node.bottom - 5 }, 0);
    context.fillStyle = palette.node;
    context.strokeStyle = palette.nodeBorder;
    context.lineWidth = 1;
    context.fill(behind);
    context.stroke(behind);
  }
  nodeOutline(outline, node, 0);
  context.fillStyle = data.kind === "service" ? palette.service : palette.node;
  context.fill(outline);
  const severe = data.health === "failing" || data.health === "degraded";
  context.strokeStyle = severe ? palette.health[data.health] : palette.nodeBorder;
  context.lineWidth = data.health === "failing" ? 2.2 : severe ? 1.8 : 1.2;
  if (data.kind === "unknown" || data.isOutOfMesh) context.setLineDash([4, 3]);
  context.stroke(outline);
  context.setLineDash([]);
  if (data.id === marks.selected || data.id === marks.hovered) drawRing(context, node, palette, camera);

  const indent = data.kind === "service" ? 8 : 0;
  healthSign(context, node.left + 20 + indent, node.y, data.health, palette);
  const textLeft = node.left + 36 + indent;
  const room = node.right - textLeft - 10 - indent;
  context.textAlign = "left";
  context.textBaseline = "alphabetic";
  const detailed = camera.scale >= SUBTITLE_SCALE;
  const titlePx = fittedPx(data.title, textPx(TITLE_PX, camera.scale, 11.5, 1.2), TITLE_PX, "600 ", palette.font, room);
  const titleFace = `600 ${titlePx}px ${palette.font}`;
  context.font = titleFace;
  context.fillStyle = palette.nodeText;
  context.fillText(ellipsis(data.title, titleFace, room), textLeft, detailed ? node.y - 2 : node.y + 5);
  if (detailed) {
    const subtitle = subtitleOf(data);
    const px = fittedPx(subtitle, textPx(SUBTITLE_PX, camera.scale, 9.8, 1.2), SUBTITLE_PX, "", palette.font, room);
    const face = `${px}px ${palette.font}`;
    context.font = face;
    context.fillStyle = palette.nodeMuted;
    context.fillText(ellipsis(subtitle, face, room), textLeft, node.y + 14.5);
  }
  if (marks.showBadges && detailed) badgesOf(context, node, palette);
}

function subtitleOf(node: GraphNode): string {
  const rate = node.rateIn > 0 ? node.rateIn : node.rateOut;
  const failed = node.errorShareIn >= 0.0005 ? ` · ${percent(node.errorShareIn)}` : "";
  return `${node.subtitle}${rate > 0 ? ` · ${perSecond(rate)}` : ""}${node.kind === "namespace" ? failed : ""}`;
}

export function drawLabels(
  context: CanvasRenderingContext2D,
  labels: readonly EdgeLabel[],
  seen: Bounds,
  camera: Camera,
  palette: Palette,
  emphasis: Emphasis,
): void {
  if (camera.scale < LABEL_SCALE) return;
  const grow = textPx(LABEL_PX, camera.scale, 10, 1.25) / LABEL_PX;
  const face = `${LABEL_PX * grow}px ${palette.font}`;
  context.textBaseline = "middle";
  context.textAlign = "center";
  for (const label of labels) {
    const bounds = { left: label.x - (label.width * grow) / 2, right: label.x + (label.width * grow) / 2, top: label.y - 20, bottom: label.y + 20 };
    if (!overlaps(bounds, seen)) continue;
    const { edge } = label.edge;
    const alpha = emphasis.edgeAlpha(edge.id);
    if (alpha < 1) continue;
    context.beginPath();
    context.roundRect(bounds.left, label.y - (label.height * grow) / 2, label.width * grow, label.height * grow, 6);
    context.fillStyle = palette.label;
    context.fill();
    const shift = label.locked ? 5.5 : 0;
    if (label.locked) lock(context, bounds.left + 9, label.y, edge.mtlsShare > 0.995, palette);
    context.font = face;
    for (const [index, line] of label.lines.entries()) {
      const severe = index === 0 && (edge.health === "failing" || edge.health === "degraded");
      context.fillStyle = severe ? palette.health[edge.health] : palette.labelText;
      context.fillText(line, label.x + shift, label.y + (index - (label.lines.length - 1) / 2) * 14 * grow + 0.5);
    }
  }
}

/** One sentence for each node, for the hover title and screen readers. */
export const describeNode = (node: GraphNode): string =>
  `${node.title} ${node.subtitle}, ${node.health}, ${compact(node.rateIn)} requests per second in` +
  (node.errorShareIn > 0 ? `, ${percent(node.errorShareIn)} of them failed` : "") +
  (node.config.length > 0 ? `; Istio: ${node.config.join(", ")}` : "");
