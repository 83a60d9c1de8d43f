export function LogsPage() {
  return <p>soon</p>;
}
