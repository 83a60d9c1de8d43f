use super::*;
use crate::disk::{CrashDisk, Disk, DiskStore};

fn file(number: u64) -> Arc<DataFile> {
    Arc::new(DataFile {
        path: Path::from(format!("spans/date=2026-11-21/{number}.parquet")),
        size_bytes: 1_000 + number,
        rows: 10 + number,
        min_time: UnixNanos::from_micros(1_795_248_000_000_000 + number as i64),
        max_time: UnixNanos::from_micros(1_795_248_000_123_456 + number as i64).plus_nanos(999),
        modified_ms: 1_795_248_001_000,
    })
}

async fn state(log: &DeltaLog) -> (Vec<Arc<DataFile>>, Option<u64>) {
    let mut files = log.files().await.unwrap();
    files.sort_by_key(|file| file.rows);
    (files, log.through_segment().await.unwrap())
}

#[tokio::test]
async fn the_log_gives_back_what_was_committed_also_from_checkpoints() {
    let disk = Arc::new(CrashDisk::new());
    let store = Arc::new(DiskStore::new(disk.clone()));
    let mut log = DeltaLog::open(store.clone(), Table::Spans).await.unwrap();
    assert!(log.is_new());
    assert_eq!(state(&log).await, (Vec::new(), None));
    let commits = 2 * CHECKPOINT_COMMITS + 5;
    for number in 1..=commits {
        let mut change =
            Change { add: vec![file(number)], through_segment: Some(number), ..Change::default() };
        if number > 3 {
            // A merge of two files.
            change =
                Change { remove: vec![file(number - 1)], through_segment: None, same_rows: true, ..change };
        }
        log.commit(&change).await.unwrap();
    }
    let expected = (vec![file(1), file(2), file(commits)], Some(3));
    assert_eq!(state(&log).await, expected);
    log.reload().await.unwrap();
    assert_eq!(state(&log).await, expected, "read anew");
    let again = DeltaLog::open(store, Table::Spans).await.unwrap();
    assert!(!again.is_new());
    assert_eq!(state(&again).await, expected, "opened anew");
    let commits_kept =
        disk.list("spans/_delta_log").unwrap().iter().filter(|(path, _)| path.ends_with(".json")).count();
    assert!(commits_kept as u64 <= CHECKPOINT_COMMITS + 6, "{commits_kept} commits are still there");
}

#[tokio::test]
async fn every_table_can_be_made_and_opened() {
    let store = Arc::new(DiskStore::new(Arc::new(CrashDisk::new())));
    for table in Table::ALL {
        assert!(DeltaLog::open(store.clone(), table).await.unwrap().is_new());
        assert!(!DeltaLog::open(store.clone(), table).await.unwrap().is_new());
    }
}
