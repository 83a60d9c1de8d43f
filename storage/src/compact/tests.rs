use std::time::Duration;

use arrow::array::RecordBatch;
use futures::TryStreamExt;
use pharos_model::TimeRange;

use super::*;
use crate::{
    Batch, Scan, Storage, StorageConfig, spans_of,
    test_rows::{START, access_log, counter, span},
};

fn config(dir: &std::path::Path) -> StorageConfig {
    StorageConfig {
        flush_after: Duration::from_secs(3_600),
        retention: None,
        compact_files: 4,
        vacuum_after: Duration::ZERO,
        ..StorageConfig::new(dir)
    }
}

async fn fill(storage: &Storage, flushes: u64) {
    for n in 0..flushes {
        storage.append(Batch::Spans((n * 40..n * 40 + 40).map(span).collect())).await.unwrap();
        storage.append(Batch::AccessLogs((n * 40..n * 40 + 40).map(access_log).collect())).await.unwrap();
        let samples = n as i64 * 5..n as i64 * 5 + 5;
        storage
            .append(Batch::Samples(vec![counter("a", samples.clone()), counter("b", samples)]))
            .await
            .unwrap();
        storage.flush().await.unwrap();
    }
}

async fn rows(storage: &Storage, table: Table) -> Vec<RecordBatch> {
    let scan = Scan::new(TimeRange::ALL);
    storage.snapshot(table, TimeRange::ALL).unwrap().read(&scan).await.unwrap().try_collect().await.unwrap()
}

fn files(storage: &Storage, table: Table) -> u64 {
    storage.stats().tables.iter().find(|stats| stats.table == table).unwrap().files
}

#[tokio::test]
async fn merged_files_have_the_same_rows_in_order_and_the_old_ones_go() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::open(StorageConfig { compact_files: 6, ..config(dir.path()) }).await.unwrap();
    fill(&storage, 6).await;
    let before = storage.snapshot(Table::Spans, TimeRange::ALL).unwrap();
    let edges = storage.edges(TimeRange::ALL).await.unwrap();
    storage.compact().await.unwrap();
    assert_eq!(files(&storage, Table::Spans), 1);
    assert_eq!(files(&storage, Table::Samples), 1);

    let mut spans: Vec<_> =
        rows(&storage, Table::Spans).await.iter().flat_map(|b| spans_of(b).unwrap()).collect();
    let minute = |span: &pharos_model::Span| span.start.0.div_euclid(60_000_000_000);
    assert!(spans.is_sorted_by_key(|span| (
        minute(span),
        span.service.clone(),
        span.name.clone(),
        span.start
    )));
    spans.sort_by_key(|span| span.start);
    assert_eq!(spans, (0..240).map(span).collect::<Vec<_>>());
    let samples: usize = rows(&storage, Table::Samples).await.iter().map(RecordBatch::num_rows).sum();
    assert_eq!(samples, 60);
    assert_eq!(storage.edges(TimeRange::ALL).await.unwrap().len(), edges.len());

    // A snapshot of before still reads what it saw; after it is gone, so are its files.
    let old: Vec<RecordBatch> =
        before.read(&Scan::new(TimeRange::ALL)).await.unwrap().try_collect().await.unwrap();
    assert_eq!(old.iter().map(RecordBatch::num_rows).sum::<usize>(), 240);
    assert!(dir.path().join(before.files[0].path.as_ref()).exists());
    let path = before.files[0].path.to_string();
    drop(before);
    storage.compact().await.unwrap();
    assert!(!dir.path().join(path).exists());
}

#[tokio::test]
async fn old_rows_go_by_age_and_by_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::open(StorageConfig { compact_files: 100, ..config(dir.path()) }).await.unwrap();
    fill(&storage, 3).await;
    storage.close().await.unwrap();
    drop(storage);

    let kept = UnixNanos::now().0 - START.0 + 3_600_000_000_000;
    let by_age = StorageConfig {
        retention: Some(Duration::from_nanos(kept.unsigned_abs())),
        table_retention: vec![(Table::Spans, Some(Duration::ZERO))],
        compact_files: 100,
        ..config(dir.path())
    };
    let now_is_later = UnixNanos::now() > START.plus_nanos(10_000_000_000);
    let storage = Storage::open(by_age).await.unwrap();
    storage.compact().await.unwrap();
    assert_eq!(files(&storage, Table::Spans), if now_is_later { 0 } else { 3 });
    assert_eq!(files(&storage, Table::AccessLogs), 3);
    drop(storage);

    let by_bytes = StorageConfig { retention_bytes: Some(0), compact_files: 100, ..config(dir.path()) };
    let storage = Storage::open(by_bytes).await.unwrap();
    storage.compact().await.unwrap();
    let left = storage.stats().tables.into_iter().filter(|table| table.files > 0);
    assert_eq!(left.map(|table| table.table).collect::<Vec<_>>(), [Table::Series]);
}

#[tokio::test]
async fn files_that_no_log_names_are_swept_but_not_without_a_log() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::open(config(dir.path())).await.unwrap();
    fill(&storage, 1).await;
    storage.close().await.unwrap();
    drop(storage);
    let stray = dir.path().join("spans/date=2026-11-21/stray.parquet");
    std::fs::write(&stray, "no file of ours").unwrap();
    let storage = Storage::open(config(dir.path())).await.unwrap();
    storage.compact().await.unwrap();
    assert!(!stray.exists());
    assert_eq!(rows(&storage, Table::Spans).await.iter().map(RecordBatch::num_rows).sum::<usize>(), 40);
    storage.close().await.unwrap();
    drop(storage);

    std::fs::remove_dir_all(dir.path().join("spans/_delta_log")).unwrap();
    let error = Storage::open(config(dir.path())).await.err().unwrap();
    assert!(error.to_string().contains("spans/_delta_log"), "{error}");
}
