/** One edge: its figures, charts, codes, flags, both proxies' views, and the requests behind it. */
import { useState } from "preact/hooks";
import { hrefTo, navigate } from "../../../app/route";
import type { Selection } from "../../../graph/emphasis";
import { type GraphEdge, type GraphNode, nameOf } from "../../../model/graph/meshGraph";
import { edgeFilter, edgeSelector } from "../../../model/graph/selectors";
import { bytes, count, millis, perSecond, percent } from "../../../model/units";
import { HealthMark } from "../../../widgets/HealthMark";
import { Icon } from "../../../widgets/Icon";
import { Segmented } from "../../../widgets/controls";
import { CodeBars, FlagList } from "./CodesAndFlags";
import { RequestsBehind } from "./RequestsBehind";
import { Tile, Tiles } from "./Tiles";
import { TrafficCharts } from "./TrafficCharts";

interface Props {
  edge: GraphEdge;
  source: GraphNode;
  target: GraphNode;
  onSelect: (selection: Selection) => void;
}

type Tab = "traffic" | "traces" | "logs";

export function EdgePanel({ edge, source, target, onSelect }: Props) {
  const [tab, setTab] = useState<Tab>("traffic");
  const filter = edgeFilter(source, target);
  const logs = (more: string) => navigate(hrefTo("/logs", { q: `${filter} ${more}`.trim() }));
  const bound = edge.percentilesAreBounds ? "≤" : "";
  return (
    <div class="panel" data-panel="edge">
      <header>
        <h2 class="ends">
          <HealthMark health={edge.health} />
          <button type="button" class="plain-link" onClick={() => onSelect({ kind: "node", id: source.id })}>
            {nameOf(source)}
          </button>
          <i>→</i>
          <button type="button" class="plain-link" onClick={() => onSelect({ kind: "node", id: target.id })}>
            {nameOf(target)}
          </button>
        </h2>
        <p class="sub">
          <span class="chip">{edge.protocol.toUpperCase()}</span>
          {edge.mtlsShare > 0 ? (
            <span class="chip" title={[edge.sourcePrincipal, edge.destPrincipal].filter(Boolean).join(" → ")}>
              <Icon name="lock" size={12} /> {percent(edge.mtlsShare)} mTLS
            </span>
          ) : (
            <span class="chip" title="No mutual TLS was reported for these requests">no mTLS</span>
          )}
          <span class="chip">{edge.health}</span>
        </p>
      </header>
      <Tiles>
        <Tile name="Rate" value={edge.protocol === "tcp" ? `${bytes(edge.rate)}/s` : perSecond(edge.rate)} />
        <Tile name="Errors" value={percent(edge.errorShare)} bad={edge.errorShare > 0} />
        <Tile name="p50" value={bound + millis(edge.p50Ms)} />
        <Tile name="p95" value={bound + millis(edge.p95Ms)} />
        <Tile name="p99" value={bound + millis(edge.p99Ms)} />
      </Tiles>
      <Segmented<Tab>
        label="About this edge"
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
          <TrafficCharts labels={edgeSelector(edge, source, target)} protocol={edge.protocol} />
          {edge.protocol !== "tcp" && (
            <section>
              <h3>Response codes</h3>
              <CodeBars codes={edge.codes} total={edge.requests} onPick={(code) => logs(`status:${code === "-" ? 0 : code}`)} />
            </section>
          )}
          <section>
            <h3>Response flags</h3>
            <FlagList flags={edge.flags} total={edge.requests} onPick={(flag) => logs(`flag:${flag}`)} />
          </section>
          <Reporters edge={edge} />
        </>
      ) : (
        <RequestsBehind filter={filter} show={tab} />
      )}
    </div>
  );
}

/** What the caller's proxy counted beside what the callee's proxy counted. */
function Reporters({ edge }: { edge: GraphEdge }) {
  const { source, destination } = edge.reporters;
  if (!source && !destination) return null;
  const missing = source && destination ? source.requests - destination.requests : 0;
  const share = source && source.requests > 0 ? Math.abs(missing) / source.requests : 0;
  return (
    <section>
      <h3>Both proxies’ views</h3>
      <table class="plain reporters">
        <thead>
          <tr>
            <th>Seen by</th>
            <th class="num">Requests</th>
            <th class="num">Failed</th>
          </tr>
        </thead>
        <tbody>
          {(
            [
              ["caller’s proxy", source],
              ["callee’s proxy", destination],
            ] as const
          ).map(([who, view]) => (
            <tr key={who}>
              <td>{who}</td>
              <td class="num">{view ? count(view.requests) : "–"}</td>
              <td class={`num ${view && view.errors > 0 ? "bad" : ""}`}>{view ? count(view.errors) : "–"}</td>
            </tr>
          ))}
        </tbody>
      </table>
      <p class="hint">{explain(source !== null, destination !== null, missing, share)}</p>
    </section>
  );
}

function explain(hasSource: boolean, hasDestination: boolean, missing: number, share: number): string {
  if (!hasDestination) return "Only the caller’s proxy reports: the callee has no proxy, or was never reached.";
  if (!hasSource) return "Only the callee’s proxy reports: the caller has no proxy.";
  if (share < 0.005) return "Both agree.";
  if (missing > 0) return `${count(missing)} (${percent(share)}) never reached the callee: aborted, refused or timed out on the way.`;
  return `${count(-missing)} (${percent(share)}) more arrived than were asked for: retries by the caller’s proxy.`;
}
