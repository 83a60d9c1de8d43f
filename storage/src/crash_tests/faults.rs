//! The same promises where the disk fails once, or is full for a while: at every step of a workload, if as many crashes
//! are asked for.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use parking_lot::Mutex;

use super::{
    Found, Kind, Ledger, Run, check_contents, on_all_cores, open, points, record, runtime, setting,
    tables_at_rest,
};
use crate::{
    StorageError,
    disk::{CrashDisk, Fault, Unsynced},
};

/// Crashes that take as long as one fault: with that a whole workload is run, and another after it.
const CRASHES_PER_FAULT: u64 = 100;

/// Steps for which a disk is full: long enough for every file of a flush to meet it.
const FULL_STEPS: u64 = 5;

/// Runs a workload with the fault, checks, restarts after a crash, checks, and works on.
async fn try_fault(at_rest: &CrashDisk, fault: Fault, seed: u64) -> Result<(), String> {
    let text = |error: StorageError| error.to_string();
    let disk = at_rest.copy(fault);
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    if let Ok(storage) = open(&disk).await {
        let run = Run { storage, disk: disk.clone(), ledger: ledger.clone() };
        run.work(seed).await;
        let ledger = ledger.lock().clone();
        Found::read(&run.storage).await.map_err(text)?.check(&ledger, &ledger)?;
    }
    let disk = disk.now().after_crash(Unsynced::Torn(seed));
    let storage = open(&disk).await.map_err(text)?;
    let run = Run { storage, disk, ledger: ledger.clone() };
    let sent = ledger.lock().clone();
    Found::read(&run.storage).await.map_err(text)?.check(&sent, &sent)?;
    for kind in Kind::ALL {
        run.append(kind, 5).await;
    }
    run.storage.flush().await.map_err(text)?;
    let sent = ledger.lock().clone();
    Found::read(&run.storage).await.map_err(text)?.check(&sent, &sent)?;
    check_contents(&run.storage).await
}

/// Every step of as many workloads as there are faults for; evenly spread steps of the last.
fn faults(at_rest: &CrashDisk, first_seed: u64, mut left: u64) -> Vec<(u64, Fault)> {
    let mut faults = Vec::new();
    for seed in first_seed.. {
        let steps = runtime().block_on(record(at_rest, seed)).map(|(recorded, _)| recorded.len() as u64);
        let steps = steps.unwrap_or_else(|error| panic!("PHAROS_CRASH_SEED={seed}: {error}"));
        let tried = steps.min(left.div_ceil(2));
        for point in 0..tried {
            let at = 1 + point * steps / tried;
            faults.push((seed, Fault::Error { at }));
            faults.push((seed, Fault::Full { from: at, steps: FULL_STEPS }));
        }
        left = left.saturating_sub(2 * tried);
        if left == 0 {
            break;
        }
    }
    faults
}

#[test]
fn rows_survive_a_disk_that_fails_or_is_full_for_a_while() {
    let at_rest = runtime().block_on(tables_at_rest());
    let points = points();
    let faults = faults(&at_rest, setting("PHAROS_CRASH_SEED", 5), points.div_ceil(CRASHES_PER_FAULT));
    let next = AtomicUsize::new(0);
    on_all_cores(|| {
        let runtime = runtime();
        while let Some((seed, fault)) = faults.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = runtime.block_on(try_fault(&at_rest, *fault, *seed)) {
                panic!("PHAROS_CRASH_SEED={seed} PHAROS_CRASH_POINTS={points} {fault:?}: {error}");
            }
        }
    });
    eprintln!(
        "{} faults of {} workloads",
        faults.len(),
        faults.chunk_by(|one, next| one.0 == next.0).count()
    );
}
