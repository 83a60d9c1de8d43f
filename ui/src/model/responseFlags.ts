/** Envoy's response flags in words. Unknown names are legal: extensions register their own. */
export interface FlagMeaning {
  title: string;
  meaning: string;
}

const FLAGS: Record<string, [title: string, meaning: string]> = {
  LH: ["Failed local health check", "the proxy's own workload fails its health check"],
  UH: ["No healthy upstream", "every endpoint of the cluster is down or ejected"],
  UT: ["Upstream timeout", "the route's timeout passed before the upstream answered"],
  LR: ["Local reset", "the proxy itself reset the stream"],
  UR: ["Upstream reset", "the upstream reset the stream"],
  UF: ["Upstream connection failure", "no connection to the endpoint could be made"],
  UC: ["Upstream closed connection", "the endpoint closed the connection in mid-request"],
  UO: ["Upstream overflow", "a circuit breaker's limit was reached"],
  NR: ["No route", "no route or filter chain matched the request"],
  DI: ["Delay injected", "a fault rule of a VirtualService held the request"],
  FI: ["Fault injected", "a fault rule of a VirtualService aborted the request"],
  RL: ["Rate limited", "a local or global rate limit refused the request"],
  UAEX: ["Denied by ext_authz", "the external authorisation service said no"],
  RLSE: ["Rate-limit service error", "the rate-limit service could not be asked"],
  DC: ["Downstream closed connection", "the client went away before the answer"],
  URX: ["Retries exhausted", "the retry limit, or TCP connect attempts, ran out"],
  SI: ["Stream idle timeout", "nothing moved on the stream for too long"],
  IH: ["Invalid Envoy headers", "a strictly checked x-envoy header was malformed"],
  DPE: ["Downstream protocol error", "the client broke the HTTP protocol"],
  UPE: ["Upstream protocol error", "the upstream broke the HTTP protocol"],
  UMSDR: ["Max stream duration", "the upstream stream reached its maximum duration"],
  RFCF: ["From cache", "a cache filter answered"],
  NFCF: ["No filter config", "a filter's configuration had not arrived"],
  DT: ["Duration timeout", "the downstream connection reached its maximum duration"],
  NC: ["No cluster", "the route names a cluster or subset that does not exist"],
  OM: ["Overload manager", "the proxy's overload manager ended the stream"],
  DF: ["DNS failure", "the upstream's name could not be resolved"],
  DO: ["Drop overload", "the control plane asked for this load to be dropped"],
  DR: ["Downstream reset", "the client reset the HTTP/2 stream"],
  UDO: ["Unconditional drop", "the control plane asked for all load to be dropped"],
};

export function describeFlag(short: string): FlagMeaning {
  const found = FLAGS[short];
  return found
    ? { title: found[0], meaning: found[1] }
    : { title: short, meaning: "a flag that an extension of the proxy registered" };
}

/** The flags of a record's comma-joined text; "-" and "" mean none. */
export const splitFlags = (joined: string): string[] =>
  joined === "-" || joined === "" ? [] : joined.split(",").filter((flag) => flag !== "" && flag !== "-");

export const KNOWN_FLAGS: readonly string[] = Object.keys(FLAGS);
