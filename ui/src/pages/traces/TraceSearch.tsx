/** Finds traces by service, operation, attributes and duration. */
import { useEffect, useMemo } from "preact/hooks";
import { type TraceSummary, searchTraces, traceOperations, traceServices } from "../../api/traces";
import { useResource } from "../../app/resource";
import { hrefTo, navigate, timeWindow, useUrlState } from "../../app/route";
import { completeFilter } from "../../model/filter/completion";
import { FilterError } from "../../model/filter/grammar";
import { spanOf } from "../../model/timeWindow";
import { TRACE_KEYS, type TraceTerms, parseTraceSearch } from "../../model/trace/search";
import { KNOWN_FLAGS } from "../../model/responseFlags";
import { type Codec, oneOf, text, whole } from "../../model/urlState";
import { plural } from "../../model/units";
import { CompletingInput } from "../../widgets/CompletingInput";
import { EmptyState } from "../../widgets/EmptyState";
import { Icon } from "../../widgets/Icon";
import { Select } from "../../widgets/controls";
import { ErrorNote, Loading } from "../../widgets/states";
import { Scatter } from "./Scatter";
import { TraceList } from "./TraceList";

export type Order = "recent" | "longest" | "spans" | "errors";

interface SearchState {
  service: string;
  op: string;
  /** The name of an app whose service is wanted: tracers spell services in their own ways. */
  near: string;
  q: string;
  limit: number;
  order: Order;
}

const codec: Codec<SearchState> = {
  service: text(),
  op: text(),
  near: text(),
  q: text(),
  limit: whole(200, 1, 1500),
  order: oneOf<Order>(["recent", "longest", "spans", "errors"], "recent"),
};

const ORDERS: readonly (readonly [Order, string])[] = [
  ["recent", "Newest first"],
  ["longest", "Longest first"],
  ["spans", "Most spans first"],
  ["errors", "Most errors first"],
];

const LIMITS = [50, 200, 500, 1500].map((limit) => [limit, `${limit} traces`] as const);

export function TraceSearch() {
  const [state, update] = useUrlState(codec);
  const window = timeWindow.value;
  const services = useResource("services", traceServices);
  const service = state.service || nearest(services.data ?? [], state.near);
  useEffect(() => {
    if (state.near && services.data) update({ near: "", service });
  }, [state.near, services.data]);
  const operations = useResource(service === "" ? null : `operations:${service}`, (signal) => traceOperations(service, signal));
  const { terms, problem } = useTerms(state.q);
  const waiting = state.near !== "" && !services.data && !services.error;
  const key = terms && !waiting ? JSON.stringify([service, state.op, terms, state.limit, window]) : null;
  const found = useResource(key, (signal) =>
    searchTraces({ service, operation: state.op, ...terms!, limit: state.limit, span: spanOf(window, Date.now()) }, signal),
  );
  const sorted = useMemo(() => sortTraces(found.data ?? [], state.order), [found.data, state.order]);
  const lookUp = /^\s*[0-9a-f]{16,32}\s*$/i.exec(state.q)?.[0].trim();
  useEffect(() => {
    if (lookUp) navigate(hrefTo(`/traces/${lookUp}`));
  }, [lookUp]);

  return (
    <div class="traces-page">
      <div class="toolbar" role="search" aria-label="Trace search">
        <Select
          label="Service"
          value={service}
          choices={[["", "All services"], ...options(services.data ?? [], service)]}
          onChange={(next) => update({ service: next, op: "" })}
        />
        <Select
          label="Operation"
          value={state.op}
          choices={[["", "All operations"], ...options(operations.data ?? [], state.op)]}
          onChange={(op) => update({ op })}
        />
        <CompletingInput
          class="wide"
          label="Attributes and duration, or a trace id"
          placeholder="status:503  flag:FI  error:true  dur>250ms  or a trace id"
          value={state.q}
          onCommit={(q) => update({ q })}
          complete={(typed, cursor) => completeFilter(typed, cursor, TRACE_KEYS, valuesOf)}
          search
        />
        <Select label="Limit" value={state.limit} choices={LIMITS} onChange={(limit) => update({ limit })} />
        <Select label="Order" value={state.order} choices={ORDERS} onChange={(order) => update({ order })} />
        <button type="button" class={`button ${found.loading ? "busy" : ""}`} onClick={found.reload}>
          <Icon name="refresh" /> Search
        </button>
      </div>
      {problem && !lookUp && <p class="problem strip">{problem}</p>}
      <div class="traces-body">
        {(found.error ?? services.error) && <ErrorNote error={(found.error ?? services.error)!} retry={found.reload} />}
        {!found.data && found.loading && <Loading what="traces" />}
        {found.data && sorted.length > 0 && (
          <>
            <Scatter traces={sorted} span={spanOf(window, Date.now())} />
            <p class="result-line">
              {plural(sorted.length, "trace")}
              {sorted.length >= state.limit && ", the limit: narrow the search or raise it"}
            </p>
            <TraceList traces={sorted} />
          </>
        )}
        {found.data && sorted.length === 0 && (
          <EmptyState
            what="traces"
            tables={["spans", "trace_summaries"]}
            filters={[
              ...(service ? [{ words: `Only traces through ${service}.`, lift: () => update({ service: "", op: "", near: "" }) }] : []),
              ...(state.op ? [{ words: `Only the operation ${state.op}.`, lift: () => update({ op: "" }) }] : []),
              ...(state.q ? [{ words: `Only what matches “${state.q}”.`, lift: () => update({ q: "" }) }] : []),
            ]}
            snippets={["demo", "istio", "sdk", "collector", "zipkin"]}
          />
        )}
      </div>
    </div>
  );
}

function useTerms(q: string): { terms: TraceTerms | null; problem: string | null } {
  return useMemo(() => {
    try {
      return { terms: parseTraceSearch(q), problem: null };
    } catch (error) {
      if (error instanceof FilterError) return { terms: null, problem: error.message };
      throw error;
    }
  }, [q]);
}

const options = (names: readonly string[], chosen: string): [string, string][] =>
  [...new Set(chosen === "" || names.includes(chosen) ? names : [chosen, ...names])].map((name) => [name, name]);

/** "reviews" is traced as reviews, reviews.bookinfo or reviews-v1: the closest spelling wins. */
function nearest(services: readonly string[], app: string): string {
  if (app === "") return "";
  return (
    services.find((name) => name === app) ??
    services.find((name) => name.startsWith(`${app}.`)) ??
    services.find((name) => name.startsWith(`${app}-`)) ??
    ""
  );
}

function valuesOf(key: string): readonly string[] {
  if (key === "error") return ["true"];
  if (key === "method") return ["GET", "POST", "PUT", "PATCH", "DELETE"];
  if (key === "flag") return KNOWN_FLAGS;
  return key === "status" ? ["200", "404", "429", "500", "502", "503", "504"] : [];
}

function sortTraces(traces: readonly TraceSummary[], order: Order): TraceSummary[] {
  const newest = (a: TraceSummary, b: TraceSummary) => b.startUnixMs - a.startUnixMs;
  const by: Record<Order, (a: TraceSummary, b: TraceSummary) => number> = {
    recent: newest,
    longest: (a, b) => b.durationMs - a.durationMs || newest(a, b),
    spans: (a, b) => b.spanCount - a.spanCount || newest(a, b),
    errors: (a, b) => b.errorSpanCount - a.errorSpanCount || newest(a, b),
  };
  return [...traces].sort(by[order]);
}
