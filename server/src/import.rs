//! `pharos import`.

use std::{
    io::{IsTerminal, Write},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context;
use pharos_collector::{ImportProgress, TsdbImport};
use pharos_model::UnixNanos;
use pharos_storage::Storage;
use tokio_util::sync::CancellationToken;

use crate::{backend::storage_config, say, settings::Config};

/// Imports a Prometheus TSDB; ended in the middle, what was imported stays.
pub(crate) async fn tsdb(folder: &Path, config: Config, stop: CancellationToken) -> anyhow::Result<()> {
    let storage = Storage::open(storage_config(&config))
        .await
        .with_context(|| format!("cannot open the data in {}", config.data_dir.display()))?;
    let now = UnixNanos::now();
    let oldest =
        config.retention.map(|kept| now.plus_nanos(-i64::try_from(kept.as_nanos()).unwrap_or(i64::MAX)));
    let import = TsdbImport {
        folder: folder.to_path_buf(),
        notes: config.data_dir.join("imported"),
        from_ms: oldest.map_or(i64::MIN, UnixNanos::millis),
    };
    let mut bar = Bar::new();
    let imported = tokio::select! {
        imported = import.run(&storage, |progress| bar.show(progress)) => Some(imported),
        () = stop.cancelled() => None,
    };
    bar.end();
    storage.close().await?;
    let Some(imported) = imported else {
        say!("Interrupted; run it again to go on.");
        return Ok(());
    };
    let imported = imported?;
    say!(
        "Imported {} samples of {} series from {} blocks{}; {} blocks were imported before.",
        imported.samples - imported.duplicates - imported.rejected,
        imported.series,
        imported.blocks,
        if imported.log { " and the write-ahead log" } else { "" },
        imported.blocks_skipped
    );
    if imported.duplicates > 0 {
        say!("{} samples were there already.", imported.duplicates);
    }
    if imported.rejected > 0 {
        say!("{} samples were refused: the store holds as many series as it may.", imported.rejected);
    }
    if imported.blocks_too_old > 0 {
        say!(
            "{} blocks are older than the retention and were left out; --retention 0 keeps all.",
            imported.blocks_too_old
        );
    }
    if folder.join("wal").is_dir() {
        say!("What Prometheus had in no block yet, about its newest two hours, is not among it.");
    }
    Ok(())
}

/// A line that is written anew; nothing where nobody looks.
struct Bar {
    shown: Option<Instant>,
    started: Instant,
}

const WIDTH: usize = 30;

impl Bar {
    fn new() -> Bar {
        Bar { shown: None, started: Instant::now() }
    }

    fn show(&mut self, progress: &ImportProgress) {
        let recently = self.shown.is_some_and(|at| at.elapsed() < Duration::from_millis(200));
        if recently || !std::io::stderr().is_terminal() {
            return;
        }
        self.shown = Some(Instant::now());
        let of_block = f64::from(progress.series_done) / f64::from(progress.series.max(1));
        let share = (progress.blocks_done as f64 + of_block) / progress.blocks.max(1) as f64;
        let filled = (share * WIDTH as f64) as usize;
        let rate = progress.samples as f64 / self.started.elapsed().as_secs_f64().max(0.001);
        let _ = write!(
            std::io::stderr(),
            "\r[{}{}] {:3.0} %  block {} of {}  {} samples, {rate:.0}/s ",
            "#".repeat(filled.min(WIDTH)),
            " ".repeat(WIDTH - filled.min(WIDTH)),
            share * 100.0,
            progress.blocks_done + 1,
            progress.blocks,
            progress.samples,
        );
    }

    fn end(&self) {
        if self.shown.is_some() {
            let _ = writeln!(std::io::stderr());
        }
    }
}
