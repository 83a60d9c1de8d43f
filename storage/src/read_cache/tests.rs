use object_store::{ObjectStoreExt, memory::InMemory};

use super::*;
use crate::disk::{CrashDisk, Fault, Unsynced};

const LENGTH: u64 = 5 * BLOCK_BYTES + 1_000;

fn bytes() -> Vec<u8> {
    (0..LENGTH).map(|at| (at % 253) as u8).collect()
}

async fn bucket() -> (Arc<InMemory>, Path) {
    let (objects, path) = (Arc::new(InMemory::new()), Path::from("spans/date=2026-11-21/a-00000001.parquet"));
    objects.put(&path, bytes().into()).await.unwrap();
    (objects, path)
}

fn open(objects: &Arc<InMemory>, disk: &CrashDisk, limit_bytes: u64) -> ReadCache {
    ReadCache::open(objects.clone(), Arc::new(disk.clone()), limit_bytes).unwrap()
}

async fn read_byte(cache: &ReadCache, path: &Path, at: u64) {
    cache.get_ranges(path, std::slice::from_ref(&(at..at + 1))).await.unwrap();
}

/// Reads all kinds of ranges and returns how many blocks were there and how many were fetched for it.
async fn read_all(cache: &ReadCache, path: &Path) -> (u64, u64) {
    let before = cache.stats();
    let ranges = [
        0..10,
        BLOCK_BYTES - 5..BLOCK_BYTES + 5,
        3 * BLOCK_BYTES..3 * BLOCK_BYTES,
        10..LENGTH,
        LENGTH - 8..LENGTH,
    ];
    let got = cache.get_ranges(path, &ranges).await.unwrap();
    for (range, got) in ranges.iter().zip(got) {
        assert_eq!(got, bytes()[range.start as usize..range.end as usize], "{range:?}");
    }
    let after = cache.stats();
    (after.hits - before.hits, after.misses - before.misses)
}

#[tokio::test]
async fn a_block_is_fetched_once_also_over_a_restart() {
    let ((objects, path), disk) = (bucket().await, CrashDisk::new());
    let cache = open(&objects, &disk, 100 << 20);
    assert_eq!(read_all(&cache, &path).await, (0, 6));
    assert_eq!(read_all(&cache, &path).await, (6, 0));
    let bytes = cache.stats().bytes;
    assert!((LENGTH..LENGTH + 100).contains(&bytes), "{bytes}");
    let cache = open(&objects, &disk, 100 << 20);
    assert_eq!(read_all(&cache, &path).await, (6, 0));
    assert_eq!(cache.stats().bytes, bytes);
    // Logs change, and are asked for each time.
    let log = Path::from("spans/_delta_log/00000000000000000001.json");
    objects.put(&log, "old".into()).await.unwrap();
    assert_eq!(cache.get_range(&log, 0..3).await.unwrap(), "old");
    objects.put(&log, "new".into()).await.unwrap();
    assert_eq!(cache.get_range(&log, 0..3).await.unwrap(), "new");
}

#[tokio::test]
async fn what_a_crash_or_the_disk_has_damaged_is_fetched_anew() {
    let ((objects, path), disk) = (bucket().await, CrashDisk::new());
    assert_eq!(read_all(&open(&objects, &disk, 100 << 20), &path).await, (0, 6));
    for seed in 0..20 {
        let torn = disk.now().after_crash(Unsynced::Torn(seed));
        let cache = open(&objects, &torn, 100 << 20);
        let (hits, misses) = read_all(&cache, &path).await;
        assert_eq!(hits + misses, 6);
        assert_eq!(read_all(&cache, &path).await, (6, 0));
    }
    let (name, _) = disk.list(FOLDER).unwrap().remove(0);
    disk.flip_bit(&name, 3);
    assert_eq!(read_all(&open(&objects, &disk, 100 << 20), &path).await, (5, 1));
    disk.remove(&name).unwrap();
    disk.set_fault(Fault::Full { from: 0, steps: u64::MAX });
    assert_eq!(read_all(&open(&objects, &disk, 100 << 20), &path).await, (5, 1));
}

#[tokio::test]
async fn the_blocks_that_were_not_used_for_long_make_room() {
    let ((objects, path), disk) = (bucket().await, CrashDisk::new());
    let limit = 3 * (BLOCK_BYTES + 100);
    let cache = open(&objects, &disk, limit);
    read_all(&cache, &path).await;
    let on_disk = || -> u64 { disk.list(FOLDER).unwrap().iter().map(|(_, stat)| stat.size).sum() };
    assert!(on_disk() <= limit && on_disk() == cache.stats().bytes, "{}", on_disk());
    for block in [0, 1, 0, 2, 0, 3, 0, 4] {
        read_byte(&cache, &path, block * BLOCK_BYTES).await;
        assert!(on_disk() <= limit);
    }
    let before = cache.stats().hits;
    read_byte(&cache, &path, 0).await;
    assert_eq!(cache.stats().hits, before + 1, "what was used all the time is gone");
    // A smaller limit holds at once.
    let cache = open(&objects, &disk, BLOCK_BYTES + 100);
    assert!(on_disk() <= BLOCK_BYTES + 100 && cache.stats().bytes == on_disk());
}
