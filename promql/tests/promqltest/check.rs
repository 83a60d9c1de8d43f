//! Compares results with what a file expects.

use std::collections::{BTreeMap, BTreeSet};

use pharos_model::{Labels, is_stale};
use pharos_promql::{Histogram, InstantSample, RangeSeries, SampleValue, Value};

use crate::points::Point;
use crate::script::{Eval, Expectation};

pub(crate) fn annotations(
    kind: &str,
    expected: &Expectation,
    found: &BTreeSet<String>,
) -> Result<(), String> {
    match expected {
        Expectation::Anything => Ok(()),
        Expectation::None if found.is_empty() => Ok(()),
        Expectation::None => Err(format!("expected no {kind}, got {found:?}")),
        Expectation::Some(all) => {
            if let Some(missing) = all.iter().find(|one| !found.iter().any(|text| one.matches(text))) {
                return Err(format!("expected {kind} {missing:?}, got {found:?}"));
            }
            match found.iter().find(|text| !all.iter().any(|one| one.matches(text))) {
                Some(unexpected) => Err(format!("unexpected {kind} {unexpected}")),
                None => Ok(()),
            }
        }
    }
}

/// Relative tolerance of floats.
const TOLERANCE: f64 = 1e-6;

pub(crate) fn same_float(a: f64, b: f64) -> bool {
    if is_stale(a) || is_stale(b) {
        return is_stale(a) && is_stale(b);
    }
    if a == b || (a.is_nan() && b.is_nan()) {
        return true;
    }
    let (difference, sum) = ((a - b).abs(), a.abs() + b.abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < TOLERANCE * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < TOLERANCE
}

fn same_histogram(expected: &Histogram, found: &Histogram, with_hint: bool) -> bool {
    let compact = |histogram: &Histogram| {
        let mut histogram = histogram.clone();
        histogram.compact();
        histogram
    };
    let (expected, found) = (compact(expected), compact(found));
    let same_buckets = |a: &[(i32, f64)], b: &[(i32, f64)]| {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && same_float(a.1, b.1))
    };
    expected.schema == found.schema
        && expected.zero_threshold == found.zero_threshold
        && expected.custom_bounds == found.custom_bounds
        && same_float(expected.zero_count, found.zero_count)
        && same_float(expected.count, found.count)
        && same_float(expected.sum, found.sum)
        && same_buckets(&expected.positive.0, &found.positive.0)
        && same_buckets(&expected.negative.0, &found.negative.0)
        && (!with_hint || expected.reset_hint == found.reset_hint)
}

pub(crate) fn same_value(a: &SampleValue, b: &SampleValue) -> bool {
    match (a, b) {
        (SampleValue::Float(a), SampleValue::Float(b)) => same_float(*a, *b),
        (SampleValue::Histogram(a), SampleValue::Histogram(b)) => same_histogram(a, b, false),
        _ => false,
    }
}

fn matches_point(expected: &Point, found: &SampleValue) -> bool {
    match (expected, found) {
        (Point::Float(expected), SampleValue::Float(found)) => same_float(*expected, *found),
        (Point::Histogram { value, with_hint }, SampleValue::Histogram(found)) => {
            same_histogram(value, found, *with_hint)
        }
        _ => false,
    }
}

pub(crate) fn value(eval: &Eval, found: &Value) -> Result<(), String> {
    match (found, eval.range_vector) {
        (Value::Text { text, .. }, _) => match &eval.string {
            Some(expected) if expected == text => Ok(()),
            other => Err(format!("expected string {other:?}, got {text:?}")),
        },
        (Value::Scalar { value, .. }, _) => match eval.scalar {
            Some(expected) if same_float(expected, *value) => Ok(()),
            other => Err(format!("expected {other:?}, got {value}")),
        },
        (Value::Vector(found), _) => vector(eval, found),
        (Value::Matrix(found), Some((start_ms, end_ms, step_ms))) => {
            matrix(eval, found, start_ms, end_ms, step_ms)
        }
        (Value::Matrix(found), None) => matrix(eval, found, eval.start_ms, eval.end_ms, eval.step_ms),
    }
}

fn vector(eval: &Eval, found: &[InstantSample]) -> Result<(), String> {
    if let Some(expected) = eval.scalar {
        return Err(format!("expected the scalar {expected}, got a vector"));
    }
    let shown = || {
        found
            .iter()
            .map(|sample| format!("{:?} {:?}", sample.labels, sample.value))
            .collect::<Vec<_>>()
            .join("; ")
    };
    let expected: BTreeMap<&Labels, (usize, &Point)> = eval
        .series
        .iter()
        .enumerate()
        .filter_map(|(at, (labels, points))| Some((labels, (at, points.first()?))))
        .collect();
    let mut seen = BTreeSet::new();
    for (at, sample) in found.iter().enumerate() {
        let Some((place, point)) = expected.get(&sample.labels) else {
            return Err(format!("unexpected {:?}; got {}", sample.labels, shown()));
        };
        if !seen.insert(&sample.labels) {
            return Err(format!("{:?} twice", sample.labels));
        }
        if eval.ordered && *place != at {
            return Err(format!("{:?} at place {at} instead of {place}; got {}", sample.labels, shown()));
        }
        if !matches_point(point, &sample.value) {
            return Err(format!("{:?}: expected {point:?}, got {:?}", sample.labels, sample.value));
        }
    }
    match expected.keys().find(|labels| !seen.contains(**labels)) {
        Some(missing) => Err(format!("missing {missing:?}; got {}", shown())),
        None => Ok(()),
    }
}

fn matrix(
    eval: &Eval,
    found: &[RangeSeries],
    start_ms: i64,
    end_ms: i64,
    step_ms: i64,
) -> Result<(), String> {
    if !found.is_sorted_by(|a, b| a.labels < b.labels) {
        return Err("series are not sorted by labels".into());
    }
    let expected: BTreeMap<&Labels, &[Point]> =
        eval.series.iter().map(|(labels, points)| (labels, points.as_slice())).collect();
    for series in found {
        let Some(points) = expected.get(&series.labels) else {
            return Err(format!("unexpected {series:?}"));
        };
        let mut wanted: BTreeMap<i64, &Point> = BTreeMap::new();
        for (at, point) in points.iter().enumerate() {
            let time_ms = start_ms + at as i64 * step_ms;
            if time_ms > end_ms {
                return Err(format!("{:?}: more points expected than there are steps", series.labels));
            }
            if !matches!(point, Point::None) {
                wanted.insert(time_ms, point);
            }
        }
        let floats = series.floats.iter().map(|(time_ms, value)| (*time_ms, SampleValue::Float(*value)));
        let histograms = series
            .histograms
            .iter()
            .map(|(time_ms, value)| (*time_ms, SampleValue::Histogram(value.clone())));
        let got: BTreeMap<i64, SampleValue> = floats.chain(histograms).collect();
        if !wanted.keys().eq(got.keys()) {
            return Err(format!("{:?}: expected {wanted:?}, got {got:?}", series.labels));
        }
        for ((time_ms, point), value) in wanted.iter().zip(got.values()) {
            if !matches_point(point, value) {
                return Err(format!(
                    "{:?} at {time_ms} ms: expected {point:?}, got {value:?}",
                    series.labels
                ));
            }
        }
    }
    let found: BTreeSet<&Labels> = found.iter().map(|series| &series.labels).collect();
    match expected.iter().find(|(labels, _)| !found.contains(**labels)) {
        Some((missing, _)) => Err(format!("missing {missing:?}")),
        None => Ok(()),
    }
}
