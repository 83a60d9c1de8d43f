//! Opening a data directory: table logs, the series index, and the WAL's rows back into the head.

mod restore;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use futures::TryStreamExt;
use hashbrown::HashSet;
use parking_lot::RwLock;
use pharos_model::{TimeRange, UnixNanos};
use tokio::sync::{Mutex, Notify, broadcast, watch};

use crate::{
    Scan, StorageConfig, StorageError, Table, TableSnapshot,
    columns::from_batch,
    commit::{Command, Committer, open_segment},
    disk::{Disk, LocalDisk, is_unfinished},
    flush::{Committed, Flusher, TableLogs, blocking},
    head::Generation,
    identity::{self, RecentIdentities},
    read::{RecentSamples, footer_cache, recall_samples},
    rows::{HistogramRow, SeriesRow},
    series_index::SeriesIndex,
    shared::{Flushed, Shared, State, TableFiles},
    table_log::{DeltaLogs, OpenTableLog},
    table_store::TableStore,
    wal::{self, FoundSegment},
};

use self::restore::Restore;

/// Batches that a slow reader of the live tail may fall behind before it loses some.
const TAIL_BATCHES: usize = 256;

/// Parsed footers kept in memory.
const FOOTER_BYTES: usize = 24 << 20;

/// A resend of rows that are in files already is recognised if they came this short a time before the start.
const RESEND_WINDOW: Duration = Duration::from_secs(10 * 60);

pub(crate) struct Opened {
    pub(crate) shared: Arc<Shared>,
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) committer: std::thread::JoinHandle<()>,
    pub(crate) flusher: Flusher,
}

/// Where everything is.
pub(crate) struct Places {
    /// Of the data directory: the write-ahead log.
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) tables: TableStore,
    pub(crate) logs: Arc<dyn OpenTableLog>,
}

impl Places {
    /// # Errors
    /// The tables are to be where nothing can be.
    pub(crate) fn of(config: &StorageConfig) -> Result<Places, StorageError> {
        let disk: Arc<dyn Disk> = Arc::new(LocalDisk::new(&config.data_dir));
        let tables = match &config.tables_url {
            None => TableStore::on_disk(disk.clone()),
            Some(url) => TableStore::at_url(url, disk.clone(), config.read_cache_bytes)?,
        };
        Ok(Places { disk, tables, logs: Arc::new(DeltaLogs) })
    }
}

pub(crate) async fn open(config: StorageConfig, places: Places) -> Result<Opened, StorageError> {
    let Places { disk, tables: table_store, logs: log_opener } = places;
    let object_store = table_store.objects();
    let cleaned = [disk.clone(), table_store.disk().clone()];
    blocking(move || cleaned.iter().try_for_each(|disk| remove_unfinished(&**disk))).await?;
    table_store.claim(&disk).await?;
    let mut logs: Vec<Mutex<Committed>> = Vec::new();
    let mut tables: Vec<TableFiles> = Vec::new();
    for table in Table::ALL {
        let log = log_opener.open(object_store.clone(), table).await?;
        if log.is_new() {
            refuse_orphans(&table_store, table).await?;
        }
        tables.push(TableFiles {
            files: Arc::new(log.files().await?),
            flushed_through: log.through_segment().await?,
            promoted: Arc::new(log.promoted().await?),
        });
        logs.push(Mutex::new(Committed::new(log)));
    }
    let logs: [_; Table::ALL.len()] =
        logs.try_into().map_err(|_| StorageError::DataDir("a table has no log".to_string()))?;
    let logs: TableLogs = Arc::new(logs);
    let tables: [_; Table::ALL.len()] =
        tables.try_into().map_err(|_| StorageError::DataDir("a table has no log".to_string()))?;

    let wal_disk = disk.clone();
    let segments = blocking(move || wal::find(&*wal_disk)).await?;
    let newest = segments.last().map_or(0, |segment| segment.number);
    let flushed = tables.iter().filter_map(|table| table.flushed_through).max().unwrap_or(0);
    let next = newest.max(flushed) + 1;
    let oldest = segments.first().map_or(next, |segment| segment.number);

    let recent = RecentSamples::new(config.recent_samples_bytes);
    let shared = Arc::new(Shared {
        config,
        state: RwLock::new(State::new(Generation::new(next), tables)),
        index: RwLock::new(SeriesIndex::default()),
        recent,
        disk,
        tables: table_store,
        object_store,
        footers: Arc::new(footer_cache(FOOTER_BYTES)),
        censuses: Default::default(),
        tail: broadcast::Sender::new(TAIL_BATCHES),
        head_bytes: AtomicUsize::new(0),
        pending_bytes: AtomicUsize::new(0),
        wal_bytes: AtomicU64::new(0),
        quarantined_bytes: AtomicU64::new(0),
        sealed: Notify::new(),
        flushed: watch::Sender::new(Flushed { through: oldest.saturating_sub(1), ..Flushed::default() }),
    });
    load_series(&shared).await?;
    let mut identities = RecentIdentities::default();
    // Without them a resend may be doubled; that is no reason not to start.
    let recalled = [
        recall_spans(&shared, &mut identities).await,
        recall_samples(&shared, recent_files(&shared, Table::Samples)?.files).await,
        recall_histograms(&shared).await,
    ];
    for error in recalled.into_iter().filter_map(Result::err) {
        tracing::error!(%error, "rows that are sent again may be stored twice");
    }

    let flusher = Flusher { shared: shared.clone(), logs, turn: Arc::default() };
    let (identities, newest) = restore(&flusher, segments, identities).await?;
    let of_segment = shared.clone();
    let segment = blocking(move || open_segment(&of_segment, next, newest)).await?;
    let (commands, receiver) = mpsc::channel();
    let committer = Committer::new(shared.clone(), receiver, identities, segment);
    let committer = std::thread::Builder::new()
        .name("pharos-commit".to_string())
        .spawn(move || committer.run())
        .map_err(|error| StorageError::io(&shared.config.data_dir, error))?;
    Ok(Opened { shared, commands, committer, flusher })
}

/// What a crash left of files that never got their name.
fn remove_unfinished(disk: &dyn Disk) -> Result<(), StorageError> {
    for (path, _) in disk.list("").map_err(|error| StorageError::io("", error))? {
        if is_unfinished(&path) {
            disk.remove(&path).map_err(|error| StorageError::io(path, error))?;
        }
    }
    Ok(())
}

/// Files whose log is gone would otherwise look like leftovers.
async fn refuse_orphans(tables: &TableStore, table: Table) -> Result<(), StorageError> {
    match tables.data_files(table.name()).await?.first() {
        None => Ok(()),
        Some(file) => Err(StorageError::DataDir(format!(
            "{} is there, but {}/_delta_log is not",
            file.location,
            table.name()
        ))),
    }
}

async fn load_series(shared: &Shared) -> Result<(), StorageError> {
    let mut batches =
        TableSnapshot::take(shared, Table::Series, TimeRange::ALL)?.read(&Scan::new(TimeRange::ALL)).await?;
    while let Some(batch) = batches.try_next().await? {
        let rows = from_batch::<SeriesRow>(&batch)?;
        let mut index = shared.index.write();
        rows.iter().for_each(|row| index.insert_stored(row));
    }
    Ok(())
}

/// A snapshot of the files that were written within the resend window, and of no rows of the head.
fn recent_files(shared: &Shared, table: Table) -> Result<TableSnapshot, StorageError> {
    let mut snapshot = TableSnapshot::take(shared, table, TimeRange::ALL)?;
    let newest = snapshot.files.iter().map(|file| file.modified_ms).max().unwrap_or(0);
    let since = newest.min(UnixNanos::now().millis()) - RESEND_WINDOW.as_millis() as i64;
    snapshot.files.retain(|file| file.modified_ms >= since);
    snapshot.head.clear();
    Ok(snapshot)
}

async fn recall_spans(shared: &Shared, identities: &mut RecentIdentities) -> Result<(), StorageError> {
    let snapshot = recent_files(shared, Table::Spans)?;
    let mut batches = snapshot.read(&Scan::new(TimeRange::ALL).columns(identity::COLUMNS)).await?;
    while let Some(batch) = batches.try_next().await? {
        identity::of_batch(&batch)?.for_each(|identity| {
            identities.insert(identity);
        });
    }
    Ok(())
}

/// Which metrics have native histograms, and the times of those that may be sent again.
async fn recall_histograms(shared: &Shared) -> Result<(), StorageError> {
    let mut snapshot = TableSnapshot::take(shared, Table::Histograms, TimeRange::ALL)?;
    snapshot.head.clear();
    let mut batches = snapshot.read(&Scan::new(TimeRange::ALL).columns(["metric"])).await?;
    let mut metrics: HashSet<Arc<str>> = HashSet::new();
    while let Some(batch) = batches.try_next().await? {
        metrics.extend(from_batch::<HistogramRow>(&batch)?.into_iter().map(|row| row.metric));
    }
    let snapshot = recent_files(shared, Table::Histograms)?;
    let mut batches = snapshot.read(&Scan::new(TimeRange::ALL).columns(["time", "series"])).await?;
    while let Some(batch) = batches.try_next().await? {
        let rows = from_batch::<HistogramRow>(&batch)?;
        let mut index = shared.index.write();
        for row in rows {
            index.recall_histogram(row.series, row.time_ms);
        }
    }
    let mut index = shared.index.write();
    metrics.iter().for_each(|metric| index.add_histogram_metric(metric));
    Ok(())
}

/// Puts the WAL's rows into the head, a sealed generation for each segment, and the oldest into files before the head
/// grows by more than one beyond its budget. Says what is known of them, and how much of the newest segment counts.
async fn restore(
    flusher: &Flusher,
    segments: Vec<FoundSegment>,
    mut identities: RecentIdentities,
) -> Result<(RecentIdentities, Option<(u64, u64)>), StorageError> {
    let (mut unknown, mut newest) = (HashSet::new(), None);
    for segment in segments {
        while flusher.shared.head_bytes.load(Ordering::Relaxed) > flusher.shared.config.head_bytes {
            // If it cannot be, the rest is put into memory nevertheless, and writers are told 'later'.
            if flusher.flush_oldest().await.is_err() {
                break;
            }
        }
        let shared = flusher.shared.clone();
        let restored = blocking(move || {
            let mut restore = Restore { shared: &shared, identities, unknown };
            let length = restore.segment(segment)?;
            Ok((restore.identities, restore.unknown, length))
        });
        let of_segment;
        (identities, unknown, of_segment) = restored.await?;
        // Segments that a crash left without a header have nothing, and say nothing of the one before them.
        newest = Some(of_segment).filter(|(_, length)| *length > 0).or(newest);
    }
    if !unknown.is_empty() {
        tracing::error!(
            series = unknown.len(),
            "samples of the WAL belong to series whose labels are lost, and were dropped"
        );
    }
    Ok((identities, newest))
}
