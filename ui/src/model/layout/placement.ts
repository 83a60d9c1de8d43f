/** y-coordinates for ordered ranks: near the neighbours, in order, and never overlapping. */
import { neighboursOf } from "./ordering";

type Segments = readonly (readonly [number, number])[];

const SWEEPS = 12;
/** Lines through dummies should be straight, so dummies pull harder than items. */
const DUMMY_PULL = 4;

export function placeRanks(
  ranks: readonly (readonly number[])[],
  segments: Segments,
  heights: readonly number[],
  itemCount: number,
  gap: number,
): Float64Array {
  const { left, right } = neighboursOf(segments, heights.length);
  const y = new Float64Array(heights.length);
  for (const members of ranks) {
    let top = 0;
    for (const vertex of members) {
      y[vertex] = top + heights[vertex]! / 2;
      top += heights[vertex]! + gapOf(vertex, itemCount, gap);
    }
    for (const vertex of members) y[vertex]! -= top / 2;
  }
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    const rightwards = sweep % 2 === 0;
    // The last two sweeps look both ways, to centre what hangs between.
    const both = sweep >= SWEEPS - 2;
    for (let step = 0; step < ranks.length; step += 1) {
      const members = ranks[rightwards ? step : ranks.length - 1 - step]!;
      const wanted = members.map((vertex) => {
        const near = rightwards ? left[vertex]! : right[vertex]!;
        const all = both || near.length === 0 ? [...left[vertex]!, ...right[vertex]!] : near;
        return weightedMean(all, vertex, y, itemCount) ?? y[vertex]!;
      });
      spread(members, wanted, heights, itemCount, gap, y);
    }
  }
  return y;
}

const gapOf = (vertex: number, itemCount: number, gap: number): number => (vertex < itemCount ? gap : gap / 4);

function weightedMean(near: readonly number[], vertex: number, y: Float64Array, itemCount: number): number | null {
  if (near.length === 0) return null;
  let sum = 0;
  let weights = 0;
  for (const other of near) {
    const weight = other >= itemCount && vertex >= itemCount ? DUMMY_PULL * 2 : other >= itemCount ? DUMMY_PULL : 1;
    sum += y[other]! * weight;
    weights += weight;
  }
  return sum / weights;
}

/**
 * Puts the members as near to where they want to be as order and gaps allow. Taking the needed
 * distances off turns it into isotonic regression, which pooling adjacent violators solves in O(n).
 */
function spread(
  members: readonly number[],
  wanted: readonly number[],
  heights: readonly number[],
  itemCount: number,
  gap: number,
  y: Float64Array,
): void {
  const offsets: number[] = [];
  let offset = 0;
  for (const [index, vertex] of members.entries()) {
    if (index > 0) {
      const before = members[index - 1]!;
      const between = (gapOf(before, itemCount, gap) + gapOf(vertex, itemCount, gap)) / 2;
      offset += (heights[before]! + heights[vertex]!) / 2 + between;
    }
    offsets.push(offset);
  }
  const pools: { sum: number; size: number }[] = [];
  for (const [index, want] of wanted.entries()) {
    let pool = { sum: want - offsets[index]!, size: 1 };
    for (let last = pools.at(-1); last && last.sum / last.size > pool.sum / pool.size; last = pools.at(-1)) {
      pools.pop();
      pool = { sum: pool.sum + last.sum, size: pool.size + last.size };
    }
    pools.push(pool);
  }
  let index = 0;
  for (const { sum, size } of pools) {
    for (let step = 0; step < size; step += 1, index += 1) y[members[index]!] = sum / size + offsets[index]!;
  }
}
