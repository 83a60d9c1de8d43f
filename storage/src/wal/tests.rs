use std::{fs, path::Path, time::Duration};

use futures::TryStreamExt;
use pharos_model::TimeRange;

use super::*;
use crate::{
    Batch, Scan, Storage, StorageConfig, Table, spans_of,
    test_rows::{START, span},
};

fn config(dir: &Path) -> StorageConfig {
    StorageConfig { flush_after: Duration::from_secs(3_600), ..StorageConfig::new(dir) }
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

#[test]
fn damaged_bytes_never_make_rows_and_never_panic() {
    let spans = crate::columns::to_batch(&(0..3).map(span).collect::<Vec<_>>()).unwrap();
    let columns =
        crate::commit::Columns { tables: vec![(Table::Spans, spans.clone())], ..Default::default() };
    let payload = encode(&columns).unwrap();
    let schemas = Schemas::decode(&Schemas::current().encode().unwrap()).unwrap();
    assert_eq!(schemas.columns(&payload).unwrap().tables, [(Table::Spans, spans)]);
    for end in (0..payload.len()).step_by(97) {
        let read = schemas.columns(&payload[..end]);
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
