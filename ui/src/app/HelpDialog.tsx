/** All keys, and where to find the rest. */
import { useEffect, useRef } from "preact/hooks";

const KEYS: [where: string, keys: [key: string, does: string][]][] = [
  [
    "Everywhere",
    [
      ["?", "this help"],
      ["/", "to the search or filter box"],
      ["Ctrl K", "go to a page, service, metric or trace"],
      ["g then g, t, l, m, a", "go to Graph, Traces, Logs, Metrics, Alerts"],
      ["t", "time window"],
      ["p", "pause or go on"],
      ["d", "light or dark"],
      ["y", "copy the link to what you see"],
      ["Esc", "one level up"],
    ],
  ],
  [
    "Graph",
    [
      ["arrows", "to the neighbour in that direction"],
      ["Enter", "details; opens a folded namespace"],
      ["+ - f", "zoom in, out, show all"],
      ["w a s d", "move the view (d when the graph has focus)"],
      ["[ ]", "fold, unfold the namespace"],
      ["r", "lay out again"],
    ],
  ],
  [
    "Trace",
    [
      ["f b", "next, previous span"],
      ["Enter", "open or close the span"],
      ["[ ]", "fold, unfold all"],
    ],
  ],
  [
    "Logs",
    [
      ["l", "live tail on, off"],
      ["↑ ↓", "previous, next row"],
    ],
  ],
];

export function HelpDialog({ close }: { close: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current?.showModal(), []);
  return (
    <dialog ref={dialog} class="help" aria-labelledby="help-title" onClose={close} onClick={(event) => event.target === dialog.current && close()}>
      <div class="help-body">
        <h2 id="help-title">Keys</h2>
        <div class="help-columns">
          {KEYS.map(([where, keys]) => (
            <section key={where}>
              <h3>{where}</h3>
              <dl>
                {keys.map(([key, does]) => (
                  <div key={key}>
                    <dt>
                      <kbd>{key}</kbd>
                    </dt>
                    <dd>{does}</dd>
                  </div>
                ))}
              </dl>
            </section>
          ))}
        </div>
        <form method="dialog">
          <button class="button primary">Close</button>
        </form>
      </div>
    </dialog>
  );
}
