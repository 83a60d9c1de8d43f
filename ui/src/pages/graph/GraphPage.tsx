/** The live graph: who calls whom, how much, how well; and the same for any instant of the past. */
import { useMemo, useState } from "preact/hooks";
import { type GraphDocument, fetchGraph } from "../../api/graph";
import { reducedMotion, showHint } from "../../app/preferences";
import { useResource } from "../../app/resource";
import { timeWindow, useUrlState } from "../../app/route";
import { useKeys } from "../../app/keyboard";
import type { ViewOptions } from "../../graph/GraphView";
import type { Selection } from "../../graph/emphasis";
import { FilterError } from "../../model/filter/grammar";
import { collapseNamespaces, namespaceNodeId, namespacesToFold } from "../../model/graph/collapse";
import { type Matches, findInGraph } from "../../model/graph/findHide";
import { type MeshGraph, readGraph, withNodeTotals } from "../../model/graph/meshGraph";
import { EmptyState } from "../../widgets/EmptyState";
import { ErrorNote, Loading } from "../../widgets/states";
import { FirstRunHint } from "./FirstRunHint";
import { GraphCanvas, summary } from "./GraphCanvas";
import { GraphTable } from "./GraphTable";
import { GraphToolbar } from "./GraphToolbar";
import { Legend } from "./Legend";
import { ReplayBar } from "./ReplayBar";
import { type GraphState, graphCodec, selText, selectionOf } from "./graphState";
import { SidePanel } from "./panel/SidePanel";

export function GraphPage() {
  const [state, update] = useUrlState(graphCodec);
  const [paused, setPaused] = useState(false);
  const window = timeWindow.value;
  const request = {
    namespaces: state.ns,
    graphType: state.type,
    durationS: window.durationS,
    queryTimeUnixS: window.endUnixS,
    injectServiceNodes: state.svc,
    includeIdleEdges: state.idle,
  };
  const live = !paused && window.endUnixS === null && state.refresh > 0;
  const found = useResource(JSON.stringify(request), (signal) => fetchGraph(request, signal), {
    refreshMs: live ? state.refresh * 1000 : null,
  });
  const document = found.data;
  const whole = useMemo(() => (document ? readGraph(document) : null), [document]);
  const shown = useShownGraph(whole, state);
  const selection = selectionOf(state.sel);
  const select = (next: Selection) => update({ sel: selText(next) }, { push: next !== null });

  const foldSelected = (fold: boolean, selected = selection) => {
    const node = shown?.graph.nodes.find(({ id }) => id === selected?.id);
    if (!node || node.kind === "unknown") return;
    const { namespace } = node;
    if (fold) {
      const open = state.open.filter((one) => one !== namespace);
      update({ fold: [...new Set([...state.fold, namespace])], open, sel: `n:${namespaceNodeId(namespace)}` });
    } else if (node.kind === "namespace") {
      const open = state.open[0] === "*" ? state.open : [...new Set([...state.open, namespace])];
      update({ fold: state.fold.filter((one) => one !== namespace), open, sel: "" });
    }
  };
  const open = (selected: Selection) => {
    const node = shown?.graph.nodes.find(({ id }) => id === selected?.id);
    if (node?.kind === "namespace") foldSelected(false, selected);
    else if (selected) select(selected);
  };
  useKeys({
    p: () => setPaused(!paused),
    Escape: () => (state.sel ? select(null) : update({ find: "", hide: "" })),
  });

  const options = useViewOptions(state, selection, shown?.found ?? null, paused);
  const isEmpty = whole !== null && whole.nodes.length === 0;
  return (
    <div class="graph-page">
      <GraphToolbar
        state={state}
        update={update}
        namespaces={document?.pharos.namespaces ?? []}
        paused={paused}
        setPaused={setPaused}
        problem={shown?.problem ?? null}
        loading={found.loading}
        reload={found.reload}
        graph={shown?.graph ?? null}
        matches={shown?.found ?? null}
      />
      <div class="graph-body">
        <section class="graph-main" aria-label="Graph">
          {found.error && <ErrorNote error={found.error} retry={found.reload} />}
          {!document && !found.error && <Loading what="the graph" />}
          {isEmpty && <EmptyGraph document={document!} state={state} update={update} />}
          {shown && !isEmpty && state.view === "graph" && (
            <>
              <GraphCanvas
                graph={shown.graph}
                arrangement={`${state.type}|${state.svc}|${state.ns.join(",")}|${shown.folded}|${state.hide}`}
                boxes={{ byNamespace: state.boxes.includes("ns"), byApp: state.boxes.includes("app") && state.type === "versionedApp" }}
                options={options}
                onSelect={select}
                onOpen={open}
                onFold={foldSelected}
              />
              <Legend />
              {showHint.value && !state.replay && <FirstRunHint troubled={shown.graph.edges.some(({ health }) => health === "failing")} />}
            </>
          )}
          {shown && !isEmpty && state.view === "table" && (
            <GraphTable graph={shown.graph} selection={selection} matches={shown.found} onSelect={select} />
          )}
          {state.replay && <ReplayBar oldestUnixS={document?.pharos.oldestDataUnixS ?? null} close={() => update({ replay: false })} />}
        </section>
        {shown && !isEmpty && <SidePanel graph={shown.graph} selection={selection} onSelect={select} onOpen={open} onFold={foldSelected} />}
      </div>
      <p class="visually-hidden" aria-live="polite">
        {shown ? summary(shown.graph) : ""}
      </p>
    </div>
  );
}

interface Shown {
  graph: MeshGraph;
  found: Matches | null;
  problem: string | null;
  /** Which namespaces are folded, as text. */
  folded: string;
}

function useShownGraph(whole: MeshGraph | null, state: GraphState): Shown | null {
  return useMemo(() => {
    if (!whole) return null;
    let problem: string | null = null;
    const search = (text: string, graph: MeshGraph): Matches | null => {
      try {
        return findInGraph(text, graph.nodes, graph.edges);
      } catch (error) {
        if (!(error instanceof FilterError)) throw error;
        problem = error.message;
        return null;
      }
    };
    const hidden = search(state.hide, whole);
    const visible = hidden ? without(whole, hidden) : whole;
    const folded = namespacesToFold(visible, state.open[0] === "*" ? "all" : state.open, state.fold);
    const graph = collapseNamespaces(visible, folded);
    return { graph, found: search(state.find, graph), problem, folded: [...folded].sort().join(",") };
  }, [whole, state.find, state.hide, state.open, state.fold]);
}

/** Takes away what was found, and nodes that then have no edge left. */
function without(graph: MeshGraph, hidden: Matches): MeshGraph {
  const edges = graph.edges.filter((edge) => !hidden.edges.has(edge.id) && !hidden.nodes.has(edge.source) && !hidden.nodes.has(edge.target));
  const linked = new Set(edges.flatMap(({ source, target }) => [source, target]));
  const wasLinked = new Set(graph.edges.flatMap(({ source, target }) => [source, target]));
  const nodes = graph.nodes.filter(({ id }) => !hidden.nodes.has(id) && (linked.has(id) || !wasLinked.has(id)));
  return withNodeTotals({ ...graph, nodes, edges });
}

function useViewOptions(state: GraphState, selection: Selection, found: Matches | null, paused: boolean): ViewOptions {
  const labels = useMemo(() => new Set(state.labels), [state.labels]);
  const animate = state.anim && !paused && !reducedMotion.value;
  return useMemo(
    () => ({ labels, animate, showBadges: state.badges, showLocks: state.locks, selection, found }),
    [labels, animate, state.badges, state.locks, state.sel, found],
  );
}

function EmptyGraph(props: { document: GraphDocument; state: GraphState; update: (patch: Partial<GraphState>) => void }) {
  const { document, state, update } = props;
  const filters = [
    ...(state.ns.length > 0 ? [{ words: `Only ${state.ns.join(", ")} is chosen.`, lift: () => update({ ns: [] }) }] : []),
    ...(state.hide ? [{ words: `“${state.hide}” is hidden.`, lift: () => update({ hide: "" }) }] : []),
  ];
  return (
    <EmptyState
      what="traffic"
      tables={["edges", "access_logs", "samples"]}
      filters={filters}
      reason={document.pharos.empty}
      snippets={["demo", "istio", "prometheus", "collector"]}
    />
  );
}
