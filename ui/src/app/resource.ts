/** Something from the server that a component shows, kept while the next version is on its way. */
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { ApiError } from "../api/door";

export interface Resource<T> {
  /** The latest answer; stays while a newer one loads or after one failed. */
  data: T | null;
  error: ApiError | null;
  loading: boolean;
  reload(): void;
}

export interface ResourceOptions {
  /** null: load once. */
  refreshMs?: number | null;
  /** Old data must not stay when the key changes: it would be about something else. */
  clearOnChange?: boolean;
}

/** Loads when `key` changes (null: not at all) and every `refreshMs` while the page can be seen. */
export function useResource<T>(
  key: string | null,
  load: (signal: AbortSignal) => Promise<T>,
  { refreshMs = null, clearOnChange = false }: ResourceOptions = {},
): Resource<T> {
  const [state, setState] = useState<Omit<Resource<T>, "reload">>({ data: null, error: null, loading: key !== null });
  const [turn, setTurn] = useState(0);
  const loader = useRef(load);
  loader.current = load;

  useEffect(() => {
    if (key === null) {
      setState({ data: null, error: null, loading: false });
      return;
    }
    const abort = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const again = () => {
      if (refreshMs !== null) timer = setTimeout(document.hidden ? again : run, refreshMs);
    };
    const run = async () => {
      setState((before) => ({ ...before, loading: true }));
      try {
        const data = await loader.current(abort.signal);
        if (!abort.signal.aborted) setState({ data, error: null, loading: false });
      } catch (error) {
        if (abort.signal.aborted) return;
        const shown = error instanceof ApiError ? error : new ApiError("This page failed", String(error), 0);
        setState((before) => ({ ...before, error: shown, loading: false }));
      }
      if (!abort.signal.aborted) again();
    };
    if (clearOnChange) setState({ data: null, error: null, loading: true });
    void run();
    return () => {
      abort.abort();
      clearTimeout(timer);
    };
  }, [key, refreshMs, clearOnChange, turn]);

  const reload = useCallback(() => setTurn((before) => before + 1), []);
  return { ...state, reload };
}
