/** Access logs: filtered search over the stored ones, or a live tail of what arrives. */
import { useEffect, useMemo, useState } from "preact/hooks";
import type { AccessLogRow } from "../../api/accessLogs";
import { useKeys } from "../../app/keyboard";
import { timeWindow, useUrlState } from "../../app/route";
import { completeFilter } from "../../model/filter/completion";
import { FilterError, parseFilter, term } from "../../model/filter/grammar";
import { LOG_KEYS, valuesIn } from "../../model/filter/logKeys";
import { type Codec, flag, text } from "../../model/urlState";
import { count, plural } from "../../model/units";
import { CompletingInput } from "../../widgets/CompletingInput";
import { EmptyState } from "../../widgets/EmptyState";
import { Icon } from "../../widgets/Icon";
import { ErrorNote, Loading, Quiet } from "../../widgets/states";
import { Histogram } from "./Histogram";
import { LogRowPanel } from "./LogRowPanel";
import { LogTable } from "./LogTable";
import { useLogSearch } from "./useLogSearch";
import { useLogTail } from "./useLogTail";

interface LogState {
  q: string;
  live: boolean;
}

const codec: Codec<LogState> = { q: text(), live: flag(false) };

export function LogsPage() {
  const [state, update] = useUrlState(codec);
  const [paused, setPaused] = useState(false);
  const [selected, select] = useState<AccessLogRow | null>(null);
  const problem = useProblem(state.q);
  const search = useLogSearch(problem || state.live ? null : state.q, timeWindow.value);
  const tail = useLogTail(problem || !state.live ? null : state.q, paused);
  const rows = state.live ? tail.rows : search.rows;
  const narrow = (key: string, value: string) => update({ q: `${state.q} ${term(key, value)}`.trim() }, { push: true });

  useEffect(() => select(null), [state.q, state.live]);
  const step = (by: number) => {
    const at = selected ? rows.indexOf(selected) : -1;
    select(rows[Math.max(0, Math.min(rows.length - 1, at + by))] ?? null);
  };
  useKeys({
    p: () => state.live && setPaused(!paused),
    l: () => update({ live: !state.live }),
    ArrowDown: () => step(1),
    ArrowUp: () => step(-1),
    Escape: () => select(null),
  });

  return (
    <div class="logs-page">
      <div class="toolbar" role="search" aria-label="Access-log search">
        <CompletingInput
          class="wide"
          label="Filter"
          placeholder="service:reviews*  status:5xx  -path:/health  dur>250ms  flag:DI"
          value={state.q}
          onCommit={(q) => update({ q })}
          complete={(typed, cursor) => completeFilter(typed, cursor, LOG_KEYS, (key) => valuesIn(rows, key))}
          live
          search
        />
        <button
          type="button"
          class={`button ${state.live ? "on" : ""}`}
          aria-pressed={state.live}
          title="Follow new rows (l)"
          onClick={() => {
            setPaused(false);
            update({ live: !state.live });
          }}
        >
          <i class={`live-dot ${state.live && tail.connected && !paused ? "on" : ""}`} /> Live tail
        </button>
        {state.live ? (
          <button type="button" class="button" aria-pressed={paused} title="Pause (p)" onClick={() => setPaused(!paused)}>
            <Icon name={paused ? "play" : "pause"} /> {paused ? `Go on, ${plural(tail.held, "new row")}` : "Pause"}
          </button>
        ) : (
          <button type="button" class={`button icon-only ${search.loading ? "busy" : ""}`} aria-label="Search again" onClick={search.reload}>
            <Icon name="refresh" />
          </button>
        )}
      </div>
      {problem && (
        <p class="problem strip" role="alert">
          {problem}
        </p>
      )}
      <div class="logs-body">
        <div class="logs-main">
          {!state.live && !problem && rows.length > 0 && <Histogram filter={state.q} turn={search.turn} />}
          <p class="result-line">
            {state.live
              ? tail.connected
                ? `Following, ${plural(rows.length, "row")} kept${tail.lost ? "; some came too fast and are left out here, search finds them" : ""}`
                : "Connecting to the live tail…"
              : search.asked &&
                `${plural(rows.length, "row")}${search.more ? ", more below" : ""} · ${count(search.scannedRows)} scanned in ${search.tookMs} ms`}
          </p>
          {search.error && !state.live && <ErrorNote error={search.error} retry={search.reload} />}
          {rows.length > 0 && <LogTable rows={rows} selected={selected} onSelect={select} onNarrow={narrow} onEnd={state.live ? undefined : search.loadMore} />}
          {rows.length === 0 && state.live && <Quiet>Waiting for the next request that matches.</Quiet>}
          {rows.length === 0 && !state.live && search.loading && <Loading what="log rows" />}
          {rows.length === 0 && !state.live && search.asked && !search.loading && !search.error && !problem && (
            <EmptyState
              what="access-log rows"
              tables={["access_logs"]}
              filters={state.q ? [{ words: `Only what matches “${state.q}”.`, lift: () => update({ q: "" }) }] : []}
              snippets={["demo", "istio", "collector"]}
            />
          )}
        </div>
        {selected && <LogRowPanel row={selected} close={() => select(null)} onNarrow={narrow} />}
      </div>
    </div>
  );
}

function useProblem(q: string): string | null {
  return useMemo(() => {
    try {
      parseFilter(q, LOG_KEYS);
      return null;
    } catch (error) {
      if (error instanceof FilterError) return error.message;
      throw error;
    }
  }, [q]);
}
