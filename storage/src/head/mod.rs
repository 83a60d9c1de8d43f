//! Rows that no file holds yet, a generation for each WAL segment.

mod chunk;
mod edges;
mod frozen;
mod histograms;
mod rows;
mod samples;

use std::{sync::Arc, time::Instant};

use arrow::array::RecordBatch;
use pharos_model::{TimeRange, UnixNanos};

pub(crate) use chunk::{put_varint, take_varint, unzigzag, whole, zigzag};
pub(crate) use edges::{HeadEdges, RowsOfEdges};
pub(crate) use frozen::{FrozenSamples, Loaded, Loading, put_in_order};
pub(crate) use histograms::{HeadHistograms, weight as histogram_weight};
pub(crate) use rows::{Chunk, HeadRows, extent_us};
pub(crate) use samples::HeadSamples;

use crate::{StorageError, Table, columns::from_batch, rows::HistogramRow};

/// The rows of one WAL segment.
pub(crate) struct Generation {
    /// Number of the segment.
    pub(crate) segment: u64,
    /// When its first row came.
    pub(crate) opened: Instant,
    /// Size of the segment, once it is sealed.
    pub(crate) wal_bytes: u64,
    /// By table; empty for samples, histograms and derived tables.
    rows: [HeadRows; Table::ALL.len()],
    pub(crate) samples: HeadSamples,
    pub(crate) histograms: HeadHistograms,
    pub(crate) edges: Arc<HeadEdges>,
}

impl Generation {
    pub(crate) fn new(segment: u64) -> Generation {
        Generation {
            segment,
            opened: Instant::now(),
            wal_bytes: 0,
            rows: Default::default(),
            samples: HeadSamples::default(),
            histograms: HeadHistograms::default(),
            edges: Arc::default(),
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.rows.iter().map(HeadRows::bytes).sum::<usize>() + self.samples.bytes() + self.histograms.bytes()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.iter().all(|rows| rows.len() == 0) && self.samples.len() == 0 && self.histograms.len() == 0
    }

    pub(crate) fn push(&mut self, table: Table, batch: RecordBatch) -> Result<(), StorageError> {
        match table {
            Table::Histograms => self.histograms.push(from_batch::<HistogramRow>(&batch)?),
            _ => self.rows[table.index()].push(batch)?,
        }
        Ok(())
    }

    /// Rows of a table that stay in the WAL.
    pub(crate) fn push_resting(&mut self, table: Table, chunk: Chunk) {
        self.rows[table.index()].push_resting(chunk);
    }

    /// The chunks of a base table that have rows in `range`, and perhaps others.
    pub(crate) fn chunks(&self, table: Table, range: TimeRange) -> Result<Vec<Chunk>, StorageError> {
        let in_memory = |batches: Vec<RecordBatch>| batches.into_iter().map(Chunk::new).collect();
        match table {
            Table::Samples => self.samples.batches(range).map(in_memory),
            Table::Histograms => self.histograms.batches(range).map(in_memory),
            _ => Ok(self.rows[table.index()].chunks(range).collect()),
        }
    }

    /// What the edges of this generation's rows are made of, but for those of its samples.
    pub(crate) fn rows_of_edges(&self) -> RowsOfEdges {
        let all = |table: Table| self.rows[table.index()].chunks(TimeRange::ALL).collect();
        RowsOfEdges {
            sums: self.edges.clone(),
            spans: all(Table::Spans),
            access_logs: all(Table::AccessLogs),
        }
    }

    pub(crate) fn rows(&self, table: Table) -> usize {
        match table {
            Table::Samples => self.samples.len(),
            Table::Histograms => self.histograms.len(),
            _ => self.rows[table.index()].len(),
        }
    }

    /// Of a base table's rows: the earliest and the latest `time`, inclusive.
    pub(crate) fn times(&self, table: Table) -> Option<(UnixNanos, UnixNanos)> {
        match table {
            Table::Samples => self.samples.times(),
            Table::Histograms => self.histograms.times(),
            _ => self.rows[table.index()].times(),
        }
    }
}
