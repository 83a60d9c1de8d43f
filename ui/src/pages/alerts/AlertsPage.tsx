/** Recording and alerting rules, group by group: what fires, what fails, since when, and why. */
import { useMemo } from "preact/hooks";
import { fetchRules } from "../../api/rules";
import { useResource } from "../../app/resource";
import { useUrlState } from "../../app/route";
import { STANDINGS, type Standing, countStandings, filterRules } from "../../model/rules/rules";
import { type Codec, list, text } from "../../model/urlState";
import { plural } from "../../model/units";
import { ErrorNote, Loading, Quiet } from "../../widgets/states";
import { NoRules } from "./NoRules";
import { RuleGroupSection } from "./RuleGroupSection";
import { STANDING_WORDS, StandingMark } from "./StandingMark";

interface AlertsState {
  show: readonly Standing[];
  q: string;
}

const codec: Codec<AlertsState> = { show: list<Standing>([], STANDINGS), q: text() };

const REFRESH_MS = 5_000;

export function AlertsPage() {
  const [state, update] = useUrlState(codec);
  const { data, error, reload } = useResource("rules", fetchRules, { refreshMs: REFRESH_MS });
  const counts = useMemo(() => countStandings(data ?? []), [data]);
  const shown = useMemo(() => filterRules(data ?? [], state.show, state.q), [data, state.show, state.q]);
  const toggle = (standing: Standing) =>
    update({ show: state.show.includes(standing) ? state.show.filter((one) => one !== standing) : [...state.show, standing] });
  const rules = shown.reduce((sum, group) => sum + group.rules.length, 0);
  return (
    <div class="alerts-page">
      <div class="toolbar" role="search" aria-label="Rules">
        <input
          type="search"
          class="input rule-search"
          aria-label="Search rules"
          placeholder="Name, expression, group or label=value"
          spellcheck={false}
          data-search
          value={state.q}
          onInput={(event) => update({ q: event.currentTarget.value })}
        />
        <div class="standings" role="group" aria-label="Show only">
          {STANDINGS.filter((standing) => counts[standing] > 0 || state.show.includes(standing)).map((standing) => (
            <button
              key={standing}
              type="button"
              class={`button standing-choice ${standing}`}
              aria-pressed={state.show.includes(standing)}
              onClick={() => toggle(standing)}
            >
              <StandingMark standing={standing} /> {STANDING_WORDS[standing]} <b>{counts[standing]}</b>
            </button>
          ))}
        </div>
      </div>
      <div class="alerts-body">
        {error && <ErrorNote error={error} retry={reload} />}
        {!data && !error && <Loading what="the rules" />}
        {data && data.length === 0 && <NoRules />}
        {data && data.length > 0 && (
          <>
            <p class="result-line" role="status">
              {plural(rules, "rule", "rules")} in {plural(shown.length, "group", "groups")}
            </p>
            {shown.map((group) => (
              <RuleGroupSection key={`${group.file}|${group.name}`} group={group} />
            ))}
            {shown.length === 0 && (
              <Quiet>
                No rule is like that.{" "}
                <button type="button" class="plain-link" onClick={() => update({ q: "", show: [] })}>
                  Show all
                </button>
              </Quiet>
            )}
          </>
        )}
      </div>
    </div>
  );
}
