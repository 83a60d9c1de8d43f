//! The queries that a mesh's dashboards live on, over columns in memory: what the engine takes, without a store.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::ops::ControlFlow;

use criterion::{Criterion, criterion_group, criterion_main};
use pharos_model::{Labels, METRIC_NAME, Matcher};
use pharos_promql::{
    Limits, Query, Samples, SelectRequest, SeriesSource, SeriesVisitor, SourceError, evaluate, parse,
};

const EDGES: usize = 1000;
const INTERVAL_MS: i64 = 15_000;
const HOUR_MS: i64 = 3_600_000;

type Series = (Labels, Vec<f64>);

/// Series of one scrape, by metric name: they share their times.
struct Mesh {
    times_ms: Vec<i64>,
    series: BTreeMap<String, Vec<Series>>,
}

impl SeriesSource for Mesh {
    fn select(&self, request: &SelectRequest<'_>, visit: &mut SeriesVisitor<'_>) -> Result<(), SourceError> {
        let name = request.matchers.iter().find(|matcher| matcher.name() == METRIC_NAME).map(Matcher::value);
        for (labels, values) in name.and_then(|name| self.series.get(name)).into_iter().flatten() {
            if !request
                .matchers
                .iter()
                .filter(|one| one.name() != METRIC_NAME)
                .all(|matcher| matcher.matches_labels(labels))
            {
                continue;
            }
            let samples = Samples { times_ms: &self.times_ms, values, ..Samples::default() };
            if let ControlFlow::Break(()) = visit(labels, samples) {
                break;
            }
        }
        Ok(())
    }
}

fn labels(name: &str, edge: usize, reporter: &str, extra: (&str, &str)) -> Labels {
    let (source, destination) = (format!("source-{}", edge % 97), format!("destination-{}", edge % 131));
    let host = format!("{destination}.shop.svc.cluster.local");
    let revision = format!("v{}", edge / 131);
    Labels::from_pairs([
        (METRIC_NAME, name),
        ("reporter", reporter),
        ("source_workload", &source),
        ("source_workload_namespace", "shop"),
        ("source_principal", "spiffe://cluster.local/ns/shop/sa/default"),
        ("source_app", &source),
        ("source_version", "v1"),
        ("source_cluster", "Kubernetes"),
        ("destination_workload", &destination),
        ("destination_workload_namespace", "shop"),
        ("destination_principal", "spiffe://cluster.local/ns/shop/sa/default"),
        ("destination_app", &destination),
        ("destination_version", &revision),
        ("destination_service", &host),
        ("destination_service_name", &destination),
        ("destination_service_namespace", "shop"),
        ("destination_cluster", "Kubernetes"),
        ("request_protocol", "http"),
        ("response_flags", "-"),
        ("connection_security_policy", "mutual_tls"),
        extra,
    ])
}

/// Two hours of counters: `EDGES` edges, both reporters, three codes, and the duration buckets of a tenth of them.
fn mesh() -> Mesh {
    let samples = 2 * HOUR_MS / INTERVAL_MS + 1;
    let times_ms: Vec<i64> = (0..samples).map(|at| at * INTERVAL_MS).collect();
    let counter = |per_sample: f64| (0..samples).map(|at| at as f64 * per_sample).collect::<Vec<f64>>();
    let mut series = Vec::new();
    for edge in 0..EDGES {
        for reporter in ["source", "destination"] {
            for code in ["200", "404", "503"] {
                let labels = labels("istio_requests_total", edge, reporter, ("response_code", code));
                series.push((labels, counter((edge % 13 + 1) as f64)));
            }
            for (at, le) in
                ["1", "5", "10", "25", "50", "100", "250", "500", "1000", "+Inf"].into_iter().enumerate()
            {
                if edge % 2 == 0 {
                    let name = "istio_request_duration_milliseconds_bucket";
                    let labels = labels(name, edge, reporter, ("le", le));
                    series.push((labels, counter(((at + 1) * 3) as f64)));
                }
            }
        }
    }
    series.sort_by(|a, b| a.0.cmp(&b.0));
    let mut by_name: BTreeMap<String, Vec<Series>> = BTreeMap::new();
    for one in series {
        by_name.entry(one.0.metric_name().to_owned()).or_default().push(one);
    }
    Mesh { times_ms, series: by_name }
}

const KIALI_GRAPH: &str = "round(sum(rate(istio_requests_total{reporter=\"source\",destination_service_namespace=\"shop\"}[60s])) by \
    (source_cluster,source_workload_namespace,source_workload,source_app,source_version,destination_cluster,\
    destination_service_namespace,destination_service,destination_service_name,destination_workload_namespace,\
    destination_workload,destination_app,destination_version,request_protocol,response_code,response_flags,\
    connection_security_policy) > 0,0.001)";

fn queries(c: &mut Criterion) {
    let mesh = mesh();
    let end_ms = 2 * HOUR_MS;
    for (name, text, start_ms, step_ms) in [
        ("kiali graph, instant, 3,000 series", KIALI_GRAPH, end_ms, 0),
        (
            "sum by (rate), 2 h at 15 s, 6,000 series",
            "sum by (destination_service) (rate(istio_requests_total[5m]))",
            0,
            INTERVAL_MS,
        ),
        (
            "histogram_quantile, 1 h at 15 s, 10,000 series",
            "histogram_quantile(0.99, sum by (le, destination_workload) (rate(istio_request_duration_milliseconds_bucket[1m])))",
            HOUR_MS,
            INTERVAL_MS,
        ),
        ("rate alone, 2 h at 15 s, 6,000 series", "rate(istio_requests_total[5m])", 0, INTERVAL_MS),
    ] {
        let expr = parse(text).expect(name);
        let query = Query::range(&expr, start_ms, end_ms, step_ms);
        c.bench_function(name, |bencher| {
            bencher.iter(|| black_box(evaluate(&query, &mesh, &Limits::default()).expect(name)));
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10);
    targets = queries
}
criterion_main!(benches);
