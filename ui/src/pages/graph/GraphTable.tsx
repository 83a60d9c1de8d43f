/** The graph as a table: the same data for screen readers, for sorting, and for copying. */
import { useState } from "preact/hooks";
import type { Selection } from "../../graph/emphasis";
import type { Matches } from "../../model/graph/findHide";
import { type GraphEdge, type MeshGraph, nameOf } from "../../model/graph/meshGraph";
import { bytes, millis, perSecond, percent } from "../../model/units";
import { HealthMark } from "../../widgets/HealthMark";

type Column = "source" | "target" | "rate" | "errors" | "p50" | "p95" | "p99" | "mtls";

const COLUMNS: readonly (readonly [Column, string, boolean])[] = [
  ["source", "Caller", false],
  ["target", "Callee", false],
  ["rate", "Rate", true],
  ["errors", "Errors", true],
  ["p50", "p50", true],
  ["p95", "p95", true],
  ["p99", "p99", true],
  ["mtls", "mTLS", true],
];

/** Rows in the document at once; sorting puts what matters first. */
const MAX_ROWS = 1000;

interface Props {
  graph: MeshGraph;
  selection: Selection;
  matches: Matches | null;
  onSelect: (selection: Selection) => void;
}

export function GraphTable({ graph, selection, matches, onSelect }: Props) {
  const [sort, setSort] = useState<{ by: Column; down: boolean }>({ by: "rate", down: true });
  const names = new Map(graph.nodes.map((node) => [node.id, nameOf(node)]));
  const keyOf = (edge: GraphEdge): string | number =>
    ({
      source: names.get(edge.source)!,
      target: names.get(edge.target)!,
      rate: edge.rate,
      errors: edge.errorShare,
      p50: edge.p50Ms ?? -1,
      p95: edge.p95Ms ?? -1,
      p99: edge.p99Ms ?? -1,
      mtls: edge.mtlsShare,
    })[sort.by];
  const edges = graph.edges
    .filter(({ id, source, target }) => !matches || matches.edges.has(id) || matches.nodes.has(source) || matches.nodes.has(target))
    .sort((a, b) => {
      const [left, right] = [keyOf(a), keyOf(b)];
      return (left < right ? -1 : left > right ? 1 : 0) * (sort.down ? -1 : 1);
    });
  return (
    <div class="table-scroll">
      <table class="grid graph-table">
        <caption class="visually-hidden">Edges of the graph, {edges.length} rows</caption>
        <thead>
          <tr>
            {COLUMNS.map(([column, words, numeric]) => (
              <th
                key={column}
                class={numeric ? "num" : ""}
                aria-sort={sort.by === column ? (sort.down ? "descending" : "ascending") : undefined}
              >
                <button type="button" onClick={() => setSort({ by: column, down: sort.by === column ? !sort.down : numeric })}>
                  {words}
                  {sort.by === column && (sort.down ? " ↓" : " ↑")}
                </button>
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {edges.slice(0, MAX_ROWS).map((edge) => (
            <tr key={edge.id} class={selection?.id === edge.id ? "selected" : ""} onClick={() => onSelect({ kind: "edge", id: edge.id })}>
              <td>
                <button type="button" class="plain-link" onClick={() => onSelect({ kind: "edge", id: edge.id })}>
                  <HealthMark health={edge.health} /> {names.get(edge.source)}
                </button>
              </td>
              <td>{names.get(edge.target)}</td>
              <td class="num">{edge.protocol === "tcp" ? `${bytes(edge.rate)}/s` : perSecond(edge.rate)}</td>
              <td class={`num ${edge.errorShare > 0 ? "bad" : "faint"}`}>{percent(edge.errorShare)}</td>
              <td class="num">{millis(edge.p50Ms)}</td>
              <td class="num">{millis(edge.p95Ms)}</td>
              <td class="num">{millis(edge.p99Ms)}</td>
              <td class="num">{percent(edge.mtlsShare)}</td>
            </tr>
          ))}
        </tbody>
      </table>
      {edges.length > MAX_ROWS && <p class="quiet">The first {MAX_ROWS} of {edges.length} edges. Narrow them by Find.</p>}
    </div>
  );
}
