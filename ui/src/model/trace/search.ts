/** The traces search box: attributes and durations in the filter grammar, as Jaeger's parameters. */
import { FilterError, numberOf, tokens } from "../filter/grammar";

export const TRACE_KEYS: Record<string, string> = {
  error: "error:true, traces with a failed span",
  status: "HTTP status code of a span",
  method: "HTTP method",
  flag: "response flag of a proxy's span",
  request: "x-request-id",
  dur: "duration of the trace's spans (dur>250ms, dur<2s)",
  cluster: "upstream cluster",
  "http.url": "any attribute by its own name",
};

/** Short keys of the shared grammar to the attributes that proxies write. */
const ATTRIBUTES: Record<string, string> = {
  status: "http.status_code",
  method: "http.method",
  flag: "response_flags",
  request: "guid:x-request-id",
  cluster: "upstream_cluster",
};

export interface TraceTerms {
  attributes: Record<string, string>;
  /** Go durations; "" is no bound. */
  durationMin: string;
  durationMax: string;
}

export function parseTraceSearch(text: string): TraceTerms {
  const found: TraceTerms = { attributes: {}, durationMin: "", durationMax: "" };
  for (const { text: token } of tokens(text)) {
    const duration = /^dur(>=?|<=?)(.+)$/.exec(token);
    if (duration) {
      const [, sign, amount] = duration as unknown as [string, string, string];
      const ms = numberOf(amount);
      if (Number.isNaN(ms)) throw new FilterError(`“${amount}” is no duration: 250ms, 1.5s`);
      found[sign.startsWith(">") ? "durationMin" : "durationMax"] = /[a-zµ]$/.test(amount) ? amount : `${ms}ms`;
      continue;
    }
    const pair = /^(guid:[\w-]+|[\w.@/-]+)[:=](.+)$/.exec(token);
    if (!pair) throw new FilterError(`“${token}” is no term: write key:value, or dur>250ms`);
    const [, key, quoted] = pair as unknown as [string, string, string];
    const value = quoted.replaceAll('"', "");
    if (token.startsWith("-")) throw new FilterError(`“${token}”: traces cannot be searched by what they lack`);
    if (key === "status" && /xx$/i.test(value)) throw new FilterError("status takes one code here; error:true finds all failures");
    found.attributes[ATTRIBUTES[key] ?? key] = value;
  }
  return found;
}
