//! Derived tables made anew from the tables that they come from.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use futures::TryStreamExt;
use pharos_model::{Edge, TimeRange, UnixNanos};

use crate::{
    DataFile, Scan, StorageError, Table, TableSnapshot,
    columns::to_batch,
    compact::Compactor,
    derive::{EdgeSums, TraceSums, merge_edges},
    flush::off_thread,
    parquet_file::{COMPACT_LEVEL, FileWriter, by_day, sorted},
    rows::TraceSummary,
    shared::Shared,
    table_log::Change,
    table_store::Unpublished,
};

/// Base rows that are read at a time: those that start in a stretch of this length.
const WINDOW_NS: i64 = 300_000_000_000;

/// How far a rebuild has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RebuildProgress {
    /// Base rows are read up to this time…
    pub through: UnixNanos,
    /// …of those from here…
    pub first: UnixNanos,
    /// …to here.
    pub last: UnixNanos,
    /// Rows written.
    pub rows: u64,
}

impl Compactor {
    /// Replaces all files of the derived table by one for each day, in one commit. Nothing is flushed meanwhile, and
    /// readers see the old rows until the end.
    pub(crate) async fn rebuild(
        &mut self,
        table: Table,
        progress: impl FnMut(RebuildProgress) + Send + 'static,
    ) -> Result<u64, StorageError> {
        let flusher = self.flusher().clone();
        // A generation is either in the files of all tables or in those of none.
        let _turn = flusher.turn.lock().await;
        let shared = flusher.shared.clone();
        if shared.state.read().is_half_flushed() {
            return Err(StorageError::Busy("rows are being written to files".to_string()));
        }
        let old: Vec<Arc<DataFile>> = shared.state.read().table(table).files.to_vec();
        let of_thread = shared.clone();
        let written = off_thread(async move {
            match table {
                Table::Edges => rebuild(&of_thread, Edges::new(&of_thread)?, progress).await,
                Table::TraceSummaries => rebuild(&of_thread, Summaries::new(&of_thread)?, progress).await,
                _ => Err(StorageError::NotDerived(table.name())),
            }
        })
        .await?;
        let files = flusher.publish(written).await?;
        flusher.read_back(&files).await?;
        let rows = files.iter().map(|file| file.rows).sum();
        self.commit(table, Change { add: files, remove: old, ..Change::default() }).await?;
        Ok(rows)
    }
}

/// The rows of a derived table under construction.
trait Rebuild {
    const TABLE: Table;
    type Row: crate::columns::Row + Send;

    /// Files of the base tables.
    fn files(&self) -> Vec<Arc<DataFile>>;

    /// Takes in the base rows that start in `window`.
    async fn add(&mut self, window: TimeRange) -> Result<(), StorageError>;

    /// The rows that are complete when all base rows before `end` are in.
    fn complete_before(&mut self, end: UnixNanos) -> Vec<Self::Row>;
}

async fn rebuild<R: Rebuild>(
    shared: &Arc<Shared>,
    mut table: R,
    mut progress: impl FnMut(RebuildProgress),
) -> Result<Vec<Unpublished>, StorageError> {
    let base = table.files();
    let Some(first) = base.iter().map(|file| file.min_time).min() else { return Ok(Vec::new()) };
    let last = base.iter().map(|file| file.max_time).max().unwrap_or(first);
    let promoted = shared.state.read().table(R::TABLE).promoted.clone();
    let mut writers: BTreeMap<i64, FileWriter> = BTreeMap::new();
    let mut start = first;
    let mut written = 0;
    loop {
        let end = start.plus_nanos(WINDOW_NS);
        table.add(TimeRange::new(start, end)).await?;
        let is_last = end > last;
        let rows = table.complete_before(if is_last { UnixNanos::MAX } else { end });
        if !rows.is_empty() {
            written += rows.len() as u64;
            for (day, batch) in by_day(&sorted(R::TABLE, &to_batch(&rows)?)?)? {
                let writer = match writers.entry(day) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(free) => free.insert(FileWriter::create(
                        shared.tables.disk().clone(),
                        R::TABLE,
                        promoted.clone(),
                        day,
                        usize::MAX,
                        COMPACT_LEVEL,
                    )?),
                };
                writer.write(&batch)?;
            }
        }
        progress(RebuildProgress { through: end.min(last), first, last, rows: written });
        if is_last {
            break;
        }
        // Over times of which there are no rows.
        let next = base.iter().filter(|file| file.max_time >= end).map(|file| file.min_time).min();
        start = next.map_or(end, |next| next.max(end));
    }
    writers.into_values().map(FileWriter::finish).collect()
}

/// What files alone hold of a table.
fn stored(shared: &Shared, table: Table) -> Result<TableSnapshot, StorageError> {
    let mut snapshot = TableSnapshot::take(shared, table, TimeRange::ALL)?;
    snapshot.head.clear();
    Ok(snapshot)
}

struct Edges {
    spans: TableSnapshot,
    access_logs: TableSnapshot,
    sums: EdgeSums,
}

impl Edges {
    fn new(shared: &Shared) -> Result<Edges, StorageError> {
        Ok(Edges {
            spans: stored(shared, Table::Spans)?,
            access_logs: stored(shared, Table::AccessLogs)?,
            sums: EdgeSums::default(),
        })
    }
}

impl Rebuild for Edges {
    const TABLE: Table = Table::Edges;
    type Row = Edge;

    fn files(&self) -> Vec<Arc<DataFile>> {
        self.spans.files.iter().chain(&self.access_logs.files).cloned().collect()
    }

    async fn add(&mut self, window: TimeRange) -> Result<(), StorageError> {
        let mut spans = self.spans.read(&Scan::new(window)).await?;
        while let Some(batch) = spans.try_next().await? {
            self.sums.add_spans(&batch)?;
        }
        let mut access_logs = self.access_logs.read(&Scan::new(window)).await?;
        while let Some(batch) = access_logs.try_next().await? {
            self.sums.add_access_logs(&batch)?;
        }
        Ok(())
    }

    /// A request counts when it ends, so the rows of later buckets wait.
    fn complete_before(&mut self, end: UnixNanos) -> Vec<Edge> {
        merge_edges(self.sums.take_before(end))
    }
}

struct Summaries {
    spans: TableSnapshot,
    traces: TraceSums,
}

impl Summaries {
    fn new(shared: &Shared) -> Result<Summaries, StorageError> {
        Ok(Summaries { spans: stored(shared, Table::Spans)?, traces: TraceSums::default() })
    }
}

impl Rebuild for Summaries {
    const TABLE: Table = Table::TraceSummaries;
    type Row = TraceSummary;

    fn files(&self) -> Vec<Arc<DataFile>> {
        self.spans.files.clone()
    }

    async fn add(&mut self, window: TimeRange) -> Result<(), StorageError> {
        let scan = Scan::new(window).columns(TraceSums::columns());
        let mut spans = self.spans.read(&scan).await?;
        while let Some(batch) = spans.try_next().await? {
            self.traces.add(&batch)?;
        }
        Ok(())
    }

    fn complete_before(&mut self, end: UnixNanos) -> Vec<TraceSummary> {
        self.traces.take_before(end)
    }
}
