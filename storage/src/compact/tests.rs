use std::time::Duration;

use arrow::array::RecordBatch;
use futures::TryStreamExt;
use pharos_model::{EdgeOrigin, TimeRange};

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

/// Sums of durations differ in their last bits with the order in which they were added.
fn rounded(mut edges: Vec<pharos_model::Edge>) -> Vec<pharos_model::Edge> {
    for edge in &mut edges {
        edge.counter.increase = (edge.counter.increase * 1e6).round() / 1e6;
    }
    edges.sort_by_key(|edge| format!("{edge:?}"));
    edges
}

async fn stored_edges(storage: &Storage) -> Vec<pharos_model::Edge> {
    let batches = rows(storage, Table::Edges).await;
    rounded(batches.iter().flat_map(|batch| crate::edges_of(batch).unwrap()).collect())
}

async fn stored_summaries(storage: &Storage) -> Vec<crate::TraceSummary> {
    let batches = rows(storage, Table::TraceSummaries).await;
    let mut all: Vec<_> = batches.iter().flat_map(|b| crate::trace_summaries_of(b).unwrap()).collect();
    all.sort_by_key(|summary| (summary.start, summary.trace_id));
    all
}

#[tokio::test]
async fn derived_rows_are_joined_when_files_are_merged_and_a_rebuild_makes_the_same_ones() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::open(StorageConfig { compact_files: 3, ..config(dir.path()) }).await.unwrap();
    // Spans of one bucket and of one trace come in with three flushes.
    let parts = [0..50, 50..99, 99..240];
    for part in parts.clone() {
        storage.append(Batch::Spans(part.clone().map(span).collect())).await.unwrap();
        storage.append(Batch::AccessLogs(part.map(access_log).collect())).await.unwrap();
        storage.flush().await.unwrap();
    }
    for n in 0..3 {
        storage.append(Batch::Samples(vec![counter("a", n * 5..n * 5 + 5)])).await.unwrap();
        storage.flush().await.unwrap();
    }
    let apart = stored_edges(&storage).await.len();
    let answer = rounded(storage.edges(TimeRange::ALL).await.unwrap());
    storage.compact().await.unwrap();
    let merged = stored_edges(&storage).await;
    assert!(merged.len() < apart, "{} of {apart}", merged.len());
    assert_eq!(merged, answer, "as many rows as keys and buckets");
    assert_eq!(rounded(storage.edges(TimeRange::ALL).await.unwrap()), answer);
    let summaries = stored_summaries(&storage).await;
    assert_eq!(summaries.len(), 60);
    assert!(summaries.iter().all(|summary| summary.spans == 4 && !summary.root_service.is_empty()));

    let steps = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let seen = steps.clone();
    let made = storage.rebuild(Table::Edges, move |step| seen.lock().push(step)).await.unwrap();
    let of_rows = merged.iter().filter(|edge| edge.key.origin != EdgeOrigin::Metrics);
    assert_eq!(made, of_rows.count() as u64, "those of counters are stored nowhere");
    assert_eq!(stored_edges(&storage).await, merged);
    assert!(steps.lock().last().is_some_and(|step| step.through == step.last && step.rows == made));
    assert_eq!(storage.rebuild(Table::TraceSummaries, |_| ()).await.unwrap(), 60);
    let again = stored_summaries(&storage).await;
    // A trace that was cut by a flush had orphans in its parts; made at once it has none.
    let without_orphans = |mut all: Vec<crate::TraceSummary>| {
        all.iter_mut().for_each(|summary| summary.orphans = 0);
        all
    };
    assert_eq!(without_orphans(again.clone()), without_orphans(summaries));
    assert!(again.iter().all(|summary| summary.orphans == 0));
    let error = storage.rebuild(Table::Spans, |_| ()).await.unwrap_err();
    assert!(error.to_string().contains("spans"), "{error}");

    // Rows that come after a rebuild are derived as before it.
    storage.append(Batch::Spans((240..260).map(span).collect())).await.unwrap();
    assert!(storage.edges(TimeRange::ALL).await.unwrap().len() >= answer.len());
    storage.close().await.unwrap();
    drop(storage);
    let storage = Storage::open(config(dir.path())).await.unwrap();
    assert_eq!(stored_summaries(&storage).await.len(), 65);
}

/// Merging comes to an end whatever sizes there are, and the newest day has its turn first.
#[test]
fn files_are_merged_by_size_until_there_is_nothing_to_merge() {
    let file = |number: u64, day: u32, size_bytes: u64| {
        Arc::new(DataFile {
            path: object_store::path::Path::from(format!("spans/date=2026-11-{day}/{number}.parquet")),
            size_bytes,
            rows: 1,
            min_time: UnixNanos(number as i64),
            max_time: UnixNanos(number as i64),
            modified_ms: 0,
        })
    };
    let check = |sizes: &[u64], left: usize| {
        let mut files: Vec<Arc<DataFile>> =
            sizes.iter().zip(0..).map(|(size, number)| file(number, 21, *size)).collect();
        let mut merges = 0;
        while let Some(inputs) = due_for_merge(&files, 4, 1_000_000) {
            let bytes: u64 = inputs.iter().map(|file| file.size_bytes).sum();
            assert!(inputs.len() >= 2 && bytes <= 1_000_000, "{} files of {bytes} bytes", inputs.len());
            files.retain(|file| !inputs.contains(file));
            merges += 1;
            files.push(file(1_000 + merges, 21, bytes));
            assert!(merges <= sizes.len() as u64, "no end: {sizes:?}");
        }
        assert_eq!(files.len(), left, "{sizes:?}");
    };
    check(&[100; 3], 3);
    check(&[100; 4], 1);
    check(&[100_000; 16], 2);
    // Nearly full ones, of which no two fit into one.
    check(&[930_000; 12], 12);
    check(&[930_000, 60_000, 930_000, 930_000, 930_000, 60_000], 6);
    check(&[1_200_000; 9], 9);
    // A little different in size, wherever that lies.
    check(&[60_000, 66_000, 60_000, 66_000], 1);
    check(&[400_000, 100_000, 130_000, 140_000], 1);
    check(&[500_000, 100_000, 110_000, 120_000], 4);
    let days: Vec<_> = (0..8).map(|number| file(number, 20 + number as u32 % 2, 500)).collect();
    let newest = due_for_merge(&days, 4, 1_000_000).unwrap();
    assert!(newest.iter().all(|file| file.date() == Some("2026-11-21")));
}
