/** Search for traces, and one trace. */
import { path } from "../../app/route";
import { TraceView } from "./TraceView";
import { TraceSearch } from "./TraceSearch";

export function TracesPage() {
  const traceId = /^\/traces\/([0-9a-fA-F]{1,32})$/.exec(path.value)?.[1];
  return traceId ? <TraceView key={traceId} traceId={traceId} /> : <TraceSearch />;
}
