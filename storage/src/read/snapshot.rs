use std::sync::Arc;

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use object_store::ObjectStore;
use pharos_model::{EDGE_BUCKET_NS, TimeRange};

use super::{DataFile, FooterCache, MetricEdges};
use crate::{
    StorageError, Table,
    columns::{Row, to_batch},
    derive::TraceSums,
    head::{Chunk, Generation, RowsOfEdges},
    promoted::{self, Promoted},
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
    pub(crate) head: Vec<Chunk>,
    /// Rows that never are: they are made of those of other tables as they are then, when they are read.
    pub(crate) made: Option<MetricEdges>,
    /// Where the files' paths lead.
    pub object_store: Arc<dyn ObjectStore>,
    pub(crate) footers: Arc<FooterCache>,
}

impl TableSnapshot {
    /// Without the rows that are made as they are read.
    pub(crate) fn take(
        shared: &Shared,
        table: Table,
        range: TimeRange,
    ) -> Result<TableSnapshot, StorageError> {
        let (files, head) = {
            let state = shared.state.read();
            (state.table(table).clone(), Unflushed::take(&state, table, range)?)
        };
        // An edge's row is of the ten seconds that follow its time.
        let reach = match table {
            Table::Edges => TimeRange::new(range.start.plus_nanos(1 - EDGE_BUCKET_NS), range.end),
            _ => range,
        };
        let snapshot = TableSnapshot::of_files(shared, &files, table, reach);
        Ok(TableSnapshot { head: head.chunks(range)?, ..snapshot })
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
            made: None,
            object_store: shared.object_store.clone(),
            footers: shared.footers.clone(),
        }
    }

    /// Whether the column has to be read through [`TableSnapshot::read`]: files do not have it as it is.
    pub fn is_made_of_several(&self, column: &str) -> bool {
        let of_map = promoted::maps(self.table).iter().any(|map| map.name == column || map.types == column);
        of_map || promoted::parse_name(self.table, column).is_some()
    }

    /// Whether there are rows beside those of files and head, which [`TableSnapshot::read`] alone makes.
    pub fn makes_rows(&self) -> bool {
        self.made.is_some()
    }

    /// Rows of files, by their log, and of the head.
    pub fn rows(&self) -> u64 {
        self.files.iter().map(|file| file.rows).sum::<u64>()
            + self.head.iter().map(|chunk| chunk.rows() as u64).sum::<u64>()
    }

    /// Whether there are rows that no file holds yet.
    pub fn has_head(&self) -> bool {
        !self.head.is_empty()
    }

    /// The rows that no file holds yet; `None` if some of them are not in memory, so that all have to be read through
    /// [`TableSnapshot::read`].
    pub fn head_in_memory(&self) -> Option<Vec<RecordBatch>> {
        self.head.iter().map(|chunk| chunk.in_memory().cloned()).collect()
    }
}

/// What the head has of a table at one moment: taken under the lock, turned into rows after it, so that nobody who
/// writes waits for it.
enum Unflushed {
    Rows(Vec<Chunk>),
    /// Of which summaries are to be made.
    Spans(Vec<Chunk>),
    /// Of whose rows edges are to be made.
    Edges(Vec<RowsOfEdges>),
}

impl Unflushed {
    fn take(state: &State, table: Table, range: TimeRange) -> Result<Unflushed, StorageError> {
        let generations = || state.unflushed(table);
        let chunks = |table| {
            let all = generations().map(|generation| generation.chunks(table, range));
            Ok::<_, StorageError>(all.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
        };
        Ok(match table {
            Table::Edges => Unflushed::Edges(generations().map(Generation::rows_of_edges).collect()),
            Table::TraceSummaries => Unflushed::Spans(chunks(Table::Spans)?),
            _ => Unflushed::Rows(chunks(table)?),
        })
    }

    fn chunks(self, range: TimeRange) -> Result<Vec<Chunk>, StorageError> {
        match self {
            Unflushed::Rows(chunks) => Ok(chunks),
            Unflushed::Spans(chunks) => {
                let columns: Vec<&str> = TraceSums::columns().collect();
                let mut traces = TraceSums::default();
                for chunk in chunks {
                    traces.add(&chunk.load(Some(&columns))?)?;
                }
                one_chunk(&traces.take_all())
            }
            Unflushed::Edges(generations) => {
                let mut edges = Vec::new();
                for rows in generations {
                    let load = |chunk: &Chunk, columns: &[&str]| Ok(Some(chunk.load(Some(columns))?));
                    edges.extend(rows.edges(range, load)?);
                }
                one_chunk(&edges)
            }
        }
    }
}

fn one_chunk<R: Row>(rows: &[R]) -> Result<Vec<Chunk>, StorageError> {
    Ok(if rows.is_empty() { Vec::new() } else { vec![Chunk::new(to_batch(rows)?)] })
}
