use std::sync::LazyLock;

use arrow::{
    array::RecordBatch,
    datatypes::{FieldRef, SchemaRef},
    error::ArrowError,
};
use pharos_model::{AccessLog, Edge, LogRecord, MeshObject, Span, TimeSeries};

use crate::{
    columns::schema_of,
    rows::{ExemplarRow, HistogramRow, SampleRow, SeriesRow, TraceSummary},
};

/// The tables, all columnar and partitioned by UTC date. Every one has a column `time`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    Spans,
    AccessLogs,
    Logs,
    /// One row per series and UTC day on which it had samples.
    Series,
    Samples,
    /// Native histograms.
    Histograms,
    Exemplars,
    MeshConfig,
    /// Derived from samples, access logs and spans.
    Edges,
    /// Derived from spans.
    TraceSummaries,
}

impl Table {
    pub const ALL: [Table; 10] = [
        Table::Spans,
        Table::AccessLogs,
        Table::Logs,
        Table::Series,
        Table::Samples,
        Table::Histograms,
        Table::Exemplars,
        Table::MeshConfig,
        Table::Edges,
        Table::TraceSummaries,
    ];

    /// As in SQL, and of its folder.
    pub fn name(self) -> &'static str {
        match self {
            Table::Spans => "spans",
            Table::AccessLogs => "access_logs",
            Table::Logs => "logs",
            Table::Series => "series",
            Table::Samples => "samples",
            Table::Histograms => "histograms",
            Table::Exemplars => "exemplars",
            Table::MeshConfig => "mesh_config",
            Table::Edges => "edges",
            Table::TraceSummaries => "trace_summaries",
        }
    }

    pub fn from_name(name: &str) -> Option<Table> {
        Table::ALL.into_iter().find(|table| table.name() == name)
    }

    /// The table's own columns; [`crate::Storage::schema`] has attributes that became columns too. All are nullable; text that repeats is
    /// `Dictionary(Int32, Utf8)`, times are `Timestamp(Microsecond, "UTC")`.
    pub fn schema(self) -> SchemaRef {
        static SCHEMAS: LazyLock<[SchemaRef; Table::ALL.len()]> = LazyLock::new(|| {
            Table::ALL.map(|table| match table {
                Table::Spans => schema_of::<Span>(),
                Table::AccessLogs => schema_of::<AccessLog>(),
                Table::Logs => schema_of::<LogRecord>(),
                Table::Series => schema_of::<SeriesRow>(),
                Table::Samples => schema_of::<SampleRow>(),
                Table::Histograms => schema_of::<HistogramRow>(),
                Table::Exemplars => schema_of::<ExemplarRow>(),
                Table::MeshConfig => schema_of::<MeshObject>(),
                Table::Edges => schema_of::<Edge>(),
                Table::TraceSummaries => schema_of::<TraceSummary>(),
            })
        });
        SCHEMAS[self.index()].clone()
    }

    /// Whether its rows are made of those of other tables.
    pub fn is_derived(self) -> bool {
        matches!(self, Table::Edges | Table::TraceSummaries)
    }

    /// Whether a series has one row at a time, so that a second one was sent again.
    pub(crate) fn is_by_series_and_time(self) -> bool {
        matches!(self, Table::Samples | Table::Histograms)
    }

    pub(crate) fn index(self) -> usize {
        self as usize
    }

    /// Columns by which a file, or each of its row groups, is sorted; those of the catalogue first.
    pub(crate) fn sort(self) -> Sort {
        let (stretch_rows, columns): (Option<usize>, &'static [&'static str]) = match self {
            Table::Spans => (Some(65_536), &["service", "name", "kind", "time", "start_nanos_rem"]),
            // Neighbours share what a connection has: measured, 5 of 30 bytes a row.
            Table::AccessLogs => (
                Some(131_072),
                &[
                    "destination_service",
                    "reporter",
                    "source_workload",
                    "upstream_host",
                    "upstream_local_address",
                    "time",
                    "time_nanos_rem",
                ],
            ),
            Table::Logs => (Some(131_072), &["service", "time", "time_nanos_rem"]),
            Table::Series => (None, &["metric", "series", "time"]),
            Table::Samples | Table::Histograms | Table::Exemplars => (None, &["metric", "series", "time"]),
            Table::MeshConfig => (None, &["kind", "namespace", "name", "time"]),
            Table::Edges => (None, &["time", "origin", "source_workload", "destination_workload"]),
            Table::TraceSummaries => (None, &["time"]),
        };
        Sort { stretch_rows, columns }
    }

    /// Columns that are looked up by equality and too varied for statistics to prune by.
    pub(crate) fn bloom_columns(self) -> &'static [&'static str] {
        match self {
            Table::Spans => &["trace_id", "request_id"],
            Table::AccessLogs => &["trace_id", "request_id"],
            Table::Logs | Table::Exemplars | Table::TraceSummaries => &["trace_id"],
            Table::Histograms => &["series"],
            // Found by their order: a filter for so many rows is larger than they are.
            Table::Series | Table::Samples => &[],
            Table::MeshConfig | Table::Edges => &[],
        }
    }
}

/// The order of rows in a file, or in each of its row groups.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sort {
    /// Rows of a row group, if it holds a stretch of time: so the rows of one trace stay together, whatever they are
    /// sorted by, and the newest are found without looking at all. Of spans it is less, as they are large.
    pub(crate) stretch_rows: Option<usize>,
    pub(crate) columns: &'static [&'static str],
}

/// The batch, which another release may have written, with the table's columns in their order; a missing one is all
/// null.
pub(crate) fn in_schema(table: Table, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    fitted(&table.schema(), batch)
}

/// The batch with these columns in their order; a missing one is all null.
pub(crate) fn fitted(schema: &SchemaRef, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    if batch.schema().fields() == schema.fields() {
        return Ok(batch.clone());
    }
    let column = |field: &FieldRef| match batch.column_by_name(field.name()) {
        Some(column) if column.data_type() == field.data_type() => Ok(column.clone()),
        Some(column) => arrow::compute::cast(column, field.data_type()),
        None => Ok(arrow::array::new_null_array(field.data_type(), batch.num_rows())),
    };
    let columns = schema.fields().iter().map(column).collect::<Result<Vec<_>, _>>()?;
    RecordBatch::try_new(schema.clone(), columns)
}

/// What a receiver hands over: rows of one kind.
#[derive(Clone, Debug)]
pub enum Batch {
    Spans(Vec<Span>),
    AccessLogs(Vec<AccessLog>),
    Logs(Vec<LogRecord>),
    Samples(Vec<TimeSeries>),
    MeshConfig(Vec<MeshObject>),
}

impl Batch {
    /// Rows; for samples, single values and exemplars.
    pub fn len(&self) -> usize {
        match self {
            Batch::Spans(rows) => rows.len(),
            Batch::AccessLogs(rows) => rows.len(),
            Batch::Logs(rows) => rows.len(),
            Batch::Samples(series) => series
                .iter()
                .map(|series| series.samples.len() + series.histograms.len() + series.exemplars.len())
                .sum(),
            Batch::MeshConfig(rows) => rows.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
