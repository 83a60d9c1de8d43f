use std::sync::Arc;

use pharos_model::{Exemplar, Labels, MetricKind, MetricMetadata, SeriesId};

use crate::columns::{Cell, Column, Kind, Row, field};

/// A series on a day on which it had samples: one row per series and UTC day, so that series and samples age
/// together.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct SeriesRow {
    /// Of the first sample on that day.
    pub(crate) first_ms: i64,
    pub(crate) series: SeriesId,
    pub(crate) labels: Labels,
    pub(crate) metadata: Option<MetricMetadata>,
}

/// A sample as the WAL keeps it; in the table it also carries its metric's name.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct SampleRow {
    pub(crate) metric: Arc<str>,
    pub(crate) series: SeriesId,
    pub(crate) time_ms: i64,
    pub(crate) value: f64,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ExemplarRow {
    pub(crate) metric: Arc<str>,
    pub(crate) series: SeriesId,
    pub(crate) exemplar: Exemplar,
}

const MICROS_PER_MS: i64 = 1_000;

macro_rules! time_of_ms {
    ($name:literal, $($field:tt)+) => {
        Column {
            name: $name,
            kind: Kind::Time,
            get: |row| Cell::Time(row.$($field)+.saturating_mul(MICROS_PER_MS)),
            set: |row, cell| row.$($field)+ = cell.as_i64().div_euclid(MICROS_PER_MS),
        }
    };
}

macro_rules! series_id {
    () => {
        Column {
            name: "series",
            kind: Kind::Int64,
            get: |row| Cell::Int64(row.series.to_i64()),
            set: |row, cell| row.series = SeriesId::from_i64(cell.as_i64()),
        }
    };
}

impl Row for SeriesRow {
    const COLUMNS: &'static [Column<SeriesRow>] = &[
        time_of_ms!("time", first_ms),
        Column {
            name: "metric",
            kind: Kind::Symbol,
            get: |row| Cell::text(row.labels.metric_name()),
            set: |_, _| {},
        },
        series_id!(),
        Column {
            name: "labels",
            kind: Kind::Map,
            get: |row| Cell::Labels(&row.labels),
            set: |row, cell| row.labels = Labels::from_pairs(cell.as_pairs().iter().copied()),
        },
        Column {
            name: "family",
            kind: Kind::Symbol,
            get: |row| Cell::optional(row.metadata.as_ref().map(|metadata| metadata.family.as_str())),
            set: |row, cell| {
                if !cell.is_null() {
                    row.metadata.get_or_insert_default().family = cell.as_text().to_string();
                }
            },
        },
        Column {
            name: "type",
            kind: Kind::Symbol,
            get: |row| Cell::optional(row.metadata.as_ref().map(|metadata| metadata.kind.name())),
            set: |row, cell| {
                if let Some(metadata) = &mut row.metadata {
                    metadata.kind = metric_kind_of_name(cell.as_text());
                }
            },
        },
        Column {
            name: "help",
            kind: Kind::Symbol,
            get: |row| Cell::optional(row.metadata.as_ref().map(|metadata| metadata.help.as_str())),
            set: |row, cell| {
                if let Some(metadata) = &mut row.metadata {
                    metadata.help = cell.as_text().to_string();
                }
            },
        },
        Column {
            name: "unit",
            kind: Kind::Symbol,
            get: |row| Cell::optional(row.metadata.as_ref().map(|metadata| metadata.unit.as_str())),
            set: |row, cell| {
                if let Some(metadata) = &mut row.metadata {
                    metadata.unit = cell.as_text().to_string();
                }
            },
        },
    ];

    fn blank() -> SeriesRow {
        SeriesRow::default()
    }
}

impl Row for SampleRow {
    const COLUMNS: &'static [Column<SampleRow>] = &[
        time_of_ms!("time", time_ms),
        field!(symbol "metric", metric),
        series_id!(),
        Column {
            name: "value",
            kind: Kind::Double,
            get: |row| Cell::Double(row.value),
            set: |row, cell| row.value = cell.as_f64(),
        },
    ];

    fn blank() -> SampleRow {
        SampleRow::default()
    }
}

impl Row for ExemplarRow {
    const COLUMNS: &'static [Column<ExemplarRow>] = &[
        time_of_ms!("time", exemplar.time_ms),
        field!(symbol "metric", metric),
        series_id!(),
        Column {
            name: "value",
            kind: Kind::Double,
            get: |row| Cell::Double(row.exemplar.value),
            set: |row, cell| row.exemplar.value = cell.as_f64(),
        },
        // Under any of the names that SDKs use, so that SQL can join an exemplar with its trace.
        Column {
            name: "trace_id",
            kind: Kind::Text,
            get: |row| {
                let named = ["trace_id", "traceID", "traceId"].map(|name| row.exemplar.labels.get(name));
                Cell::optional(named.into_iter().find(|id| !id.is_empty()))
            },
            set: |_, _| {},
        },
        Column {
            name: "labels",
            kind: Kind::Map,
            get: |row| Cell::Labels(&row.exemplar.labels),
            set: |row, cell| row.exemplar.labels = Labels::from_pairs(cell.as_pairs().iter().copied()),
        },
    ];

    fn blank() -> ExemplarRow {
        ExemplarRow {
            metric: Arc::from(""),
            series: SeriesId(0),
            exemplar: Exemplar { labels: Labels::empty(), time_ms: 0, value: 0.0 },
        }
    }
}

fn metric_kind_of_name(name: &str) -> MetricKind {
    use MetricKind::{Counter, Gauge, GaugeHistogram, Histogram, Info, StateSet, Summary, Unknown};
    let kinds = [Unknown, Counter, Gauge, Histogram, GaugeHistogram, Summary, Info, StateSet];
    kinds.into_iter().find(|kind| kind.name() == name).unwrap_or_default()
}
