use std::sync::Arc;

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use object_store::ObjectStore;
use pharos_model::{EDGE_BUCKET_NS, Edge, TimeRange};

use super::{DataFile, FooterCache};
use crate::{
    StorageError, Table,
    columns::{Row, to_batch},
    derive::{head_metric_edges, summarise},
    head::{Generation, RowsOfEdges},
    promoted::{self, Promoted},
    series_index::SeriesIndex,
    shared::{Shared, State, TableFiles},
};

/// A table at one moment: each row is in one file or one batch. The files stay readable for as long as the snapshot
/// is held, whatever is merged or dropped meanwhile.
#[derive(Clone)]
pub struct TableSnapshot {
    pub table: Table,
    /// The table's own columns, then the attributes that are columns by themselves.
    pub schema: SchemaRef,
    pub(crate) promoted: Arc<Promoted>,
    /// By the time of their first row.
    pub files: Vec<Arc<DataFile>>,
    /// Rows that are in no file yet, with the table's own columns.
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
        let (files, head) = {
            let index = shared.index.read();
            let state = shared.state.read();
            (state.table(table).clone(), Unflushed::take(&state, &index, table, range)?)
        };
        // An edge's row is of the ten seconds that follow its time.
        let reach = match table {
            Table::Edges => TimeRange::new(range.start.plus_nanos(1 - EDGE_BUCKET_NS), range.end),
            _ => range,
        };
        let snapshot = TableSnapshot::of_files(shared, &files, table, reach);
        Ok(TableSnapshot { head: head.batches(range)?, ..snapshot })
    }

    /// Without the head.
    pub(super) fn of_files(
        shared: &Shared,
        known: &TableFiles,
        table: Table,
        range: TimeRange,
    ) -> TableSnapshot {
        let promoted = known.promoted.clone();
        let mut files: Vec<Arc<DataFile>> =
            known.files.iter().filter(|file| file.overlaps(range)).cloned().collect();
        files.sort_by_key(|file| (file.min_time, file.max_time));
        TableSnapshot {
            table,
            schema: promoted.schema.clone(),
            promoted,
            files,
            head: Vec::new(),
            object_store: shared.object_store.clone(),
            footers: shared.footers.clone(),
        }
    }

    /// Whether the column has to be read through [`TableSnapshot::read`]: files do not have it as it is.
    pub fn is_made_of_several(&self, column: &str) -> bool {
        let of_map = promoted::maps(self.table).iter().any(|map| map.name == column || map.types == column);
        of_map || promoted::parse_name(self.table, column).is_some()
    }

    /// Rows in all, those of files by their log.
    pub fn rows(&self) -> u64 {
        self.files.iter().map(|file| file.rows).sum::<u64>()
            + self.head.iter().map(|batch| batch.num_rows() as u64).sum::<u64>()
    }
}

/// What the head has of a table at one moment: taken under the lock, turned into rows after it, so that nobody who
/// writes waits for it.
enum Unflushed {
    Rows(Vec<RecordBatch>),
    /// Of which summaries are to be made.
    Spans(Vec<RecordBatch>),
    Edges {
        of_samples: Vec<Edge>,
        of_rows: Vec<RowsOfEdges>,
    },
}

impl Unflushed {
    fn take(
        state: &State,
        index: &SeriesIndex,
        table: Table,
        range: TimeRange,
    ) -> Result<Unflushed, StorageError> {
        let generations = || state.unflushed(table);
        let batches = |table| {
            let all = generations().map(|generation| generation.batches(table, range));
            Ok::<_, StorageError>(all.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
        };
        Ok(match table {
            Table::Edges => {
                let mut of_samples = Vec::new();
                for generation in generations() {
                    head_metric_edges(generation, index, range, |edge| of_samples.push(edge));
                }
                Unflushed::Edges {
                    of_samples,
                    of_rows: generations().map(Generation::rows_of_edges).collect(),
                }
            }
            Table::TraceSummaries => Unflushed::Spans(batches(Table::Spans)?),
            _ => Unflushed::Rows(batches(table)?),
        })
    }

    fn batches(self, range: TimeRange) -> Result<Vec<RecordBatch>, StorageError> {
        match self {
            Unflushed::Rows(batches) => Ok(batches),
            Unflushed::Spans(batches) => one_batch(&summarise(&batches)?),
            Unflushed::Edges { of_samples: mut edges, of_rows } => {
                for rows in of_rows {
                    edges.extend(rows.edges(range)?);
                }
                // The order of files: one counter's rows are joined as they come.
                edges.sort_by_key(|edge| (edge.bucket, edge.counter.first_ms));
                one_batch(&edges)
            }
        }
    }
}

fn one_batch<R: Row>(rows: &[R]) -> Result<Vec<RecordBatch>, StorageError> {
    Ok(if rows.is_empty() { Vec::new() } else { vec![to_batch(rows)?] })
}
