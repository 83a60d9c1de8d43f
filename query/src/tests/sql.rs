use axum::{
    body::Body,
    http::{Request, StatusCode},
};
use datafusion::arrow::ipc::reader::StreamReader;
use http_body_util::BodyExt;
use pharos_model::{Attributes, Labels, Span, SpanKind, TimeRange, UnixNanos};
use pharos_storage::{Batch, Table};
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

/// Also where it is DataFusion that reads the file.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_a_flipped_bit_is_named_in_the_answer() {
    let bench = bench().await;
    bench.storage.flush().await.expect("flushed");
    let snapshot = bench.storage.snapshot(Table::Spans, TimeRange::ALL).expect("a snapshot");
    let name = snapshot.files.first().expect("a file").path.to_string();
    let path = bench.folder.path().join(&name);
    let mut bytes = std::fs::read(&path).expect("readable");
    bytes[40] ^= 0x20;
    std::fs::write(&path, bytes).expect("writable");
    for query in ["SELECT max(duration_ns), min(name) FROM spans", "SELECT attributes FROM spans"] {
        let (status, answer) = ask(&bench, query).await;
        assert_eq!(status, 500, "{query}: {answer}");
        let text = answer.to_string();
        assert!(text.contains(&name) && text.contains("pharos storage repair"), "{query}: {text}");
    }
    let (status, answer) = ask(&bench, "SELECT count(*) FROM samples").await;
    assert_eq!((status, &answer["rows"][0][0]), (StatusCode::OK, &json!(3)));
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

/// They are stored nowhere, and in the table like those of logs and spans.
#[tokio::test(flavor = "multi_thread")]
async fn edges_of_counters_are_made_of_samples() {
    let bench = Bench::with_config(EngineConfig::default()).await;
    let start_s = 1_700_000_000;
    let labels = [
        ("__name__", "istio_requests_total"),
        ("reporter", "source"),
        ("source_workload", "a"),
        ("destination_workload", "b"),
    ];
    let labels = Labels::from_pairs(labels);
    bench.append_counter(labels, (start_s..start_s + 60).step_by(5), |t| (t - start_s) as f64).await;
    for round in ["in the head", "in files"] {
        let (_, answer) = ask(
            &bench,
            "SELECT source_workload, count(*), sum(samples), sum(increase) FROM edges
             WHERE origin = 'metrics' AND destination_workload = 'b' AND time >= '2023-11-14T22:13:30Z' GROUP BY 1",
        )
        .await;
        assert_eq!(answer["rows"], json!([["a", 5, 10, 25.0]]), "{round}: {answer}");
        let (_, answer) = ask(&bench, "SELECT count(*) FROM edges WHERE destination_workload = 'c'").await;
        assert_eq!(answer["rows"], json!([[0]]), "{round}");
        bench.storage.flush().await.expect("flushed");
    }
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
async fn an_answer_has_as_many_rows_as_are_wanted_and_may_be() {
    let bench = bench().await;
    let cut = async |query: &str, limit: usize| {
        let body = json!({ "query": query, "limit": limit }).to_string();
        let (_, answer) = bench.post("/api/v1/sql", "application/json", body).await;
        (answer["rows"].as_array().map(Vec::len), answer["truncated"].clone())
    };
    assert_eq!(cut("SELECT name FROM spans", 40).await, (Some(40), json!(true)));
    assert_eq!(cut("SELECT name FROM spans LIMIT 50", 50).await, (Some(50), json!(false)));
    assert_eq!(cut("SELECT name FROM spans", 0).await, (Some(0), json!(true)));
    let (status, problem) = ask(&bench, "SELECT name FROM spans").await;
    assert_eq!(status, 400, "{problem}");
    assert!(problem["detail"].as_str().is_some_and(|why| why.contains("more than the 50 rows")), "{problem}");
    let response = bench.router().oneshot(request("text/csv", "SELECT 1")).await.expect("infallible");
    assert_eq!(response.headers()["x-pharos-max-rows"], "50");
}

fn request(accept: &str, query: &str) -> Request<Body> {
    let body = json!({ "query": query }).to_string();
    Request::post("/api/v1/sql").header("accept", accept).body(Body::from(body)).expect("a request")
}

/// Of many batches: each form has all rows, and what of it is broken off says so.
#[tokio::test(flavor = "multi_thread")]
async fn rows_stream_in_every_form() {
    let bench = Bench::new().await;
    let many = "SELECT value AS n, 'a,\"' || value AS text, CASE WHEN value > 1 THEN value END AS gap
                FROM generate_series(1, 30000) ORDER BY value";
    let (status, csv) = bench.text(request("text/csv", many)).await;
    let lines: Vec<&str> = csv.split("\r\n").collect();
    assert_eq!((status.as_u16(), lines.len()), (200, 30_002));
    assert_eq!(lines[..3], ["n,text,gap", "1,\"a,\"\"1\",", "2,\"a,\"\"2\",2"]);
    let (_, text) = bench.text(request("application/x-ndjson", many)).await;
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!((rows.len(), &rows[0]), (30_000, &json!({ "n": 1, "text": "a,\"1", "gap": null })));
    let (_, document) = bench.text(request("application/json", many)).await;
    let document: Value = serde_json::from_str(&document).expect("JSON");
    assert_eq!(document["rows"].as_array().map(Vec::len), Some(30_000));
    assert_eq!((&document["rows"][1], &document["truncated"]), (&json!([2, "a,\"2", 2]), &json!(false)));
    let (_, bytes) = bench.bytes(request("application/vnd.apache.arrow.stream", many)).await;
    let reader = StreamReader::try_new(&bytes[..], None).expect("an Arrow stream");
    assert_eq!(reader.map(|batch| batch.expect("a batch").num_rows()).sum::<usize>(), 30_000);

    // Late enough that whichever thread meets it has given rows before: an error that comes first is answered as one.
    let broken = "SELECT 1 / (value - 90000) FROM generate_series(1, 100000)";
    let (status, document) = bench.text(request("*/*", broken)).await;
    let document: Value = serde_json::from_str(&document).expect("JSON");
    let error = document["error"].as_str().unwrap_or_default();
    assert!(status == 200 && document["truncated"] == true && error.contains("Divide by zero"), "{error}");
    for accept in ["text/csv", "application/x-ndjson", "application/vnd.apache.arrow.stream"] {
        let response = bench.router().oneshot(request(accept, broken)).await.expect("infallible");
        assert!(response.into_body().collect().await.is_err(), "{accept}");
    }
}

/// Its place is free for the next one, though there was more to give than any buffer holds.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_ends_its_answer() {
    let bench = Bench::with_config(EngineConfig { sql_concurrency: 1, ..EngineConfig::default() }).await;
    let endless = "SELECT a.value, b.value FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b";
    let response = bench.router().oneshot(request("text/csv", endless)).await.expect("infallible");
    let mut body = response.into_body();
    let first = body.frame().await.expect("a frame").expect("rows");
    assert!(first.into_data().is_ok_and(|data| data.starts_with(b"value,value\r\n")));
    drop(body);
    let (_, answer) = ask(&bench, "SELECT 1").await;
    assert_eq!(answer["rows"], json!([[1]]));
    // And one that never began to answer.
    let silent = "SELECT max(value) FROM generate_series(1, 1000000000000)";
    let patience = std::time::Duration::from_millis(300);
    tokio::time::timeout(patience, ask(&bench, silent)).await.expect_err("a query of many hours");
    let (_, answer) = ask(&bench, "SELECT 2").await;
    assert_eq!(answer["rows"], json!([[2]]));
}

/// Queries of many hours that DataFusion's operators do not leave by themselves.
const ENDLESS: [&str; 5] = [
    "SELECT max(value) FROM generate_series(1, 1000000000000)",
    "SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b",
    "SELECT count(*) FROM generate_series(1, 1000000) a JOIN generate_series(1, 1000000) b \
     ON a.value * b.value < 0",
    "SELECT count(*) FROM generate_series(1, 1000000) a JOIN generate_series(1, 1000000) b \
     ON a.value % 2 = b.value % 2 AND a.value + b.value < 0",
    "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n FROM r) SELECT count(*) FROM r",
];

/// The only place is free for the next query, and so are the threads that it runs on.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_query_computes_it_ends_in_time() {
    let sql_timeout = std::time::Duration::from_millis(500);
    let config = EngineConfig { sql_concurrency: 1, sql_timeout, ..EngineConfig::default() };
    let bench = Bench::with_config(config).await;
    let next_is_answered = async || {
        // It waits for its place within the same time.
        let answered = async { while ask(&bench, "SELECT 1").await.0 != StatusCode::OK {} };
        let patience = std::time::Duration::from_secs(60);
        tokio::time::timeout(patience, answered).await.is_ok()
    };
    for query in ENDLESS {
        let (status, problem) = ask(&bench, query).await;
        assert_eq!(status, StatusCode::GATEWAY_TIMEOUT, "{query}: {problem}");
        assert!(next_is_answered().await, "{query} goes on after its timeout");
        // One that nobody waits for any more, unless that took so long that it has its answer.
        let _ = tokio::time::timeout(sql_timeout / 2, ask(&bench, query)).await;
        assert!(next_is_answered().await, "{query} goes on without its client");
    }
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

/// Two pods of two apps every 15 s over an hour, a series that ended, and one whose labels are called as our columns.
async fn metrics() -> (Bench, i64) {
    let bench = Bench::new().await;
    let start_s = super::recent_minute_s() - 3_600;
    for (app, pod, rate) in [("a", "a-1", 1.0), ("a", "a-2", 2.0), ("b", "b-1", 5.0)] {
        let labels = Labels::from_pairs([("__name__", "requests_total"), ("app", app), ("pod", pod)]);
        bench
            .append_counter(labels, (start_s..start_s + 3_600).step_by(15), |t| rate * (t - start_s) as f64)
            .await;
    }
    let labels = Labels::from_pairs([("__name__", "requests_total"), ("app", "c"), ("code", "503")]);
    let ends = [start_s, start_s + 15].into_iter();
    bench.append_counter(labels, ends, |t| if t == start_s { 7.0 } else { pharos_model::stale_nan() }).await;
    let labels = Labels::from_pairs([("__name__", "odd"), ("time", "noon"), ("value", "high")]);
    bench.append_counter(labels, std::iter::once(start_s), |_| 3.0).await;
    (bench, start_s)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_metric_is_a_table_with_its_labels_as_columns() {
    let (bench, start_s) = metrics().await;
    let rows = async |query: &str| {
        let (status, answer) = ask(&bench, query).await;
        assert_eq!(status, 200, "{query}: {answer}");
        answer["rows"].clone()
    };
    let (_, answer) = ask(&bench, "SELECT * FROM metric('requests_total') WHERE app = 'c'").await;
    assert_eq!(
        answer["columns"],
        json!([
            { "name": "time", "type": "timestamp" }, { "name": "value", "type": "double" },
            { "name": "histogram", "type": "struct" },
            { "name": "app", "type": "string" }, { "name": "code", "type": "string" },
            { "name": "pod", "type": "string" },
        ])
    );
    // The marker of its end is no row; an absent label is null.
    let time = jiff::Timestamp::from_second(start_s).expect("a time").to_string();
    assert_eq!(answer["rows"], json!([[time, 7.0, null, "c", "503", null]]));
    for (query, want) in [
        (
            "SELECT app, count(*) FROM metric('requests_total') GROUP BY app ORDER BY app",
            json!([["a", 480], ["b", 240], ["c", 1]]),
        ),
        (
            "SELECT DISTINCT pod FROM metric('requests_total{app=\"a\"}') ORDER BY pod",
            json!([["a-1"], ["a-2"]]),
        ),
        (
            "SELECT DISTINCT pod FROM metric('requests_total') WHERE pod ~ '^a' ORDER BY pod",
            json!([["a-1"], ["a-2"]]),
        ),
        (
            "SELECT DISTINCT pod FROM metric('requests_total') WHERE pod LIKE '%-1' ORDER BY pod",
            json!([["a-1"], ["b-1"]]),
        ),
        (
            "SELECT DISTINCT app FROM metric('requests_total') WHERE pod IN ('a-1', 'b-1') ORDER BY app",
            json!([["a"], ["b"]]),
        ),
        (
            "SELECT DISTINCT app FROM metric('requests_total') WHERE app <> 'a' ORDER BY app",
            json!([["b"], ["c"]]),
        ),
        ("SELECT DISTINCT app FROM metric('requests_total') WHERE code IS NOT NULL", json!([["c"]])),
        (
            "SELECT DISTINCT app FROM metric('requests_total') WHERE code IS NULL ORDER BY app",
            json!([["a"], ["b"]]),
        ),
        ("SELECT count(*) FROM metric('requests_total') WHERE app = 'a' OR app = 'c'", json!([[481]])),
        ("SELECT label_time, label_value, value FROM metric('odd')", json!([["noon", "high", 3.0]])),
        (
            "SELECT __name__, count(*) FROM metric('{__name__=~\"odd|requests_total\"}') GROUP BY 1 ORDER BY 1",
            json!([["odd", 1], ["requests_total", 721]]),
        ),
        ("SELECT count(*) FROM metric('nothing')", json!([[0]])),
    ] {
        assert_eq!(rows(query).await, want, "{query}");
    }
    let window = format!(
        "SELECT pod, min(value), max(value), count(*) FROM metric('requests_total') \
         WHERE app = 'a' AND time >= to_timestamp({}) AND time < to_timestamp({}) GROUP BY pod ORDER BY pod",
        start_s + 600,
        start_s + 900
    );
    assert_eq!(rows(&window).await, json!([["a-1", 600.0, 885.0, 20], ["a-2", 1_200.0, 1_770.0, 20]]));
    // Filters reach the index: one series is read, not all.
    for (filter, partitions) in [("", 4), ("WHERE pod = 'b-1'", 1), ("WHERE pod = 'none'", 1)] {
        let (_, plan) =
            ask(&bench, &format!("EXPLAIN SELECT * FROM metric('requests_total') {filter}")).await;
        assert!(plan.to_string().contains(&format!("partition_sizes={partitions},")), "{filter}: {plan}");
    }
    for (query, words) in [
        ("SELECT * FROM metric()", "metric takes one text"),
        ("SELECT * FROM metric(5)", "metric takes one text"),
        ("SELECT * FROM metric('a{')", "parse error"),
        ("SELECT nothing FROM metric('requests_total')", "nothing"),
        ("SELECT * FROM metric('requests_total') WHERE pod ~ '('", "("),
    ] {
        let (status, answer) = ask(&bench, query).await;
        let detail = answer["detail"].as_str().unwrap_or("");
        assert!(status == 400 && detail.contains(words), "{query}: {status} {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn native_histograms_are_a_column() {
    use pharos_model::{HistogramSample, NativeHistogram, Sample, TimeSeries};
    let bench = Bench::new().await;
    let start_s = super::recent_minute_s() - 600;
    let at = |t: i64| HistogramSample {
        time_ms: t * 1_000,
        histogram: NativeHistogram {
            count: 4.0,
            sum: 10.0,
            positive: vec![(1, 1.0), (2, 3.0)],
            ..NativeHistogram::default()
        },
    };
    let end = HistogramSample { time_ms: (start_s + 60) * 1_000, histogram: NativeHistogram::stale() };
    let series = TimeSeries {
        labels: Labels::from_pairs([("__name__", "latency"), ("pod", "a")]),
        samples: vec![Sample { time_ms: (start_s - 15) * 1_000, value: 1.5 }],
        histograms: vec![at(start_s), at(start_s + 15), end],
        ..TimeSeries::default()
    };
    bench.append(Batch::Samples(vec![series])).await;
    let buckets =
        json!([{ "lower": 1.0, "upper": 2.0, "count": 1.0 }, { "lower": 2.0, "upper": 4.0, "count": 3.0 }]);
    for _ in 0..2 {
        for (query, want) in [
            (
                "SELECT value, histogram, pod FROM metric('latency') ORDER BY time LIMIT 2",
                json!([
                    [1.5, null, "a"],
                    [null, { "count": 4.0, "sum": 10.0, "buckets": buckets }, "a"],
                ]),
            ),
            ("SELECT count(*), count(value), count(histogram) FROM metric('latency')", json!([[3, 1, 2]])),
            ("SELECT sum(histogram['sum']) / sum(histogram['count']) FROM metric('latency')", json!([[2.5]])),
            (
                "SELECT b['upper'], sum(b['count']) FROM \
                 (SELECT unnest(histogram['buckets']) b FROM metric('latency')) GROUP BY 1 ORDER BY 1",
                json!([[2.0, 2.0], [4.0, 6.0]]),
            ),
        ] {
            let (status, answer) = ask(&bench, query).await;
            assert_eq!((status.as_u16(), &answer["rows"]), (200, &want), "{query}: {answer}");
        }
        let query = format!(
            "SELECT histogram['count'], value, pod FROM promql('latency * 2', {}, {}, 15)",
            start_s,
            start_s + 15
        );
        let (status, answer) = ask(&bench, &query).await;
        let want = json!([[8.0, null, "a"], [8.0, null, "a"]]);
        assert_eq!((status.as_u16(), &answer["rows"]), (200, &want), "{query}: {answer}");
        // The same again out of files.
        bench.storage.flush().await.expect("flushed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promql_query_is_a_table() {
    let (bench, start_s) = metrics().await;
    let rows = async |query: &str| {
        let (status, answer) = ask(&bench, query).await;
        assert_eq!(status, 200, "{query}: {answer}");
        answer["rows"].clone()
    };
    let (start, end) = (start_s + 600, start_s + 1_200);
    let rates = "sum by (app) (rate(requests_total[5m]))";
    let want = json!([["a", 3.0, 11], ["b", 5.0, 11]]);
    let time = |s: i64| jiff::Timestamp::from_second(s).expect("a time");
    for times in [
        format!("{start}, {end}, 60"),
        format!("'{}', '{}', '1m'", time(start), time(end)),
        format!("to_timestamp({start}), to_timestamp({end}), interval '1 minute'"),
        format!("to_timestamp({end}) - interval '10 minutes', {end}.0, 60.0"),
    ] {
        let query = format!(
            "SELECT app, round(avg(value), 6), count(*) FROM promql('{rates}', {times}) GROUP BY app ORDER BY app"
        );
        assert_eq!(rows(&query).await, want, "{query}");
    }
    assert_eq!(
        rows(&format!("SELECT round(value, 6), app FROM promql('{rates}', {end}) ORDER BY app")).await,
        json!([[3.0, "a"], [5.0, "b"]])
    );
    assert_eq!(rows("SELECT value FROM promql('1 + 1')").await, json!([[2.0]]));
    // Joined with other tables: what SQL is for.
    let joined = format!(
        "SELECT p.app, m.pod FROM promql('{rates} > 4', {end}) p JOIN metric('requests_total') m ON m.app = p.app GROUP BY 1, 2"
    );
    assert_eq!(rows(&joined).await, json!([["b", "b-1"]]));
    for (query, words) in [
        ("SELECT * FROM promql()", "promql takes"),
        ("SELECT * FROM promql('up', 1, 2)", "promql takes"),
        ("SELECT * FROM promql('sum(')", "promql: 1:5: parse error"),
        ("SELECT * FROM promql('up', 'noon')", "time is noon"),
        ("SELECT * FROM promql('up', 2, 1, 1)", "end lies before the start"),
        ("SELECT * FROM promql('up', 1, 2, 0)", "no duration above 0"),
        ("SELECT * FROM promql('up', 1, 2000000, 1)", "more than 11000 steps"),
        ("SELECT * FROM promql('requests_total + on (app) requests_total')", "many-to-many"),
    ] {
        let (status, answer) = ask(&bench, query).await;
        let detail = answer["detail"].as_str().unwrap_or("");
        assert!(status == 400 && detail.contains(words), "{query}: {status} {answer}");
    }
}
