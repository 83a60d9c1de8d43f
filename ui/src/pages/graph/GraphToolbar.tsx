/** What the graph shows, and how. */
import type { Matches } from "../../model/graph/findHide";
import { GRAPH_KEYS } from "../../model/graph/findHide";
import { completeFilter } from "../../model/filter/completion";
import { LABEL_KINDS, type LabelKind } from "../../graph/labels";
import { type MeshGraph, nameOf } from "../../model/graph/meshGraph";
import { reducedMotion } from "../../app/preferences";
import { timeWindow } from "../../app/route";
import { CompletingInput } from "../../widgets/CompletingInput";
import { Icon } from "../../widgets/Icon";
import { Popover } from "../../widgets/Popover";
import { Check, Segmented, Select } from "../../widgets/controls";
import { GRAPH_TYPES, type GraphState } from "./graphState";

interface Props {
  state: GraphState;
  update: (patch: Partial<GraphState>) => void;
  namespaces: readonly string[];
  paused: boolean;
  setPaused: (paused: boolean) => void;
  problem: string | null;
  loading: boolean;
  reload: () => void;
  graph: MeshGraph | null;
  matches: Matches | null;
}

const LABEL_WORDS: Record<LabelKind, string> = {
  rate: "Requests per second",
  errors: "Errors, percent",
  p50: "p50 latency",
  p95: "p95 latency",
  p99: "p99 latency",
};

const REFRESHES = [
  [2, "every 2s"],
  [5, "every 5s"],
  [10, "every 10s"],
  [30, "every 30s"],
  [60, "every 1m"],
  [0, "by hand"],
] as const;

export function GraphToolbar({ state, update, graph, ...props }: Props) {
  const live = timeWindow.value.endUnixS === null;
  const complete = (text: string, cursor: number) => completeFilter(text, cursor, GRAPH_KEYS, (key) => graphValues(graph, key));
  return (
    <div class="toolbar" role="toolbar" aria-label="Graph settings">
      <NamespacePicker chosen={state.ns} all={props.namespaces} onChange={(ns) => update({ ns, sel: "", open: [], fold: [] })} />
      <Select label="Graph type" value={state.type} choices={GRAPH_TYPES} onChange={(type) => update({ type, sel: "" })} />
      <Popover label="Labels" title="Edge labels">
        <div class="menu">
          {LABEL_KINDS.map((kind) => (
            <Check
              key={kind}
              checked={state.labels.includes(kind)}
              onChange={(on) => update({ labels: LABEL_KINDS.filter((one) => (one === kind ? on : state.labels.includes(one))) })}
            >
              {LABEL_WORDS[kind]}
            </Check>
          ))}
        </div>
      </Popover>
      <Popover label="Display" title="What the graph shows">
        <DisplayMenu state={state} update={update} />
      </Popover>
      <div class="find">
        <CompletingInput
          label="Find"
          placeholder="Find  is:failing"
          value={state.find}
          onCommit={(find) => update({ find })}
          complete={complete}
          live
          search
        />
        {props.matches && (
          <span class="count">
            {props.matches.nodes.size + props.matches.edges.size} found
          </span>
        )}
      </div>
      <CompletingInput label="Hide" placeholder="Hide  rate<0.1" value={state.hide} onCommit={(hide) => update({ hide })} complete={complete} live />
      {props.problem && <span class="problem">{props.problem}</span>}
      <div class="spacer" />
      <Segmented
        label="View"
        value={state.view}
        choices={[
          ["graph", "Graph"],
          ["table", "Table"],
        ]}
        onChange={(view) => update({ view })}
      />
      <button type="button" class={`button ${state.replay ? "on" : ""}`} aria-pressed={state.replay} onClick={() => update({ replay: !state.replay })}>
        <Icon name="rewind" /> Replay
      </button>
      <Select label="Refresh" value={state.refresh} choices={REFRESHES} onChange={(refresh) => update({ refresh })} />
      <button
        type="button"
        class="button icon-only"
        aria-pressed={props.paused}
        aria-label={props.paused ? "Go on" : "Pause"}
        title={props.paused ? "Go on (p)" : "Pause (p)"}
        disabled={!live}
        onClick={() => props.setPaused(!props.paused)}
      >
        <Icon name={props.paused ? "play" : "pause"} />
      </button>
      <button type="button" class={`button icon-only ${props.loading ? "busy" : ""}`} aria-label="Refresh now" title="Refresh now" onClick={props.reload}>
        <Icon name="refresh" />
      </button>
    </div>
  );
}

function NamespacePicker(props: { chosen: readonly string[]; all: readonly string[]; onChange: (chosen: readonly string[]) => void }) {
  const { chosen } = props;
  const all = [...new Set([...props.all, ...chosen])].sort();
  const label = chosen.length === 0 ? "All namespaces" : chosen.length === 1 ? chosen[0] : `${chosen.length} namespaces`;
  return (
    <Popover label={label} title={`Namespaces: ${label}`}>
      <div class="menu scroll">
        <Check checked={chosen.length === 0} onChange={() => props.onChange([])}>
          <b>All namespaces</b>
        </Check>
        {all.map((namespace) => (
          <Check
            key={namespace}
            checked={chosen.includes(namespace)}
            onChange={(on) => props.onChange(on ? [...chosen, namespace].sort() : chosen.filter((one) => one !== namespace))}
          >
            {namespace}
          </Check>
        ))}
      </div>
    </Popover>
  );
}

function DisplayMenu({ state, update }: Pick<Props, "state" | "update">) {
  const box = (name: "ns" | "app", on: boolean) =>
    update({ boxes: (["ns", "app"] as const).filter((one) => (one === name ? on : state.boxes.includes(one))) });
  return (
    <div class="menu">
      <Check checked={state.anim} onChange={(anim) => update({ anim })} hint={reducedMotion.value ? "Your system asks for reduced motion" : ""}>
        Moving traffic{reducedMotion.value && " (off: reduced motion)"}
      </Check>
      <Check checked={state.svc} onChange={(svc) => update({ svc, sel: "" })}>
        Service nodes
      </Check>
      <Check checked={state.idle} onChange={(idle) => update({ idle })}>
        Idle edges
      </Check>
      <hr />
      <Check checked={state.boxes.includes("ns")} onChange={(on) => box("ns", on)}>
        Box by namespace
      </Check>
      <Check checked={state.boxes.includes("app")} onChange={(on) => box("app", on)}>
        Box by app
      </Check>
      <hr />
      <Check checked={state.locks} onChange={(locks) => update({ locks })}>
        Mutual TLS locks
      </Check>
      <Check checked={state.badges} onChange={(badges) => update({ badges })}>
        Badges
      </Check>
      <hr />
      <button type="button" class="button small" onClick={() => update({ open: ["*"], fold: [] })}>
        Unfold all namespaces
      </button>
      <button type="button" class="button small" onClick={() => update({ open: [], fold: [] })}>
        Fold as at first
      </button>
    </div>
  );
}

function graphValues(graph: MeshGraph | null, key: string): string[] {
  if (!graph) return [];
  const from = (values: string[]): string[] => [...new Set(values.filter((value) => value !== ""))].sort();
  switch (key) {
    case "ns":
      return from(graph.nodes.map(({ namespace }) => namespace));
    case "app":
      return from(graph.nodes.map(({ app }) => app));
    case "service":
      return from(graph.nodes.map(({ service }) => service));
    case "workload":
      return from(graph.nodes.map(({ workload }) => workload));
    case "version":
      return from(graph.nodes.map(({ version }) => version));
    case "status":
      return ["2xx", "4xx", "5xx", ...from(graph.edges.flatMap(({ codes }) => Object.keys(codes)))];
    case "flag":
      return from(graph.edges.flatMap(({ flags }) => Object.keys(flags)));
    case "protocol":
      return ["http", "grpc", "tcp"];
    case "is":
      return ["failing", "degraded", "healthy", "idle", "gateway", "root", "external", "mtls", "plaintext"];
    default:
      return from(graph.nodes.map(nameOf));
  }
}
