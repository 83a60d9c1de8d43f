//! Other engines read our tables and count the same rows as we do. Tables in a bucket: `buckets.rs`.

use std::{
    path::Path,
    process::{Command, Stdio},
    sync::LazyLock,
};

use anyhow::{Context, Result, ensure};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use pharos_proto::prometheus::remote_write_v1::{Label, Sample, TimeSeries, WriteRequest};
use prost::Message;

use crate::{
    backend::{Pharos, sql_count},
    foreign_clients::python_with,
};

const TABLES: [&str; 5] = ["spans", "trace_summaries", "edges", "series", "samples"];

fn text(key: &str, value: String) -> KeyValue {
    let value = Some(AnyValue { value: Some(any_value::Value::StringValue(value)) });
    KeyValue { key: key.into(), value, ..KeyValue::default() }
}

/// The same for all rows: those of two days would be of two files.
fn now_ns() -> u64 {
    static NOW_NS: LazyLock<u64> = LazyLock::new(|| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.expect("a clock").as_nanos() as u64
    });
    *NOW_NS
}

/// Twenty spans.
fn spans(batch: u64) -> Vec<u8> {
    let span = |row: u64| Span {
        trace_id: (u128::from(row) / 4 + 1).to_be_bytes().to_vec(),
        span_id: (row + 1).to_be_bytes().to_vec(),
        name: format!("GET /{}", row % 3),
        start_time_unix_nano: now_ns() - 1_000_000,
        end_time_unix_nano: now_ns(),
        attributes: match row {
            0 => vec![text("batch", batch.to_string()), text("rare", "yes".into())],
            _ => vec![text("batch", batch.to_string()), text("http.method", "GET".into())],
        },
        ..Span::default()
    };
    let resource = Resource {
        attributes: vec![text("service.name", format!("reader-{}", batch % 2))],
        ..Resource::default()
    };
    let scope_spans = vec![ScopeSpans {
        spans: (batch * 20..batch * 20 + 20).map(span).collect(),
        ..ScopeSpans::default()
    }];
    let resource_spans =
        vec![ResourceSpans { resource: Some(resource), scope_spans, ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}

fn samples() -> Vec<u8> {
    let now_ms = (now_ns() / 1_000_000) as i64;
    let series = |n: u64| TimeSeries {
        labels: vec![
            Label { name: "__name__".into(), value: "readers_total".into() },
            Label { name: "pod".into(), value: format!("pod-{n}") },
        ],
        samples: (0..50)
            .map(|i| Sample { timestamp: now_ms - 50_000 + i * 1_000, value: i as f64 })
            .collect(),
        ..TimeSeries::default()
    };
    let request = WriteRequest { timeseries: (0..7).map(series).collect(), ..WriteRequest::default() };
    snap::raw::Encoder::new().compress_vec(&request.encode_to_vec()).expect("a small body")
}

/// Rows of every kind, and how many of them SQL finds in each table.
pub(crate) async fn fill(pharos: &Pharos) -> Result<()> {
    for batch in 0..8 {
        send_spans(pharos, batch).await?;
    }
    let sent = reqwest::Client::new()
        .post(pharos.url("prometheus", "/api/v1/write"))
        .header("content-type", "application/x-protobuf")
        .header("content-encoding", "snappy")
        .header("x-prometheus-remote-write-version", "0.1.0")
        .body(samples())
        .send()
        .await?;
    ensure!(sent.status().is_success(), "{}", sent.text().await?);
    Ok(())
}

/// Twenty spans, of their own for each batch.
pub(crate) async fn send_spans(pharos: &Pharos, batch: u64) -> Result<()> {
    let sent = reqwest::Client::new()
        .post(pharos.url("otlp-http", "/v1/traces"))
        .header("content-type", "application/x-protobuf")
        .body(spans(batch))
        .send()
        .await?;
    ensure!(sent.status().is_success(), "{}", sent.text().await?);
    Ok(())
}

pub(crate) async fn counts(pharos: &Pharos) -> Result<String> {
    let mut counts = String::new();
    for table in TABLES {
        counts +=
            &format!("{table} {}\n", sql_count(pharos, &format!("select count(*) from {table}")).await?);
    }
    Ok(counts)
}

pub(crate) fn counts_of_others(python: &Path, root: &str, environment: &[(&str, String)]) -> Result<String> {
    let output = Command::new(python)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/it/table_readers.py"))
        .arg(root)
        .args(TABLES)
        .envs(environment.iter().map(|(name, value)| (*name, value)))
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "the script failed");
    Ok(String::from_utf8(output.stdout)?)
}

#[tokio::test]
async fn duckdb_polars_and_deltalake_count_the_same_rows() -> Result<()> {
    let python = python_with("table-readers", &["deltalake", "duckdb", "polars", "pyarrow"])?;
    let folder = tempfile::tempdir()?;
    let pharos = Pharos::serve(folder.path(), &[])?;
    fill(&pharos).await?;
    // Stopping writes everything to files.
    pharos.interrupt()?;
    let pharos = Pharos::serve(folder.path(), &[])?;
    let ours = counts(&pharos).await?;
    ensure!(ours.contains("spans 160\n") && ours.contains("samples 350\n"), "{ours}");
    let root = folder.path().to_str().context("a path")?;
    assert_eq!(counts_of_others(&python, root, &[])?, ours);
    Ok(())
}
