//! The parts of the table.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use pharos_model::{Span, TimeRange, TraceId};
use pharos_storage::{Batch, Scan, ScanValue, Storage, StorageConfig, Table};

use crate::{
    measure::{
        Spent, Stopwatch, bytes_per_row, forget_peak, line, make_cold, median, peak_mb, send, time_scan,
    },
    mesh::{Mesh, Values, scrape, tag_name},
};

/// Rows of one request of a client.
const BATCH: usize = 2_000;
/// Rows between two flushes.
const CHUNK: usize = 100_000;
const NEVER: Duration = Duration::from_secs(24 * 3_600);

/// Nothing is flushed, merged or dropped unless the benchmark says so.
fn quiet(dir: &Path) -> StorageConfig {
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

async fn timed<T, E>(what: impl Future<Output = Result<T, E>>, spent: &mut Spent) -> Result<T, E> {
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
fn scrapes(values: Values, round: &mut i64, rounds: i64) -> Vec<Batch> {
    let mut batches = Vec::new();
    for at in *round..*round + rounds {
        let series = scrape(values, SERIES, at);
        batches.extend(series.chunks(BATCH).map(|chunk| Batch::Samples(chunk.to_vec())));
    }
    *round += rounds;
    batches
}

/// The data directory of that name, empty.
fn fresh(dir: &Path, name: &str) -> anyhow::Result<std::path::PathBuf> {
    let dir = dir.join(name);
    if dir.exists() {
        fs::remove_dir_all(&dir)?;
    }
    fs::create_dir_all(&dir)?;
    Ok(dir)
}

/// A directory with so many spans as a server that has run for a while leaves it: flushed as they came, merged by
/// size. Made once.
async fn filled(dir: &Path, spans: usize) -> anyhow::Result<std::path::PathBuf> {
    let dir = dir.join(format!("spans-{spans}"));
    let done = dir.join("filled");
    if done.exists() {
        return Ok(dir);
    }
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir)?;
    let config = StorageConfig { compact_files: 8, ..quiet(&dir) };
    let storage = Storage::open(config).await?;
    let mut mesh = Mesh::new();
    let mut sent = 0;
    while sent < spans {
        let batches: Vec<Batch> =
            (0..CHUNK.min(spans - sent).div_ceil(BATCH)).map(|_| Batch::Spans(mesh.spans(BATCH))).collect();
        sent += batches.iter().map(Batch::len).sum::<usize>();
        send(&storage, batches).await?;
        storage.flush().await?;
        storage.compact().await?;
    }
    storage.compact().await?;
    storage.close().await?;
    fs::write(done, "")?;
    Ok(dir)
}

pub(crate) async fn search(dir: &Path, spans: usize) -> anyhow::Result<()> {
    const QUERIES: usize = 20;
    let dir = filled(dir, spans).await?;
    // Traces all over the time, by making the same rows again.
    let mut mesh = Mesh::new();
    let mut traces: Vec<TraceId> = Vec::new();
    let every = (spans / BATCH / QUERIES).max(1);
    for batch in 0..spans / BATCH {
        let spans: Vec<Span> = mesh.spans(BATCH);
        if batch % every == 0 {
            traces.extend(spans.first().map(|span| span.trace_id));
        }
    }
    let of_trace =
        |id: &TraceId| Scan::new(TimeRange::ALL).equal("trace_id", ScanValue::Bytes(id.0.to_vec()));
    let storage = Storage::open(quiet(&dir)).await?;
    let (mut first, mut times) = (None, Vec::new());
    for id in traces.iter().take(QUERIES) {
        make_cold(&dir)?;
        let (found, ms) = time_scan(&storage, Table::Spans, &of_trace(id)).await?;
        anyhow::ensure!(found == 10, "a trace has {found} spans");
        first.get_or_insert(ms);
        times.push(ms);
    }
    let million = spans as f64 / 1e6;
    line(&format!("trace by id, {million:.1} M spans, cold files"), median(times), "ms", "20");
    line("trace by id, the first after the start", first.unwrap_or(f64::NAN), "ms", "");

    let searches = [
        ("a tag in most spans, rare value", "http.status_code", "404"),
        ("a tag in most spans, one value in a million", "guid:x-request-id", "none"),
        ("a tag in few spans", &*tag_name(21), "v-1"),
        ("a tag that nobody sent", "app.none", "1"),
    ];
    for (what, key, value) in searches {
        let scan = Scan::new(TimeRange::ALL)
            .equal(format!("attributes.{key}"), ScanValue::Text(value.to_string()))
            .newest_first()
            .limit(20);
        let mut times = Vec::new();
        let mut found = 0;
        for _ in 0..5 {
            match time_scan(&storage, Table::Spans, &scan).await {
                Ok((rows, ms)) => {
                    found = rows;
                    times.push(ms);
                }
                Err(error) => println!("{what}: {error}"),
            }
        }
        line(&format!("newest 20 by {what} ({found})"), median(times), "ms", "100");
    }
    storage.close().await?;
    Ok(())
}

pub(crate) async fn reopen(dir: &Path, wal: usize) -> anyhow::Result<()> {
    let dir = fresh(dir, "wal")?;
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--wal", &wal.to_string(), "--fill"])
        .arg(&dir)
        .stdout(Stdio::piped())
        .spawn()?;
    let mut said = String::new();
    if let Some(out) = child.stdout.take() {
        BufReader::new(out).read_line(&mut said)?;
    }
    child.kill()?;
    child.wait()?;
    let rows: u64 = said.trim().parse()?;
    make_cold(&dir)?;
    forget_peak();
    let start = Instant::now();
    let storage = Storage::open(quiet(&dir)).await?;
    let took = start.elapsed().as_secs_f64();
    let stats = storage.stats();
    let stored: u64 = stats
        .tables
        .iter()
        .filter(|table| matches!(table.table, Table::Spans | Table::AccessLogs))
        .map(|t| t.rows)
        .sum();
    anyhow::ensure!(stored >= rows, "{stored} rows of {rows} are there");
    let mega = stats.wal_bytes as f64 / 1e6;
    line(&format!("reopen after kill -9, {mega:.0} MB of WAL, {rows} rows"), took, "s", "5");
    line("memory after it", peak_mb(), "MB", "");
    storage.close().await?;
    Ok(())
}

/// Half access logs, half spans, until the WAL has its size; then waits for the end.
pub(crate) async fn fill_wal(dir: &Path, bytes: u64) -> anyhow::Result<()> {
    let storage = Storage::open(quiet(dir)).await?;
    let mut mesh = Mesh::new();
    let mut rows = 0;
    while storage.stats().wal_bytes < bytes {
        let batches: Vec<Batch> = (0..20)
            .map(|n| {
                if n % 2 == 0 {
                    Batch::Spans(mesh.spans(BATCH))
                } else {
                    Batch::AccessLogs(mesh.access_logs(BATCH))
                }
            })
            .collect();
        rows += batches.iter().map(Batch::len).sum::<usize>();
        send(&storage, batches).await?;
    }
    println!("{rows}");
    loop {
        tokio::time::sleep(NEVER).await;
    }
}

pub(crate) async fn compact(dir: &Path, bytes: u64) -> anyhow::Result<()> {
    let dir = dir.join(format!("compact-{bytes}"));
    // Merged files are of no use to the next run.
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir)?;
    let storage = Storage::open(quiet(&dir)).await?;
    let mut mesh = Mesh::new();
    let size =
        |storage: &Storage| -> u64 { storage.stats().tables.iter().map(|table| table.file_bytes).sum() };
    while size(&storage) < bytes {
        let spans: Vec<Batch> = (0..CHUNK / BATCH).map(|_| Batch::Spans(mesh.spans(BATCH))).collect();
        send(&storage, spans).await?;
        storage.flush().await?;
    }
    storage.close().await?;
    drop(storage);
    let storage = Storage::open(StorageConfig { compact_bytes: 1 << 30, ..merging(&dir) }).await?;
    let before = storage.stats();
    let files: u64 = before.tables.iter().map(|table| table.files).sum();
    let mega = size(&storage) as f64 / 1e6;
    forget_peak();
    let mut spent = Spent::default();
    timed(storage.compact(), &mut spent).await?;
    line(&format!("memory while merging {mega:.0} MB in {files} files"), peak_mb(), "MB", "500");
    line("merging", mega / spent.wall.as_secs_f64(), "MB/s", "");
    storage.close().await?;
    Ok(())
}
