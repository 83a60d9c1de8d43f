use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::TimestampMicrosecondType,
};
use pharos_model::{TimeRange, UnixNanos};

use crate::{StorageError, columns::concat};

/// Chunks with fewer rows are joined to those that follow.
const CHUNK_ROWS: usize = 4_096;

/// The head of one table: the batches of its commits, in their order.
#[derive(Default)]
pub(crate) struct HeadRows {
    chunks: Vec<Chunk>,
    bytes: usize,
    rows: usize,
}

struct Chunk {
    batch: RecordBatch,
    bytes: usize,
    /// Of the column `time`, inclusive.
    first_us: i64,
    last_us: i64,
}

impl Chunk {
    fn new(batch: RecordBatch) -> Chunk {
        let times = batch
            .column_by_name("time")
            .and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>());
        let first_us = times.and_then(arrow::compute::min).unwrap_or(i64::MIN);
        let last_us = times.and_then(arrow::compute::max).unwrap_or(i64::MAX);
        // Batches of the WAL share one buffer, of which each column counts its own part.
        let size = |column: &dyn Array| column.to_data().get_slice_memory_size().unwrap_or(0);
        let bytes = batch.columns().iter().map(|column| size(column)).sum();
        Chunk { batch, bytes, first_us, last_us }
    }

    fn rows(&self) -> usize {
        self.batch.num_rows()
    }

    fn overlaps(&self, range: TimeRange) -> bool {
        // The column is rounded down: a row at its last microsecond may be up to 999 ns later.
        self.first_us <= range.end.micros() && self.last_us >= range.start.micros()
    }
}

impl HeadRows {
    pub(crate) fn len(&self) -> usize {
        self.rows
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Small chunks are joined as a binary counter carries: a row is copied a dozen times at most, and there are
    /// never many of them.
    pub(crate) fn push(&mut self, batch: RecordBatch) -> Result<(), StorageError> {
        let mut chunk = Chunk::new(batch);
        self.rows += chunk.rows();
        self.bytes += chunk.bytes;
        while let Some(last) = self.chunks.pop_if(|last| {
            last.rows() < CHUNK_ROWS && last.rows() < 2 * chunk.rows() && chunk.rows() < CHUNK_ROWS
        }) {
            self.bytes -= last.bytes + chunk.bytes;
            chunk = Chunk::new(concat(&[last.batch, chunk.batch])?);
            self.bytes += chunk.bytes;
        }
        self.chunks.push(chunk);
        Ok(())
    }

    /// Of all rows, inclusive, rounded outwards to microseconds.
    pub(crate) fn times(&self) -> Option<(UnixNanos, UnixNanos)> {
        let first = self.chunks.iter().map(|chunk| chunk.first_us).min()?;
        let last = self.chunks.iter().map(|chunk| chunk.last_us).max()?;
        Some((UnixNanos::from_micros(first), UnixNanos::from_micros(last).plus_nanos(999)))
    }

    /// The chunks that have rows in `range`, and perhaps others.
    pub(crate) fn batches(&self, range: TimeRange) -> impl Iterator<Item = RecordBatch> {
        self.chunks.iter().filter(move |chunk| chunk.overlaps(range)).map(|chunk| chunk.batch.clone())
    }
}
