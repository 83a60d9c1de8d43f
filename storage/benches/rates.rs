//! Rates and sizes of the storage, as one table. `cargo bench -p pharos-storage [-- <thousands of rows>]`
//!
//! The rows are shaped like those of a mesh: 200 services that are called as Zipf has it, ids and durations at
//! random, paths with numbers in them, a handful of user agents.

#![allow(clippy::print_stdout)]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt, TryStreamExt, stream};
use pharos_model::{
    AccessLog, Attributes, Labels, Peer, Reporter, Sample, Scope, Span, SpanId, SpanKind, TimeRange,
    TimeSeries, TraceId, UnixNanos, Value,
};
use pharos_storage::{AppendError, Batch, Scan, ScanValue, Storage, StorageConfig, Table};
use rand::{Rng, SeedableRng, rngs::StdRng};

const SERVICES: usize = 200;
const BATCH: usize = 2_000;
const METHODS: [&str; 3] = ["GET", "POST", "PUT"];
const AGENTS: [&str; 4] =
    ["Mozilla/5.0 (X11; Linux x86_64)", "okhttp/4.12.0", "grpc-go/1.76.0", "python-requests/2.32"];

struct Mesh {
    random: StdRng,
    time: UnixNanos,
    /// Of the request that the next rows tell of: each passes five hops, and both ends of a hop log it.
    request: u128,
    rows_left: u32,
}

impl Mesh {
    fn new() -> Mesh {
        Mesh {
            random: StdRng::seed_from_u64(1),
            time: UnixNanos::from_seconds(1_795_248_000),
            request: 0,
            rows_left: 0,
        }
    }

    /// The n-th service is called 1/n times as often as the first.
    fn service(&mut self) -> usize {
        let share: f64 = self.random.random();
        ((SERVICES as f64).powf(share) as usize).min(SERVICES - 1)
    }

    fn tick(&mut self) -> UnixNanos {
        self.time = self.time.plus_nanos(self.random.random_range(1_000..200_000));
        self.time
    }

    fn duration_us(&mut self) -> i64 {
        (self.random.random::<f64>().powi(4) * 200_000.0) as i64 + 300
    }

    fn access_log(&mut self) -> AccessLog {
        let (from, to) = (self.service(), self.service());
        if self.rows_left == 0 {
            (self.request, self.rows_left) = (self.random.random(), 10);
        }
        self.rows_left -= 1;
        let id = self.request;
        AccessLog {
            time: self.tick(),
            duration_us: self.duration_us(),
            reporter: if self.rows_left.is_multiple_of(2) { Reporter::Source } else { Reporter::Destination },
            source: peer(from),
            destination: peer(to),
            destination_service: format!("service-{to}.shop.svc.cluster.local"),
            destination_service_name: format!("service-{to}"),
            destination_service_namespace: "shop".to_string(),
            request_protocol: "http".to_string(),
            http_version: "HTTP/1.1".to_string(),
            method: METHODS[to % METHODS.len()].to_string(),
            scheme: "http".to_string(),
            authority: format!("service-{to}:8080"),
            path: format!("/api/v1/things/{}/{}", to % 7, self.random.random_range(0..50_000)),
            response_code: if self.random.random_bool(0.01) { 503 } else { 200 },
            request_bytes: self.random.random_range(0..2_000),
            response_bytes: self.random.random_range(100..40_000),
            request_id: uuid::Uuid::from_u128(id).to_string(),
            trace_id: Some(TraceId(id.to_be_bytes())),
            upstream_cluster: format!("outbound|8080||service-{to}.shop.svc.cluster.local"),
            upstream_host: format!("10.0.{}.{}:8080", to / 200, to % 200),
            user_agent: AGENTS[from % AGENTS.len()].to_string(),
            security_policy: "mutual_tls".to_string(),
            ..AccessLog::default()
        }
    }

    /// Ten spans of one trace with eleven attributes each.
    fn trace(&mut self) -> Vec<Span> {
        let trace_id = TraceId(self.random.random::<u128>().to_be_bytes());
        let mut parent = None;
        (0..10)
            .map(|_| {
                let span = self.span(trace_id, parent);
                parent = Some(span.span_id);
                span
            })
            .collect()
    }

    fn span(&mut self, trace_id: TraceId, parent_span_id: Option<SpanId>) -> Span {
        let to = self.service();
        let code = if self.random.random_bool(0.01) { 503 } else { 200 };
        let attributes: Attributes = [
            ("http.request.method", Value::from(METHODS[to % METHODS.len()])),
            ("http.response.status_code", Value::Int(code)),
            ("url.path", format!("/api/v1/things/{}", self.random.random_range(0..500)).into()),
            ("user_agent.original", AGENTS[to % AGENTS.len()].into()),
            ("guid:x-request-id", uuid::Uuid::from_bytes(trace_id.0).to_string().into()),
            ("upstream_cluster", format!("outbound|8080||service-{to}.shop.svc.cluster.local").into()),
            ("response_flags", "-".into()),
            ("response_size", Value::Int(self.random.random_range(100..40_000))),
            ("component", "proxy".into()),
            ("istio.mesh_id", "cluster.local".into()),
            ("peer.address", format!("10.0.0.{}", to % 200).into()),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_string(), value))
        .collect();
        Span {
            trace_id,
            span_id: SpanId(self.random.random::<u64>().to_be_bytes()),
            parent_span_id,
            name: format!("service-{to}.shop.svc.cluster.local:8080/*"),
            kind: if parent_span_id.is_none() { SpanKind::Server } else { SpanKind::Client },
            start: self.tick(),
            duration_ns: self.duration_us() * 1_000,
            service: format!("service-{to}.shop").into(),
            resource: Arc::new(
                [("k8s.pod.name".to_string(), format!("service-{to}-abc").into())].into_iter().collect(),
            ),
            scope: Arc::new(Scope { name: "envoy".to_string(), ..Scope::default() }),
            attributes,
            ..Span::default()
        }
    }
}

fn peer(service: usize) -> Peer {
    Peer {
        cluster: "Kubernetes".to_string(),
        namespace: "shop".to_string(),
        workload: format!("service-{service}-v1"),
        app: format!("service-{service}"),
        version: "v1".to_string(),
        canonical_service: format!("service-{service}"),
        canonical_revision: "v1".to_string(),
        principal: format!("spiffe://cluster.local/ns/shop/sa/service-{service}"),
    }
}

/// One scrape of counters that grow by about 200.
fn scrape(series: usize, round: i64) -> Vec<TimeSeries> {
    (0..series)
        .map(|number| TimeSeries {
            labels: Labels::from_pairs([
                ("__name__", "istio_requests_total".to_string()),
                ("reporter", "source".to_string()),
                ("source_workload", format!("service-{}-v1", number % SERVICES)),
                ("destination_workload", format!("service-{}-v1", number / SERVICES)),
                ("pod", format!("pod-{number}")),
            ]),
            samples: vec![Sample {
                time_ms: 1_795_248_000_000 + round * 15_000,
                value: (round * 200 + number as i64 * round % 17) as f64,
            }],
            ..TimeSeries::default()
        })
        .collect()
}

/// Sends all batches, eight at a time; one that is told 'later' is sent again.
async fn send(storage: &Storage, batches: Vec<Batch>) -> Duration {
    let start = Instant::now();
    stream::iter(batches)
        .for_each_concurrent(8, |batch| async move {
            loop {
                match storage.append(batch.clone()).await {
                    Ok(_) => return,
                    Err(AppendError::Overloaded { .. }) => {
                        tokio::time::sleep(Duration::from_millis(20)).await
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        })
        .await;
    start.elapsed()
}

fn bytes_per_row(storage: &Storage, table: Table) -> f64 {
    let stats = storage.stats();
    let stats = stats.tables.iter().find(|stats| stats.table == table);
    stats.map_or(0.0, |stats| stats.file_bytes as f64 / stats.rows.max(1) as f64)
}

fn resident_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or(0.0) / 1_024.0
}

fn row(what: &str, value: f64, unit: &str) {
    println!("{what:<44} {value:>14.2} {unit}");
}

async fn timed(storage: &Storage, what: &str, table: Table, scan: Scan) {
    let start = Instant::now();
    let batches = storage.snapshot(table, scan.range).expect("snapshot").read(&scan).await.expect("scan");
    let rows: usize = batches
        .map_ok(|batch| batch.num_rows())
        .try_fold(0, |a, b| async move { Ok(a + b) })
        .await
        .expect("rows");
    row(&format!("{what} ({rows} rows)"), start.elapsed().as_secs_f64() * 1_000.0, "ms");
}

#[tokio::main]
async fn main() {
    let thousands =
        std::env::args().skip(1).find_map(|argument| argument.parse::<usize>().ok()).unwrap_or(200);
    let rows = thousands * 1_000;
    let dir = tempfile::tempdir().expect("a directory");
    let config = StorageConfig { retention: None, head_bytes: 256 << 20, ..StorageConfig::new(dir.path()) };
    let storage = Storage::open(config.clone()).await.expect("open");
    let mut mesh = Mesh::new();

    let logs: Vec<Batch> = (0..rows / BATCH)
        .map(|_| Batch::AccessLogs((0..BATCH).map(|_| mesh.access_log()).collect()))
        .collect();
    let took = send(&storage, logs).await;
    row("access logs, decoded to synced", rows as f64 / took.as_secs_f64(), "rows/s");

    let mut some_trace = TraceId::ZERO;
    let spans: Vec<Batch> = (0..rows / BATCH)
        .map(|_| {
            let spans: Vec<Span> = (0..BATCH / 10).flat_map(|_| mesh.trace()).collect();
            some_trace = spans[0].trace_id;
            Batch::Spans(spans)
        })
        .collect();
    let took = send(&storage, spans).await;
    row("spans with 11 attributes", rows as f64 / took.as_secs_f64(), "rows/s");

    let scrapes: Vec<Batch> =
        (0..(rows / 5_000) as i64).map(|round| Batch::Samples(scrape(5_000, round))).collect();
    let took = send(&storage, scrapes).await;
    row("samples", rows as f64 / took.as_secs_f64(), "rows/s");
    row("resident after ingest", resident_mb(), "MB");

    storage.flush().await.expect("flush");
    storage.compact().await.expect("compact");
    row("bytes per access log", bytes_per_row(&storage, Table::AccessLogs), "B");
    row("bytes per span", bytes_per_row(&storage, Table::Spans), "B");
    row("bytes per counter sample", bytes_per_row(&storage, Table::Samples), "B");

    let all = Scan::new(TimeRange::ALL);
    let by_id = all.clone().equal("trace_id", ScanValue::Bytes(some_trace.0.to_vec()));
    timed(&storage, "trace by id", Table::Spans, by_id).await;
    let by_code = all.clone().equal("http_status", ScanValue::Int(503)).newest_first().limit(20);
    timed(&storage, "newest 20 spans with 503", Table::Spans, by_code).await;
    timed(&storage, "newest 100 access logs", Table::AccessLogs, all.newest_first().limit(100)).await;
    let start = Instant::now();
    let edges = storage.edges(TimeRange::ALL).await.expect("edges");
    row(&format!("all edges ({})", edges.len()), start.elapsed().as_secs_f64() * 1_000.0, "ms");
    let ids: Vec<_> = storage
        .select_series(&[], TimeRange::ALL, usize::MAX)
        .expect("series")
        .into_iter()
        .map(|(id, _)| id)
        .collect();
    let start = Instant::now();
    let columns = storage.read_samples(&ids, i64::MIN, i64::MAX).await.expect("samples");
    let samples: usize = columns.iter().map(|series| series.times_ms.len()).sum();
    row(&format!("all samples ({samples})"), start.elapsed().as_secs_f64() * 1_000.0, "ms");
    row("resident at the end", resident_mb(), "MB");

    storage.close().await.expect("close");
    drop(storage);
    let start = Instant::now();
    Storage::open(config).await.expect("open again");
    row("open again", start.elapsed().as_secs_f64() * 1_000.0, "ms");
}
