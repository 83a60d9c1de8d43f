//! The corpus, and random changes of it: as many as `PHAROS_FUZZ_RUNS` says (default 120 for each file).

use std::{fs, panic::AssertUnwindSafe, path::PathBuf};

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::*;
use crate::{
    Batch, Storage, StorageConfig,
    test_rows::{access_log, counter, log, span},
};

fn corpus(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target)
}

/// Files of every kind as a storage writes them. `PHAROS_FUZZ_CORPUS=new` makes the corpus anew from them.
async fn written() -> Vec<(&'static str, Vec<u8>)> {
    let dir = tempfile::tempdir().unwrap();
    let storage =
        Storage::open(StorageConfig { retention: None, ..StorageConfig::new(dir.path()) }).await.unwrap();
    storage.append(Batch::Spans((0..12).map(span).collect())).await.unwrap();
    storage.append(Batch::AccessLogs((0..3).map(access_log).collect())).await.unwrap();
    storage.append(Batch::Logs((0..3).map(log).collect())).await.unwrap();
    storage.append(Batch::Samples(vec![counter("a", 0..5)])).await.unwrap();
    let segment = fs::read_dir(dir.path().join("wal")).unwrap().next().unwrap().unwrap().path();
    let segment = fs::read(segment).unwrap();
    storage.flush().await.unwrap();
    let mut files = vec![("wal_segment", segment.clone())];
    let (_, start) = wal::Header::decode(&segment).unwrap();
    let mut rest = &segment[start..];
    while let Some(frame) = wal::decode_frame(rest) {
        files.push(("wal_payload", frame.payload.to_vec()));
        rest = &rest[frame.length..];
    }
    let date = fs::read_dir(dir.path().join("spans")).unwrap().map(|entry| entry.unwrap().path());
    let date = date.into_iter().find(|path| path.to_string_lossy().contains("date=")).unwrap();
    let data_file = fs::read_dir(date).unwrap().next().unwrap().unwrap().path();
    files.push(("data_file", fs::read(data_file).unwrap()));
    let commit = dir.path().join("spans/_delta_log/00000000000000000001.json");
    files.push(("log_entry", fs::read(commit).unwrap()));
    files
}

/// A few random changes, of the kinds that find most.
fn changed(bytes: &[u8], random: &mut StdRng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..random.random_range(1..5) {
        if bytes.is_empty() {
            break;
        }
        let at = random.random_range(0..bytes.len());
        match random.random_range(0..6) {
            0 => bytes[at] ^= 1 << random.random_range(0..8),
            1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random.random_range(0..5)],
            2 => bytes.truncate(at),
            3 => {
                let end = (at + random.random_range(1..64)).min(bytes.len());
                bytes.drain(at..end);
            }
            4 => {
                let end = (at + random.random_range(1..64)).min(bytes.len());
                let copy = bytes[at..end].to_vec();
                let to = random.random_range(0..=bytes.len());
                bytes.splice(to..to, copy);
            }
            // A length or a place, of four bytes.
            _ => {
                let number: u32 =
                    [0, 1, 0x7fff_ffff, 0xffff_ffff, random.random()][random.random_range(0..5)];
                bytes.iter_mut().skip(at).zip(number.to_le_bytes()).for_each(|(byte, new)| *byte = new);
            }
        }
    }
    bytes
}

#[test]
fn no_bytes_on_disk_make_a_reader_panic() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let fresh = runtime.block_on(written());
    drop(runtime);
    if std::env::var("PHAROS_FUZZ_CORPUS").is_ok_and(|what| what == "new") {
        for (number, (target, bytes)) in fresh.iter().enumerate() {
            fs::create_dir_all(corpus(target)).unwrap();
            fs::write(corpus(target).join(format!("written-{number}")), bytes).unwrap();
        }
    }
    let runs: u64 = std::env::var("PHAROS_FUZZ_RUNS").map_or(300, |text| text.parse().unwrap());
    let seed: u64 = std::env::var("PHAROS_FUZZ_SEED").map_or(1, |text| text.parse().unwrap());
    for (target, run) in TARGETS {
        let kept = fs::read_dir(corpus(target)).unwrap_or_else(|error| panic!("{target}: {error}"));
        let mut inputs: Vec<Vec<u8>> = kept.map(|file| fs::read(file.unwrap().path()).unwrap()).collect();
        assert!(!inputs.is_empty(), "{target} has no corpus");
        inputs.extend(fresh.iter().filter(|(of, _)| *of == target).map(|(_, bytes)| bytes.clone()));
        let mut random = StdRng::seed_from_u64(seed);
        for input in &inputs {
            run(input);
            for number in 0..runs {
                let bytes = changed(input, &mut random);
                let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| run(&bytes)));
                if outcome.is_err() {
                    let found = std::env::temp_dir().join(format!("pharos-{target}-{seed}-{number}"));
                    fs::write(&found, &bytes).unwrap();
                    panic!("{target} panicked on {}; keep it in fuzz/corpus/{target}", found.display());
                }
            }
        }
    }
}
