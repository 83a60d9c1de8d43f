//! Sealed generations of the head become files, and derived tables are made with them.

mod shares;

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use arrow::array::RecordBatch;
use hashbrown::{HashMap, HashSet};
use object_store::path::Path;
use tokio::sync::{Mutex, MutexGuard};

use crate::{
    DataFile, StorageError, Table,
    head::{FrozenSamples, Generation},
    parquet_file,
    promoted::{self, Promoted},
    read::FileSource,
    shared::Shared,
    table_log::{Change, TableLog},
    table_store::Unpublished,
    wal,
};

/// The tables' logs. A table has one committer at a time.
pub(crate) type TableLogs = Arc<[Mutex<Committed>; Table::ALL.len()]>;

/// A table's log, and whether the outcome of the last commit to it is known.
pub(crate) struct Committed {
    pub(crate) log: Box<dyn TableLog>,
    in_doubt: bool,
}

impl Committed {
    pub(crate) fn new(log: Box<dyn TableLog>) -> Committed {
        Committed { log, in_doubt: false }
    }
}

/// After a failure: long enough for an operator's `rm`, short enough for the head not to fill up.
const RETRY_AFTER: Duration = if cfg!(test) { Duration::from_millis(2) } else { Duration::from_secs(1) };

#[derive(Clone)]
pub(crate) struct Flusher {
    pub(crate) shared: Arc<Shared>,
    pub(crate) logs: TableLogs,
    /// Held while a generation goes to files.
    pub(crate) turn: Arc<Mutex<()>>,
}

impl Flusher {
    /// Flushes whatever is sealed, oldest first, until the storage is gone.
    pub(crate) async fn run(self) {
        loop {
            match self.flush_oldest().await {
                Ok(true) => {}
                Ok(false) => self.shared.sealed.notified().await,
                Err(_) => tokio::time::sleep(RETRY_AFTER).await,
            }
        }
    }

    /// Whether there was anything to flush.
    pub(crate) async fn flush_oldest(&self) -> Result<bool, StorageError> {
        let oldest = self.shared.state.read().sealed.first().cloned();
        let Some(generation) = oldest else { return Ok(false) };
        self.shared.flushed.send_modify(|flushed| flushed.tries += 1);
        let flushed = self.flush(&generation).await;
        if let Err(error) = &flushed {
            tracing::error!(segment = generation.segment, %error, "rows could not be written to files; will try again");
        }
        self.shared.flushed.send_modify(|known| match &flushed {
            Ok(()) => known.through = generation.segment,
            Err(error) => {
                known.failures += 1;
                known.failed = Some((known.tries, error.clone()));
            }
        });
        flushed.map(|()| true)
    }

    async fn flush(&self, generation: &Arc<Generation>) -> Result<(), StorageError> {
        let _turn = self.turn.lock().await;
        for table in Table::ALL {
            self.flush_table(generation, table).await?;
        }
        {
            let mut state = self.shared.state.write();
            state.sealed.retain(|known| known.segment != generation.segment);
            self.shared.head_bytes.store(state.head_bytes(), Ordering::Relaxed);
        }
        self.remove_segment(generation).await
    }

    /// Segments of which every row is in a file, and those that were given up.
    async fn remove_segment(&self, generation: &Arc<Generation>) -> Result<(), StorageError> {
        let path = wal::segment_path(generation.segment);
        let disk = self.shared.disk.clone();
        let removed = blocking(move || {
            disk.remove(&path)
                .and_then(|()| disk.sync_names(&path))
                .map_err(|error| StorageError::io(path, error))
        });
        // It would only be replayed once more, and found to be in files.
        if let Err(error) = removed.await {
            tracing::warn!(%error, "a WAL segment could not be removed");
        }
        let bytes = generation.wal_bytes;
        let _ = self
            .shared
            .wal_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |all| Some(all.saturating_sub(bytes)));
        Ok(())
    }

    async fn flush_table(&self, generation: &Arc<Generation>, table: Table) -> Result<(), StorageError> {
        if self.shared.state.read().table(table).flushed_through >= Some(generation.segment) {
            return Ok(());
        }
        let mut log = self.lock(table).await?;
        // A try that seemed to fail had been successful.
        if self.shared.state.read().table(table).flushed_through >= Some(generation.segment) {
            return Ok(());
        }
        if table == Table::Samples {
            return self.flush_samples(&mut log, generation).await;
        }
        let (this, of_thread) = (self.clone(), generation.clone());
        let (files, promoted) = blocking(move || this.write(&of_thread, table)).await?;
        if files.is_empty() {
            self.shared.state.write().table_mut(table).flushed_through = Some(generation.segment);
            return Ok(());
        }
        let files = self.publish(files).await?;
        self.read_back(&files).await?;
        let change =
            Change { add: files, through_segment: Some(generation.segment), promoted, ..Change::default() };
        self.commit(&mut log, table, &change, None).await
    }

    /// Files with a generation's rows of a table, and the columns that attributes became, if they are more than before.
    fn write(
        &self,
        generation: &Generation,
        table: Table,
    ) -> Result<(Vec<Unpublished>, Option<Arc<Promoted>>), StorageError> {
        let mut promoted = self.shared.state.read().table(table).promoted.clone();
        let (mut files, mut grown) = (Vec::new(), false);
        shares::each(&self.shared, generation, table, |rows| {
            if let Some(more) = self.promote(table, &promoted, &rows) {
                (promoted, grown) = (more, true);
            }
            files.extend(parquet_file::write_files(self.shared.tables.disk(), table, &promoted, &rows)?);
            Ok(())
        })?;
        Ok((files, grown.then_some(promoted)))
    }

    /// Samples are written a batch at a time, and stay in memory as well.
    async fn flush_samples(
        &self,
        log: &mut Committed,
        generation: &Arc<Generation>,
    ) -> Result<(), StorageError> {
        let (shared, of_thread) = (self.shared.clone(), generation.clone());
        let promoted = shared.state.read().table(Table::Samples).promoted.clone();
        let written = blocking(move || {
            let files = parquet_file::write_samples(shared.tables.disk(), &promoted, &of_thread.samples)?;
            Ok((files, FrozenSamples::of_head(&of_thread.samples).map(Arc::new)))
        });
        let (files, frozen) = written.await?;
        let files = self.publish(files).await?;
        if files.is_empty() {
            self.shared.state.write().table_mut(Table::Samples).flushed_through = Some(generation.segment);
            return Ok(());
        }
        self.read_back(&files).await?;
        let change = Change { add: files, through_segment: Some(generation.segment), ..Change::default() };
        self.commit(log, Table::Samples, &change, frozen).await?;
        let shared = self.shared.clone();
        blocking(move || {
            shared.recent.settle();
            Ok(())
        })
        .await
    }

    /// The table's log, with what readers see in accord with it.
    pub(crate) async fn lock(&self, table: Table) -> Result<MutexGuard<'_, Committed>, StorageError> {
        let mut committed = self.logs[table.index()].lock().await;
        if committed.in_doubt {
            self.settle(&mut committed, table).await?;
        }
        Ok(committed)
    }

    /// After a commit that failed, or seemed to: the log itself knows what the table consists of.
    async fn settle(&self, committed: &mut Committed, table: Table) -> Result<(), StorageError> {
        committed.in_doubt = true;
        committed.log.reload().await?;
        let (files, through) = (committed.log.files().await?, committed.log.through_segment().await?);
        let promoted = Arc::new(committed.log.promoted().await?);
        let mut state = self.shared.state.write();
        let known = state.table_mut(table);
        // Snapshots hold the files that are known, and so keep them from being removed.
        let held: HashMap<&Path, &Arc<DataFile>> =
            known.files.iter().map(|file| (&file.path, file)).collect();
        let files: Vec<Arc<DataFile>> =
            files.into_iter().map(|file| held.get(&file.path).map_or(file, |held| (*held).clone())).collect();
        drop(held);
        known.files = Arc::new(files);
        known.flushed_through = known.flushed_through.max(through);
        known.promoted = promoted;
        committed.in_doubt = false;
        Ok(())
    }

    /// The attributes that are columns from these rows on, if they are more than before.
    fn promote(&self, table: Table, known: &Promoted, rows: &RecordBatch) -> Option<Arc<Promoted>> {
        if promoted::maps(table).is_empty() {
            return None;
        }
        let mut census = self.shared.censuses[table.index()].lock();
        let refused = census.refused();
        let more = census.count(table, known, rows);
        if census.refused() > refused {
            tracing::warn!(
                table = table.name(),
                attributes = census.refused(),
                limit = promoted::MAX_COLUMNS,
                "frequent attributes stay in their map, since there are as many columns as can be"
            );
        }
        if more.is_empty() {
            return None;
        }
        let names: Vec<String> = more.iter().map(|column| column.name()).collect();
        tracing::info!(table = table.name(), columns = names.join(" "), "attributes become columns");
        Some(Arc::new(known.with(table, more)))
    }

    /// Changes which files a table has, in its log and then for readers.
    pub(crate) async fn replace(&self, table: Table, change: &Change) -> Result<(), StorageError> {
        let mut log = self.lock(table).await?;
        self.commit(&mut log, table, change, None).await
    }

    async fn commit(
        &self,
        committed: &mut Committed,
        table: Table,
        change: &Change,
        frozen: Option<Arc<FrozenSamples>>,
    ) -> Result<(), StorageError> {
        if let Err(error) = committed.log.commit(change).await {
            // It may have happened nevertheless.
            self.settle(committed, table).await?;
            let state = self.shared.state.read();
            let live: HashSet<&Path> = state.table(table).files.iter().map(|file| &file.path).collect();
            let added = change.add.iter().all(|file| live.contains(&file.path));
            let removed = change.remove.iter().all(|file| !live.contains(&file.path));
            if !(added && removed) {
                return Err(error);
            }
            self.remember(table, change, frozen);
            return Ok(());
        }
        let mut state = self.shared.state.write();
        let known = state.table_mut(table);
        let files = Arc::make_mut(&mut known.files);
        let removed: HashSet<&Path> = change.remove.iter().map(|file| &file.path).collect();
        files.retain(|file| !removed.contains(&file.path));
        files.extend(change.add.iter().cloned());
        known.flushed_through = known.flushed_through.max(change.through_segment);
        if let Some(promoted) = &change.promoted {
            known.promoted = promoted.clone();
        }
        self.remember(table, change, frozen);
        Ok(())
    }

    /// Under the state's lock, so that readers find the same samples in memory as in the files.
    fn remember(&self, table: Table, change: &Change, frozen: Option<Arc<FrozenSamples>>) {
        match frozen {
            Some(frozen) => self.shared.recent.add(frozen, &change.add),
            None if table == Table::Samples => self.shared.recent.replace(change),
            None => {}
        }
    }

    pub(crate) async fn publish(
        &self,
        written: Vec<Unpublished>,
    ) -> Result<Vec<Arc<DataFile>>, StorageError> {
        let mut files = Vec::with_capacity(written.len());
        for file in written {
            files.push(Arc::new(self.shared.tables.publish(file).await?));
        }
        Ok(files)
    }

    /// A file that cannot be read must not replace rows that can.
    pub(crate) async fn read_back(&self, files: &[Arc<DataFile>]) -> Result<(), StorageError> {
        for file in files {
            let mut source = FileSource::new(self.shared.object_store.clone(), file.clone());
            let footer = source.footer(&self.shared.footers).await?;
            let rows = footer.metadata().file_metadata().num_rows();
            if rows != file.rows as i64 {
                let message = format!("{} has {rows} rows instead of {}", file.path, file.rows);
                return Err(StorageError::DataDir(message));
            }
        }
        Ok(())
    }
}

/// File I/O and encoding block, so they run apart from the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
) -> Result<T, StorageError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(StorageError::DataDir(error.to_string())),
    }
}

/// Runs a future that decodes or encodes much on a thread where blocking hurts nobody.
pub(crate) async fn off_thread<T: Send + 'static>(
    work: impl Future<Output = Result<T, StorageError>> + Send + 'static,
) -> Result<T, StorageError> {
    let runtime = tokio::runtime::Handle::current();
    blocking(move || runtime.block_on(work)).await
}
