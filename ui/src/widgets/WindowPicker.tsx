/** Chooses the time window of the page: the last so long, or an absolute range. */
import { useState } from "preact/hooks";
import { setTimeWindow, timeWindow } from "../app/route";
import { DURATIONS_S, clock, dateAndClock, formatDurationS, localInput, spanOf } from "../model/timeWindow";
import { Popover } from "./Popover";

export function WindowPicker() {
  const window = timeWindow.value;
  const label =
    window.endUnixS === null
      ? `Last ${formatDurationS(window.durationS)}`
      : `${formatDurationS(window.durationS)} to ${clock(window.endUnixS * 1000)}`;
  return (
    <Popover label={label} title={`Time window: ${label}`} align="right" class="window-picker">
      {(close) => <Choices close={close} />}
    </Popover>
  );
}

function Choices({ close }: { close: () => void }) {
  const window = timeWindow.value;
  const { startMs, endMs } = spanOf(window, Date.now());
  const [from, setFrom] = useState(localInput(startMs));
  const [to, setTo] = useState(localInput(endMs));
  const fromMs = Date.parse(from);
  const toMs = Date.parse(to);
  const valid = toMs > fromMs;
  const apply = (event: Event) => {
    event.preventDefault();
    if (!valid) return;
    setTimeWindow({ durationS: Math.round((toMs - fromMs) / 1000), endUnixS: Math.round(toMs / 1000) });
    close();
  };
  return (
    <div class="window-choices">
      <div class="presets" role="group" aria-label="The last…">
        {DURATIONS_S.map((durationS) => (
          <button
            key={durationS}
            type="button"
            class={window.endUnixS === null && window.durationS === durationS ? "on" : ""}
            onClick={() => {
              setTimeWindow({ durationS, endUnixS: null });
              close();
            }}
          >
            {formatDurationS(durationS)}
          </button>
        ))}
      </div>
      <form onSubmit={apply}>
        <label>
          From
          <input type="datetime-local" step="1" value={from} onInput={(event) => setFrom(event.currentTarget.value)} />
        </label>
        <label>
          To
          <input type="datetime-local" step="1" value={to} onInput={(event) => setTo(event.currentTarget.value)} />
        </label>
        {!valid && <p class="hint bad">The end must come after the start.</p>}
        <button type="submit" class="button primary" disabled={!valid}>
          Use this range
        </button>
      </form>
      <p class="hint">
        {dateAndClock(startMs)} – {clock(endMs)}, {Intl.DateTimeFormat().resolvedOptions().timeZone}
        <br />
        {new Date(endMs).toISOString().slice(0, 19).replace("T", " ")} UTC
      </p>
    </div>
  );
}
