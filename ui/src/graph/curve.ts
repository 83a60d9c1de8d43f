/** An edge's course: horizontal at its ends and at each point it passes, smooth between. */
import type { Point } from "../model/layout/layered";
import type { Bounds } from "./camera";

export interface Curve {
  startX: number;
  startY: number;
  /** Béziers after the start: six numbers each. */
  beziers: Float32Array;
  /** Points along the curve, evenly spread by length: x, y, x, y … */
  samples: Float32Array;
  length: number;
  bounds: Bounds;
}

const SAMPLES_PER_BEZIER = 14;

export function curveThrough(points: readonly Point[]): Curve {
  const first = points[0]!;
  const beziers = new Float32Array((points.length - 1) * 6);
  for (let index = 1; index < points.length; index += 1) {
    const from = points[index - 1]!;
    const to = points[index]!;
    const reach = (to.x - from.x) * 0.5;
    beziers.set([from.x + reach, from.y, to.x - reach, to.y, to.x, to.y], (index - 1) * 6);
  }
  return finish(first.x, first.y, beziers);
}

/** A loop above a node, for calls to itself. */
export function selfLoop(x: number, top: number, width: number): Curve {
  const reach = Math.min(30, width / 3);
  return finish(x + reach, top, Float32Array.of(x + reach + 14, top - 40, x - reach - 14, top - 40, x - reach, top));
}

function finish(startX: number, startY: number, beziers: Float32Array): Curve {
  const dense: number[] = [startX, startY];
  let x0 = startX;
  let y0 = startY;
  for (let at = 0; at < beziers.length; at += 6) {
    const [x1, y1, x2, y2, x3, y3] = beziers.subarray(at, at + 6) as unknown as [number, number, number, number, number, number];
    for (let step = 1; step <= SAMPLES_PER_BEZIER; step += 1) {
      const t = step / SAMPLES_PER_BEZIER;
      const u = 1 - t;
      const [a, b, c, d] = [u * u * u, 3 * u * u * t, 3 * u * t * t, t * t * t];
      dense.push(a * x0 + b * x1 + c * x2 + d * x3, a * y0 + b * y1 + c * y2 + d * y3);
    }
    x0 = x3;
    y0 = y3;
  }
  const { samples, length } = evenly(dense);
  const bounds = { left: Infinity, top: Infinity, right: -Infinity, bottom: -Infinity };
  for (let at = 0; at < dense.length; at += 2) {
    bounds.left = Math.min(bounds.left, dense[at]!);
    bounds.right = Math.max(bounds.right, dense[at]!);
    bounds.top = Math.min(bounds.top, dense[at + 1]!);
    bounds.bottom = Math.max(bounds.bottom, dense[at + 1]!);
  }
  return { startX, startY, beziers, samples, length, bounds };
}

function evenly(dense: readonly number[]): { samples: Float32Array; length: number } {
  const lengths = [0];
  for (let at = 2; at < dense.length; at += 2) {
    lengths.push(lengths.at(-1)! + Math.hypot(dense[at]! - dense[at - 2]!, dense[at + 1]! - dense[at - 1]!));
  }
  const length = lengths.at(-1)!;
  const count = dense.length / 2;
  const samples = new Float32Array(count * 2);
  let segment = 0;
  for (let index = 0; index < count; index += 1) {
    const wanted = (length * index) / (count - 1);
    while (segment < count - 2 && lengths[segment + 1]! < wanted) segment += 1;
    const part = lengths[segment + 1]! - lengths[segment]!;
    const share = part === 0 ? 0 : (wanted - lengths[segment]!) / part;
    samples[index * 2] = dense[segment * 2]! + (dense[segment * 2 + 2]! - dense[segment * 2]!) * share;
    samples[index * 2 + 1] = dense[segment * 2 + 1]! + (dense[segment * 2 + 3]! - dense[segment * 2 + 1]!) * share;
  }
  return { samples, length };
}

/** The point at a share 0..1 of the curve's length. */
export function pointAt(curve: Curve, share: number, into: Point): Point {
  const { samples } = curve;
  const last = samples.length / 2 - 1;
  const at = Math.min(last, Math.max(0, share * last));
  const index = Math.min(last - 1, Math.floor(at));
  const part = at - index;
  into.x = samples[index * 2]! + (samples[index * 2 + 2]! - samples[index * 2]!) * part;
  into.y = samples[index * 2 + 1]! + (samples[index * 2 + 3]! - samples[index * 2 + 1]!) * part;
  return into;
}

export function traceCurve(path: CanvasPath, curve: Curve): void {
  path.moveTo(curve.startX, curve.startY);
  const { beziers } = curve;
  for (let at = 0; at < beziers.length; at += 6) {
    path.bezierCurveTo(
      beziers[at]!,
      beziers[at + 1]!,
      beziers[at + 2]!,
      beziers[at + 3]!,
      beziers[at + 4]!,
      beziers[at + 5]!,
    );
  }
}
