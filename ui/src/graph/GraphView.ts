/**
 * The graph on three stacked canvases: boxes and edges below, moving traffic between, nodes and
 * labels above. The outer two are drawn only when something changed; the middle one runs at 30
 * frames per second while there is traffic to show.
 */
import type { Matches } from "../model/graph/findHide";
import { type Camera, type Viewport, fitCamera, visibleBounds, zoomAt } from "./camera";
import { drawBoxes, drawEdgeHalo, drawEdges } from "./drawEdges";
import { drawLabels, drawNodes } from "./drawNodes";
import { Emphasis, type Selection } from "./emphasis";
import { Gestures } from "./gestures";
import { type EdgeLabel, type LabelKind, placeLabels } from "./labels";
import { type Palette, readPalette } from "./palette";
import type { Scene } from "./scene";
import { Traffic } from "./traffic";

export interface ViewOptions {
  labels: ReadonlySet<LabelKind>;
  animate: boolean;
  showBadges: boolean;
  showLocks: boolean;
  selection: Selection;
  found: Matches | null;
}

export interface ViewEvents {
  select(selection: Selection): void;
  /** Double click, or Enter. */
  open(selection: Selection): void;
  hover(selection: Selection, at: { x: number; y: number }): void;
}

const TRAFFIC_FRAME_MS = 1000 / 30;
const LAYERS = ["edges", "traffic", "nodes"] as const;

export class GraphView {
  camera: Camera = { x: 0, y: 0, scale: 1 };
  scene: Scene | null = null;
  readonly traffic = new Traffic();
  frames = 0;

  private viewport: Viewport = { width: 0, height: 0 };
  private readonly contexts: Record<(typeof LAYERS)[number], CanvasRenderingContext2D>;
  private readonly canvases: HTMLCanvasElement[];
  private readonly gestures: Gestures;
  private readonly resizes: ResizeObserver;
  private palette: Palette;
  private labels: EdgeLabel[] = [];
  private emphasis: Emphasis | null = null;
  private hover: Selection = null;
  private dirty = true;
  private touched = false;
  private request = 0;
  private lastTrafficMs = 0;

  constructor(
    private readonly host: HTMLElement,
    private options: ViewOptions,
    private readonly events: ViewEvents,
  ) {
    this.palette = readPalette(host);
    const readback = softwareRaster();
    this.canvases = LAYERS.map((layer) => {
      const canvas = document.createElement("canvas");
      canvas.dataset.layer = layer;
      canvas.setAttribute("aria-hidden", "true");
      host.append(canvas);
      return canvas;
    });
    const [edges, traffic, nodes] = this.canvases.map(
      (canvas) => canvas.getContext("2d", { willReadFrequently: readback }) as CanvasRenderingContext2D,
    );
    this.contexts = { edges: edges!, traffic: traffic!, nodes: nodes! };
    this.gestures = new Gestures(host, this);
    this.resizes = new ResizeObserver(() => this.resize());
    this.resizes.observe(host);
    this.resize();
    this.request = requestAnimationFrame(this.frame);
  }

  destroy(): void {
    cancelAnimationFrame(this.request);
    this.resizes.disconnect();
    this.gestures.destroy();
    for (const canvas of this.canvases) canvas.remove();
  }

  /** `refit` shows all of the new scene; without it the camera stays, unless nobody moved it yet. */
  setScene(scene: Scene, refit: boolean): void {
    const first = this.scene === null;
    this.scene = scene;
    this.traffic.keepOnly(scene);
    this.relabel();
    if (first || refit || !this.touched) this.fit();
    this.invalidate();
  }

  setOptions(options: ViewOptions): void {
    const relabel = options.labels !== this.options.labels || options.showLocks !== this.options.showLocks;
    this.options = options;
    if (relabel) this.relabel();
    this.invalidate();
  }

  /** Colours changed. */
  restyle(): void {
    this.palette = readPalette(this.host);
    this.invalidate();
  }

  fit(): void {
    this.touched = false;
    if (this.scene) this.camera = fitCamera(this.scene.bounds, this.viewport);
    this.invalidate();
  }

  moveCamera(camera: Camera): void {
    this.touched = true;
    this.camera = camera;
    this.invalidate();
  }

  zoom(factor: number, x = this.viewport.width / 2, y = this.viewport.height / 2): void {
    this.moveCamera(zoomAt(this.camera, factor, x, y));
  }

  pan(dx: number, dy: number): void {
    this.moveCamera({ ...this.camera, x: this.camera.x + dx, y: this.camera.y + dy });
  }

  /** Moves the camera only when the node is out of sight. */
  reveal(id: string): void {
    const node = this.scene?.nodeById.get(id);
    if (!node) return;
    const { left, top } = this.host.getBoundingClientRect();
    const at = this.toScreen(node.x, node.y);
    const margin = 60;
    const [x, y] = [at.x - left, at.y - top];
    const dx = x < margin ? margin - x : x > this.viewport.width - margin ? this.viewport.width - margin - x : 0;
    const dy = y < margin ? margin - y : y > this.viewport.height - margin ? this.viewport.height - margin - y : 0;
    if (dx !== 0 || dy !== 0) this.pan(dx, dy);
  }

  at(x: number, y: number): Selection {
    if (!this.scene) return null;
    const worldX = (x - this.camera.x) / this.camera.scale;
    const worldY = (y - this.camera.y) / this.camera.scale;
    const node = this.scene.index.nodeAt(worldX, worldY);
    if (node) return { kind: "node", id: node.node.id };
    const label = this.labels.find(
      (one) => Math.abs(worldX - one.x) < one.width / 2 && Math.abs(worldY - one.y) < one.height / 2 && this.camera.scale >= 0.48,
    );
    const edge = label?.edge ?? this.scene.index.edgeAt(worldX, worldY, Math.min(60, 7 / this.camera.scale));
    return edge ? { kind: "edge", id: edge.edge.id } : null;
  }

  clicked(selection: Selection): void {
    this.events.select(selection);
  }

  opened(selection: Selection): void {
    this.events.open(selection);
  }

  hovered(selection: Selection, x: number, y: number): void {
    const same = selection?.id === this.hover?.id;
    this.hover = selection;
    this.host.style.cursor = selection ? "pointer" : "";
    this.events.hover(selection, { x, y });
    if (!same) this.invalidate();
  }

  /** A world point in page coordinates, for tests and popovers. */
  toScreen(x: number, y: number): { x: number; y: number } {
    const { left, top } = this.host.getBoundingClientRect();
    return { x: left + x * this.camera.scale + this.camera.x, y: top + y * this.camera.scale + this.camera.y };
  }

  private relabel(): void {
    this.labels = this.scene ? placeLabels(this.scene, this.options.labels, this.options.showLocks, this.palette.font) : [];
  }

  private invalidate(): void {
    this.dirty = true;
    this.emphasis = null;
  }

  private resize(): void {
    const { clientWidth: width, clientHeight: height } = this.host;
    const before = this.viewport;
    this.viewport = { width, height };
    const ratio = window.devicePixelRatio || 1;
    for (const canvas of this.canvases) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    if (!this.touched) this.fit();
    else if (before.width > 0) this.camera = { ...this.camera, x: this.camera.x + (width - before.width) / 2 };
    this.invalidate();
    // A resized canvas is blank; waiting for the next frame would flash.
    this.drawStill();
  }

  private readonly frame = (nowMs: number): void => {
    this.request = requestAnimationFrame(this.frame);
    this.frames += 1;
    const moved = this.dirty;
    if (this.dirty) this.drawStill();
    const elapsedMs = nowMs - this.lastTrafficMs;
    if (elapsedMs < TRAFFIC_FRAME_MS - 2 && !moved) return;
    this.lastTrafficMs = nowMs;
    this.drawTraffic(Math.min(0.1, elapsedMs / 1000));
  };

  private prepare(layer: (typeof LAYERS)[number]): CanvasRenderingContext2D {
    const context = this.contexts[layer];
    const ratio = window.devicePixelRatio || 1;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, context.canvas.width, context.canvas.height);
    const { x, y, scale } = this.camera;
    context.setTransform(scale * ratio, 0, 0, scale * ratio, x * ratio, y * ratio);
    return context;
  }

  private drawStill(): void {
    this.dirty = false;
    const { scene, camera, palette, options } = this;
    const below = this.prepare("edges");
    const above = this.prepare("nodes");
    if (!scene || this.viewport.width === 0) return;
    const emphasis = this.emphasisOf(scene);
    const seen = visibleBounds(camera, this.viewport);
    drawBoxes(below, scene, seen, camera, palette);
    for (const [marked, strong] of [[this.hover, false], [options.selection, true]] as const) {
      const edge = marked?.kind === "edge" ? scene.edgeById.get(marked.id) : undefined;
      if (edge) drawEdgeHalo(below, edge, palette, strong);
    }
    drawEdges(below, scene, seen, camera, palette, emphasis);
    drawLabels(above, this.labels, seen, camera, palette, emphasis);
    drawNodes(above, scene, seen, camera, palette, emphasis, {
      selected: options.selection?.kind === "node" ? options.selection.id : null,
      hovered: this.hover?.kind === "node" ? this.hover.id : null,
      showBadges: options.showBadges,
    });
  }

  private emphasisOf(scene: Scene): Emphasis {
    this.emphasis ??= Emphasis.of(scene, this.options.selection, this.hover, this.options.found);
    return this.emphasis;
  }

  private drawTraffic(elapsedS: number): void {
    const { scene } = this;
    if (!scene || document.hidden) return;
    if (!this.options.animate) {
      if (this.traffic.drawn > 0) this.prepare("traffic");
      this.traffic.drawn = 0;
      return;
    }
    const context = this.prepare("traffic");
    const seen = visibleBounds(this.camera, this.viewport);
    this.traffic.draw(context, scene, seen, this.palette, elapsedS, this.camera.scale, this.emphasisOf(scene));
  }
}

/** On a software GL stack a canvas is far faster when the browser keeps it out of the GPU path. */
function softwareRaster(): boolean {
  try {
    const gl = document.createElement("canvas").getContext("webgl");
    if (!gl) return true;
    const info = gl.getExtension("WEBGL_debug_renderer_info");
    const renderer = String(gl.getParameter(info ? info.UNMASKED_RENDERER_WEBGL : gl.RENDERER));
    gl.getExtension("WEBGL_lose_context")?.loseContext();
    return /swiftshader|llvmpipe|software/i.test(renderer);
  } catch {
    return true;
  }
}
