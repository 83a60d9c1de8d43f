/** The canvas draws with the same tokens as the page; they are read once per theme change. */
import type { Health } from "../model/graph/meshGraph";

export interface Palette {
  background: string;
  node: string;
  nodeText: string;
  nodeMuted: string;
  nodeBorder: string;
  service: string;
  box: string;
  boxBorder: string;
  boxText: string;
  label: string;
  labelText: string;
  selected: string;
  health: Record<Health, string>;
  tcp: string;
  dot: string;
  dotError: string;
  font: string;
}

export function readPalette(element: Element): Palette {
  const style = getComputedStyle(element);
  const token = (name: string): string => style.getPropertyValue(name).trim();
  return {
    background: token("--canvas"),
    node: token("--graph-node"),
    nodeText: token("--text"),
    nodeMuted: token("--text-muted"),
    nodeBorder: token("--graph-node-border"),
    service: token("--graph-service"),
    box: token("--graph-box"),
    boxBorder: token("--graph-box-border"),
    boxText: token("--graph-box-text"),
    label: token("--graph-label"),
    labelText: token("--text-soft"),
    selected: token("--accent"),
    health: {
      healthy: token("--healthy"),
      degraded: token("--degraded"),
      failing: token("--failing"),
      idle: token("--idle"),
    },
    tcp: token("--tcp"),
    dot: token("--graph-dot"),
    dotError: token("--graph-dot-error"),
    font: token("--font"),
  };
}
