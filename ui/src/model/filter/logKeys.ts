/** Keys of the access-log filter, as the server knows them. */
import { KNOWN_FLAGS } from "../responseFlags";
import type { AccessLogRow } from "../../api/accessLogs";

export const LOG_KEYS: Record<string, string> = {
  service: "destination service, * for any part",
  source: "calling workload",
  dest: "called workload",
  ns: "namespace",
  status: "response code, or a class: 5xx",
  flag: "response flag: DI, FI, UO …",
  method: "HTTP method",
  path: "path, * for any part",
  host: "authority",
  dur: "duration: dur>250ms",
  reporter: "source (caller’s proxy) or destination",
  trace: "trace id",
  request: "x-request-id",
  route: "route name",
  cluster: "upstream cluster",
  version: "version of the called workload",
};

/** Completes values from the rows that are on the page. */
export function valuesIn(rows: readonly AccessLogRow[], key: string): string[] {
  const pick: Record<string, (row: AccessLogRow) => string> = {
    service: (row) => row.destinationService,
    source: (row) => row.sourceWorkload,
    dest: (row) => row.destinationWorkload,
    ns: (row) => row.destinationNamespace,
    status: (row) => String(row.responseCode),
    method: (row) => row.method,
    path: (row) => row.path,
    host: (row) => row.authority,
    route: (row) => row.routeName,
    cluster: (row) => row.upstreamCluster,
    version: (row) => row.destinationVersion,
  };
  if (key === "flag") return [...KNOWN_FLAGS];
  if (key === "reporter") return ["source", "destination"];
  const read = pick[key];
  const found = read ? [...new Set(rows.map(read).filter((value) => value !== ""))].sort() : [];
  return key === "status" ? ["2xx", "4xx", "5xx", ...found] : found;
}
