/** What shapes, lines and dots mean. */
const LINES = [
  ["healthy", "healthy", ""],
  ["degraded", "degraded", "9 4"],
  ["failing", "failing", "4 3"],
  ["idle", "idle", "1.5 4"],
  ["tcp", "TCP", ""],
] as const;

const BADGES = [
  ["gateway", "M-4 4v-5l4-3 4 3v5M-1.500.500h3"],
  ["virtual service: routing, shifting, mirroring", "M-4 0h3l4.500-3M-1 0l4.500 3"],
  ["fault injection", "M1-5-3.200.8h2.800L-1 5l4.200-5.800H.4z"],
  ["request timeout", "M0-4a4 4 0 1 0 .01 0M0-2.400V0l1.800 1"],
  ["circuit breaker", "M-4.500 1.500h3L2-2M1.500 1.500h3"],
] as const;

export function Legend() {
  return (
    <details class="legend-box">
      <summary>Legend</summary>
      <ul>
        {LINES.map(([token, words, dash]) => (
          <li key={token}>
            <svg width="34" height="10" aria-hidden="true">
              <line x1="1" y1="5" x2="33" y2="5" stroke={`var(--${token})`} stroke-width={token === "failing" ? 4 : 2.2} stroke-dasharray={dash} />
            </svg>
            {words}
          </li>
        ))}
        <li>
          <svg width="34" height="16" aria-hidden="true">
            <rect x="3" y="1.5" width="28" height="13" rx="4" class="legend-shape" />
          </svg>
          workload, app
        </li>
        <li>
          <svg width="34" height="16" aria-hidden="true">
            <path d="M2 8l5-6.500h20l5 6.500-5 6.500H7z" class="legend-shape" />
          </svg>
          service
        </li>
        <li>
          <svg width="34" height="16" aria-hidden="true">
            <circle cx="7" cy="8" r="3" fill="var(--graph-dot)" />
            <circle cx="17" cy="8" r="3" fill="var(--graph-dot)" />
            <path d="M27 3.500l4.500 4.500-4.500 4.500L22.500 8z" fill="var(--graph-dot-error)" />
          </svg>
          requests, failed ones as diamonds
        </li>
        <li>
          <svg width="34" height="16" viewBox="0 0 34 16" aria-hidden="true">
            <path d="M12 7h9v7h-9zM14 7V4.500a2.500 2.500 0 0 1 5 0V7" fill="none" stroke="var(--text-muted)" stroke-width="1.400" />
          </svg>
          mutual TLS; open: only in part
        </li>
        {BADGES.map(([words, path]) => (
          <li key={words}>
            <svg width="34" height="18" viewBox="-17 -9 34 18" aria-hidden="true">
              <circle r="8" class="legend-shape" />
              <path d={path} fill="none" stroke="var(--text-muted)" stroke-width="1.300" />
            </svg>
            {words}
          </li>
        ))}
      </ul>
    </details>
  );
}
