/** Traces by time and duration; failed ones are diamonds. A click opens the nearest. */
import { useEffect, useRef, useState } from "preact/hooks";
import type { TraceSummary } from "../../api/traces";
import { isDark } from "../../app/preferences";
import { hrefTo, navigate } from "../../app/route";
import { type Span, clock } from "../../model/timeWindow";
import { millis, plural } from "../../model/units";

const HEIGHT_PX = 168;
const MARGIN = { left: 58, right: 16, top: 12, bottom: 24 };
const REACH_PX = 12;

interface Dot {
  trace: TraceSummary;
  x: number;
  y: number;
  radius: number;
}

export function Scatter({ traces, span }: { traces: readonly TraceSummary[]; span: Span }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const dots = useRef<Dot[]>([]);
  const [hover, setHover] = useState<Dot | null>(null);
  const [width, setWidth] = useState(0);
  const dark = isDark.value;
  useEffect(() => {
    const element = canvas.current!;
    const resizes = new ResizeObserver(() => setWidth(element.clientWidth));
    resizes.observe(element);
    return () => resizes.disconnect();
  }, []);
  useEffect(() => {
    if (width > 0) dots.current = draw(canvas.current!, width, traces, span, hover);
  }, [traces, width, dark, hover]);

  const near = (event: MouseEvent): Dot | null => {
    let best: Dot | null = null;
    let least = REACH_PX;
    for (const dot of dots.current) {
      const away = Math.hypot(dot.x - event.offsetX, dot.y - event.offsetY) - dot.radius;
      if (away < least) {
        least = away;
        best = dot;
      }
    }
    return best;
  };
  const failed = traces.filter(({ errorSpanCount }) => errorSpanCount > 0).length;
  return (
    <div class="scatter">
      <canvas
        ref={canvas}
        style={{ height: `${HEIGHT_PX}px`, cursor: hover ? "pointer" : "default" }}
        role="img"
        aria-label={`${plural(traces.length, "trace")} by time and duration, ${failed} with errors. The list below holds the same traces.`}
        onMouseMove={(event) => setHover(near(event))}
        onMouseLeave={() => setHover(null)}
        onClick={(event) => {
          const dot = near(event);
          if (dot) navigate(hrefTo(`/traces/${dot.trace.traceId}`));
        }}
      />
      {hover && (
        <div class="graph-hint" style={{ left: `${Math.min(hover.x + 14, width - 300)}px`, top: `${Math.max(4, hover.y - 34)}px` }}>
          <b>{millis(hover.trace.durationMs)}</b> {hover.trace.rootServiceName}, {plural(hover.trace.spanCount, "span")}
          {hover.trace.errorSpanCount > 0 && `, ${plural(hover.trace.errorSpanCount, "error")}`}, {clock(hover.trace.startUnixMs)}
        </div>
      )}
    </div>
  );
}

/** Durations span orders of magnitude, so the axis is logarithmic. */
function draw(canvas: HTMLCanvasElement, width: number, traces: readonly TraceSummary[], span: Span, hover: Dot | null): Dot[] {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = width * ratio;
  canvas.height = HEIGHT_PX * ratio;
  const context = canvas.getContext("2d");
  if (!context) return [];
  context.scale(ratio, ratio);
  const style = getComputedStyle(canvas);
  const token = (name: string) => style.getPropertyValue(name).trim();
  const durations = traces.map(({ durationMs }) => Math.max(0.01, durationMs));
  const low = Math.log10(Math.min(...durations)) - 0.12;
  const high = Math.max(low + 0.6, Math.log10(Math.max(...durations)) + 0.12);
  const times = traces.map(({ startUnixMs }) => startUnixMs);
  const from = Math.max(span.startMs, Math.min(...times) - 1000);
  const to = Math.max(from + 2000, Math.min(span.endMs, Math.max(...times) + 1000));
  const x = (ms: number) => MARGIN.left + ((ms - from) / (to - from)) * (width - MARGIN.left - MARGIN.right);
  const y = (ms: number) => HEIGHT_PX - MARGIN.bottom - ((Math.log10(ms) - low) / (high - low)) * (HEIGHT_PX - MARGIN.top - MARGIN.bottom);

  context.font = `10.5px ${token("--font")}`;
  context.fillStyle = token("--text-muted");
  context.strokeStyle = token("--grid");
  context.textBaseline = "middle";
  for (const tick of ticksBetween(10 ** low, 10 ** high)) {
    context.textAlign = "right";
    context.fillText(millis(tick), MARGIN.left - 8, y(tick));
    context.beginPath();
    context.moveTo(MARGIN.left, y(tick));
    context.lineTo(width - MARGIN.right, y(tick));
    context.stroke();
  }
  const columns = Math.max(2, Math.floor((width - MARGIN.left) / 130));
  context.textAlign = "center";
  for (let column = 0; column <= columns; column += 1) {
    const at = from + ((to - from) * column) / columns;
    if (column > 0 && column < columns) context.fillText(clock(at), x(at), HEIGHT_PX - 9);
  }
  const most = traces.reduce((count, { spanCount }) => Math.max(count, spanCount), 1);
  const dots = traces.map((trace, index) => ({
    trace,
    x: x(trace.startUnixMs),
    y: y(durations[index]!),
    radius: 2.6 + 4.4 * Math.sqrt(trace.spanCount / most) * (traces.length > 400 ? 0.6 : 1),
  }));
  for (const failed of [false, true]) {
    context.fillStyle = token(failed ? "--failing" : "--accent");
    context.globalAlpha = failed ? 0.9 : 0.42;
    for (const dot of dots) if (dot.trace.errorSpanCount > 0 === failed) mark(context, dot, failed);
  }
  context.globalAlpha = 1;
  if (hover) {
    context.strokeStyle = token("--text");
    context.lineWidth = 2;
    context.beginPath();
    context.arc(hover.x, hover.y, hover.radius + 3, 0, Math.PI * 2);
    context.stroke();
  }
  return dots;
}

function mark(context: CanvasRenderingContext2D, { x, y, radius }: Dot, failed: boolean): void {
  context.beginPath();
  if (failed) {
    const reach = radius * 1.25;
    context.moveTo(x, y - reach);
    context.lineTo(x + reach, y);
    context.lineTo(x, y + reach);
    context.lineTo(x - reach, y);
    context.closePath();
  } else context.arc(x, y, radius, 0, Math.PI * 2);
  context.fill();
}

function ticksBetween(low: number, high: number): number[] {
  const ticks: number[] = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) {
    for (const lead of [1, 2, 5]) ticks.push(lead * 10 ** power);
  }
  const inside = ticks.filter((tick) => tick >= low && tick <= high);
  const isPowerOfTen = (tick: number) => Math.abs(Math.log10(tick) - Math.round(Math.log10(tick))) < 1e-9;
  return inside.length > 6 ? inside.filter(isPowerOfTen) : inside;
}
