/** A canvas has no elements to look for, so tests look here: `window.__graph`. */
import type { GraphView } from "./GraphView";
import { pointAt } from "./curve";

export interface GraphProbe {
  nodes(): { id: string; title: string; subtitle: string; health: string; x: number; y: number }[];
  edges(): { id: string; source: string; target: string; rate: number; errorShare: number; x: number; y: number }[];
  dotsDrawn(): number;
  frames(): number;
  scale(): number;
}

declare global {
  interface Window {
    __graph?: GraphProbe;
  }
}

/** Positions are page coordinates. Returns a function that takes the hook away again. */
export function exposeForTests(view: GraphView): () => void {
  window.__graph = {
    nodes: () =>
      (view.scene?.nodes ?? []).map(({ node, x, y }) => ({
        id: node.id,
        title: node.title,
        subtitle: node.subtitle,
        health: node.health,
        ...view.toScreen(x, y),
      })),
    edges: () =>
      (view.scene?.edges ?? []).map(({ edge, curve }) => {
        const middle = pointAt(curve, 0.5, { x: 0, y: 0 });
        const { id, source, target, rate, errorShare } = edge;
        return { id, source, target, rate, errorShare, ...view.toScreen(middle.x, middle.y) };
      }),
    dotsDrawn: () => view.traffic.drawn,
    frames: () => view.frames,
    scale: () => view.camera.scale,
  };
  return () => {
    delete window.__graph;
  };
}
