export function TracesPage() {
  return <p>soon</p>;
}
