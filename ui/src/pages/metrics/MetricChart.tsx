/** The answer of a range query as lines; one line at a time can be singled out. */
import { useMemo, useState } from "preact/hooks";
import type { QueryAnswer } from "../../api/prometheus";
import { isDark } from "../../app/preferences";
import { alignTimes, valuesAt } from "../../model/chartData";
import { shortNames } from "../../model/promql/seriesName";
import { serviceColour } from "../../model/serviceColour";
import { compact } from "../../model/units";
import { Chart } from "../../widgets/Chart";

/** More lines than this cannot be told apart. */
const MAX_LINES = 60;

interface Props {
  answer: QueryAnswer;
  tall: boolean;
  onRange: (startUnixS: number, endUnixS: number) => void;
}

export function MetricChart({ answer, tall, onRange }: Props) {
  const [single, setSingle] = useState<string | null>(null);
  const dark = isDark.value;
  const lines = useMemo(() => {
    const last = (index: number) => answer.series[index]!.samples.at(-1)?.[1] ?? -Infinity;
    const largestFirst = [...answer.series.keys()].sort((a, b) => last(b) - last(a)).slice(0, MAX_LINES);
    const chosen = largestFirst.map((index) => answer.series[index]!);
    const names = shortNames(chosen.map(({ labels }) => labels));
    const times = alignTimes([answer]);
    return {
      timesUnixS: times,
      series: chosen.map(({ samples }, index) => ({ label: names[index]!, colour: serviceColour(names[index]!, dark), values: valuesAt(times, samples) })),
    };
  }, [answer, dark]);
  const shown = single === null ? lines.series : lines.series.filter(({ label }) => label === single);
  return (
    <div class="metric-chart">
      <Chart
        title=""
        data={{ timesUnixS: lines.timesUnixS, series: shown.length > 0 ? shown : lines.series }}
        height={tall ? 520 : 300}
        format={compact}
        legend={false}
        onRange={onRange}
      />
      <ul class="line-names">
        {lines.series.map(({ label, colour }) => (
          <li key={label}>
            <button type="button" aria-pressed={single === label} class={single !== null && single !== label ? "off" : ""} onClick={() => setSingle(single === label ? null : label)}>
              <i style={{ background: colour }} />
              {label}
            </button>
          </li>
        ))}
        {answer.series.length > MAX_LINES && <li class="hint">the {MAX_LINES} largest of {answer.series.length}; topk() or the table shows others</li>}
      </ul>
    </div>
  );
}
