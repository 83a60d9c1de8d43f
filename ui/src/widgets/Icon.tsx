/** Inline icons, drawn on a 16 by 16 grid with the text's colour. */
const PATHS = {
  graph: "M3.5 5.500a2 2 0 1 0 0-4 2 2 0 0 0 0 4zm9 4.500a2 2 0 1 0 0-4 2 2 0 0 0 0 4zm-9 4.500a2 2 0 1 0 0-4 2 2 0 0 0 0 4zM5.300 4.300l5.400 2.800m-5.400 4.600 5.400-2.800",
  traces: "M1.500 3h9M4 6.300h7.500M6.500 9.700h5M3 13h11.500",
  logs: "M2 3h12M2 6.300h12M2 9.700h8M2 13h10",
  metrics: "M1.500 14.500h13M2 11l3.500-4.500 3 2.500L14 2.500",
  alerts: "M3.500 11.500h9c-1-1.200-1-2.500-1-4.500a3.500 3.500 0 0 0-7 0c0 2 0 3.300-1 4.500zM6.800 13.800a1.400 1.400 0 0 0 2.400 0M8 1.500v2",
  sun: "M8 11a3 3 0 1 0 0-6 3 3 0 0 0 0 6zM8 1v1.500M8 13.500V15M1 8h1.500M13.500 8H15M3 3l1.100 1.100M11.900 11.900 13 13M13 3l-1.100 1.100M4.100 11.900 3 13",
  moon: "M13.500 9.800A6 6 0 0 1 6.200 2.500a6 6 0 1 0 7.300 7.300z",
  help: "M8 14.500a6.500 6.500 0 1 0 0-13 6.500 6.500 0 0 0 0 13zM6 6.200a2 2 0 1 1 2.700 1.900c-.5.200-.7.600-.7 1.100v.300M8 11.600v.200",
  refresh: "M13.500 8a5.500 5.500 0 1 1-1.600-3.900M13.500 1.500v3h-3",
  pause: "M5 3v10M11 3v10",
  play: "M4 2.500v11l9-5.500z",
  close: "M3.500 3.500l9 9m0-9-9 9",
  down: "M4 6.500l4 4 4-4",
  right: "M6.500 4l4 4-4 4",
  lock: "M3.500 7h9v7h-9zM5.500 7V4.500a2.500 2.500 0 0 1 5 0V7",
  fit: "M2 6V2h4M10 2h4v4M14 10v4h-4M6 14H2v-4",
  plus: "M8 3v10M3 8h10",
  minus: "M3 8h10",
  table: "M2 3h12v10H2zM2 6.300h12M2 9.700h12M6.500 3v10",
  rewind: "M2.500 8a5.500 5.500 0 1 0 1.600-3.900M2.500 1.500v3h3M8 5v3.200l2 1.300",
  layout: "M2 2.500h4v4H2zM10 5h4v4h-4zM2 9.500h4v4H2zM6 4.500h2v7H6M8 7h2",
  search: "M7 12a5 5 0 1 0 0-10 5 5 0 0 0 0 10zM10.700 10.700 14.500 14.500",
  copy: "M5.500 5.500h8v8h-8zM10.500 5.500v-3h-8v8h3",
  link: "M6.500 9.500l3-3M7.500 4.500l1.300-1.300a2.800 2.800 0 0 1 4 4L11.500 8.500M8.500 11.500l-1.300 1.300a2.800 2.800 0 0 1-4-4L4.500 7.500",
  error: "M5.300 1.500h5.400l3.800 3.800v5.400l-3.800 3.800H5.300l-3.800-3.800V5.300zM5.800 5.800l4.400 4.400m0-4.400-4.400 4.400",
  warning: "M8 1.500 15 14H1zM8 6v4M8 12v.200",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name, size = 16 }: { name: IconName; size?: number }) {
  return (
    <svg class="icon" width={size} height={size} viewBox="0 0 16 16" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} />
    </svg>
  );
}

/** The lighthouse. */
export function Mark({ size = 24 }: { size?: number }) {
  return (
    <svg width={size} height={size} viewBox="0 0 32 32" aria-hidden="true" focusable="false">
      <path class="mark-beam" d="M16 9.500 31 3.500v12zM16 9.500 1 3.500v12z" />
      <path class="mark-tower" d="M12 13h8l2.400 16H9.600z" />
      <path class="mark-band" d="M11.400 17.500h9.200l.5 3.500H10.900zM10.300 24.500h11.400l.5 3.500H9.800z" />
      <rect class="mark-lamp" x="11.500" y="6.500" width="9" height="6" rx="1" />
      <path class="mark-tower" d="m11 6.500 5-4.500 5 4.500z" />
    </svg>
  );
}
