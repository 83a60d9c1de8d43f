/**
 * The access-log filter as an SQL condition over the table `access_logs`, so that a histogram can
 * count what the filter finds. Says the same as the server's own reading of the grammar.
 */
import { type Term, numberOf, parseFilter } from "./grammar";
import { LOG_KEYS } from "./logKeys";

/** null: every row. Throws `FilterError` on what the grammar refuses. */
export function accessLogCondition(text: string): string | null {
  const conditions = parseFilter(text, LOG_KEYS).map((term) => (term.negated ? `not (${conditionOf(term)})` : `(${conditionOf(term)})`));
  return conditions.length === 0 ? null : conditions.join(" and ");
}

const quoted = (text: string): string => `'${text.replaceAll("'", "''")}'`;

/** Compared without case; `*` is any text. */
function like(column: string, value: string): string {
  const pattern = value.toLowerCase().replace(/[\\%_]/g, "\\$&").replaceAll("*", "%");
  return `coalesce(lower(${column}), '') like ${quoted(pattern)} escape '\\'`;
}

const anyLike = (columns: readonly string[], value: string): string => columns.map((column) => like(column, value)).join(" or ");

const COLUMNS: Record<string, readonly string[]> = {
  // `reviews`, `reviews.bookinfo` and the whole host all name the service.
  service: [
    "split_part(destination_service, ':', 1)",
    "split_part(destination_service, '.', 1)",
    "split_part(destination_service, '.', 1) || '.' || split_part(destination_service, '.', 2)",
  ],
  source: ["source_workload"],
  dest: ["destination_workload"],
  ns: ["source_namespace", "destination_namespace"],
  method: ["method"],
  path: ["path", "split_part(path, '?', 1)", "original_path", "split_part(original_path, '?', 1)"],
  host: ["authority"],
  reporter: ["reporter"],
  request: ["request_id"],
  route: ["route_name"],
  cluster: ["upstream_cluster"],
  version: ["source_version", "destination_version"],
};

function conditionOf({ key, operator, value }: Term): string {
  const compared = operator === ":" ? "=" : operator;
  switch (key) {
    case "":
      return anyLike(["path", "authority", "user_agent"], `*${value}*`);
    case "status":
      return /^[1-5]xx$/i.test(value) ? `response_code / 100 = ${value[0]}` : `response_code ${compared} ${Number(value) || 0}`;
    case "dur":
      return `duration_us ${compared} ${Math.round(numberOf(value) * 1000)}`;
    case "flag":
      if (value === "-" || value === "none") return "coalesce(response_flags, '-') in ('-', '')";
      return like("',' || response_flags || ','", `*,${value},*`);
    case "trace":
      return /^[0-9a-f]{1,32}$/i.test(value) ? `trace_id = x${quoted(value.toLowerCase().padStart(32, "0"))}` : "false";
    default:
      return anyLike(COLUMNS[key] ?? [key], value);
  }
}
