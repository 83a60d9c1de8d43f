/** Shows that data arrives, and how much; its panel lists each protocol, table and listener. */
import { useRef } from "preact/hooks";
import { type Status, fetchStatus } from "../api/status";
import { ago } from "../model/timeWindow";
import { bytes, compact, count, seconds } from "../model/units";
import { Popover } from "../widgets/Popover";
import { useResource } from "./resource";

const EVERY_MS = 10_000;
/** Nothing for so long means that the senders went quiet. */
const STALE_MS = 60_000;

export function StatusLamp() {
  const { data: status, error } = useResource("status", fetchStatus, { refreshMs: EVERY_MS });
  const itemsPerSecond = useArrivalRate(status);
  if (!status) {
    return (
      <span class={`lamp ${error ? "failing" : "idle"}`} title={error?.detail ?? "Asking the server"}>
        <i />
        {error ? "no connection" : ""}
      </span>
    );
  }
  const last = Math.max(0, ...status.received.map(({ lastUnixMs }) => lastUnixMs ?? 0));
  const state = error ? "failing" : last === 0 ? "idle" : Date.now() - last > STALE_MS ? "degraded" : "healthy";
  const words = error ? "no connection" : last === 0 ? "no data yet" : state === "degraded" ? `quiet for ${seconds((Date.now() - last) / 1000)}` : "receiving";
  const label = (
    <span class={`lamp ${state}`}>
      <i />
      {words}
      {state === "healthy" && itemsPerSecond !== null && <b>{compact(itemsPerSecond)}/s</b>}
    </span>
  );
  return (
    <Popover label={label} title="What arrives and what is stored" align="right" class="status">
      <StatusPanel status={status} />
    </Popover>
  );
}

/** Items per second over all protocols, from two answers. */
function useArrivalRate(status: Status | null): number | null {
  const seen = useRef<{ status: Status; rate: number | null } | null>(null);
  if (!status) return null;
  if (seen.current?.status === status) return seen.current.rate;
  const total = (of: Status): number => of.received.reduce((sum, { items }) => sum + items, 0);
  const before = seen.current?.status;
  const elapsedS = before ? status.uptimeS - before.uptimeS : 0;
  const rate = before && elapsedS > 0 ? Math.max(0, (total(status) - total(before)) / elapsedS) : null;
  seen.current = { status, rate };
  return rate;
}

function StatusPanel({ status }: { status: Status }) {
  const now = Date.now();
  return (
    <div class="status-panel">
      <table class="plain">
        <thead>
          <tr>
            <th>Protocol</th>
            <th class="num">Received</th>
            <th class="num">Rejected</th>
            <th>Last</th>
          </tr>
        </thead>
        <tbody>
          {status.received.map((row) => (
            <tr key={row.protocol} class={row.items === 0 ? "faint" : ""}>
              <td>{row.protocol}</td>
              <td class="num">{count(row.items)}</td>
              <td class={`num ${row.rejected > 0 ? "bad" : ""}`}>{count(row.rejected)}</td>
              <td>{row.lastUnixMs ? ago(row.lastUnixMs, now) : "never"}</td>
            </tr>
          ))}
        </tbody>
      </table>
      <table class="plain">
        <thead>
          <tr>
            <th>Table</th>
            <th class="num">Rows</th>
            <th class="num">Size</th>
            <th class="num">Per row</th>
          </tr>
        </thead>
        <tbody>
          {status.tables.map((row) => (
            <tr key={row.name} class={row.rows === 0 ? "faint" : ""}>
              <td>{row.name}</td>
              <td class="num">{count(row.rows)}</td>
              <td class="num">{bytes(row.bytes)}</td>
              <td class="num">{row.rows > 0 ? bytes(row.bytes / row.rows) : "–"}</td>
            </tr>
          ))}
        </tbody>
      </table>
      <dl class="listeners">
        {status.listeners.map(({ name, address }) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>
              <code>{address}</code>
            </dd>
          </div>
        ))}
      </dl>
      <p class="hint">
        Pharos {status.version}, up {seconds(status.uptimeS)}
        {status.memoryBytes > 0 && `, ${bytes(status.memoryBytes)} of memory`}
      </p>
    </div>
  );
}
