/** The uPlot side of a chart. */
import UPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { clock, dateAndClock } from "../model/timeWindow";
import { compact } from "../model/units";
import type { ChartData } from "./Chart";

export interface Drawn {
  update(data: ChartData): void;
  destroy(): void;
}

interface Wanted {
  data: ChartData;
  height: number;
  format?: (value: number) => string;
  onRange?: (startUnixS: number, endUnixS: number) => void;
  sync?: string;
}

const columns = (data: ChartData): UPlot.AlignedData => [data.timesUnixS, ...data.series.map(({ values }) => values)];

export function drawChart(host: HTMLElement, wanted: () => Wanted): Drawn {
  const style = getComputedStyle(host);
  const resolve = (colour: string): string => (colour.startsWith("--") ? style.getPropertyValue(colour).trim() : colour);
  const first = wanted();
  const format = first.format ?? compact;
  const font = `10.5px ${resolve("--font")}`;
  const axis: UPlot.Axis = {
    stroke: resolve("--text-muted"),
    font,
    grid: { stroke: resolve("--grid"), width: 1 },
    ticks: { show: false },
  };
  const tooltip = document.createElement("div");
  tooltip.className = "chart-tip";
  tooltip.hidden = true;

  const options: UPlot.Options = {
    width: Math.max(80, host.clientWidth),
    height: first.height,
    legend: { show: false },
    padding: [8, 8, 0, 0],
    cursor: {
      y: false,
      points: { size: 6 },
      drag: { x: first.onRange !== undefined, y: false, setScale: false },
      ...(first.sync ? { sync: { key: first.sync } } : {}),
    },
    scales: { y: { range: (_, low, high) => [Math.min(0, low ?? 0), niceTop(high ?? 1)] } },
    axes: [
      { ...axis, size: 24, space: 70, values: (_, splits) => timeLabels(splits) },
      { ...axis, size: 52, space: 28, values: (_, splits) => splits.map((value) => format(value)) },
    ],
    series: [
      {},
      ...first.data.series.map(({ label, colour, dash, fill }) => ({
        label,
        stroke: resolve(colour),
        width: 1.6,
        spanGaps: false,
        points: { show: false },
        ...(dash ? { dash } : {}),
        ...(fill ? { fill: `color-mix(in srgb, ${resolve(colour)} 16%, transparent)` } : {}),
      })),
    ],
    hooks: {
      setSelect: [
        (plot) => {
          const { left, width } = plot.select;
          if (width > 4) wanted().onRange?.(plot.posToVal(left, "x"), plot.posToVal(left + width, "x"));
          plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
        },
      ],
      setCursor: [(plot) => showTip(plot, tooltip, wanted().data, format)],
    },
  };
  const plot = new UPlot(options, columns(first.data), host);
  plot.over.append(tooltip);
  const resizes = new ResizeObserver(() => plot.setSize({ width: Math.max(80, host.clientWidth), height: wanted().height }));
  resizes.observe(host);
  return {
    update: (data) => plot.setData(columns(data)),
    destroy: () => {
      resizes.disconnect();
      plot.destroy();
    },
  };
}

function niceTop(high: number): number {
  if (!(high > 0)) return 1;
  const step = 10 ** Math.floor(Math.log10(high)) / 4;
  return Math.ceil((high * 1.08) / step) * step;
}

function timeLabels(splits: number[]): string[] {
  const step = splits.length > 1 ? splits[1]! - splits[0]! : 60;
  return splits.map((at) => (step >= 86_400 ? dateAndClock(at * 1000).slice(5, 10) : step >= 60 ? clock(at * 1000).slice(0, 5) : clock(at * 1000)));
}

const TIP_ROWS = 12;

function showTip(plot: UPlot, tip: HTMLElement, data: ChartData, format: (value: number) => string): void {
  const { idx, left = -1 } = plot.cursor;
  const time = idx === null || idx === undefined ? undefined : data.timesUnixS[idx];
  tip.hidden = time === undefined || left < 0;
  if (time === undefined || left < 0) return;
  const rows = data.series
    .map(({ label, values }, index) => ({ label, index, value: values[idx!] ?? null }))
    .filter(({ value }) => value !== null)
    .sort((a, b) => b.value! - a.value!);
  const heading = document.createElement("time");
  heading.textContent = dateAndClock(time * 1000);
  tip.replaceChildren(
    heading,
    ...rows.slice(0, TIP_ROWS).map(({ label, index, value }) => {
      const row = document.createElement("div");
      const swatch = document.createElement("i");
      const stroke = plot.series[index + 1]!.stroke;
      swatch.style.background = String(typeof stroke === "function" ? stroke(plot, index + 1) : stroke);
      const name = document.createElement("span");
      name.textContent = label;
      const amount = document.createElement("b");
      amount.textContent = format(value!);
      row.append(swatch, name, amount);
      return row;
    }),
  );
  if (rows.length > TIP_ROWS) tip.append(`and ${rows.length - TIP_ROWS} more`);
  const flip = left > plot.over.clientWidth / 2;
  tip.style.left = flip ? "auto" : `${left + 12}px`;
  tip.style.right = flip ? `${plot.over.clientWidth - left + 12}px` : "auto";
}
