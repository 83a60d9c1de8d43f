/** Ctrl-K: go to a page, a trace, a service's traces or logs, or a metric, by typing its name. */
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { metricNames } from "../api/prometheus";
import { traceServices } from "../api/traces";
import { type Entry, rankEntries } from "../model/palette";
import { toggleTheme } from "./preferences";
import { hrefTo, navigate } from "./route";
import { useResource } from "./resource";

const PAGES: Entry[] = [
  { title: "Graph", detail: "who calls whom", href: "/graph" },
  { title: "Graph of what is failing", detail: "find is:failing", href: "/graph?find=is:failing" },
  { title: "Replay", detail: "the graph in the past", href: "/graph?replay=1" },
  { title: "Graph as a table", detail: "every edge in a row", href: "/graph?view=table" },
  { title: "Traces", detail: "search", href: "/traces" },
  { title: "Traces with errors", detail: "error:true", href: "/traces?q=error:true" },
  { title: "Logs", detail: "access logs", href: "/logs" },
  { title: "Logs of failed requests", detail: "status:5xx", href: "/logs?q=status:5xx" },
  { title: "Live tail", detail: "requests as they come", href: "/logs?live=1" },
  { title: "Metrics", detail: "PromQL", href: "/metrics" },
  { title: "Alerts", detail: "rules and alerts", href: "/alerts" },
  { title: "Alerts that fire", detail: "firing rules", href: "/alerts?show=firing" },
];

export function Palette({ close }: { close: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [typed, setTyped] = useState("");
  const [chosen, choose] = useState(0);
  const services = useResource("services", traceServices);
  const metrics = useResource("metrics", metricNames);
  useEffect(() => dialog.current?.showModal(), []);
  const entries = useMemo(() => {
    const all: Entry[] = [...PAGES];
    for (const name of services.data ?? []) {
      const [app] = name.split(".");
      all.push({ title: name, detail: "traces", href: `/traces?service=${encodeURIComponent(name)}` });
      all.push({ title: name, detail: "logs", href: `/logs?q=${encodeURIComponent(`service:${app}`)}` });
      all.push({ title: name, detail: "in the graph", href: `/graph?find=${encodeURIComponent(`name:${app}*`)}` });
    }
    for (const name of metrics.data ?? []) all.push({ title: name, detail: "metric", href: `/metrics?q=${encodeURIComponent(name)}` });
    return all;
  }, [services.data, metrics.data]);
  const shown = useMemo(() => rankEntries(entries, typed), [entries, typed]);

  const go = (entry: Entry | undefined) => {
    if (!entry) return;
    close();
    const [page, query = ""] = entry.href.split("?") as [string, string?];
    navigate(hrefTo(page, Object.fromEntries(new URLSearchParams(query))));
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key === "ArrowDown") choose(Math.min(shown.length - 1, chosen + 1));
    else if (event.key === "ArrowUp") choose(Math.max(0, chosen - 1));
    else if (event.key === "Enter") go(shown[chosen]);
    else return;
    event.preventDefault();
  };
  return (
    <dialog ref={dialog} class="palette" aria-label="Go to" onClose={close} onClick={(event) => event.target === dialog.current && close()}>
      <input
        type="text"
        role="combobox"
        aria-label="Go to a page, service, metric or trace id"
        aria-expanded="true"
        aria-controls="palette-list"
        aria-activedescendant={`palette-${chosen}`}
        placeholder="Page, service, metric, or a trace id"
        spellcheck={false}
        value={typed}
        onInput={(event) => {
          setTyped(event.currentTarget.value);
          choose(0);
        }}
        onKeyDown={onKeyDown}
      />
      <ul id="palette-list" role="listbox" aria-label="Places">
        {shown.map((entry, index) => (
          <li key={entry.href} id={`palette-${index}`} role="option" aria-selected={index === chosen} onPointerMove={() => choose(index)} onClick={() => go(entry)}>
            <span>{entry.title}</span>
            <small>{entry.detail}</small>
          </li>
        ))}
        {shown.length === 0 && <li class="quiet">Nothing of that name.</li>}
      </ul>
      <p class="hint">
        <kbd>↑</kbd> <kbd>↓</kbd> choose · <kbd>Enter</kbd> go · <kbd>Esc</kbd> close ·{" "}
        <button type="button" class="plain-link" onClick={toggleTheme}>
          light or dark
        </button>
      </p>
    </dialog>
  );
}
