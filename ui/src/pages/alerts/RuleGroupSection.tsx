/** One group: when it was evaluated, and its rules, each of which opens. */
import { hrefTo } from "../../app/route";
import { type Alert, type Rule, type RuleGroup, standingOf, valueText } from "../../model/rules/rules";
import { ago, dateAndClock, formatDurationS } from "../../model/timeWindow";
import { millis, plural } from "../../model/units";
import { Icon } from "../../widgets/Icon";
import { Link } from "../../widgets/controls";
import { STANDING_WORDS, StandingMark } from "./StandingMark";

/** Alerts of a rule in the document at once. */
const MAX_ALERTS = 200;

const evaluated = (atMs: number | null, tookS: number): string =>
  atMs === null ? "not evaluated yet" : `evaluated ${ago(atMs, Date.now())} in ${millis(tookS * 1000)}`;

export function RuleGroupSection({ group }: { group: RuleGroup }) {
  return (
    <section class="rule-group" aria-label={`Group ${group.name}`}>
      <header>
        <h2>{group.name}</h2>
        <span class="faint file" title={group.file}>
          {group.file}
        </span>
        <span class="faint">
          every {formatDurationS(group.intervalS) || `${group.intervalS * 1000} ms`}, {evaluated(group.evaluatedMs, group.tookS)}
        </span>
      </header>
      {group.rules.map((rule, index) => (
        <RuleRow key={`${rule.name}|${index}`} rule={rule} />
      ))}
    </section>
  );
}

function RuleRow({ rule }: { rule: Rule }) {
  const standing = standingOf(rule);
  const firing = rule.alerts.filter(({ state }) => state === "firing").length;
  const pending = rule.alerts.filter(({ state }) => state === "pending").length;
  return (
    <details class={`rule ${standing}`}>
      <summary>
        <StandingMark standing={standing} />
        <b>{rule.name}</b>
        <span class="visually-hidden">{STANDING_WORDS[standing]}</span>
        <code class="expr">{rule.query.replace(/\s+/g, " ")}</code>
        <span class="counts">
          {standing === "failing" && <em class="bad">evaluation fails</em>}
          {firing > 0 && <em class="firing">{firing} firing</em>}
          {pending > 0 && <em class="pending">{pending} pending</em>}
        </span>
      </summary>
      <div class="rule-details">
        {rule.lastError !== "" && (
          <p class="rule-error">
            <Icon name="error" size={14} /> {rule.lastError}
          </p>
        )}
        <Link href={hrefTo("/metrics", { q: rule.query })} class="expression" title="Open in Metrics">
          <code>{rule.query}</code>
        </Link>
        <p class="facts">
          {rule.holdS > 0 && <span>for {formatDurationS(rule.holdS)}</span>}
          {rule.keepS > 0 && <span>keeps firing for {formatDurationS(rule.keepS)}</span>}
          <span>{evaluated(rule.evaluatedMs, rule.tookS)}</span>
          <Labels labels={rule.labels} />
        </p>
        <Annotations annotations={rule.annotations} />
        {rule.alerts.length > 0 && <Alerts alerts={rule.alerts} />}
      </div>
    </details>
  );
}

function Labels({ labels }: { labels: Record<string, string> }) {
  return (
    <>
      {Object.entries(labels).map(([name, value]) => (
        <span key={name} class="label">
          {name}=<b>{value}</b>
        </span>
      ))}
    </>
  );
}

function Annotations({ annotations }: { annotations: Record<string, string> }) {
  const all = Object.entries(annotations);
  if (all.length === 0) return null;
  return (
    <dl class="annotations">
      {all.map(([name, text]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{text}</dd>
        </div>
      ))}
    </dl>
  );
}

function Alerts({ alerts }: { alerts: readonly Alert[] }) {
  const sorted = [...alerts].sort((a, b) => (a.state === b.state ? (a.activeAtMs ?? 0) - (b.activeAtMs ?? 0) : a.state === "firing" ? -1 : 1));
  return (
    <div class="table-scroll">
      <table class="grid alert-table">
        <thead>
          <tr>
            <th>State</th>
            <th>Labels</th>
            <th>Active since</th>
            <th class="num">Value</th>
          </tr>
        </thead>
        <tbody>
          {sorted.slice(0, MAX_ALERTS).map((alert) => (
            <tr key={JSON.stringify(alert.labels)}>
              <td class="state">
                <StandingMark standing={alert.state} /> {STANDING_WORDS[alert.state]}
                {alert.keptSinceMs !== null && <small>kept since {ago(alert.keptSinceMs, Date.now())}</small>}
              </td>
              <td>
                <span class="labels">
                  <Labels labels={alert.labels} />
                </span>
                {alert.annotations["summary"] && <small>{alert.annotations["summary"]}</small>}
              </td>
              <td>{alert.activeAtMs !== null && <time title={dateAndClock(alert.activeAtMs)}>{ago(alert.activeAtMs, Date.now())}</time>}</td>
              <td class="num" title={alert.value}>
                {valueText(alert.value)}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      {sorted.length > MAX_ALERTS && (
        <p class="quiet">
          The first {MAX_ALERTS} of {plural(sorted.length, "alert", "alerts")}.
        </p>
      )}
    </div>
  );
}
