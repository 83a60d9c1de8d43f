use arrow::{
    array::{AsArray, RecordBatch},
    datatypes::TimestampMicrosecondType,
};
use parking_lot::Mutex;
use pharos_model::{TimeRange, UnixNanos};

use crate::{
    StorageError,
    columns::{Layout, Row, to_batch},
    weight::{Timed, Weight},
};

/// Rows wait until there are this many, so that their columns are worth having.
const FREEZE_ROWS: usize = 4_096;

/// The head of one table: columns, and the newest rows, which are not columns yet.
pub(crate) struct HeadRows<R> {
    frozen: Vec<Frozen>,
    open: Vec<R>,
    /// The open rows as columns, for as long as no row is added.
    open_columns: Mutex<Option<Frozen>>,
    frozen_bytes: usize,
    open_bytes: usize,
    rows: usize,
    /// Of all rows, inclusive.
    times: Option<(UnixNanos, UnixNanos)>,
}

#[derive(Clone)]
struct Frozen {
    batch: RecordBatch,
    /// Of the column `time`, inclusive.
    first_us: i64,
    last_us: i64,
}

impl Frozen {
    fn new(batch: RecordBatch) -> Frozen {
        let times = batch
            .column_by_name("time")
            .and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>());
        let first_us = times.and_then(arrow::compute::min).unwrap_or(i64::MIN);
        let last_us = times.and_then(arrow::compute::max).unwrap_or(i64::MAX);
        Frozen { batch, first_us, last_us }
    }

    fn overlaps(&self, range: TimeRange) -> bool {
        // The column is rounded down: a row at its last microsecond may be up to 999 ns later.
        self.first_us <= range.end.micros() && self.last_us >= range.start.micros()
    }
}

impl<R> Default for HeadRows<R> {
    fn default() -> HeadRows<R> {
        HeadRows {
            frozen: Vec::new(),
            open: Vec::new(),
            open_columns: Mutex::new(None),
            frozen_bytes: 0,
            open_bytes: 0,
            rows: 0,
            times: None,
        }
    }
}

impl<R: Row + Weight + Timed> HeadRows<R> {
    pub(crate) fn len(&self) -> usize {
        self.rows
    }

    pub(crate) fn bytes(&self) -> usize {
        self.frozen_bytes + self.open_bytes
    }

    pub(crate) fn push(&mut self, rows: Vec<R>) {
        if rows.is_empty() {
            return;
        }
        self.rows += rows.len();
        self.open_bytes += rows.iter().map(Weight::weight).sum::<usize>();
        for row in &rows {
            let time = row.time();
            self.times =
                Some(self.times.map_or((time, time), |(first, last)| (first.min(time), last.max(time))));
        }
        *self.open_columns.get_mut() = None;
        if self.open.is_empty() {
            self.open = rows;
        } else {
            self.open.extend(rows);
        }
    }

    pub(crate) fn times(&self) -> Option<(UnixNanos, UnixNanos)> {
        self.times
    }

    pub(crate) fn open(&self) -> &[R] {
        &self.open
    }

    pub(crate) fn is_due(&self, all: bool) -> bool {
        self.open.len() >= FREEZE_ROWS || (all && !self.open.is_empty())
    }

    pub(crate) fn freeze_if_due(&mut self, all: bool) -> Result<(), StorageError> {
        if self.is_due(all) { self.freeze() } else { Ok(()) }
    }

    pub(crate) fn freeze(&mut self) -> Result<(), StorageError> {
        let batch = to_batch(&self.open, Layout::Table)?;
        self.frozen_bytes += batch.get_array_memory_size();
        self.frozen.push(Frozen::new(batch));
        self.open = Vec::new();
        self.open_bytes = 0;
        *self.open_columns.get_mut() = None;
        Ok(())
    }

    pub(crate) fn batches(&self, range: TimeRange) -> Result<Vec<RecordBatch>, StorageError> {
        let open = if self.open.is_empty() { None } else { Some(self.open_columns()?) };
        let chunks = self.frozen.iter().chain(open.as_ref());
        Ok(chunks.filter(|chunk| chunk.overlaps(range)).map(|chunk| chunk.batch.clone()).collect())
    }

    fn open_columns(&self) -> Result<Frozen, StorageError> {
        let mut known = self.open_columns.lock();
        if let Some(columns) = &*known {
            return Ok(columns.clone());
        }
        let columns = Frozen::new(to_batch(&self.open, Layout::Table)?);
        *known = Some(columns.clone());
        Ok(columns)
    }
}
