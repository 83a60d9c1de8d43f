/** One span: its figures, what the proxies logged for the same hop, attributes, events. */
import type { AccessLogRow } from "../../api/accessLogs";
import type { Tag } from "../../api/traces";
import { hrefTo } from "../../app/route";
import { describeFlag, splitFlags } from "../../model/responseFlags";
import { codeColour } from "../../model/statusColour";
import { clock } from "../../model/timeWindow";
import type { Trace, TraceSpan } from "../../model/trace/tree";
import { bytes, millis, percent } from "../../model/units";
import { Icon } from "../../widgets/Icon";
import { Link } from "../../widgets/controls";

export function SpanPanel({ span, trace, close }: { span: TraceSpan; trace: Trace; close: () => void }) {
  return (
    <aside class="side" aria-label="Span details">
      <button type="button" class="button icon-only side-close" aria-label="Close details (Esc)" onClick={close}>
        <Icon name="close" />
      </button>
      <div class="panel" data-panel="span">
        <header>
          <h2>{span.service}</h2>
          <p class="sub">{span.name}</p>
          <p class="sub">
            {span.kind && <span class="chip">{span.kind}</span>}
            {span.statusCode && <span class="chip">{span.statusCode}</span>}
            {span.isOrigin && <span class="chip config">failed first here</span>}
            {span.isOrphan && <span class="chip config">its parent is missing</span>}
            {span.isFromLogs && <span class="chip">known from access logs only</span>}
          </p>
        </header>
        <dl class="tiles">
          <Figure name="Starts at" value={millis((span.startUs - trace.startUs) / 1000)} />
          <Figure name="Takes" value={millis(span.durationUs / 1000)} />
          <Figure name="Itself" value={millis(span.selfUs / 1000)} />
          <Figure name="Of trace" value={percent(span.durationUs / Math.max(1, trace.durationUs))} />
        </dl>
        <section>
          <h3>Access-log rows of this hop</h3>
          {span.rows.length === 0 && <p class="quiet">None: this span is not a proxy’s, or access logging is off there.</p>}
          {span.rows.map((row) => (
            <LogCard key={`${row.reporter}${row.timeUnixUs}`} row={row} />
          ))}
        </section>
        {span.warnings.length > 0 && (
          <section>
            <h3>Warnings</h3>
            {span.warnings.map((warning) => (
              <p key={warning} class="problem">
                {warning}
              </p>
            ))}
          </section>
        )}
        <Attributes title="Attributes" tags={span.tags} />
        {span.events.length > 0 && (
          <section>
            <h3>Events</h3>
            {span.events.map(({ timeUs, fields }) => (
              <div key={`${timeUs}`} class="event">
                <time>{millis((timeUs - span.startUs) / 1000)} in</time>
                <Table tags={fields} />
              </div>
            ))}
          </section>
        )}
        <Attributes title="Process" tags={span.processTags} />
        <p class="hint">
          Span <code>{span.id}</code>
        </p>
      </div>
    </aside>
  );
}

const Figure = ({ name, value }: { name: string; value: string }) => (
  <div>
    <dt>{name}</dt>
    <dd>{value}</dd>
  </div>
);

function LogCard({ row }: { row: AccessLogRow }) {
  const flags = splitFlags(row.responseFlags);
  return (
    <div class="log-card" data-reporter={row.reporter}>
      <p>
        <b style={{ color: `var(${codeColour(row.responseCode)})` }}>{row.responseCode || "no answer"}</b> {row.method} <code>{row.path}</code>
        <span class="num">{millis(row.durationUs / 1000)}</span>
      </p>
      <p class="faint">
        {row.reporter === "source" ? `caller’s proxy, ${row.sourceWorkload}` : `callee’s proxy, ${row.destinationWorkload}`} at{" "}
        {clock(row.timeUnixUs / 1000, true)}
      </p>
      {flags.map((flag) => (
        <p key={flag}>
          <em class="flag">{flag}</em> {describeFlag(flag).title}: {describeFlag(flag).meaning}
        </p>
      ))}
      <p class="faint">
        {row.responseCodeDetails && `${row.responseCodeDetails} · `}
        {row.upstreamHost && `${row.upstreamHost} · `}
        {bytes(row.responseBytes)}
      </p>
      <Link class="more" href={hrefTo("/logs", { q: `request:${row.requestId}`, d: "1h" })}>
        All rows of this request
      </Link>
    </div>
  );
}

function Attributes({ title, tags }: { title: string; tags: readonly Tag[] }) {
  if (tags.length === 0) return null;
  return (
    <section>
      <h3>{title}</h3>
      <Table tags={[...tags].sort((a, b) => (a.key < b.key ? -1 : 1))} />
    </section>
  );
}

const Table = ({ tags }: { tags: readonly Tag[] }) => (
  <table class="attributes">
    <tbody>
      {tags.map(({ key, value }, index) => (
        <tr key={`${key}${index}`}>
          <th scope="row">{key}</th>
          <td>{String(value)}</td>
        </tr>
      ))}
    </tbody>
  </table>
);
