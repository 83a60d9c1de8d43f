//! What was acknowledged is there after `kill -9`.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use prost::Message;
use tokio::sync::watch;

use crate::backend::{PATIENCE, Pharos, eventually, get_json, scraped_after, sql, sql_count, unix_s};

/// A batch of `count` spans; span `n` overall has the sequence number `n` as its id.
fn spans(first: u64, count: u64) -> ExportTraceServiceRequest {
    let text = |text: &str| Some(AnyValue { value: Some(any_value::Value::StringValue(text.into())) });
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock").as_nanos()
        as u64;
    let span = |n: u64| Span {
        trace_id: (u128::from(n) + 1).to_be_bytes().to_vec(),
        span_id: (n + 1).to_be_bytes().to_vec(),
        name: "work".into(),
        start_time_unix_nano: now,
        end_time_unix_nano: now + 1_000,
        ..Span::default()
    };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource {
                attributes: vec![KeyValue {
                    key: "service.name".into(),
                    value: text("counter"),
                    ..KeyValue::default()
                }],
                ..Resource::default()
            }),
            scope_spans: vec![ScopeSpans {
                spans: (first..first + count).map(span).collect(),
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    }
}

/// Sends batches until the server dies, and tells how many spans were acknowledged so far.
async fn send_until_killed(url: String, first: u64, acknowledged: watch::Sender<u64>) {
    let client = reqwest::Client::new();
    loop {
        let body = spans(first + *acknowledged.borrow(), 20).encode_to_vec();
        let sent = client.post(&url).header("content-type", "application/x-protobuf").body(body).send().await;
        match sent {
            Ok(response) if response.status().is_success() => acknowledged.send_modify(|spans| *spans += 20),
            _ => return,
        }
    }
}

/// Kills the server once it has acknowledged so many spans.
async fn killed_under_load(data_dir: &Path, spans: u64) -> Result<()> {
    let pharos = Pharos::serve(data_dir, &[])?;
    let before = u64::try_from(sql_count(&pharos, "select count(*) from spans").await?)?;
    let url = pharos.url("otlp-http", "/v1/traces");
    let (acknowledge, mut acknowledged) = watch::channel(0);
    let load = tokio::spawn(send_until_killed(url, before, acknowledge));
    let enough = acknowledged.wait_for(|acknowledged| *acknowledged >= spans);
    tokio::time::timeout(PATIENCE, enough).await.context("so many acknowledged spans")??;
    pharos.kill()?;
    load.await?;
    let acknowledged = *acknowledged.borrow();

    let pharos = Pharos::serve(data_dir, &[])?;
    let rows = sql(&pharos, "select count(*), count(distinct span_id) from spans").await?;
    let [total, distinct] = [0, 1].map(|column| rows[0][column].as_u64().unwrap_or_default());
    ensure!(total == distinct, "{total} rows but {distinct} spans: something is there twice");
    // The batch in flight may be there or not, as a whole.
    let least = before + acknowledged;
    ensure!(total == least || total == least + 20, "{least} spans were acknowledged, {total} are there");
    let trace = get_json(&pharos.url("jaeger", &format!("/api/traces/{least:x}"))).await?;
    trace["data"][0]["spans"].as_array().context("the last acknowledged trace")?;
    pharos.interrupt()?;
    Ok(())
}

#[tokio::test]
async fn acknowledged_spans_survive_kill_9_exactly_once() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for spans in [20, 1_000] {
        killed_under_load(folder.path(), spans).await?;
    }
    Ok(())
}

/// What the demo's graph, traces and logs say of a stretch of time that is over.
#[derive(Debug, PartialEq)]
struct Past {
    /// (source, target, requests) of each edge, sorted.
    edges: Vec<(String, String, String)>,
    spans: usize,
    logs: i64,
}

async fn past(pharos: &Pharos, until_s: u64, trace_id: &str) -> Result<Past> {
    let graph = get_json(&pharos.url(
        "ui",
        &format!("/api/v1/graph?namespaces=bookinfo&graphType=workload&duration=60s&queryTime={until_s}"),
    ))
    .await?;
    let edges = graph["elements"]["edges"].as_array().context("no edges")?;
    let text = |edge: &serde_json::Value, key: &str| edge["data"][key].to_string();
    let mut edges: Vec<_> = edges
        .iter()
        .map(|edge| {
            (text(edge, "source"), text(edge, "target"), edge["data"]["pharos"]["requests"].to_string())
        })
        .collect();
    edges.sort();
    let trace = get_json(&pharos.url("jaeger", &format!("/api/traces/{trace_id}"))).await?;
    let spans = trace["data"][0]["spans"].as_array().context("no spans")?.len();
    let logs =
        sql_count(pharos, &format!("select count(*) from access_logs where time < to_timestamp({until_s})"))
            .await?;
    Ok(Past { edges, spans, logs })
}

#[tokio::test]
async fn graph_traces_and_logs_of_the_demo_survive_kill_9_of_the_backend() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let pharos = Pharos::demo(folder.path(), &["--network", "127.0.79", "--rps", "40"])?;
    let trace_id = eventually("a whole trace", async || {
        let rows =
            sql(&pharos, "select trace_id from spans group by trace_id having count(*) = 9 limit 1").await?;
        rows.first().and_then(|row| row[0].as_str().map(str::to_string)).context("no trace has all hops")
    })
    .await?;
    let until_s = eventually("every edge of Bookinfo in the graph", async || {
        // Roll-ups of ten seconds that a border cuts move as they grow: none of that time grows any more.
        let until_s = unix_s()? - 15;
        let edges = past(&pharos, until_s, &trace_id).await?.edges.len();
        ensure!(edges >= 7, "{edges} edges");
        Ok(until_s)
    })
    .await?;
    // Access logs are sent more often than counters are scraped: everything of that time has arrived then.
    scraped_after(&pharos, until_s + 10).await?;
    let before = past(&pharos, until_s, &trace_id).await?;
    ensure!(before.edges.len() >= 7 && before.spans == 9 && before.logs > 100, "{before:?}");
    pharos.kill()?;

    let pharos = Pharos::serve(folder.path(), &[])?;
    let after = past(&pharos, until_s, &trace_id).await?;
    assert_eq!(before, after);
    Ok(())
}
