/** The access-log rows behind a selection, and the traces that these rows belong to. */
import { type AccessLogRow, fetchAccessLogs } from "../../../api/accessLogs";
import { useResource } from "../../../app/resource";
import { hrefTo, timeWindow } from "../../../app/route";
import { splitFlags } from "../../../model/responseFlags";
import { codeColour } from "../../../model/statusColour";
import { clock, spanOf } from "../../../model/timeWindow";
import { millis } from "../../../model/units";
import { Link } from "../../../widgets/controls";
import { ErrorNote, Loading, Quiet } from "../../../widgets/states";

const ROWS = 200;
const SHOWN = 25;
const REFRESH_MS = 10_000;

export function RequestsBehind({ filter, show }: { filter: string; show: "traces" | "logs" }) {
  const window = timeWindow.value;
  const found = useResource(
    `${filter}|${window.durationS}|${window.endUnixS}`,
    (signal) => fetchAccessLogs({ filter, span: spanOf(window, Date.now()), limit: ROWS }, signal),
    { refreshMs: window.endUnixS === null ? REFRESH_MS : null, clearOnChange: true },
  );
  if (found.error) return <ErrorNote error={found.error} retry={found.reload} />;
  if (!found.data) return <Loading what={show} />;
  return (
    <section>
      {show === "logs" ? <LogRows rows={found.data.rows} /> : <TraceRows rows={found.data.rows} />}
      <Link class="more" href={show === "logs" ? hrefTo("/logs", { q: filter }) : hrefTo("/traces", traceSearchFor(found.data.rows))}>
        {show === "logs" ? "Open in Logs" : "Open in Traces"}
      </Link>
    </section>
  );
}

/** The destination names the service whose traces are searched. */
function traceSearchFor(rows: readonly AccessLogRow[]): Record<string, string | null> {
  const row = rows.find(({ destinationApp, destinationWorkload }) => destinationApp || destinationWorkload);
  return { near: row ? row.destinationApp || row.destinationWorkload : null };
}

function LogRows({ rows }: { rows: readonly AccessLogRow[] }) {
  if (rows.length === 0) return <Quiet>No access-log rows in this window. Access logging may be off for these proxies.</Quiet>;
  return (
    <ul class="request-list">
      {rows.slice(0, SHOWN).map((row, index) => (
        <li key={`${row.timeUnixUs}-${index}`}>
          <RequestLine row={row} to={row.traceId ? hrefTo(`/traces/${row.traceId}`) : hrefTo("/logs", { q: `request:${row.requestId}` })} />
        </li>
      ))}
    </ul>
  );
}

function TraceRows({ rows }: { rows: readonly AccessLogRow[] }) {
  const slowest = new Map<string, AccessLogRow>();
  for (const row of rows) {
    if (!row.traceId) continue;
    const known = slowest.get(row.traceId);
    if (!known || row.durationUs > known.durationUs) slowest.set(row.traceId, row);
  }
  const traces = [...slowest.values()].sort((a, b) => Number(isBad(b)) - Number(isBad(a)) || b.durationUs - a.durationUs);
  if (traces.length === 0) return <Quiet>None of the newest {rows.length} requests carries a trace id.</Quiet>;
  return (
    <>
      <p class="hint">
        {traces.length} traces of the newest {rows.length} log rows; failed and slow ones first.
      </p>
      <ul class="request-list">
        {traces.slice(0, SHOWN).map((row) => (
          <li key={row.traceId}>
            <RequestLine row={row} to={hrefTo(`/traces/${row.traceId}`)} />
          </li>
        ))}
      </ul>
    </>
  );
}

const isBad = (row: AccessLogRow): boolean => row.responseCode >= 500 || row.responseCode === 0;

function RequestLine({ row, to }: { row: AccessLogRow; to: string }) {
  return (
    <Link href={to} class="request">
      <time>{clock(row.timeUnixUs / 1000)}</time>
      <b style={{ color: `var(${codeColour(row.responseCode)})` }}>{row.responseCode || "–"}</b>
      <span class="path">
        {row.method} {row.path}
      </span>
      {splitFlags(row.responseFlags).map((flag) => (
        <em key={flag} class="flag">
          {flag}
        </em>
      ))}
      <span class="num">{millis(row.durationUs / 1000)}</span>
    </Link>
  );
}
