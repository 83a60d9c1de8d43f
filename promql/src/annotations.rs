//! Warnings and infos that a result carries, in the words of Prometheus.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use crate::ast::Position;
use crate::text::{format_general, format_time, format_two_digits, quote};

/// What a user should know about a result besides the result: each text once, sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Annotations {
    /// The result is likely wrong or incomplete.
    pub warnings: BTreeSet<String>,
    /// The query or the data may not be what was meant.
    pub infos: BTreeSet<String>,
}

/// What can be said of a result. `metric` is the metric name, or empty where it is not known.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Note<'n> {
    InvalidQuantile(f64),
    InvalidRatio { ratio: f64, used: f64 },
    InvalidIntegralStrategy(f64),
    BadBucketLabel { le: &'n str, metric: &'n str },
    MixedFloatsHistograms { metric: &'n str },
    MixedFloatsHistogramsInAggregation,
    MixedClassicNative { metric: &'n str },
    NotCounter { metric: &'n str },
    NotGauge { metric: &'n str },
    MixedSchemas { metric: &'n str },
    IncompatibleBuckets { op: &'n str },
    ResetCollision { during: &'n str },
    StartTimeOverlap { metric: &'n str },
    SortInRangeQuery,
    MaybeNotCounter { metric: &'n str },
    ForcedMonotonicity { metric: &'n str, fix: MonotonicityFix },
    IncompatibleTypes { op: &'n str, left: &'n str, right: &'n str },
    HistogramIgnoredInAggregation { op: &'n str },
    HistogramIgnoredInRange { metric: &'n str },
    QuantileNanResult { metric: &'n str },
    QuantileNanSkew { metric: &'n str },
    FractionNan { metric: &'n str },
    MismatchedBounds { during: &'n str },
}

/// What was done to make classic buckets monotonic.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct MonotonicityFix {
    pub lowest: f64,
    pub highest: f64,
    pub largest_drop: f64,
    pub time_ms: i64,
}

/// The fixes of one metric over all steps.
#[derive(Debug, Clone, Copy)]
struct MonotonicityFixes {
    all: MonotonicityFix,
    count: usize,
    last_ms: i64,
}

impl Note<'_> {
    fn is_warning(&self) -> bool {
        use Note::*;
        matches!(
            self,
            InvalidQuantile(_)
                | InvalidRatio { .. }
                | InvalidIntegralStrategy(_)
                | BadBucketLabel { .. }
                | MixedFloatsHistograms { .. }
                | MixedFloatsHistogramsInAggregation
                | MixedClassicNative { .. }
                | NotCounter { .. }
                | NotGauge { .. }
                | MixedSchemas { .. }
                | IncompatibleBuckets { .. }
                | ResetCollision { .. }
                | StartTimeOverlap { .. }
                | SortInRangeQuery
        )
    }

    fn text(&self) -> String {
        let of = |metric: &str| {
            if metric.is_empty() { String::new() } else { format!(" for metric name {}", quote(metric)) }
        };
        match self {
            Note::InvalidQuantile(q) => {
                format!("quantile value should be between 0 and 1, got {}", format_general(*q))
            }
            Note::InvalidRatio { ratio, used } => format!(
                "ratio value should be between -1 and 1, got {}, capping to {}",
                format_general(*ratio),
                format_general(*used)
            ),
            Note::InvalidIntegralStrategy(strategy) => {
                format!("strategy should be 0, 1, or 2 (default), using 2, got {}", format_general(*strategy))
            }
            Note::BadBucketLabel { le, metric } => {
                format!(
                    "bucket label \"le\" is missing or has a malformed value of {}{}",
                    quote(le),
                    of(metric)
                )
            }
            Note::MixedFloatsHistograms { metric } => {
                format!("encountered a mix of histograms and floats for metric name {}", quote(metric))
            }
            Note::MixedFloatsHistogramsInAggregation => {
                "encountered a mix of histograms and floats for aggregation".into()
            }
            Note::MixedClassicNative { metric } => {
                format!("vector contains a mix of classic and native histograms{}", of(metric))
            }
            Note::NotCounter { metric } => {
                format!("this native histogram metric is not a counter: {}", quote(metric))
            }
            Note::NotGauge { metric } => {
                format!("this native histogram metric is not a gauge: {}", quote(metric))
            }
            Note::MixedSchemas { metric } => format!(
                "vector contains a mix of histograms with exponential and custom buckets schemas for metric name {}",
                quote(metric)
            ),
            Note::IncompatibleBuckets { op } => {
                format!("incompatible bucket layout encountered for binary operator {op}")
            }
            Note::ResetCollision { during } => {
                format!("conflicting counter resets during histogram {during}")
            }
            Note::StartTimeOverlap { metric } => format!(
                "sample has start time that overlaps with previous sample timestamp for metric {}",
                quote(metric)
            ),
            Note::SortInRangeQuery => {
                "sort is ineffective for range queries since results are always ordered by labels".into()
            }
            Note::MaybeNotCounter { metric } => format!(
                "metric might not be a counter, name does not end in _total/_sum/_count/_bucket: {}",
                quote(metric)
            ),
            Note::ForcedMonotonicity { metric, .. } => format!(
                "input to histogram_quantile needed to be fixed for monotonicity (see \
                 https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile){}",
                of(metric)
            ),
            Note::IncompatibleTypes { op, left, right } => format!(
                "incompatible sample types encountered for binary operator {}: {left} {op} {right}",
                quote(op)
            ),
            Note::HistogramIgnoredInAggregation { op } => format!("ignored histogram in {op} aggregation"),
            Note::HistogramIgnoredInRange { metric } => format!(
                "ignored histograms in a range containing both floats and histograms for metric name {}",
                quote(metric)
            ),
            Note::QuantileNanResult { metric } => {
                format!("input to histogram_quantile has NaN observations, result is NaN{}", of(metric))
            }
            Note::QuantileNanSkew { metric } => {
                format!(
                    "input to histogram_quantile has NaN observations, result is skewed higher{}",
                    of(metric)
                )
            }
            Note::FractionNan { metric } => format!(
                "input to histogram_fraction has NaN observations, which are excluded from all fractions{}",
                of(metric)
            ),
            Note::MismatchedBounds { during } => {
                format!("mismatched custom buckets were reconciled during {during}")
            }
        }
    }
}

/// Takes notes during an evaluation.
#[derive(Debug, Default)]
pub(crate) struct Notebook {
    /// By text. Of several places that have the same to say the last one is told.
    warnings: BTreeMap<String, Position>,
    infos: BTreeMap<String, Position>,
    /// The fixes of all steps go into one note, with the first place.
    fixes: BTreeMap<String, (Position, MonotonicityFixes)>,
}

impl Notebook {
    pub(crate) fn add(&mut self, note: &Note<'_>, at: Position) {
        if let Note::ForcedMonotonicity { fix, .. } = note {
            let one = MonotonicityFixes { all: *fix, count: 1, last_ms: fix.time_ms };
            return self.add_fixes(note.text(), at, one);
        }
        let notes = if note.is_warning() { &mut self.warnings } else { &mut self.infos };
        notes.insert(note.text(), at);
    }

    /// Takes in the notes of another, as if they had been taken after these.
    pub(crate) fn append(&mut self, other: Notebook) {
        self.warnings.extend(other.warnings);
        self.infos.extend(other.infos);
        for (text, (at, fixes)) in other.fixes {
            self.add_fixes(text, at, fixes);
        }
    }

    fn add_fixes(&mut self, text: String, at: Position, new: MonotonicityFixes) {
        match self.fixes.entry(text) {
            Entry::Vacant(place) => {
                place.insert((at, new));
            }
            Entry::Occupied(mut known) => {
                let (_, known) = known.get_mut();
                known.count += new.count;
                known.last_ms = known.last_ms.max(new.last_ms);
                known.all.time_ms = known.all.time_ms.min(new.all.time_ms);
                known.all.lowest = known.all.lowest.min(new.all.lowest);
                known.all.highest = known.all.highest.max(new.all.highest);
                known.all.largest_drop = known.all.largest_drop.max(new.all.largest_drop);
            }
        }
    }

    pub(crate) fn finish(self) -> Annotations {
        let told = |kind: &str, notes: BTreeMap<String, Position>| {
            notes.into_iter().map(|(text, at)| format!("PromQL {kind}: {text} ({at})")).collect()
        };
        let (warnings, mut infos): (_, BTreeSet<String>) =
            (told("warning", self.warnings), told("info", self.infos));
        infos.extend(self.fixes.into_iter().map(|(text, (at, MonotonicityFixes { all, count, last_ms }))| {
            format!(
                "PromQL info: {text}, from buckets {} to {}, with a max diff of {}, over {count} samples from {} to {} \
                 ({at})",
                format_general(all.lowest),
                format_general(all.highest),
                format_two_digits(all.largest_drop),
                format_time(all.time_ms),
                format_time(last_ms),
            )
        }));
        Annotations { warnings, infos }
    }
}
