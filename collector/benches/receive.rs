//! What a request costs from its bytes to the acknowledged rows: decode, normalise, store (without waiting for the disk).

use std::hint::black_box;

use axum::{Router, body::Body};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use http::{Request, StatusCode, header};
use pharos_collector::{Collector, CollectorConfig, parse_line};
use pharos_proto::{
    otlp::{
        collector::trace::v1::ExportTraceServiceRequest,
        common::v1::{AnyValue, KeyValue, any_value::Value},
        trace::v1::{ResourceSpans, ScopeSpans, Span},
    },
    prometheus::remote_write_v1::{Label, Sample, TimeSeries, WriteRequest},
};
use pharos_storage::{Durability, Storage, StorageConfig};
use prost::Message;
use tower::ServiceExt;

const SPANS: u64 = 1_000;
const SERIES: u64 = 2_000;
const LINE: &str = r#"[2020-11-25T21:26:18.409Z] "GET /status/418 HTTP/1.1" 418 - via_upstream - "-" 0 135 4 3 "10.1.1.1" "curl/7.73.0" "84961386-6d84-929d-98bd-c5aee93b5c88" "httpbin:8000" "10.44.1.27:80" outbound|8000||httpbin.foo.svc.cluster.local 10.44.1.23:37652 10.0.45.184:8000 10.44.1.23:46520 - default"#;

fn now_ns() -> u64 {
    std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos() as u64)
}

/// New spans each time: the store would drop those that it has.
fn traces(round: u64) -> Vec<u8> {
    let attribute = |index: u64| KeyValue {
        key: format!("key.{index}"),
        value: Some(AnyValue { value: Some(Value::StringValue(format!("value {index}"))) }),
        ..KeyValue::default()
    };
    let span = |index: u64| Span {
        trace_id: (u128::from(round) << 64 | u128::from(index / 10 + 1)).to_be_bytes().to_vec(),
        span_id: (index + 1).to_be_bytes().to_vec(),
        name: "GET /reviews".into(),
        start_time_unix_nano: now_ns(),
        end_time_unix_nano: now_ns() + 5_000_000,
        attributes: (0..15).map(attribute).collect(),
        ..Span::default()
    };
    let scope_spans = ScopeSpans { spans: (0..SPANS).map(span).collect(), ..ScopeSpans::default() };
    let resource_spans = ResourceSpans { scope_spans: vec![scope_spans], ..ResourceSpans::default() };
    ExportTraceServiceRequest { resource_spans: vec![resource_spans] }.encode_to_vec()
}

/// One sample for each of the same series, as a scraping Prometheus sends them.
fn samples(round: u64) -> Vec<u8> {
    let label = |name: &str, value: String| Label { name: name.into(), value };
    let series = |index: u64| TimeSeries {
        labels: std::iter::once(label("__name__", "istio_requests_total".into()))
            .chain((0..20).map(|at| label(&format!("label_{at:02}"), format!("value-{}", index % (at + 2)))))
            .chain([label("pod", index.to_string())])
            .collect(),
        samples: vec![Sample { value: (round * index) as f64, timestamp: (now_ns() / 1_000_000) as i64 }],
        ..TimeSeries::default()
    };
    let request = WriteRequest { timeseries: (0..SERIES).map(series).collect(), metadata: Vec::new() };
    snap::raw::Encoder::new().compress_vec(&request.encode_to_vec()).expect("snappy")
}

async fn post(router: Router, path: &str, body: Vec<u8>) {
    let request = Request::post(path).header(header::CONTENT_TYPE, "application/x-protobuf");
    let response =
        router.oneshot(request.body(Body::from(body)).expect("a request")).await.expect("an answer");
    // A store that is full for a moment says 'later'; the work up to there is done either way.
    assert!(response.status().is_success() || response.status() == StatusCode::SERVICE_UNAVAILABLE);
}

fn receive(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder");
    let config = StorageConfig { durability: Durability::None, ..StorageConfig::new(folder.path()) };
    let storage = runtime.block_on(Storage::open(config)).expect("a store");
    let collector = Collector::new(CollectorConfig::default(), storage);

    let mut group = criterion.benchmark_group("receive");
    let mut round = 0;
    for (name, items, path, router, make) in [
        ("otlp spans", SPANS, "/v1/traces", collector.otlp_http_router(), traces as fn(u64) -> Vec<u8>),
        ("remote write samples", SERIES, "/api/v1/write", collector.remote_write_router(), samples),
    ] {
        group.throughput(Throughput::Elements(items));
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || {
                    round += 1;
                    make(round)
                },
                |body| runtime.block_on(post(router.clone(), path, body)),
                criterion::BatchSize::SmallInput,
            );
        });
    }
    group.throughput(Throughput::Elements(1));
    group.bench_function("access-log line", |bencher| bencher.iter(|| parse_line(black_box(LINE))));
    group.finish();
}

criterion_group!(benches, receive);
criterion_main!(benches);
