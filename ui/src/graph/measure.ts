/** Text widths and the sizes of nodes; measured once per text. */
import { type GraphNode } from "../model/graph/meshGraph";

export const NODE_HEIGHT = 50;
export const NAMESPACE_HEIGHT = 58;
const MIN_WIDTH = 104;
const MAX_WIDTH = 250;
/** Left of the text: the health sign; right of it: padding. */
const SIGN = 36;
const PADDING = 14;

export const TITLE_PX = 14;
export const SUBTITLE_PX = 11.5;
export const LABEL_PX = 11.5;

const widths = new Map<string, number>();
let context: CanvasRenderingContext2D | null = null;

export function textWidth(text: string, font: string): number {
  const key = `${font}|${text}`;
  const known = widths.get(key);
  if (known !== undefined) return known;
  context ??= document.createElement("canvas").getContext("2d");
  if (!context) return text.length * 7;
  context.font = font;
  const { width } = context.measureText(text);
  if (widths.size > 20_000) widths.clear();
  widths.set(key, width);
  return width;
}

export function ellipsis(text: string, font: string, room: number): string {
  if (textWidth(text, font) <= room) return text;
  let [low, high] = [0, text.length];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (textWidth(`${text.slice(0, middle)}…`, font) <= room) low = middle;
    else high = middle - 1;
  }
  return `${text.slice(0, low)}…`;
}

export function nodeSize(node: GraphNode, font: string): { width: number; height: number } {
  const title = textWidth(node.title, `600 ${TITLE_PX}px ${font}`);
  const subtitle = textWidth(`${node.subtitle} · 0.000/s`, `${SUBTITLE_PX}px ${font}`);
  const ends = node.kind === "service" ? 12 : 0;
  const width = Math.min(MAX_WIDTH, Math.max(MIN_WIDTH, Math.max(title, subtitle) + SIGN + PADDING + ends));
  // Whole widths, so that a changing rate does not make a node breathe.
  return { width: Math.ceil(width / 4) * 4, height: node.kind === "namespace" ? NAMESPACE_HEIGHT : NODE_HEIGHT };
}
