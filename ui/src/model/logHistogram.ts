/** Requests over time by class of response, for the strip above the log rows. */
import type { Span } from "./timeWindow";

export interface Bucket {
  startMs: number;
  /** Requests by class: 2 is 2xx; 0 is no answer. */
  classes: Record<number, number>;
  total: number;
}

export function histogramQuery(condition: string | null, span: Span, bucketS: number): string {
  return [
    `select date_bin(interval '${bucketS} seconds', time) as bucket, response_code / 100 as class, count(*) as requests`,
    "from access_logs",
    `where time >= to_timestamp_millis(${Math.floor(span.startMs)}) and time < to_timestamp_millis(${Math.ceil(span.endMs)})`,
    condition === null ? "" : `and ${condition}`,
    "group by 1, 2",
  ].join(" ");
}

/** All buckets of the span, empty ones too, from rows of (time text, class, count). */
export function bucketsOf(rows: readonly (readonly unknown[])[], span: Span, bucketS: number): Bucket[] {
  const bucketMs = bucketS * 1000;
  const first = Math.floor(span.startMs / bucketMs) * bucketMs;
  const buckets: Bucket[] = [];
  for (let startMs = first; startMs < span.endMs; startMs += bucketMs) buckets.push({ startMs, classes: {}, total: 0 });
  for (const [time, responseClass, requests] of rows) {
    const bucket = buckets[Math.round((Date.parse(String(time)) - first) / bucketMs)];
    if (!bucket) continue;
    const count = Number(requests);
    bucket.classes[Number(responseClass)] = (bucket.classes[Number(responseClass)] ?? 0) + count;
    bucket.total += count;
  }
  return buckets;
}
