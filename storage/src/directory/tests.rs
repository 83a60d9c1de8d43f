use std::{fs, path::Path as FilePath};

use pharos_model::TimeRange;

use super::*;
use crate::{
    Batch, Scan, Storage, Table,
    test_rows::{access_log, counter, span},
};

fn quiet(_: &str, _: u64, _: u64) {}

fn config(dir: &FilePath) -> StorageConfig {
    StorageConfig { retention: None, ..StorageConfig::new(dir) }
}

/// Forty spans in two files, access logs and samples in one each, and ten spans in the WAL.
async fn fill(dir: &FilePath) {
    let storage = Storage::open(config(dir)).await.unwrap();
    storage.append(Batch::AccessLogs((0..30).map(access_log).collect())).await.unwrap();
    storage.append(Batch::Samples(vec![counter("a", 0..9)])).await.unwrap();
    for start in [0, 20] {
        storage.append(Batch::Spans((start..start + 20).map(span).collect())).await.unwrap();
        storage.flush().await.unwrap();
    }
    storage.append(Batch::Spans((40..50).map(span).collect())).await.unwrap();
}

async fn rows(dir: &FilePath) -> Vec<(Table, usize)> {
    use futures::TryStreamExt;
    let storage = Storage::open(config(dir)).await.unwrap();
    let mut counts = Vec::new();
    for table in [Table::Spans, Table::AccessLogs, Table::Samples] {
        let snapshot = storage.snapshot(table, TimeRange::ALL).unwrap();
        let batches = snapshot.read(&Scan::new(TimeRange::ALL)).await.unwrap();
        let batches: Vec<_> = batches.try_collect().await.unwrap();
        counts.push((table, batches.iter().map(|batch| batch.num_rows()).sum()));
    }
    counts
}

fn first_file(dir: &FilePath, table: Table) -> std::path::PathBuf {
    let date = fs::read_dir(dir.join(table.name())).unwrap().map(|entry| entry.unwrap().path());
    let date = date.into_iter().find(|path| path.to_string_lossy().contains("date=")).unwrap();
    let mut files: Vec<_> = fs::read_dir(date).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.remove(0)
}

fn flip(path: &FilePath, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    let at = at.min(bytes.len() - 1);
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn a_directory_in_use_can_be_looked_at_and_not_changed() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path()).await;
    let storage = Storage::open(config(dir.path())).await.unwrap();
    let stat = DataDirectory::to_read(config(dir.path())).unwrap().stat(&quiet).await.unwrap();
    let spans = &stat.tables[Table::Spans as usize];
    assert!(spans.files >= 1 && spans.rows >= 40 && spans.bytes > 1_000, "{spans:?}");
    assert!(spans.oldest.as_ref().unwrap().starts_with("2026-11-21T08:00:00.000"), "{spans:?}");
    let in_columns: u64 = spans.columns.iter().map(|column| column.bytes).sum();
    assert!(in_columns > 0 && in_columns <= spans.bytes);
    assert!(spans.columns.iter().any(|column| column.name == "attributes"), "{spans:?}");
    assert!(stat.wal_bytes > 0 && stat.quarantine.is_empty());
    let error = DataDirectory::to_change(config(dir.path())).err().unwrap();
    assert!(error.to_string().contains("in use"), "{error}");
    drop(storage);
    let error = DataDirectory::to_read(config(&dir.path().join("nowhere"))).err().unwrap();
    assert!(error.to_string().contains("nowhere is no directory"), "{error}");
}

#[tokio::test]
async fn a_whole_directory_has_no_problems_and_repair_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path()).await;
    let before = rows(dir.path()).await;
    let report = DataDirectory::to_change(config(dir.path())).unwrap().check(&quiet).await.unwrap();
    assert_eq!(report.problems, []);
    let spans: u64 = report.tables[Table::Spans as usize].rows;
    assert!((40..=50).contains(&spans));
    let repaired = DataDirectory::to_change(config(dir.path())).unwrap().repair(&quiet).await.unwrap();
    assert_eq!((repaired.repaired, repaired.wal_quarantined_bytes), (Vec::new(), 0));
    assert_eq!(rows(dir.path()).await, before);
    assert_eq!(before, [(Table::Spans, 50), (Table::AccessLogs, 30), (Table::Samples, 9)]);
}

/// What is damaged, what the check says of it, and the spans that are left after the repair.
#[tokio::test]
async fn damage_is_found_and_costs_only_itself() {
    let of_spans = |dir: &FilePath| first_file(dir, Table::Spans);
    let log = |dir: &FilePath| dir.join("spans/_delta_log/00000000000000000001.json");
    type Damage = Box<dyn Fn(&FilePath)>;
    let cases: [(&str, Damage, &str, std::ops::RangeInclusive<usize>); 5] = [
        (
            "a deleted file",
            Box::new(move |dir| fs::remove_file(of_spans(dir)).unwrap()),
            "not there",
            30..=30,
        ),
        ("a footer", Box::new(move |dir| flip(&of_spans(dir), usize::MAX)), "checksum", 30..=30),
        ("a page", Box::new(move |dir| flip(&of_spans(dir), 40)), "checksum", 30..=50),
        ("a commit", Box::new(move |dir| flip(&log(dir), 3)), "spans/_delta_log", 50..=50),
        (
            "a lost commit",
            Box::new(move |dir| fs::remove_file(log(dir)).unwrap()),
            "spans/_delta_log",
            50..=50,
        ),
    ];
    for (what, damage, complaint, spans_left) in cases {
        let dir = tempfile::tempdir().unwrap();
        fill(dir.path()).await;
        damage(dir.path());
        let report = DataDirectory::to_change(config(dir.path())).unwrap().check(&quiet).await.unwrap();
        let [problem] = report.problems.as_slice() else { panic!("{what}: {:?}", report.problems) };
        assert!(format!("{problem:?}").contains(complaint), "{what}: {problem:?}");
        let repaired = DataDirectory::to_change(config(dir.path())).unwrap().repair(&quiet).await.unwrap();
        let [done] = repaired.repaired.as_slice() else { panic!("{what}: {:?}", repaired.repaired) };
        assert_eq!(done.path, problem.path, "{what}");
        let kept = done.kept_as.as_ref().map(|path| dir.path().join(path));
        assert_eq!(kept.is_some_and(|path| path.exists()), what != "a deleted file", "{what}");
        let left = rows(dir.path()).await;
        assert!(spans_left.contains(&left[0].1), "{what}: {left:?}");
        assert_eq!(left[0].1 as u64 + done.rows_lost, 50, "{what}");
        assert_eq!(left[1..], [(Table::AccessLogs, 30), (Table::Samples, 9)], "{what}");
        let report = DataDirectory::to_change(config(dir.path())).unwrap().check(&quiet).await.unwrap();
        assert_eq!(report.problems, [], "{what}");
    }
}

#[tokio::test]
async fn a_broken_frame_of_the_wal_is_told_and_put_aside() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::open(config(dir.path())).await.unwrap();
    for n in 0..3 {
        storage.append(Batch::Spans((n * 10..n * 10 + 10).map(span).collect())).await.unwrap();
    }
    drop(storage);
    let segment = fs::read_dir(dir.path().join("wal")).unwrap().next().unwrap().unwrap().path();
    let size = fs::metadata(&segment).unwrap().len() as usize;
    flip(&segment, size - size / 8);
    let report = DataDirectory::to_change(config(dir.path())).unwrap().check(&quiet).await.unwrap();
    // The last frame looks as if it had been cut off; one before it does not.
    assert!(report.wal_frames >= 2, "{report:?}");
    flip(&segment, size / 2);
    let report = DataDirectory::to_change(config(dir.path())).unwrap().check(&quiet).await.unwrap();
    assert!(report.problems.iter().all(|problem| problem.path.starts_with("wal/")), "{report:?}");
    assert!(!report.problems.is_empty(), "{report:?}");
    let repaired = DataDirectory::to_change(config(dir.path())).unwrap().repair(&quiet).await.unwrap();
    assert!(repaired.wal_quarantined_bytes > 0);
    let report = DataDirectory::to_change(config(dir.path())).unwrap().check(&quiet).await.unwrap();
    assert_eq!((report.problems.len(), report.quarantine.len()), (0, 1), "{report:?}");
}

#[tokio::test]
async fn an_export_is_one_file_with_the_rows_of_the_range() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path()).await;
    let storage = Storage::open(config(dir.path())).await.unwrap();
    let path = dir.path().join("spans.parquet");
    let range = TimeRange::new(span(10).start, span(45).start);
    assert_eq!(storage.export(Table::Spans, range, &path, |_, _| {}).await.unwrap(), 35);
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(
        fs::File::open(&path).unwrap(),
    );
    let rows: usize = reader.unwrap().build().unwrap().map(|batch| batch.unwrap().num_rows()).sum();
    assert_eq!(rows, 35);
    let again = storage.export(Table::Spans, range, &path, |_, _| {}).await.unwrap_err();
    assert!(again.to_string().contains("spans.parquet"), "{again}");
}
