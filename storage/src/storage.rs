use std::{
    fs::{File, TryLockError},
    path::Path,
    sync::{Arc, atomic::Ordering, mpsc},
    time::Duration,
};

use arrow::datatypes::SchemaRef;
use futures::TryStreamExt;
use hashbrown::HashMap;
use pharos_model::{Edge, Exemplar, Labels, Matcher, MetricMetadata, SeriesId, TimeRange};
use tokio::{
    sync::{Mutex, broadcast, oneshot},
    task::JoinHandle,
};

use crate::{
    AppendError, Appended, Batch, Cardinality, DataFile, Scan, SeriesColumns, SeriesHistograms,
    StorageConfig, StorageError, StorageStats, Table, TableSnapshot,
    columns::from_batch,
    commit::Command,
    compact::{self, Compactor},
    derive::Joining,
    flush::off_thread,
    open::{Opened, Places, open},
    read::{MetricEdges, SampleBlock, SampleReader, load_recent, read_histograms},
    rebuild::RebuildProgress,
    rows::ExemplarRow,
    shared::{Flushed, Shared},
    stats,
};

/// When a full head may have room again: about a flush.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The tables of one data directory. A handle: clones share everything.
#[derive(Clone)]
pub struct Storage {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
    compactor: Arc<Mutex<Compactor>>,
    background: Arc<Background>,
}

/// Work that goes on until the last handle is gone.
struct Background {
    tasks: Vec<JoinHandle<()>>,
    committer: Option<std::thread::JoinHandle<()>>,
    /// Released when nothing of ours writes any more.
    lock: parking_lot::Mutex<Option<File>>,
}

impl Drop for Background {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        // The last sender is gone by now, which is what it waits for.
        if let Some(committer) = self.committer.take() {
            let _ = committer.join();
        }
    }
}

/// Keeps a second process out of the directory.
pub(crate) fn lock(data_dir: &Path) -> Result<File, StorageError> {
    let path = data_dir.join("LOCK");
    let file = File::create(&path).map_err(|error| StorageError::io(&path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(StorageError::DataDir(format!("{} is in use by another process", data_dir.display())))
        }
        Err(TryLockError::Error(error)) => Err(StorageError::io(path, error)),
    }
}

impl Storage {
    /// Opens the directory, or makes it, and replays what was not in files yet.
    pub async fn open(config: StorageConfig) -> Result<Storage, StorageError> {
        std::fs::create_dir_all(&config.data_dir)
            .map_err(|error| StorageError::io(&config.data_dir, error))?;
        let lock = lock(&config.data_dir)?;
        let places = Places::of(&config)?;
        Storage::open_in(config, places, Some(lock)).await
    }

    pub(crate) async fn open_in(
        config: StorageConfig,
        places: Places,
        lock: Option<File>,
    ) -> Result<Storage, StorageError> {
        let opened = open(config, places).await?;
        let flusher = opened.flusher.clone();
        let compactor = Arc::new(Mutex::new(Compactor::new(flusher.clone())));
        let tasks = vec![
            tokio::spawn(flusher.run()),
            tokio::spawn(compact::run(compactor.clone())),
            tokio::spawn(load_recent(opened.shared.clone())),
        ];
        Ok(Storage::new(opened, compactor, tasks, lock))
    }

    fn new(
        opened: Opened,
        compactor: Arc<Mutex<Compactor>>,
        tasks: Vec<JoinHandle<()>>,
        lock: Option<File>,
    ) -> Storage {
        let Opened { shared, commands, committer, .. } = opened;
        let lock = parking_lot::Mutex::new(lock);
        let background = Arc::new(Background { tasks, committer: Some(committer), lock });
        Storage { shared, commands, compactor, background }
    }

    /// A storage that merges files only when asked to, and writes none at all unless `flushing`.
    #[cfg(test)]
    pub(crate) async fn open_without_compactor(
        config: StorageConfig,
        places: Places,
        flushing: bool,
    ) -> Result<Storage, StorageError> {
        let opened = open(config, places).await?;
        let compactor = Arc::new(Mutex::new(Compactor::new(opened.flusher.clone())));
        let tasks = if flushing { vec![tokio::spawn(opened.flusher.clone().run())] } else { Vec::new() };
        while flushing && !opened.shared.state.read().sealed.is_empty() {
            tokio::task::yield_now().await;
        }
        drop(opened.flusher.turn.lock().await);
        Ok(Storage::new(opened, compactor, tasks, None))
    }

    /// Stores a batch. When this returns, its rows are as durable as configured, and the next snapshot has them.
    pub async fn append(&self, batch: Batch) -> Result<Appended, AppendError> {
        if batch.is_empty() {
            return Ok(Appended::default());
        }
        let weight = batch.weight();
        let budget = self.shared.config.head_bytes;
        if weight > budget {
            return Err(AppendError::Invalid {
                message: format!("{weight} bytes in one batch; at most {budget} fit"),
            });
        }
        if self.shared.wal_bytes.load(Ordering::Relaxed) > self.shared.config.wal_bytes {
            return Err(AppendError::Overloaded { retry_after: RETRY_AFTER });
        }
        let pending = self.shared.pending_bytes.fetch_add(weight, Ordering::Relaxed) + weight;
        if self.shared.head_bytes.load(Ordering::Relaxed) + pending > budget {
            self.shared.pending_bytes.fetch_sub(weight, Ordering::Relaxed);
            return Err(AppendError::Overloaded { retry_after: RETRY_AFTER });
        }
        let (reply, answer) = oneshot::channel();
        let sent = self.commands.send(Command::Append { batch, weight, reply });
        if sent.is_err() {
            self.shared.pending_bytes.fetch_sub(weight, Ordering::Relaxed);
            return Err(AppendError::Failed(StorageError::Closed));
        }
        answer.await.unwrap_or(Err(AppendError::Failed(StorageError::Closed)))
    }

    /// Every batch from now on, once it is stored and without the rows that were known already. A reader that falls
    /// behind by more than 256 batches loses the oldest.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Batch>> {
        self.shared.tail.subscribe()
    }

    /// The table at this moment: every row stored so far is in it once. Files and batches without rows in `range`
    /// are left out; the others come whole.
    pub fn snapshot(&self, table: Table, range: TimeRange) -> Result<TableSnapshot, StorageError> {
        let made = (table == Table::Edges).then(|| MetricEdges::new(self.shared.clone()));
        Ok(TableSnapshot { made, ..TableSnapshot::take(&self.shared, table, range)? })
    }

    /// The table's files at this moment, by the time of their first row.
    pub fn data_files(&self, table: Table) -> Vec<Arc<DataFile>> {
        let mut files: Vec<Arc<DataFile>> = self.shared.state.read().table(table).files.to_vec();
        files.sort_by_key(|file| (file.min_time, file.max_time));
        files
    }

    /// The table's own columns, then the attributes that are columns by themselves: a list that only grows.
    pub fn schema(&self, table: Table) -> SchemaRef {
        self.shared.state.read().table(table).promoted.schema.clone()
    }

    /// The series that fulfil all matchers and have samples in `range`, to the day's precision for series of before
    /// the last start, by metric and id: the order in which their samples are stored. Fails when there are more than
    /// `limit`.
    pub fn select_series(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<(SeriesId, Labels)>, StorageError> {
        let index = self.shared.index.read();
        let found = index.select(matchers, range);
        if found.len() > limit {
            return Err(StorageError::TooManySeries { limit });
        }
        Ok(found.into_iter().map(|(_, entry)| (entry.id, entry.labels.clone())).collect())
    }

    /// Chooses series as [`Storage::select_series`] does, and makes their samples between the two times, both
    /// inclusive, readable block by block as they are now.
    pub fn select_samples(
        &self,
        matchers: &[Matcher],
        first_ms: i64,
        last_ms: i64,
        limit: usize,
    ) -> Result<SampleReader, StorageError> {
        SampleReader::select(&self.shared, matchers, first_ms, last_ms, limit)
    }

    /// The series' samples between the two times, both inclusive, in the order of `ids`: ascending, no time twice.
    /// Staleness markers are among them.
    pub async fn read_samples(
        &self,
        ids: &[SeriesId],
        first_ms: i64,
        last_ms: i64,
    ) -> Result<Vec<SeriesColumns>, StorageError> {
        let reader = SampleReader::of_ids(&self.shared, ids, first_ms, last_ms);
        let block = off_thread(async move {
            let mut block = SampleBlock::default();
            reader.read(0..reader.len(), &mut block).await?;
            Ok(block)
        })
        .await?;
        let columns = |(place, id): (usize, &SeriesId)| {
            let (times_ms, values) = block.series(place);
            SeriesColumns { id: *id, times_ms: times_ms.to_vec(), values: values.to_vec() }
        };
        Ok(ids.iter().enumerate().map(columns).collect())
    }

    /// Whether memory has a sample of the series at the time or after it.
    pub fn has_sample_since(&self, series: SeriesId, time_ms: i64) -> bool {
        let index = self.shared.index.read();
        let Some(ordinal) = index.ordinal(series) else { return false };
        let came_in = index.entry(ordinal).is_some_and(|entry| entry.came_in_since(time_ms));
        drop(index);
        came_in || self.shared.holds_sample_since(ordinal, time_ms)
    }

    /// Where the number of series comes from: the `limit` names with most, for each question.
    pub fn cardinality(&self, limit: usize) -> Cardinality {
        let mut cardinality = self.shared.index.read().cardinality(limit);
        let state = self.shared.state.read();
        let times = state.unflushed(Table::Samples).filter_map(|generation| generation.samples.times());
        cardinality.head_times_ms = times
            .map(|(first, last)| (first.millis(), last.millis()))
            .reduce(|left, right| (left.0.min(right.0), left.1.max(right.1)));
        cardinality
    }

    /// The native histograms of those of the series that have any between the two times, both inclusive; staleness
    /// markers are among them.
    pub async fn read_histograms(
        &self,
        ids: &[SeriesId],
        first_ms: i64,
        last_ms: i64,
    ) -> Result<Vec<SeriesHistograms>, StorageError> {
        read_histograms(&self.shared, ids, first_ms, last_ms).await
    }

    /// The exemplars of the series that fulfil the matchers, by series; each list in ascending time.
    pub async fn exemplars(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Vec<(Labels, Vec<Exemplar>)>, StorageError> {
        let series = self.select_series(matchers, range, usize::MAX)?;
        let mut found: HashMap<SeriesId, (Labels, Vec<Exemplar>)> =
            series.into_iter().map(|(id, labels)| (id, (labels, Vec::new()))).collect();
        let mut batches = self.snapshot(Table::Exemplars, range)?.read(&Scan::new(range)).await?;
        while let Some(batch) = batches.try_next().await? {
            for row in from_batch::<ExemplarRow>(&batch)? {
                if let Some((_, exemplars)) = found.get_mut(&row.series) {
                    exemplars.push(row.exemplar);
                }
            }
        }
        let mut found: Vec<_> = found.into_values().filter(|(_, exemplars)| !exemplars.is_empty()).collect();
        found.sort_by(|(left, _), (right, _)| left.cmp(right));
        for (_, exemplars) in &mut found {
            exemplars.sort_by_key(|exemplar| exemplar.time_ms);
            exemplars.dedup();
        }
        Ok(found)
    }

    /// Names of the labels of the series that fulfil the matchers, sorted.
    pub fn label_names(&self, matchers: &[Matcher], range: TimeRange) -> Vec<String> {
        self.shared.index.read().label_names(matchers, range)
    }

    /// Values of one label, sorted.
    pub fn label_values(&self, name: &str, matchers: &[Matcher], range: TimeRange) -> Vec<String> {
        self.shared.index.read().label_values(name, matchers, range)
    }

    /// What expositions said of this metric family, or of all, by family name.
    pub fn metadata(&self, family: Option<&str>) -> Vec<MetricMetadata> {
        let index = self.shared.index.read();
        match family {
            Some(family) => index.metadata().get(family).cloned().into_iter().collect(),
            None => index.metadata().values().cloned().collect(),
        }
    }

    /// The edge rows whose ten seconds overlap `range`, each bucket, key and measure once, by time.
    pub async fn edges(&self, range: TimeRange) -> Result<Vec<Edge>, StorageError> {
        self.snapshot(Table::Edges, range)?.edges(range, Joining::Buckets).await
    }

    /// The same rows, but for each key and measure those of all buckets in the middle joined to one: what a sum over
    /// a long time needs. Buckets that `range` cuts, and its first, stay apart, so that a caller may clip them.
    pub async fn edges_joined(&self, range: TimeRange) -> Result<Vec<Edge>, StorageError> {
        self.snapshot(Table::Edges, range)?.edges(range, Joining::Inner).await
    }

    pub fn stats(&self) -> StorageStats {
        stats::collect(&self.shared)
    }

    /// Seals the head and returns when its rows are in files.
    pub async fn flush(&self) -> Result<(), StorageError> {
        let mut flushed = self.shared.flushed.subscribe();
        // One that is under way may fail of what is mended by now.
        let begun_before = flushed.borrow_and_update().tries;
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Seal { reply }).map_err(|_| StorageError::Closed)?;
        let segment = answer.await.map_err(|_| StorageError::Closed)??;
        let failed = |flushed: &Flushed| {
            flushed.failed.clone().filter(|(number, _)| *number > begun_before).map(|(_, error)| error)
        };
        let done = flushed.wait_for(|flushed| flushed.through >= segment || failed(flushed).is_some()).await;
        let done = done.map_err(|_| StorageError::Closed)?;
        match failed(&done) {
            Some(error) if done.through < segment => Err(error),
            _ => Ok(()),
        }
    }

    /// Merges, drops and removes the files that are due, as the storage does by itself every 20 seconds.
    pub async fn compact(&self) -> Result<(), StorageError> {
        self.compactor.lock().await.round().await
    }

    /// Makes a derived table anew from the tables that it comes from, and says how many rows it has now. Readers see the
    /// old rows until the new ones replace them at once; nothing is flushed meanwhile, so that writers may be told
    /// 'later'. `progress` is called now and then, on a thread of the storage's.
    pub async fn rebuild(
        &self,
        table: Table,
        progress: impl FnMut(RebuildProgress) + Send + 'static,
    ) -> Result<u64, StorageError> {
        self.flush().await?;
        self.compactor.lock().await.rebuild(table, progress).await
    }

    /// Writes everything to files, stops, and lets go of the directory. Appends fail from then on; readers may go on.
    pub async fn close(&self) -> Result<(), StorageError> {
        let flushed = self.flush().await;
        let (reply, answer) = oneshot::channel();
        // Closed already is closed.
        if self.commands.send(Command::Stop { reply }).is_ok() {
            let _ = answer.await;
        }
        // A merge that has begun comes to its end.
        let _round = self.compactor.lock().await;
        self.background.tasks.iter().for_each(JoinHandle::abort);
        drop(self.background.lock.lock().take());
        flushed
    }
}

#[cfg(test)]
mod histogram_tests;
#[cfg(test)]
mod recent_tests;
#[cfg(test)]
mod tests;
