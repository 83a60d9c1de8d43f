/** Health as a sign: a shape for each state, so that colour is never the only difference. */
import type { Health } from "../model/graph/meshGraph";

const SHAPES: Record<Health, string> = {
  healthy: "M7 10.500a3.500 3.500 0 1 0 0-7 3.500 3.500 0 0 0 0 7z",
  degraded: "M7 1.500 13 12.500H1z",
  failing: "M4.500 1h5L13 4.500v5L9.500 13h-5L1 9.500v-5z",
  idle: "M7 10a3 3 0 1 0 0-6 3 3 0 0 0 0 6z",
};

export function HealthMark({ health }: { health: Health }) {
  return (
    <svg class={`health-mark ${health}`} width="14" height="14" viewBox="0 0 14 14" role="img" aria-label={health}>
      <path d={SHAPES[health]} />
    </svg>
  );
}
