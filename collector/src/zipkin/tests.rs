use http::StatusCode;
use pharos_model::{Span, SpanKind, SpanStatus, UnixNanos, Value};
use pharos_proto::zipkin as proto;
use prost::Message;
use serde_json::{Value as Json, json};

use crate::{
    Protocol,
    bench::{Answer, Bench, Headers, conformance, post},
};

const JSON: (&str, &str) = ("content-type", "application/json");

async fn send(bench: &Bench, headers: Headers<'_>, body: impl Into<bytes::Bytes>) -> Answer {
    post(bench.collector.zipkin_router(), "/api/v2/spans", headers, body).await
}

fn now_us() -> i64 {
    UnixNanos::now().micros() - 60_000_000
}

fn span(over: &Json) -> Json {
    let mut span = json!({"traceId": "463ac35c9f6413ad48485a3953bb6124", "id": "a2fb4a1d1a96d312", "timestamp": now_us()});
    for (key, value) in over.as_object().unwrap() {
        span[key] = value.clone();
    }
    span
}

async fn one(over: Json) -> Span {
    let mut bench = Bench::new().await;
    let answer = send(&bench, &[JSON], json!([span(&over)]).to_string()).await;
    assert_eq!((answer.status, answer.body.len()), (StatusCode::ACCEPTED, 0), "{}", answer.text());
    let mut spans = bench.stored().spans;
    assert_eq!(spans.len(), 1);
    spans.remove(0)
}

#[tokio::test]
async fn every_field_of_a_span_is_kept() {
    let time = now_us();
    let span = one(json!({
        "parentId": "1", "kind": "CLIENT", "name": "GET /Reviews", "timestamp": time, "duration": 207,
        "localEndpoint": {"serviceName": "ProductPage", "ipv4": "10.0.0.1", "port": 80},
        "remoteEndpoint": {"serviceName": "Reviews", "ipv6": "2001:db8::c001", "port": 9080},
        "annotations": [{"timestamp": time + 3, "value": "foo"}],
        "tags": {"http.path": "/api", "peer.service": "mine", "error": "no luck"},
        "shared": true, "debug": true,
    }))
    .await;
    assert_eq!(
        (&*span.service, span.name.as_str(), span.kind),
        ("productpage", "get /reviews", SpanKind::Client)
    );
    assert_eq!(span.parent_span_id.unwrap().to_string(), "0000000000000001");
    assert_eq!((span.start, span.duration_ns), (UnixNanos::from_micros(time), 207_000));
    assert_eq!((span.status, span.status_message.as_str()), (SpanStatus::Error, "no luck"));
    assert_eq!((span.events[0].name.as_str(), span.events[0].time.micros()), ("foo", time + 3));
    let attributes: Vec<(&str, String)> =
        span.attributes.iter().map(|(key, value)| (key, value.to_text())).collect();
    let expected = [
        ("http.path", "/api"),
        ("peer.service", "mine"),
        ("error", "no luck"),
        ("zipkin.tags", "3"),
        ("zipkin.shared", "true"),
        ("zipkin.debug", "true"),
        ("zipkin.remote.service_name", "reviews"),
        ("zipkin.remote.ipv6", "2001:db8::c001"),
        ("zipkin.remote.port", "9080"),
    ];
    assert_eq!(attributes, expected.map(|(key, value)| (key, value.to_string())));
    assert_eq!(span.resource.text("zipkin.local.ipv4"), Some("10.0.0.1"));
    assert_eq!(span.resource.get("zipkin.local.port"), Some(&Value::Int(80)));
}

#[tokio::test]
async fn what_is_absent_is_known_to_be_absent() {
    let fact = |span: &Span, key: &str| span.attributes.get(key) == Some(&Value::Bool(true));
    let bare = one(json!({"timestamp": null})).await;
    assert!(fact(&bare, "zipkin.timestamp_absent") && fact(&bare, "zipkin.duration_absent"));
    assert!(fact(&bare, "zipkin.service_absent"));
    assert_eq!((&*bare.service, bare.kind, bare.duration_ns), ("unknown_service", SpanKind::Unspecified, 0));
    let late = one(
        json!({"timestamp": 0, "annotations": [{"timestamp": 1_700_000_000_000_007_i64, "value": "sr"}]}),
    )
    .await;
    assert_eq!(late.start.micros(), 1_700_000_000_000_007);
    let whole = one(json!({"duration": 1, "localEndpoint": {"serviceName": "a"}})).await;
    assert!(!fact(&whole, "zipkin.timestamp_absent") && !fact(&whole, "zipkin.duration_absent"));
    let self_parent = one(json!({"parentId": "a2fb4a1d1a96d312"})).await;
    assert_eq!(self_parent.parent_span_id, None);
}

#[tokio::test]
async fn client_and_server_that_share_an_id_are_two_spans() {
    let mut bench = Bench::new().await;
    let time = now_us();
    let halves = json!([
        span(&json!({"kind": "CLIENT", "timestamp": time, "localEndpoint": {"serviceName": "a"}})),
        span(
            &json!({"kind": "SERVER", "timestamp": time, "localEndpoint": {"serviceName": "b"}, "shared": true})
        ),
    ]);
    for _ in 0..2 {
        assert_eq!(send(&bench, &[JSON], halves.to_string()).await.status, StatusCode::ACCEPTED);
    }
    let spans = bench.stored().spans;
    assert_eq!(spans.len(), 2, "a batch that is sent twice is stored once");
    assert_eq!(spans[0].span_id, spans[1].span_id);
    assert_eq!(spans[1].attributes.get("zipkin.shared"), Some(&Value::Bool(true)));
}

#[tokio::test]
async fn late_pieces_without_a_timestamp_are_all_kept_and_their_resends_are_not() {
    let mut bench = Bench::new().await;
    let time = now_us();
    let pieces = json!([
        span(&json!({"timestamp": time, "kind": "SERVER"})),
        span(&json!({"timestamp": null, "kind": "SERVER", "tags": {"a": "1"}})),
        span(&json!({"timestamp": null, "kind": "SERVER", "tags": {"b": "2"}})),
    ]);
    for _ in 0..2 {
        send(&bench, &[JSON], pieces.to_string()).await;
    }
    assert_eq!(bench.stored().spans.len(), 3);
}

#[tokio::test]
async fn protobuf_says_the_same_as_json() {
    let time = now_us();
    let json = one(json!({
        "kind": "PRODUCER", "name": "send", "timestamp": time, "duration": 5,
        "localEndpoint": {"serviceName": "a", "ipv4": "1.2.3.4"}, "tags": {"k": "v"},
    }))
    .await;
    let message = proto::Span {
        trace_id: hex::decode("463ac35c9f6413ad48485a3953bb6124").unwrap(),
        id: hex::decode("a2fb4a1d1a96d312").unwrap(),
        kind: proto::span::Kind::Producer.into(),
        name: "send".into(),
        timestamp: time as u64,
        duration: 5,
        local_endpoint: Some(proto::Endpoint {
            service_name: "a".into(),
            ipv4: vec![1, 2, 3, 4],
            ..Default::default()
        }),
        tags: [("k".to_string(), "v".to_string())].into(),
        ..proto::Span::default()
    };
    let mut bench = Bench::new().await;
    let content_type = [("content-type", "application/x-protobuf")];
    let list = proto::ListOfSpans { spans: vec![message.clone()] };
    assert_eq!(send(&bench, &content_type, list.encode_to_vec()).await.status, StatusCode::ACCEPTED);
    assert_eq!(bench.stored().spans, [json]);
    let short = proto::ListOfSpans { spans: vec![proto::Span { id: vec![1], ..message }] };
    let answer = send(&bench, &content_type, short.encode_to_vec()).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert!(answer.text().contains("id has 1 bytes"), "{}", answer.text());
}

#[tokio::test]
async fn bad_posts_are_refused_with_a_text_that_names_the_fault() {
    let mut bench = Bench::new().await;
    let cases: Vec<(Headers<'_>, String, &str)> = vec![
        (&[JSON], r#"[{"traceId":"#.into(), "EOF"),
        (&[JSON], r#"{"traceId":"1","id":"2"}"#.into(), "list"),
        (&[JSON], r#"[{"name":"x"}]"#.into(), "traceId"),
        (&[JSON], r#"[{"traceId":"1"}]"#.into(), "`id`"),
        (&[JSON], json!([span(&json!({"traceId": "xyz"}))]).to_string(), "span 0: traceId"),
        (&[JSON], json!([span(&json!({})), span(&json!({"id": "0"}))]).to_string(), "span 1: id"),
        (&[JSON], json!([span(&json!({"id": "00112233445566778"}))]).to_string(), "span 0: id"),
        (&[JSON], json!([span(&json!({"parentId": "?"}))]).to_string(), "parentId"),
        (&[JSON], json!([span(&json!({"kind": "BOTH"}))]).to_string(), "BOTH"),
        (&[JSON], json!([span(&json!({"timestamp": "soon"}))]).to_string(), "[0].timestamp"),
        (&[JSON], json!([span(&json!({"timestamp": i64::MAX}))]).to_string(), "future"),
        (
            &[JSON],
            json!([span(&json!({"localEndpoint": {"port": 70_000}}))]).to_string(),
            "[0].localEndpoint.port",
        ),
        (&[JSON], json!([span(&json!({"tags": {"a": {}}}))]).to_string(), "[0].tags.a"),
        (&[JSON], json!([span(&json!({"binaryAnnotations": []}))]).to_string(), "v1"),
        (
            &[JSON],
            json!([span(&json!({"annotations": [{"timestamp": 1, "value": "sr", "endpoint": {}}]}))])
                .to_string(),
            "v1",
        ),
        (&[JSON, ("content-encoding", "gzip")], "plain".into(), "gzip"),
        (&[("content-type", "application/x-protobuf")], "plain".into(), "protobuf"),
    ];
    for (headers, body, words) in cases {
        let answer = send(&bench, headers, body.clone()).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
        assert!(answer.text().contains(words), "{body}: {:?} does not say {words:?}", answer.text());
    }
    let thrift = send(&bench, &[("content-type", "application/x-thrift")], "x").await;
    assert_eq!(thrift.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(bench.received(Protocol::Zipkin).failed_requests, 18);
    for empty in ["", "[]", " [ ] "] {
        assert_eq!(send(&bench, &[JSON], empty).await.status, StatusCode::ACCEPTED);
    }
    assert_eq!(send(&bench, &[], json!([span(&json!({}))]).to_string()).await.status, StatusCode::ACCEPTED);
    assert_eq!(bench.stored().spans.len(), 1);
}

/// Zipkin's own test traces, shifted to the present: every span is kept.
#[tokio::test]
async fn zipkins_test_traces_are_taken_whole() {
    let Some(folder) = conformance("zipkin") else { return };
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let is_trace = path.extension().is_some_and(|ext| ext == "json")
            && !path.ends_with("expected_dependencies.json");
        if !is_trace {
            continue;
        }
        let mut bench = Bench::new().await;
        let mut spans: Vec<Json> = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let newest = spans.iter().filter_map(|span| span["timestamp"].as_i64()).max().unwrap();
        for span in &mut spans {
            if let Some(time) = span["timestamp"].as_i64() {
                span["timestamp"] = json!(time - newest + now_us());
            }
        }
        let answer = send(&bench, &[JSON], serde_json::to_vec(&spans).unwrap()).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{path:?}: {}", answer.text());
        assert_eq!(bench.stored().spans.len(), spans.len(), "{path:?}");
    }
}
