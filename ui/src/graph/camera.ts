/** World to screen: `screen = world * scale + offset`, in CSS pixels. */
export interface Camera {
  x: number;
  y: number;
  scale: number;
}

export interface Viewport {
  width: number;
  height: number;
}

export interface Bounds {
  left: number;
  top: number;
  right: number;
  bottom: number;
}

export const MIN_SCALE = 0.03;
export const MAX_SCALE = 3;
const MAX_FIT_SCALE = 1.35;

const clampScale = (scale: number): number => Math.min(MAX_SCALE, Math.max(MIN_SCALE, scale));

/** Shows all of `bounds`, centred, with a margin; small graphs are not blown up. */
export function fitCamera(bounds: Bounds, view: Viewport, margin = { x: 34, y: 44 }): Camera {
  const width = Math.max(1, bounds.right - bounds.left);
  const height = Math.max(1, bounds.bottom - bounds.top);
  const wanted = Math.min((view.width - margin.x * 2) / width, (view.height - margin.y * 2) / height);
  const scale = Math.min(MAX_FIT_SCALE, clampScale(wanted));
  return {
    scale,
    x: view.width / 2 - ((bounds.left + bounds.right) / 2) * scale,
    y: view.height / 2 - ((bounds.top + bounds.bottom) / 2) * scale,
  };
}

/** Zooms by `factor` and keeps the world point under the given screen point where it is. */
export function zoomAt(camera: Camera, factor: number, screenX: number, screenY: number): Camera {
  const scale = clampScale(camera.scale * factor);
  const ratio = scale / camera.scale;
  return { scale, x: screenX - (screenX - camera.x) * ratio, y: screenY - (screenY - camera.y) * ratio };
}

export const visibleBounds = (camera: Camera, view: Viewport): Bounds => ({
  left: -camera.x / camera.scale,
  top: -camera.y / camera.scale,
  right: (view.width - camera.x) / camera.scale,
  bottom: (view.height - camera.y) / camera.scale,
});

export const overlaps = (a: Bounds, b: Bounds): boolean =>
  a.left <= b.right && a.right >= b.left && a.top <= b.bottom && a.bottom >= b.top;
