/** Orders the vertices of each rank so that few edges cross. */

type Segments = readonly (readonly [number, number])[];

const SWEEPS = 8;

interface Neighbours {
  left: number[][];
  right: number[][];
}

export function neighboursOf(segments: Segments, count: number): Neighbours {
  const left: number[][] = Array.from({ length: count }, () => []);
  const right: number[][] = Array.from({ length: count }, () => []);
  for (const [from, to] of segments) {
    right[from]!.push(to);
    left[to]!.push(from);
  }
  return { left, right };
}

/** Reorders `ranks` in place. The order it came in counts: it is kept unless another crosses less. */
export function orderRanks(ranks: number[][], segments: Segments, count: number): void {
  const { left, right } = neighboursOf(segments, count);
  const place = new Float64Array(count);
  const settle = (members: readonly number[]) => {
    for (const [index, vertex] of members.entries()) place[vertex] = index;
  };
  for (const members of ranks) settle(members);
  let best = ranks.map((members) => [...members]);
  let fewest = crossings(ranks, right, count);
  for (let sweep = 0; sweep < SWEEPS && fewest > 0; sweep += 1) {
    const rightwards = sweep % 2 === 0;
    for (let step = 1; step < ranks.length; step += 1) {
      const members = ranks[rightwards ? step : ranks.length - 1 - step]!;
      const towards = rightwards ? left : right;
      const wanted = new Map(members.map((vertex) => [vertex, mean(towards[vertex]!, place) ?? place[vertex]!]));
      members.sort((a, b) => wanted.get(a)! - wanted.get(b)! || place[a]! - place[b]!);
      settle(members);
    }
    const found = crossings(ranks, right, count);
    if (found < fewest) {
      fewest = found;
      best = ranks.map((members) => [...members]);
    }
  }
  for (const [index, members] of best.entries()) ranks[index] = members;
}

function mean(vertices: readonly number[], place: Float64Array): number | null {
  if (vertices.length === 0) return null;
  let sum = 0;
  for (const vertex of vertices) sum += place[vertex]!;
  return sum / vertices.length;
}

/** Pairs of edges that cross, over all pairs of neighbouring ranks. O(E log V). */
export function crossings(ranks: readonly (readonly number[])[], right: readonly (readonly number[])[], count: number): number {
  const place = new Int32Array(count);
  let total = 0;
  for (let column = 0; column + 1 < ranks.length; column += 1) {
    const next = ranks[column + 1]!;
    for (const [index, vertex] of next.entries()) place[vertex] = index;
    const tree = new Int32Array(next.length + 1);
    let seen = 0;
    for (const vertex of ranks[column]!) {
      const targets = right[vertex]!.map((to) => place[to]!).sort((a, b) => a - b);
      for (const target of targets) {
        let below = 0;
        for (let index = target + 1; index > 0; index -= index & -index) below += tree[index]!;
        total += seen - below;
      }
      for (const target of targets) {
        for (let index = target + 1; index < tree.length; index += index & -index) tree[index]! += 1;
      }
      seen += targets.length;
    }
  }
  return total;
}
