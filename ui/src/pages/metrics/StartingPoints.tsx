/** Queries to begin with, for the mesh's own metrics and for Pharos itself. */
const QUERIES: [title: string, query: string][] = [
  ["Requests per second, by service", 'sum by (destination_service_name) (rate(istio_requests_total{reporter="source"}[1m]))'],
  ["Requests per second, by response code", 'sum by (response_code) (rate(istio_requests_total{reporter="source"}[1m]))'],
  ["p95 latency in ms, by called workload", 'histogram_quantile(0.95, sum by (destination_workload, le) (rate(istio_request_duration_milliseconds_bucket{reporter="destination"}[1m])))'],
  ["Share of 5xx, by called workload", 'sum by (destination_workload) (rate(istio_requests_total{reporter="source",response_code=~"5.."}[1m])) / sum by (destination_workload) (rate(istio_requests_total{reporter="source"}[1m]))'],
  ["Requests by response flag", 'sum by (response_flags) (rate(istio_requests_total{reporter="source",response_flags!="-"}[1m]))'],
  ["How versions share the traffic", 'sum by (destination_version) (rate(istio_requests_total{reporter="source",destination_app="reviews"}[1m]))'],
  ["Callers of each workload", 'sum by (source_workload, destination_workload) (rate(istio_requests_total{reporter="destination"}[1m]))'],
  ["Targets that are scraped", "up"],
];

export function StartingPoints({ onPick }: { onPick: (query: string) => void }) {
  return (
    <div class="starting-points">
      <h2>Ask the mesh’s metrics</h2>
      <p class="hint">Type PromQL above; names, labels and values complete as you type. Or start from one of these.</p>
      <ul>
        {QUERIES.map(([title, query]) => (
          <li key={title}>
            <button type="button" onClick={() => onPick(query)}>
              <b>{title}</b>
              <code>{query}</code>
            </button>
          </li>
        ))}
      </ul>
    </div>
  );
}
