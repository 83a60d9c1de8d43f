/** How a rule stands as a sign: a shape for each, so that colour is never the only difference. */
import type { Standing } from "../../model/rules/rules";

export const STANDING_WORDS: Record<Standing, string> = {
  failing: "Failing",
  firing: "Firing",
  pending: "Pending",
  inactive: "Inactive",
  recording: "Recording",
};

const SHAPES: Record<Standing, string> = {
  failing: "M3 3l8 8m0-8-8 8",
  firing: "M4.500 1h5L13 4.500v5L9.500 13h-5L1 9.500v-5z",
  pending: "M7 1.500 13 12.500H1z",
  inactive: "M7 10.500a3.500 3.500 0 1 0 0-7 3.500 3.500 0 0 0 0 7z",
  recording: "M2.500 10.500 6 6.500l2.500 2 3-5",
};

export function StandingMark({ standing }: { standing: Standing }) {
  return (
    <svg class={`standing-mark ${standing}`} width="13" height="13" viewBox="0 0 14 14" aria-hidden="true" focusable="false">
      <path d={SHAPES[standing]} />
    </svg>
  );
}
