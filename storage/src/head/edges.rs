use std::sync::Arc;

use arrow::{array::RecordBatch, error::ArrowError};
use parking_lot::Mutex;
use pharos_model::{Edge, TimeRange};

use super::Chunk;
use crate::{
    StorageError,
    derive::{EdgeSums, SPAN_COLUMNS, access_log_columns},
};

/// The edges of a generation's access logs and spans: summed up when somebody asks, each row once, and never on the
/// way of rows that come in.
#[derive(Default)]
pub(crate) struct HeadEdges(Mutex<Summed>);

#[derive(Default)]
struct Summed {
    sums: EdgeSums,
    /// Rows that are in them, from the first on.
    spans: usize,
    access_logs: usize,
}

/// The rows of a generation at one moment.
pub(crate) struct RowsOfEdges {
    pub(crate) sums: Arc<HeadEdges>,
    pub(crate) spans: Vec<Chunk>,
    pub(crate) access_logs: Vec<Chunk>,
}

impl RowsOfEdges {
    /// `load` gives these columns at least of a chunk's rows, or `None` where they are lost.
    pub(crate) fn edges(
        &self,
        range: TimeRange,
        mut load: impl FnMut(&Chunk, &[&str]) -> Result<Option<RecordBatch>, StorageError>,
    ) -> Result<Vec<Edge>, StorageError> {
        let mut summed = self.sums.0.lock();
        let Summed { sums, spans, access_logs } = &mut *summed;
        let mut load_spans = |chunk: &Chunk| load(chunk, &SPAN_COLUMNS);
        add_after(&self.spans, spans, &mut load_spans, |rows| sums.add_spans(rows))?;
        let columns = access_log_columns();
        let mut load_access_logs = |chunk: &Chunk| load(chunk, &columns);
        add_after(&self.access_logs, access_logs, &mut load_access_logs, |rows| sums.add_access_logs(rows))?;
        Ok(sums.edges(range).collect())
    }
}

/// Adds the rows from number `done` on, which becomes the number of all.
fn add_after(
    chunks: &[Chunk],
    done: &mut usize,
    load: &mut impl FnMut(&Chunk) -> Result<Option<RecordBatch>, StorageError>,
    mut add: impl FnMut(&RecordBatch) -> Result<(), ArrowError>,
) -> Result<(), StorageError> {
    let mut first = 0;
    for chunk in chunks {
        let rows = chunk.rows();
        let skipped = done.saturating_sub(first).min(rows);
        first += rows;
        if skipped < rows {
            if let Some(batch) = load(chunk)? {
                add(&batch.slice(skipped, rows - skipped))?;
            }
            *done = first;
        }
    }
    Ok(())
}
