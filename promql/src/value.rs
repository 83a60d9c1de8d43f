//! Results.

use std::sync::Arc;

use pharos_model::Labels;

use crate::histogram::Histogram;

/// What a query evaluates to.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Scalar {
        time_ms: i64,
        value: f64,
    },
    Text {
        time_ms: i64,
        text: String,
    },
    /// Of an instant query. In the order of a `sort` or `topk`, else in no promised one.
    Vector(Vec<InstantSample>),
    /// Of a range query, sorted by labels; or of an instant query for a range vector.
    Matrix(Vec<RangeSeries>),
}

#[derive(Debug, Clone, PartialEq)]
pub struct InstantSample {
    pub labels: Labels,
    pub time_ms: i64,
    pub value: SampleValue,
}

#[derive(Debug, Clone, PartialEq)]
pub enum SampleValue {
    Float(f64),
    Histogram(Arc<Histogram>),
}

/// A series of a matrix: floats and histograms by time in milliseconds, each rising.
#[derive(Debug, Clone, PartialEq)]
pub struct RangeSeries {
    pub labels: Labels,
    pub floats: Vec<(i64, f64)>,
    pub histograms: Vec<(i64, Arc<Histogram>)>,
}
