//! What a user meets when the disk or a file is broken: a message that names it, and everything else goes on.

use std::{sync::Arc, time::Duration};

use futures::TryStreamExt;
use pharos_model::TimeRange;

use crate::{
    AppendError, Batch, Scan, Storage, StorageConfig, StorageError, Table,
    disk::{CrashDisk, Disk, Fault, Unsynced},
    open::Places,
    table_log::DeltaLogs,
    table_store::TableStore,
    test_rows::{access_log, counter, span},
};

async fn open(disk: &CrashDisk) -> Result<Storage, StorageError> {
    let config = StorageConfig {
        flush_after: Duration::from_secs(3_600),
        retention: None,
        group_commit: Duration::ZERO,
        vacuum_after: Duration::ZERO,
        compact_files: 2,
        ..StorageConfig::new("")
    };
    let own: Arc<dyn Disk> = Arc::new(disk.clone());
    let tables = TableStore::on_disk(own.clone());
    Storage::open_in(config, Places { disk: own, tables, logs: Arc::new(DeltaLogs) }, None).await
}

async fn count(storage: &Storage, table: Table) -> Result<usize, StorageError> {
    let batches = storage.snapshot(table, TimeRange::ALL)?.read(&Scan::new(TimeRange::ALL)).await?;
    let batches: Vec<_> = batches.try_collect().await?;
    Ok(batches.iter().map(|batch| batch.num_rows()).sum())
}

fn spans(numbers: std::ops::Range<u64>) -> Batch {
    Batch::Spans(numbers.map(span).collect())
}

/// Ten spans and ten access logs in files.
async fn filled() -> (CrashDisk, Storage) {
    let disk = CrashDisk::new();
    let storage = open(&disk).await.unwrap();
    storage.append(spans(0..10)).await.unwrap();
    storage.append(Batch::AccessLogs((0..10).map(access_log).collect())).await.unwrap();
    storage.append(Batch::Samples(vec![counter("a", 0..10)])).await.unwrap();
    storage.flush().await.unwrap();
    (disk, storage)
}

fn file_of(disk: &CrashDisk, table: Table) -> String {
    let files = disk.list(table.name()).unwrap();
    files.into_iter().map(|(path, _)| path).find(|path| path.ends_with(".parquet")).unwrap()
}

#[tokio::test]
async fn a_full_disk_refuses_writers_with_its_reason_and_readers_go_on() {
    let (disk, storage) = filled().await;
    disk.set_fault(Fault::Full { from: 0, steps: u64::MAX });
    let error = storage.append(spans(10..20)).await.unwrap_err();
    assert!(matches!(error, AppendError::Failed(_)), "{error}");
    assert!(error.to_string().contains("wal/") && error.to_string().contains("storage space"), "{error}");
    assert_eq!(count(&storage, Table::Spans).await.unwrap(), 10);
    disk.set_fault(Fault::None);
    storage.append(spans(10..20)).await.unwrap();
    assert_eq!(count(&storage, Table::Spans).await.unwrap(), 20);
}

#[tokio::test]
async fn a_table_that_cannot_be_written_keeps_its_rows_in_the_wal() {
    let (disk, storage) = filled().await;
    storage.append(spans(10..20)).await.unwrap();
    storage.append(Batch::AccessLogs((10..20).map(access_log).collect())).await.unwrap();
    disk.set_fault(Fault::ReadOnly("spans"));
    let error = storage.flush().await.unwrap_err().to_string();
    assert!(error.contains("spans/") && error.contains("permission denied"), "{error}");
    assert!(storage.stats().flush_failures > 0);
    storage.append(spans(20..30)).await.unwrap();
    assert_eq!(count(&storage, Table::Spans).await.unwrap(), 30);
    assert_eq!(count(&storage, Table::AccessLogs).await.unwrap(), 20);
    // A crash now: the rows are in the WAL.
    let reopened = open(&disk.now().after_crash(Unsynced::Lost)).await.unwrap();
    assert_eq!(count(&reopened, Table::Spans).await.unwrap(), 30);
    disk.set_fault(Fault::None);
    // Also if a try is under way that fails yet.
    storage.flush().await.unwrap();
    assert_eq!(count(&storage, Table::Spans).await.unwrap(), 30);
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_at_all_is_named_at_the_start() {
    let disk = CrashDisk::new();
    disk.set_fault(Fault::ReadOnly("_delta_log"));
    let error = open(&disk).await.err().unwrap().to_string();
    assert!(error.contains("spans") && error.contains("permission denied"), "{error}");
}

#[tokio::test]
async fn a_deleted_or_damaged_data_file_is_named_and_the_other_tables_go_on() {
    for damage in ["deleted", "footer"] {
        let (disk, storage) = filled().await;
        drop(storage);
        let file = file_of(&disk, Table::Spans);
        match damage {
            "deleted" => disk.remove(&file).unwrap(),
            _ => disk.flip_bit(&file, usize::MAX),
        }
        let storage = open(&disk).await.unwrap_or_else(|error| panic!("{damage}: {error}"));
        let error = count(&storage, Table::Spans).await.unwrap_err().to_string();
        assert!(error.contains(&file) && error.contains("pharos storage repair"), "{damage}: {error}");
        assert_eq!(count(&storage, Table::AccessLogs).await.unwrap(), 10);
        // New rows are taken, and found where the broken file is not looked at.
        storage.append(spans(20_000_000..20_000_010)).await.unwrap();
        let later = TimeRange::new(span(19_000_000).start, span(30_000_000).start);
        let snapshot = storage.snapshot(Table::Spans, later).unwrap();
        let found: Vec<_> = snapshot.read(&Scan::new(later)).await.unwrap().try_collect().await.unwrap();
        assert_eq!(found.iter().map(|batch| batch.num_rows()).sum::<usize>(), 10);
    }
}

#[tokio::test]
async fn a_bit_that_flips_in_a_page_is_found_by_the_queries_that_need_it_and_costs_only_them() {
    let (disk, storage) = filled().await;
    let file = file_of(&disk, Table::Spans);
    disk.flip_bit(&file, 40);
    let error = count(&storage, Table::Spans).await.unwrap_err().to_string();
    assert!(error.contains(&file) && error.contains("not those that were written"), "{error}");
    assert_eq!(storage.stats().damaged_files, 1);
    assert_eq!(count(&storage, Table::AccessLogs).await.unwrap(), 10);
    // Rows that come later are found, and their files merged: without the one that is damaged.
    let later = |n: u64| 1_000_000 + n * 10..1_000_010 + n * 10;
    for n in 0..3 {
        storage.append(spans(later(n))).await.unwrap();
        storage
            .append(Batch::AccessLogs((n * 10 + 10..n * 10 + 20).map(access_log).collect()))
            .await
            .unwrap();
        storage.flush().await.unwrap();
    }
    storage.compact().await.unwrap();
    let files = |table: Table| storage.snapshot(table, TimeRange::ALL).unwrap().files.len();
    assert_eq!((files(Table::AccessLogs), files(Table::Spans)), (1, 2));
    let range = TimeRange::new(span(900_000).start, span(2_000_000).start);
    let found = storage.snapshot(Table::Spans, range).unwrap().read(&Scan::new(range)).await.unwrap();
    let found: Vec<_> = found.try_collect().await.unwrap();
    assert_eq!(found.iter().map(|batch| batch.num_rows()).sum::<usize>(), 30);
    let error = count(&storage, Table::Spans).await.unwrap_err().to_string();
    assert!(error.contains(&file), "{error}");
}

#[tokio::test]
async fn a_damaged_commit_or_series_file_is_named_at_the_start() {
    let (disk, storage) = filled().await;
    drop(storage);
    for path in ["spans/_delta_log/00000000000000000001.json".to_string(), file_of(&disk, Table::Series)] {
        let damaged = disk.copy(Fault::None);
        damaged.flip_bit(&path, usize::MAX);
        let error = open(&damaged).await.err().unwrap().to_string();
        let table = path.split('/').next().unwrap();
        assert!(error.contains(table) && error.contains("pharos storage repair"), "{path}: {error}");
    }
}

#[tokio::test]
async fn a_clock_that_goes_back_loses_and_doubles_nothing() {
    let (disk, storage) = filled().await;
    drop(storage);
    // All files are of tomorrow now.
    disk.age(-24 * 3_600);
    let storage = open(&disk).await.unwrap();
    assert_eq!(storage.append(spans(5..15)).await.unwrap().rows, 5);
    storage.flush().await.unwrap();
    storage.compact().await.unwrap();
    assert_eq!(count(&storage, Table::Spans).await.unwrap(), 15);
    assert_eq!(count(&storage, Table::AccessLogs).await.unwrap(), 10);
    drop(storage);
    let storage = open(&disk).await.unwrap();
    storage.compact().await.unwrap();
    assert_eq!(count(&storage, Table::Spans).await.unwrap(), 15);
}
