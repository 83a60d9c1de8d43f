use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::TimestampMicrosecondType,
};
use pharos_model::{TimeRange, UnixNanos};

use crate::{
    StorageError,
    columns::concat,
    wal::{RestingRows, Unreadable},
};

/// Chunks with fewer rows are joined to those that follow.
const CHUNK_ROWS: usize = 4_096;

/// The head of one table: the batches of its commits, in their order.
#[derive(Default)]
pub(crate) struct HeadRows {
    chunks: Vec<Chunk>,
    bytes: usize,
    rows: usize,
}

/// Some rows of the head, which share what they are made of with it.
#[derive(Clone)]
pub(crate) struct Chunk {
    rows: ChunkRows,
    /// In memory.
    bytes: usize,
    /// Of the column `time`, inclusive.
    first_us: i64,
    last_us: i64,
}

#[derive(Clone)]
enum ChunkRows {
    InMemory(RecordBatch),
    /// They stay in the WAL until they are read.
    InWal(RestingRows),
}

/// The earliest and the latest `time`, inclusive.
pub(crate) fn extent_us(batch: &RecordBatch) -> (i64, i64) {
    let times =
        batch.column_by_name("time").and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>());
    let first_us = times.and_then(arrow::compute::min).unwrap_or(i64::MIN);
    (first_us, times.and_then(arrow::compute::max).unwrap_or(i64::MAX))
}

impl Chunk {
    pub(crate) fn new(batch: RecordBatch) -> Chunk {
        let (first_us, last_us) = extent_us(&batch);
        // Batches of the WAL share one buffer, of which each column counts its own part.
        let size = |column: &dyn Array| column.to_data().get_slice_memory_size().unwrap_or(0);
        let bytes = batch.columns().iter().map(|column| size(column)).sum();
        Chunk { rows: ChunkRows::InMemory(batch), bytes, first_us, last_us }
    }

    pub(crate) fn resting(rows: RestingRows, (first_us, last_us): (i64, i64)) -> Chunk {
        Chunk { rows: ChunkRows::InWal(rows), bytes: size_of::<Chunk>(), first_us, last_us }
    }

    pub(crate) fn rows(&self) -> usize {
        match &self.rows {
            ChunkRows::InMemory(batch) => batch.num_rows(),
            ChunkRows::InWal(rows) => rows.rows(),
        }
    }

    /// No row is later.
    pub(crate) fn last_us(&self) -> i64 {
        self.last_us
    }

    /// What reading the rows takes of memory.
    pub(crate) fn bytes_to_load(&self) -> usize {
        match &self.rows {
            ChunkRows::InMemory(_) => 0,
            ChunkRows::InWal(rows) => rows.decoded_bytes(),
        }
    }

    pub(crate) fn overlaps(&self, range: TimeRange) -> bool {
        // The column is rounded down: a row at its last microsecond may be up to 999 ns later.
        self.first_us <= range.end.micros() && self.last_us >= range.start.micros()
    }

    pub(crate) fn in_memory(&self) -> Option<&RecordBatch> {
        match &self.rows {
            ChunkRows::InMemory(batch) => Some(batch),
            ChunkRows::InWal(_) => None,
        }
    }

    /// The rows, with these of their columns at least; all of them if none are named. May block.
    pub(crate) fn load(&self, columns: Option<&[&str]>) -> Result<RecordBatch, Unreadable> {
        match &self.rows {
            ChunkRows::InMemory(batch) => Ok(batch.clone()),
            ChunkRows::InWal(rows) => rows.load(columns),
        }
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
        while let Some(own) = chunk.in_memory()
            && let Some(last) = self.chunks.pop_if(|last| {
                let (known, new) = (last.rows(), own.num_rows());
                last.in_memory().is_some() && known < CHUNK_ROWS && known < 2 * new && new < CHUNK_ROWS
            })
        {
            self.bytes -= last.bytes + chunk.bytes;
            let batches: Vec<RecordBatch> = last.in_memory().into_iter().chain([own]).cloned().collect();
            chunk = Chunk::new(concat(&batches)?);
            self.bytes += chunk.bytes;
        }
        self.chunks.push(chunk);
        Ok(())
    }

    /// Rows that are in the WAL and need not be in memory.
    pub(crate) fn push_resting(&mut self, chunk: Chunk) {
        self.rows += chunk.rows();
        self.bytes += chunk.bytes;
        self.chunks.push(chunk);
    }

    /// Of all rows, inclusive, rounded outwards to microseconds.
    pub(crate) fn times(&self) -> Option<(UnixNanos, UnixNanos)> {
        let first = self.chunks.iter().map(|chunk| chunk.first_us).min()?;
        let last = self.chunks.iter().map(|chunk| chunk.last_us).max()?;
        Some((UnixNanos::from_micros(first), UnixNanos::from_micros(last).plus_nanos(999)))
    }

    /// The chunks that have rows in `range`, and perhaps others.
    pub(crate) fn chunks(&self, range: TimeRange) -> impl Iterator<Item = Chunk> {
        self.chunks.iter().filter(move |chunk| chunk.overlaps(range)).cloned()
    }
}
