//! A start after kill -9.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use clap::ValueEnum;
use pharos_model::TimeRange;
use pharos_storage::{Batch, Scan, Storage, StorageConfig, Table};

use crate::{
    measure::{forget_peak, line, make_cold, peak_mb, resident_mb, send, time_scan},
    mesh::{Mesh, Values},
    parts::{BATCH, NEVER, fresh, quiet, scrapes},
};

/// What the WAL is full of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Half access logs, half spans.
    Rows,
    /// Of all kinds.
    Samples,
}

impl Kind {
    fn tables(self) -> &'static [Table] {
        match self {
            Kind::Rows => &[Table::Spans, Table::AccessLogs],
            Kind::Samples => &[Table::Samples],
        }
    }
}

fn stored(storage: &Storage, kind: Kind) -> u64 {
    let stats = storage.stats();
    let of_kind = stats.tables.iter().filter(|table| kind.tables().contains(&table.table));
    of_kind.map(|table| table.rows).sum()
}

pub(crate) async fn reopen(dir: &Path, wal: usize, kind: Kind) -> anyhow::Result<()> {
    let dir = fresh(dir, "wal")?;
    let name = kind.to_possible_value().map(|value| value.get_name().to_string()).unwrap_or_default();
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--wal", &wal.to_string(), "--kind", &name, "--fill"])
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
    let before = resident_mb();
    forget_peak();
    let start = Instant::now();
    // The memory that a server has by default, whatever it was before.
    let storage = Storage::open(StorageConfig { retention: None, ..StorageConfig::new(&dir) }).await?;
    let took = start.elapsed().as_secs_f64();
    let peak = peak_mb();
    let stored = stored(&storage, kind);
    anyhow::ensure!(stored >= rows, "{stored} rows of {rows} are there");
    let mega = storage.stats().wal_bytes as f64 / 1e6;
    line(&format!("reopen after kill -9, {mega:.0} MB of WAL, {rows} {name}"), took, "s", "5");
    line("memory for it", peak - before, "MB", "");
    let newest = Scan::new(TimeRange::ALL).newest_first().limit(20);
    for table in kind.tables().iter().filter(|_| kind == Kind::Rows) {
        let (found, ms) = time_scan(&storage, *table, &newest).await?;
        anyhow::ensure!(found == 20, "{found} rows of {}", table.name());
        line(&format!("then the newest 20 of {}", table.name()), ms, "ms", "");
    }
    forget_peak();
    storage.flush().await?;
    line("until all of it is in files", start.elapsed().as_secs_f64(), "s", "");
    line("memory for that", peak_mb() - before, "MB", "");
    storage.close().await?;
    Ok(())
}

/// Fills the WAL to its size, and waits for the end.
pub(crate) async fn fill_wal(dir: &Path, bytes: u64, kind: Kind) -> anyhow::Result<()> {
    let storage = Storage::open(quiet(dir)).await?;
    let mut mesh = Mesh::new();
    let (mut rows, mut round) = (0, 0);
    while storage.stats().wal_bytes < bytes {
        let batches: Vec<Batch> = match kind {
            Kind::Samples => scrapes(Values::Mixed, &mut round, 4),
            Kind::Rows => (0..20)
                .map(|n| match n % 2 {
                    0 => Batch::Spans(mesh.spans(BATCH)),
                    _ => Batch::AccessLogs(mesh.access_logs(BATCH)),
                })
                .collect(),
        };
        rows += batches.iter().map(Batch::len).sum::<usize>();
        send(&storage, batches).await?;
    }
    println!("{rows}");
    loop {
        tokio::time::sleep(NEVER).await;
    }
}
