use std::io::Write;

use http::StatusCode;
use pharos_model::{SpanKind, SpanStatus, UnixNanos, Value};
use pharos_proto::{
    otlp::collector::{
        logs::v1::ExportLogsServiceRequest,
        metrics::v1::ExportMetricsServiceRequest,
        trace::v1::{
            ExportTraceServiceRequest, ExportTraceServiceResponse, trace_service_client::TraceServiceClient,
        },
    },
    rpc,
};
use prost::Message;
use serde_json::{Value as Json, json};

use super::{
    json::{FromJson, decode},
    log, metric,
    temporality::Accumulator,
    trace,
};
use crate::{
    CollectorConfig, Limits, Protocol,
    bench::{Answer, Bench, Headers, conformance, post},
};

const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");
const JSON: (&str, &str) = ("content-type", "application/json");
const TRACE: &str = "5b8efff798038103d269b633813fc60c";

pub(crate) fn decode_json<T: FromJson>(json: &str) -> T {
    decode(json.as_bytes()).unwrap()
}

/// Reads bytes as every kind of request in both encodings, and makes rows of what can be read.
pub(crate) fn take_apart(bytes: &[u8]) {
    let now = UnixNanos::now();
    let traces = [ExportTraceServiceRequest::decode(bytes).ok(), decode(bytes).ok()];
    traces.into_iter().flatten().for_each(|request| drop(trace::spans(request, now)));
    let logs = [ExportLogsServiceRequest::decode(bytes).ok(), decode(bytes).ok()];
    logs.into_iter().flatten().for_each(|request| drop(log::records(request, now)));
    let metrics = [ExportMetricsServiceRequest::decode(bytes).ok(), decode(bytes).ok()];
    let mut deltas = Accumulator::default();
    metrics.into_iter().flatten().for_each(|request| {
        drop(metric::series(request, now, &super::OtlpConfig::default(), &mut deltas, None))
    });
}

async fn send(bench: &Bench, path: &str, headers: Headers<'_>, body: impl Into<bytes::Bytes>) -> Answer {
    post(bench.collector.otlp_http_router(), path, headers, body).await
}

fn now_ns() -> i64 {
    UnixNanos::now().0
}

/// A request with one span; `over` replaces its fields.
fn trace_json(over: &Json) -> Json {
    let start = now_ns() - 1_000_000_000;
    let mut span = json!({
        "traceId": TRACE, "spanId": "eee19b7ec3c1b174", "name": "op", "kind": 2,
        "startTimeUnixNano": start.to_string(), "endTimeUnixNano": (start + 2_500).to_string(),
    });
    for (key, value) in over.as_object().unwrap() {
        span[key] = value.clone();
    }
    json!({"resourceSpans": [{
        "resource": {"attributes": [
            {"key": "service.name", "value": {"stringValue": "shop"}},
            {"key": "service.version", "value": {"stringValue": "1"}},
        ]},
        "scopeSpans": [{"scope": {"name": "lib", "version": "2"}, "spans": [span]}],
    }]})
}

fn trace_request(over: &Json) -> ExportTraceServiceRequest {
    decode(trace_json(over).to_string().as_bytes()).unwrap()
}

#[tokio::test]
async fn a_span_is_the_same_by_every_transport_and_encoding() {
    let mut bench = Bench::new().await;
    let over = json!({
        "parentSpanId": "EEE19B7EC3C1B173",
        "traceState": "a=b",
        "kind": 3,
        "status": {"code": 2, "message": "boom"},
        "flags": 257,
        "attributes": [
            {"key": "n", "value": {"intValue": "7"}},
            {"key": "f", "value": {"doubleValue": 2.5}},
            {"key": "b", "value": {"boolValue": true}},
            {"key": "l", "value": {"arrayValue": {"values": [{"stringValue": "x"}, {"intValue": 1}]}}},
            {"key": "m", "value": {"kvlistValue": {"values": [{"key": "k", "value": {"bytesValue": "AAE="}}]}}},
        ],
        "events": [{"timeUnixNano": "5", "name": "e", "attributes": [{"key": "k", "value": {"stringValue": "v"}}]}],
        "links": [{"traceId": TRACE, "spanId": "eee19b7ec3c1b175", "traceState": "c=d"}],
    });
    let request = trace_request(&over);
    let protobuf = request.encode_to_vec();
    let json = serde_json::to_vec(&trace_json(&over)).unwrap();

    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&protobuf).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = zstd::encode_all(json.as_slice(), 1).unwrap();
    let sent: [(Headers<'_>, Vec<u8>); 4] = [
        (&[PROTOBUF], protobuf),
        (&[JSON], json),
        (&[PROTOBUF, ("content-encoding", "gzip")], gzip),
        (&[("content-type", "application/json; charset=utf-8"), ("content-encoding", "zstd")], zstd),
    ];
    let mut first = None;
    for (index, (headers, mut body)) in sent.into_iter().enumerate() {
        // The store drops what it has already, so each round has a store of its own.
        bench = Bench::new().await;
        if index == 0 {
            body = request.encode_to_vec();
        }
        let answer = send(&bench, "/v1/traces", headers, body).await;
        assert_eq!(answer.status, StatusCode::OK, "{headers:?}: {}", answer.text());
        assert_eq!(answer.header("content-type").split(';').next(), headers[0].1.split(';').next());
        let mut spans = bench.stored().spans;
        assert_eq!(spans.len(), 1, "{headers:?}");
        let mut span = spans.remove(0);
        // The two encodings were made at different times.
        span.start = UnixNanos(0);
        assert_eq!(first.get_or_insert(span.clone()), &span, "{headers:?}");
    }
    let mut client = TraceServiceClient::new(bench.collector.grpc_routes());
    client.export(trace_request(&json!({"spanId": "eee19b7ec3c1b17f"}))).await.unwrap();
    assert_eq!(bench.stored().spans.len(), 1);
    assert_eq!(bench.received(Protocol::OtlpGrpc).items, 1);

    let span = first.unwrap();
    assert_eq!((&*span.service, span.resource.len()), ("shop", 1));
    assert_eq!(
        (span.kind, span.status, span.status_message.as_str()),
        (SpanKind::Client, SpanStatus::Error, "boom")
    );
    assert_eq!(span.duration_ns, 2_500);
    assert_eq!(span.parent_span_id.unwrap().to_string(), "eee19b7ec3c1b173");
    assert_eq!((span.scope.name.as_str(), span.scope.version.as_str()), ("lib", "2"));
    assert_eq!((span.flags, span.trace_state.as_str()), (257, "a=b"));
    let attributes: Vec<(&str, &Value)> = span.attributes.iter().collect();
    assert_eq!(
        attributes,
        vec![
            ("n", &Value::Int(7)),
            ("f", &Value::Double(2.5)),
            ("b", &Value::Bool(true)),
            ("l", &Value::Array(vec!["x".into(), Value::Int(1)])),
            ("m", &Value::Map(vec![("k".into(), Value::Bytes(vec![0, 1]))])),
        ]
    );
    assert_eq!((span.events[0].name.as_str(), span.events[0].time), ("e", UnixNanos(5)));
    assert_eq!(
        (span.links[0].span_id.to_string().as_str(), span.links[0].trace_state.as_str()),
        ("eee19b7ec3c1b175", "c=d")
    );
}

/// What one odd span in a request leads to: stored as it is, refused alone, or refused with the whole request.
enum Outcome {
    Stored,
    Rejected(&'static str),
    BadRequest(&'static str),
}

#[tokio::test]
async fn odd_spans() {
    use Outcome::{BadRequest, Rejected, Stored};
    let far = (now_ns() + 3 * 86_400_000_000_000).to_string();
    let cases = [
        (json!({"unknown": {"a": [1, 2]}}), Stored),
        (json!({"attributes": null, "events": null, "status": null, "name": null}), Stored),
        (json!({"kind": 99}), Stored),
        (json!({"kind": "2"}), Stored),
        (json!({"name": ""}), Stored),
        (json!({"attributes": [{"key": "k", "value": {}}, {"key": "k", "value": {"future": 1}}]}), Stored),
        (json!({"attributes": [{"key": "k", "value": {"doubleValue": "-Infinity"}}]}), Stored),
        (json!({"startTimeUnixNano": now_ns() - 5, "endTimeUnixNano": 17}), Stored),
        (json!({"parentSpanId": ""}), Stored),
        (json!({"links": [{"traceId": "", "spanId": ""}]}), Stored),
        (json!({"traceId": "00000000000000000000000000000000"}), Rejected("trace_id is all zero")),
        (json!({"traceId": "5b8efff798038103"}), Rejected("trace_id has 8 bytes")),
        (json!({"traceId": ""}), Rejected("trace_id has 0 bytes")),
        (json!({"spanId": "0000000000000000"}), Rejected("span_id is all zero")),
        (json!({"spanId": "eee1"}), Rejected("span_id has 2 bytes")),
        (json!({"parentSpanId": "0102"}), Rejected("parent_span_id has 2 bytes")),
        (json!({"startTimeUnixNano": "0"}), Rejected("start_time_unix_nano is 0")),
        (json!({"startTimeUnixNano": far}), Rejected("in the future")),
        (json!({"startTimeUnixNano": "18446744073709551615"}), Rejected("in the future")),
        (json!({"traceId": "zz"}), BadRequest("spans[0].traceId")),
        (json!({"traceId": "abc"}), BadRequest("spans[0].traceId")),
        (json!({"traceId": 5}), BadRequest("spans[0].traceId")),
        (json!({"kind": "SPAN_KIND_SERVER"}), BadRequest("spans[0].kind")),
        (json!({"kind": 1.5}), BadRequest("spans[0].kind")),
        (json!({"name": ["a"]}), BadRequest("spans[0].name")),
        (json!({"startTimeUnixNano": "soon"}), BadRequest("startTimeUnixNano")),
        (json!({"startTimeUnixNano": -1}), BadRequest("startTimeUnixNano")),
        (
            json!({"attributes": [{"key": "k", "value": {"intValue": "9223372036854775808"}}]}),
            BadRequest("intValue"),
        ),
        (json!({"attributes": [{"key": "k", "value": {"bytesValue": "%"}}]}), BadRequest("base64")),
        (json!({"attributes": {}}), BadRequest("a list")),
    ];
    let mut bench = Bench::new().await;
    let (mut items, mut rejected, mut failed) = (0, 0, 0);
    for (index, (over, outcome)) in cases.into_iter().enumerate() {
        // The store drops a span that it has already.
        let mut span = json!({"spanId": format!("eee19b7ec3c1b1{index:02}")});
        span.as_object_mut().unwrap().extend(over.as_object().unwrap().clone());
        let answer = send(&bench, "/v1/traces", &[JSON], trace_json(&span).to_string()).await;
        let text = answer.text();
        let stored = bench.stored().spans.len();
        match outcome {
            Stored => {
                assert_eq!((answer.status, text.as_str(), stored), (StatusCode::OK, "{}", 1), "{over}");
                items += 1;
            }
            Rejected(words) => {
                let partial: Json = serde_json::from_str(&text).unwrap();
                assert_eq!((answer.status, stored), (StatusCode::OK, 0), "{over}: {text}");
                assert_eq!(partial["partialSuccess"]["rejectedSpans"], "1", "{over}");
                let message = partial["partialSuccess"]["errorMessage"].as_str().unwrap();
                assert!(message.contains(words), "{over}: {text}");
                rejected += 1;
            }
            BadRequest(words) => {
                assert_eq!((answer.status, stored), (StatusCode::BAD_REQUEST, 0), "{over}: {text}");
                let status: Json = serde_json::from_str(&text).unwrap();
                assert_eq!(status["code"], 3);
                assert!(status["message"].as_str().unwrap().contains(words), "{over}: {text}");
                failed += 1;
            }
        }
        let received = bench.received(Protocol::OtlpHttp);
        assert_eq!(
            (received.items, received.rejected, received.failed_requests),
            (items, rejected, failed),
            "{over}"
        );
    }
}

#[tokio::test]
async fn good_spans_beside_a_bad_one_are_kept() {
    let mut bench = Bench::new().await;
    let mut request = trace_request(&json!({}));
    let spans = &mut request.resource_spans[0].scope_spans[0].spans;
    spans.push(spans[0].clone());
    spans.push(spans[0].clone());
    spans[1].trace_id = vec![0; 16];
    spans[2].span_id = vec![9; 8];
    let answer = send(&bench, "/v1/traces", &[PROTOBUF], request.encode_to_vec()).await;
    let partial = ExportTraceServiceResponse::decode(answer.body).unwrap().partial_success.unwrap();
    assert_eq!(partial.rejected_spans, 1);
    assert_eq!(bench.stored().spans.len(), 2);
}

/// A span whose attribute is a list in a list, and so on.
fn nested_attribute(depth: usize) -> String {
    let (open, close) = (r#"{"arrayValue":{"values":["#.repeat(depth), "]}}".repeat(depth));
    let value = format!(r#"{open}{{"stringValue":"x"}}{close}"#);
    trace_json(&json!({"attributes": [{"key": "deep", "value": "@"}]})).to_string().replace(r#""@""#, &value)
}

#[tokio::test]
async fn deep_json_is_read_or_refused_but_never_overflows() {
    let mut bench = Bench::new().await;
    let answer = send(&bench, "/v1/traces", &[JSON], nested_attribute(20)).await;
    assert_eq!((answer.status, bench.stored().spans.len()), (StatusCode::OK, 1));
    let answer = send(&bench, "/v1/traces", &[JSON], nested_attribute(5_000)).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    let unknown = format!(r#"{{"x":{}{}}}"#, "[".repeat(20_000), "]".repeat(20_000));
    assert_eq!(send(&bench, "/v1/traces", &[JSON], unknown).await.status, StatusCode::OK);
}

#[tokio::test]
async fn bad_requests() {
    let limits = Limits { max_wire_bytes: 4_000, max_body_bytes: 8_000, ..Limits::default() };
    let mut bench = Bench::limited(limits).await;
    let good = trace_request(&json!({})).encode_to_vec();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(&vec![b' '; 100_000]).unwrap();
    let bomb = gzip.finish().unwrap();
    let zstd_bomb = zstd::encode_all(vec![b' '; 100_000].as_slice(), 1).unwrap();
    let bad = StatusCode::BAD_REQUEST;
    let unsupported = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    let large = StatusCode::PAYLOAD_TOO_LARGE;
    let cases: Vec<(Headers<'_>, Vec<u8>, StatusCode, &str)> = vec![
        (&[PROTOBUF], vec![0xff; 64], bad, "protobuf"),
        (&[PROTOBUF], good[..good.len() - 3].to_vec(), bad, "protobuf"),
        (&[JSON], good.clone(), bad, "JSON"),
        (&[JSON], b"{\"resourceSpans\": [".to_vec(), bad, "EOF"),
        (&[JSON], b"[]".to_vec(), bad, "an object"),
        (&[JSON], b"{\"resourceSpans\":\"x\"}".to_vec(), bad, "resourceSpans"),
        (&[JSON], b"{} {}".to_vec(), bad, "trailing"),
        (&[JSON], Vec::new(), bad, "empty"),
        (&[JSON], nested_attribute(40).into_bytes(), bad, "recursion"),
        (&[("content-type", "text/plain")], good.clone(), unsupported, "Content-Type"),
        (&[], good.clone(), unsupported, "Content-Type"),
        (&[PROTOBUF, ("content-encoding", "br")], good.clone(), unsupported, "br"),
        (&[PROTOBUF, ("content-encoding", "gzip")], good.clone(), bad, "gzip"),
        (&[PROTOBUF, ("content-encoding", "zstd")], good.clone(), bad, "zstd"),
        (&[PROTOBUF, ("content-encoding", "gzip")], bomb[..20].to_vec(), bad, "gzip"),
        (&[PROTOBUF, ("content-encoding", "gzip")], bomb, large, "8000"),
        (&[JSON, ("content-encoding", "zstd")], zstd_bomb, large, "8000"),
        (&[PROTOBUF], vec![b' '; 4_001], large, "4000"),
    ];
    for (index, (headers, body, status, words)) in cases.into_iter().enumerate() {
        let answer = send(&bench, "/v1/traces", headers, body).await;
        assert_eq!(answer.status, status, "case {index}");
        // The error comes in the encoding of the request.
        let message = if headers.first() == Some(&PROTOBUF) {
            assert_eq!(answer.header("content-type"), "application/x-protobuf");
            rpc::Status::decode(answer.body).unwrap().message
        } else {
            serde_json::from_slice::<Json>(&answer.body).unwrap()["message"].as_str().unwrap().to_string()
        };
        assert!(message.contains(words), "case {index}: {message:?} does not say {words:?}");
        assert_eq!(bench.received(Protocol::OtlpHttp).failed_requests, index as u64 + 1);
    }
    let answer = send(&bench, "/v1/traces", &[PROTOBUF], good).await;
    assert_eq!(
        (answer.status, answer.body.len()),
        (StatusCode::OK, 0),
        "an untouched partial success is not sent"
    );
    assert_eq!(bench.stored().spans.len(), 1);
    let empty = send(&bench, "/v1/traces", &[PROTOBUF], "").await;
    assert_eq!(empty.status, StatusCode::OK);
}

/// One message as gRPC frames it.
async fn send_frame(bench: &Bench, headers: Headers<'_>, message: &[u8], compressed: bool) -> Answer {
    let mut frame = vec![u8::from(compressed)];
    frame.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    frame.extend(message);
    let path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
    let all: Vec<(&str, &str)> =
        [("content-type", "application/grpc")].into_iter().chain(headers.to_vec()).collect();
    post(bench.collector.grpc_routes().into_axum_router(), path, &all, frame).await
}

#[tokio::test]
async fn bad_grpc_messages() {
    let limits = Limits { max_body_bytes: 8_000, max_in_flight_bytes: 2_048, ..Limits::default() };
    let bench = Bench::limited(limits).await;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(&vec![b' '; 100_000]).unwrap();
    let bomb = gzip.finish().unwrap();
    let busy = trace_request(&json!({"name": "x".repeat(4_000)})).encode_to_vec();
    let with_gzip: Headers<'_> = &[("grpc-encoding", "gzip")];
    let (invalid, exhausted, unavailable) =
        (tonic::Code::InvalidArgument, tonic::Code::ResourceExhausted, tonic::Code::Unavailable);
    let cases: Vec<(Headers<'_>, &[u8], bool, tonic::Code, &str)> = vec![
        (&[], &[0xff; 64], false, invalid, "Protobuf"),
        (with_gzip, b"plain", true, invalid, "decompressing"),
        (&[], &[b' '; 8_001], false, exhausted, "too%20large"),
        (with_gzip, &bomb, true, exhausted, "8000"),
        (&[], &busy, false, unavailable, "later"),
    ];
    for (index, (headers, message, compressed, code, words)) in cases.into_iter().enumerate() {
        let answer = send_frame(&bench, headers, message, compressed).await;
        let text = answer.header("grpc-message");
        assert_eq!(answer.header("grpc-status"), (code as i32).to_string(), "case {index}: {text}");
        assert!(text.contains(words), "case {index}: {text:?} does not say {words:?}");
        // Only what may come again says when.
        assert_eq!(
            answer.headers.contains_key("grpc-status-details-bin"),
            code == unavailable,
            "case {index}"
        );
        assert_eq!(bench.received(Protocol::OtlpGrpc).failed_requests, index as u64 + 1);
    }
    let good = send_frame(&bench, &[], &trace_request(&json!({})).encode_to_vec(), false).await;
    assert_eq!((good.header("grpc-status"), bench.received(Protocol::OtlpGrpc).items), ("", 1));
}

#[tokio::test]
async fn too_much_in_flight_is_told_to_come_later() {
    let bench = Bench::limited(Limits { max_in_flight_bytes: 2_048, ..Limits::default() }).await;
    let answer = send(&bench, "/v1/logs", &[PROTOBUF], vec![0; 4_000]).await;
    assert_eq!((answer.status, answer.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "1"));
    let status = rpc::Status::decode(answer.body).unwrap();
    assert_eq!(status.details[0].type_url, rpc::RETRY_INFO_TYPE_URL);
    let retry = rpc::RetryInfo::decode(status.details[0].value.as_slice()).unwrap();
    assert_eq!(retry.retry_delay.unwrap().seconds, 1);
    let later = send(&bench, "/v1/logs", &[PROTOBUF], "").await;
    assert_eq!(later.status, StatusCode::OK, "the budget is given back");
}

#[tokio::test]
async fn log_records_keep_what_they_have() {
    let mut bench = Bench::new().await;
    let request = json!({"resourceLogs": [{"resource": {}, "scopeLogs": [{"logRecords": [
        {
            "timeUnixNano": "1700000000000000001", "observedTimeUnixNano": "1700000000000000002",
            "severityNumber": 17, "severityText": "Error", "eventName": "e",
            "body": {"kvlistValue": {"values": [{"key": "k", "value": {"intValue": 3}}]}},
            "traceId": TRACE, "spanId": "eee19b7ec3c1b174", "flags": 1,
            "attributes": [{"key": "a", "value": {"boolValue": true}}],
        },
        {"timeUnixNano": "9200000000000000000", "body": {"stringValue": "from the year 2261"}},
        {
            "severityNumber": 99, "body": {"stringValue": "no ids, no times"},
            "traceId": "00000000000000000000000000000000",
        },
    ]}]}]});
    let before = UnixNanos::now();
    let answer = send(&bench, "/v1/logs", &[JSON], request.to_string()).await;
    assert_eq!(answer.status, StatusCode::OK);
    let text = answer.text();
    assert!(text.contains(r#""rejectedLogRecords":"1""#) && text.contains("time_unix_nano"), "{text}");
    let logs = bench.stored().logs;
    assert_eq!(logs.len(), 2);
    assert_eq!(
        (logs[0].time, logs[0].observed),
        (UnixNanos(1_700_000_000_000_000_001), UnixNanos(1_700_000_000_000_000_002))
    );
    assert_eq!(
        (logs[0].severity.name(), logs[0].severity_text.as_str(), logs[0].event_name.as_str()),
        ("ERROR", "Error", "e")
    );
    assert_eq!(logs[0].body, Value::Map(vec![("k".into(), Value::Int(3))]));
    assert_eq!(logs[0].trace_id.unwrap().to_string(), TRACE);
    assert_eq!(&*logs[0].service, "unknown_service");
    assert!(logs[1].time >= before && logs[1].time == logs[1].observed);
    assert_eq!((logs[1].trace_id, logs[1].severity.name()), (None, ""));
}

#[tokio::test]
async fn envoys_access_logs_among_log_records_are_access_logs() {
    let mut bench = Bench::new().await;
    let line = r#"[2026-11-20T10:00:00.310Z] "GET /reviews/0 HTTP/1.1" 200 - via_upstream - "-" 0 295 12 11 "-" "curl" "id-1" "reviews:9080" "10.0.0.7:9080" outbound|9080|v1|reviews.bookinfo.svc.cluster.local 10.0.0.1:5 10.0.0.2:9080 10.0.0.1:6 - default"#;
    let request = json!({"resourceLogs": [{
        "resource": {"attributes": [
            {"key": "service.name", "value": {"stringValue": "productpage.bookinfo"}},
            {"key": "k8s.deployment.name", "value": {"stringValue": "productpage-v1"}},
        ]},
        "scopeLogs": [{"logRecords": [
            {"body": {"stringValue": line}, "traceId": TRACE, "spanId": "eee19b7ec3c1b174"},
            {
                "timeUnixNano": "1700000000000000000",
                "attributes": [
                    {"key": "response_code", "value": {"stringValue": "503"}},
                    {"key": "response_flags", "value": {"stringValue": "UF,URX"}},
                    {"key": "upstream_cluster", "value": {"stringValue": "inbound|9080||"}},
                    {"key": "duration", "value": {"stringValue": "7"}},
                    {"key": "source_workload", "value": {"stringValue": "gateway"}},
                    {"key": "tenant", "value": {"stringValue": "blue"}},
                ],
            },
            {"body": {"stringValue": "[2026-11-20] \"something else\" happened"}},
        ]}],
    }]});
    let answer = send(&bench, "/v1/logs", &[JSON], request.to_string()).await;
    assert_eq!(answer.text(), "{}");
    let stored = bench.stored();
    assert_eq!((stored.access_logs.len(), stored.logs.len()), (2, 1));
    let [client, server] = stored.access_logs.as_slice() else { panic!() };
    assert_eq!(client.reporter.name(), "source");
    assert_eq!(
        (client.source.workload.as_str(), client.source.namespace.as_str()),
        ("productpage-v1", "bookinfo")
    );
    assert_eq!(client.destination_service, "reviews.bookinfo.svc.cluster.local");
    assert_eq!(client.trace_id.unwrap().to_string(), TRACE);
    assert_eq!((client.duration_us, client.response_bytes), (12_000, 295));
    assert_eq!(server.reporter.name(), "destination");
    assert_eq!((server.time, server.duration_us), (UnixNanos(1_700_000_000_000_000_000), 7_000));
    assert_eq!((server.response_code, server.response_flags.to_string().as_str()), (503, "UF,URX"));
    assert_eq!(
        (server.source.workload.as_str(), server.destination.workload.as_str()),
        ("gateway", "productpage-v1")
    );
    assert_eq!(server.attributes.text("tenant"), Some("blue"));
}

/// Posts metrics of one resource and gives back the samples as lines.
async fn metric_lines(bench: &mut Bench, metrics: Json) -> (Vec<String>, String) {
    let request = json!({"resourceMetrics": [{
        "resource": {"attributes": [
            {"key": "service.name", "value": {"stringValue": "shop"}},
            {"key": "service.namespace", "value": {"stringValue": "prod"}},
            {"key": "service.instance.id", "value": {"stringValue": "i1"}},
            {"key": "host.name", "value": {"stringValue": "h"}},
        ]},
        "scopeMetrics": [{"metrics": metrics}],
    }]});
    let answer = send(bench, "/v1/metrics", &[JSON], request.to_string()).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let text = answer.text();
    let lines = bench.stored().lines();
    (lines.into_iter().filter(|line| !line.starts_with("target_info")).collect(), text)
}

#[tokio::test]
async fn metrics_become_prometheus_series() {
    let mut bench = Bench::new().await;
    let point = json!({"timeUnixNano": "1700000000000000000", "asInt": "5", "attributes": [{"key": "http.method", "value": {"stringValue": "GET"}}]});
    let (lines, _) = metric_lines(&mut bench, json!([
        {"name": "http.requests", "unit": "{request}", "sum": {"aggregationTemporality": 2, "isMonotonic": true, "dataPoints": [point]}},
        {"name": "pool.size", "sum": {"aggregationTemporality": 2, "dataPoints": [{"timeUnixNano": "1700000000000000000", "asDouble": 2.5}]}},
        {"name": "cpu.utilization", "unit": "1", "gauge": {"dataPoints": [
            {"timeUnixNano": "1700000000000000000", "asDouble": "NaN"},
            {"timeUnixNano": "1700000001000000000", "flags": 1},
        ]}},
        {"name": "latency", "unit": "ms", "histogram": {"aggregationTemporality": 2, "dataPoints": [
            {"timeUnixNano": "1700000000000000000", "count": "6", "sum": 321, "bucketCounts": [1, "2", 3], "explicitBounds": [5, 25]},
        ]}},
        {"name": "old", "summary": {"dataPoints": [
            {"timeUnixNano": "1700000000000000000", "count": 2, "sum": 3, "quantileValues": [{"quantile": 0.5, "value": 1.5}]},
        ]}},
        {"name": "no.data"},
    ])).await;
    let identity = r#"instance="i1", job="prod/shop""#;
    assert_eq!(
        lines,
        [
            format!("cpu_utilization_ratio{{{identity}}} NaN @1700000000000"),
            format!("cpu_utilization_ratio{{{identity}}} stale @1700000001000"),
            format!("http_requests_total{{http_method=\"GET\", {identity}}} 5 @1700000000000"),
            format!("latency_milliseconds_bucket{{{identity}, le=\"+Inf\"}} 6 @1700000000000"),
            format!("latency_milliseconds_bucket{{{identity}, le=\"25.0\"}} 3 @1700000000000"),
            format!("latency_milliseconds_bucket{{{identity}, le=\"5.0\"}} 1 @1700000000000"),
            format!("latency_milliseconds_count{{{identity}}} 6 @1700000000000"),
            format!("latency_milliseconds_sum{{{identity}}} 321 @1700000000000"),
            format!("old_count{{{identity}}} 2 @1700000000000"),
            format!("old_sum{{{identity}}} 3 @1700000000000"),
            format!("old{{{identity}, quantile=\"0.5\"}} 1.5 @1700000000000"),
            format!("pool_size{{{identity}}} 2.5 @1700000000000"),
        ]
    );
}

#[tokio::test]
async fn what_counts_gets_a_zero_where_it_began() {
    let mut bench =
        Bench::with(CollectorConfig { start_time_zeros: true, ..CollectorConfig::default() }).await;
    let point = |time_s: u64, value: u64| json!({"startTimeUnixNano": "1700000000000000000", "timeUnixNano": format!("{time_s}000000000"), "asInt": value});
    let counter = |name: &str, temporality: u8, points: Json| json!({"name": name, "sum": {"aggregationTemporality": temporality, "isMonotonic": true, "dataPoints": points}});
    let (lines, _) = metric_lines(
        &mut bench,
        json!([
            counter("c", 2, json!([point(1_700_000_010, 3), point(1_700_000_020, 4)])),
            counter("d", 1, json!([point(1_700_000_010, 3)])),
            {"name": "g", "gauge": {"dataPoints": [point(1_700_000_010, 1)]}},
            {"name": "h", "histogram": {"aggregationTemporality": 2, "dataPoints": [
                {"startTimeUnixNano": "1700000000000000000", "timeUnixNano": "1700000010000000000", "count": 1, "sum": 2},
            ]}},
        ]),
    )
    .await;
    let i = r#"instance="i1", job="prod/shop""#;
    assert_eq!(
        lines,
        [
            format!("c_total{{{i}}} 0 @1700000000000"),
            format!("c_total{{{i}}} 3 @1700000010000"),
            format!("c_total{{{i}}} 4 @1700000020000"),
            format!("d_total{{{i}}} 3 @1700000010000"),
            format!("g{{{i}}} 1 @1700000010000"),
            format!("h_bucket{{{i}, le=\"+Inf\"}} 0 @1700000000000"),
            format!("h_bucket{{{i}, le=\"+Inf\"}} 1 @1700000010000"),
            format!("h_count{{{i}}} 0 @1700000000000"),
            format!("h_count{{{i}}} 1 @1700000010000"),
            format!("h_sum{{{i}}} 0 @1700000000000"),
            format!("h_sum{{{i}}} 2 @1700000010000"),
        ]
    );
}

#[tokio::test]
async fn the_resource_is_kept_as_target_info() {
    let mut bench = Bench::new().await;
    let gauge = json!([{"name": "g", "gauge": {"dataPoints": [{"timeUnixNano": "1700000000000000000", "asInt": 1}]}}]);
    let request = json!({"resourceMetrics": [{
        "resource": {"attributes": [
            {"key": "service.name", "value": {"stringValue": "shop"}},
            {"key": "host.name", "value": {"stringValue": "h"}},
            {"key": "host_name", "value": {"stringValue": "i"}},
        ]},
        "scopeMetrics": [{"metrics": gauge}],
    }]});
    send(&bench, "/v1/metrics", &[JSON], request.to_string()).await;
    assert_eq!(
        bench.stored().lines(),
        [r#"g{job="shop"} 1 @1700000000000"#, r#"target_info{host_name="h;i", job="shop"} 1 @1700000000000"#,]
    );
}

#[tokio::test]
async fn deltas_are_added_up() {
    let mut bench = Bench::new().await;
    let metrics = |second: u32, add: u32| {
        let time = format!("17000000{second:02}000000000");
        json!([
            {"name": "c", "sum": {"aggregationTemporality": 1, "isMonotonic": true, "dataPoints": [{"timeUnixNano": time, "asInt": add}]}},
            {"name": "h", "histogram": {"aggregationTemporality": 1, "dataPoints": [
                {"timeUnixNano": time, "count": add, "sum": add, "bucketCounts": [add, 0], "explicitBounds": [1]},
            ]}},
            {"name": "e", "exponentialHistogram": {"aggregationTemporality": 1, "dataPoints": [
                {"timeUnixNano": time, "count": add, "sum": add, "scale": 0, "positive": {"offset": 0, "bucketCounts": [add]}},
            ]}},
        ])
    };
    metric_lines(&mut bench, metrics(10, 2)).await;
    let (lines, text) = metric_lines(&mut bench, metrics(20, 3)).await;
    assert_eq!(text, "{}");
    let identity = r#"instance="i1", job="prod/shop""#;
    assert_eq!(
        lines,
        [
            format!("c_total{{{identity}}} 5 @1700000020000"),
            format!("e{{{identity}}} {{count:5 sum:5 schema:0 [1]:5}} @1700000020000"),
            format!("h_bucket{{{identity}, le=\"+Inf\"}} 5 @1700000020000"),
            format!("h_bucket{{{identity}, le=\"1.0\"}} 5 @1700000020000"),
            format!("h_count{{{identity}}} 5 @1700000020000"),
            format!("h_sum{{{identity}}} 5 @1700000020000"),
        ]
    );
    let (lines, text) = metric_lines(&mut bench, metrics(20, 3)).await;
    assert!(lines.is_empty(), "a resend changes no total: {lines:?}");
    assert!(text.contains(r#""rejectedDataPoints":"3""#), "{text}");
}

#[tokio::test]
async fn bad_data_points_are_refused_alone() {
    let good = json!({"timeUnixNano": "1700000000000000000", "asInt": 1});
    let cases = [
        (json!({"name": "m", "gauge": {"dataPoints": [{"asInt": 1}, good]}}), "time_unix_nano"),
        (
            json!({"name": "m", "gauge": {"dataPoints": [{"timeUnixNano": "1700000000000000000"}, good]}}),
            "no value",
        ),
        (
            json!({"name": "m", "gauge": {"dataPoints": [{"timeUnixNano": "9200000000000000000", "asInt": 1}, good]}}),
            "future",
        ),
        (json!({"name": "m", "sum": {"dataPoints": [good]}}), "aggregation_temporality"),
        (json!({"name": "...", "gauge": {"dataPoints": [good]}}), "no letter"),
        (
            json!({"name": "m", "histogram": {"aggregationTemporality": 2, "dataPoints": [
                {"timeUnixNano": "1700000000000000000", "bucketCounts": [1], "explicitBounds": [1, 2]},
            ]}}),
            "do not fit",
        ),
        (
            json!({"name": "m", "histogram": {"aggregationTemporality": 2, "dataPoints": [
                {"timeUnixNano": "1700000000000000000", "bucketCounts": [1, 1, 1], "explicitBounds": [2, 1]},
            ]}}),
            "ascend",
        ),
        (
            json!({"name": "m", "exponentialHistogram": {"aggregationTemporality": 2, "dataPoints": [
                {"timeUnixNano": "1700000000000000000", "scale": 2000},
            ]}}),
            "scale",
        ),
    ];
    let mut bench = Bench::new().await;
    for (index, (metric, words)) in cases.into_iter().enumerate() {
        let kept = json!({"name": format!("kept{index}"), "gauge": {"dataPoints": [good]}});
        let (lines, text) = metric_lines(&mut bench, json!([metric, kept])).await;
        assert!(lines.iter().any(|line| line.starts_with("kept")), "{metric}: {lines:?}");
        assert!(text.contains(r#""rejectedDataPoints":"1""#) && text.contains(words), "{metric}: {text}");
    }
}

/// OpenTelemetry's own examples, with the old dates that they have: nothing of them is refused.
#[tokio::test]
async fn opentelemetrys_examples_are_taken_whole() {
    let Some(folder) = conformance("otlp") else { return };
    let bench = Bench::new().await;
    for (file, path) in [
        ("trace.json", "/v1/traces"),
        ("logs.json", "/v1/logs"),
        ("events.json", "/v1/logs"),
        ("metrics.json", "/v1/metrics"),
    ] {
        let body = std::fs::read(folder.join(file)).unwrap();
        let answer = send(&bench, path, &[JSON], body).await;
        assert_eq!((answer.status, answer.text().as_str()), (StatusCode::OK, "{}"), "{file}");
    }
}
