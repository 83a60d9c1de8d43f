/** What is known about the selected edge or node; about the whole graph when nothing is selected. */
import type { Selection } from "../../../graph/emphasis";
import type { MeshGraph } from "../../../model/graph/meshGraph";
import { Icon } from "../../../widgets/Icon";
import { Quiet } from "../../../widgets/states";
import { EdgePanel } from "./EdgePanel";
import { NodePanel } from "./NodePanel";
import { SummaryPanel } from "./SummaryPanel";

interface Props {
  graph: MeshGraph;
  selection: Selection;
  onSelect: (selection: Selection) => void;
  onOpen: (selection: Selection) => void;
  onFold: (fold: boolean) => void;
}

export function SidePanel({ graph, selection, onSelect, onOpen, onFold }: Props) {
  return (
    <aside class="side" aria-label="Details" data-selected={selection?.kind ?? "nothing"}>
      {selection && (
        <button type="button" class="button icon-only side-close" aria-label="Close details (Esc)" title="Close (Esc)" onClick={() => onSelect(null)}>
          <Icon name="close" />
        </button>
      )}
      {content({ graph, selection, onSelect, onOpen, onFold })}
    </aside>
  );
}

function content({ graph, selection, onSelect, onOpen, onFold }: Props) {
  if (!selection) return <SummaryPanel graph={graph} onSelect={onSelect} />;
  if (selection.kind === "node") {
    const node = graph.nodes.find(({ id }) => id === selection.id);
    return node ? <NodePanel key={node.id} node={node} graph={graph} onSelect={onSelect} onOpen={onOpen} onFold={onFold} /> : <Gone what="node" />;
  }
  const edge = graph.edges.find(({ id }) => id === selection.id);
  const source = edge && graph.nodes.find(({ id }) => id === edge.source);
  const target = edge && graph.nodes.find(({ id }) => id === edge.target);
  return edge && source && target ? (
    <EdgePanel key={edge.id} edge={edge} source={source} target={target} onSelect={onSelect} />
  ) : (
    <Gone what="edge" />
  );
}

const Gone = ({ what }: { what: string }) => (
  <Quiet>This {what} is not in the graph now: no traffic in this window, or another graph type or namespace is shown.</Quiet>
);
