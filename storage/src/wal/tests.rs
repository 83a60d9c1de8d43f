use std::{fs, path::Path, sync::Arc, time::Duration};

use futures::TryStreamExt;
use pharos_model::TimeRange;

use super::*;
use crate::{
    AppendError, Batch, Durability, Scan, ScanValue, Storage, StorageConfig, Table,
    disk::{CrashDisk, Disk, Fault, Moment, Unsynced},
    open::Places,
    spans_of,
    table_log::DeltaLogs,
    table_store::TableStore,
    test_rows::{START, access_log, span},
};

fn config(dir: &Path) -> StorageConfig {
    StorageConfig { flush_after: Duration::from_secs(3_600), retention: None, ..StorageConfig::new(dir) }
}

/// Three commits in one segment, whose file is changed by `damage`; then what a new start finds: the numbers of the
/// spans, and the bytes put aside.
async fn after(damage: impl FnOnce(&mut Vec<u8>, &[usize])) -> (Vec<u64>, u64) {
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::open(config(dir.path())).await.unwrap();
    let segment = fs::read_dir(dir.path().join(WAL_DIRECTORY)).unwrap().next().unwrap().unwrap().path();
    let mut ends = vec![fs::metadata(&segment).unwrap().len() as usize];
    for commit in 0..3 {
        storage.append(Batch::Spans((commit * 10..commit * 10 + 10).map(span).collect())).await.unwrap();
        ends.push(fs::metadata(&segment).unwrap().len() as usize);
    }
    let mut bytes = fs::read(&segment).unwrap();
    drop(storage);
    damage(&mut bytes, &ends);
    fs::write(&segment, bytes).unwrap();

    let storage = Storage::open(config(dir.path())).await.unwrap();
    let scan = Scan::new(TimeRange::ALL);
    let batches = storage.snapshot(Table::Spans, scan.range).unwrap().read(&scan).await.unwrap();
    let batches: Vec<_> = batches.try_collect().await.unwrap();
    let spans = batches.iter().flat_map(|batch| spans_of(batch).unwrap());
    let mut numbers: Vec<u64> = spans.map(|span| (span.start.0 - START.0) as u64 / 7_000_001).collect();
    numbers.sort_unstable();
    let aside = fs::read_dir(dir.path().join(QUARANTINE_DIRECTORY))
        .map_or(0, |files| files.map(|file| file.unwrap().metadata().unwrap().len()).sum());
    assert_eq!(storage.stats().quarantined_bytes, aside);
    (numbers, aside)
}

#[tokio::test]
async fn an_undamaged_segment_is_read_whole() {
    assert_eq!(after(|_, _| {}).await, ((0..30).collect(), 0));
}

#[tokio::test]
async fn a_torn_tail_is_cut_and_nothing_else() {
    assert_eq!(after(|bytes, _| bytes.truncate(bytes.len() - 5)).await, ((0..20).collect(), 0));
    assert_eq!(after(|bytes, ends| bytes.truncate(ends[2] + 3)).await, ((0..20).collect(), 0));
    assert_eq!(after(|bytes, _| bytes.extend_from_slice(&[0; 4_096])).await, ((0..30).collect(), 0));
}

#[tokio::test]
async fn a_broken_frame_in_the_middle_is_put_aside_and_the_others_are_read() {
    let outer: Vec<u64> = (0..10).chain(20..30).collect();
    let (numbers, aside) = after(|bytes, ends| bytes[ends[1] + 200] ^= 1).await;
    assert_eq!(numbers, outer);
    assert!(aside > 200);
    // Its length is what is damaged.
    let (numbers, aside) = after(|bytes, ends| bytes[ends[1] + 4] ^= 0xff).await;
    assert_eq!(numbers, outer);
    assert!(aside > 200);
}

#[tokio::test]
async fn a_damaged_header_costs_only_itself() {
    for at in [3, 30] {
        let (numbers, aside) = after(|bytes, _| bytes[at] ^= 1).await;
        assert_eq!(numbers, (0..30).collect::<Vec<_>>(), "a flipped bit at {at}");
        assert!(aside > 30);
    }
}

/// A storage on a disk whose steps are recorded.
async fn recorded(config: StorageConfig) -> (CrashDisk, Storage) {
    let disk = CrashDisk::new();
    let own: Arc<dyn Disk> = Arc::new(disk.clone());
    let places = Places { tables: TableStore::on_disk(own.clone()), disk: own, logs: Arc::new(DeltaLogs) };
    let storage = Storage::open_without_compactor(config, places, true).await.unwrap();
    disk.record();
    (disk, storage)
}

fn count(steps: &[(Moment, String)], what: &str) -> usize {
    steps.iter().filter(|(_, step)| step.starts_with(what)).count()
}

fn batch(number: u64) -> Batch {
    Batch::Spans((number * 10..number * 10 + 10).map(span).collect())
}

#[tokio::test]
async fn appends_that_come_together_share_one_sync() {
    let config = StorageConfig { group_commit: Duration::from_secs(1), ..config(Path::new("")) };
    let (disk, storage) = recorded(config).await;
    let appends = (0..20).map(|number| storage.append(batch(number)));
    for appended in futures::future::join_all(appends).await {
        assert_eq!(appended.unwrap().rows, 10);
    }
    let steps = disk.recorded();
    assert!(count(&steps, "sync wal/") < 5, "{} syncs", count(&steps, "sync wal/"));
}

#[tokio::test]
async fn durability_says_when_an_append_is_synced() {
    let interval = Durability::Interval(Duration::from_millis(20));
    for durability in [Durability::Fsync, interval, Durability::None] {
        let (disk, storage) = recorded(StorageConfig { durability, ..config(Path::new("")) }).await;
        storage.append(batch(0)).await.unwrap();
        let appended = storage.stats().wal_bytes;
        let kept = |disk: &CrashDisk| {
            let crashed = disk.now().after_crash(Unsynced::Lost);
            crashed.list(WAL_DIRECTORY).unwrap().iter().map(|(_, stat)| stat.size).sum::<u64>()
        };
        match durability {
            Durability::Fsync => assert_eq!(kept(&disk), appended),
            Durability::None => assert!(kept(&disk) < appended, "it was synced, and nobody asked for it"),
            // Nothing else happens, and it is synced all the same.
            Durability::Interval(_) => {
                let synced = async {
                    while kept(&disk) < appended {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                };
                tokio::time::timeout(Duration::from_secs(60), synced).await.unwrap();
            }
        }
        assert_eq!(count(&disk.recorded(), "sync wal/"), usize::from(durability != Durability::None));
    }
}

#[tokio::test]
async fn a_segment_that_could_not_be_synced_is_never_written_again() {
    let (disk, storage) = recorded(config(Path::new(""))).await;
    storage.append(batch(0)).await.unwrap();
    let first = disk.list(WAL_DIRECTORY).unwrap()[0].0.clone();
    // The next step but one: after the append to the segment comes its sync.
    disk.set_fault(Fault::Error { at: disk.steps() + 2 });
    let error = storage.append(batch(1)).await.unwrap_err().to_string();
    assert!(error.contains(&first), "{error}");
    let length = disk.stat(&first).unwrap().size;
    disk.set_fault(Fault::None);
    storage.append(batch(1)).await.unwrap();
    assert_eq!(disk.stat(&first).unwrap().size, length);
    assert!(disk.list(WAL_DIRECTORY).unwrap().iter().any(|(path, _)| *path > first));
    assert_eq!(storage.snapshot(Table::Spans, TimeRange::ALL).unwrap().rows(), 20);
}

#[tokio::test]
async fn the_wal_has_a_bound_past_which_writers_wait_and_readers_go_on() {
    let config = StorageConfig { wal_bytes: 300_000, ..config(Path::new("")) };
    let (disk, storage) = recorded(config).await;
    // Nothing goes to files for now.
    disk.set_fault(Fault::ReadOnly("spans"));
    let mut stored = 0;
    let error = loop {
        match storage.append(batch(stored)).await {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 5_000, "the WAL has no bound");
    };
    assert!(matches!(error, AppendError::Overloaded { .. }), "{error}");
    assert_eq!(storage.snapshot(Table::Spans, TimeRange::ALL).unwrap().rows(), stored * 10);
    let on_disk: u64 = disk.list(WAL_DIRECTORY).unwrap().iter().map(|(_, stat)| stat.size).sum();
    assert!(on_disk < 600_000, "{on_disk} bytes");
    disk.set_fault(Fault::None);
    storage.flush().await.unwrap();
    storage.append(batch(stored)).await.unwrap();
    // What is in files is replayed no more.
    storage.flush().await.unwrap();
    assert_eq!(disk.list(WAL_DIRECTORY).unwrap().len(), 1);
}

#[test]
fn damaged_bytes_never_make_rows_and_never_panic() {
    let spans = crate::columns::to_batch(&(0..3).map(span).collect::<Vec<_>>()).unwrap();
    let columns =
        crate::commit::Columns { tables: vec![(Table::Spans, spans.clone())], ..Default::default() };
    let payload = bytes::Bytes::from(encode(&columns).unwrap());
    let schemas = Schemas::decode(&Schemas::current().encode().unwrap()).unwrap();
    assert_eq!(schemas.columns(&payload).unwrap().tables, [(Table::Spans, spans)]);
    for end in (0..payload.len()).step_by(97) {
        let read = schemas.columns(&payload.slice(..end));
        assert!(read.is_err() || read.is_ok_and(|columns| columns.is_empty()), "cut at {end}");
    }
    let frame = frame::encode_frame(7, &payload);
    for at in (0..frame.len()).step_by(53) {
        let mut broken = frame.clone();
        broken[at] ^= 0x10;
        assert!(frame::decode_frame(&broken).is_none(), "a flipped bit at {at} goes unseen");
    }
    assert_eq!(frame::find_frame(&[&[1, 2, 3], frame.as_slice()].concat()), Some(3));
}

/// A crash tears the last frame; then others come while the next segments are made.
#[tokio::test]
async fn crashes_while_segments_are_made_after_a_torn_one_put_nothing_aside() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::open(config(dir.path())).await.unwrap();
    storage.append(batch(0)).await.unwrap();
    drop(storage);
    let segments = || -> Vec<std::path::PathBuf> {
        let mut paths: Vec<_> =
            fs::read_dir(dir.path().join("wal")).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    };
    let newest = segments().pop().unwrap();
    let mut bytes = fs::read(&newest).unwrap();
    bytes.extend([7; 500]);
    fs::write(&newest, &bytes).unwrap();
    let number: u64 = newest.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    for (later, header) in [(1, Vec::new()), (2, bytes[..20].to_vec())] {
        fs::write(newest.with_file_name(format!("{:020}.wal", number + later)), header).unwrap();
    }
    let storage = Storage::open(config(dir.path())).await.unwrap();
    assert_eq!(storage.snapshot(Table::Spans, TimeRange::ALL).unwrap().rows(), 10);
    assert_eq!(storage.stats().quarantined_bytes, 0);
    storage.append(batch(1)).await.unwrap();
    drop(storage);
    let storage = Storage::open(config(dir.path())).await.unwrap();
    assert_eq!(storage.snapshot(Table::Spans, TimeRange::ALL).unwrap().rows(), 20);
    assert_eq!(storage.stats().quarantined_bytes, 0);
}

/// What queries of all kinds say.
async fn answers(storage: &Storage) -> Vec<String> {
    let read = async |table: Table, scan: Scan| {
        let batches = storage.snapshot(table, scan.range).unwrap().read(&scan).await.unwrap();
        batches.try_collect::<Vec<_>>().await.unwrap()
    };
    let spans = async |scan: Scan| -> Vec<String> {
        let batches = read(Table::Spans, scan).await;
        batches.iter().flat_map(|batch| spans_of(batch).unwrap()).map(|span| format!("{span:?}")).collect()
    };
    let all = Scan::new(TimeRange::ALL);
    let sorted = |mut rows: Vec<String>| {
        rows.sort();
        rows
    };
    let part = TimeRange::new(START.plus_nanos(1_000_000_000), START.plus_nanos(2_000_000_000));
    let of_trace = ScanValue::Bytes(span(4_321).trace_id.0.to_vec());
    let summaries = read(Table::TraceSummaries, all.clone()).await;
    let summaries = summaries.iter().flat_map(|batch| crate::trace_summaries_of(batch).unwrap());
    let logs = read(Table::AccessLogs, all.clone()).await;
    let logs = logs.iter().flat_map(|batch| crate::access_logs_of(batch).unwrap());
    let edges = storage.edges(TimeRange::ALL).await.unwrap();
    [
        sorted(spans(all.clone()).await),
        sorted(spans(Scan::new(part)).await),
        spans(all.clone().newest_first().limit(20)).await,
        spans(all.clone().equal("attributes.component", ScanValue::Text("proxy".into())).limit(7)).await,
        sorted(spans(all.clone().equal("trace_id", of_trace)).await),
        vec![
            read(Table::Spans, all.columns(Vec::<String>::new()))
                .await
                .iter()
                .map(|b| b.num_rows())
                .sum::<usize>()
                .to_string(),
        ],
        sorted(summaries.map(|row| format!("{row:?}")).collect()),
        sorted(logs.map(|row| format!("{row:?}")).collect()),
        sorted(
            edges.iter().map(|edge| format!("{:?} {:?} {:?}", edge.bucket, edge.key, edge.measure)).collect(),
        ),
    ]
    .map(|rows| rows.join("\n"))
    .into()
}

#[tokio::test]
async fn a_start_leaves_large_commits_in_the_wal_and_queries_notice_nothing() {
    let config = StorageConfig { head_bytes: 1 << 30, flush_bytes: 1 << 30, ..config(Path::new("")) };
    let disk = CrashDisk::new();
    let open = async |flushing| {
        let own: Arc<dyn Disk> = Arc::new(disk.clone());
        let places =
            Places { tables: TableStore::on_disk(own.clone()), disk: own, logs: Arc::new(DeltaLogs) };
        Storage::open_without_compactor(config.clone(), places, flushing).await.unwrap()
    };
    let storage = open(false).await;
    let spans = |part: u64| Batch::Spans((part * 4_000..part * 4_000 + 4_000).map(span).collect());
    for part in 0..2 {
        storage.append(spans(part)).await.unwrap();
        let logs = (part * 4_000..part * 4_000 + 4_000).map(access_log).collect();
        storage.append(Batch::AccessLogs(logs)).await.unwrap();
        storage.append(batch(1_000 + part)).await.unwrap();
    }
    let (before, in_memory) = (answers(&storage).await, storage.stats().head_bytes);
    drop(storage);

    let storage = open(false).await;
    assert!(storage.stats().head_bytes * 20 < in_memory, "{} bytes", storage.stats().head_bytes);
    let snapshot = storage.snapshot(Table::Spans, TimeRange::ALL).unwrap();
    assert!(snapshot.head_in_memory().is_none());
    assert_eq!(answers(&storage).await, before);
    assert_eq!(storage.append(spans(1)).await.unwrap().duplicates, 4_000);
    drop(storage);

    // Written to files, and gone from the WAL, under a reader.
    let storage = open(true).await;
    assert_eq!(answers(&storage).await, before);
    let rows: Vec<_> = snapshot.read(&Scan::new(TimeRange::ALL)).await.unwrap().try_collect().await.unwrap();
    assert_eq!(rows.iter().map(|batch| batch.num_rows()).sum::<usize>(), 8_020);
    assert_eq!(disk.list(WAL_DIRECTORY).unwrap().len(), 1);
}
