//! Metrics, side by side: the same mesh is written to Pharos, Debian's Prometheus and VictoriaMetrics by remote write,
//! then each answers the same queries. One table tells times, samples per second of CPU, bytes and memory.
//!
//!     make bench-metrics                                        150 edges, 1 h: about 2 minutes
//!     make bench-metrics ARGS="--edges 1000 --minutes 120"      138,000 series, 66 million samples
//!     make bench-metrics ARGS="--only pharos"                   one program; the table has the others' last figures
//!     make bench-metrics ARGS="--keep"                          leaves what each program has stored
//!     make bench-metrics ARGS="--queries-only"                  asks the programs again, started over what was left
//!
//! The programs run one after the other, each alone on the machine. Figures are kept as JSON in `--results`.

mod load;
mod mesh;
mod peer;
mod queries;
mod report;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
use clap::Parser;
use serde::{Deserialize, Serialize};

use load::Load;
use peer::{Peer, Program};
use queries::Timing;

#[derive(Debug, Clone, Parser)]
pub(crate) struct Options {
    /// Pairs of workloads; each makes 138 series.
    #[arg(long, default_value_t = 150)]
    edges: usize,
    #[arg(long, default_value_t = 60)]
    minutes: usize,
    #[arg(long, default_value_t = 15)]
    interval_s: usize,
    /// Of the scrapes, the last ones that are written as they would come live, one sample a series; these are timed.
    #[arg(long, default_value_t = 8)]
    live_scrapes: usize,
    /// Connections that write at once.
    #[arg(long, default_value_t = 4)]
    senders: usize,
    /// Prometheus' default.
    #[arg(long, default_value_t = 2_000)]
    samples_per_request: usize,
    /// Runs of a query after the first, if they do not take less than half a second.
    #[arg(long, default_value_t = 7)]
    repeat: usize,
    #[arg(long, value_enum)]
    only: Vec<Program>,
    /// Leaves each program's folder in `--results`.
    #[arg(long)]
    keep: bool,
    /// Writes nothing: starts each program over the folder that a run with `--keep` left, and asks.
    #[arg(long)]
    queries_only: bool,
    /// The binary of Pharos.
    #[arg(long, default_value = "target/release/pharos")]
    pharos: PathBuf,
    /// A further argument of `pharos serve`.
    #[arg(long = "pharos-arg", allow_hyphen_values = true)]
    pharos_args: Vec<String>,
    /// Where figures are kept.
    #[arg(long, default_value = "target/bench-metrics")]
    results: PathBuf,
    /// Milliseconds since 1970 of the last scrape; by default now.
    #[arg(long, default_value_t = 0, hide = true)]
    end_ms: i64,
    /// `cargo bench` says it.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    pub(crate) fn scrapes(&self) -> usize {
        self.minutes * 60 / self.interval_s
    }

    pub(crate) fn time_ms(&self, scrape: usize) -> i64 {
        let back = (self.scrapes() - 1 - scrape) * self.interval_s * 1000;
        self.end_ms - back as i64
    }

    /// When queries end: a little after a scrape. On the very edge of a window Prometheus 2 takes a sample in, and
    /// Prometheus 3 does not.
    pub(crate) fn query_end_s(&self) -> i64 {
        self.end_ms / 1000 + 2
    }
}

/// What was measured of one program.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Figures {
    pub(crate) program: String,
    /// What was written, so that it can be asked for again.
    pub(crate) edges: usize,
    pub(crate) minutes: usize,
    pub(crate) interval_s: usize,
    pub(crate) end_ms: i64,
    pub(crate) series: usize,
    pub(crate) samples: u64,
    /// Samples per second of CPU time of the process, and of time.
    pub(crate) new_series_per_cpu_s: f64,
    pub(crate) live_per_cpu_s: f64,
    pub(crate) live_per_s: f64,
    pub(crate) bulk_per_cpu_s: f64,
    pub(crate) resident_bytes: u64,
    pub(crate) resident_after_queries_bytes: u64,
    pub(crate) peak_bytes: u64,
    pub(crate) disk_bytes: u64,
    /// The same once files are merged.
    #[serde(default)]
    pub(crate) merged_disk_bytes: Option<u64>,
    pub(crate) queries: Vec<Timing>,
}

fn main() -> Result<()> {
    let mut options = Options::parse();
    if options.end_ms == 0 {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_millis() as i64;
        options.end_ms = now - now % (options.interval_s as i64 * 1000);
    }
    std::fs::create_dir_all(&options.results)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        for program in [Program::Prometheus, Program::VictoriaMetrics, Program::Pharos] {
            if options.only.is_empty() || options.only.contains(&program) {
                let file = options.results.join(format!("{}.json", program.name()));
                let figures = match options.queries_only {
                    true => measure_again(&file, program, &options).await,
                    false => measure(program, &options).await,
                };
                let figures = figures.with_context(|| program.name())?;
                std::fs::write(file, serde_json::to_vec_pretty(&figures)?)?;
            }
        }
        report::print(&options)
    })
}

async fn measure(program: Program, options: &Options) -> Result<Figures> {
    let folder = options.results.join(program.name());
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    let mut peer = Peer::start(program, options, &folder).await?;
    let mut load = Load::new(options, &peer);
    let live = options.live_scrapes.min(options.scrapes().saturating_sub(1));
    let first = load.live(1, options, &peer).await?;
    let bulk = load.bulk(options.scrapes() - 1 - live, options, &peer).await?;
    let live = load.live(live, options, &peer).await?;
    let series = load.series();
    drop(load);
    // Background work of the load comes to its end.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (resident_bytes, _) = peer.resident_bytes()?;
    let queries = ask(&peer, options)?;
    let (resident_after_queries_bytes, peak_bytes) = peer.resident_bytes()?;
    let disk_bytes = peer.disk_bytes().await?;
    peer.end()?;
    let merged_disk_bytes = Some(peer.merged_disk_bytes(disk_bytes).await?);
    if !options.keep {
        std::fs::remove_dir_all(&folder)?;
    }
    let per = |written: load::Written, time: Duration| written.samples as f64 / time.as_secs_f64().max(1e-3);
    Ok(Figures {
        program: program.name().to_string(),
        edges: options.edges,
        minutes: options.minutes,
        interval_s: options.interval_s,
        end_ms: options.end_ms,
        series,
        samples: first.samples + bulk.samples + live.samples,
        new_series_per_cpu_s: per(first, first.cpu),
        live_per_cpu_s: per(live, live.cpu),
        live_per_s: per(live, live.wall),
        bulk_per_cpu_s: per(bulk, bulk.cpu),
        resident_bytes,
        resident_after_queries_bytes,
        peak_bytes,
        disk_bytes,
        merged_disk_bytes,
        queries,
    })
}

/// The last run's figures, with the queries' times of now.
async fn measure_again(file: &Path, program: Program, options: &Options) -> Result<Figures> {
    let folder = options.results.join(program.name());
    ensure!(folder.exists(), "{} is not there: run with --keep first", folder.display());
    let last: Figures = serde_json::from_slice(&std::fs::read(file)?)?;
    let options = Options {
        edges: last.edges,
        minutes: last.minutes,
        interval_s: last.interval_s,
        end_ms: last.end_ms,
        ..options.clone()
    };
    let mut peer = Peer::start(program, &options, &folder).await?;
    // Background work of the start comes to its end.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let queries = ask(&peer, &options)?;
    let (resident_after_queries_bytes, _) = peer.resident_bytes()?;
    peer.end()?;
    Ok(Figures { resident_after_queries_bytes, queries, ..last })
}

/// On one thread of its own: what an answer takes from thread to thread here is no time of the program that gave it.
fn ask(peer: &Peer, options: &Options) -> Result<Vec<Timing>> {
    let ask = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut timings = Vec::new();
        for query in queries::queries() {
            timings.push(runtime.block_on(query.time(options, peer))?);
        }
        Ok(timings)
    };
    std::thread::scope(|scope| scope.spawn(ask).join().map_err(|_| anyhow!("the asking thread panicked"))?)
}
