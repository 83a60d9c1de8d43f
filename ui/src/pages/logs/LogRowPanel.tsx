/** All of one access-log row, with ways to narrow the search by it and to its trace. */
import type { AccessLogRow } from "../../api/accessLogs";
import { hrefTo } from "../../app/route";
import { describeFlag, splitFlags } from "../../model/responseFlags";
import { codeColour } from "../../model/statusColour";
import { clock, dateAndClock } from "../../model/timeWindow";
import { bytes, millis } from "../../model/units";
import { Icon } from "../../widgets/Icon";
import { Link } from "../../widgets/controls";

interface Props {
  row: AccessLogRow;
  close: () => void;
  onNarrow: (key: string, value: string) => void;
}

export function LogRowPanel({ row, close, onNarrow }: Props) {
  const timeMs = row.timeUnixUs / 1000;
  const fields: [name: string, value: string, key?: string][] = [
    ["Seen by", row.reporter, "reporter"],
    ["Caller", row.sourceWorkload, "source"],
    ["Caller’s namespace", row.sourceNamespace, "ns"],
    ["Caller’s identity", row.sourcePrincipal],
    ["Callee", row.destinationWorkload, "dest"],
    ["Callee’s namespace", row.destinationNamespace, "ns"],
    ["Version", row.destinationVersion, "version"],
    ["Callee’s identity", row.destinationPrincipal],
    ["Service", row.destinationService, "service"],
    ["Host", row.authority, "host"],
    ["Protocol", row.protocol],
    ["gRPC status", row.grpcStatus === null ? "" : String(row.grpcStatus)],
    ["Response details", row.responseCodeDetails],
    ["Connection ended", row.connectionTerminationDetails],
    ["Upstream failure", row.upstreamTransportFailureReason],
    ["Attempts", row.upstreamAttempts > 1 ? String(row.upstreamAttempts) : ""],
    ["Security", row.securityPolicy.replaceAll("_", " ")],
    ["Route", row.routeName, "route"],
    ["Cluster", row.upstreamCluster, "cluster"],
    ["Endpoint", row.upstreamHost],
    ["Request", bytes(row.requestBytes)],
    ["Response", bytes(row.responseBytes)],
    ["User agent", row.userAgent],
    ["Request id", row.requestId, "request"],
    ["Trace id", row.traceId, "trace"],
    ["Span id", row.spanId],
  ];
  return (
    <aside class="side" aria-label="Row details">
      <button type="button" class="button icon-only side-close" aria-label="Close details (Esc)" onClick={close}>
        <Icon name="close" />
      </button>
      <div class="panel" data-panel="log-row">
        <header>
          <h2>
            <span style={{ color: `var(${codeColour(row.responseCode)})` }}>{row.responseCode || "No answer"}</span> {row.method}{" "}
            <code>{row.path}</code>
          </h2>
          <p class="sub">
            {dateAndClock(timeMs).slice(0, 10)} {clock(timeMs, true)}, {millis(row.durationUs / 1000)}
          </p>
        </header>
        {splitFlags(row.responseFlags).map((flag) => (
          <div key={flag} class="flags">
            <li>
              <button type="button" class="flag" onClick={() => onNarrow("flag", flag)}>
                {flag}
              </button>
              <div>
                <b>{describeFlag(flag).title}</b>
                <span>{describeFlag(flag).meaning}</span>
              </div>
            </li>
          </div>
        ))}
        {row.traceId && (
          <Link href={hrefTo(`/traces/${row.traceId}`)} class="button primary">
            Open its trace
          </Link>
        )}
        <table class="attributes">
          <tbody>
            {fields
              .filter(([, value]) => value !== "" && value !== "unknown" && value !== "-")
              .map(([name, value, key]) => (
                <tr key={name}>
                  <th scope="row">{name}</th>
                  <td>
                    {key ? (
                      <button type="button" class="plain-link" title={`Keep only ${key}:${value}`} onClick={() => onNarrow(key, value)}>
                        {value}
                      </button>
                    ) : (
                      value
                    )}
                  </td>
                </tr>
              ))}
          </tbody>
        </table>
      </div>
    </aside>
  );
}
