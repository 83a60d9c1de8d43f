/** The tree of boxes around the nodes: namespace, then app, where a box would hold more than one. */
import type { GraphNode } from "./meshGraph";
import type { LayoutGroup } from "../layout/compound";

export interface BoxOptions {
  byNamespace: boolean;
  byApp: boolean;
}

export interface Box {
  id: string;
  kind: "namespace" | "app";
  title: string;
  namespace: string;
}

export interface BoxTree {
  root: LayoutGroup;
  boxes: Map<string, Box>;
}

export function boxTree(nodes: readonly GraphNode[], options: BoxOptions): BoxTree {
  const boxes = new Map<string, Box>();
  const root: LayoutGroup = { id: "", nodes: [], groups: [] };
  const namespaces = groupBy(nodes, (node) => node.namespace);
  const boxNamespaces = options.byNamespace && namespaces.size > 1;
  for (const [namespace, members] of namespaces) {
    // A folded namespace is its own box, the unknown caller belongs nowhere, and one node needs no box.
    const inside = members.filter(({ kind }) => kind !== "namespace" && kind !== "unknown");
    const boxed = boxNamespaces && inside.length > 1;
    const within: LayoutGroup = boxed ? { id: `box:${namespace}`, nodes: [], groups: [] } : root;
    if (boxed) {
      boxes.set(within.id, { id: within.id, kind: "namespace", title: namespace, namespace });
      root.groups.push(within);
    }
    const apps = options.byApp ? groupBy(members, (node) => node.app || node.service) : new Map([["", members]]);
    for (const [app, parts] of apps) {
      const [loose, inBox] = options.byApp && app !== "" ? split(parts) : [parts, []];
      within.nodes.push(...loose.filter(({ kind }) => kind !== "unknown").map(({ id }) => id));
      root.nodes.push(...loose.filter(({ kind }) => kind === "unknown").map(({ id }) => id));
      if (inBox.length === 0) continue;
      const id = `box:${namespace}/${app}`;
      boxes.set(id, { id, kind: "app", title: app, namespace });
      within.groups.push({ id, nodes: inBox.map((part) => part.id), groups: [] });
    }
  }
  return { root, boxes };
}

/** An app's box is worth drawing when it holds several versions; a service and its one workload need none. */
function split(parts: GraphNode[]): [loose: GraphNode[], inBox: GraphNode[]] {
  const workloads = parts.filter(({ kind }) => kind === "app" || kind === "workload").length;
  return workloads > 1 ? [[], parts] : [parts, []];
}

function groupBy<T>(items: readonly T[], key: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const name = key(item);
    const group = groups.get(name);
    if (group) group.push(item);
    else groups.set(name, [item]);
  }
  return groups;
}
