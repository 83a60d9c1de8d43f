/** The whole graph in numbers, and what needs attention first. */
import type { Selection } from "../../../graph/emphasis";
import { mergeEdges } from "../../../model/graph/collapse";
import { type GraphEdge, type MeshGraph, nameOf } from "../../../model/graph/meshGraph";
import { describeFlag } from "../../../model/responseFlags";
import { seconds, count, millis, perSecond, percent, plural } from "../../../model/units";
import { HealthMark } from "../../../widgets/HealthMark";
import { CodeBars } from "./CodesAndFlags";
import { Tile, Tiles } from "./Tiles";

const SHOWN = 8;

export function SummaryPanel({ graph, onSelect }: { graph: MeshGraph; onSelect: (selection: Selection) => void }) {
  // With service nodes a request passes two edges; only those that a service takes in are counted.
  const hops = graph.edges.filter((edge) => edge.protocol !== "tcp" && !isSecondLeg(edge, graph));
  const total = hops.length > 0 ? hops.reduce(mergeEdges) : null;
  const troubled = graph.edges
    .filter(({ health }) => health === "failing" || health === "degraded")
    .sort((a, b) => (b.health === "failing" ? 1 : 0) - (a.health === "failing" ? 1 : 0) || b.errorShare * b.rate - a.errorShare * a.rate);
  const slowest = graph.edges.filter(({ p95Ms }) => p95Ms !== null).sort((a, b) => b.p95Ms! - a.p95Ms!);
  const namespaces = new Set(graph.nodes.map(({ namespace }) => namespace).filter((namespace) => namespace !== "unknown"));
  return (
    <div class="panel">
      <header>
        <h2>Mesh</h2>
        <p class="sub">
          {plural(namespaces.size, "namespace")}, {plural(graph.nodes.length, "node")}, {plural(graph.edges.length, "edge")} over{" "}
          {seconds(graph.durationS)}
        </p>
      </header>
      {total && (
        <>
          <Tiles>
            <Tile name="Calls" value={perSecond(total.rate)} />
            <Tile name="Errors" value={percent(total.errorShare)} bad={total.errorShare > 0} />
            <Tile name="In this window" value={count(total.requests)} />
          </Tiles>
          <section>
            <h3>Answers</h3>
            <CodeBars codes={total.codes} total={total.requests} />
          </section>
        </>
      )}
      <section>
        <h3>Needs attention</h3>
        {troubled.length === 0 ? (
          <p class="calm">Nothing: every edge is healthy.</p>
        ) : (
          <EdgeList edges={troubled} graph={graph} onSelect={onSelect} value={(edge) => `${percent(edge.errorShare)} of ${perSecond(edge.rate)}`} />
        )}
      </section>
      {slowest.length > 0 && (
        <section>
          <h3>Slowest, p95</h3>
          <EdgeList edges={slowest.slice(0, 5)} graph={graph} onSelect={onSelect} value={(edge) => millis(edge.p95Ms)} />
        </section>
      )}
    </div>
  );
}

/** The leg from a service node to a workload repeats what the leg into the service counted. */
function isSecondLeg(edge: GraphEdge, graph: MeshGraph): boolean {
  const source = graph.nodes.find(({ id }) => id === edge.source);
  return source?.kind === "service" && graph.edges.some(({ target }) => target === edge.source);
}

function EdgeList(props: {
  edges: readonly GraphEdge[];
  graph: MeshGraph;
  onSelect: (selection: Selection) => void;
  value: (edge: GraphEdge) => string;
}) {
  const names = new Map(props.graph.nodes.map((node) => [node.id, nameOf(node)]));
  const more = props.edges.length - SHOWN;
  return (
    <ul class="edge-list">
      {props.edges.slice(0, SHOWN).map((edge) => (
        <li key={edge.id}>
          <button type="button" onClick={() => props.onSelect({ kind: "edge", id: edge.id })}>
            <HealthMark health={edge.health} />
            <span class="ends">
              {names.get(edge.source)} <i>→</i> {names.get(edge.target)}
              {Object.keys(edge.flags).length > 0 && edge.health !== "healthy" && (
                <small>
                  {Object.keys(edge.flags)
                    .slice(0, 3)
                    .map((flag) => describeFlag(flag).title.toLowerCase())
                    .join(", ")}
                </small>
              )}
            </span>
            <b>{props.value(edge)}</b>
          </button>
        </li>
      ))}
      {more > 0 && <li class="quiet">and {more} more: find them with is:failing, is:degraded</li>}
    </ul>
  );
}
