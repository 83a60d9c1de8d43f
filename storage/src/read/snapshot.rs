use std::sync::Arc;

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use object_store::ObjectStore;
use pharos_model::{EDGE_BUCKET_NS, Edge, TimeRange};

use super::{DataFile, FooterCache};
use crate::{
    StorageError, Table,
    columns::{Layout, to_batch},
    derive::{EdgeSums, metric_edges, summarise},
    series_index::SeriesIndex,
    shared::{Shared, State},
};

/// A table at one moment: each row is in one file or one batch. The files stay readable for as long as the snapshot
/// is held, whatever is merged or dropped meanwhile.
#[derive(Clone)]
pub struct TableSnapshot {
    pub table: Table,
    pub schema: SchemaRef,
    /// By the time of their first row.
    pub files: Vec<Arc<DataFile>>,
    /// Rows that are in no file yet.
    pub head: Vec<RecordBatch>,
    /// Where the files' paths lead.
    pub object_store: Arc<dyn ObjectStore>,
    pub(crate) footers: Arc<FooterCache>,
}

impl TableSnapshot {
    pub(crate) fn take(
        shared: &Shared,
        table: Table,
        range: TimeRange,
    ) -> Result<TableSnapshot, StorageError> {
        let index = shared.index.read();
        let state = shared.state.read();
        // An edge's row is of the ten seconds that follow its time.
        let reach = match table {
            Table::Edges => TimeRange::new(range.start.plus_nanos(1 - EDGE_BUCKET_NS), range.end),
            _ => range,
        };
        let mut files: Vec<Arc<DataFile>> =
            state.table(table).files.iter().filter(|file| file.overlaps(reach)).cloned().collect();
        files.sort_by_key(|file| (file.min_time, file.max_time));
        let head = match table {
            Table::Edges => {
                let edges = head_edges(&state, &index, range)?;
                if edges.is_empty() { Vec::new() } else { vec![to_batch(&edges, Layout::Table)?] }
            }
            Table::TraceSummaries => {
                let mut spans = Vec::new();
                for generation in state.unflushed(table) {
                    spans.extend(generation.spans.batches(range)?);
                }
                let summaries = summarise(&spans)?;
                if summaries.is_empty() { Vec::new() } else { vec![to_batch(&summaries, Layout::Table)?] }
            }
            _ => {
                let mut head = Vec::new();
                for generation in state.unflushed(table) {
                    head.extend(generation.batches(table, range)?);
                }
                head
            }
        };
        Ok(TableSnapshot {
            table,
            schema: table.schema(),
            files,
            head,
            object_store: shared.object_store.clone(),
            footers: shared.footers.clone(),
        })
    }

    /// Rows in all, those of files by their log.
    pub fn rows(&self) -> u64 {
        self.files.iter().map(|file| file.rows).sum::<u64>()
            + self.head.iter().map(|batch| batch.num_rows() as u64).sum::<u64>()
    }
}

/// What the unflushed rows tell of edges.
pub(crate) fn head_edges(
    state: &State,
    index: &SeriesIndex,
    range: TimeRange,
) -> Result<Vec<Edge>, StorageError> {
    let mut edges = Vec::new();
    for generation in state.unflushed(Table::Edges) {
        edges.extend(metric_edges(&generation.samples, index, range));
        edges.extend(generation.edge_sums.edges(range));
        let mut open = EdgeSums::default();
        open.add_spans(generation.spans.open());
        open.add_access_logs(generation.access_logs.open());
        edges.extend(open.edges(range));
    }
    // The order of files: one counter's rows are joined as they come.
    edges.sort_by_key(|edge| (edge.bucket, edge.counter.first_ms));
    Ok(edges)
}
