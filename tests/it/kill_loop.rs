//! A server that is killed again and again under load: what it acknowledged is there exactly once, and what it did not
//! answer is there whole or not at all.
//!
//! `PHAROS_KILLS` sets how often (default 50).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Result, ensure};
use opentelemetry_proto::tonic::{
    collector::{logs::v1::ExportLogsServiceRequest, trace::v1::ExportTraceServiceRequest},
    common::v1::{AnyValue, any_value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use parking_lot::Mutex;
use pharos_proto::prometheus::remote_write_v1::{Label, Sample, TimeSeries, WriteRequest};
use prost::Message;
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::backend::{Pharos, eventually, sql};

/// Rows of a batch.
const ROWS: u64 = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Spans,
    Logs,
    Samples,
}

const KINDS: [Kind; 3] = [Kind::Spans, Kind::Logs, Kind::Samples];

/// Batches of one kind, by number: row `n` of all is in batch `n / ROWS`.
#[derive(Default)]
struct Ledger {
    next: u64,
    acknowledged: BTreeSet<u64>,
    unanswered: BTreeSet<u64>,
}

/// Row `n` is of second `n` after this; old enough that none is in the future.
fn base_s() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock").as_secs() / 100_000 * 100_000
        - 1_000_000
}

fn text(text: String) -> Option<AnyValue> {
    Some(AnyValue { value: Some(any_value::Value::StringValue(text)) })
}

fn body(kind: Kind, batch: u64, base_s: u64) -> Vec<u8> {
    let rows = batch * ROWS..(batch + 1) * ROWS;
    let nanos = |row: u64| (base_s + row) * 1_000_000_000;
    match kind {
        Kind::Spans => {
            let span = |row: u64| Span {
                trace_id: (u128::from(row) + 1).to_be_bytes().to_vec(),
                span_id: (row + 1).to_be_bytes().to_vec(),
                name: "work".into(),
                start_time_unix_nano: nanos(row),
                end_time_unix_nano: nanos(row) + 1_000,
                ..Span::default()
            };
            let scope_spans = vec![ScopeSpans { spans: rows.map(span).collect(), ..ScopeSpans::default() }];
            let resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
            ExportTraceServiceRequest { resource_spans }.encode_to_vec()
        }
        Kind::Logs => {
            let record = |row: u64| LogRecord {
                time_unix_nano: nanos(row),
                body: text(format!("row {row}")),
                ..LogRecord::default()
            };
            let scope_logs =
                vec![ScopeLogs { log_records: rows.map(record).collect(), ..ScopeLogs::default() }];
            let resource_logs = vec![ResourceLogs { scope_logs, ..ResourceLogs::default() }];
            ExportLogsServiceRequest { resource_logs }.encode_to_vec()
        }
        Kind::Samples => {
            let sample = |row: u64| Sample { timestamp: ((base_s + row) * 1_000) as i64, value: row as f64 };
            let series = TimeSeries {
                labels: vec![Label { name: "__name__".into(), value: "kill_loop_total".into() }],
                samples: rows.map(sample).collect(),
                ..TimeSeries::default()
            };
            let request = WriteRequest { timeseries: vec![series], ..WriteRequest::default() };
            snap::raw::Encoder::new().compress_vec(&request.encode_to_vec()).expect("a small body")
        }
    }
}

/// Sends batches until the server dies.
async fn send(kind: Kind, url: String, base_s: u64, ledger: Arc<Mutex<Ledger>>) {
    let client = reqwest::Client::new();
    loop {
        let batch = {
            let mut ledger = ledger.lock();
            ledger.next += 1;
            ledger.next - 1
        };
        let mut request = client
            .post(&url)
            .header("content-type", "application/x-protobuf")
            .body(body(kind, batch, base_s));
        if kind == Kind::Samples {
            request = request
                .header("content-encoding", "snappy")
                .header("x-prometheus-remote-write-version", "0.1.0");
        }
        let stored = request.send().await.is_ok_and(|response| response.status().is_success());
        let mut ledger = ledger.lock();
        if !stored {
            ledger.unanswered.insert(batch);
            return;
        }
        ledger.acknowledged.insert(batch);
    }
}

/// The rows of each batch that is there, and how many different ones.
async fn found(pharos: &Pharos, kind: Kind, base_s: u64) -> Result<BTreeMap<u64, (u64, u64)>> {
    let from = match kind {
        Kind::Spans => "spans",
        Kind::Logs => "logs",
        Kind::Samples => "samples where metric = 'kill_loop_total'",
    };
    let query = format!(
        "select (to_unixtime(time) - {base_s}) / {ROWS}, count(*), count(distinct time) from {from} group by 1"
    );
    let number = |value: &serde_json::Value| value.as_u64().unwrap_or(u64::MAX);
    let rows = sql(pharos, &query).await?;
    Ok(rows.iter().map(|row| (number(&row[0]), (number(&row[1]), number(&row[2])))).collect())
}

fn check(kind: Kind, ledger: &Ledger, found: &BTreeMap<u64, (u64, u64)>) -> Result<()> {
    for (batch, (rows, different)) in found {
        ensure!(
            (*rows, *different) == (ROWS, ROWS),
            "{kind:?}: batch {batch} has {rows} rows, {different} different"
        );
        let sent = ledger.acknowledged.contains(batch) || ledger.unanswered.contains(batch);
        ensure!(sent, "{kind:?}: batch {batch} was never sent");
    }
    for batch in &ledger.acknowledged {
        ensure!(found.contains_key(batch), "{kind:?}: batch {batch} was acknowledged and is not there");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_acknowledged_survives_being_killed_again_and_again() -> Result<()> {
    let kills: u64 = std::env::var("PHAROS_KILLS").map_or(Ok(50), |text| text.parse())?;
    let folder = tempfile::tempdir()?;
    let base_s = base_s();
    let ledgers = KINDS.map(|kind| (kind, Arc::new(Mutex::new(Ledger::default()))));
    let mut random = StdRng::seed_from_u64(1);
    for kill in 0..=kills {
        // A small head, so that some kills meet a flush or a merge.
        let pharos = Pharos::serve(folder.path(), &["--head-bytes", "1MiB"])?;
        for (kind, ledger) in &ledgers {
            let found = found(&pharos, *kind, base_s).await?;
            check(*kind, &ledger.lock(), &found)?;
        }
        if kill == kills {
            break;
        }
        let mut loads = Vec::new();
        let before = ledgers.each_ref().map(|(_, ledger)| ledger.lock().acknowledged.len());
        for (kind, ledger) in &ledgers {
            let url = match kind {
                Kind::Spans => pharos.url("otlp-http", "/v1/traces"),
                Kind::Logs => pharos.url("otlp-http", "/v1/logs"),
                Kind::Samples => pharos.url("prometheus", "/api/v1/write"),
            };
            loads.push(tokio::spawn(send(*kind, url, base_s, ledger.clone())));
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(20..250))).await;
        // However slow the machine: of half of the rounds something is acknowledged.
        if kill % 2 == 0 {
            eventually("an acknowledged batch of each kind", async || {
                let grew = |((_, ledger), before): (&(Kind, Arc<Mutex<Ledger>>), usize)| {
                    ledger.lock().acknowledged.len() > before
                };
                ensure!(ledgers.iter().zip(before).all(grew));
                Ok(())
            })
            .await?;
        }
        pharos.kill()?;
        for load in loads {
            load.await?;
        }
    }
    for (kind, ledger) in &ledgers {
        let batches = ledger.lock().acknowledged.len() as u64;
        ensure!(batches >= kills / 2, "{kind:?}: only {batches} batches were acknowledged");
        eprintln!("{kind:?}: {} rows acknowledged over {kills} kills", batches * ROWS);
    }
    Ok(())
}
