/** Response codes as bars, response flags in words. */
import { describeFlag } from "../../../model/responseFlags";
import { codeColour } from "../../../model/statusColour";
import { count, percent } from "../../../model/units";

export function CodeBars({ codes, total, onPick }: { codes: Record<string, number>; total: number; onPick?: (code: string) => void }) {
  const rows = Object.entries(codes).sort((a, b) => b[1] - a[1]);
  if (rows.length === 0) return <p class="quiet">No response codes in this window.</p>;
  return (
    <table class="bars" aria-label="Response codes">
      <tbody>
        {rows.map(([code, requests]) => (
          <tr key={code}>
            <th scope="row">
              {onPick ? (
                <button type="button" class="plain-link" title="Show these in Logs" onClick={() => onPick(code)}>
                  {wordsOf(code)}
                </button>
              ) : (
                wordsOf(code)
              )}
            </th>
            <td class="bar">
              <i style={{ width: `${Math.max(0.8, (requests / Math.max(1, total)) * 100)}%`, background: `var(${codeColour(code)})` }} />
            </td>
            <td class="num">{count(requests)}</td>
            <td class="num faint">{percent(requests / Math.max(1, total))}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

const wordsOf = (code: string): string => (code === "-" || code === "0" ? "no answer" : code);

export function FlagList({ flags, total, onPick }: { flags: Record<string, number>; total: number; onPick: (flag: string) => void }) {
  const rows = Object.entries(flags).sort((a, b) => b[1] - a[1]);
  if (rows.length === 0) return <p class="quiet">None: no proxy touched, held or cut a request.</p>;
  return (
    <ul class="flags">
      {rows.map(([flag, requests]) => {
        const { title, meaning } = describeFlag(flag);
        return (
          <li key={flag}>
            <button type="button" class="flag" title="Show these in Logs" onClick={() => onPick(flag)}>
              {flag}
            </button>
            <div>
              <b>{title}</b>
              <span>{meaning}</span>
            </div>
            <span class="num">
              {count(requests)}
              <small>{percent(requests / Math.max(1, total))}</small>
            </span>
          </li>
        );
      })}
    </ul>
  );
}
