/** A layout on its way from one to another, so that eyes can follow where a node went. */
import type { LayoutResult } from "./compound";

/** `share` runs from 0 to 1. What is new stands where it belongs from the start. */
export function layoutBetween(from: LayoutResult, to: LayoutResult, share: number): LayoutResult {
  const eased = 1 - (1 - share) ** 3;
  const mix = (a: number, b: number) => a + (b - a) * eased;
  const nodes = Object.fromEntries(
    Object.entries(to.nodes).map(([id, { x, y }]) => {
      const before = from.nodes[id];
      return [id, before ? { x: mix(before.x, x), y: mix(before.y, y) } : { x, y }];
    }),
  );
  const boxes = Object.fromEntries(
    Object.entries(to.boxes).map(([id, box]) => {
      const before = from.boxes[id];
      if (!before) return [id, box];
      return [
        id,
        { x: mix(before.x, box.x), y: mix(before.y, box.y), width: mix(before.width, box.width), height: mix(before.height, box.height) },
      ];
    }),
  );
  return { ...to, nodes, boxes };
}
