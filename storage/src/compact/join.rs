//! Rows of derived tables that tell of the same thing and lay in several files: joined to one, so that a table's size
//! depends on what there is to tell, not on how often the head was flushed.

use std::collections::VecDeque;

use arrow::array::RecordBatch;
use hashbrown::HashMap;
use pharos_model::{Edge, TraceId, UnixNanos};

use crate::{
    StorageError, Table,
    columns::{from_batch, to_batch},
    derive::{TRACE_GAP_NS, merge_edges},
    parquet_file::sorted,
    rows::TraceSummary,
};

/// Takes rows in the order of their table's files, and gives them back in it.
pub(crate) enum Join {
    /// Every row tells of something else.
    Nothing,
    /// Rows of the newest bucket.
    Edges(Vec<Edge>),
    Summaries(Summaries),
}

impl Join {
    pub(crate) fn of(table: Table) -> Join {
        match table {
            Table::Edges => Join::Edges(Vec::new()),
            Table::TraceSummaries => Join::Summaries(Summaries::default()),
            _ => Join::Nothing,
        }
    }

    /// The rows that are complete once these are known.
    pub(crate) fn push(&mut self, batch: RecordBatch) -> Result<Option<RecordBatch>, StorageError> {
        match self {
            Join::Nothing => Ok(Some(batch)),
            Join::Edges(open) => {
                let rows: Vec<Edge> = from_batch(&batch)?;
                let Some(newest) = rows.last().map(|edge| edge.bucket) else { return Ok(None) };
                open.extend(rows);
                let complete = open.partition_point(|edge| edge.bucket < newest);
                edges(open.drain(..complete).collect())
            }
            Join::Summaries(open) => {
                from_batch(&batch)?.into_iter().for_each(|row| open.add(row));
                summaries(open.complete())
            }
        }
    }

    pub(crate) fn finish(self) -> Result<Option<RecordBatch>, StorageError> {
        match self {
            Join::Nothing => Ok(None),
            Join::Edges(open) => edges(open),
            Join::Summaries(open) => summaries(open.rows.into()),
        }
    }
}

fn edges(rows: Vec<Edge>) -> Result<Option<RecordBatch>, StorageError> {
    if rows.is_empty() {
        return Ok(None);
    }
    Ok(Some(sorted(Table::Edges, &to_batch(&merge_edges(rows))?)?))
}

fn summaries(rows: Vec<TraceSummary>) -> Result<Option<RecordBatch>, StorageError> {
    if rows.is_empty() {
        return Ok(None);
    }
    Ok(Some(to_batch(&rows)?))
}

/// Traces that are held for rows of theirs to come, at most: where more start within [`TRACE_GAP_NS`], the oldest of
/// them may get several rows.
const MOST_OPEN: usize = 100_000;

/// Rows to which others of the same trace may still come, by start.
#[derive(Default)]
pub(crate) struct Summaries {
    rows: VecDeque<TraceSummary>,
    /// Rows that were given back: the number of the first in `rows`.
    given: usize,
    /// By trace, the number of its newest row.
    places: HashMap<TraceId, usize>,
    newest: Option<UnixNanos>,
}

impl Summaries {
    fn add(&mut self, row: TraceSummary) {
        self.newest = self.newest.max(Some(row.start));
        let known = self.places.get(&row.trace_id).and_then(|place| place.checked_sub(self.given));
        match known.and_then(|place| self.rows.get_mut(place)) {
            Some(known) => known.join(row),
            None => {
                self.places.insert(row.trace_id, self.given + self.rows.len());
                self.rows.push_back(row);
            }
        }
    }

    fn complete(&mut self) -> Vec<TraceSummary> {
        let Some(newest) = self.newest else { return Vec::new() };
        let before = newest.plus_nanos(-TRACE_GAP_NS);
        let too_many = self.rows.len().saturating_sub(MOST_OPEN);
        let complete = self.rows.partition_point(|row| row.start < before).max(too_many);
        self.given += complete;
        let rows: Vec<TraceSummary> = self.rows.drain(..complete).collect();
        for row in &rows {
            if self.places.get(&row.trace_id).is_some_and(|place| *place < self.given) {
                self.places.remove(&row.trace_id);
            }
        }
        rows
    }
}

#[cfg(test)]
mod tests;
