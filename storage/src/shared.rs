//! What the storage's threads share.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};
use std::time::Instant;

use object_store::ObjectStore;
use parking_lot::{Mutex, RwLock};
use pharos_model::SeriesId;
use tokio::sync::{Notify, broadcast, watch};

use crate::{
    Batch, DataFile, StorageConfig, StorageError, Table,
    commit::Columns,
    disk::Disk,
    head::Generation,
    promoted::{Census, Promoted},
    read::{FooterCache, RecentSamples},
    series_index::{Ordinal, SeriesIndex},
    table_store::TableStore,
    wal,
};

pub(crate) struct Shared {
    pub(crate) config: StorageConfig,
    /// Locked after `index` where both are needed.
    pub(crate) state: RwLock<State>,
    pub(crate) index: RwLock<SeriesIndex>,
    /// Samples of files, in memory.
    pub(crate) recent: RecentSamples,
    /// Of the data directory: the write-ahead log.
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) tables: TableStore,
    /// The tables' files, as readers see them.
    pub(crate) object_store: Arc<dyn ObjectStore>,
    pub(crate) footers: Arc<FooterCache>,
    /// Of attributes, by table.
    pub(crate) censuses: [Mutex<Census>; Table::ALL.len()],
    pub(crate) tail: broadcast::Sender<Arc<Batch>>,
    /// Of the rows in the head.
    pub(crate) head_bytes: AtomicUsize,
    /// Of the rows on their way into the head.
    pub(crate) pending_bytes: AtomicUsize,
    /// Of all WAL segments.
    pub(crate) wal_bytes: AtomicU64,
    /// Bytes of the WAL and files that could not be read, and were put aside.
    pub(crate) quarantined_bytes: AtomicU64,
    /// A generation was sealed.
    pub(crate) sealed: Notify,
    /// How far flushing has come.
    pub(crate) flushed: watch::Sender<Flushed>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Flushed {
    /// Everything up to this segment is in files.
    pub(crate) through: u64,
    /// Tries to write a generation to files that were begun since the start, and those of them that failed.
    pub(crate) tries: u64,
    pub(crate) failures: u64,
    /// The last try that failed, by its number, and why.
    pub(crate) failed: Option<(u64, StorageError)>,
}

/// Everything that a snapshot is taken of. For each table, a row is either in its files or in a generation that is
/// newer than `flushed_through`: one lock, so never in both and never in neither.
pub(crate) struct State {
    pub(crate) open: Generation,
    /// Oldest first.
    pub(crate) sealed: Vec<Arc<Generation>>,
    tables: [TableFiles; Table::ALL.len()],
}

#[derive(Clone)]
pub(crate) struct TableFiles {
    pub(crate) files: Arc<Vec<Arc<DataFile>>>,
    /// Rows of this WAL segment and of those before it are in the files.
    pub(crate) flushed_through: Option<u64>,
    /// Attributes that are columns in the files that are written from now on.
    pub(crate) promoted: Arc<Promoted>,
}

impl State {
    pub(crate) fn new(open: Generation, tables: [TableFiles; Table::ALL.len()]) -> State {
        State { open, sealed: Vec::new(), tables }
    }

    pub(crate) fn table(&self, table: Table) -> &TableFiles {
        &self.tables[table.index()]
    }

    pub(crate) fn table_mut(&mut self, table: Table) -> &mut TableFiles {
        &mut self.tables[table.index()]
    }

    /// The generations whose rows of the table are in no file yet, oldest first.
    pub(crate) fn unflushed(&self, table: Table) -> impl Iterator<Item = &Generation> {
        let flushed = self.table(table).flushed_through;
        let sealed = self.sealed.iter().map(Arc::as_ref);
        sealed.chain([&self.open]).filter(move |generation| Some(generation.segment) > flushed)
    }

    /// Whether rows of one generation are in the files of some tables and not of others.
    pub(crate) fn is_half_flushed(&self) -> bool {
        let is_in =
            |generation: &Generation, table: &TableFiles| table.flushed_through >= Some(generation.segment);
        self.sealed.iter().any(|generation| self.tables.iter().any(|table| is_in(generation, table)))
    }

    pub(crate) fn head_bytes(&self) -> usize {
        self.open.bytes() + self.sealed.iter().map(|generation| generation.bytes()).sum::<usize>()
    }
}

impl Shared {
    /// Keeps a stretch of the WAL that cannot be read.
    pub(crate) fn put_aside(&self, segment: u64, at: usize, bytes: &[u8]) -> Result<(), StorageError> {
        let more = wal::quarantine(&*self.disk, segment, at, bytes)?;
        self.quarantined_bytes.fetch_add(more, Ordering::Relaxed);
        Ok(())
    }

    /// Whether the head has a native histogram.
    pub(crate) fn has_histogram(&self, id: SeriesId, time_ms: i64) -> bool {
        let state = self.state.read();
        let mut generations = state.sealed.iter().map(Arc::as_ref).chain([&state.open]);
        generations.any(|generation| generation.histograms.has(id, time_ms))
    }

    /// The value of a sample that is stored, if memory has it.
    pub(crate) fn sample_at(&self, ordinal: Ordinal, time_ms: i64) -> Option<f64> {
        self.samples_between(ordinal, time_ms, time_ms).first().copied()
    }

    /// Whether memory has a sample of a series at the time or after it.
    pub(crate) fn holds_sample_since(&self, ordinal: Ordinal, time_ms: i64) -> bool {
        !self.samples_between(ordinal, time_ms, i64::MAX).is_empty()
    }

    /// The values that memory has of a series: of those that are in no file yet, or else of those in the newest ones.
    fn samples_between(&self, ordinal: Ordinal, first_ms: i64, last_ms: i64) -> Vec<f64> {
        let (mut times_ms, mut values) = (Vec::new(), Vec::new());
        let state = self.state.read();
        for generation in state.sealed.iter().map(Arc::as_ref).chain([&state.open]) {
            generation.samples.copy_between(ordinal, first_ms, last_ms, &mut times_ms, &mut values);
        }
        drop(state);
        if values.is_empty() {
            self.recent.copy_between(ordinal, first_ms, last_ms, &mut times_ms, &mut values);
        }
        values
    }

    /// Whether memory has samples of a series.
    pub(crate) fn holds_samples_of(&self, ordinal: Ordinal) -> bool {
        let state = self.state.read();
        let mut generations = state.sealed.iter().map(Arc::as_ref).chain([&state.open]);
        generations.any(|generation| generation.samples.has_any(ordinal)) || self.recent.has_any(ordinal)
    }
}

impl Generation {
    pub(crate) fn add(&mut self, commit: Columns, index: &SeriesIndex) -> Result<(), StorageError> {
        if self.is_empty() {
            self.opened = Instant::now();
        }
        for (table, batch) in commit.tables {
            self.push(table, batch)?;
        }
        for row in commit.samples {
            self.samples.push(row.ordinal, row.time_ms, row.value, || {
                index.entry(row.ordinal).map(|entry| entry.labels.clone()).unwrap_or_default()
            });
        }
        Ok(())
    }
}
