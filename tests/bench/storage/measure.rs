//! Clocks, memory and the table's lines.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use futures::{TryStreamExt, stream};
use nix::{
    fcntl::{PosixFadviseAdvice, posix_fadvise},
    sys::{
        resource::{UsageWho, getrusage},
        time::TimeValLike,
    },
};
use pharos_storage::{Batch, Scan, Storage, Table};

/// A line of the table. `goal` is what issue 3 asks for.
pub(crate) fn line(what: &str, value: f64, unit: &str, goal: &str) {
    let digits = if value >= 1_000.0 { 0 } else { 2 };
    println!("{what:<58} {value:>12.digits$} {unit:<9} {goal:>10}");
}

/// CPU and wall time since the start.
pub(crate) struct Stopwatch {
    wall: Instant,
    cpu: Duration,
}

fn cpu() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF);
    usage.map_or(Duration::ZERO, |usage| {
        let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
        Duration::from_micros(micros.unsigned_abs())
    })
}

impl Stopwatch {
    pub(crate) fn start() -> Stopwatch {
        Stopwatch { wall: Instant::now(), cpu: cpu() }
    }

    pub(crate) fn stop(self) -> Spent {
        Spent { wall: self.wall.elapsed(), cpu: cpu().saturating_sub(self.cpu) }
    }
}

#[derive(Clone, Copy, Default)]
pub(crate) struct Spent {
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
}

impl std::ops::AddAssign for Spent {
    fn add_assign(&mut self, other: Spent) {
        self.wall += other.wall;
        self.cpu += other.cpu;
    }
}

fn status_mb(field: &str) -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or(0.0) / 1_024.0
}

/// The memory that the process has now.
pub(crate) fn resident_mb() -> f64 {
    status_mb("VmRSS")
}

/// The most memory that the process had since [`forget_peak`].
pub(crate) fn peak_mb() -> f64 {
    status_mb("VmHWM")
}

pub(crate) fn forget_peak() {
    // Where the kernel refuses, the peak is that of the whole run: too high, never too low.
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// Takes the files out of the page cache.
pub(crate) fn make_cold(dir: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            make_cold(&entry.path())?;
        } else {
            let file = fs::File::open(entry.path())?;
            file.sync_all()?;
            posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
        }
    }
    Ok(())
}

/// Appends at one time.
const CONCURRENT: usize = 8;

/// Sends all batches.
pub(crate) async fn send(storage: &Storage, batches: Vec<Batch>) -> anyhow::Result<Spent> {
    let watch = Stopwatch::start();
    stream::iter(batches.into_iter().map(Ok))
        .try_for_each_concurrent(CONCURRENT, |batch| async move { storage.append(batch).await.map(drop) })
        .await?;
    Ok(watch.stop())
}

/// Rows that a scan finds, and how long it took from the snapshot on.
pub(crate) async fn time_scan(storage: &Storage, table: Table, scan: &Scan) -> anyhow::Result<(usize, f64)> {
    let start = Instant::now();
    let rows = storage.snapshot(table, scan.range)?.read(scan).await?;
    let rows: usize =
        rows.map_ok(|batch| batch.num_rows()).try_fold(0, |a, b| async move { Ok(a + b) }).await?;
    Ok((rows, start.elapsed().as_secs_f64() * 1_000.0))
}

pub(crate) fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of.get(of.len() / 2).copied().unwrap_or(f64::NAN)
}

pub(crate) fn bytes_per_row(storage: &Storage, table: Table) -> f64 {
    let stats = storage.stats();
    let stats = stats.tables.iter().find(|stats| stats.table == table);
    stats.map_or(0.0, |stats| stats.file_bytes as f64 / stats.rows.max(1) as f64)
}
