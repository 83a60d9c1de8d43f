/** What stands out and what steps back: by find, hover and selection. */
import type { Matches } from "../model/graph/findHide";
import type { Scene } from "./scene";

export type Selection = { kind: "node" | "edge"; id: string } | null;

const FULL = 1;
const STEPPED_BACK = 0.16;

export class Emphasis {
  private constructor(
    private readonly nodes: ReadonlySet<string> | null,
    private readonly edges: ReadonlySet<string> | null,
    /** Nodes that a search found; they get a ring. */
    readonly found: Matches | null,
  ) {}

  /** Hover wins over find, find over selection. */
  static of(scene: Scene, selection: Selection, hover: Selection, found: Matches | null): Emphasis {
    if (hover?.kind === "node" && scene.nodes.length > 2) return Emphasis.around(scene, hover.id, found);
    if (found) {
      const nodes = new Set(found.nodes);
      for (const id of found.edges) {
        const edge = scene.edgeById.get(id);
        if (!edge) continue;
        nodes.add(edge.edge.source);
        nodes.add(edge.edge.target);
      }
      return new Emphasis(nodes, found.edges, found);
    }
    if (selection?.kind === "node" && scene.nodeById.has(selection.id)) return Emphasis.around(scene, selection.id, null);
    return new Emphasis(null, null, null);
  }

  private static around(scene: Scene, id: string, found: Matches | null): Emphasis {
    const nodes = new Set([id]);
    const edges = new Set<string>();
    for (const { edge } of scene.edges) {
      if (edge.source !== id && edge.target !== id) continue;
      edges.add(edge.id);
      nodes.add(edge.source);
      nodes.add(edge.target);
    }
    return new Emphasis(nodes, edges, found);
  }

  nodeAlpha(id: string): number {
    return this.nodes === null || this.nodes.has(id) ? FULL : STEPPED_BACK * 2;
  }

  edgeAlpha(id: string): number {
    return this.edges === null || this.edges.has(id) ? FULL : STEPPED_BACK;
  }
}
