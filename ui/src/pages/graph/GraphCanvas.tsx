/** Puts a `GraphView` into the page: layout, keys, tooltip, and the hook that tests look through. */
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { isDark, reducedMotion } from "../../app/preferences";
import { useKeys } from "../../app/keyboard";
import { GraphView, type ViewOptions } from "../../graph/GraphView";
import { describeNode } from "../../graph/drawNodes";
import type { Selection } from "../../graph/emphasis";
import { labelLines, labelRoom } from "../../graph/labels";
import { type Arrangement, LayoutKeeper } from "../../graph/layoutKeeper";
import { nodeSize } from "../../graph/measure";
import { neighbourTowards } from "../../graph/neighbour";
import { type Scene, buildScene } from "../../graph/scene";
import { exposeForTests } from "../../graph/testHook";
import { type BoxOptions, boxTree } from "../../model/graph/boxes";
import { type MeshGraph, nameOf } from "../../model/graph/meshGraph";
import type { LayoutResult } from "../../model/layout/compound";
import { layoutBetween } from "../../model/layout/tween";
import { Icon } from "../../widgets/Icon";

interface Props {
  graph: MeshGraph;
  /** Changes when the drawing becomes another one: type, namespaces, what is folded. */
  arrangement: string;
  boxes: BoxOptions;
  options: ViewOptions;
  onSelect: (selection: Selection) => void;
  onOpen: (selection: Selection) => void;
  onFold: (fold: boolean) => void;
}

const PAN_STEP_PX = 80;
/** A new layout is reached in this time, in graphs small enough to follow. */
const MOVE_MS = 250;
const MAX_MOVING_NODES = 300;
const FONT = 'Inter, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif';

export function GraphCanvas(props: Props) {
  const host = useRef<HTMLDivElement>(null);
  const view = useRef<GraphView | null>(null);
  const keeper = useMemo(() => new LayoutKeeper(), []);
  const [scene, setScene] = useState<Scene | null>(null);
  const [hint, setHint] = useState<{ text: string; x: number; y: number } | null>(null);
  const [turn, setTurn] = useState(0);
  const latest = useRef(props);
  latest.current = props;

  useEffect(() => {
    const drawn = new GraphView(host.current!, props.options, {
      select: (selection) => {
        setHint(null);
        latest.current.onSelect(selection);
      },
      open: (selection) => latest.current.onOpen(selection),
      hover: (selection, at) => setHint(hintFor(latest.current.graph, selection, at)),
    });
    view.current = drawn;
    const hide = exposeForTests(drawn);
    return () => {
      hide();
      drawn.destroy();
      keeper.close();
    };
  }, []);

  const key = `${props.arrangement}|${props.boxes.byNamespace}|${props.boxes.byApp}|${labelRoom(props.options.labels)}`;
  const shown = useRef<{ key: string; layout: LayoutResult } | null>(null);
  useEffect(() => {
    let stale = false;
    let frame = 0;
    const { graph, boxes } = props;
    const tree = boxTree(graph.nodes, boxes);
    const sizes = Object.fromEntries(graph.nodes.map((node) => [node.id, nodeSize(node, FONT)]));
    const edges = graph.edges.map(({ id, source, target }) => ({ id, source, target }));
    const input = { root: tree.root, sizes, edges, labelRoom: labelRoom(props.options.labels) };
    const place = (layout: LayoutResult, placed: typeof sizes) => {
      const built = buildScene({ nodes: graph.nodes, edges: graph.edges, boxes: tree.boxes, layout, sizes: placed });
      view.current?.setScene(built, shown.current?.key !== key);
      return built;
    };
    const show = ({ layout, sizes: placed, tookMs }: Arrangement) => {
      if (stale) return;
      const before = shown.current;
      const moves = tookMs !== null && before?.key === key && graph.nodes.length <= MAX_MOVING_NODES && !reducedMotion.peek();
      const started = performance.now();
      const step = () => {
        const share = moves ? Math.min(1, (performance.now() - started) / MOVE_MS) : 1;
        const built = place(moves ? layoutBetween(before.layout, layout, share) : layout, placed);
        if (share < 1) frame = requestAnimationFrame(step);
        else setScene(built);
        shown.current = { key, layout };
      };
      step();
    };
    const kept = keeper.recall(key, input);
    if (kept) show(kept);
    else void keeper.arrange(key, input).then(show);
    return () => {
      stale = true;
      cancelAnimationFrame(frame);
    };
  }, [props.graph, key, turn]);

  useEffect(() => view.current?.setOptions(props.options), [props.options]);
  const dark = isDark.value;
  useEffect(() => view.current?.restyle(), [dark]);

  const step = (dx: number, dy: number) => {
    const { selection } = props.options;
    const next = scene && neighbourTowards(scene, selection?.kind === "node" ? selection.id : null, dx, dy);
    if (!next) return;
    props.onSelect({ kind: "node", id: next });
    view.current?.reveal(next);
  };
  const relayout = () => {
    keeper.forget();
    setTurn((before) => before + 1);
    view.current?.fit();
  };
  useKeys({
    f: () => view.current?.fit(),
    "+": () => view.current?.zoom(1.25),
    "=": () => view.current?.zoom(1.25),
    "-": () => view.current?.zoom(0.8),
    w: () => view.current?.pan(0, PAN_STEP_PX),
    s: () => view.current?.pan(0, -PAN_STEP_PX),
    a: () => view.current?.pan(PAN_STEP_PX, 0),
    r: relayout,
    "[": () => props.onFold(true),
    "]": () => props.onFold(false),
  });
  const onKeyDown = (event: KeyboardEvent) => {
    const moves: Record<string, () => void> = {
      ArrowLeft: () => step(-1, 0),
      ArrowRight: () => step(1, 0),
      ArrowUp: () => step(0, -1),
      ArrowDown: () => step(0, 1),
      Enter: () => props.onOpen(props.options.selection),
      d: () => view.current?.pan(-PAN_STEP_PX, 0),
    };
    const move = moves[event.key];
    if (!move || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    move();
  };

  return (
    <div class="canvas-frame">
      <div
        ref={host}
        class="graph-canvas"
        tabIndex={0}
        role="application"
        aria-roledescription="service graph"
        aria-label={`${summary(props.graph)} Arrow keys move between neighbours, Enter opens details. The table view holds the same data.`}
        onKeyDown={onKeyDown}
      />
      {hint && (
        <div class="graph-hint" style={{ left: `${hint.x + 14}px`, top: `${hint.y + 14}px` }}>
          {hint.text}
        </div>
      )}
      <div class="canvas-tools" role="toolbar" aria-label="View">
        <ToolButton icon="plus" label="Zoom in (+)" onClick={() => view.current?.zoom(1.25)} />
        <ToolButton icon="minus" label="Zoom out (-)" onClick={() => view.current?.zoom(0.8)} />
        <ToolButton icon="fit" label="Show all (f)" onClick={() => view.current?.fit()} />
        <ToolButton icon="layout" label="Lay out again (r)" onClick={relayout} />
      </div>
    </div>
  );
}

function ToolButton(props: { icon: "plus" | "minus" | "fit" | "layout"; label: string; onClick: () => void }) {
  return (
    <button type="button" class="button icon-only" aria-label={props.label} title={props.label} onClick={props.onClick}>
      <Icon name={props.icon} />
    </button>
  );
}

function hintFor(graph: MeshGraph, selection: Selection, at: { x: number; y: number }) {
  if (!selection) return null;
  if (selection.kind === "node") {
    const node = graph.nodes.find(({ id }) => id === selection.id);
    return node ? { text: describeNode(node), ...at } : null;
  }
  const edge = graph.edges.find(({ id }) => id === selection.id);
  const ends = edge && [edge.source, edge.target].map((end) => graph.nodes.find(({ id }) => id === end));
  if (!edge || !ends?.[0] || !ends[1]) return null;
  const words = labelLines(edge, new Set(["rate", "errors", "p50", "p95", "p99"])).join(" · ");
  return { text: `${nameOf(ends[0])} → ${nameOf(ends[1])}  ${words || "idle"}`, ...at };
}

export function summary(graph: MeshGraph): string {
  const failing = graph.nodes.filter(({ health }) => health === "failing");
  const degraded = graph.nodes.filter(({ health }) => health === "degraded");
  const words = (nodes: typeof failing) => nodes.slice(0, 4).map(nameOf).join(", ");
  return [
    `${graph.nodes.length} nodes, ${graph.edges.length} edges.`,
    failing.length > 0 ? `${failing.length} failing: ${words(failing)}.` : "",
    degraded.length > 0 ? `${degraded.length} degraded: ${words(degraded)}.` : "",
  ]
    .filter((part) => part !== "")
    .join(" ");
}
