//! What of the files' samples is in memory after a start.

use super::*;
use crate::test_rows::{START, counter};

/// Samples of a file: 16 minutes.
const SAMPLES: i64 = 64;
const FILES: i64 = 6;
const PODS: [&str; 5] = ["a", "b", "c", "d", "e"];

fn config(dir: &Path, recent_samples_bytes: usize) -> StorageConfig {
    StorageConfig {
        flush_after: Duration::from_secs(3_600),
        retention: None,
        compact_files: 100,
        recent_samples_bytes,
        ..StorageConfig::new(dir)
    }
}

fn at_ms(sample: i64) -> i64 {
    START.millis() + sample * 15_000
}

/// Files with samples, written an hour before the newest of them, so that no start has to look for resends in them.
async fn fill(dir: &Path, merged: bool) {
    let storage = Storage::open(config(dir, 1 << 20)).await.unwrap();
    for file in 0..FILES {
        let samples = file * SAMPLES..(file + 1) * SAMPLES;
        storage.append(Batch::Samples(PODS.map(|pod| counter(pod, samples.clone())).to_vec())).await.unwrap();
        storage.flush().await.unwrap();
    }
    storage.close().await.unwrap();
    drop(storage);
    if merged {
        let storage =
            Storage::open(StorageConfig { compact_files: 2, ..config(dir, 1 << 20) }).await.unwrap();
        storage.compact().await.unwrap();
        storage.close().await.unwrap();
    }
    let storage = Storage::open(config(dir, 1 << 20)).await.unwrap();
    storage
        .append(Batch::Samples(vec![counter("newest", FILES * SAMPLES..FILES * SAMPLES + 1)]))
        .await
        .unwrap();
    storage.close().await.unwrap();
    let mut logs: Vec<_> =
        std::fs::read_dir(dir.join("samples/_delta_log")).unwrap().map(Result::unwrap).collect();
    logs.sort_by_key(std::fs::DirEntry::file_name);
    for log in logs.iter().rev().skip(1) {
        let text = std::fs::read_to_string(log.path()).unwrap();
        let (key, mut aged) = ("\"modificationTime\":", String::new());
        for (number, part) in text.split(key).enumerate() {
            let digits = part.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(part.len());
            match part[..digits].parse::<i64>() {
                Ok(time_ms) if number > 0 => {
                    aged += &format!("{key}{}{}", time_ms - 3_600_000, &part[digits..]);
                }
                _ => aged += part,
            }
        }
        std::fs::write(log.path(), aged).unwrap();
    }
}

fn needs_files(storage: &Storage, samples: std::ops::Range<i64>) -> bool {
    let (first_ms, last_ms) = (at_ms(samples.start), at_ms(samples.end - 1));
    storage.select_samples(&[], first_ms, last_ms, 100).unwrap().needs_files()
}

async fn until_in_memory(storage: &Storage, samples: std::ops::Range<i64>) {
    let all = async {
        while needs_files(storage, samples.clone()) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all).await.unwrap();
}

async fn check(storage: &Storage, samples: std::ops::Range<i64>, when: &str) {
    let ids = PODS.map(|pod| counter(pod, 0..0).labels.series_id());
    let columns = storage.read_samples(&ids, at_ms(samples.start), at_ms(samples.end - 1)).await.unwrap();
    for (of_series, pod) in columns.into_iter().zip(PODS) {
        let expected: Vec<f64> = samples.clone().map(|n| n as f64 * 3.0).collect();
        assert_eq!(of_series.values, expected, "{pod} {when}");
        let expected: Vec<i64> = samples.clone().map(at_ms).collect();
        assert_eq!(of_series.times_ms, expected, "{pod} {when}");
    }
}

const ALL: std::ops::Range<i64> = 0..FILES * SAMPLES;
const NEWEST: std::ops::Range<i64> = (FILES - 1) * SAMPLES..FILES * SAMPLES;

#[tokio::test]
async fn recent_samples_are_read_from_memory_again_some_time_after_a_start() {
    for merged in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        fill(dir.path(), merged).await;
        let storage = Storage::open(StorageConfig { compact_files: 2, ..config(dir.path(), 1 << 20) });
        let storage = storage.await.unwrap();
        check(&storage, ALL, "at once").await;
        until_in_memory(&storage, ALL).await;
        check(&storage, ALL, "in memory").await;
        // Whatever files there are by then.
        storage.compact().await.unwrap();
        assert!(!needs_files(&storage, ALL));
        check(&storage, 10..200, "merged").await;
    }
}

#[tokio::test]
async fn memory_holds_the_newest_samples_for_which_there_is_room() {
    for merged in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        fill(dir.path(), merged).await;
        // A sample takes a byte: three of the six files.
        let storage =
            Storage::open(config(dir.path(), 3 * PODS.len() * SAMPLES as usize + 200)).await.unwrap();
        until_in_memory(&storage, NEWEST).await;
        check(&storage, NEWEST, "in memory").await;
        check(&storage, ALL, "in memory and in files").await;
        assert!(needs_files(&storage, ALL) && needs_files(&storage, 0..SAMPLES));
        // What comes in takes the room of the oldest.
        for file in FILES..FILES + 2 {
            let samples = file * SAMPLES..(file + 1) * SAMPLES;
            let batch = Batch::Samples(PODS.map(|pod| counter(pod, samples.clone())).to_vec());
            storage.append(batch).await.unwrap();
            storage.flush().await.unwrap();
            check(&storage, 0..samples.end, "with newer ones").await;
            assert!(!needs_files(&storage, samples));
        }
        assert!(needs_files(&storage, NEWEST.start - SAMPLES..NEWEST.end));
    }
}
