/** Why a page is empty, and what to do about it. */
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { type Status, fetchStatus } from "../api/status";
import { useResource } from "../app/resource";
import { timeWindow } from "../app/route";
import { ago, dateAndClock, formatDurationS, spanOf } from "../model/timeWindow";
import { count } from "../model/units";
import { Icon, Mark } from "./Icon";
import { SNIPPETS, type Snippet } from "./snippets";

interface Props {
  /** What the page would show: "traces". */
  what: string;
  /** Table that it would come from. */
  tables: readonly string[];
  /** What narrows the view, each with a way to lift it. */
  filters?: { words: string; lift: () => void }[];
  /** The server's own explanation. */
  reason?: { reason: string; hint: string } | null;
  snippets: readonly (keyof typeof SNIPPETS)[];
}

export function EmptyState({ what, tables, filters = [], reason, snippets }: Props) {
  const { data: status } = useResource("status", fetchStatus, { refreshMs: 3000 });
  const rows = status?.tables.filter(({ name }) => tables.includes(name)) ?? [];
  const stored = rows.reduce((sum, table) => sum + table.rows, 0);
  return (
    <div class="empty" role="status">
      <Mark size={52} />
      {status && stored > 0 ? (
        <NothingHere what={what} newestMs={Math.max(0, ...rows.map((row) => row.newestUnixMs ?? 0))} filters={filters} reason={reason} />
      ) : (
        <NothingYet what={what} status={status} reason={reason} snippets={snippets} />
      )}
    </div>
  );
}

/** There is data, but not in this view. */
function NothingHere({ what, newestMs, filters, reason }: { what: string; newestMs: number } & Pick<Props, "filters" | "reason">) {
  const window = timeWindow.value;
  const { startMs, endMs } = spanOf(window, Date.now());
  return (
    <>
      <h2>No {what} in this view</h2>
      <p>
        {reason?.reason || `Pharos holds data, but none of it matches between ${dateAndClock(startMs)} and ${dateAndClock(endMs)}.`}
      </p>
      {reason?.hint && <p>{reason.hint}</p>}
      <ul class="empty-reasons">
        {newestMs > 0 && (
          <li>
            The newest row is from {dateAndClock(newestMs)} ({ago(newestMs, Date.now())})
            {newestMs < startMs && `, before this window of ${formatDurationS(window.durationS)}`}
            {newestMs > endMs && ", after this window"}.
          </li>
        )}
        {filters?.map(({ words, lift }) => (
          <li key={words}>
            {words}{" "}
            <button type="button" class="button small" onClick={lift}>
              Lift
            </button>
          </li>
        ))}
      </ul>
    </>
  );
}

/** Nothing ever arrived. */
function NothingYet({ what, status, reason, snippets }: { status: Status | null } & Pick<Props, "what" | "reason" | "snippets">) {
  const [chosen, choose] = useState(0);
  const received = status?.received ?? [];
  const arrived = received.reduce((sum, { items }) => sum + items, 0);
  return (
    <>
      <h2>No {what} yet</h2>
      <p>
        {reason?.reason ||
          (arrived > 0
            ? `Pharos receives data, but nothing that makes ${what} yet.`
            : "Pharos is up and listens, but nothing has been sent to it yet.")}{" "}
        {reason?.hint}
      </p>
      {received.length > 0 && (
        <ul class="counters" aria-label="Received so far">
          {received.map(({ protocol, items, rejected }) => (
            <li key={protocol} class={items > 0 ? "live" : ""}>
              <b>{count(items)}</b>
              {protocol}
              {rejected > 0 && <em class="bad">{count(rejected)} rejected</em>}
            </li>
          ))}
        </ul>
      )}
      {status && status.listeners.length > 0 && (
        <p class="listeners">
          Listening on{" "}
          {status.listeners.map(({ name, address }) => (
            <span key={name}>
              {name} <code>{address}</code>
            </span>
          ))}
        </p>
      )}
      <div class="snippets">
        <div class="tabs" role="tablist">
          {snippets.map((name, index) => (
            <button key={name} type="button" role="tab" aria-selected={index === chosen} onClick={() => choose(index)}>
              {SNIPPETS[name]!.title}
            </button>
          ))}
        </div>
        <SnippetBlock snippet={SNIPPETS[snippets[chosen]!]!} status={status} />
      </div>
    </>
  );
}

function SnippetBlock({ snippet, status }: { snippet: Snippet; status: Status | null }) {
  const [copied, setCopied] = useState(false);
  const text = snippet.text((name, fallback) => addressOf(status, name) ?? fallback);
  const copy = () => {
    void navigator.clipboard?.writeText(text).then(() => {
      setCopied(true);
      setTimeout(() => setCopied(false), 1500);
    });
  };
  return (
    <div class="snippet" role="tabpanel">
      <p>{snippet.explain}</p>
      <pre>{text}</pre>
      <button type="button" class="button small" onClick={copy}>
        <Icon name="copy" size={13} /> {copied ? "Copied" : "Copy"}
      </button>
    </div>
  );
}

/** Where a listener is reached, by a part of its name. */
function addressOf(status: Status | null, name: string): string | null {
  const found = status?.listeners.find((listener) => listener.name.toLowerCase().includes(name));
  return found?.address.replace(/^(0\.0\.0\.0|\[::\])/, location.hostname) ?? null;
}

export const Centre = ({ children }: { children: ComponentChildren }) => <div class="centre">{children}</div>;
