/** One node: what reaches it, what it calls, its Istio configuration, and the requests behind it. */
import { useState } from "preact/hooks";
import type { Selection } from "../../../graph/emphasis";
import { mergeEdges } from "../../../model/graph/collapse";
import { type GraphEdge, type GraphNode, type MeshGraph, nameOf } from "../../../model/graph/meshGraph";
import { nodeFilter, nodeSelector } from "../../../model/graph/selectors";
import { millis, perSecond, percent } from "../../../model/units";
import { HealthMark } from "../../../widgets/HealthMark";
import { Segmented } from "../../../widgets/controls";
import { CodeBars } from "./CodesAndFlags";
import { RequestsBehind } from "./RequestsBehind";
import { Tile, Tiles } from "./Tiles";
import { TrafficCharts } from "./TrafficCharts";

interface Props {
  node: GraphNode;
  graph: MeshGraph;
  onSelect: (selection: Selection) => void;
  onOpen: (selection: Selection) => void;
  onFold: (fold: boolean) => void;
}

type Tab = "traffic" | "traces" | "logs";

export function NodePanel({ node, graph, onSelect, onOpen, onFold }: Props) {
  const [tab, setTab] = useState<Tab>("traffic");
  const inbound = graph.edges.filter(({ target }) => target === node.id);
  const outbound = graph.edges.filter(({ source }) => source === node.id);
  const main = inbound.length > 0 ? inbound : outbound;
  const merged = main.length > 0 ? main.reduce(mergeEdges) : null;
  const names = new Map(graph.nodes.map((one) => [one.id, nameOf(one)]));
  const bound = merged?.percentilesAreBounds ? "≤" : "";
  const canFold = node.kind !== "namespace" && node.kind !== "unknown" && graph.nodes.filter(({ namespace }) => namespace === node.namespace).length > 1;
  const protocol = merged?.protocol ?? "http";
  return (
    <div class="panel" data-panel="node">
      <header>
        <h2>
          <HealthMark health={node.health} /> {nameOf(node)}
        </h2>
        <p class="sub">
          <span class="chip">{node.kind === "app" && node.version ? "versioned app" : node.kind}</span>
          {node.kind !== "namespace" && <span class="chip">{node.namespace}</span>}
          {node.workload && node.workload !== node.title && <span class="chip">{node.workload}</span>}
          {node.config.map((words) => (
            <span key={words} class="chip config">
              {words}
            </span>
          ))}
          {node.isOutOfMesh && <span class="chip">no sidecar</span>}
        </p>
        {canFold && (
          <button type="button" class="button small" title="[" onClick={() => onFold(true)}>
            Fold {node.namespace} into one node
          </button>
        )}
        {node.kind === "namespace" && (
          <button type="button" class="button" onClick={() => onOpen({ kind: "node", id: node.id })}>
            Unfold its {node.size} nodes
          </button>
        )}
      </header>
      {merged && (
        <Tiles>
          <Tile name={inbound.length > 0 ? "In" : "Out"} value={perSecond(inbound.length > 0 ? node.rateIn : node.rateOut)} />
          <Tile name="Errors" value={percent(merged.errorShare)} bad={merged.errorShare > 0} />
          <Tile name="p50" value={bound + millis(merged.p50Ms)} />
          <Tile name="p95" value={bound + millis(merged.p95Ms)} />
          <Tile name="p99" value={bound + millis(merged.p99Ms)} />
        </Tiles>
      )}
      <Segmented<Tab>
        label="About this node"
        value={tab}
        choices={[
          ["traffic", "Traffic"],
          ["traces", "Traces"],
          ["logs", "Logs"],
        ]}
        onChange={setTab}
      />
      {tab === "traffic" ? (
        <>
          <TrafficCharts labels={nodeSelector(node, inbound.length > 0 ? "in" : "out")} protocol={protocol} />
          {merged && (
            <section>
              <h3>Response codes</h3>
              <CodeBars codes={merged.codes} total={merged.requests} />
            </section>
          )}
          <Peers title="Called by" edges={inbound} other={(edge) => edge.source} names={names} onSelect={onSelect} />
          <Peers title="Calls" edges={outbound} other={(edge) => edge.target} names={names} onSelect={onSelect} />
        </>
      ) : (
        <RequestsBehind filter={nodeFilter(node)} show={tab} />
      )}
    </div>
  );
}

function Peers(props: {
  title: string;
  edges: readonly GraphEdge[];
  other: (edge: GraphEdge) => string;
  names: ReadonlyMap<string, string>;
  onSelect: (selection: Selection) => void;
}) {
  if (props.edges.length === 0) return null;
  const total = props.edges.reduce((sum, { rate }) => sum + rate, 0);
  const busiestFirst = [...props.edges].sort((a, b) => b.rate - a.rate).slice(0, 20);
  return (
    <section>
      <h3>{props.title}</h3>
      <ul class="edge-list">
        {busiestFirst.map((edge) => (
          <li key={edge.id}>
            <button type="button" onClick={() => props.onSelect({ kind: "edge", id: edge.id })}>
              <HealthMark health={edge.health} />
              <span class="ends">{props.names.get(props.other(edge))}</span>
              <small>{percent(total > 0 ? edge.rate / total : 0)}</small>
              <b>{perSecond(edge.rate)}</b>
            </button>
          </li>
        ))}
      </ul>
    </section>
  );
}
