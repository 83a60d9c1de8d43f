//! Import of Prometheus' own storage: the blocks of a TSDB, and its write-ahead log with what is in no block yet.
//!
//! Samples go through the store like any others: one that is there already stays as it is. Which blocks have been
//! imported is noted beside the data, so that running it again goes on where it ended; the log, which grows, is read
//! each time.

mod bits;
mod block;
mod chunk;
mod file;
mod index;
mod wal;

use std::path::{Path, PathBuf};

use pharos_model::TimeSeries;
use pharos_storage::{AppendError, Batch, Storage};
use tokio::sync::mpsc;

use self::block::{Block, Meta};

/// A file of a block cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: at byte {offset}: {message}", path.display())]
pub struct TsdbError {
    pub path: PathBuf,
    pub offset: u64,
    pub message: String,
}

impl TsdbError {
    fn new(path: &Path, offset: u64, message: String) -> TsdbError {
        TsdbError { path: path.to_path_buf(), offset, message }
    }
}

/// Why an import ended early. What was imported until then stays.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error(transparent)]
    Tsdb(#[from] TsdbError),
    #[error("{} holds neither blocks nor a write-ahead log", .0.display())]
    NoBlocks(PathBuf),
    #[error("what was imported cannot be noted in {}: {}", path.display(), error)]
    Notes { path: PathBuf, error: std::io::Error },
    #[error("the samples could not be stored: {0}")]
    Store(#[from] AppendError),
}

/// What to import, and how far back.
#[derive(Clone, Debug)]
pub struct TsdbImport {
    /// A TSDB's folder, or that of one block.
    pub folder: PathBuf,
    /// Where what was imported is noted.
    pub notes: PathBuf,
    /// Older samples are left out: the store would drop them.
    pub from_ms: i64,
}

/// How far an import has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportProgress {
    pub block: String,
    /// Of this block…
    pub series_done: u32,
    pub series: u32,
    /// …and of all of them, by number.
    pub blocks_done: usize,
    pub blocks: usize,
    pub samples: u64,
}

/// What became of the blocks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    pub blocks: usize,
    /// Whether there was a write-ahead log: its samples are among the others.
    pub log: bool,
    /// Imported before.
    pub blocks_skipped: usize,
    /// All of whose samples are older than what is kept.
    pub blocks_too_old: usize,
    pub series: u64,
    /// Float samples and histograms that were read…
    pub samples: u64,
    /// …of which these were recognised as stored already…
    pub duplicates: u64,
    /// …and these were refused, for want of room for more series.
    pub rejected: u64,
}

/// Of one append, in float samples.
const BATCH_WEIGHT: usize = 16_384;

/// A native histogram takes as much as so many float samples.
const HISTOGRAM_WEIGHT: usize = 32;

/// Batches that wait for the store.
const BATCHES_AHEAD: usize = 2;

/// Parts of whole series, and the series that are complete with them.
#[derive(Default)]
struct Part {
    series: Vec<TimeSeries>,
    values: usize,
    /// What the values weigh, in float samples.
    weight: usize,
    series_done: u32,
}

/// To which a reader sends parts, each with how many series there are in all.
type Sender = mpsc::Sender<(u32, Part)>;

impl TsdbImport {
    /// Imports all blocks, the oldest first, and then the write-ahead log, in the memory of a few batches and of a block's symbols.
    pub async fn run(
        &self,
        storage: &Storage,
        mut progress: impl FnMut(&ImportProgress),
    ) -> Result<Imported, ImportError> {
        let mut blocks = blocks_of(&self.folder)?;
        let log = !wal::folders(&self.folder).is_empty();
        if blocks.is_empty() && !log {
            return Err(ImportError::NoBlocks(self.folder.clone()));
        }
        blocks.sort_by_key(|(_, meta)| (meta.min_time, meta.max_time));
        let mut imported = Imported { log, ..Imported::default() };
        let count = blocks.len() + usize::from(log);
        for (number, (folder, meta)) in blocks.into_iter().enumerate() {
            if meta.max_time <= self.from_ms {
                imported.blocks_too_old += 1;
                continue;
            }
            let note = Note { path: self.notes.join(&meta.ulid) };
            let Some(done) = note.read()? else {
                imported.blocks_skipped += 1;
                continue;
            };
            let mut state = ImportProgress {
                block: meta.ulid.clone(),
                series_done: done,
                blocks_done: number,
                blocks: count,
                samples: imported.samples,
                ..ImportProgress::default()
            };
            let (from_ms, start) = (self.from_ms, state.series_done);
            let read = move |sender: &Sender| read_block(&folder, from_ms, start, sender);
            self.import(storage, read, Some(&note), &mut state, &mut imported, &mut progress).await?;
            note.write("done")?;
            imported.blocks += 1;
        }
        if log {
            let mut state = ImportProgress {
                block: "wal".into(),
                blocks_done: count - 1,
                blocks: count,
                samples: imported.samples,
                ..ImportProgress::default()
            };
            let (folder, from_ms) = (self.folder.clone(), self.from_ms);
            let read = move |sender: &Sender| wal::read(&folder, from_ms, sender);
            self.import(storage, read, None, &mut state, &mut imported, &mut progress).await?;
        }
        Ok(imported)
    }

    async fn import(
        &self,
        storage: &Storage,
        read: impl FnOnce(&Sender) -> Result<(), TsdbError> + Send + 'static,
        note: Option<&Note>,
        state: &mut ImportProgress,
        imported: &mut Imported,
        progress: &mut impl FnMut(&ImportProgress),
    ) -> Result<(), ImportError> {
        let (sender, mut parts) = mpsc::channel(BATCHES_AHEAD);
        let reader = tokio::task::spawn_blocking(move || read(&sender));
        while let Some((series, part)) = parts.recv().await {
            state.series = series;
            let values = part.values as u64;
            let appended = append(storage, part.series).await?;
            imported.duplicates += appended.duplicates as u64;
            imported.rejected += (appended.rejected.samples + appended.rejected.histograms) as u64;
            imported.samples += values;
            imported.series += u64::from(part.series_done.saturating_sub(state.series_done));
            state.samples = imported.samples;
            // A series that is not complete is read once more next time.
            if part.series_done > state.series_done {
                state.series_done = part.series_done;
                if let Some(note) = note {
                    note.write(&part.series_done.to_string())?;
                }
            }
            progress(state);
        }
        match reader.await {
            Ok(done) => Ok(done?),
            Err(error) => Err(TsdbError::new(&self.folder, 0, format!("the reader ended: {error}")).into()),
        }
    }
}

fn blocks_of(folder: &Path) -> Result<Vec<(PathBuf, Meta)>, TsdbError> {
    if folder.join("meta.json").exists() {
        return Ok(vec![(folder.to_path_buf(), Meta::read(folder)?)]);
    }
    let failed = |error: std::io::Error| TsdbError::new(folder, 0, error.to_string());
    let mut blocks = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        // Blocks under construction, or under deletion, have another ending.
        let is_block = path.extension().is_none() && path.join("meta.json").exists();
        if is_block {
            let meta = Meta::read(&path)?;
            blocks.push((path, meta));
        }
    }
    Ok(blocks)
}

/// Sends a block's samples from its `start`th series on, with the number of its series.
fn read_block(folder: &Path, from_ms: i64, start: u32, sender: &Sender) -> Result<(), TsdbError> {
    let mut block = Block::open(folder)?;
    let count = block.index.series_count();
    let mut part = Part { series_done: start, ..Part::default() };
    let mut listening = true;
    for number in start..count {
        let mut full = Vec::new();
        block.series(number, from_ms, BATCH_WEIGHT, |series| {
            part.values += series.samples.len() + series.histograms.len();
            part.weight += series.samples.len() + series.histograms.len() * HISTOGRAM_WEIGHT;
            part.series.push(series);
            if part.weight >= BATCH_WEIGHT {
                let next = Part { series_done: part.series_done, ..Part::default() };
                full.push(std::mem::replace(&mut part, next));
            }
        })?;
        for full in full {
            listening = sender.blocking_send((count, full)).is_ok();
        }
        part.series_done = number + 1;
        if !listening {
            return Ok(());
        }
    }
    // The receiver is gone only when it has failed already.
    let _ = sender.blocking_send((count, part));
    Ok(())
}

/// Waits for as long as the store asks to.
async fn append(storage: &Storage, series: Vec<TimeSeries>) -> Result<pharos_storage::Appended, AppendError> {
    loop {
        match storage.append(Batch::Samples(series.clone())).await {
            Err(AppendError::Overloaded { retry_after }) => tokio::time::sleep(retry_after).await,
            other => return other,
        }
    }
}

/// A file that says how much of a block has been imported: the number of series, or that all of it has.
struct Note {
    path: PathBuf,
}

impl Note {
    /// The series that are done, or `None` if all are.
    fn read(&self) -> Result<Option<u32>, ImportError> {
        match std::fs::read_to_string(&self.path) {
            Ok(text) if text.trim() == "done" => Ok(None),
            // Anything else that cannot be read is as good as nothing: samples are recognised.
            Ok(text) => Ok(Some(text.trim().parse().unwrap_or(0))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Some(0)),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn write(&self, text: &str) -> Result<(), ImportError> {
        let write = || {
            if let Some(folder) = self.path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            let new = self.path.with_extension("new");
            std::fs::write(&new, text)?;
            std::fs::rename(new, &self.path)
        };
        write().map_err(|error| self.failed(error))
    }

    fn failed(&self, error: std::io::Error) -> ImportError {
        ImportError::Notes { path: self.path.clone(), error }
    }
}

#[cfg(test)]
mod tests;
