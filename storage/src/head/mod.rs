//! Rows that no file holds yet, a generation for each WAL segment.

mod rows;
mod samples;

use std::time::Instant;

use arrow::array::RecordBatch;
use pharos_model::{AccessLog, LogRecord, MeshObject, Span, TimeRange, UnixNanos};

pub(crate) use rows::HeadRows;
pub(crate) use samples::HeadSamples;

use crate::{
    StorageError, Table,
    derive::EdgeSums,
    rows::{ExemplarRow, SeriesRow},
};

/// The rows of one WAL segment.
pub(crate) struct Generation {
    /// Number of the segment.
    pub(crate) segment: u64,
    /// When its first row came.
    pub(crate) opened: Instant,
    /// Size of the segment, once it is sealed.
    pub(crate) wal_bytes: u64,
    pub(crate) spans: HeadRows<Span>,
    pub(crate) access_logs: HeadRows<AccessLog>,
    pub(crate) logs: HeadRows<LogRecord>,
    pub(crate) series: HeadRows<SeriesRow>,
    pub(crate) exemplars: HeadRows<ExemplarRow>,
    pub(crate) mesh_config: HeadRows<MeshObject>,
    pub(crate) samples: HeadSamples,
    /// Of the rows that are columns already; those still open are added when asked for.
    pub(crate) edge_sums: EdgeSums,
}

impl Generation {
    pub(crate) fn new(segment: u64) -> Generation {
        Generation {
            segment,
            opened: Instant::now(),
            wal_bytes: 0,
            spans: HeadRows::default(),
            access_logs: HeadRows::default(),
            logs: HeadRows::default(),
            series: HeadRows::default(),
            exemplars: HeadRows::default(),
            mesh_config: HeadRows::default(),
            samples: HeadSamples::default(),
            edge_sums: EdgeSums::default(),
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.spans.bytes()
            + self.access_logs.bytes()
            + self.logs.bytes()
            + self.series.bytes()
            + self.exemplars.bytes()
            + self.mesh_config.bytes()
            + self.samples.bytes()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes() == 0
    }

    /// Turns rows that have piled up into columns; `all` of them when the generation is sealed.
    pub(crate) fn settle(&mut self, all: bool) -> Result<(), StorageError> {
        if self.spans.is_due(all) {
            self.edge_sums.add_spans(self.spans.open());
            self.spans.freeze()?;
        }
        if self.access_logs.is_due(all) {
            self.edge_sums.add_access_logs(self.access_logs.open());
            self.access_logs.freeze()?;
        }
        self.logs.freeze_if_due(all)?;
        self.series.freeze_if_due(all)?;
        self.exemplars.freeze_if_due(all)?;
        self.mesh_config.freeze_if_due(all)
    }

    /// The batches of a base table that have rows in `range`, and perhaps others.
    pub(crate) fn batches(&self, table: Table, range: TimeRange) -> Result<Vec<RecordBatch>, StorageError> {
        match table {
            Table::Spans => self.spans.batches(range),
            Table::AccessLogs => self.access_logs.batches(range),
            Table::Logs => self.logs.batches(range),
            Table::Series => self.series.batches(range),
            Table::Exemplars => self.exemplars.batches(range),
            Table::MeshConfig => self.mesh_config.batches(range),
            Table::Samples => self.samples.batches(range),
            Table::Edges | Table::TraceSummaries => Ok(Vec::new()),
        }
    }

    pub(crate) fn rows(&self, table: Table) -> usize {
        match table {
            Table::Spans => self.spans.len(),
            Table::AccessLogs => self.access_logs.len(),
            Table::Logs => self.logs.len(),
            Table::Series => self.series.len(),
            Table::Exemplars => self.exemplars.len(),
            Table::MeshConfig => self.mesh_config.len(),
            Table::Samples => self.samples.len(),
            Table::Edges | Table::TraceSummaries => 0,
        }
    }

    /// Of a base table's rows: the earliest and the latest `time`, inclusive.
    pub(crate) fn times(&self, table: Table) -> Option<(UnixNanos, UnixNanos)> {
        match table {
            Table::Spans => self.spans.times(),
            Table::AccessLogs => self.access_logs.times(),
            Table::Logs => self.logs.times(),
            Table::Series => self.series.times(),
            Table::Exemplars => self.exemplars.times(),
            Table::MeshConfig => self.mesh_config.times(),
            Table::Samples => self.samples.times(),
            Table::Edges | Table::TraceSummaries => None,
        }
    }
}
