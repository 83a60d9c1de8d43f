use axum::{body::Body, http::Request};
use futures::StreamExt;
use pharos_model::{AccessLog, Peer, ResponseFlags, UnixNanos};
use pharos_storage::Batch;
use serde_json::Value;
use tower::ServiceExt;

use super::Bench;

fn logs(count: i64, at_ms: i64) -> Vec<AccessLog> {
    (0..count)
        .map(|n| AccessLog {
            // Three rows share each millisecond.
            time: UnixNanos::from_millis(at_ms + n / 3),
            duration_us: n * 1_000,
            source: Peer { workload: "reviews-v2".into(), namespace: "bookinfo".into(), ..Peer::default() },
            destination_service: "ratings.bookinfo.svc.cluster.local".into(),
            request_protocol: "http".into(),
            method: "GET".into(),
            path: format!("/ratings/{n}"),
            response_code: if n % 5 == 0 { 503 } else { 200 },
            response_flags: ResponseFlags::parse(if n % 5 == 0 { "UH" } else { "-" }),
            request_id: format!("r{n}"),
            trace_id: format!("{:x}", n + 1).parse().ok(),
            ..AccessLog::default()
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_hold_every_row_once_newest_first() {
    let bench = Bench::new().await;
    let at_ms = UnixNanos::now().millis() - 600_000;
    bench.append(Batch::AccessLogs(logs(50, at_ms))).await;
    let (mut paths, mut before) = (Vec::new(), String::new());
    loop {
        let (status, page) = bench.get(&format!("/api/v1/access-logs?limit=7&before={before}")).await;
        assert_eq!(status, 200, "{page}");
        let rows = page["rows"].as_array().expect("rows");
        let times: Vec<i64> = rows.iter().filter_map(|row| row["timeUnixUs"].as_i64()).collect();
        assert!(times.is_sorted_by(|a, b| a >= b), "{times:?}");
        paths.extend(rows.iter().filter_map(|row| row["path"].as_str().map(str::to_string)));
        match page["nextBefore"].as_str() {
            Some(next) => before = next.to_string(),
            None => break,
        }
    }
    assert_eq!(paths.len(), 50);
    paths.sort();
    paths.dedup();
    assert_eq!(paths.len(), 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_chooses_rows_and_a_bad_one_is_named() {
    let bench = Bench::new().await;
    let at_ms = UnixNanos::now().millis() - 600_000;
    bench.append(Batch::AccessLogs(logs(50, at_ms))).await;
    let count = async |filter: &str| {
        let query = super::query_string([("filter", filter)]);
        let (status, page) = bench.get(&format!("/api/v1/access-logs?{query}")).await;
        assert_eq!(status, 200, "{page}");
        page["rows"].as_array().map_or(0, Vec::len)
    };
    assert_eq!(count("status:5xx").await, 10);
    assert_eq!(count("flag:UH service:ratings").await, 10);
    assert_eq!(count("-flag:UH source:reviews-*").await, 40);
    assert_eq!(count("dur>=45ms").await, 5);
    assert_eq!(count("trace:a").await, 1);
    assert_eq!(count("request:r7").await, 1);
    let (_, page) = bench.get("/api/v1/access-logs?filter=request:r7").await;
    assert_eq!(page["rows"][0]["traceId"], "00000000000000000000000000000008");
    assert_eq!(page["rows"][0]["responseFlags"], "-");
    let (_, page) = bench.get(&format!("/api/v1/access-logs?start={}&end={}", at_ms + 1, at_ms + 3)).await;
    assert_eq!(
        page["rows"].as_array().map(Vec::len),
        Some(6),
        "the start belongs to the range, the end does not"
    );
    let (status, problem) = bench.get("/api/v1/access-logs?filter=colour:red").await;
    assert_eq!(status, 400);
    assert!(problem["detail"].as_str().unwrap_or("").contains("\"colour\""), "{problem}");
    for bad in ["before=x", "before=1-18446744073709551615", "limit=0", "start=noon"] {
        assert_eq!(bench.get(&format!("/api/v1/access-logs?{bad}")).await.0, 400, "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tail_shows_matching_rows_as_they_come() {
    let bench = Bench::new().await;
    let request =
        Request::get("/api/v1/access-logs/tail?filter=status:503").body(Body::empty()).expect("a request");
    let response = bench.router().oneshot(request).await.expect("infallible");
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut events = response.into_body().into_data_stream();
    bench.append(Batch::AccessLogs(logs(10, UnixNanos::now().millis()))).await;
    let mut text = String::new();
    while !text.contains("\n\n") {
        let bytes = events.next().await.expect("an event").expect("bytes");
        text.push_str(&String::from_utf8_lossy(&bytes));
    }
    assert!(text.starts_with("event: rows\n"), "{text}");
    let data = text.lines().find_map(|line| line.strip_prefix("data: ")).expect("data");
    let rows: Value = serde_json::from_str(data).expect("JSON");
    let paths: Vec<&str> =
        rows.as_array().into_iter().flatten().filter_map(|row| row["path"].as_str()).collect();
    assert_eq!(paths, ["/ratings/0", "/ratings/5"]);
}

/// The past is read in growing steps: a page is right also where a step holds many more rows than it needs.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_after_a_long_silence_holds_the_newest_rows() {
    let bench = Bench::new().await;
    let at_ms = UnixNanos::now().millis() - 5 * 3_600_000;
    for n in 0..10 {
        bench.append(Batch::AccessLogs(logs(300, at_ms + n * 1_000))).await;
    }
    for round in ["in the head", "in files"] {
        let (_, page) = bench.get("/api/v1/access-logs?limit=3").await;
        let paths: Vec<&str> =
            page["rows"].as_array().into_iter().flatten().filter_map(|row| row["path"].as_str()).collect();
        assert_eq!(paths, ["/ratings/299", "/ratings/298", "/ratings/297"], "{round}");
        assert_eq!(page["rows"][0]["timeUnixUs"], (at_ms + 9_000 + 99) * 1_000, "{round}");
        if round == "in the head" {
            bench.storage.flush().await.expect("flushed");
        }
    }
}
