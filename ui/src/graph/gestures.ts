/** Mouse, touch and wheel on the graph. */
import type { Camera } from "./camera";
import type { Selection } from "./emphasis";

export interface GestureTarget {
  camera: Camera;
  moveCamera(camera: Camera): void;
  zoom(factor: number, x: number, y: number): void;
  at(x: number, y: number): Selection;
  clicked(selection: Selection): void;
  opened(selection: Selection): void;
  hovered(selection: Selection, x: number, y: number): void;
}

/** A press that moves less than this is a click. */
const CLICK_SLOP_PX = 4;

export class Gestures {
  private readonly pointers = new Map<number, { x: number; y: number }>();
  private moved = 0;
  private readonly abort = new AbortController();

  constructor(
    private readonly host: HTMLElement,
    private readonly target: GestureTarget,
  ) {
    const { signal } = this.abort;
    host.addEventListener("pointerdown", this.down, { signal });
    host.addEventListener("pointermove", this.move, { signal });
    host.addEventListener("pointerup", this.up, { signal });
    host.addEventListener("pointercancel", this.up, { signal });
    host.addEventListener("pointerleave", () => this.target.hovered(null, 0, 0), { signal });
    host.addEventListener("wheel", this.wheel, { passive: false, signal });
    host.addEventListener("dblclick", (event) => this.target.opened(this.target.at(...this.place(event))), { signal });
  }

  destroy(): void {
    this.abort.abort();
  }

  private place(event: MouseEvent): [x: number, y: number] {
    const { left, top } = this.host.getBoundingClientRect();
    return [event.clientX - left, event.clientY - top];
  }

  private readonly down = (event: PointerEvent): void => {
    if (event.button !== 0) return;
    const [x, y] = this.place(event);
    this.pointers.set(event.pointerId, { x, y });
    this.moved = 0;
    this.host.setPointerCapture(event.pointerId);
  };

  private readonly move = (event: PointerEvent): void => {
    const [x, y] = this.place(event);
    const before = this.pointers.get(event.pointerId);
    if (!before) {
      this.target.hovered(this.target.at(x, y), x, y);
      return;
    }
    this.moved += Math.hypot(x - before.x, y - before.y);
    if (this.pointers.size === 2) this.pinch(event.pointerId, { x, y });
    else if (this.moved >= CLICK_SLOP_PX) {
      const { camera } = this.target;
      this.target.moveCamera({ ...camera, x: camera.x + x - before.x, y: camera.y + y - before.y });
      this.host.style.cursor = "grabbing";
    }
    this.pointers.set(event.pointerId, { x, y });
  };

  private pinch(moving: number, now: { x: number; y: number }): void {
    const other = [...this.pointers].find(([id]) => id !== moving)![1];
    const before = this.pointers.get(moving)!;
    const was = Math.hypot(before.x - other.x, before.y - other.y);
    const is = Math.hypot(now.x - other.x, now.y - other.y);
    if (was > 0) this.target.zoom(is / was, (now.x + other.x) / 2, (now.y + other.y) / 2);
  }

  private readonly up = (event: PointerEvent): void => {
    if (!this.pointers.delete(event.pointerId)) return;
    this.host.style.cursor = "";
    if (event.type === "pointerup" && this.moved < CLICK_SLOP_PX) this.target.clicked(this.target.at(...this.place(event)));
  };

  private readonly wheel = (event: WheelEvent): void => {
    event.preventDefault();
    const pixels = event.deltaMode === 1 ? event.deltaY * 24 : event.deltaY;
    // Pinches on a touchpad arrive as wheel events with ctrlKey, and in small steps.
    this.target.zoom(Math.exp(-pixels * (event.ctrlKey ? 0.012 : 0.0016)), ...this.place(event));
  };
}
