//! Rows shaped like those of a mesh, the same in every run.
//!
//! 200 services in twelve namespaces call each other along a fixed graph; how often a service is called follows Zipf.
//! A request enters at the gateway and makes five hops. Both proxies of a hop write an access log (Istio's default
//! format: durations in whole milliseconds, times to the nanosecond) and a span with Envoy's tags, so that a trace has
//! ten spans. Ids are random; a path has a template and a number; user agents, codes and sizes are those that browsers
//! and client libraries send.

use std::{fmt::Write, sync::Arc};

use pharos_model::{
    AccessLog, Attributes, Labels, LogRecord, Peer, Reporter, ResponseFlags, Sample, Scope, Severity, Span,
    SpanId, SpanKind, SpanStatus, TimeSeries, TraceId, UnixNanos, Value,
};
use rand::{Rng, SeedableRng, rngs::StdRng};

const SERVICES: usize = 200;
const HOPS: usize = 5;
/// Spans, and access logs, of one request.
pub(crate) const ROWS_PER_REQUEST: usize = 2 * HOPS;
/// 2026-11-21T00:00:00Z.
pub(crate) const START: UnixNanos = UnixNanos(1_795_219_200_000_000_000);

const NAMESPACES: [&str; 12] = [
    "shop", "checkout", "catalog", "search", "identity", "payments", "shipping", "media", "mail", "reviews",
    "ads", "platform",
];
const ROLES: [&str; 20] = [
    "frontend",
    "api",
    "cart",
    "inventory",
    "pricing",
    "recommendations",
    "ratings",
    "details",
    "orders",
    "accounts",
    "sessions",
    "quotes",
    "tax",
    "labels",
    "thumbnails",
    "index",
    "suggest",
    "notifications",
    "audit",
    "features",
];
const TEMPLATES: [&str; 12] = [
    "/api/v1/products/{}",
    "/api/v1/products/{}/reviews",
    "/api/v2/carts/{}/items",
    "/api/v2/orders/{}",
    "/internal/accounts/{}/profile",
    "/internal/prices?sku={}",
    "/api/v1/search?q=term{}&page=1",
    "/v1/sessions/{}",
    "/media/{}/thumbnail.webp",
    "/api/v1/recommendations?user={}",
    "/healthz/ready",
    "/pharos.example.v1.Inventory/Reserve",
];
const BROWSERS: [&str; 8] = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 \
     Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 \
     Safari/605.1.15",
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "curl/8.14.1",
    "kube-probe/1.34",
];
const LIBRARIES: [&str; 6] = [
    "okhttp/4.12.0",
    "grpc-go/1.76.0",
    "python-requests/2.32.5",
    "Apache-HttpClient/5.5 (Java/21.0.8)",
    "node-fetch/1.0 (+https://github.com/bitinn/node-fetch)",
    "Go-http-client/1.1",
];
/// Attributes that applications add, each service its own; the later ones are rare.
const TAGS: usize = 86;

struct Service {
    name: String,
    namespace: &'static str,
    host: String,
    port: u16,
    pods: usize,
    grpc: bool,
    calls: Vec<usize>,
    span_service: Arc<str>,
    resources: Vec<Arc<Attributes>>,
}

pub(crate) struct Mesh {
    random: StdRng,
    services: Vec<Service>,
    scope: Arc<Scope>,
    now: UnixNanos,
}

/// One hop of a request, as both of its ends tell it.
struct Hop {
    from: usize,
    from_pod: usize,
    to: usize,
    to_pod: usize,
    start: UnixNanos,
    duration_ns: i64,
    method: &'static str,
    path: String,
    code: u16,
    flags: &'static str,
    request_bytes: i64,
    response_bytes: i64,
    agent: &'static str,
    tag: Option<(usize, u32)>,
}

struct Request {
    id: u128,
    request_id: u128,
    forwarded_for: String,
    hops: Vec<Hop>,
}

impl Mesh {
    pub(crate) fn new() -> Mesh {
        let mut random = StdRng::seed_from_u64(1);
        let services = (0..SERVICES)
            .map(|number| {
                let namespace = NAMESPACES[number % NAMESPACES.len()];
                let role = ROLES[number % ROLES.len()];
                let name = format!("{role}-{}", number / ROLES.len());
                let pods = 1 + 8 / (number / 10 + 1);
                Service {
                    host: format!("{name}.{namespace}.svc.cluster.local"),
                    port: [8080, 9080, 8443, 50051][number % 4],
                    grpc: number % 4 == 3,
                    calls: (0..4).map(|_| zipf(&mut random)).collect(),
                    span_service: format!("{name}.{namespace}").into(),
                    resources: (0..pods).map(|pod| Arc::new(resource(&name, namespace, pod))).collect(),
                    name,
                    namespace,
                    pods,
                }
            })
            .collect();
        let scope = Arc::new(Scope { name: "envoy".into(), version: "1.36.2".into(), ..Scope::default() });
        Mesh { random, services, scope, now: START }
    }

    /// About 5,000 requests a second.
    fn request(&mut self) -> Request {
        let random = &mut self.random;
        self.now = self.now.plus_nanos(random.random_range(1_000..400_000));
        let mut hops = Vec::with_capacity(HOPS);
        let mut start = self.now;
        let (mut from, mut from_pod) = (0, random.random_range(0..self.services[0].pods));
        // What the innermost call takes; each caller waits for it and works itself.
        let mut duration_ns = (random.random::<f64>().powi(4) * 180e6) as i64 + 3_000_000;
        let failed = random.random_bool(0.01);
        for depth in 0..HOPS {
            let to = match depth {
                0 => zipf(random),
                _ => self.services[from].calls[random.random_range(0..4)],
            };
            let service = &self.services[to];
            let to_pod = random.random_range(0..service.pods);
            let template =
                if service.grpc { TEMPLATES[11] } else { TEMPLATES[(to + random.random_range(0..3)) % 11] };
            let entity = (random.random::<f64>().powi(3) * 100_000.0) as u32;
            let method = match template {
                _ if service.grpc => "POST",
                "/api/v2/carts/{}/items" | "/v1/sessions/{}" => "POST",
                _ => "GET",
            };
            let error = failed && depth == HOPS - 1;
            hops.push(Hop {
                from,
                from_pod,
                to,
                to_pod,
                start,
                duration_ns,
                method,
                path: template.replace("{}", &entity.to_string()),
                code: match (error, random.random_range(0..100)) {
                    (true, _) => 503,
                    (_, 0) => 404,
                    (_, 1) if method == "GET" => 304,
                    _ => 200,
                },
                flags: if error { ["UF", "URX", "UO"][random.random_range(0..3)] } else { "-" },
                request_bytes: if method == "GET" { 0 } else { random.random_range(40..900) },
                response_bytes: (random.random::<f64>().powi(3) * 40_000.0) as i64 + 120,
                agent: if depth == 0 {
                    BROWSERS[(random.random::<f64>().powi(2) * BROWSERS.len() as f64) as usize]
                } else {
                    LIBRARIES[from % LIBRARIES.len()]
                },
                tag: (to % 3 == 0)
                    .then(|| (to * 7 % TAGS, (random.random::<f64>().powi(2) * 50_000.0) as u32)),
            });
            (from, from_pod) = (to, to_pod);
            start = start.plus_nanos(random.random_range(300_000..900_000));
            duration_ns = (duration_ns as f64 * random.random_range(0.4..0.8)) as i64;
        }
        let forwarded_for = format!("203.0.113.{}", random.random_range(1..255));
        Request { id: random.random(), request_id: random.random(), forwarded_for, hops }
    }

    pub(crate) fn access_logs(&mut self, rows: usize) -> Vec<AccessLog> {
        let mut logs = Vec::with_capacity(rows + ROWS_PER_REQUEST);
        while logs.len() < rows {
            let request = self.request();
            for hop in &request.hops {
                logs.push(self.access_log(&request, hop, Reporter::Source));
                logs.push(self.access_log(&request, hop, Reporter::Destination));
            }
        }
        logs
    }

    fn access_log(&mut self, request: &Request, hop: &Hop, reporter: Reporter) -> AccessLog {
        let (from, to) = (&self.services[hop.from], &self.services[hop.to]);
        let inbound = reporter == Reporter::Destination;
        // A proxy keeps a few connections to each endpoint.
        let connection = self.random.random_range(0..4);
        let port = 32_768 + (hop.from_pod * 977 + hop.to * 131 + hop.to_pod * 17 + connection) % 28_000;
        let (source_address, upstream) = (address(hop.from, hop.from_pod), address(hop.to, hop.to_pod));
        let delay = if inbound { 350_000 } else { 0 };
        let duration_us = (hop.duration_ns - delay).max(0) / 1_000_000 * 1_000;
        AccessLog {
            time: hop.start.plus_nanos(delay),
            duration_us,
            reporter,
            source: peer(from),
            destination: peer(to),
            destination_service: to.host.clone(),
            destination_service_name: to.name.clone(),
            destination_service_namespace: to.namespace.into(),
            request_protocol: if to.grpc { "grpc" } else { "http" }.into(),
            http_version: if to.grpc { "HTTP/2" } else { "HTTP/1.1" }.into(),
            method: hop.method.into(),
            scheme: "http".into(),
            authority: format!("{}.{}:{}", to.name, to.namespace, to.port),
            path: hop.path.clone(),
            response_code: hop.code,
            grpc_status: to.grpc.then_some(0),
            response_flags: ResponseFlags::parse(hop.flags),
            response_code_details: if hop.code == 503 {
                "upstream_reset_before_response_started"
            } else {
                "via_upstream"
            }
            .into(),
            request_bytes: hop.request_bytes,
            response_bytes: hop.response_bytes,
            time_to_first_upstream_rx_us: (duration_us - 1_000).max(0),
            upstream_attempts: 1,
            route_name: if inbound { "default" } else { "" }.into(),
            upstream_cluster: if inbound {
                format!("inbound|{}||", to.port)
            } else {
                format!("outbound|{}||{}", to.port, to.host)
            },
            upstream_host: format!("{upstream}:{}", to.port),
            upstream_local_address: if inbound {
                format!("127.0.0.6:{port}")
            } else {
                format!("{source_address}:{port}")
            },
            downstream_local_address: format!("{upstream}:{}", to.port),
            downstream_remote_address: format!("{source_address}:{port}"),
            requested_server_name: if inbound {
                format!("outbound_.{}_._.{}", to.port, to.host)
            } else {
                String::new()
            },
            forwarded_for: if hop.from == 0 { request.forwarded_for.clone() } else { String::new() },
            user_agent: hop.agent.into(),
            request_id: uuid::Uuid::from_u128(request.request_id).to_string(),
            trace_id: Some(TraceId(request.id.to_be_bytes())),
            security_policy: if inbound { "mutual_tls" } else { "unknown" }.into(),
            node_id: if inbound {
                node_id(to, hop.to, hop.to_pod)
            } else {
                node_id(from, hop.from, hop.from_pod)
            },
            ..AccessLog::default()
        }
    }

    /// Lines of applications that write down what they were sent: 2 KB each, most of it digits of hashes and tokens.
    pub(crate) fn logs(&mut self, rows: usize) -> Vec<LogRecord> {
        let record = |_| {
            let request = self.request();
            let service = &self.services[request.hops[0].to];
            let mut body = format!("rejected {} {}: payload ", request.hops[0].method, request.hops[0].path);
            while body.len() < 2_000 {
                let _ = write!(body, "{:016x}", self.random.random::<u64>());
            }
            LogRecord {
                time: self.now,
                observed: self.now,
                severity: Severity(17),
                severity_text: "ERROR".into(),
                body: body.into(),
                event_name: String::new(),
                trace_id: Some(TraceId(request.id.to_be_bytes())),
                span_id: None,
                flags: 0,
                service: service.span_service.clone(),
                resource: service.resources[0].clone(),
                scope: self.scope.clone(),
                attributes: Attributes::new(),
            }
        };
        (0..rows).map(record).collect()
    }

    /// Whole traces, at least so many spans.
    pub(crate) fn spans(&mut self, rows: usize) -> Vec<Span> {
        let mut spans = Vec::with_capacity(rows + ROWS_PER_REQUEST);
        while spans.len() < rows {
            let request = self.request();
            let mut parent = None;
            for hop in &request.hops {
                for kind in [SpanKind::Client, SpanKind::Server] {
                    let span = self.span(&request, hop, kind, parent);
                    parent = Some(span.span_id);
                    spans.push(span);
                }
            }
        }
        spans
    }

    fn span(&mut self, request: &Request, hop: &Hop, kind: SpanKind, parent_span_id: Option<SpanId>) -> Span {
        let (from, to) = (&self.services[hop.from], &self.services[hop.to]);
        let (own, pod) = if kind == SpanKind::Client { (from, hop.from_pod) } else { (to, hop.to_pod) };
        let cluster = if kind == SpanKind::Client {
            format!("outbound|{}||{}", to.port, to.host)
        } else {
            format!("inbound|{}||", to.port)
        };
        let mut attributes: Vec<(&str, Value)> = vec![
            ("component", "proxy".into()),
            ("guid:x-request-id", uuid::Uuid::from_u128(request.request_id).to_string().into()),
            ("http.url", format!("http://{}:{}{}", to.host, to.port, hop.path).into()),
            ("http.method", hop.method.into()),
            ("user_agent", hop.agent.into()),
            ("http.protocol", if to.grpc { "HTTP/2" } else { "HTTP/1.1" }.into()),
            ("peer.address", address(hop.from, hop.from_pod).into()),
            ("response_size", hop.response_bytes.to_string().into()),
            ("http.status_code", hop.code.to_string().into()),
            ("response_flags", hop.flags.into()),
            ("upstream_cluster", cluster.into()),
        ];
        // Applications' own replace one of the proxy's, so that a span has eleven.
        let tag = hop.tag.map(|(tag, value)| (tag_name(tag), value));
        if let (Some((name, value)), SpanKind::Server) = (&tag, kind) {
            let value =
                if value % 2 == 0 { Value::Int(i64::from(*value)) } else { format!("v-{value}").into() };
            attributes[6] = (name, value);
        }
        let delay = if kind == SpanKind::Server { 350_000 } else { 0 };
        Span {
            trace_id: TraceId(request.id.to_be_bytes()),
            span_id: SpanId(self.random.random::<u64>().to_be_bytes()),
            parent_span_id,
            name: format!("{}.{}:{}/*", to.name, to.namespace, to.port),
            kind,
            start: hop.start.plus_nanos(delay),
            duration_ns: (hop.duration_ns - delay).max(10_000),
            status: if hop.code >= 500 { SpanStatus::Error } else { SpanStatus::Unset },
            service: own.span_service.clone(),
            resource: own.resources[pod].clone(),
            scope: self.scope.clone(),
            attributes: attributes.into_iter().map(|(key, value)| (key.to_string(), value)).collect(),
            flags: 1,
            ..Span::default()
        }
    }
}

/// The name of the n-th tag of applications.
pub(crate) fn tag_name(tag: usize) -> String {
    format!(
        "app.{}.id",
        ["tenant", "order", "user", "sku", "batch", "region"][tag % 6].to_string() + &tag.to_string()
    )
}

/// The n-th service is called 1/n times as often as the first.
fn zipf(random: &mut StdRng) -> usize {
    let share: f64 = random.random();
    ((SERVICES as f64).powf(share) as usize).min(SERVICES - 1)
}

fn address(service: usize, pod: usize) -> String {
    format!("10.{}.{}.{}", 4 + service / 64, service % 64, 10 + pod)
}

fn pod_name(name: &str, pod: usize) -> String {
    format!("{name}-v1-7d9f8c6b5{}-x{}k{}", name.len() % 10, pod, (pod * 7 + name.len()) % 10)
}

fn node_id(service: &Service, number: usize, pod: usize) -> String {
    let Service { name, namespace, .. } = service;
    let address = address(number, pod);
    format!("sidecar~{address}~{}.{namespace}~{namespace}.svc.cluster.local", pod_name(name, pod))
}

fn resource(name: &str, namespace: &str, pod: usize) -> Attributes {
    [
        ("k8s.cluster.name", "prod-eu-1".to_string()),
        ("k8s.namespace.name", namespace.to_string()),
        ("k8s.pod.name", pod_name(name, pod)),
        ("k8s.deployment.name", format!("{name}-v1")),
        ("service.version", "v1".to_string()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_string(), Value::String(value)))
    .collect()
}

fn peer(service: &Service) -> Peer {
    let Service { name, namespace, .. } = service;
    Peer {
        cluster: "prod-eu-1".into(),
        namespace: (*namespace).into(),
        workload: format!("{name}-v1"),
        app: name.clone(),
        version: "v1".into(),
        canonical_service: name.clone(),
        canonical_revision: "v1".into(),
        principal: format!("spiffe://cluster.local/ns/{namespace}/sa/{name}"),
    }
}

/// What the samples of a scrape are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Values {
    /// Request counters, each at its own steady rate.
    Counters,
    /// Counters, gauges that stand still, gauges that move, and float sums.
    Mixed,
}

const SCRAPE_MS: i64 = 15_000;

/// One scrape of so many series, the n-th in time.
pub(crate) fn scrape(values: Values, series: usize, round: i64) -> Vec<TimeSeries> {
    (0..series)
        .map(|number| {
            let (name, value) = metric(values, number as u64, round);
            let (from, to) = (number % SERVICES, number / SERVICES % SERVICES);
            TimeSeries {
                labels: Labels::from_pairs([
                    ("__name__", name.to_string()),
                    ("reporter", ["source", "destination"][number % 2].to_string()),
                    ("source_workload", format!("{}-v1", ROLES[from % ROLES.len()])),
                    ("source_workload_namespace", NAMESPACES[from % NAMESPACES.len()].to_string()),
                    ("destination_workload", format!("{}-v1", ROLES[to % ROLES.len()])),
                    ("destination_workload_namespace", NAMESPACES[to % NAMESPACES.len()].to_string()),
                    ("response_code", "200".to_string()),
                    ("connection_security_policy", "mutual_tls".to_string()),
                    ("pod", format!("pod-{number}")),
                ]),
                samples: vec![Sample { time_ms: START.millis() + round * SCRAPE_MS, value }],
                ..TimeSeries::default()
            }
        })
        .collect()
}

fn metric(values: Values, number: u64, round: i64) -> (&'static str, f64) {
    // A hash of the series and the time: the same for every run, without a generator's state for each series.
    let noise = |salt: u64| {
        let mut bits = (number << 24 ^ round as u64 ^ salt << 56).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bits ^= bits >> 31;
        bits = bits.wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (bits >> 40) as f64 / (1u64 << 24) as f64
    };
    // Traffic follows Zipf: few series are busy, most move now and then.
    let rate = (3_000.0 / (1.0 + number as f64 % 997.0)).floor();
    let counter = |salt| (round as f64 * rate + noise(salt) * rate * 0.1).floor();
    if values == Values::Counters {
        return ("istio_requests_total", counter(1));
    }
    match number % 8 {
        0..=3 => ("istio_requests_total", counter(1)),
        4 => (
            "istio_request_duration_milliseconds_sum",
            round as f64 * rate * 3.0 + (noise(2) * 1_000.0).round() / 10.0,
        ),
        5 => ("envoy_cluster_membership_healthy", (number % 9) as f64),
        6 => ("envoy_server_memory_allocated", (50e6 + noise(3) * 1e6).floor()),
        _ => ("container_cpu_usage_cores", (noise(4) * 400.0).round() / 100.0),
    }
}
