/** A time chart. uPlot and its styles are fetched when the first chart is shown. */
import { useEffect, useRef } from "preact/hooks";
import { isDark } from "../app/preferences";
import { compact } from "../model/units";
import type { Drawn } from "./drawChart";

export interface ChartSeries {
  label: string;
  /** A custom property of the palette (`--failing`), or a colour. */
  colour: string;
  dash?: number[];
  fill?: boolean;
  values: (number | null)[];
}

export interface ChartData {
  timesUnixS: number[];
  series: ChartSeries[];
}

interface Props {
  title: string;
  data: ChartData;
  height: number;
  format?: (value: number) => string;
  /** A range was dragged on the time axis. */
  onRange?: (startUnixS: number, endUnixS: number) => void;
  /** Charts with the same name share their cursor. */
  sync?: string;
  legend?: boolean;
}

export function Chart(props: Props) {
  const host = useRef<HTMLDivElement>(null);
  const drawn = useRef<Drawn | null>(null);
  const latest = useRef(props);
  latest.current = props;
  const dark = isDark.value;
  // Another set of lines, or another theme, needs a new chart; new values do not.
  const shape = `${props.data.series.map(({ label, colour }) => `${label}=${colour}`).join("|")}|${dark}|${props.height}`;

  useEffect(() => {
    let gone = false;
    void import("./drawChart").then(({ drawChart }) => {
      if (gone || !host.current) return;
      drawn.current = drawChart(host.current, () => latest.current);
    });
    return () => {
      gone = true;
      drawn.current?.destroy();
      drawn.current = null;
    };
  }, [shape]);
  useEffect(() => drawn.current?.update(props.data), [props.data]);

  return (
    <figure class="chart">
      <figcaption>
        <span>{props.title}</span>
        {props.legend !== false && (
          <span class="legend">
            {props.data.series.map(({ label, colour, values }) => (
              <span key={label}>
                <i style={{ background: colour.startsWith("--") ? `var(${colour})` : colour }} />
                {label} <b>{(props.format ?? compact)(lastOf(values))}</b>
              </span>
            ))}
          </span>
        )}
      </figcaption>
      <div ref={host} class="chart-plot" style={{ height: `${props.height}px` }} role="img" aria-label={describe(props)} />
    </figure>
  );
}

const lastOf = (values: (number | null)[]): number => values.findLast((value) => value !== null) ?? NaN;

function describe({ title, data, format = compact }: Props): string {
  const latest = data.series.slice(0, 8).map(({ label, values }) => `${label} ${format(lastOf(values))}`);
  return `${title}: ${latest.join(", ") || "no data"}`;
}
