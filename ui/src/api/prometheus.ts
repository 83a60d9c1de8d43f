/** The Prometheus HTTP API, as much of it as charts and completion need. */
import { type Decode, dictionary, list, numeric, or, raw, record, string } from "./decode";
import { get, postForm } from "./door";

export type Sample = [unixS: number, value: number];

export interface Series {
  labels: Record<string, string>;
  samples: Sample[];
}

export interface QueryAnswer {
  kind: "matrix" | "vector" | "scalar" | "string";
  series: Series[];
  warnings: string[];
}

const sample: Decode<Sample> = (value, at) => {
  const [time, text] = list(raw)(value, at);
  return [numeric(time, `${at}[0]`), numeric(text, `${at}[1]`)];
};

const envelope = <T>(data: Decode<T>) => record({ data, warnings: list(string) });

const seriesOfSample: Decode<Series> = (value, at) => {
  const found = record({ metric: dictionary(string), value: or(sample, null as unknown as Sample) })(value, at);
  return { labels: found.metric, samples: found.value ? [found.value] : [] };
};

const seriesOfRange: Decode<Series> = (value, at) => {
  const found = record({ metric: dictionary(string), values: list(sample) })(value, at);
  return { labels: found.metric, samples: found.values };
};

const result: Decode<Omit<QueryAnswer, "warnings">> = (value, at) => {
  const { resultType, result } = record({ resultType: string, result: raw })(value, at);
  switch (resultType) {
    case "matrix":
      return { kind: resultType, series: list(seriesOfRange)(result, at) };
    case "vector":
      return { kind: resultType, series: list(seriesOfSample)(result, at) };
    case "scalar":
      return { kind: resultType, series: [{ labels: {}, samples: [sample(result, at)] }] };
    default:
      return { kind: "string", series: [] };
  }
};

const answer = async (sent: Promise<{ data: Omit<QueryAnswer, "warnings">; warnings: string[] }>) => {
  const { data, warnings } = await sent;
  return { ...data, warnings };
};

export const queryInstant = (query: string, timeUnixS: number, signal?: AbortSignal): Promise<QueryAnswer> =>
  answer(postForm("/api/v1/query", { query, time: timeUnixS.toFixed(3) }, envelope(result), signal));

export interface RangeRequest {
  query: string;
  startUnixS: number;
  endUnixS: number;
  stepS: number;
}

export const queryRange = (request: RangeRequest, signal?: AbortSignal): Promise<QueryAnswer> =>
  answer(
    postForm(
      "/api/v1/query_range",
      { query: request.query, start: request.startUnixS, end: request.endUnixS, step: request.stepS },
      envelope(result),
      signal,
    ),
  );

export const metricNames = async (signal?: AbortSignal): Promise<string[]> =>
  (await get("/api/v1/label/__name__/values", {}, envelope(list(string)), signal)).data;

export const labelNames = async (metric: string | null, signal?: AbortSignal): Promise<string[]> =>
  (await get("/api/v1/labels", { "match[]": metric }, envelope(list(string)), signal)).data;

export const labelValues = async (label: string, metric: string | null, signal?: AbortSignal): Promise<string[]> =>
  (await get(`/api/v1/label/${encodeURIComponent(label)}/values`, { "match[]": metric }, envelope(list(string)), signal)).data;

/** A step that draws about `points` points and lies on round times, so that refreshes do not jitter. */
export function stepFor(durationS: number, points: number): number {
  const wanted = durationS / points;
  return [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200].find((step) => step >= wanted) ?? 14_400;
}
