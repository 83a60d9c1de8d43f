/** Keyboard moves: from a node to the best neighbour in a direction. */
import type { Scene, SceneNode } from "./scene";

/** Along edges when one leads that way, otherwise to the nearest node there. */
export function neighbourTowards(scene: Scene, from: string | null, dx: number, dy: number): string | null {
  const start = from === null ? undefined : scene.nodeById.get(from);
  if (!start) return scene.nodes.reduce<SceneNode | null>((best, node) => (!best || node.x + node.y < best.x + best.y ? node : best), null)?.node.id ?? null;
  const linked: SceneNode[] = [];
  for (const { source, target } of scene.edges) {
    if (source === start) linked.push(target);
    if (target === start) linked.push(source);
  }
  return nearest(start, linked, dx, dy) ?? nearest(start, scene.nodes, dx, dy);
}

function nearest(start: SceneNode, nodes: readonly SceneNode[], dx: number, dy: number): string | null {
  let best: string | null = null;
  let least = Infinity;
  for (const node of nodes) {
    const along = (node.x - start.x) * dx + (node.y - start.y) * dy;
    if (node === start || along <= 4) continue;
    const aside = Math.abs((node.x - start.x) * dy) + Math.abs((node.y - start.y) * dx);
    const cost = along + aside * 2;
    if (cost < least) {
      least = cost;
      best = node.node.id;
    }
  }
  return best;
}
