/** Access-log rows in columns. */
import { useRef } from "preact/hooks";
import type { AccessLogRow } from "../../api/accessLogs";
import { describeFlag, splitFlags } from "../../model/responseFlags";
import { codeColour } from "../../model/statusColour";
import { clock, dateAndClock } from "../../model/timeWindow";
import { bytes, millis } from "../../model/units";
import { VirtualRows } from "../../widgets/VirtualRows";

const ROW_PX = 27;
/** Beyond this a duration reads as slow. */
const SLOW_US = 1_000_000;

interface Props {
  rows: readonly AccessLogRow[];
  selected: AccessLogRow | null;
  onSelect: (row: AccessLogRow) => void;
  onNarrow: (key: string, value: string) => void;
  onEnd?: () => void;
}

export function LogTable({ rows, selected, onSelect, onNarrow, onEnd }: Props) {
  const scroller = useRef<HTMLDivElement>(null);
  return (
    <div class="log-table" role="table" aria-label="Access-log rows" aria-rowcount={rows.length}>
      <div class="log-row head" role="row">
        {["Time", "Status", "Flags", "Took", "Seen by", "Caller", "Callee", "Request", "Size"].map((name) => (
          <span key={name} role="columnheader">
            {name}
          </span>
        ))}
      </div>
      <div class="log-rows" ref={scroller}>
        <VirtualRows
          count={rows.length}
          rowHeight={ROW_PX}
          scroller={scroller}
          onEnd={onEnd}
          render={(index) => (
            <Row key={`${rows[index]!.timeUnixUs}|${rows[index]!.spanId}|${index}`} row={rows[index]!} isSelected={rows[index] === selected} onSelect={onSelect} onNarrow={onNarrow} />
          )}
        />
      </div>
    </div>
  );
}

type RowProps = Pick<Props, "onSelect" | "onNarrow"> & { row: AccessLogRow; isSelected: boolean };

function Row({ row, isSelected, onSelect, onNarrow }: RowProps) {
  const flags = splitFlags(row.responseFlags);
  const timeMs = row.timeUnixUs / 1000;
  return (
    <div
      class={`log-row ${isSelected ? "selected" : ""} ${row.responseCode >= 500 || row.responseCode === 0 ? "failed" : ""}`}
      role="row"
      tabIndex={0}
      style={{ height: `${ROW_PX}px` }}
      onClick={() => onSelect(row)}
      onKeyDown={(event) => event.key === "Enter" && onSelect(row)}
    >
      <time role="cell" title={dateAndClock(timeMs)}>
        {clock(timeMs, true)}
      </time>
      <b role="cell" style={{ color: `var(${codeColour(row.responseCode)})` }}>
        {row.responseCode || "–"}
      </b>
      <span role="cell">
        {flags.map((flag) => (
          <button
            key={flag}
            type="button"
            class="flag"
            title={`${describeFlag(flag).title}: ${describeFlag(flag).meaning}. Press to keep only these.`}
            onClick={(event) => {
              event.stopPropagation();
              onNarrow("flag", flag);
            }}
          >
            {flag}
          </button>
        ))}
        {flags.length > 0 && <small>{describeFlag(flags[0]!).title}</small>}
      </span>
      <span role="cell" class={`num ${row.durationUs > SLOW_US ? "slow" : ""}`}>
        {millis(row.durationUs / 1000)}
      </span>
      <span role="cell" class="faint">
        {row.reporter === "source" ? "caller" : row.reporter === "destination" ? "callee" : row.reporter}
      </span>
      <span role="cell">{row.sourceWorkload || "unknown"}</span>
      <span role="cell">{row.destinationWorkload || row.destinationService.split(".")[0]}</span>
      <span role="cell" class="request-text">
        <i>{row.method}</i> {row.path}
      </span>
      <span role="cell" class="num faint">
        {bytes(row.responseBytes)}
      </span>
    </div>
  );
}
