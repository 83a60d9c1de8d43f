//! What was acknowledged is there exactly once, whenever the power goes off and whatever the disk refuses.
//!
//! `PHAROS_CRASH_POINTS` sets how many points are tried (default 40); `PHAROS_CRASH_SEED` which.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use arrow::array::RecordBatch;
use futures::TryStreamExt;
use pharos_model::{EdgeMeasure, EdgeOrigin, LabelMatcher, TimeRange};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{
    Batch, Scan, Storage, StorageConfig, StorageError, Table, access_logs_of,
    disk::{CrashDisk, Fault},
    spans_of,
    test_rows::{START, access_log, counter, span},
};

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

async fn open(disk: &CrashDisk) -> Result<Storage, StorageError> {
    let config = StorageConfig {
        flush_after: Duration::from_secs(3_600),
        group_commit: Duration::ZERO,
        retention: None,
        compact_files: 3,
        vacuum_after: Duration::ZERO,
        ..StorageConfig::new("")
    };
    Storage::open_on(config, Arc::new(disk.clone()), None).await
}

/// What became of a row: acknowledged, or sent without an answer, as part of the batch of this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Acknowledged,
    Unanswered { batch: u64 },
}

/// What the writers know.
#[derive(Clone, Default)]
struct Ledger {
    spans: BTreeMap<u64, Sent>,
    access_logs: BTreeMap<u64, Sent>,
    /// By number of the sample.
    samples: BTreeMap<u64, Sent>,
    next: u64,
    batches: u64,
}

impl Ledger {
    /// Sends a batch, again if it was not acknowledged and has an identity to be recognised by.
    async fn append(&mut self, storage: &Storage, kind: u64, rows: u64) -> bool {
        let numbers = self.next..self.next + rows;
        (self.next, self.batches) = (self.next + rows, self.batches + 1);
        let batch = match kind {
            0 => Batch::Spans(numbers.clone().map(span).collect()),
            1 => Batch::AccessLogs(numbers.clone().map(access_log).collect()),
            _ => Batch::Samples(vec![counter("a", numbers.start as i64..numbers.end as i64)]),
        };
        let mut stored = storage.append(batch.clone()).await.is_ok();
        if !stored && kind != 1 {
            stored = storage.append(batch).await.is_ok();
        }
        let sent = if stored { Sent::Acknowledged } else { Sent::Unanswered { batch: self.batches } };
        let known = match kind {
            0 => &mut self.spans,
            1 => &mut self.access_logs,
            _ => &mut self.samples,
        };
        known.extend(numbers.map(|number| (number, sent)));
        stored
    }
}

/// A workload that depends on its seed alone. Ends early when the power goes off. Returns the disk's steps after
/// each piece of work.
async fn work(storage: &Storage, disk: &CrashDisk, ledger: &mut Ledger, seed: u64) -> Vec<u64> {
    let mut steps = vec![0, disk.steps()];
    let mut random = StdRng::seed_from_u64(seed);
    for _ in 0..14 {
        match random.random_range(0..10) {
            0..7 => {
                let (kind, rows) = (random.random_range(0..3), random.random_range(1..30));
                ledger.append(storage, kind, rows).await;
            }
            7..9 => drop(storage.flush().await),
            _ => drop(storage.compact().await),
        }
        steps.push(disk.steps());
        if disk.is_off() {
            return steps;
        }
    }
    drop(storage.flush().await);
    steps.push(disk.steps());
    drop(storage.compact().await);
    steps.push(disk.steps());
    steps
}

async fn rows(storage: &Storage, table: Table) -> Vec<RecordBatch> {
    let scan = Scan::new(TimeRange::ALL);
    let snapshot = storage.snapshot(table, TimeRange::ALL).unwrap();
    snapshot.read(&scan).await.unwrap().try_collect().await.unwrap()
}

fn count(numbers: impl Iterator<Item = u64>) -> BTreeMap<u64, u64> {
    let mut counts = BTreeMap::new();
    numbers.for_each(|number| *counts.entry(number).or_default() += 1);
    counts
}

fn check_rows(what: &str, sent: &BTreeMap<u64, Sent>, found: &BTreeMap<u64, u64>, context: &str) {
    let mut whole: BTreeMap<u64, bool> = BTreeMap::new();
    for (number, sent) in sent {
        let times = found.get(number).copied().unwrap_or(0);
        match sent {
            Sent::Acknowledged => assert_eq!(times, 1, "{what} {number} was acknowledged; {context}"),
            Sent::Unanswered { batch } => {
                assert!(times <= 1, "{what} {number} is there {times} times; {context}");
                let first = *whole.entry(*batch).or_insert(times == 1);
                assert_eq!(first, times == 1, "batch {batch} of {what} is there in part; {context}");
            }
        }
    }
    assert!(found.keys().all(|number| sent.contains_key(number)), "{what} that nobody sent; {context}");
}

async fn check(storage: &Storage, ledger: &Ledger, context: &str) {
    let spans: Vec<_> =
        rows(storage, Table::Spans).await.iter().flat_map(|batch| spans_of(batch).unwrap()).collect();
    let found = count(spans.iter().map(|span| (span.start.0 - START.0) as u64 / 7_000_001));
    check_rows("span", &ledger.spans, &found, context);
    let logs: Vec<_> = rows(storage, Table::AccessLogs)
        .await
        .iter()
        .flat_map(|batch| access_logs_of(batch).unwrap())
        .collect();
    let found = count(logs.iter().map(|log| (log.time.0 - START.0) as u64 / 5_000_003));
    check_rows("access log", &ledger.access_logs, &found, context);

    let series = storage.select_series(&[LabelMatcher::equal("pod", "a")], TimeRange::ALL, 10).unwrap();
    let ids: Vec<_> = series.iter().map(|(id, _)| *id).collect();
    let columns = storage.read_samples(&ids, i64::MIN, i64::MAX).await.unwrap();
    let times = columns.iter().flat_map(|series| series.times_ms.iter());
    let found = count(times.map(|time| (time - START.millis()) as u64 / 15_000));
    check_rows("sample", &ledger.samples, &found, context);
    let stored: usize = rows(storage, Table::Samples).await.iter().map(RecordBatch::num_rows).sum();
    assert_eq!(stored, found.len(), "samples in the table; {context}");

    // What is derived tells of the same rows.
    let edges = storage.edges(TimeRange::ALL).await.unwrap();
    let sum = |origin| -> f64 {
        let chosen = edges.iter().filter(|e| e.key.origin == origin && e.measure == EdgeMeasure::Requests);
        chosen.map(|edge| edge.counter.increase).sum()
    };
    assert_eq!(sum(EdgeOrigin::Span), spans.len() as f64, "edges of spans; {context}");
    assert_eq!(sum(EdgeOrigin::AccessLog), logs.len() as f64, "edges of access logs; {context}");
    let counted: i64 =
        edges.iter().filter(|e| e.key.origin == EdgeOrigin::Metrics).map(|edge| edge.counter.samples).sum();
    assert_eq!(counted, found.len() as i64, "edges of samples; {context}");
}

/// Runs the workload with the fault, restarts, checks, works on, and checks again.
async fn try_fault(at_rest: &CrashDisk, fault: Fault, seed: u64) {
    let context = format!("{fault:?}, seed {seed}");
    let disk = at_rest.copy(fault);
    let mut ledger = Ledger::default();
    if let Ok(storage) = open(&disk).await {
        work(&storage, &disk, &mut ledger, seed).await;
        if !disk.is_off() {
            check(&storage, &ledger, &format!("before the restart; {context}")).await;
        }
        drop(storage);
    }
    let disk = disk.after_crash(seed);
    let storage = open(&disk).await.unwrap_or_else(|error| panic!("cannot be opened: {error}; {context}"));
    check(&storage, &ledger, &format!("after the restart; {context}")).await;
    assert_eq!(storage.stats().quarantined_bytes, 0, "{context}");
    for kind in 0..3 {
        assert!(ledger.append(&storage, kind, 5).await, "{context}");
    }
    storage.flush().await.unwrap_or_else(|error| panic!("no flush after the restart: {error}; {context}"));
    check(&storage, &ledger, &format!("going on; {context}")).await;
}

/// A disk with empty tables: making them is tried apart.
async fn tables_at_rest() -> CrashDisk {
    let disk = CrashDisk::new();
    open(&disk).await.unwrap().close().await.unwrap();
    disk
}

/// The disk's steps after each piece of the workload when all goes well.
async fn steps_of(at_rest: &CrashDisk, seed: u64) -> Vec<u64> {
    let disk = at_rest.copy(Fault::None);
    let storage = open(&disk).await.unwrap();
    work(&storage, &disk, &mut Ledger::default(), seed).await
}

#[tokio::test]
async fn acknowledged_rows_survive_a_crash_at_any_step() {
    let at_rest = tables_at_rest().await;
    let (points, first_seed) = (setting("PHAROS_CRASH_POINTS", 40), setting("PHAROS_CRASH_SEED", 1));
    for seed in first_seed..first_seed + points.div_ceil(10) {
        let steps = steps_of(&at_rest, seed).await;
        let mut random = StdRng::seed_from_u64(seed);
        for _ in 0..points.min(10) {
            // Appends are few steps and flushes many: each piece of work has the same chance.
            let work = random.random_range(1..steps.len());
            let (before, after) = (steps[work - 1], steps[work]);
            let at = if before < after { random.random_range(before + 1..=after) } else { after + 1 };
            try_fault(&at_rest, Fault::Crash { at }, seed).await;
        }
    }
}

#[tokio::test]
async fn a_crash_while_the_tables_are_made_leaves_nothing_in_the_way() {
    let nothing = CrashDisk::new();
    for at in (1..=60).step_by(7) {
        try_fault(&nothing, Fault::Crash { at }, 3).await;
    }
}

#[tokio::test]
async fn rows_survive_a_disk_that_fails_or_is_full_for_a_while() {
    let at_rest = tables_at_rest().await;
    let steps = steps_of(&at_rest, 5).await.last().copied().unwrap_or(0);
    let points = setting("PHAROS_CRASH_POINTS", 40) / 4;
    for point in 0..points {
        let at = 1 + point * steps / points.max(1);
        let fault = if point % 2 == 0 { Fault::Error { at } } else { Fault::Full { from: at, steps: 5 } };
        try_fault(&at_rest, fault, 5).await;
    }
}
