//! What was acknowledged is there after `kill -9`.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use prost::Message;

use crate::backend::{Pharos, get_json, sql, sql_count};

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

/// Sends batches until the server dies; the number of spans that were acknowledged.
async fn send_until_killed(url: String, first: u64) -> u64 {
    let client = reqwest::Client::new();
    let mut acknowledged = 0;
    loop {
        let body = spans(first + acknowledged, 20).encode_to_vec();
        let sent = client.post(&url).header("content-type", "application/x-protobuf").body(body).send().await;
        match sent {
            Ok(response) if response.status().is_success() => acknowledged += 20,
            _ => return acknowledged,
        }
    }
}

async fn killed_under_load(data_dir: &Path, load_for: Duration) -> Result<()> {
    let pharos = Pharos::serve(data_dir, &[])?;
    let before = u64::try_from(sql_count(&pharos, "select count(*) from spans").await?)?;
    let url = pharos.url("otlp-http", "/v1/traces");
    let load = tokio::spawn(send_until_killed(url, before));
    tokio::time::sleep(load_for).await;
    pharos.kill()?;
    let acknowledged = load.await?;
    ensure!(acknowledged > 0, "nothing was acknowledged before the kill");

    let pharos = Pharos::serve(data_dir, &[])?;
    let rows = sql(&pharos, "select count(*), count(distinct span_id) from spans").await?;
    let [total, distinct] = [0, 1].map(|column| rows[0][column].as_u64().unwrap_or_default());
    ensure!(total == distinct, "{total} rows but {distinct} spans: something is there twice");
    // The batch in flight may be there or not, as a whole.
    let least = before + acknowledged;
    ensure!(total == least || total == least + 20, "{least} spans were acknowledged, {total} are there");
    let trace = get_json(&pharos.url("jaeger", &format!("/api/traces/{least:x}"))).await?;
    trace["data"][0]["spans"].as_array().context("the last acknowledged trace")?;
    ensure!(pharos.interrupt()? < Duration::from_secs(5), "a stop took too long");
    Ok(())
}

#[tokio::test]
async fn acknowledged_spans_survive_kill_9_exactly_once() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for load_ms in [300, 700] {
        killed_under_load(folder.path(), Duration::from_millis(load_ms)).await?;
    }
    Ok(())
}
