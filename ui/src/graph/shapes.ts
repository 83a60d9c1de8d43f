/** Outlines and small signs. Kind is shape, health is sign and colour, facts are badges. */
import type { Health } from "../model/graph/meshGraph";
import type { Palette } from "./palette";
import type { SceneNode } from "./scene";

/** Workloads and apps are cards, services are signposts with pointed ends, folded namespaces are square-cut. */
export function nodeOutline(path: Path2D, node: SceneNode, grow: number): void {
  const [left, top, right, bottom] = [node.left - grow, node.top - grow, node.right + grow, node.bottom + grow];
  if (node.node.kind === "service") {
    const point = 13;
    const middle = (top + bottom) / 2;
    path.moveTo(left, middle);
    path.lineTo(left + point, top);
    path.lineTo(right - point, top);
    path.lineTo(right, middle);
    path.lineTo(right - point, bottom);
    path.lineTo(left + point, bottom);
    path.closePath();
    return;
  }
  const radius = node.node.kind === "namespace" ? 5 : node.node.kind === "unknown" ? 22 : 11;
  path.roundRect(left, top, right - left, bottom - top, radius + grow);
}

export function healthSign(context: CanvasRenderingContext2D, x: number, y: number, health: Health, palette: Palette): void {
  const colour = palette.health[health];
  context.fillStyle = colour;
  context.strokeStyle = colour;
  context.lineWidth = 1.8;
  context.beginPath();
  if (health === "healthy") {
    context.arc(x, y, 7, 0, Math.PI * 2);
    context.globalAlpha *= 0.18;
    context.fill();
    context.globalAlpha /= 0.18;
    context.beginPath();
    context.arc(x, y, 3.8, 0, Math.PI * 2);
    context.fill();
  } else if (health === "degraded") {
    polygon(context, x, y + 1, 8.4, 3, -Math.PI / 2);
    context.fill();
    mark(context, palette.node, x, y - 2.6, y + 1.5, y + 4.1);
  } else if (health === "failing") {
    polygon(context, x, y, 8, 8, Math.PI / 8);
    context.fill();
    context.strokeStyle = palette.node;
    context.beginPath();
    context.moveTo(x - 2.8, y - 2.8);
    context.lineTo(x + 2.8, y + 2.8);
    context.moveTo(x + 2.8, y - 2.8);
    context.lineTo(x - 2.8, y + 2.8);
    context.stroke();
  } else {
    context.arc(x, y, 4.4, 0, Math.PI * 2);
    context.stroke();
  }
}

function polygon(context: CanvasRenderingContext2D, x: number, y: number, radius: number, corners: number, turn: number): void {
  for (let corner = 0; corner < corners; corner += 1) {
    const angle = turn + (corner * 2 * Math.PI) / corners;
    context.lineTo(x + radius * Math.cos(angle), y + radius * Math.sin(angle));
  }
  context.closePath();
}

/** The stroke and dot of an exclamation mark. */
function mark(context: CanvasRenderingContext2D, colour: string, x: number, top: number, bottom: number, dot: number): void {
  context.strokeStyle = colour;
  context.lineWidth = 1.6;
  context.beginPath();
  context.moveTo(x, top);
  context.lineTo(x, bottom);
  context.moveTo(x, dot - 0.4);
  context.lineTo(x, dot + 0.6);
  context.stroke();
}

/** A lock: closed when all traffic is mutual TLS, open when only a part is. */
export function lock(context: CanvasRenderingContext2D, x: number, y: number, closed: boolean, palette: Palette): void {
  context.strokeStyle = palette.nodeMuted;
  context.fillStyle = palette.nodeMuted;
  context.lineWidth = 1.2;
  context.beginPath();
  context.roundRect(x - 3.2, y - 0.8, 6.4, 5, 1);
  context.fill();
  context.beginPath();
  const turn = closed ? 0 : 2.6;
  context.arc(x + turn, y - 1.2, 2.1, Math.PI, closed ? 0 : -0.2);
  context.stroke();
}

const BADGES: [words: string, glyph: (context: CanvasRenderingContext2D, x: number, y: number) => void][] = [
  ["fault injection", bolt],
  ["traffic shifting", fork],
  ["request routing", fork],
  ["request timeout", clockFace],
  ["circuit breaker", breaker],
  ["mirroring", fork],
  ["virtual service", fork],
];

/** Round badges on the upper edge: gateway first, then what Istio's configuration does to the node. */
export function badgesOf(context: CanvasRenderingContext2D, node: SceneNode, palette: Palette): void {
  const glyphs = BADGES.filter(([words]) => node.node.config.includes(words)).map(([, glyph]) => glyph);
  const unique = [...new Set(node.node.isGateway ? [gate, ...glyphs] : glyphs)].slice(0, 4);
  for (const [index, glyph] of unique.entries()) {
    const x = node.right - 15 - index * 19;
    const y = node.top;
    context.beginPath();
    context.arc(x, y, 8, 0, Math.PI * 2);
    context.fillStyle = palette.node;
    context.fill();
    context.strokeStyle = palette.nodeBorder;
    context.lineWidth = 1;
    context.stroke();
    context.strokeStyle = palette.nodeMuted;
    context.fillStyle = palette.nodeMuted;
    context.lineWidth = 1.3;
    glyph(context, x, y);
  }
}

function lines(context: CanvasRenderingContext2D, x: number, y: number, ...runs: number[][]): void {
  context.beginPath();
  for (const run of runs) {
    for (let at = 0; at < run.length; at += 2) {
      if (at === 0) context.moveTo(x + run[at]!, y + run[at + 1]!);
      else context.lineTo(x + run[at]!, y + run[at + 1]!);
    }
  }
  context.stroke();
}

function bolt(context: CanvasRenderingContext2D, x: number, y: number): void {
  context.beginPath();
  for (const [dx, dy] of [[1, -5], [-3.2, 0.8], [-0.4, 0.8], [-1, 5], [3.2, -0.8], [0.4, -0.8]] as const) context.lineTo(x + dx, y + dy);
  context.closePath();
  context.fill();
}

function fork(context: CanvasRenderingContext2D, x: number, y: number): void {
  lines(context, x, y, [-4, 0, -1, 0, 3.5, -3], [-1, 0, 3.5, 3]);
}

function clockFace(context: CanvasRenderingContext2D, x: number, y: number): void {
  context.beginPath();
  context.arc(x, y, 4, 0, Math.PI * 2);
  context.stroke();
  lines(context, x, y, [0, -2.4, 0, 0, 1.8, 1]);
}

function breaker(context: CanvasRenderingContext2D, x: number, y: number): void {
  lines(context, x, y, [-4.5, 1.5, -1.5, 1.5, 2, -2], [1.5, 1.5, 4.5, 1.5]);
}

function gate(context: CanvasRenderingContext2D, x: number, y: number): void {
  lines(context, x, y, [-4, 4, -4, -1, 0, -4, 4, -1, 4, 4], [-1.5, 0.5, 1.5, 0.5]);
}

