//! Rows for tests, shaped like those of a real mesh; every value depends on the row's number alone.

use std::sync::Arc;

use pharos_model::{
    AccessLog, Attributes, Exemplar, Labels, LogRecord, MeshObject, MetricKind, MetricMetadata, Peer,
    Reporter, ResponseFlags, Sample, Scope, Severity, Span, SpanEvent, SpanId, SpanKind, SpanLink,
    SpanStatus, TimeSeries, TraceId, UnixNanos, Value,
};

/// 2026-11-21T08:00:00Z.
pub(crate) const START: UnixNanos = UnixNanos(1_795_248_000_000_000_000);
const SERVICES: [&str; 4] = ["productpage", "details", "reviews", "ratings"];

pub(crate) fn trace_id(number: u64) -> TraceId {
    TraceId((u128::from(number) << 64 | 0x1234_5678_9abc).to_be_bytes())
}

fn service(number: u64) -> &'static str {
    SERVICES[number as usize % SERVICES.len()]
}

/// Four spans a trace, one every 7,000,001 ns.
pub(crate) fn span(number: u64) -> Span {
    let attributes: Attributes = [
        ("http.method", Value::from("GET")),
        ("http.status_code", Value::Int(if number % 10 == 3 { 503 } else { 200 })),
        ("guid:x-request-id", format!("request-{}", number / 4).into()),
        (
            "upstream_cluster",
            format!("outbound|9080||{}.bookinfo.svc.cluster.local", service(number + 1)).into(),
        ),
        ("sampled", Value::Bool(true)),
        ("share", Value::Double(0.25)),
        ("list", Value::Array(vec![Value::Int(1), Value::Null, Value::Bytes(vec![7])])),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_string(), value))
    .collect();
    Span {
        trace_id: trace_id(number / 4),
        span_id: SpanId((number + 1).to_be_bytes()),
        parent_span_id: (!number.is_multiple_of(4)).then(|| SpanId(number.to_be_bytes())),
        trace_state: "a=b".to_string(),
        name: format!("{}.bookinfo.svc.cluster.local:9080/*", service(number)),
        kind: if number.is_multiple_of(2) { SpanKind::Client } else { SpanKind::Server },
        start: START.plus_nanos(number as i64 * 7_000_001),
        duration_ns: 1_000_007 + number as i64 % 97 * 10_000,
        status: if number % 10 == 3 { SpanStatus::Error } else { SpanStatus::Unset },
        status_message: String::new(),
        flags: 1,
        service: format!("{}.bookinfo", service(number)).into(),
        resource: Arc::new(
            [("node_id".to_string(), Value::from("sidecar~10.0.0.1~pod~x"))].into_iter().collect(),
        ),
        scope: Arc::new(Scope {
            name: "envoy".to_string(),
            version: "1.36".to_string(),
            attributes: Attributes::new(),
        }),
        attributes,
        events: (number.is_multiple_of(3))
            .then(|| SpanEvent {
                time: START.plus_nanos(number as i64 * 7_000_001 + 13),
                name: "retry".to_string(),
                attributes: [("attempt".to_string(), Value::Int(2))].into_iter().collect(),
            })
            .into_iter()
            .collect(),
        links: (number.is_multiple_of(5))
            .then(|| SpanLink { trace_id: trace_id(9), span_id: SpanId([1; 8]), ..SpanLink::default() })
            .into_iter()
            .collect(),
    }
}

fn peer(name: &str) -> Peer {
    Peer {
        cluster: "Kubernetes".to_string(),
        namespace: "bookinfo".to_string(),
        workload: format!("{name}-v1"),
        app: name.to_string(),
        version: "v1".to_string(),
        canonical_service: name.to_string(),
        canonical_revision: "v1".to_string(),
        principal: format!("spiffe://cluster.local/ns/bookinfo/sa/{name}"),
    }
}

pub(crate) fn access_log(number: u64) -> AccessLog {
    let destination = service(number + 1);
    AccessLog {
        time: START.plus_nanos(number as i64 * 5_000_003),
        duration_us: 2_000 + number as i64 % 50 * 100,
        reporter: if number.is_multiple_of(2) { Reporter::Source } else { Reporter::Destination },
        source: peer(service(number)),
        destination: peer(destination),
        destination_service: format!("{destination}.bookinfo.svc.cluster.local"),
        destination_service_name: destination.to_string(),
        destination_service_namespace: "bookinfo".to_string(),
        request_protocol: "http".to_string(),
        http_version: "HTTP/1.1".to_string(),
        method: "GET".to_string(),
        authority: format!("{destination}:9080"),
        path: format!("/{destination}/{}", number % 13),
        response_code: if number % 20 == 7 { 500 } else { 200 },
        grpc_status: (number.is_multiple_of(9)).then_some(14),
        response_flags: if number % 20 == 7 { ResponseFlags::parse("FI,XX") } else { ResponseFlags::none() },
        request_bytes: 17,
        response_bytes: 295,
        request_id: format!("request-{}", number / 4),
        trace_id: Some(trace_id(number / 4)),
        span_id: (number.is_multiple_of(2)).then(|| SpanId((number + 1).to_be_bytes())),
        security_policy: "mutual_tls".to_string(),
        user_agent: "curl/8".to_string(),
        attributes: [("custom".to_string(), Value::Int(number as i64))].into_iter().collect(),
        ..AccessLog::default()
    }
}

pub(crate) fn log(number: u64) -> LogRecord {
    LogRecord {
        time: START.plus_nanos(number as i64 * 1_000_000_001),
        observed: START.plus_nanos(number as i64 * 1_000_000_001 + 5),
        severity: Severity(9),
        severity_text: "INFO".to_string(),
        body: if number.is_multiple_of(2) {
            "hello".into()
        } else {
            Value::Map(vec![("n".to_string(), Value::Double(1.0))])
        },
        event_name: String::new(),
        trace_id: Some(trace_id(number)),
        span_id: None,
        flags: 0,
        service: "reviews".into(),
        resource: Arc::new(Attributes::new()),
        scope: Arc::new(Scope::default()),
        attributes: Attributes::new(),
    }
}

/// One counter of requests, with a sample each 15 seconds, each 3 higher.
pub(crate) fn counter(pod: &str, samples: std::ops::Range<i64>) -> TimeSeries {
    TimeSeries {
        labels: Labels::from_pairs([
            ("__name__", "istio_requests_total"),
            ("reporter", "source"),
            ("source_workload", "productpage-v1"),
            ("destination_workload", "reviews-v1"),
            ("response_code", "200"),
            ("pod", pod),
        ]),
        samples: samples
            .clone()
            .map(|n| Sample { time_ms: START.millis() + n * 15_000, value: n as f64 * 3.0 })
            .collect(),
        exemplars: samples
            .take(1)
            .map(|n| Exemplar {
                labels: Labels::from_pairs([("trace_id", trace_id(1).to_string())]),
                time_ms: START.millis() + n * 15_000,
                value: 1.0,
            })
            .collect(),
        metadata: Some(MetricMetadata {
            family: "istio_requests_total".to_string(),
            kind: MetricKind::Counter,
            help: "requests".to_string(),
            unit: String::new(),
        }),
        ..TimeSeries::default()
    }
}

pub(crate) fn mesh_object(number: u64) -> MeshObject {
    MeshObject {
        time: START.plus_nanos(number as i64 * 1_001),
        cluster: "Kubernetes".to_string(),
        kind: "VirtualService".to_string(),
        namespace: "bookinfo".to_string(),
        name: format!("vs-{number}"),
        deleted: false,
        json: "{\"spec\":{}}".to_string(),
    }
}
