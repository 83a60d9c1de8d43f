// A stand-in for the backend while the UI is developed: `npm run fixture -- --scenario bookinfo --port 20001`.
// Scenarios: bookinfo, large (1,000 services), empty, failing. Serves dist/ too when it is built.
import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { extname, join, normalize } from "node:path";
import { pathToFileURL } from "node:url";
import { graphDocument } from "./fixture/graph.mjs";
import { bookinfo, large, rateAt } from "./fixture/mesh.mjs";
import { labelNames, labelValues, metricNames, series } from "./fixture/metrics.mjs";
import { ruleGroups } from "./fixture/rules.mjs";
import { REQUESTS_PER_S, logRows, numberOf, summary, trace } from "./fixture/requests.mjs";

const DIST = new URL("../dist/", import.meta.url).pathname;
// As strict as the server's own, so that the browser tests notice what it would refuse.
const POLICY = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; worker-src 'self' blob:";
const TYPES = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".json": "application/json" };

class Refusal extends Error {
  constructor(status, title, detail) {
    super(detail);
    Object.assign(this, { status, title });
  }
}

const KEYS = {
  service: (row, value) => [1, 2, 5].some((parts) => like(row.destinationService.split(".").slice(0, parts).join("."), value)),
  source: (row, value) => like(row.sourceWorkload, value),
  dest: (row, value) => like(row.destinationWorkload, value),
  ns: (row, value) => like(row.destinationNamespace, value) || like(row.sourceNamespace, value),
  status: (row, value) => (/^[1-5]xx$/.test(value) ? String(row.responseCode)[0] === value[0] : like(String(row.responseCode), value)),
  flag: (row, value) => row.responseFlags.split(",").some((flag) => like(flag, value)),
  method: (row, value) => like(row.method, value),
  path: (row, value) => like(row.path, value),
  host: (row, value) => like(row.authority, value),
  reporter: (row, value) => like(row.reporter, value),
  trace: (row, value) => row.traceId === value,
  request: (row, value) => row.requestId === value,
  route: (row, value) => like(row.routeName, value),
  cluster: (row, value) => like(row.upstreamCluster, value),
  version: (row, value) => like(row.destinationVersion, value),
};

const like = (text, value) => new RegExp(`^${value.replace(/[.+^${}()|[\]\\?]/g, "\\$&").replaceAll("*", ".*")}$`, "i").test(text);

function rowFilter(text) {
  const tests = (text.match(/(?:"[^"]*"|[^\s"])+/g) ?? []).map((token) => {
    const dur = /^dur(>=|<=|>|<)([\d.]+)(us|ms|s)?$/.exec(token);
    if (dur) {
      const wantedUs = Number(dur[2]) * { us: 1, ms: 1000, s: 1e6 }[dur[3] ?? "ms"];
      return (row) => (dur[1][0] === ">" ? row.durationUs > wantedUs : row.durationUs < wantedUs);
    }
    const found = /^(-?)(\w+):(.*)$/.exec(token);
    if (!found) return (row) => `${row.path} ${row.authority} ${row.userAgent}`.includes(token);
    const [, sign, key, value] = found;
    if (!(key in KEYS)) throw new Refusal(400, "Bad filter", `unknown key "${key}"`);
    return (row) => KEYS[key](row, value.replaceAll('"', "")) !== (sign === "-");
  });
  return (row) => tests.every((test) => test(row));
}

function accessLogs(mesh, query) {
  const accepts = rowFilter(query.get("filter") ?? "");
  const limit = Number(query.get("limit") ?? 100);
  const endMs = Number(query.get("before") ?? query.get("end") ?? Date.now());
  const startMs = Number(query.get("start") ?? endMs - 3_600_000);
  if (mesh.calls.length === 0) return { rows: [], nextBefore: null, scannedRows: 0, tookMs: 0 };
  const rows = [];
  let scannedRows = 0;
  let number = Math.floor((Math.min(endMs, Date.now() - 300) / 1000) * REQUESTS_PER_S);
  const one = /(?:^|\s)trace:([0-9a-f]{32})/.exec(query.get("filter") ?? "");
  if (one) {
    const wanted = numberOf(one[1], Date.now() / 1000);
    return { rows: wanted === null ? [] : logRows(mesh, wanted).filter(accepts), nextBefore: null, scannedRows: 12, tookMs: 1 };
  }
  for (; rows.length < limit && number > (startMs / 1000) * REQUESTS_PER_S && scannedRows < 200_000; number -= 1) {
    for (const row of logRows(mesh, number)) {
      scannedRows += 1;
      if (accepts(row)) rows.push(row);
    }
  }
  return { rows: rows.slice(0, limit), nextBefore: rows.length >= limit ? String(Math.floor((number / REQUESTS_PER_S) * 1000)) : null, scannedRows, tookMs: 4 };
}

function summaries(mesh, query) {
  const startMs = Date.parse(query.get("query.startTimeMin"));
  const endMs = Math.min(Date.parse(query.get("query.startTimeMax")), Date.now() - 300);
  const limit = Number(query.get("query.searchDepth") ?? 100);
  const service = query.get("query.serviceName");
  const operation = query.get("query.operationName");
  const attributes = Object.entries(JSON.parse(query.get("query.attributes") ?? "{}"));
  const ms = (text) => (text ? parseFloat(text) * (text.endsWith("ms") ? 1 : text.endsWith("us") || text.endsWith("µs") ? 0.001 : 1000) : null);
  const [least, most] = [ms(query.get("query.durationMin")), ms(query.get("query.durationMax"))];
  const found = [];
  if (mesh.calls.length === 0) return { summaries: found };
  for (let number = Math.floor((endMs / 1000) * REQUESTS_PER_S); found.length < limit && number > (startMs / 1000) * REQUESTS_PER_S; number -= 3) {
    const { spans, ...one } = summary(mesh, number);
    const durationMs = Number(BigInt(one.maxEndTimeUnixNano) - BigInt(one.minStartTimeUnixNano)) / 1e6;
    if (service && !one.services.some(({ name }) => name === service)) continue;
    if (operation && !spans.some(({ operationName }) => operationName === operation)) continue;
    if ((least !== null && durationMs < least) || (most !== null && durationMs > most)) continue;
    if (attributes.length > 0 && !spans.some(({ tags }) => attributes.every(([key, value]) => tags.some((tag) => tag.key === key && String(tag.value) === value)))) continue;
    found.push(one);
  }
  return { summaries: found };
}

/** The only SQL that the UI sends is the histogram of the logs page: five minutes in buckets, whatever the filter. */
function histogram(mesh) {
  const nowS = Math.floor(Date.now() / 5000) * 5;
  const times = Array.from({ length: 60 }, (_, index) => nowS - index * 5);
  const rows = times.flatMap((at) => {
    const requests = Math.round(mesh.calls.reduce((sum, call) => sum + rateAt(call, at), 0) * 10);
    const time = new Date(at * 1000).toISOString();
    return [[time, 2, requests], [time, 5, Math.round(requests / 170)]];
  });
  return { columns: ["bucket", "class", "requests"].map((name) => ({ name, type: "integer" })), rows };
}

function status(mesh, startedMs) {
  const empty = mesh.calls.length === 0;
  const upS = (Date.now() - startedMs) / 1000;
  const items = (perS) => (empty ? 0 : Math.floor(upS * perS) + 100_000);
  const table = (name, rows, perRow) => ({ name, rows, bytes: Math.round(rows * perRow), files: empty ? 0 : 12, oldestUnixMs: empty ? null : Date.now() - 2_700_000, newestUnixMs: empty ? null : Date.now() - 400 });
  const received = (protocol, perS) => ({ protocol, items: items(perS), rejected: 0, lastUnixMs: empty ? null : Date.now() - 500 });
  return {
    version: "0.1.0",
    uptimeS: upS,
    listeners: [["otlp-grpc", 4317], ["otlp-http", 4318], ["zipkin", 9411], ["prometheus", 9090], ["jaeger", 16686], ["ui", 20001]].map(([name, port]) => ({ name, address: `127.0.0.1:${port}` })),
    received: [received("otlp-grpc", 120), received("otlp-http", 0.01), received("als", 160), received("zipkin", 40), received("scrape", 700), received("remote-write", 0.01)],
    tables: [table("spans", items(160), 21.4), table("access_logs", items(160), 18.2), table("samples", items(700), 1.7), table("edges", items(2), 60)],
    memoryBytes: 164e6,
  };
}

function answer(mesh, url, query, startedMs) {
  const { pathname } = url;
  const prometheus = (data) => ({ status: "success", data });
  if (pathname === "/api/v1/status") return status(mesh, startedMs);
  if (pathname === "/api/v1/rules") return prometheus({ groups: ruleGroups(mesh) });
  if (pathname === "/api/v1/sql") return histogram(mesh);
  if (pathname === "/api/v1/graph") return graphDocument(mesh, query);
  if (pathname === "/api/v1/access-logs") return accessLogs(mesh, query);
  if (pathname === "/api/v3/services") return { services: mesh.workloads.map(({ app, namespace }) => `${app}.${namespace}`).filter((name, index, all) => all.indexOf(name) === index) };
  if (pathname === "/api/v3/operations") return { operations: mesh.workloads.map(({ service, namespace }) => ({ name: `${service}.${namespace}.svc.cluster.local:9080/*`, spanKind: "server" })) };
  if (pathname === "/api/v3/trace-summaries") return summaries(mesh, query);
  if (pathname.startsWith("/api/traces/")) {
    const number = numberOf(pathname.split("/").pop(), Date.now() / 1000);
    if (number === null) throw new Refusal(404, "Not found", "trace not found");
    return { data: [trace(mesh, number)], total: 1, limit: 0, offset: 0, errors: null };
  }
  if (pathname === "/api/v1/query_range") {
    const [start, end, step] = ["start", "end", "step"].map((name) => Number(query.get(name)));
    if (/[(]\s*$/.test(query.get("query"))) throw new Refusal(400, "bad_data", "1:8: parse error: unexpected end of input");
    const times = Array.from({ length: Math.floor((end - start) / step) + 1 }, (_, index) => start + index * step).filter((at) => at > Date.now() / 1000 - 2700);
    return prometheus({ resultType: "matrix", result: mesh.calls.length === 0 ? [] : series(mesh, query.get("query"), times) });
  }
  if (pathname === "/api/v1/query") {
    const at = Number(query.get("time"));
    const result = mesh.calls.length === 0 ? [] : series(mesh, query.get("query"), [at]).map(({ metric, values }) => ({ metric, value: values[0] }));
    return prometheus({ resultType: "vector", result });
  }
  if (pathname === "/api/v1/labels") return prometheus(labelNames(query.get("match[]")));
  const label = /^\/api\/v1\/label\/([^/]+)\/values$/.exec(pathname);
  if (label) return prometheus(label[1] === "__name__" ? metricNames() : labelValues(mesh, label[1]));
  throw new Refusal(404, "Not found", pathname);
}

function tail(mesh, query, response) {
  const accepts = rowFilter(query.get("filter") ?? "");
  response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
  let number = Math.floor((Date.now() / 1000) * REQUESTS_PER_S);
  const timer = setInterval(() => {
    const rows = [];
    for (const now = Math.floor((Date.now() / 1000) * REQUESTS_PER_S); number < now; number += 1) rows.unshift(...logRows(mesh, number).filter(accepts));
    if (rows.length > 0) response.write(`event: rows\ndata: ${JSON.stringify(rows)}\n\n`);
  }, 500);
  response.on("close", () => clearInterval(timer));
}

async function asset(pathname, response) {
  const file = extname(pathname) === "" ? "index.html" : normalize(pathname).replace(/^(\.\.[/\\])+/, "");
  try {
    const body = await readFile(join(DIST, file));
    response.writeHead(200, { "content-type": TYPES[extname(file)] ?? "application/octet-stream", "content-security-policy": POLICY }).end(body);
  } catch {
    response.writeHead(404).end();
  }
}

/** Starts a server; resolves to `{ url, close }`. */
export async function startFixture({ scenario = "bookinfo", port = 0 } = {}) {
  const mesh = scenario === "large" ? large() : scenario === "bookinfo" ? bookinfo() : { name: scenario, workloads: [], calls: [] };
  const startedMs = Date.now();
  const server = createServer(async (request, response) => {
    const url = new URL(request.url, "http://fixture");
    if (!url.pathname.startsWith("/api/")) return asset(url.pathname, response);
    let body = "";
    for await (const chunk of request) body += chunk;
    const isForm = request.headers["content-type"] === "application/x-www-form-urlencoded";
    const query = new URLSearchParams([...url.searchParams, ...new URLSearchParams(isForm ? body : "")]);
    const send = (code, type, value) => response.writeHead(code, { "content-type": type }).end(JSON.stringify(value));
    try {
      if (scenario === "failing") throw new Refusal(503, "Storage is not ready", "the write-ahead log is still being replayed");
      if (url.pathname === "/api/v1/access-logs/tail") return tail(mesh, query, response);
      send(200, "application/json", answer(mesh, url, query, startedMs));
    } catch (error) {
      if (!(error instanceof Refusal)) console.error(error);
      send(error.status ?? 500, "application/problem+json", { type: "about:blank", title: error.title ?? "Failed", status: error.status ?? 500, detail: error.message });
    }
  });
  await new Promise((resolve) => server.listen(port, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    close: () => {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(resolve));
    },
  };
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const option = (name, fallback) => {
    const at = process.argv.indexOf(`--${name}`);
    return at < 0 ? fallback : process.argv[at + 1];
  };
  const { url } = await startFixture({ scenario: option("scenario", "bookinfo"), port: Number(option("port", "20001")) });
  console.log(`fixture at ${url}`);
}
