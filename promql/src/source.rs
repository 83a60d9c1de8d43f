//! What the engine reads: series, lent column by column.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use pharos_model::{Labels, Matcher, Sample};

use crate::histogram::Histogram;

/// What one selector wants of a source.
#[derive(Debug, Clone)]
pub struct SelectRequest<'a> {
    /// All must hold. At least one of them does not match the empty value.
    pub matchers: &'a [Matcher],
    /// Samples with `after_ms < time <= until_ms` are looked at; a source may lend more.
    pub after_ms: i64,
    pub until_ms: i64,
    /// The query's step; 0 for an instant query.
    pub step_ms: i64,
    /// The selector's range; 0 for an instant vector.
    pub range_ms: i64,
    /// The function around the selector, if there is one: a source may choose coarser data for some.
    pub function: Option<&'a str>,
}

/// The samples of one series: parallel columns, rising in time, no time twice.
#[derive(Debug, Clone, Copy, Default)]
pub struct Samples<'a> {
    /// Milliseconds since 1970 of `values`.
    pub times_ms: &'a [i64],
    /// May hold staleness markers.
    pub values: &'a [f64],
    /// When the counting that led to each value began, in milliseconds since 1970, 0 for unknown. Empty where
    /// no such time is known for any of them.
    pub starts_ms: &'a [i64],
    /// Native histograms of the same series.
    pub histograms: &'a [HistogramSample],
}

/// A native histogram at a time.
#[derive(Debug, Clone, PartialEq)]
pub struct HistogramSample {
    pub time_ms: i64,
    /// When the counting began, 0 for unknown.
    pub start_ms: i64,
    pub value: Arc<Histogram>,
}

/// Takes one series; breaks off when the query has failed or been cancelled.
pub type SeriesVisitor<'v> = dyn FnMut(&Labels, Samples<'_>) -> ControlFlow<()> + 'v;

/// A store that answers selectors.
///
/// `select` calls `visit` once per matching series that has samples in the time range, and returns early, with
/// `Ok`, when `visit` breaks. Columns are borrowed for the call alone, so a store can decode block by block into
/// one buffer. Series come in the order of their labels where sums have to be the same from run to run.
pub trait SeriesSource {
    fn select(&self, request: &SelectRequest<'_>, visit: &mut SeriesVisitor<'_>) -> Result<(), SourceError>;

    /// What `select` would visit at this moment, in parts that are worth a thread each: one after the other they have
    /// the same series in the same order. A part answers this request alone, and may be asked once. Of series that may
    /// have native histograms there is one part at most. None at all: the source has no parts.
    fn parts<'s>(&'s self, _request: &SelectRequest<'_>) -> Result<Vec<SourcePart<'s>>, SourceError> {
        Ok(Vec::new())
    }
}

/// A source of some of the series of another.
pub type SourcePart<'s> = Box<dyn SeriesSource + Send + 's>;

/// Why a source could not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SourceError(pub String);

/// A source in memory: for tests, and for evaluating over results at hand.
#[derive(Debug, Clone, Default)]
pub struct MemorySource {
    series: BTreeMap<Labels, MemorySeries>,
}

/// The columns of one series in a [`MemorySource`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MemorySeries {
    pub times_ms: Vec<i64>,
    pub values: Vec<f64>,
    /// Parallel to `times_ms`, or empty.
    pub starts_ms: Vec<i64>,
    pub histograms: Vec<HistogramSample>,
}

impl MemorySource {
    pub fn new() -> MemorySource {
        MemorySource::default()
    }

    /// Puts a series in; one of the same labels is replaced.
    pub fn insert(&mut self, labels: Labels, series: MemorySeries) {
        self.series.insert(labels, series);
    }

    /// Adds float samples, which must be newer than those that are there, to a series.
    pub fn push(&mut self, labels: &Labels, samples: impl IntoIterator<Item = Sample>) {
        let series = self.series.entry(labels.clone()).or_default();
        for sample in samples {
            series.times_ms.push(sample.time_ms);
            series.values.push(sample.value);
        }
    }
}

impl SeriesSource for MemorySource {
    fn select(&self, request: &SelectRequest<'_>, visit: &mut SeriesVisitor<'_>) -> Result<(), SourceError> {
        for (labels, series) in &self.series {
            if !request.matchers.iter().all(|matcher| matcher.matches_labels(labels)) {
                continue;
            }
            let samples = Samples {
                times_ms: &series.times_ms,
                values: &series.values,
                starts_ms: &series.starts_ms,
                histograms: &series.histograms,
            };
            let samples = samples.between(request.after_ms, request.until_ms);
            if !samples.is_empty() && visit(labels, samples).is_break() {
                return Ok(());
            }
        }
        Ok(())
    }
}

impl<'a> Samples<'a> {
    pub fn is_empty(&self) -> bool {
        self.times_ms.is_empty() && self.histograms.is_empty()
    }

    /// The samples with `after_ms < time <= until_ms`.
    pub fn between(&self, after_ms: i64, until_ms: i64) -> Samples<'a> {
        let is_inside = |first: Option<&i64>, last: Option<&i64>| {
            first.is_none_or(|time| *time > after_ms) && last.is_none_or(|time| *time <= until_ms)
        };
        if self.histograms.is_empty() && is_inside(self.times_ms.first(), self.times_ms.last()) {
            return *self;
        }
        let from = self.times_ms.partition_point(|time| *time <= after_ms);
        let to = self.times_ms.partition_point(|time| *time <= until_ms).max(from);
        let first = self.histograms.partition_point(|sample| sample.time_ms <= after_ms);
        let last = self.histograms.partition_point(|sample| sample.time_ms <= until_ms).max(first);
        self.slice(from..to, first..last)
    }

    /// The float samples and the histogram samples at these positions.
    pub(crate) fn slice(
        &self,
        floats: std::ops::Range<usize>,
        histograms: std::ops::Range<usize>,
    ) -> Samples<'a> {
        Samples {
            times_ms: self.times_ms.get(floats.clone()).unwrap_or_default(),
            values: self.values.get(floats.clone()).unwrap_or_default(),
            starts_ms: self.starts_ms.get(floats).unwrap_or_default(),
            histograms: self.histograms.get(histograms).unwrap_or_default(),
        }
    }
}
