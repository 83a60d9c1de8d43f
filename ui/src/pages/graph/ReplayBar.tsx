/** A slider over the stored past. A strip above it shows how much traffic there was, and how much of it failed. */
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { type QueryAnswer, queryRange, stepFor } from "../../api/prometheus";
import { isDark } from "../../app/preferences";
import { useResource } from "../../app/resource";
import { setTimeWindow, timeWindow } from "../../app/route";
import { ago, clock, dateAndClock } from "../../model/timeWindow";
import { perSecond, percent } from "../../model/units";
import { Icon } from "../../widgets/Icon";
import { Select } from "../../widgets/controls";

const REACHES = [
  [900, "last 15m"],
  [3600, "last 1h"],
  [21_600, "last 6h"],
  [86_400, "last 24h"],
  [604_800, "last 7d"],
] as const;

const SPEEDS = [
  [1, "1×"],
  [10, "10×"],
  [60, "60×"],
] as const;

/** One step of the playing head. */
const TICK_MS = 1000;
const CELLS = 160;

export function ReplayBar({ oldestUnixS, close }: { oldestUnixS: number | null; close: () => void }) {
  // The past does not move while it is looked at.
  const [nowS, setNowS] = useState(() => Math.floor(Date.now() / 1000));
  const storedS = oldestUnixS === null ? 900 : nowS - oldestUnixS;
  // Until a person chooses, the track reaches as far back as there is data.
  const [chosenS, setReachS] = useState<number | null>(null);
  const reachS = chosenS ?? REACHES.find(([reach]) => reach >= storedS)?.[0] ?? 604_800;
  const [speed, setSpeed] = useState<number>(10);
  const [playing, setPlaying] = useState(false);
  const { durationS, endUnixS } = timeWindow.value;
  const fromS = nowS - reachS;
  const at = Math.max(fromS, Math.min(nowS, endUnixS ?? nowS));
  const go = (to: number) => setTimeWindow({ durationS, endUnixS: to >= nowS ? null : Math.round(to) });

  useEffect(() => {
    if (!playing) return;
    const timer = setInterval(() => {
      const next = (timeWindow.peek().endUnixS ?? nowS) + (speed * TICK_MS) / 1000;
      if (next >= nowS) setPlaying(false);
      go(next);
    }, TICK_MS);
    return () => clearInterval(timer);
  }, [playing, speed, nowS, durationS]);

  const live = () => {
    setPlaying(false);
    setNowS(Math.floor(Date.now() / 1000));
    setTimeWindow({ durationS, endUnixS: null });
  };
  return (
    <div class="replay" role="group" aria-label="Replay">
      <button
        type="button"
        class="button icon-only primary"
        aria-label={playing ? "Stop playing" : "Play from here"}
        title={playing ? "Stop playing" : "Play from here"}
        onClick={() => {
          if (!playing && endUnixS === null) go(fromS + reachS / 10);
          setPlaying(!playing);
        }}
      >
        <Icon name={playing ? "pause" : "play"} />
      </button>
      <Select label="Speed" value={speed} choices={SPEEDS} onChange={setSpeed} />
      <div class="replay-track">
        <Strip fromS={fromS} nowS={nowS} />
        {oldestUnixS !== null && oldestUnixS > fromS && (
          <div class="replay-void" style={{ width: `${((oldestUnixS - fromS) / reachS) * 100}%` }} title="Before the oldest stored data" />
        )}
        <div
          class="replay-window"
          style={{ left: `${Math.max(0, ((at - durationS - fromS) / reachS) * 100)}%`, right: `${((nowS - at) / reachS) * 100}%` }}
        />
        <input
          type="range"
          aria-label="Instant to show"
          aria-valuetext={dateAndClock(at * 1000)}
          min={fromS}
          max={nowS}
          step={Math.max(1, Math.round(reachS / 900))}
          value={at}
          onInput={(event) => go(Number(event.currentTarget.value))}
        />
      </div>
      <output class={endUnixS === null ? "now" : ""}>
        <b>{clock(at * 1000)}</b>
        <span>{endUnixS === null ? "live" : ago(at * 1000, Date.now())}</span>
      </output>
      <Select label="Reach" value={reachS} choices={REACHES} onChange={setReachS} />
      <button type="button" class="button" disabled={endUnixS === null && !playing} onClick={live}>
        Live
      </button>
      <button
        type="button"
        class="button icon-only"
        aria-label="Close replay"
        onClick={() => {
          live();
          close();
        }}
      >
        <Icon name="close" />
      </button>
    </div>
  );
}

interface Cell {
  rate: number;
  errorShare: number;
}

/** Requests per second as height, failed share as colour and as a mark on top. */
function Strip({ fromS, nowS }: { fromS: number; nowS: number }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const stepS = Math.max(5, stepFor(nowS - fromS, CELLS));
  const range = { startUnixS: Math.ceil(fromS / stepS) * stepS, endUnixS: nowS, stepS };
  const overS = Math.max(60, stepS * 2);
  const query = (extra: string) => `sum(rate(istio_requests_total{reporter="source"${extra}}[${overS}s]))`;
  const { data } = useResource(`strip:${fromS}:${nowS}`, (signal) =>
    Promise.all([
      queryRange({ ...range, query: query("") }, signal),
      queryRange({ ...range, query: query(',response_code=~"5..|0"') }, signal),
    ]),
  );
  const cells = useMemo(() => (data ? cellsOf(data[0], data[1], range.startUnixS, nowS, stepS) : []), [data]);
  const dark = isDark.value;
  useEffect(() => {
    if (canvas.current) drawStrip(canvas.current, cells);
  }, [cells, dark]);
  const busiest = cells.reduce((most, cell) => Math.max(most, cell?.rate ?? 0), 0);
  const worst = cells.reduce((most, cell) => Math.max(most, cell?.errorShare ?? 0), 0);
  return <canvas ref={canvas} class="replay-strip" role="img" aria-label={`At most ${perSecond(busiest)}, at worst ${percent(worst)} failed`} />;
}

function cellsOf(all: QueryAnswer, failed: QueryAnswer, startS: number, endS: number, stepS: number): (Cell | null)[] {
  const cells: (Cell | null)[] = Array.from({ length: Math.floor((endS - startS) / stepS) + 1 }, () => null);
  const place = (unixS: number) => Math.round((unixS - startS) / stepS);
  for (const [unixS, rate] of all.series[0]?.samples ?? []) {
    if (place(unixS) in cells) cells[place(unixS)] = { rate, errorShare: 0 };
  }
  for (const [unixS, rate] of failed.series[0]?.samples ?? []) {
    const cell = cells[place(unixS)];
    if (cell && cell.rate > 0) cell.errorShare = rate / cell.rate;
  }
  return cells;
}

function drawStrip(canvas: HTMLCanvasElement, cells: readonly (Cell | null)[]): void {
  const ratio = window.devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = canvas;
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  const context = canvas.getContext("2d");
  if (!context) return;
  context.scale(ratio, ratio);
  const style = getComputedStyle(canvas);
  const busiest = cells.reduce((most, cell) => Math.max(most, cell?.rate ?? 0), 0);
  const cellWidth = width / Math.max(1, cells.length);
  for (const [index, cell] of cells.entries()) {
    if (!cell || busiest === 0) continue;
    const tall = Math.max(1, (cell.rate / busiest) * (height - 4));
    const wide = Math.max(1, cellWidth - 0.6);
    context.fillStyle = style.getPropertyValue("--healthy");
    context.globalAlpha = 0.4;
    context.fillRect(index * cellWidth, height - tall, wide, tall);
    // The root lifts small shares: one percent of failures must be seen.
    const failed = Math.sqrt(cell.errorShare) * tall;
    context.fillStyle = style.getPropertyValue("--failing");
    context.globalAlpha = 0.9;
    context.fillRect(index * cellWidth, height - failed, wide, failed);
    if (cell.errorShare >= 0.1) context.fillRect(index * cellWidth, 0, wide, 2);
  }
}
