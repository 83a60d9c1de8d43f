//! Sealed generations of the head become files, and derived tables are made with them.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use arrow::array::RecordBatch;
use hashbrown::HashSet;
use object_store::path::Path;
use pharos_model::TimeRange;
use tokio::sync::Mutex;

use crate::{
    DataFile, StorageError, Table,
    columns::to_batch,
    derive::{metric_edges, summarise},
    head::Generation,
    parquet_file,
    read::FileSource,
    shared::Shared,
    table_log::{Change, TableLog},
    wal,
};

/// The tables' logs. A table has one committer at a time.
pub(crate) type TableLogs = Arc<[Mutex<Box<dyn TableLog>>; Table::ALL.len()]>;

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
            let oldest = self.shared.state.read().sealed.first().cloned();
            let Some(generation) = oldest else {
                self.shared.sealed.notified().await;
                continue;
            };
            match self.flush(&generation).await {
                Ok(()) => self.shared.flushed.send_modify(|flushed| flushed.through = generation.segment),
                Err(error) => {
                    tracing::error!(segment = generation.segment, %error, "rows could not be written to files; will try again");
                    self.shared.flushed.send_modify(|flushed| {
                        flushed.failures += 1;
                        flushed.error = Some(error);
                    });
                    tokio::time::sleep(RETRY_AFTER).await;
                }
            }
        }
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
        let mut log = self.logs[table.index()].lock().await;
        let (shared, rows) = (self.shared.clone(), generation.clone());
        let files = blocking(move || {
            parquet_file::write_files(&shared.disk, table, &table_rows(&shared, &rows, table)?)
        });
        let files: Vec<Arc<DataFile>> = files.await?.into_iter().map(Arc::new).collect();
        if files.is_empty() {
            self.shared.state.write().table_mut(table).flushed_through = Some(generation.segment);
            return Ok(());
        }
        self.read_back(&files).await?;
        let change = Change { add: files, through_segment: Some(generation.segment), ..Change::default() };
        self.commit(&mut **log, table, &change).await
    }

    /// Changes which files a table has, in its log and then for readers.
    pub(crate) async fn replace(&self, table: Table, change: &Change) -> Result<(), StorageError> {
        let mut log = self.logs[table.index()].lock().await;
        self.commit(&mut **log, table, change).await
    }

    async fn commit(
        &self,
        log: &mut dyn TableLog,
        table: Table,
        change: &Change,
    ) -> Result<(), StorageError> {
        if let Err(error) = log.commit(change).await {
            // It may have happened nevertheless; the log itself knows.
            log.reload().await?;
            let live: HashSet<Path> = log.files().await?.iter().map(|file| file.path.clone()).collect();
            let added = change.add.iter().all(|file| live.contains(&file.path));
            let removed = change.remove.iter().all(|file| !live.contains(&file.path));
            if !(added && removed) {
                return Err(error);
            }
        }
        let mut state = self.shared.state.write();
        let known = state.table_mut(table);
        let files = Arc::make_mut(&mut known.files);
        let removed: HashSet<&Path> = change.remove.iter().map(|file| &file.path).collect();
        files.retain(|file| !removed.contains(&file.path));
        files.extend(change.add.iter().cloned());
        known.flushed_through = known.flushed_through.max(change.through_segment);
        Ok(())
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

/// All rows of a generation for one table, those of derived tables made from the others'.
fn table_rows(
    shared: &Shared,
    generation: &Generation,
    table: Table,
) -> Result<Vec<RecordBatch>, StorageError> {
    match table {
        Table::Edges => {
            let mut edges = metric_edges(
                generation.samples.columns(),
                generation.histograms.iter(),
                &shared.index.read(),
                TimeRange::ALL,
            );
            edges.extend(generation.rows_of_edges().edges(TimeRange::ALL)?);
            Ok(if edges.is_empty() { Vec::new() } else { vec![to_batch(&edges)?] })
        }
        Table::TraceSummaries => {
            let summaries = summarise(&generation.batches(Table::Spans, TimeRange::ALL)?)?;
            Ok(if summaries.is_empty() { Vec::new() } else { vec![to_batch(&summaries)?] })
        }
        _ => generation.batches(table, TimeRange::ALL),
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
