//! Rows and samples: how fast they come in, how large they are.

use std::{fs, path::Path, time::Duration};

use pharos_storage::{Batch, Storage, StorageConfig, Table};

use crate::{
    measure::{Spent, Stopwatch, bytes_per_row, line, send},
    mesh::{Mesh, Values, scrape},
};

/// Rows of one request of a client.
pub(crate) const BATCH: usize = 2_000;
/// Rows between two flushes.
pub(crate) const CHUNK: usize = 100_000;
pub(crate) const NEVER: Duration = Duration::from_secs(24 * 3_600);

/// Nothing is flushed, merged or dropped unless the benchmark says so.
pub(crate) fn quiet(dir: &Path) -> StorageConfig {
    StorageConfig {
        head_bytes: 16 << 30,
        flush_bytes: 16 << 30,
        flush_after: NEVER,
        wal_bytes: 64 << 30,
        retention: None,
        compact_files: usize::MAX,
        vacuum_after: Duration::ZERO,
        ..StorageConfig::new(dir)
    }
}

fn merging(dir: &Path) -> StorageConfig {
    StorageConfig { compact_files: 2, ..quiet(dir) }
}

fn rate(rows: usize, time: Duration) -> f64 {
    rows as f64 / time.as_secs_f64()
}

fn report(what: &str, rows: usize, ingest: Spent, flush: Spent, goal: &str) {
    line(&format!("{what}: batch to synced, per core"), rate(rows, ingest.cpu), "rows/s", goal);
    line(&format!("{what}: the same, by the clock"), rate(rows, ingest.wall), "rows/s", "");
    line(&format!("{what}: head to files, per core"), rate(rows, flush.cpu), "rows/s", "");
}

pub(crate) async fn timed<T, E>(what: impl Future<Output = Result<T, E>>, spent: &mut Spent) -> Result<T, E> {
    let watch = Stopwatch::start();
    let done = what.await;
    *spent += watch.stop();
    done
}

pub(crate) async fn rows(dir: &Path, rows: usize) -> anyhow::Result<()> {
    for (what, table, goal) in [("access logs", Table::AccessLogs, "25"), ("spans", Table::Spans, "55")] {
        let batch = |mesh: &mut Mesh| match table {
            Table::Spans => Batch::Spans(mesh.spans(BATCH)),
            _ => Batch::AccessLogs(mesh.access_logs(BATCH)),
        };
        let dir = fresh(dir, table.name())?;
        let storage = Storage::open(quiet(&dir)).await?;
        let mut mesh = Mesh::new();
        let (mut ingest, mut flush, mut sent) = (Spent::default(), Spent::default(), 0);
        while sent < rows {
            let batches: Vec<Batch> =
                (0..CHUNK.min(rows - sent).div_ceil(BATCH)).map(|_| batch(&mut mesh)).collect();
            sent += batches.iter().map(Batch::len).sum::<usize>();
            ingest += send(&storage, batches).await?;
            timed(storage.flush(), &mut flush).await?;
        }
        report(what, sent, ingest, flush, "250000");
        line(&format!("{what}: bytes a row, flushed"), bytes_per_row(&storage, table), "B", "");
        storage.close().await?;
        drop(storage);
        let storage = Storage::open(merging(&dir)).await?;
        let mut merge = Spent::default();
        timed(storage.compact(), &mut merge).await?;
        line(&format!("{what}: merging, per core"), rate(sent, merge.cpu), "rows/s", "");
        line(&format!("{what}: bytes a row, merged"), bytes_per_row(&storage, table), "B", goal);
        let derived = if table == Table::Spans { Table::TraceSummaries } else { Table::Edges };
        let stats = storage.stats();
        let bytes =
            stats.tables.iter().find(|stats| stats.table == derived).map_or(0, |stats| stats.file_bytes);
        line(&format!("{what}: of {} beside it", derived.name()), bytes as f64 / sent as f64, "B", "");
        storage.close().await?;
    }
    Ok(())
}

const SERIES: usize = 10_000;

pub(crate) async fn samples(dir: &Path, samples: usize) -> anyhow::Result<()> {
    for (what, values, goal) in [("counters", Values::Counters, "0.6"), ("mixed samples", Values::Mixed, "2")]
    {
        let dir = fresh(dir, "samples")?;
        let storage = Storage::open(quiet(&dir)).await?;
        let (mut ingest, mut flush, mut sent, mut round) = (Spent::default(), Spent::default(), 0, 0);
        // The first scrape makes the series: once in their life.
        send(&storage, scrapes(values, &mut round, 1)).await?;
        while sent < samples {
            let batches = scrapes(values, &mut round, 60);
            sent += batches.iter().map(Batch::len).sum::<usize>();
            ingest += send(&storage, batches).await?;
            timed(storage.flush(), &mut flush).await?;
        }
        report(what, sent, ingest, flush, "1500000");
        storage.close().await?;
        drop(storage);
        let storage = Storage::open(merging(&dir)).await?;
        storage.compact().await?;
        line(&format!("{what}: bytes a sample, merged"), bytes_per_row(&storage, Table::Samples), "B", goal);
        storage.close().await?;
    }
    Ok(())
}

/// As a remote writer sends them: a few thousand series a request.
pub(crate) fn scrapes(values: Values, round: &mut i64, rounds: i64) -> Vec<Batch> {
    let mut batches = Vec::new();
    for at in *round..*round + rounds {
        let series = scrape(values, SERIES, at);
        batches.extend(series.chunks(BATCH).map(|chunk| Batch::Samples(chunk.to_vec())));
    }
    *round += rounds;
    batches
}

/// The data directory of that name, empty.
pub(crate) fn fresh(dir: &Path, name: &str) -> anyhow::Result<std::path::PathBuf> {
    let dir = dir.join(name);
    if dir.exists() {
        fs::remove_dir_all(&dir)?;
    }
    fs::create_dir_all(&dir)?;
    Ok(dir)
}
