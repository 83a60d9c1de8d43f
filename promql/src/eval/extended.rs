//! `anchored` and `smoothed`: changes between the very edges of a window.
//!
//! Anchored, the value at an edge is that of the last sample at or before it. Smoothed, it lies on the line
//! between the samples around the edge. Neither extrapolates.

use std::sync::Arc;

use super::Result;
use super::frame::{Cell, Metric};
use super::over_time::RangeCall;
use super::range::Window;
use super::rate::Kind;
use crate::annotations::Note;
use crate::histogram::{Histogram, IncompatibleSchemas, ResetHint};
use crate::source::{HistogramSample, Samples};

/// The value at `time_ms` on the line through the samples around it; behind the last sample, that one's value.
pub(super) fn interpolated(samples: &Samples<'_>, time_ms: i64) -> Result<Cell, IncompatibleSchemas> {
    if samples.histograms.is_empty() {
        let next = samples.times_ms.partition_point(|sample_ms| *sample_ms < time_ms);
        let point = |at: usize| Some((*samples.times_ms.get(at)?, *samples.values.get(at)?));
        let previous = next.checked_sub(1).and_then(point);
        return Ok(match (previous, point(next)) {
            (_, Some((at_ms, value))) if at_ms == time_ms => Cell::Float(value),
            (Some(left), Some(right)) => Cell::Float(on_line(left, right, time_ms, false)),
            (Some((_, value)), None) => Cell::Float(value),
            (None, _) => Cell::Absent,
        });
    }
    let histograms = samples.histograms;
    let next = histograms.partition_point(|sample| sample.time_ms < time_ms);
    let previous = next.checked_sub(1).and_then(|at| histograms.get(at));
    Ok(match (previous, histograms.get(next)) {
        (_, Some(sample)) if sample.time_ms == time_ms => Cell::Histogram(Arc::clone(&sample.value)),
        (Some(left), Some(right)) => {
            let counter = right.value.reset_hint != ResetHint::Gauge;
            Cell::Histogram(Arc::new(histogram_on_line(left, right, time_ms, counter)?))
        }
        (Some(sample), None) => Cell::Histogram(Arc::clone(&sample.value)),
        (None, _) => Cell::Absent,
    })
}

/// A counter that was reset between the two samples is taken to have started from zero.
fn on_line(left: (i64, f64), right: (i64, f64), time_ms: i64, counter: bool) -> f64 {
    let from = if counter && right.1 < left.1 { 0.0 } else { left.1 };
    from + (right.1 - from) * (time_ms - left.0) as f64 / (right.0 - left.0) as f64
}

fn histogram_on_line(
    left: &HistogramSample,
    right: &HistogramSample,
    time_ms: i64,
    counter: bool,
) -> Result<Histogram, IncompatibleSchemas> {
    let fraction = (time_ms - left.time_ms) as f64 / (right.time_ms - left.time_ms) as f64;
    if left.value.uses_custom_buckets() != right.value.uses_custom_buckets() {
        return Err(IncompatibleSchemas);
    }
    if counter && right.value.is_reset_after(&left.value) {
        return Ok(right.value.as_ref().clone().scaled(fraction));
    }
    let (change, _) = right.value.minus(&left.value)?;
    let (value, _) = left.value.plus(&change.scaled(fraction))?;
    Ok(value)
}

/// `rate`, `increase` and `delta` of an extended window.
pub(super) fn change(
    call: &RangeCall<'_>,
    kind: Kind,
    metric: &Metric,
    window: &Window<'_>,
    smoothed: bool,
) -> Result<Cell> {
    let samples = &window.samples;
    let name = call.name_of(metric);
    if !samples.times_ms.is_empty() && !samples.histograms.is_empty() {
        call.note(&Note::MixedFloatsHistograms { metric: name });
        return Ok(Cell::Absent);
    }
    let seconds = (window.end_ms - window.start_ms) as f64 / 1000.0;
    if samples.histograms.is_empty() {
        let points: Vec<(i64, f64)> =
            samples.times_ms.iter().copied().zip(samples.values.iter().copied()).collect();
        return Ok(match float_change(kind, window, &points, smoothed) {
            Some(change) => Cell::Float(if kind.per_second { change / seconds } else { change }),
            None => Cell::Absent,
        });
    }
    match histogram_change(call, kind, name, window, smoothed) {
        Ok(Some(change)) => {
            let change = if kind.per_second { change.divided(seconds) } else { change };
            Ok(Cell::Histogram(Arc::new(change.compacted())))
        }
        Ok(None) => Ok(Cell::Absent),
        Err(IncompatibleSchemas) => {
            call.note(&Note::MixedSchemas { metric: name });
            Ok(Cell::Absent)
        }
    }
}

/// The indexes of the samples that give the values at the window's edges, if any sample lies in the window.
fn edges(times: &[i64], window: &Window<'_>, smoothed: bool) -> Option<(usize, usize)> {
    let newest = times.len().checked_sub(1)?;
    let before_end = times.get(..newest).unwrap_or_default();
    let first = before_end.partition_point(|time| *time <= window.start_ms).saturating_sub(1);
    let last = if smoothed { before_end.partition_point(|time| *time < window.end_ms) } else { newest };
    (*times.get(last)? > window.start_ms).then_some((first, last))
}

/// What the floats of a window say of it.
struct Floats<'p> {
    /// The values at its edges.
    left: f64,
    right: f64,
    /// Those between its edges.
    inside: &'p [(i64, f64)],
}

fn floats<'p>(
    window: &Window<'_>,
    points: &'p [(i64, f64)],
    smoothed: bool,
    counter: bool,
) -> Option<Floats<'p>> {
    let (mut first, mut last) = edges(window.samples.times_ms, window, smoothed)?;
    let at = |index: usize| points.get(index).copied();
    let left = match (at(first)?, at(first + 1)) {
        (point, Some(next)) if smoothed && point.0 < window.start_ms => {
            on_line(point, next, window.start_ms, counter)
        }
        (point, _) => point.1,
    };
    let right = match (last.checked_sub(1).and_then(at), at(last)?) {
        (Some(previous), point) if smoothed && point.0 > window.end_ms => {
            on_line(previous, point, window.end_ms, counter)
        }
        (None, point) if smoothed && point.0 > window.end_ms => return None,
        (_, point) => point.1,
    };
    first += usize::from(at(first)?.0 <= window.start_ms);
    last = (last + 1).saturating_sub(usize::from(at(last)?.0 >= window.end_ms));
    Some(Floats { left, right, inside: points.get(first..last).unwrap_or_default() })
}

/// The floats of a window, with one at each of its edges.
pub(super) fn with_edges(window: &Window<'_>, smoothed: bool) -> Vec<(i64, f64)> {
    let samples = &window.samples;
    let points: Vec<(i64, f64)> =
        samples.times_ms.iter().copied().zip(samples.values.iter().copied()).collect();
    let Some(Floats { left, right, inside }) = floats(window, &points, smoothed, false) else {
        return Vec::new();
    };
    let mut all = vec![(window.start_ms, left)];
    all.extend(inside);
    all.push((window.end_ms, right));
    all
}

fn float_change(kind: Kind, window: &Window<'_>, points: &[(i64, f64)], smoothed: bool) -> Option<f64> {
    let Floats { left, right, inside } = floats(window, points, smoothed, kind.counter)?;
    let mut change = right - left;
    if kind.counter {
        // The lines at the edges know of the resets that they cross; the samples inside are still to be seen.
        let mut before = left;
        for (_, value) in inside {
            if *value < before {
                change += before;
            }
            before = *value;
        }
        if right < before {
            change += before;
        }
    }
    Some(change)
}

fn histogram_change(
    call: &RangeCall<'_>,
    kind: Kind,
    name: &str,
    window: &Window<'_>,
    smoothed: bool,
) -> Result<Option<Histogram>, IncompatibleSchemas> {
    let points = window.samples.histograms;
    let times: Vec<i64> = points.iter().map(|point| point.time_ms).collect();
    let Some((first, last)) = edges(&times, window, smoothed) else { return Ok(None) };
    let (Some(first_point), Some(last_point)) = (points.get(first), points.get(last)) else {
        return Ok(None);
    };
    let looked_at = points.get(first..=last).unwrap_or_default();
    let gauges = looked_at.iter().filter(|point| point.value.reset_hint == ResetHint::Gauge).count();
    if kind.counter && gauges > 0 {
        call.note(&Note::NotCounter { metric: name });
    }
    let is_gauge = |point: &HistogramSample| point.value.reset_hint == ResetHint::Gauge;
    if !(kind.counter || is_gauge(first_point) && is_gauge(last_point)) {
        call.note(&Note::NotGauge { metric: name });
    }
    let custom = first_point.value.uses_custom_buckets();
    if looked_at.iter().any(|point| point.value.uses_custom_buckets() != custom) {
        return Err(IncompatibleSchemas);
    }
    let left_on_line = smoothed && first_point.time_ms < window.start_ms && first < last;
    let left = match points.get(first + 1) {
        Some(next) if left_on_line => histogram_on_line(first_point, next, window.start_ms, kind.counter)?,
        _ => first_point.value.as_ref().clone(),
    };
    let right_on_line = smoothed && last_point.time_ms > window.end_ms;
    let right = match last.checked_sub(1).and_then(|at| points.get(at)) {
        Some(previous) if right_on_line => {
            histogram_on_line(previous, last_point, window.end_ms, kind.counter)?
        }
        None if right_on_line => return Ok(None),
        _ => last_point.value.as_ref().clone(),
    };
    let (mut change, conflicts) = right.minus(&left)?;
    if conflicts.bounds {
        call.note(&Note::MismatchedBounds { during: "subtraction" });
    }
    if kind.counter {
        // Resets between consecutive samples count, but for those that a line at an edge has taken care of.
        for (at, pair) in looked_at.windows(2).enumerate() {
            let [previous, next] = pair else { continue };
            let crossed_left = left_on_line && at == 0;
            let crossed_right = right_on_line && at + 2 == looked_at.len();
            if !next.value.is_reset_after(&previous.value) || (crossed_left && !crossed_right) {
                continue;
            }
            if crossed_left && crossed_right {
                // Both edges lie on the same line, which starts from zero.
                continue;
            }
            let (sum, _) = change.plus(&previous.value)?;
            change = sum;
        }
    }
    change.reset_hint = ResetHint::Gauge;
    Ok(Some(change))
}
