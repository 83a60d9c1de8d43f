/** Pages of stored rows, newest first; further pages are fetched as the end comes into sight. */
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { type AccessLogPage, type AccessLogRow, fetchAccessLogs } from "../../api/accessLogs";
import type { ApiError } from "../../api/door";
import { useResource } from "../../app/resource";
import { type Span, type TimeWindow, spanOf } from "../../model/timeWindow";

const PAGE_ROWS = 200;

interface LogSearch {
  rows: readonly AccessLogRow[];
  asked: boolean;
  more: boolean;
  loading: boolean;
  error: ApiError | null;
  scannedRows: number;
  tookMs: number;
  loadMore: () => void;
  reload: () => void;
  /** Changes with every new search. */
  turn: unknown;
}

/** `filter` null: no search. */
export function useLogSearch(filter: string | null, window: TimeWindow): LogSearch {
  // All pages of one search look at the same span, or rows would shift between them.
  const span = useRef<Span>({ startMs: 0, endMs: 0 });
  const key = filter === null ? null : `${filter}|${window.durationS}|${window.endUnixS}`;
  const first = useResource(
    key,
    (signal) => {
      span.current = spanOf(window, Date.now());
      return fetchAccessLogs({ filter: filter!, span: span.current, limit: PAGE_ROWS }, signal);
    },
    { clearOnChange: true },
  );
  const [further, setFurther] = useState<readonly AccessLogPage[]>([]);
  const busy = useRef(false);
  useEffect(() => setFurther([]), [first.data]);

  const last = further.at(-1) ?? first.data;
  const loadMore = useCallback(() => {
    if (busy.current || !last?.nextBefore || filter === null) return;
    busy.current = true;
    fetchAccessLogs({ filter, span: span.current, limit: PAGE_ROWS, before: last.nextBefore })
      .then((page) => setFurther((before) => [...before, page]))
      // The end of the list stays where it is; scrolling asks again.
      .catch(() => undefined)
      .finally(() => (busy.current = false));
  }, [last, filter]);

  const pages = first.data ? [first.data, ...further] : [];
  return {
    rows: pages.length === 1 ? pages[0]!.rows : pages.flatMap(({ rows }) => rows),
    asked: first.data !== null,
    more: last?.nextBefore != null,
    loading: first.loading,
    error: first.error,
    scannedRows: pages.reduce((sum, { scannedRows }) => sum + scannedRows, 0),
    tookMs: Math.round(pages.reduce((sum, { tookMs }) => sum + tookMs, 0)),
    loadMore,
    reload: first.reload,
    turn: first.data,
  };
}
