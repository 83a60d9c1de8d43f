/** Runs the layout away from the main thread. */
import { type LayoutInput, type LayoutResult, layoutCompound } from "../model/layout/compound";

export interface LayoutJob {
  job: number;
  input: LayoutInput;
}

export interface LayoutDone {
  job: number;
  result: LayoutResult;
  tookMs: number;
}

self.addEventListener("message", (event: MessageEvent<LayoutJob>) => {
  const started = performance.now();
  const result = layoutCompound(event.data.input);
  const done: LayoutDone = { job: event.data.job, result, tookMs: performance.now() - started };
  self.postMessage(done);
});
