export function MetricsPage() {
  return <p>soon</p>;
}
