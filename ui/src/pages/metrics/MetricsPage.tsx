/** PromQL: a query box with completion, a chart over the window, and the values at its end. */
import { useMemo } from "preact/hooks";
import { labelNames, labelValues, metricNames, queryInstant, queryRange, stepFor } from "../../api/prometheus";
import { useResource } from "../../app/resource";
import { setTimeWindow, timeWindow, useUrlState } from "../../app/route";
import { type PromqlSource, completePromql } from "../../model/promql/completion";
import { formatDurationS, spanOf } from "../../model/timeWindow";
import { type Codec, oneOf, text, whole } from "../../model/urlState";
import { plural } from "../../model/units";
import { CompletingInput } from "../../widgets/CompletingInput";
import { EmptyState } from "../../widgets/EmptyState";
import { Icon } from "../../widgets/Icon";
import { Segmented, Select } from "../../widgets/controls";
import { ErrorNote, Loading } from "../../widgets/states";
import { MetricChart } from "./MetricChart";
import { SeriesTable } from "./SeriesTable";
import { StartingPoints } from "./StartingPoints";

interface MetricsState {
  q: string;
  view: "both" | "chart" | "table";
  refresh: number;
}

const codec: Codec<MetricsState> = { q: text(), view: oneOf(["both", "chart", "table"], "both"), refresh: whole(0, 0, 3600) };

const POINTS = 240;
const REFRESHES = [
  [0, "by hand"],
  [5, "every 5s"],
  [15, "every 15s"],
  [60, "every 1m"],
] as const;

export function MetricsPage() {
  const [state, update] = useUrlState(codec);
  const window = timeWindow.value;
  const query = state.q.trim();
  const stepS = stepFor(window.durationS, POINTS);
  const key = query === "" ? null : `${query}|${window.durationS}|${window.endUnixS}`;
  const refreshMs = state.refresh > 0 && window.endUnixS === null ? state.refresh * 1000 : null;
  const range = useResource(
    key,
    (signal) => {
      const { startMs, endMs } = spanOf(window, Date.now());
      const snap = (ms: number) => Math.floor(ms / 1000 / stepS) * stepS;
      return queryRange({ query, startUnixS: snap(startMs), endUnixS: snap(endMs), stepS }, signal);
    },
    { refreshMs },
  );
  const instant = useResource(key, (signal) => queryInstant(query, spanOf(window, Date.now()).endMs / 1000, signal), { refreshMs });
  const source = usePromqlSource();
  const run = () => {
    range.reload();
    instant.reload();
  };
  const shown = query === "" ? null : range.data;
  return (
    <div class="metrics-page">
      <div class="toolbar" role="search" aria-label="PromQL">
        <CompletingInput
          class="wide"
          label="PromQL"
          placeholder='sum by (destination_workload) (rate(istio_requests_total{reporter="source"}[1m]))'
          value={state.q}
          onCommit={(q) => (q === state.q ? run() : update({ q }, { push: true }))}
          complete={(typed, cursor) => completePromql(typed, cursor, source)}
          search
        />
        <button type="button" class={`button primary ${range.loading && query !== "" ? "busy" : ""}`} onClick={run}>
          Run
        </button>
        <Segmented
          label="View"
          value={state.view}
          choices={[
            ["both", "Both"],
            ["chart", "Chart"],
            ["table", "Table"],
          ]}
          onChange={(view) => update({ view })}
        />
        <Select label="Refresh" value={state.refresh} choices={REFRESHES} onChange={(refresh) => update({ refresh })} />
      </div>
      <div class="metrics-body">
        {query === "" && <StartingPoints onPick={(q) => update({ q }, { push: true })} />}
        {range.error && <ErrorNote error={range.error} retry={run} />}
        {query !== "" && !shown && range.loading && <Loading what="the series" />}
        {shown && shown.series.length === 0 && !range.error && (
          <EmptyState
            what="series"
            tables={["samples", "series"]}
            filters={[{ words: "The query matches no series in this window.", lift: () => update({ q: "" }) }]}
            snippets={["prometheus", "demo", "collector"]}
          />
        )}
        {shown && shown.series.length > 0 && (
          <>
            {shown.warnings.map((warning) => (
              <p key={warning} class="hint strip">
                <Icon name="warning" size={13} /> {warning}
              </p>
            ))}
            {state.view !== "table" && (
              <MetricChart
                answer={shown}
                tall={state.view === "chart"}
                onRange={(startS, endS) => setTimeWindow({ durationS: Math.max(5, Math.round(endS - startS)), endUnixS: Math.round(endS) }, { push: true })}
              />
            )}
            <p class="result-line">
              {plural(shown.series.length, "series", "series")}, a point every {formatDurationS(stepS)}
            </p>
            {state.view !== "chart" && instant.data && <SeriesTable answer={instant.data} />}
            {state.view !== "chart" && instant.error && !range.error && <ErrorNote error={instant.error} />}
          </>
        )}
      </div>
    </div>
  );
}

/** Names are fetched when first wanted, and kept while the page is open. A failure means no suggestions. */
function usePromqlSource(): PromqlSource {
  return useMemo(() => {
    const kept = new Map<string, Promise<readonly string[]>>();
    const once = (key: string, load: () => Promise<string[]>): Promise<readonly string[]> => {
      let found = kept.get(key);
      if (!found) {
        found = load().catch(() => {
          kept.delete(key);
          return [];
        });
        kept.set(key, found);
      }
      return found;
    };
    return {
      metrics: () => once("metrics", () => metricNames()),
      labels: (metric) => once(`labels|${metric}`, () => labelNames(metric)),
      values: (label, metric) => once(`values|${label}|${metric}`, () => labelValues(label, metric)),
    };
  }, []);
}
