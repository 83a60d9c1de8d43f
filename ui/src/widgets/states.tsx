/** What a panel says when it has nothing to show: it loads, it failed, or there is nothing, and why. */
import type { ComponentChildren } from "preact";
import type { ApiError } from "../api/door";
import { Icon } from "./Icon";

export function ErrorNote({ error, retry }: { error: ApiError; retry?: () => void }) {
  return (
    <div class="note failed" role="alert">
      <Icon name="error" />
      <div>
        <strong>{error.title}</strong>
        <p>{error.detail}</p>
      </div>
      {retry && (
        <button type="button" class="button" onClick={retry}>
          Try again
        </button>
      )}
    </div>
  );
}

export function Quiet({ children }: { children: ComponentChildren }) {
  return <p class="quiet">{children}</p>;
}

export function Loading({ what }: { what: string }) {
  return (
    <p class="quiet loading" role="status">
      Loading {what}…
    </p>
  );
}
