/**
 * A layered (Sugiyama-style) layout from left to right: callers left, callees right.
 *
 * 1. edges that close a cycle are turned round (depth-first search, entry points first),
 * 2. rank = longest path from the entry points, so that all calls run right; where that would make
 *    a long thin chain, rank = distance from the entry points instead, and some calls run back,
 * 3. edges over several ranks get a dummy in each rank between, which keeps room for the line,
 * 4. barycentre sweeps order each rank; the order with the fewest crossings wins,
 * 5. y: each rank in turn moves towards its neighbours' mean, with the order and gaps kept
 *    (least squares under order constraints, solved by pooling adjacent violators).
 *
 * Everything is deterministic. `seed` gives the wanted order within ranks, so that a graph that
 * changes a little is drawn a little differently.
 */
import { orderRanks } from "./ordering";
import { placeRanks } from "./placement";

export interface Item {
  width: number;
  height: number;
  /** Wanted place in its rank; ties keep the input's order. */
  seed: number;
}

export interface Link {
  from: number;
  to: number;
}

export interface Point {
  x: number;
  y: number;
}

export interface Layered {
  /** Centre of each item. */
  centres: Point[];
  /** For each link the points to pass between its ends. */
  routes: Point[][];
  width: number;
  height: number;
}

export interface Spacing {
  /** Between neighbours in a rank. */
  gapY: number;
  /** Between ranks: room for edge labels. */
  gapX: number;
}

const COLUMN_OF_SINGLES = 6;
/** Up to so many ranks a chain is shown as a chain. */
const MIN_RANKS_OF_A_CHAIN = 9;
/** Longer links are drawn straight: their dummies would cost more than they show. */
const MAX_SPAN_WITH_DUMMIES = 6;
const DUMMY_HEIGHT = 14;
/** In a dense graph lines lie closer: their room must not push the nodes apart. */
const DENSE_DUMMY_HEIGHT = 3;

export function layoutLayered(items: readonly Item[], links: readonly Link[], spacing: Spacing): Layered {
  const degree = new Int32Array(items.length);
  for (const { from, to } of links) {
    if (from === to) continue;
    degree[from]! += 1;
    degree[to]! += 1;
  }
  const connected = [...items.keys()].filter((index) => degree[index]! > 0);
  const single = [...items.keys()].filter((index) => degree[index] === 0);
  const centres: Point[] = Array.from({ length: items.length }, () => ({ x: 0, y: 0 }));
  const routes: Point[][] = links.map(() => []);
  const main = layoutConnected(items, links, connected, spacing, centres, routes);
  return placeSingles(items, single, spacing, centres, routes, main);
}

interface Size {
  width: number;
  height: number;
}

function layoutConnected(
  items: readonly Item[],
  links: readonly Link[],
  connected: readonly number[],
  spacing: Spacing,
  centres: Point[],
  routes: Point[][],
): Size {
  if (connected.length === 0) return { width: 0, height: 0 };
  const forward = breakCycles(items.length, links, connected);
  const rank = assignRanks(items.length, forward, connected);
  const dummyHeight = links.length > items.length * 4 ? DENSE_DUMMY_HEIGHT : DUMMY_HEIGHT;
  const rankCount = 1 + connected.reduce((most, index) => Math.max(most, rank[index]!), 0);

  // Vertices 0..items.length are the items, those above are dummies.
  const heights = items.map((item) => item.height);
  const seeds = items.map((item) => item.seed);
  const ranks: number[][] = Array.from({ length: rankCount }, () => []);
  for (const index of connected) ranks[rank[index]!]!.push(index);
  const segments: [number, number][] = [];
  const chains = new Map<string, number[]>();
  for (const link of forward) {
    const [from, to] = rank[link.from]! <= rank[link.to]! ? [link.from, link.to] : [link.to, link.from];
    const key = `${from}>${to}`;
    const span = rank[to]! - rank[from]!;
    if (chains.has(key) || span <= 0) continue;
    const chain: number[] = [];
    if (span > 1 && span <= MAX_SPAN_WITH_DUMMIES) {
      for (let step = 1; step < span; step += 1) {
        const dummy = heights.length;
        heights.push(dummyHeight);
        seeds.push(seeds[from]! + ((seeds[to]! - seeds[from]!) * step) / span);
        ranks[rank[from]! + step]!.push(dummy);
        chain.push(dummy);
      }
    }
    chains.set(key, chain);
    if (span > MAX_SPAN_WITH_DUMMIES) continue;
    const stops = [from, ...chain, to];
    for (let step = 1; step < stops.length; step += 1) segments.push([stops[step - 1]!, stops[step]!]);
  }

  for (const members of ranks) members.sort((a, b) => seeds[a]! - seeds[b]! || a - b);
  orderRanks(ranks, segments, heights.length);
  const y = placeRanks(ranks, segments, heights, items.length, spacing.gapY);

  const columnWidth = ranks.map((members) =>
    members.reduce((widest, vertex) => Math.max(widest, vertex < items.length ? items[vertex]!.width : 0), 40),
  );
  const columnX: number[] = [];
  let right = 0;
  for (let column = 0; column < rankCount; column += 1) {
    columnX.push(right + columnWidth[column]! / 2);
    right += columnWidth[column]! + spacing.gapX;
  }
  let top = Infinity;
  let bottom = -Infinity;
  for (const members of ranks) {
    for (const vertex of members) {
      top = Math.min(top, y[vertex]! - heights[vertex]! / 2);
      bottom = Math.max(bottom, y[vertex]! + heights[vertex]! / 2);
    }
  }
  for (const index of connected) centres[index] = { x: columnX[rank[index]!]!, y: y[index]! - top };

  for (const [position, { from, to }] of links.entries()) {
    const turned = rank[from]! > rank[to]! || !chains.has(`${from}>${to}`);
    const chain = chains.get(turned ? `${to}>${from}` : `${from}>${to}`) ?? [];
    const start = rank[turned ? to : from]!;
    const points = chain.flatMap((dummy, step) => {
      const column = start + step + 1;
      const half = columnWidth[column]! / 2;
      const at = y[dummy]! - top;
      return [
        { x: columnX[column]! - half, y: at },
        { x: columnX[column]! + half, y: at },
      ];
    });
    routes[position] = turned ? points.reverse() : points;
  }
  return { width: right - spacing.gapX, height: bottom - top };
}

/** Links without self-loops, those that close a cycle turned round. */
function breakCycles(count: number, links: readonly Link[], vertices: readonly number[]): Link[] {
  const out: number[][] = Array.from({ length: count }, () => []);
  const inDegree = new Int32Array(count);
  for (const [position, { from, to }] of links.entries()) {
    if (from === to) continue;
    out[from]!.push(position);
    inDegree[to]! += 1;
  }
  const state = new Uint8Array(count); // 0 unseen, 1 on the path, 2 done
  const result: Link[] = [];
  const entriesFirst = [...vertices].sort((a, b) => inDegree[a]! - inDegree[b]! || a - b);
  for (const start of entriesFirst) {
    if (state[start] !== 0) continue;
    const path: { vertex: number; next: number }[] = [{ vertex: start, next: 0 }];
    state[start] = 1;
    while (path.length > 0) {
      const top = path[path.length - 1]!;
      const position = out[top.vertex]![top.next];
      if (position === undefined) {
        state[top.vertex] = 2;
        path.pop();
        continue;
      }
      top.next += 1;
      const link = links[position]!;
      if (state[link.to] === 1) {
        result.push({ from: link.to, to: link.from });
        continue;
      }
      result.push(link);
      if (state[link.to] === 0) {
        state[link.to] = 1;
        path.push({ vertex: link.to, next: 0 });
      }
    }
  }
  return result;
}

function assignRanks(count: number, links: readonly Link[], vertices: readonly number[]): Int32Array {
  const rank = new Int32Array(count);
  const waiting = new Int32Array(count);
  const out: number[][] = Array.from({ length: count }, () => []);
  for (const { from, to } of links) {
    out[from]!.push(to);
    waiting[to]! += 1;
  }
  const entries = vertices.filter((vertex) => waiting[vertex] === 0);
  const ready = [...entries];
  for (let vertex = ready.pop(); vertex !== undefined; vertex = ready.pop()) {
    for (const to of out[vertex]!) {
      rank[to] = Math.max(rank[to]!, rank[vertex]! + 1);
      waiting[to]! -= 1;
      if (waiting[to] === 0) ready.push(to);
    }
  }
  const deepest = vertices.reduce((most, vertex) => Math.max(most, rank[vertex]!), 0);
  if (deepest + 1 > Math.max(MIN_RANKS_OF_A_CHAIN, 1.6 * Math.sqrt(vertices.length))) return distances(count, out, entries);
  for (const entry of entries) {
    const nearest = out[entry]!.reduce((least, to) => Math.min(least, rank[to]!), Infinity);
    if (nearest !== Infinity) rank[entry] = nearest - 1;
  }
  return rank;
}

/** Calls from the nearest entry point. The graph has no cycles here, so every vertex is reached. */
function distances(count: number, out: readonly (readonly number[])[], entries: readonly number[]): Int32Array {
  const distance = new Int32Array(count).fill(-1);
  const queue = [...entries];
  for (const entry of entries) distance[entry] = 0;
  for (let at = 0; at < queue.length; at += 1) {
    for (const to of out[queue[at]!]!) {
      if (distance[to] !== -1) continue;
      distance[to] = distance[queue[at]!]! + 1;
      queue.push(to);
    }
  }
  return distance.map((found) => Math.max(0, found));
}

/** Items without any link go in rows below the rest, about as wide as the whole is high. */
function placeSingles(
  items: readonly Item[],
  single: readonly number[],
  spacing: Spacing,
  centres: Point[],
  routes: Point[][],
  main: Size,
): Layered {
  const area = single.reduce((sum, index) => sum + (items[index]!.width + spacing.gapY) * (items[index]!.height + spacing.gapY), 0);
  // A few alone, such as the versions of an app, stand below each other.
  const rowWidth = main.width === 0 && single.length <= COLUMN_OF_SINGLES ? 0 : Math.max(main.width, Math.sqrt(area * 1.8));
  let { width } = main;
  let top = main.height === 0 ? 0 : main.height + spacing.gapY * 2;
  let left = 0;
  let rowHeight = 0;
  const bySeed = [...single].sort((a, b) => items[a]!.seed - items[b]!.seed || a - b);
  for (const index of bySeed) {
    const item = items[index]!;
    if (left > 0 && left + item.width > rowWidth) {
      top += rowHeight + spacing.gapY;
      left = 0;
      rowHeight = 0;
    }
    centres[index] = { x: left + item.width / 2, y: top + item.height / 2 };
    left += item.width + spacing.gapY;
    width = Math.max(width, left - spacing.gapY);
    rowHeight = Math.max(rowHeight, item.height);
  }
  return { centres, routes, width, height: single.length > 0 ? top + rowHeight : main.height };
}

