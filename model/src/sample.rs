use serde::{Deserialize, Serialize};

use crate::{HistogramSample, Labels};

/// The bits of Prometheus' staleness marker: a NaN that says "this series ended here".
/// `prometheus/model/value/value.go`, `StaleNaN`.
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;

pub fn stale_nan() -> f64 {
    f64::from_bits(STALE_NAN_BITS)
}

/// Compares bits, since no NaN equals another.
pub fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE_NAN_BITS
}

/// A value at a time, in milliseconds since 1970 as everywhere in Prometheus.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    pub time_ms: i64,
    pub value: f64,
}

/// A value with the trace that it came from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exemplar {
    pub labels: Labels,
    pub time_ms: i64,
    pub value: f64,
}

/// OpenMetrics' metric types.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MetricKind {
    #[default]
    Unknown,
    Counter,
    Gauge,
    Histogram,
    GaugeHistogram,
    Summary,
    Info,
    StateSet,
}

impl MetricKind {
    pub fn name(self) -> &'static str {
        match self {
            MetricKind::Unknown => "unknown",
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
            MetricKind::GaugeHistogram => "gaugehistogram",
            MetricKind::Summary => "summary",
            MetricKind::Info => "info",
            MetricKind::StateSet => "stateset",
        }
    }
}

/// What an exposition says of a metric family.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetricMetadata {
    pub family: String,
    pub kind: MetricKind,
    pub help: String,
    pub unit: String,
}

/// A label set with values of it, in the order in which they were sent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TimeSeries {
    pub labels: Labels,
    pub samples: Vec<Sample>,
    /// Native histograms; a time has either a sample or one of these.
    pub histograms: Vec<HistogramSample>,
    pub exemplars: Vec<Exemplar>,
    /// Of the family that the series belongs to, where the source sends it along.
    pub metadata: Option<MetricMetadata>,
}
