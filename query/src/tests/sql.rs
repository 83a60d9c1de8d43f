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

/// Rows with the attribute in the map only, in a column, and in the head: one table.
#[tokio::test(flavor = "multi_thread")]
async fn an_attribute_that_became_a_column_is_found_in_all_rows() {
    let bench = Bench::with_config(EngineConfig::default()).await;
    let start = UnixNanos::from_seconds(UnixNanos::now().millis() / 1_000 - 100);
    let span = |n: u64| Span {
        trace_id: format!("{:x}", n + 1).parse().expect("id"),
        span_id: format!("{:x}", n + 1).parse().expect("id"),
        start: start.plus_nanos(n as i64 * 1_000_000),
        attributes: [
            ("http.route".to_string(), format!("/{}", n % 4).into()),
            ("rows".to_string(), pharos_model::Value::Int(n as i64 % 10)),
        ]
        .into_iter()
        .collect::<Attributes>(),
        ..Span::default()
    };
    bench.append(Batch::Spans((0..40).map(span).collect())).await;
    bench.storage.flush().await.expect("flushed");
    let (status, _) = ask(&bench, r#"SELECT "attributes.http.route" FROM spans"#).await;
    assert_eq!(status, 400, "no column yet");
    bench.append(Batch::Spans((40..400).map(span).collect())).await;
    bench.storage.flush().await.expect("flushed");
    bench.append(Batch::Spans((400..440).map(span).collect())).await;
    for (condition, expected) in [
        (r#""attributes.http.route" = '/3'"#, 110),
        ("attributes['http.route'] = '/3'", 110),
        (r#""attributes.rows" = 7"#, 44),
        (r#""attributes.rows" > 7 AND "attributes.http.route" LIKE '/%'"#, 88),
        ("attributes['rows'] = '7'", 44),
        (r#""attributes.http.route" IS NULL"#, 0),
        (r#""attributes.http.route" <> attributes['http.route']"#, 0),
    ] {
        let (_, answer) = ask(&bench, &format!("SELECT count(*) FROM spans WHERE {condition}")).await;
        assert_eq!(answer["rows"], json!([[expected]]), "{condition}: {answer}");
    }
    let (_, answer) =
        ask(&bench, r#"SELECT "attributes.rows", attributes FROM spans ORDER BY time DESC LIMIT 1"#).await;
    assert_eq!(answer["rows"], json!([[9, { "http.route": "/3", "rows": "9" }]]), "{answer}");
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
