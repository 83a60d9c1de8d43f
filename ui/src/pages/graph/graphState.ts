/** What the address line of the graph page holds. */
import type { GraphType } from "../../api/graph";
import { LABEL_KINDS, type LabelKind } from "../../graph/labels";
import type { Selection } from "../../graph/emphasis";
import { type Codec, flag, list, oneOf, text, whole } from "../../model/urlState";

export interface GraphState {
  ns: readonly string[];
  type: GraphType;
  labels: readonly LabelKind[];
  /** Service nodes. */
  svc: boolean;
  boxes: readonly ("ns" | "app")[];
  anim: boolean;
  badges: boolean;
  locks: boolean;
  idle: boolean;
  find: string;
  hide: string;
  /** "n:<node id>" or "e:<edge id>". */
  sel: string;
  view: "graph" | "table";
  /** Namespaces unfolded in a large graph; "*" for all. */
  open: readonly string[];
  fold: readonly string[];
  /** Seconds between refreshes; 0 is never. */
  refresh: number;
  replay: boolean;
}

export const GRAPH_TYPES: readonly (readonly [GraphType, string])[] = [
  ["versionedApp", "Versioned app"],
  ["app", "App"],
  ["workload", "Workload"],
  ["service", "Service"],
];

export const graphCodec: Codec<GraphState> = {
  ns: list<string>(),
  type: oneOf<GraphType>(["versionedApp", "app", "workload", "service"], "versionedApp"),
  labels: list<LabelKind>(["rate", "errors", "p95"], LABEL_KINDS),
  svc: flag(false),
  boxes: list<"ns" | "app">(["ns", "app"], ["ns", "app"]),
  anim: flag(true),
  badges: flag(true),
  locks: flag(true),
  idle: flag(false),
  find: text(),
  hide: text(),
  sel: text(),
  view: oneOf(["graph", "table"], "graph"),
  open: list<string>(),
  fold: list<string>(),
  refresh: whole(5, 0, 3600),
  replay: flag(false),
};

export function selectionOf(sel: string): Selection {
  const found = /^([ne]):(.+)$/.exec(sel);
  return found ? { kind: found[1] === "n" ? "node" : "edge", id: found[2]! } : null;
}

export const selText = (selection: Selection): string => (selection ? `${selection.kind === "node" ? "n" : "e"}:${selection.id}` : "");
