//! Files as flushes leave them, and what merging them takes.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use pharos_storage::{Batch, Storage, StorageConfig};

use crate::{
    measure::{Spent, forget_peak, line, make_cold, peak_mb, resident_mb, send},
    mesh::Mesh,
    parts::{BATCH, CHUNK, quiet, timed},
};

/// Batches that are made before the storage has taken those before them.
const AHEAD: usize = 64;

/// What the head may hold before the benchmark waits for files.
const HEAD_BYTES: u64 = 1 << 30;

/// A directory with so many spans, as they were flushed: a file for each 100,000 or so. Made once.
async fn flushed(dir: &Path, spans: usize) -> anyhow::Result<PathBuf> {
    let dir = dir.join(format!("flushed-{spans}"));
    let done = dir.join("filled");
    if done.exists() {
        return Ok(dir);
    }
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir)?;
    let storage = Storage::open(StorageConfig { flush_bytes: 110 << 20, ..quiet(&dir) }).await?;
    let (sender, mut batches) = tokio::sync::mpsc::channel(AHEAD);
    let maker = std::thread::spawn(move || {
        let mut mesh = Mesh::new();
        for _ in 0..spans.div_ceil(BATCH) {
            if sender.blocking_send(Batch::Spans(mesh.spans(BATCH))).is_err() {
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
    }
    maker.join().map_err(|_| anyhow::anyhow!("no rows"))?;
    storage.close().await?;
    fs::write(done, "")?;
    Ok(dir)
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
    let status = Command::new(std::env::current_exe()?).arg("--merge").arg(&merged).status()?;
    anyhow::ensure!(status.success(), "merging ended with {status}");
    fs::write(merged.join("merged"), "")?;
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
    let size = |stats: &pharos_storage::StorageStats| -> f64 {
        stats.tables.iter().map(|table| table.file_bytes).sum::<u64>() as f64 / 1e6
    };
    let files: u64 = stats.tables.iter().map(|table| table.files).sum();
    let rows: u64 = stats.tables.iter().map(|table| table.rows).sum();
    let idle = resident_mb();
    forget_peak();
    let storage = Storage::open(StorageConfig { retention: None, ..config }).await?;
    let mut spent = Spent::default();
    timed(storage.compact(), &mut spent).await?;
    let million = rows as f64 / 1e6;
    let what = format!("memory while merging {million:.1} M rows, {:.0} MB in {files} files", size(&stats));
    line(&what, peak_mb() - idle, "MB", "500");
    line("the same, with the process at rest", peak_mb(), "MB", "");
    line("merging, by the clock", rows as f64 / spent.wall.as_secs_f64(), "rows/s", "");
    line("merging, per core", rows as f64 / spent.cpu.as_secs_f64(), "rows/s", "");
    storage.close().await?;
    Ok(())
}
