/**
 * Moving traffic. Each dot stands for requests on their way: busier edges send more dots, faster;
 * the share of failed requests travels as diamonds in the failing colour.
 */
import type { Point } from "../model/layout/layered";
import { type Bounds, overlaps } from "./camera";
import { pointAt } from "./curve";
import type { Emphasis } from "./emphasis";
import type { Palette } from "./palette";
import type { Scene, SceneEdge } from "./scene";

/** Beyond so many visible edges only the busiest move. */
const MAX_MOVING_EDGES = 300;
const MAX_DOTS = 800;
const DOT_RADIUS = 2.5;
const ERROR_RADIUS = 3.8;

/** Dots per second: as many as requests while these are few, then logarithmic. */
export const dotsPerSecond = (rate: number): number => (rate <= 1.5 ? rate : 1.5 + 1.7 * Math.log2(rate / 1.5));

/** World units per second. */
export const dotSpeed = (rate: number): number => 55 + 38 * Math.log10(1 + rate * 4);

/** A fixed pseudo-random number in 0..1 for the n-th dot of an edge. */
function noise(seed: number, n: number): number {
  let mixed = Math.imul(seed ^ Math.imul(n, 0x9e3779b1), 0x85ebca6b);
  mixed ^= mixed >>> 13;
  mixed = Math.imul(mixed, 0xc2b2ae35);
  return ((mixed ^ (mixed >>> 16)) >>> 0) / 4_294_967_296;
}

function seedOf(id: string): number {
  let seed = 2166136261;
  for (let index = 0; index < id.length; index += 1) seed = Math.imul(seed ^ id.charCodeAt(index), 16777619);
  return seed;
}

interface Flow {
  seed: number;
  /** Dots sent since the start; kept over refreshes, so that nothing jumps when a rate changes. */
  sent: number;
}

export class Traffic {
  private readonly flows = new Map<string, Flow>();
  /** Dots drawn in the last frame, for tests. */
  drawn = 0;

  private flowOf(edge: SceneEdge): Flow {
    let flow = this.flows.get(edge.edge.id);
    if (!flow) {
      const seed = seedOf(edge.edge.id);
      flow = { seed, sent: 10 + noise(seed, 0) };
      this.flows.set(edge.edge.id, flow);
    }
    return flow;
  }

  draw(context: CanvasRenderingContext2D, scene: Scene, seen: Bounds, palette: Palette, elapsedS: number, scale: number, emphasis: Emphasis): void {
    // From far away a dot keeps a visible size.
    const radius = DOT_RADIUS * Math.min(2.6, Math.max(1, 0.62 / scale));
    const errorRadius = (radius * ERROR_RADIUS) / DOT_RADIUS;
    // Where edges step back, their traffic does too.
    let moving = scene.edges.filter(({ edge, curve }) => edge.rate > 0 && emphasis.edgeAlpha(edge.id) === 1 && overlaps(curve.bounds, seen));
    if (moving.length > MAX_MOVING_EDGES) {
      moving = moving.sort((a, b) => b.edge.rate - a.edge.rate).slice(0, MAX_MOVING_EDGES);
    }
    const good = new Path2D();
    const bad = new Path2D();
    const at: Point = { x: 0, y: 0 };
    this.drawn = 0;
    // From far away dots move as fast on the screen as from near, and never run together.
    const far = Math.max(1, 0.6 / scale);
    const ways = moving.reduce((sum, { curve }) => sum + curve.length, 0);
    const leastGap = Math.max(16 * far, ways / MAX_DOTS);
    for (const edge of moving) {
      const rate = edge.edge.protocol === "tcp" ? Math.max(0.5, edge.edge.rate / 2048) : edge.edge.rate;
      const speed = dotSpeed(rate) * far;
      const frequency = Math.min(Math.max(0.15, dotsPerSecond(rate)), speed / leastGap);
      const flow = this.flowOf(edge);
      flow.sent += elapsedS * frequency;
      const newest = Math.floor(flow.sent);
      const inFlight = Math.ceil((edge.curve.length / speed) * frequency) + 1;
      for (let back = 0; back <= inFlight; back += 1) {
        const number = newest - back;
        const jitter = noise(flow.seed, number) * 0.8;
        const share = ((flow.sent - number - jitter) / frequency) * (speed / edge.curve.length);
        if (share < 0 || share > 1) continue;
        pointAt(edge.curve, share, at);
        this.drawn += 1;
        if (noise(flow.seed + 1, number) < edge.edge.errorShare) diamond(bad, at, errorRadius);
        else {
          good.moveTo(at.x + radius, at.y);
          good.arc(at.x, at.y, radius, 0, Math.PI * 2);
        }
      }
    }
    context.fillStyle = palette.dot;
    context.fill(good);
    context.fillStyle = palette.dotError;
    context.fill(bad);
  }

  /** Forgets edges that are gone. */
  keepOnly(scene: Scene): void {
    for (const id of this.flows.keys()) if (!scene.edgeById.has(id)) this.flows.delete(id);
  }
}

function diamond(path: Path2D, { x, y }: Point, radius: number): void {
  path.moveTo(x, y - radius);
  path.lineTo(x + radius, y);
  path.lineTo(x, y + radius);
  path.lineTo(x - radius, y);
  path.closePath();
}
