use std::collections::{BTreeMap, BTreeSet};

use axum::body::Body;
use pharos_model::{Span, SpanStatus, UnixNanos};
use pharos_storage::Batch;
use serde_json::{Value, json};

use super::{Bench, conformance_folder, json_files, query_string};
use crate::{graph::tests::text, traces::tests::spans_of_otlp_json};

/// Nanoseconds that move 2017-01-26 to yesterday.
fn shift_ns() -> i64 {
    const DAY_NS: i64 = 86_400_000_000_000;
    let yesterday = UnixNanos::now().0.div_euclid(DAY_NS) - 1;
    (yesterday - 17_192) * DAY_NS
}

fn shifted(mut span: Span, shift_ns: i64) -> Span {
    span.start = span.start.plus_nanos(shift_ns);
    for event in &mut span.events {
        event.time = event.time.plus_nanos(shift_ns);
    }
    span
}

fn time_of(query: &Value, key: &str, shift_ns: i64) -> i64 {
    let time: jiff::Timestamp = text(query, key).parse().expect("a time");
    i64::try_from(time.as_nanosecond()).expect("in range") + shift_ns
}

fn tags_of(query: &Value) -> Option<String> {
    let tags = query["Tags"].as_object()?;
    let texts: BTreeMap<&str, String> = tags
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str().map_or_else(|| value.to_string(), str::to_string)))
        .collect();
    Some(json!(texts).to_string())
}

fn legacy_query(query: &Value, shift_ns: i64) -> String {
    let mut pairs: Vec<(&str, String)> = vec![
        ("service", text(query, "ServiceName").into()),
        ("limit", query["NumTraces"].to_string()),
        ("start", (time_of(query, "StartTimeMin", shift_ns) / 1_000).to_string()),
        ("end", (time_of(query, "StartTimeMax", shift_ns) / 1_000).to_string()),
        ("operation", text(query, "OperationName").into()),
    ];
    for (key, name) in [("DurationMin", "minDuration"), ("DurationMax", "maxDuration")] {
        if query[key] != 0 {
            pairs.push((name, format!("{}ns", query[key])));
        }
    }
    pairs.extend(tags_of(query).map(|tags| ("tags", tags)));
    query_string(pairs.iter().map(|(key, value)| (*key, value.as_str())))
}

fn v3_query(query: &Value, shift_ns: i64) -> String {
    let time = |key| {
        let ns = i128::from(time_of(query, key, shift_ns));
        jiff::Timestamp::from_nanosecond(ns).expect("in range").to_string()
    };
    let mut pairs: Vec<(&str, String)> = vec![
        ("query.serviceName", text(query, "ServiceName").into()),
        ("query.searchDepth", query["NumTraces"].to_string()),
        ("query.startTimeMin", time("StartTimeMin")),
        ("query.startTimeMax", time("StartTimeMax")),
        ("query.operationName", text(query, "OperationName").into()),
    ];
    for (key, name) in [("DurationMin", "query.durationMin"), ("DurationMax", "query.durationMax")] {
        if query[key] != 0 {
            pairs.push((name, format!("{}ns", query[key])));
        }
    }
    pairs.extend(tags_of(query).map(|tags| ("query.attributes", tags)));
    query_string(pairs.iter().map(|(key, value)| (*key, value.as_str())))
}

#[tokio::test(flavor = "multi_thread")]
async fn jaegers_own_cases() {
    let Some(folder) = conformance_folder("jaeger") else { return };
    let (bench, shift_ns) = (Bench::new().await, shift_ns());
    let mut ids: BTreeMap<String, String> = BTreeMap::new();
    for (name, document) in json_files(&folder.join("traces")) {
        let spans: Vec<Span> = spans_of_otlp_json(&document).expect(&name);
        ids.insert(name, spans[0].trace_id.to_string());
        bench.append(Batch::Spans(spans.into_iter().map(|span| shifted(span, shift_ns)).collect())).await;
    }
    let queries: Value =
        serde_json::from_slice(&std::fs::read(folder.join("queries.json")).expect("readable")).expect("JSON");
    for round in ["head", "files"] {
        for case in queries.as_array().expect("a list") {
            let caption = text(case, "Caption");
            let want: BTreeSet<&str> = case["ExpectedFixtures"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|name| Some(ids.get(name.as_str()?)?.as_str()))
                .collect();
            let (status, body) =
                bench.get(&format!("/api/traces?{}", legacy_query(&case["Query"], shift_ns))).await;
            assert_eq!(status, 200, "{caption}: {body}");
            let padded: Vec<String> = body["data"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|trace| format!("{:0>32}", text(trace, "traceID")))
                .collect();
            assert_eq!(
                padded.iter().map(String::as_str).collect::<BTreeSet<_>>(),
                want,
                "{round}: legacy {caption}"
            );
            let v3 = v3_query(&case["Query"], shift_ns);
            let (status, body) = bench.get(&format!("/api/v3/trace-summaries?{v3}")).await;
            assert_eq!(status, 200, "{caption}: {body}");
            let found: BTreeSet<&str> = body["summaries"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|summary| text(summary, "traceId"))
                .collect();
            assert_eq!(found, want, "{round}: summaries {caption}");
            let (status, body) = bench.get(&format!("/api/v3/traces?{v3}")).await;
            assert_eq!(status, 200, "{caption}: {body}");
        }
        if round == "head" {
            bench.storage.flush().await.expect("flushed");
        }
    }
    let document = std::fs::read(folder.join("transform/otlp2jaeger-in.json")).expect("readable");
    let (status, body) = bench.post("/api/transform", "application/json", Body::from(document)).await;
    assert_eq!(status, 200, "{body}");
    let golden = std::fs::read(folder.join("transform/otlp2jaeger-out.json")).expect("readable");
    let golden: Value = serde_json::from_slice(&golden).expect("JSON");
    let spans = |document: &Value| document["data"][0]["spans"].as_array().map(Vec::len);
    assert_eq!(spans(&body), spans(&golden));
    assert_eq!(body["data"][0]["processes"], golden["data"][0]["processes"]);
}

fn span(trace: u64, id: u64, parent: Option<u64>, start: UnixNanos) -> Span {
    let id_of = |id: u64| format!("{id:x}").parse().expect("an id");
    Span {
        trace_id: format!("{trace:x}").parse().expect("an id"),
        span_id: id_of(id),
        parent_span_id: parent.map(id_of),
        name: format!("op{id}"),
        start,
        duration_ns: 5_000_000,
        service: if id == 1 { "front".into() } else { "back".into() },
        status: if id == 3 { SpanStatus::Error } else { SpanStatus::Unset },
        ..Span::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn newest_traces_come_first_and_summaries_count() {
    let bench = Bench::new().await;
    let now = UnixNanos::now();
    for trace in 1..=5u64 {
        let start = now.plus_nanos(-1_000_000_000 * trace as i64);
        let spans = vec![
            span(trace, 1, None, start),
            span(trace, 2, Some(1), start.plus_nanos(1_000_000)),
            span(trace, 3, Some(if trace == 2 { 99 } else { 2 }), start.plus_nanos(2_000_000)),
        ];
        bench.append(Batch::Spans(spans)).await;
    }
    let (_, body) = bench.get("/api/traces?service=back&limit=2").await;
    let ids: Vec<&str> =
        body["data"].as_array().into_iter().flatten().map(|trace| text(trace, "traceID")).collect();
    assert_eq!(ids, ["0000000000000001", "0000000000000002"]);
    assert_eq!(body["data"][0]["spans"].as_array().map(Vec::len), Some(3));
    let (_, body) =
        bench.get("/api/traces?service=back&tags=%7B%22error%22%3A%22true%22%7D&operation=op3").await;
    assert_eq!(body["data"].as_array().map(Vec::len), Some(5));
    let time = |ns: i64| jiff::Timestamp::from_nanosecond(i128::from(ns)).expect("in range").to_string();
    let (start, end) = (time(now.0 - 60_000_000_000), time(now.0));
    // Without a service every trace of the time is meant.
    let query = query_string([
        ("query.startTimeMin", start.as_str()),
        ("query.startTimeMax", &end),
        ("query.searchDepth", "2"),
    ]);
    let (_, body) = bench.get(&format!("/api/v3/trace-summaries?{query}")).await;
    assert_eq!(body["summaries"].as_array().map(Vec::len), Some(2), "{body}");
    let second = &body["summaries"][1];
    assert_eq!((text(second, "rootServiceName"), text(second, "rootOperationName")), ("front", "op1"));
    assert_eq!(
        (&second["spanCount"], &second["errorSpanCount"], &second["orphanSpanCount"]),
        (&json!(3), &json!(1), &json!(1))
    );
    assert_eq!(
        second["services"],
        json!([
            { "name": "back", "spanCount": 2, "errorSpanCount": 1 },
            { "name": "front", "spanCount": 1, "errorSpanCount": 0 },
        ])
    );
    let (_, body) = bench.get("/api/services").await;
    assert_eq!((&body["data"], &body["total"]), (&json!(["back", "front"]), &json!(2)));
    let (_, body) = bench.get("/api/services/back/operations").await;
    assert_eq!(body["data"], json!(["op2", "op3"]));
    let (_, body) = bench.get("/api/v3/operations?service=front").await;
    assert_eq!(body["operations"], json!([{ "name": "op1", "spanKind": "internal" }]));
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_in_every_form_and_errors_in_jaegers() {
    let bench = Bench::new().await;
    bench.append(Batch::Spans(vec![span(0xabc, 1, None, UnixNanos::now())])).await;
    for id in
        ["abc", "ABC", "0000000000000abc", "00000000000000000000000000000abc", "AAAAAAAAAAAAAAAAAAAKvA=="]
    {
        let (status, body) = bench.get(&format!("/api/traces/{}", id.replace('=', "%3D"))).await;
        assert_eq!((status.as_u16(), text(&body["data"][0], "traceID")), (200, "0000000000000abc"), "{id}");
    }
    let (status, body) = bench.get("/api/v3/traces/abc").await;
    assert_eq!(status, 200);
    let span = &body["result"]["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
    assert_eq!(text(span, "traceId"), "00000000000000000000000000000abc");
    assert_eq!(bench.get("/api/traces/abd").await.0, 404);
    assert_eq!(bench.get("/api/v3/traces/abd").await.0, 404);
    let (status, body) = bench.get("/api/traces?traceID=abc&traceID=abd").await;
    assert_eq!((status.as_u16(), body["data"].as_array().map(Vec::len)), (200, Some(1)));
    assert_eq!(text(&body["errors"][0], "traceID"), "0000000000000abd");
    for (uri, message) in [
        ("/api/traces", "service"),
        ("/api/traces?service=a&minDuration=5", "minDuration"),
        ("/api/traces?service=a&minDuration=5s&maxDuration=1s", "shorter"),
        ("/api/traces?service=a&tags=x", "tags"),
        ("/api/traces?service=a&tag=x", "key:value"),
        ("/api/traces?service=a&start=x", "start"),
        ("/api/traces?service=a&limit=0", "limit"),
        ("/api/traces/xyz%20", "no trace id"),
        ("/api/operations", "service"),
    ] {
        let (status, body) = bench.get(uri).await;
        assert_eq!(status, 400, "{uri}");
        assert!(text(&body["errors"][0], "msg").contains(message), "{uri}: {body}");
    }
    let (status, body) = bench.get("/api/v3/traces?query.serviceName=a").await;
    assert_eq!((status.as_u16(), &body["error"]["httpCode"]), (400, &json!(400)));
    let (status, body) = bench.post("/api/transform", "application/json", "{}").await;
    assert_eq!(status, 400);
    assert!(text(&body["errors"][0], "msg").contains("resourceSpans"), "{body}");
}
