/** Requests by code and latency over time, from the mesh's own metrics. */
import { useMemo } from "preact/hooks";
import { type QueryAnswer, queryRange, stepFor } from "../../../api/prometheus";
import { useResource } from "../../../app/resource";
import { hrefTo, setTimeWindow, timeWindow } from "../../../app/route";
import { alignTimes, valuesAt } from "../../../model/chartData";
import { trafficQueries } from "../../../model/graph/selectors";
import { codeColour } from "../../../model/statusColour";
import { spanOf } from "../../../model/timeWindow";
import { bytes, millis, perSecond } from "../../../model/units";
import { Chart, type ChartData } from "../../../widgets/Chart";
import { Link } from "../../../widgets/controls";
import { ErrorNote } from "../../../widgets/states";

const POINTS = 120;
/** A chart of one minute says nothing: it shows at least this much, ending where the window ends. */
const LEAST_S = 900;
const REFRESH_MS = 15_000;

const QUANTILE_COLOURS: Record<string, string> = { p50: "--series-1", p95: "--series-2", p99: "--series-3" };

export function TrafficCharts({ labels, protocol }: { labels: string; protocol: string }) {
  const window = timeWindow.value;
  const durationS = Math.max(LEAST_S, window.durationS);
  const stepS = Math.max(5, stepFor(durationS, POINTS));
  const queries = useMemo(() => trafficQueries(labels, Math.max(60, stepS * 4), protocol), [labels, stepS, protocol]);
  const range = () => {
    const { startMs, endMs } = spanOf({ ...window, durationS }, Date.now());
    return { startUnixS: Math.floor(startMs / 1000 / stepS) * stepS, endUnixS: Math.floor(endMs / 1000 / stepS) * stepS, stepS };
  };
  const key = `${labels}|${protocol}|${durationS}|${window.endUnixS}`;
  const refreshMs = window.endUnixS === null ? REFRESH_MS : null;
  const rates = useResource(`rate|${key}`, (signal) => queryRange({ ...range(), query: queries.byCode }, signal), { refreshMs });
  const latencies = useResource(
    queries.quantiles.length > 0 ? `latency|${key}` : null,
    (signal) => Promise.all(queries.quantiles.map(([, query]) => queryRange({ ...range(), query }, signal))),
    { refreshMs },
  );
  const rateData = useMemo(() => (rates.data ? codeChart(rates.data, protocol) : null), [rates.data, protocol]);
  const latencyData = useMemo(
    () => (latencies.data ? quantileChart(latencies.data, queries.quantiles.map(([name]) => name)) : null),
    [latencies.data],
  );
  const zoom = (startUnixS: number, endUnixS: number) =>
    setTimeWindow({ durationS: Math.max(10, Math.round(endUnixS - startUnixS)), endUnixS: Math.round(endUnixS) }, { push: true });
  const error = rates.error ?? latencies.error;
  return (
    <section class="charts">
      {error && <ErrorNote error={error} />}
      {rateData && (
        <Chart
          title={protocol === "tcp" ? "Bytes sent" : "Requests by code"}
          data={rateData}
          height={112}
          format={protocol === "tcp" ? (value) => `${bytes(value)}/s` : perSecond}
          sync="panel"
          onRange={zoom}
        />
      )}
      {latencyData && <Chart title="Latency" data={latencyData} height={112} format={millis} sync="panel" onRange={zoom} />}
      {rateData && rateData.timesUnixS.length === 0 && !error && (
        <p class="hint">
          No istio_* samples for this selection yet. The figures above come from access logs; charts need the proxies to be scraped or remote-written.
        </p>
      )}
      <Link class="more" href={hrefTo("/metrics", { q: queries.byCode })}>
        Open in Metrics
      </Link>
    </section>
  );
}

function codeChart(answer: QueryAnswer, protocol: string): ChartData {
  const timesUnixS = alignTimes([answer]);
  const series = answer.series
    .map(({ labels, samples }) => ({ name: Object.values(labels)[0] ?? "", samples }))
    .sort((a, b) => a.name.localeCompare(b.name))
    .map(({ name, samples }) => ({
      label: name === "0" && protocol !== "grpc" ? "no answer" : name || "all",
      colour: protocol === "grpc" && name === "0" ? "--code-2xx" : protocol === "tcp" ? "--tcp" : codeColour(name),
      fill: true,
      values: valuesAt(timesUnixS, samples),
    }));
  return { timesUnixS, series };
}

function quantileChart(answers: readonly QueryAnswer[], names: readonly string[]): ChartData {
  const timesUnixS = alignTimes(answers);
  const series = answers.map((answer, index) => ({
    label: names[index]!,
    colour: QUANTILE_COLOURS[names[index]!]!,
    values: valuesAt(timesUnixS, answer.series[0]?.samples ?? []),
  }));
  return { timesUnixS, series };
}
