//! Files as flushes leave them, and what merging them takes.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use pharos_storage::{Batch, Storage, StorageConfig, StorageStats};

use crate::{
    measure::{Spent, forget_peak, line, make_cold, peak_mb, resident_mb, send},
    mesh::Mesh,
    parts::{BATCH, CHUNK, quiet, timed},
};

/// Batches that are made before the storage has taken those before them.
const AHEAD: usize = 64;

/// Logs of one request of a client.
const LOGS: usize = 500;

/// What the head may hold before the benchmark waits for files.
const HEAD_BYTES: u64 = 512 << 20;

/// A directory with so many spans, as they were flushed: a file for each 100,000 or so. Made once.
async fn flushed(dir: &Path, spans: usize) -> anyhow::Result<PathBuf> {
    let dir = dir.join(format!("flushed-{spans}"));
    let done = dir.join("filled");
    if done.exists() {
        return Ok(dir);
    }
    let mut left = spans.div_ceil(BATCH);
    fill(&dir, 110 << 20, move |mesh, _| {
        left = left.checked_sub(1)?;
        Some(Batch::Spans(mesh.spans(BATCH)))
    })
    .await?;
    fs::write(done, "")?;
    Ok(dir)
}

/// Makes a directory of what `next` gives, which is told the bytes of the files so far.
async fn fill(
    dir: &Path,
    flush_bytes: usize,
    mut next: impl FnMut(&mut Mesh, u64) -> Option<Batch> + Send + 'static,
) -> anyhow::Result<()> {
    let _ = fs::remove_dir_all(dir);
    fs::create_dir_all(dir)?;
    let storage = Storage::open(StorageConfig { flush_bytes, ..quiet(dir) }).await?;
    let (sender, mut batches) = tokio::sync::mpsc::channel(AHEAD);
    let written = Arc::new(AtomicU64::new(0));
    let known = written.clone();
    let maker = std::thread::spawn(move || {
        let mut mesh = Mesh::new();
        while let Some(batch) = next(&mut mesh, known.load(Ordering::Relaxed)) {
            if sender.blocking_send(batch).is_err() {
                break;
            }
        }
    });
    let mut chunk = Vec::with_capacity(AHEAD);
    while batches.recv_many(&mut chunk, CHUNK / BATCH).await > 0 {
        send(&storage, std::mem::take(&mut chunk)).await?;
        while storage.stats().head_bytes > HEAD_BYTES {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        written.store(file_bytes(&storage.stats()), Ordering::Relaxed);
    }
    maker.join().map_err(|_| anyhow::anyhow!("no rows"))?;
    storage.close().await?;
    Ok(())
}

fn file_bytes(stats: &StorageStats) -> u64 {
    stats.tables.iter().map(|table| table.file_bytes).sum()
}

/// Merges so many bytes of files of application logs, whose rows are large and hardly compress.
pub(crate) async fn compact_logs(dir: &Path, bytes: u64) -> anyhow::Result<()> {
    let dir = dir.join("logs");
    let next = move |mesh: &mut Mesh, written| (written < bytes).then(|| Batch::Logs(mesh.logs(LOGS)));
    fill(&dir, StorageConfig::new(&dir).flush_bytes, next).await?;
    make_cold(&dir)?;
    merge_in_process(&dir)?;
    fs::remove_dir_all(&dir)?;
    Ok(())
}

/// The same, merged as a server does by itself. Made once.
pub(crate) async fn merged(dir: &Path, spans: usize) -> anyhow::Result<PathBuf> {
    let merged = dir.join(format!("merged-{spans}"));
    if !merged.join("merged").exists() {
        compact(dir, spans).await?;
    }
    Ok(merged)
}

pub(crate) async fn compact(dir: &Path, spans: usize) -> anyhow::Result<()> {
    let flushed = flushed(dir, spans).await?;
    let merged = dir.join(format!("merged-{spans}"));
    let _ = fs::remove_dir_all(&merged);
    link_all(&flushed, &merged)?;
    make_cold(&merged)?;
    merge_in_process(&merged)?;
    fs::write(merged.join("merged"), "")?;
    Ok(())
}

fn merge_in_process(dir: &Path) -> anyhow::Result<()> {
    let status = Command::new(std::env::current_exe()?).arg("--merge").arg(dir).status()?;
    anyhow::ensure!(status.success(), "merging ended with {status}");
    Ok(())
}

/// A copy of a directory of files that are never changed once they are there.
fn link_all(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        match entry.file_type()?.is_dir() {
            true => link_all(&from, &to)?,
            false => fs::hard_link(&from, &to)?,
        }
    }
    Ok(())
}

/// In a process of its own: merges what is due, and says what it took.
pub(crate) async fn merge_here(dir: &Path) -> anyhow::Result<()> {
    let config = StorageConfig { vacuum_after: Duration::ZERO, ..StorageConfig::new(dir) };
    let storage =
        Storage::open(StorageConfig { retention: None, compact_files: usize::MAX, ..config.clone() });
    let storage = storage.await?;
    let stats = storage.stats();
    storage.close().await?;
    drop(storage);
    let megabytes = file_bytes(&stats) as f64 / 1e6;
    let files: u64 = stats.tables.iter().map(|table| table.files).sum();
    let rows: u64 = stats.tables.iter().map(|table| table.rows).sum();
    let idle = resident_mb();
    forget_peak();
    let storage = Storage::open(StorageConfig { retention: None, ..config }).await?;
    let mut spent = Spent::default();
    timed(storage.compact(), &mut spent).await?;
    let million = rows as f64 / 1e6;
    let what = format!("memory while merging {million:.1} M rows, {megabytes:.0} MB in {files} files");
    line(&what, peak_mb() - idle, "MB", "500");
    line("the same, with the process at rest", peak_mb(), "MB", "");
    line("merging, by the clock", rows as f64 / spent.wall.as_secs_f64(), "rows/s", "");
    line("merging, per core", rows as f64 / spent.cpu.as_secs_f64(), "rows/s", "");
    storage.close().await?;
    Ok(())
}
