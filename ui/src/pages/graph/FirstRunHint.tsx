/** One line for a person who sees the graph for the first time. */
import { dismissHint } from "../../app/preferences";
import { Icon } from "../../widgets/Icon";

export function FirstRunHint({ troubled }: { troubled: boolean }) {
  return (
    <div class="first-run" role="note">
      <span>
        Click {troubled ? "a dashed red edge" : "an edge or a node"} for its charts, codes and flags, then <b>Traces</b> and <b>Logs</b> for the requests
        behind it. <kbd>?</kbd> lists all keys.
      </span>
      <button type="button" class="button icon-only" aria-label="Do not show this again" onClick={dismissHint}>
        <Icon name="close" size={13} />
      </button>
    </div>
  );
}
