/** The newest rows as they arrive. Paused, they are counted and held back. */
import { useEffect, useRef, useState } from "preact/hooks";
import { type AccessLogRow, tailAccessLogs } from "../../api/accessLogs";

/** Older rows fall off the end; they are in the store. */
const KEPT_ROWS = 2000;

interface LogTail {
  rows: readonly AccessLogRow[];
  connected: boolean;
  /** Rows that arrived while paused. */
  held: number;
  /** Some rows were left out, because they came too fast. */
  lost: boolean;
}

/** `filter` null: not connected. */
export function useLogTail(filter: string | null, paused: boolean): LogTail {
  const [rows, setRows] = useState<readonly AccessLogRow[]>([]);
  const [connected, setConnected] = useState(false);
  const [held, setHeld] = useState(0);
  const [lost, setLost] = useState(false);
  const waiting = useRef<AccessLogRow[]>([]);
  const isPaused = useRef(paused);
  isPaused.current = paused;

  useEffect(() => {
    setRows([]);
    setConnected(false);
    setLost(false);
    waiting.current = [];
    if (filter === null) return;
    let frame = 0;
    // Bursts are shown once per frame.
    const flush = () => {
      frame = 0;
      if (isPaused.current) {
        setHeld(waiting.current.length);
        return;
      }
      const fresh = waiting.current;
      waiting.current = [];
      setRows((before) => [...fresh, ...before].slice(0, KEPT_ROWS));
    };
    const tail = tailAccessLogs(filter, {
      rows: (arrived) => {
        const newestFirst = [...arrived].sort((a, b) => b.timeUnixUs - a.timeUnixUs);
        waiting.current = [...newestFirst, ...waiting.current].slice(0, KEPT_ROWS);
        frame ||= requestAnimationFrame(flush);
      },
      state: setConnected,
      lost: () => setLost(true),
    });
    return () => {
      tail.close();
      cancelAnimationFrame(frame);
    };
  }, [filter]);

  useEffect(() => {
    setHeld(0);
    if (paused || waiting.current.length === 0) return;
    const fresh = waiting.current;
    waiting.current = [];
    setRows((before) => [...fresh, ...before].slice(0, KEPT_ROWS));
  }, [paused]);

  return { rows, connected, held, lost };
}
