/**
 * The critical path: the stretches of time that, made shorter, would make the trace shorter.
 * Walks back from the end of the root: the child that ended last before the current instant holds
 * the path while it ran; what no child covers is the span's own.
 */
import type { Trace, TraceSpan } from "./tree";

export interface Stretch {
  startUs: number;
  endUs: number;
}

/** Stretches on the path, by span. */
export function criticalPath(trace: Trace): Map<TraceSpan, Stretch[]> {
  const path = new Map<TraceSpan, Stretch[]>();
  const root = trace.roots.reduce<TraceSpan | null>((longest, one) => (!longest || one.durationUs > longest.durationUs ? one : longest), null);
  if (!root) return path;
  const add = (span: TraceSpan, startUs: number, endUs: number) => {
    if (endUs <= startUs) return;
    const stretches = path.get(span);
    if (stretches) stretches.push({ startUs, endUs });
    else path.set(span, [{ startUs, endUs }]);
  };
  const pending: { span: TraceSpan; untilUs: number }[] = [{ span: root, untilUs: root.startUs + root.durationUs }];
  for (let next = pending.pop(); next; next = pending.pop()) {
    const { span } = next;
    let at = Math.min(next.untilUs, span.startUs + span.durationUs);
    const children = [...span.children].sort((a, b) => b.startUs + b.durationUs - (a.startUs + a.durationUs));
    for (const child of children) {
      const childEnd = Math.min(child.startUs + child.durationUs, next.untilUs);
      if (childEnd > at || child.startUs >= at || childEnd <= span.startUs) continue;
      add(span, childEnd, at);
      pending.push({ span: child, untilUs: childEnd });
      at = Math.max(span.startUs, child.startUs);
    }
    add(span, span.startUs, at);
  }
  return path;
}
