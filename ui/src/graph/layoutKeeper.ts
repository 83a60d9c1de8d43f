/**
 * Keeps a drawing still between refreshes. A layout is made once for an arrangement (graph type,
 * boxes, what is folded) and used as long as it has a place for every node and edge. When
 * something new appears it is made again in the worker, seeded with the old order.
 */
import type { LayoutInput, LayoutResult } from "../model/layout/compound";
import type { LayoutDone, LayoutJob } from "./layout.worker";

export interface Arrangement {
  layout: LayoutResult;
  sizes: LayoutInput["sizes"];
  /** Time in the worker; null when the kept layout was used. */
  tookMs: number | null;
}

export class LayoutKeeper {
  private readonly worker = new Worker(new URL("./layout.worker.ts", import.meta.url), { type: "module" });
  private readonly waiting = new Map<number, (done: LayoutDone) => void>();
  private readonly kept = new Map<string, Arrangement>();
  private jobs = 0;

  constructor() {
    this.worker.addEventListener("message", (event: MessageEvent<LayoutDone>) => {
      this.waiting.get(event.data.job)?.(event.data);
      this.waiting.delete(event.data.job);
    });
  }

  /** The kept arrangement when it covers the input, at once; otherwise null. */
  recall(key: string, input: Omit<LayoutInput, "previousY">): Arrangement | null {
    const kept = this.kept.get(key);
    if (!kept) return null;
    const { nodes, routes } = kept.layout;
    const covers =
      Object.keys(input.sizes).every((id) => id in nodes) && input.edges.every(({ id }) => id in routes);
    return covers ? { ...kept, tookMs: null } : null;
  }

  async arrange(key: string, input: Omit<LayoutInput, "previousY">): Promise<Arrangement> {
    const before = this.kept.get(key);
    const previousY: Record<string, number> = {};
    if (before) for (const [id, { y }] of Object.entries(before.layout.nodes)) previousY[id] = y;
    this.jobs += 1;
    const job: LayoutJob = { job: this.jobs, input: { ...input, previousY } };
    const done = await new Promise<LayoutDone>((resolve) => {
      this.waiting.set(job.job, resolve);
      this.worker.postMessage(job);
    });
    const arrangement = { layout: done.result, sizes: input.sizes, tookMs: done.tookMs };
    this.kept.set(key, arrangement);
    return arrangement;
  }

  forget(): void {
    this.kept.clear();
  }

  close(): void {
    this.worker.terminate();
  }
}
