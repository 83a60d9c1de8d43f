//! `rate`, `increase`, `delta`, `irate`, `idelta`.

use std::sync::Arc;

use super::Result;
use super::frame::{Cell, Metric};
use super::over_time::RangeCall;
use super::range::Window;
use crate::annotations::Note;
use crate::histogram::{CUSTOM_SCHEMA, Histogram, IncompatibleSchemas, ResetHint};
use crate::source::{HistogramSample, Samples};

/// Which of the extrapolating functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    /// Falls are resets, and extrapolation does not go below zero.
    pub counter: bool,
    /// Per second.
    pub per_second: bool,
}

pub(super) fn kind(function: &str) -> Option<Kind> {
    match function {
        "rate" => Some(Kind { counter: true, per_second: true }),
        "increase" => Some(Kind { counter: true, per_second: false }),
        "delta" => Some(Kind { counter: false, per_second: false }),
        _ => None,
    }
}

/// Whether the counting behind a sample began anew after the sample before it, going by the start times that
/// both carry (0: unknown).
pub(super) fn began_anew(previous_start_ms: i64, previous_ms: i64, start_ms: i64, time_ms: i64) -> bool {
    if start_ms == 0 || start_ms >= time_ms || start_ms < previous_ms {
        return false;
    }
    // A start at the time of the previous sample is a delta, or a counter of which only that is known.
    start_ms > previous_ms || (previous_start_ms != 0 && previous_start_ms < previous_ms)
}

/// What extrapolation needs to know of the samples in a window.
#[derive(Debug, Clone, Copy)]
struct Span {
    /// Of the first sample, or of the time before it at which the count is known to have been zero.
    first_ms: i64,
    first_sample_ms: i64,
    last_ms: i64,
    samples: usize,
    /// The first value, or the first count of observations.
    first_value: Option<f64>,
}

impl Span {
    fn of_samples(first_ms: i64, last_ms: i64, samples: usize, first_value: Option<f64>) -> Span {
        Span { first_ms, first_sample_ms: first_ms, last_ms, samples, first_value }
    }
}

/// By how much to multiply the change between first and last sample. The window's ends are reached for if the
/// nearest sample is no further from them than 1.1 average intervals, else half an interval is added. A counter
/// is not extrapolated below zero.
fn extrapolation(kind: Kind, window: &Window<'_>, span: Span, change: f64) -> f64 {
    let seconds = |ms: i64| ms as f64 / 1000.0;
    let mut to_start = seconds(span.first_ms.saturating_sub(window.start_ms));
    let mut to_end = seconds(window.end_ms - span.last_ms);
    let sampled = seconds(span.last_ms - span.first_ms);
    let average = match span.samples {
        0 | 1 => 0.0,
        samples => seconds(span.last_ms - span.first_sample_ms) / (samples - 1) as f64,
    };
    let threshold = average * 1.1;
    if span.first_ms != span.first_sample_ms {
        to_start = 0.0;
    } else if to_start >= threshold {
        to_start = average / 2.0;
    }
    if kind.counter
        && change > 0.0
        && let Some(first) = span.first_value.filter(|first| *first >= 0.0)
    {
        to_start = to_start.min(sampled * (first / change));
    }
    if to_end >= threshold {
        to_end = average / 2.0;
    }
    let factor = (sampled + to_start + to_end) / sampled;
    if kind.per_second { factor / seconds(window.end_ms - window.start_ms) } else { factor }
}

/// The general path: histograms, start times, mixtures.
pub(super) fn window(call: &RangeCall<'_>, kind: Kind, metric: &Metric, window: &Window<'_>) -> Result<Cell> {
    let samples = &window.samples;
    if !samples.times_ms.is_empty() && !samples.histograms.is_empty() {
        call.note(&Note::MixedFloatsHistograms { metric: call.name_of(metric) });
        return Ok(Cell::Absent);
    }
    if kind.counter && overlaps(samples) {
        call.note(&Note::StartTimeOverlap { metric: call.name_of(metric) });
    }
    if samples.histograms.is_empty() {
        return Ok(float_window(kind, window));
    }
    Ok(histogram_window(call, kind, metric, window))
}

/// Whether counting is said to have begun before the sample before, and yet not when that one's did.
fn overlaps(samples: &Samples<'_>) -> bool {
    let overlap = |previous_start: i64, previous_ms: i64, start: i64| {
        start != 0 && start < previous_ms && start != previous_start
    };
    let floats = samples.times_ms.windows(2).zip(samples.starts_ms.windows(2)).any(|pair| match pair {
        ([previous_ms, _], [previous_start, start]) => overlap(*previous_start, *previous_ms, *start),
        _ => false,
    });
    floats
        || samples.histograms.windows(2).any(|pair| match pair {
            [previous, next] => overlap(previous.start_ms, previous.time_ms, next.start_ms),
            _ => false,
        })
}

/// Where counting began inside the window but before its first sample, that is where it was zero.
fn start_inside(window: &Window<'_>, start_ms: i64, first_ms: i64) -> Option<i64> {
    (start_ms != 0 && start_ms > window.start_ms && start_ms < first_ms).then_some(start_ms)
}

fn float_window(kind: Kind, window: &Window<'_>) -> Cell {
    let samples = &window.samples;
    let starts = |at: usize| samples.starts_ms.get(at).copied().unwrap_or(0);
    let ([first_ms, ..], [first, ..]) = (samples.times_ms, samples.values) else { return Cell::Absent };
    let (Some(last_ms), Some(last)) = (samples.times_ms.last(), samples.values.last()) else {
        return Cell::Absent;
    };
    let zero_ms = start_inside(window, starts(0), *first_ms).filter(|_| kind.counter);
    if zero_ms.is_none() && samples.times_ms.len() < 2 {
        return Cell::Absent;
    }
    let mut change = last - first;
    if kind.counter {
        for (at, (times, values)) in samples.times_ms.windows(2).zip(samples.values.windows(2)).enumerate() {
            let ([before_ms, after_ms], [before, after]) = (times, values) else { continue };
            if after < before || began_anew(starts(at), *before_ms, starts(at + 1), *after_ms) {
                change += before;
            }
        }
    }
    let (span, change) = match zero_ms {
        Some(zero_ms) => (
            Span { first_ms: zero_ms, ..Span::of_samples(*first_ms, *last_ms, samples.times_ms.len(), None) },
            change + first,
        ),
        None => (Span::of_samples(*first_ms, *last_ms, samples.times_ms.len(), Some(*first)), change),
    };
    Cell::Float(change * extrapolation(kind, window, span, change))
}

fn histogram_window(call: &RangeCall<'_>, kind: Kind, metric: &Metric, window: &Window<'_>) -> Cell {
    let histograms = window.samples.histograms;
    let (Some(first), Some(last)) = (histograms.first(), histograms.last()) else { return Cell::Absent };
    let zero_ms = start_inside(window, first.start_ms, first.time_ms).filter(|_| kind.counter);
    let zero = zero_ms.map(|zero_ms| HistogramSample {
        time_ms: zero_ms,
        start_ms: zero_ms,
        value: Arc::new(Histogram {
            schema: first.value.schema,
            custom_bounds: first.value.custom_bounds.clone(),
            zero_threshold: first.value.zero_threshold,
            ..Histogram::default()
        }),
    });
    let with_zero: Vec<HistogramSample>;
    let points = match zero {
        Some(zero) => {
            with_zero = std::iter::once(zero).chain(histograms.iter().cloned()).collect();
            &with_zero
        }
        None => histograms,
    };
    if points.len() < 2 {
        return Cell::Absent;
    }
    let name = call.name_of(metric);
    let change = match histogram_change(call, kind, name, points) {
        Ok(change) => change,
        Err(IncompatibleSchemas) => {
            call.note(&Note::MixedSchemas { metric: name });
            return Cell::Absent;
        }
    };
    let first_count = zero_ms.is_none().then_some(first.value.count);
    let samples = Span::of_samples(first.time_ms, last.time_ms, histograms.len(), first_count);
    let span = Span { first_ms: zero_ms.unwrap_or(first.time_ms), ..samples };
    let factor = extrapolation(kind, window, span, change.count);
    Cell::Histogram(Arc::new(change.scaled(factor)))
}

/// The change over `points`, of which there are at least two.
fn histogram_change(
    call: &RangeCall<'_>,
    kind: Kind,
    name: &str,
    points: &[HistogramSample],
) -> Result<Histogram, IncompatibleSchemas> {
    let (Some(first), Some(second), Some(last)) = (points.first(), points.get(1), points.last()) else {
        return Err(IncompatibleSchemas);
    };
    let is_gauge = |point: &HistogramSample| point.value.reset_hint == ResetHint::Gauge;
    if kind.counter && points.iter().any(is_gauge) {
        call.note(&Note::NotCounter { metric: name });
    }
    if !(kind.counter || is_gauge(first) && is_gauge(last)) {
        call.note(&Note::NotGauge { metric: name });
    }
    let is_reset = |before: &Histogram, pair: (&HistogramSample, &HistogramSample)| {
        let (previous, next) = pair;
        began_anew(previous.start_ms, previous.time_ms, next.start_ms, next.time_ms)
            || next.value.is_reset_after(before)
    };
    // A reset right behind the first sample makes its layout irrelevant: nothing of it is needed.
    let mut base = first.value.as_ref().clone();
    if kind.counter && is_reset(&base, (first, second)) {
        base = Histogram {
            schema: second.value.schema,
            custom_bounds: second.value.custom_bounds.clone(),
            ..Histogram::default()
        };
    }
    let custom = base.schema == CUSTOM_SCHEMA;
    if last.value.uses_custom_buckets() != custom {
        return Err(IncompatibleSchemas);
    }
    let mut schema = base.schema.min(last.value.schema);
    if kind.counter {
        for point in points.get(1..points.len() - 1).unwrap_or_default() {
            if point.value.uses_custom_buckets() != custom {
                return Err(IncompatibleSchemas);
            }
            schema = schema.min(point.value.schema);
        }
    }
    let mut change = last.value.as_ref().clone();
    change.reduce_to(schema);
    let (mut change, conflicts) = change.minus(&base)?;
    if conflicts.bounds {
        call.note(&Note::MismatchedBounds { during: "subtraction" });
    }
    if kind.counter {
        let mut before = base;
        for pair in points.windows(2) {
            let [previous, next] = pair else { continue };
            if is_reset(&before, (previous, next)) {
                let (sum, conflicts) = change.plus(&before)?;
                change = sum;
                if conflicts.bounds {
                    call.note(&Note::MismatchedBounds { during: "addition" });
                }
            }
            before = next.value.as_ref().clone();
        }
    }
    change.reset_hint = ResetHint::Gauge;
    Ok(change.compacted())
}

/// A sample of either kind.
struct Newest {
    time_ms: i64,
    start_ms: i64,
    cell: Cell,
}

/// `irate` and `idelta`: the change between the last two samples.
pub(super) fn instant(
    call: &RangeCall<'_>,
    counter: bool,
    metric: &Metric,
    window: &Window<'_>,
) -> Result<Cell> {
    let samples = &window.samples;
    let name = call.name_of(metric);
    let floats = samples.times_ms.len();
    let mut newest: Vec<Newest> = (floats.saturating_sub(2)..floats)
        .filter_map(|at| {
            Some(Newest {
                time_ms: *samples.times_ms.get(at)?,
                start_ms: samples.starts_ms.get(at).copied().unwrap_or(0),
                cell: Cell::Float(*samples.values.get(at)?),
            })
        })
        .chain(samples.histograms.iter().rev().take(2).map(|sample| Newest {
            time_ms: sample.time_ms,
            start_ms: sample.start_ms,
            cell: Cell::Histogram(Arc::clone(&sample.value)),
        }))
        .collect();
    newest.sort_by_key(|sample| sample.time_ms);
    let (Some(last), Some(previous)) = (newest.pop(), newest.pop()) else { return Ok(Cell::Absent) };
    let interval_ms = last.time_ms - previous.time_ms;
    if interval_ms == 0 {
        return Ok(Cell::Absent);
    }
    let seconds = interval_ms as f64 / 1000.0;
    let anew = counter && began_anew(previous.start_ms, previous.time_ms, last.start_ms, last.time_ms);
    match (previous.cell, last.cell) {
        (Cell::Float(before), Cell::Float(after)) => {
            let change = if counter && (after < before || anew) { after } else { after - before };
            Ok(Cell::Float(if counter { change / seconds } else { change }))
        }
        (Cell::Histogram(before), Cell::Histogram(after)) => {
            let gauges =
                [&before, &after].into_iter().filter(|one| one.reset_hint == ResetHint::Gauge).count();
            if counter && gauges > 0 {
                call.note(&Note::NotCounter { metric: name });
            }
            if !counter && gauges < 2 {
                call.note(&Note::NotGauge { metric: name });
            }
            let mut change = if counter && (anew || after.is_reset_after(&before)) {
                after.as_ref().clone()
            } else {
                match after.minus(&before) {
                    Ok((change, conflicts)) => {
                        if conflicts.bounds {
                            call.note(&Note::MismatchedBounds { during: "subtraction" });
                        }
                        change
                    }
                    Err(IncompatibleSchemas) => {
                        call.note(&Note::MixedSchemas { metric: name });
                        return Ok(Cell::Absent);
                    }
                }
            };
            change.reset_hint = ResetHint::Gauge;
            let change = change.compacted();
            Ok(Cell::Histogram(Arc::new(if counter { change.divided(seconds) } else { change })))
        }
        _ => {
            call.note(&Note::MixedFloatsHistograms { metric: name });
            Ok(Cell::Absent)
        }
    }
}

/// Says of a metric that is treated as a counter, but is not called like one.
pub(super) fn note_if_not_counter(call: &RangeCall<'_>, metric: &Metric) {
    let name = call.name_of(metric);
    let counter_like = ["_total", "_sum", "_count", "_bucket"].iter().any(|suffix| name.ends_with(suffix));
    if !name.is_empty() && !counter_like {
        call.note(&Note::MaybeNotCounter { metric: name });
    }
}
