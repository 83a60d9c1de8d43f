/** Values at the end of the window, one series a row. */
import { useMemo, useState } from "preact/hooks";
import type { QueryAnswer } from "../../api/prometheus";
import { compact, plural } from "../../model/units";

const MAX_ROWS = 500;

export function SeriesTable({ answer }: { answer: QueryAnswer }) {
  const [down, setDown] = useState(true);
  const columns = useMemo(() => [...new Set(answer.series.flatMap(({ labels }) => Object.keys(labels)))].sort(), [answer]);
  const rows = useMemo(() => {
    const value = (index: number) => answer.series[index]!.samples.at(-1)?.[1] ?? NaN;
    return [...answer.series.keys()].sort((a, b) => (value(a) - value(b)) * (down ? -1 : 1)).map((index) => ({ labels: answer.series[index]!.labels, value: value(index) }));
  }, [answer, down]);
  return (
    <div class="table-scroll">
      <table class="grid series-table">
        <thead>
          <tr>
            {columns.map((column) => (
              <th key={column}>{column}</th>
            ))}
            <th class="num" aria-sort={down ? "descending" : "ascending"}>
              <button type="button" onClick={() => setDown(!down)}>
                Value {down ? "↓" : "↑"}
              </button>
            </th>
          </tr>
        </thead>
        <tbody>
          {rows.slice(0, MAX_ROWS).map(({ labels, value }, index) => (
            <tr key={`${index}|${JSON.stringify(labels)}`}>
              {columns.map((column) => (
                <td key={column}>{labels[column]}</td>
              ))}
              <td class="num" title={String(value)}>
                {compact(value)}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      {rows.length > MAX_ROWS && <p class="quiet">The first {MAX_ROWS} of {plural(rows.length, "series", "series")}.</p>}
    </div>
  );
}
