//! What the storage costs: rows a second, bytes a row, milliseconds a query, on generated data shaped like a mesh's.
//!
//!     make bench-storage                                  # everything, small: about a minute
//!     make bench-storage ARGS="rows samples --rows 2M"    # two of the parts
//!     # the sizes of the goals
//!     make bench-storage ARGS="--spans 10M --compact 10M --logs 10G --wal 1G --dir /tmp/bench-storage"
//!
//! Prints one table. "Per core" is rows by seconds of CPU of the whole process from the decoded batch to the answer,
//! which is given after fdatasync; files are written afterwards, and that is a line of its own.

#![allow(clippy::print_stdout)]

mod measure;
mod merge;
mod mesh;
mod parts;
mod reopen;
mod search;

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Rows a second from decoded batch to synced, and bytes a row in compacted files.
    Rows,
    /// The same of samples.
    Samples,
    /// Traces by id and spans by attribute.
    Search,
    /// Opening after kill -9.
    Reopen,
    /// Memory while files are merged.
    Compact,
}

#[derive(Debug, Parser)]
struct Options {
    /// Which parts to run; all of them if none is named.
    parts: Vec<Part>,
    /// Access logs, and spans, of the part `rows`.
    #[arg(long, default_value = "400k", value_parser = count)]
    rows: usize,
    /// Samples of each kind.
    #[arg(long, default_value = "2M", value_parser = count)]
    samples: usize,
    /// Spans of the part `search`.
    #[arg(long, default_value = "1M", value_parser = count)]
    spans: usize,
    /// WAL that a kill leaves, in bytes.
    #[arg(long, default_value = "64M", value_parser = count)]
    wal: usize,
    /// Spans whose files are merged; the same number as for `search` saves making them twice.
    #[arg(long, default_value = "1M", value_parser = count)]
    compact: usize,
    /// Bytes of files of application logs that are merged as well.
    #[arg(long, default_value = "64M", value_parser = count)]
    logs: usize,
    /// Where data directories are made; files of `search` and `compact` stay there for the next run.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Fills the WAL of this directory and waits to be killed.
    #[arg(long, hide = true)]
    fill: Option<PathBuf>,
    /// What it is filled with.
    #[arg(long, hide = true, default_value = "rows")]
    kind: reopen::Kind,
    /// Merges the files of this directory.
    #[arg(long, hide = true)]
    merge: Option<PathBuf>,
    /// `cargo bench` says it.
    #[arg(long, hide = true)]
    bench: bool,
}

/// `10M`, `400k`, `1G`, `5000`
fn count(text: &str) -> Result<usize, String> {
    let (digits, factor) = match text.char_indices().last() {
        Some((at, 'k')) => (&text[..at], 1_000),
        Some((at, 'M')) => (&text[..at], 1_000_000),
        Some((at, 'G')) => (&text[..at], 1_000_000_000),
        _ => (text, 1),
    };
    digits.parse::<usize>().map(|number| number * factor).map_err(|error| format!("{text:?}: {error}"))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    if let Some(dir) = &options.fill {
        return reopen::fill_wal(dir, options.wal as u64, options.kind).await;
    }
    if let Some(dir) = &options.merge {
        return merge::merge_here(dir).await;
    }
    let own = tempfile::tempdir()?;
    let dir = options.dir.clone().unwrap_or_else(|| own.path().to_path_buf());
    let runs = |part| options.parts.is_empty() || options.parts.contains(&part);
    println!("{:<58} {:>12} {:<9} {:>10}", "what", "measured", "", "goal");
    if runs(Part::Rows) {
        parts::rows(&dir, options.rows).await?;
    }
    if runs(Part::Samples) {
        parts::samples(&dir, options.samples).await?;
    }
    if runs(Part::Reopen) {
        for kind in [reopen::Kind::Rows, reopen::Kind::Samples] {
            reopen::reopen(&dir, options.wal, kind).await?;
        }
    }
    if runs(Part::Compact) {
        merge::compact(&dir, options.compact).await?;
        merge::compact_logs(&dir, options.logs as u64).await?;
    }
    if runs(Part::Search) {
        search::search(&dir, options.spans).await?;
    }
    Ok(())
}
