use std::sync::Arc;

use arrow::array::RecordBatch;
use parking_lot::Mutex;
use pharos_model::{Edge, TimeRange};

use crate::{StorageError, derive::EdgeSums};

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
    pub(crate) spans: Vec<RecordBatch>,
    pub(crate) access_logs: Vec<RecordBatch>,
}

impl RowsOfEdges {
    pub(crate) fn edges(&self, range: TimeRange) -> Result<Vec<Edge>, StorageError> {
        let mut summed = self.sums.0.lock();
        let Summed { sums, spans, access_logs } = &mut *summed;
        for batch in after(&self.spans, spans) {
            sums.add_spans(&batch)?;
        }
        for batch in after(&self.access_logs, access_logs) {
            sums.add_access_logs(&batch)?;
        }
        Ok(sums.edges(range).collect())
    }
}

/// The rows from number `done` on, which becomes the number of all.
fn after(batches: &[RecordBatch], done: &mut usize) -> Vec<RecordBatch> {
    let mut first = 0;
    let mut rest = Vec::new();
    for batch in batches {
        let skipped = done.saturating_sub(first).min(batch.num_rows());
        if skipped < batch.num_rows() {
            rest.push(batch.slice(skipped, batch.num_rows() - skipped));
        }
        first += batch.num_rows();
    }
    *done = first.max(*done);
    rest
}
