use axum::{
    body::Body,
    http::{Request, StatusCode},
};
use datafusion::arrow::ipc::reader::StreamReader;
use http_body_util::BodyExt;
use pharos_model::{Attributes, Labels, Span, SpanKind, UnixNanos};
use pharos_storage::Batch;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::Bench;
use crate::EngineConfig;

async fn bench() -> Bench {
    let bench = Bench::with_config(EngineConfig { sql_max_rows: 50, ..EngineConfig::default() }).await;
    let start = UnixNanos::from_seconds(UnixNanos::now().millis() / 1_000 - 100);
    let span = |n: u64| Span {
        trace_id: format!("{:x}", n / 2 + 1).parse().expect("id"),
        span_id: format!("{:x}", n + 1).parse().expect("id"),
        name: format!("GET /{}", n % 3),
        kind: SpanKind::Server,
        start: start.plus_nanos(n as i64 * 1_000_000),
        duration_ns: n as i64 * 1_000,
        service: if n.is_multiple_of(2) { "reviews".into() } else { "ratings".into() },
        attributes: [("http.method".to_string(), "GET".into())].into_iter().collect::<Attributes>(),
        ..Span::default()
    };
    bench.append(Batch::Spans((0..100).map(span).collect())).await;
    let labels = Labels::from_pairs([("__name__", "up"), ("job", "a")]);
    bench.append_counter(labels, 1_700_000_000..1_700_000_003, |t| t as f64).await;
    bench
}

async fn ask(bench: &Bench, query: &str) -> (StatusCode, Value) {
    bench.post("/api/v1/sql", "application/json", json!({ "query": query }).to_string()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_head_and_files_come_as_json() {
    let bench = bench().await;
    for round in ["in the head", "in files", "in both"] {
        let (status, answer) =
            ask(&bench, "SELECT service, count(*) AS n, max(duration_ns) AS longest FROM spans GROUP BY service ORDER BY service").await;
        assert_eq!(status, 200, "{round}: {answer}");
        assert_eq!(
            answer["columns"],
            json!([
                { "name": "service", "type": "string" },
                { "name": "n", "type": "integer" },
                { "name": "longest", "type": "integer" }
            ])
        );
        assert_eq!(answer["rows"], json!([["ratings", 50, 99_000], ["reviews", 50, 98_000]]), "{round}");
        let (_, answer) = ask(
            &bench,
            "SELECT trace_id, time < now(), attributes['http.method'] FROM spans WHERE time > now() - interval '1 hour' ORDER BY time LIMIT 1",
        )
        .await;
        assert_eq!(answer["rows"][0][0], "00000000000000000000000000000001", "{round}: {answer}");
        assert_eq!(answer["rows"][0][1], true, "{round}: {answer}");
        let (_, answer) = ask(&bench, "SELECT count(*) FROM spans WHERE time < '2020-01-01T00:00:00Z'").await;
        assert_eq!(answer["rows"], json!([[0]]), "{round}");
        if round == "in the head" {
            bench.storage.flush().await.expect("flushed");
        }
    }
    for table in pharos_storage::Table::ALL {
        let (status, answer) = ask(&bench, &format!("SELECT * FROM {} LIMIT 3", table.name())).await;
        assert_eq!(status, 200, "{}: {answer}", table.name());
    }
    let (_, answer) = ask(&bench, "SELECT metric, value, time FROM samples ORDER BY time LIMIT 1").await;
    assert_eq!(answer["rows"], json!([["up", 1_700_000_000.0, "2023-11-14T22:13:20Z"]]));
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_cut_at_the_row_limit() {
    let bench = bench().await;
    let (_, answer) = ask(&bench, "SELECT name FROM spans").await;
    assert_eq!((answer["rows"].as_array().map(Vec::len), &answer["truncated"]), (Some(50), &json!(true)));
    let (_, answer) = ask(&bench, "SELECT name FROM spans LIMIT 50").await;
    assert_eq!((answer["rows"].as_array().map(Vec::len), &answer["truncated"]), (Some(50), &json!(false)));
}

#[tokio::test(flavor = "multi_thread")]
async fn arrow_is_given_to_those_who_accept_it() {
    let bench = bench().await;
    let request = Request::post("/api/v1/sql")
        .header("accept", "application/vnd.apache.arrow.stream")
        .body(Body::from(r#"{"query": "SELECT span_id, service FROM spans WHERE service = 'reviews'"}"#))
        .expect("a request");
    let response = bench.router().oneshot(request).await.expect("infallible");
    assert_eq!(response.headers()["content-type"], "application/vnd.apache.arrow.stream");
    let bytes = response.into_body().collect().await.expect("a body").to_bytes();
    let reader = StreamReader::try_new(&bytes[..], None).expect("an Arrow stream");
    let rows: usize = reader.map(|batch| batch.expect("a batch").num_rows()).sum();
    assert_eq!(rows, 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_are_named_and_nothing_can_be_changed() {
    let bench = bench().await;
    for (query, message) in [
        ("SELEC 1", "SELEC"),
        ("SELECT nothing FROM spans", "nothing"),
        ("SELECT * FROM traffic", "traffic"),
        ("SELECT no_such_function(1)", "no_such_function"),
        ("SELECT 1; SELECT 2", "single"),
        ("", "SQL"),
        ("CREATE TABLE t AS SELECT 1", "DDL"),
        ("DROP TABLE spans", "DDL"),
        ("INSERT INTO spans VALUES (1)", ""),
        ("COPY spans TO 'out.csv'", ""),
        ("SET datafusion.execution.batch_size = 1", "SetVariable"),
        ("CREATE EXTERNAL TABLE passwd (line TEXT) STORED AS CSV LOCATION '/etc/passwd'", "DDL"),
        ("SELECT * FROM '/etc/passwd'", "passwd"),
        ("SELECT arrow_cast('x', 'Int64')", "x"),
    ] {
        let (status, problem) = ask(&bench, query).await;
        assert_eq!(status, 400, "{query}: {problem}");
        assert!(problem["detail"].as_str().unwrap_or("").contains(message), "{query}: {problem}");
    }
    let (status, problem) = bench.post("/api/v1/sql", "application/json", "SELECT 1").await;
    assert_eq!((status.as_u16(), &problem["status"]), (400, &json!(400)));
    let (_, answer) = ask(&bench, "SELECT count(*) FROM spans").await;
    assert_eq!(answer["rows"], json!([[100]]));
}
