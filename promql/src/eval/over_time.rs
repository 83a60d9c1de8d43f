//! Functions of range vectors: one value per series and window.

use std::sync::Arc;

use super::frame::{Cell, Frame, Metric, Row};
use super::range::Window;
use super::rate_kernel::RateKernel;
use super::{EvalError, Evaluator, Result, Sink, extended, rate};
use crate::annotations::Note;
use crate::ast::{Expr, ExprKind, Extension, Position, ValueType};
use crate::float::{KahanSum, Mean, quantile};
use crate::histogram::{Conflicts, HistogramSum, IncompatibleSchemas, ResetHint};
use crate::source::Samples;
use crate::text::format_float;

/// A call of a range function: what its kernel may look at besides the window.
pub(super) struct RangeCall<'c> {
    evaluator: &'c Evaluator<'c>,
    /// Where the range-vector argument stands.
    at: Position,
    /// Where the first argument stands, and the scalar arguments' values at each step.
    first_at: Position,
    /// Of the second argument, where there is one.
    second_at: Position,
    scalars: Vec<Vec<f64>>,
}

impl RangeCall<'_> {
    pub(super) fn note(&self, note: &Note<'_>) {
        self.evaluator.note(note, self.at);
    }

    pub(super) fn name_of<'m>(&self, metric: &'m Metric) -> &'m str {
        self.evaluator.name_of(metric)
    }

    fn scalar(&self, index: usize, step: usize) -> f64 {
        self.scalars.get(index).and_then(|values| values.get(step)).copied().unwrap_or(f64::NAN)
    }

    fn ignored_histograms(&self, metric: &Metric, samples: &Samples<'_>) {
        if !samples.histograms.is_empty() {
            self.note(&Note::HistogramIgnoredInRange { metric: self.name_of(metric) });
        }
    }
}

type Kernel = fn(&RangeCall<'_>, &Metric, &Window<'_>, usize) -> Result<Cell>;

fn kernel(function: &str) -> Option<Kernel> {
    Some(match function {
        "rate" => |call, metric, window, _| rate::window(call, RATE, metric, window),
        "increase" => |call, metric, window, _| rate::window(call, INCREASE, metric, window),
        "delta" => |call, metric, window, _| rate::window(call, DELTA, metric, window),
        "irate" => |call, metric, window, _| rate::instant(call, true, metric, window),
        "idelta" => |call, metric, window, _| rate::instant(call, false, metric, window),
        "resets" => |_, _, window, _| Ok(transitions(&window.samples, is_reset)),
        "changes" => |_, _, window, _| Ok(transitions(&window.samples, is_change)),
        "count_over_time" => |_, _, window, _| {
            Ok(Cell::Float((window.samples.times_ms.len() + window.samples.histograms.len()) as f64))
        },
        "present_over_time" | "absent_over_time" => |_, _, _, _| Ok(Cell::Float(1.0)),
        "last_over_time" => |_, _, window, _| Ok(last(&window.samples)),
        "first_over_time" => |_, _, window, _| Ok(first(&window.samples)),
        "sum_over_time" => |call, metric, window, _| Ok(sum(call, metric, &window.samples, false)),
        "avg_over_time" => |call, metric, window, _| Ok(sum(call, metric, &window.samples, true)),
        "min_over_time" => {
            |call, metric, window, _| Ok(extreme(call, metric, window, |new, old| new < old, false))
        }
        "max_over_time" => {
            |call, metric, window, _| Ok(extreme(call, metric, window, |new, old| new > old, false))
        }
        "ts_of_min_over_time" => {
            |call, metric, window, _| Ok(extreme(call, metric, window, |new, old| new <= old, true))
        }
        "ts_of_max_over_time" => {
            |call, metric, window, _| Ok(extreme(call, metric, window, |new, old| new >= old, true))
        }
        "ts_of_first_over_time" => |_, _, window, _| {
            let histogram = window.samples.histograms.first().map(|sample| sample.time_ms);
            Ok(seconds(window.samples.times_ms.first().copied().into_iter().chain(histogram).min()))
        },
        "ts_of_last_over_time" => |_, _, window, _| {
            let histogram = window.samples.histograms.last().map(|sample| sample.time_ms);
            Ok(seconds(window.samples.times_ms.last().copied().into_iter().chain(histogram).max()))
        },
        "stddev_over_time" => {
            |call, metric, window, _| Ok(variance(call, metric, &window.samples, f64::sqrt))
        }
        "stdvar_over_time" => |call, metric, window, _| Ok(variance(call, metric, &window.samples, |v| v)),
        "mad_over_time" => |call, metric, window, _| Ok(median_deviation(call, metric, &window.samples)),
        "quantile_over_time" => quantile_over_time,
        "integral" => integral,
        "deriv" => |call, metric, window, _| {
            let origin_ms = window.samples.times_ms.first().copied().unwrap_or(0);
            Ok(regression(call, metric, &window.samples, origin_ms)
                .map_or(Cell::Absent, |line| Cell::Float(line.0)))
        },
        "predict_linear" => |call, metric, window, step| {
            let line = regression(call, metric, &window.samples, window.step_ms);
            let ahead_s = call.scalar(0, step);
            Ok(line.map_or(Cell::Absent, |(slope, intercept)| Cell::Float(slope * ahead_s + intercept)))
        },
        "double_exponential_smoothing" => double_exponential_smoothing,
        _ => return None,
    })
}

const RATE: rate::Kind = rate::Kind { counter: true, per_second: true };
const INCREASE: rate::Kind = rate::Kind { counter: true, per_second: false };
const DELTA: rate::Kind = rate::Kind { counter: false, per_second: false };

/// Long windows of one series alone can keep a query busy for seconds.
const SAMPLES_BETWEEN_CHECKS: usize = 1 << 20;

impl Evaluator<'_> {
    /// Calls a function of a range vector.
    pub(super) fn range_call(
        &self,
        function: &'static str,
        args: &[Expr],
        frame: Frame,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        let Some(range) = args.iter().find(|arg| arg.value_type() == ValueType::RangeVector) else {
            return Err(EvalError::execution(format!("{function} needs a range vector")));
        };
        let Some(kernel) = kernel(function) else {
            return Err(EvalError::execution(format!("unknown function {function}")));
        };
        check_extension(function, range)?;
        let others = args.iter().filter(|arg| arg.value_type() == ValueType::Scalar);
        // Prometheus puts the samples of a subquery in its place first, and forgets where it stood.
        let forgotten = matches!(range.unwrap_parens().kind, ExprKind::Subquery(_));
        let start = Position { offset: 0, line: 1, column: 1 };
        let call = RangeCall {
            evaluator: self,
            at: if forgotten { start } else { range.at },
            first_at: args.first().map_or(range.at, |arg| arg.at),
            second_at: args.get(1).map_or(range.at, |arg| arg.at),
            scalars: others.map(|arg| self.scalar(arg, frame)).collect::<Result<_>>()?,
        };
        let keeps_name = matches!(function, "last_over_time" | "first_over_time");
        let steps = frame.steps();
        let rate_kind = rate::kind(function);
        let mut rate_kernel = rate_kind.map(RateKernel::new);
        let mut row = Row::default();
        // Of series of one name one is looked at.
        let mut looks_at_name = matches!(function, "rate" | "increase");
        let has_one_name = super::labels::has_one_name(range);
        // Samples looked at since it was last asked whether the query is still wanted.
        let mut unchecked = 0;
        // Of `absent_over_time` nobody sees the series.
        let mut names = match function {
            "absent_over_time" => super::labels::NameCheck::off(),
            _ => super::labels::NameCheck::new(self, range),
        };
        self.ranges(range, frame, Some(function), &mut |metric, samples, windows| {
            row.reset(steps);
            let plain =
                samples.histograms.is_empty() && samples.starts_ms.is_empty() && windows.extension.is_none();
            match (rate_kind, windows.extension) {
                (Some(_), None) if plain => {
                    if let Some(kernel) = &mut rate_kernel {
                        kernel.run(samples, windows, &mut row);
                    }
                }
                (Some(kind), Some(extension)) => windows.each(samples, |step, window| {
                    let smoothed = extension == Extension::Smoothed;
                    row.set(step, extended::change(&call, kind, metric, window, smoothed)?);
                    Ok(())
                })?,
                _ => windows.each(samples, |step, window| {
                    unchecked += window.samples.times_ms.len() + window.samples.histograms.len();
                    if unchecked > SAMPLES_BETWEEN_CHECKS {
                        unchecked = 0;
                        self.check_alive()?;
                    }
                    let anchored;
                    let window = if windows.extension == Some(Extension::Anchored) {
                        match from_anchor(window) {
                            Some(window) => {
                                anchored = window;
                                &anchored
                            }
                            None => return Ok(()),
                        }
                    } else {
                        window
                    };
                    row.set(step, kernel(&call, metric, window, step)?);
                    Ok(())
                })?,
            }
            if row.is_empty() {
                return Ok(());
            }
            if looks_at_name && row.has_floats() {
                rate::note_if_not_counter(&call, metric);
                looks_at_name = !has_one_name;
            }
            if keeps_name {
                return sink(metric, &mut row);
            }
            let metric = metric.nameless();
            names.check(&metric)?;
            sink(&metric, &mut row)
        })
    }
}

fn seconds(time_ms: Option<i64>) -> Cell {
    time_ms.map_or(Cell::Absent, |ms| Cell::Float(ms as f64 / 1000.0))
}

/// The window of an `anchored` selector from its anchor on: the last sample at or before the window.
fn from_anchor<'s>(window: &Window<'s>) -> Option<Window<'s>> {
    let samples = &window.samples;
    let newest =
        samples.times_ms.last().copied().max(samples.histograms.last().map(|sample| sample.time_ms))?;
    if newest <= window.start_ms {
        return None;
    }
    let at_or_before = |time_ms: &i64| *time_ms <= window.start_ms;
    let floats = samples.times_ms.partition_point(at_or_before);
    let histograms = samples.histograms.partition_point(|sample| at_or_before(&sample.time_ms));
    let float_anchor = floats.checked_sub(1).and_then(|at| samples.times_ms.get(at)).copied();
    let histogram_anchor =
        histograms.checked_sub(1).and_then(|at| samples.histograms.get(at)).map(|sample| sample.time_ms);
    let from_float = floats - usize::from(float_anchor.is_some() && float_anchor > histogram_anchor);
    let from_histogram =
        histograms - usize::from(histogram_anchor.is_some() && histogram_anchor >= float_anchor);
    let samples = samples.slice(from_float..samples.times_ms.len(), from_histogram..samples.histograms.len());
    Some(Window { samples, ..*window })
}

fn last(samples: &Samples<'_>) -> Cell {
    match (samples.times_ms.last().zip(samples.values.last()), samples.histograms.last()) {
        (Some((time_ms, value)), histogram) if histogram.is_none_or(|sample| sample.time_ms < *time_ms) => {
            Cell::Float(*value)
        }
        (_, Some(sample)) => Cell::Histogram(Arc::clone(&sample.value)),
        _ => Cell::Absent,
    }
}

fn first(samples: &Samples<'_>) -> Cell {
    match (samples.times_ms.first().zip(samples.values.first()), samples.histograms.first()) {
        (Some((time_ms, value)), histogram) if histogram.is_none_or(|sample| *time_ms < sample.time_ms) => {
            Cell::Float(*value)
        }
        (_, Some(sample)) => Cell::Histogram(Arc::clone(&sample.value)),
        _ => Cell::Absent,
    }
}

/// How many pairs of neighbours `counts`, floats and histograms taken together by time.
fn transitions(samples: &Samples<'_>, counts: impl Fn(&Neighbour, &Neighbour) -> bool) -> Cell {
    let mut total = 0u64;
    let mut previous: Option<Neighbour> = None;
    let (mut float, mut histogram) = (0, 0);
    let start = |at: usize| samples.starts_ms.get(at).copied().unwrap_or(0);
    loop {
        let next_float = samples.times_ms.get(float).zip(samples.values.get(float));
        let next = match (next_float, samples.histograms.get(histogram)) {
            (Some((time_ms, value)), other) if other.is_none_or(|sample| *time_ms < sample.time_ms) => {
                float += 1;
                Neighbour { time_ms: *time_ms, start_ms: start(float - 1), cell: Cell::Float(*value) }
            }
            (_, Some(sample)) => {
                histogram += 1;
                let cell = Cell::Histogram(Arc::clone(&sample.value));
                Neighbour { time_ms: sample.time_ms, start_ms: sample.start_ms, cell }
            }
            _ => return Cell::Float(total as f64),
        };
        total += u64::from(previous.is_some_and(|previous| counts(&previous, &next)));
        previous = Some(next);
    }
}

struct Neighbour {
    time_ms: i64,
    start_ms: i64,
    cell: Cell,
}

fn is_reset(previous: &Neighbour, next: &Neighbour) -> bool {
    if rate::began_anew(previous.start_ms, previous.time_ms, next.start_ms, next.time_ms) {
        return true;
    }
    match (&previous.cell, &next.cell) {
        (Cell::Float(before), Cell::Float(after)) => after < before,
        (Cell::Histogram(before), Cell::Histogram(after)) => after.is_reset_after(before),
        _ => true,
    }
}

fn is_change(previous: &Neighbour, next: &Neighbour) -> bool {
    match (&previous.cell, &next.cell) {
        (Cell::Float(before), Cell::Float(after)) => before != after && !(before.is_nan() && after.is_nan()),
        (Cell::Histogram(before), Cell::Histogram(after)) => !after.same_as(before),
        _ => true,
    }
}

/// Whether the function knows what to do with windows that are extended.
fn check_extension(function: &str, range: &Expr) -> Result<()> {
    let ExprKind::Range { selector, .. } = &range.unwrap_parens().kind else { return Ok(()) };
    let (keyword, allowed): (_, &[&str]) = match selector.extension {
        None => return Ok(()),
        Some(Extension::Anchored) => ("anchored", &["changes", "delta", "increase", "rate", "resets"]),
        Some(Extension::Smoothed) => ("smoothed", &["delta", "increase", "rate"]),
    };
    if allowed.contains(&function) {
        return Ok(());
    }
    let allowed = allowed.join(", ");
    Err(EvalError::execution(format!(
        "{keyword} modifier can only be used with: {allowed} - not with {function}"
    )))
}

fn sum(call: &RangeCall<'_>, metric: &Metric, samples: &Samples<'_>, mean: bool) -> Cell {
    let name = call.name_of(metric);
    let Some((first, rest)) = samples.histograms.split_first() else {
        let Some((first, rest)) = samples.values.split_first() else { return Cell::Absent };
        return Cell::Float(if mean {
            let mut mean = Mean::new(*first);
            rest.iter().for_each(|value| mean.add(*value));
            mean.value()
        } else {
            let mut sum = KahanSum::new(*first);
            rest.iter().for_each(|value| sum.add(*value));
            sum.total()
        });
    };
    if !samples.values.is_empty() {
        call.note(&Note::MixedFloatsHistograms { metric: name });
        return Cell::Absent;
    }
    let hinted = |hint| samples.histograms.iter().any(|sample| sample.value.reset_hint == hint);
    if hinted(ResetHint::Reset) && hinted(ResetHint::NotReset) {
        call.note(&Note::ResetCollision { during: "aggregation" });
    }
    let mut total = HistogramSum::new(&first.value);
    for sample in rest {
        let added = if mean { total.add_to_mean(&sample.value) } else { total.add(&sample.value) };
        match added {
            Ok(Conflicts { bounds, .. }) => {
                if bounds {
                    call.note(&Note::MismatchedBounds { during: "aggregation" });
                }
            }
            Err(IncompatibleSchemas) => {
                call.note(&Note::MixedSchemas { metric: name });
                return Cell::Absent;
            }
        }
    }
    Cell::Histogram(Arc::new(if mean { total.mean() } else { total.sum() }))
}

/// The extreme value, or its time. NaN gives way to any number.
fn extreme(
    call: &RangeCall<'_>,
    metric: &Metric,
    window: &Window<'_>,
    wins: impl Fn(f64, f64) -> bool,
    time: bool,
) -> Cell {
    let samples = &window.samples;
    let Some(mut best) = samples.times_ms.first().copied().zip(samples.values.first().copied()) else {
        return Cell::Absent;
    };
    call.ignored_histograms(metric, samples);
    for (time_ms, value) in samples.times_ms.iter().zip(samples.values) {
        if wins(*value, best.1) || best.1.is_nan() {
            best = (*time_ms, *value);
        }
    }
    if time { seconds(Some(best.0)) } else { Cell::Float(best.1) }
}

fn variance(call: &RangeCall<'_>, metric: &Metric, samples: &Samples<'_>, finish: fn(f64) -> f64) -> Cell {
    if samples.values.is_empty() {
        return Cell::Absent;
    }
    call.ignored_histograms(metric, samples);
    let (mut count, mut mean, mut squares) = (0.0, KahanSum::default(), KahanSum::default());
    for value in samples.values {
        count += 1.0;
        let delta = value - (mean.sum + mean.lost);
        mean.add(delta / count);
        squares.add(delta * (value - (mean.sum + mean.lost)));
    }
    Cell::Float(finish((squares.sum + squares.lost) / count))
}

fn median_deviation(call: &RangeCall<'_>, metric: &Metric, samples: &Samples<'_>) -> Cell {
    if samples.values.is_empty() {
        return Cell::Absent;
    }
    call.ignored_histograms(metric, samples);
    if samples.values.iter().any(|value| value.is_nan()) {
        return Cell::Float(f64::NAN);
    }
    let mut values = samples.values.to_vec();
    let median = quantile(0.5, &mut values);
    values.iter_mut().for_each(|value| *value = (*value - median).abs());
    Cell::Float(quantile(0.5, &mut values))
}

fn quantile_over_time(
    call: &RangeCall<'_>,
    metric: &Metric,
    window: &Window<'_>,
    step: usize,
) -> Result<Cell> {
    let samples = &window.samples;
    if samples.values.is_empty() {
        return Ok(Cell::Absent);
    }
    let q = call.scalar(0, step);
    if !(0.0..=1.0).contains(&q) {
        call.evaluator.note(&Note::InvalidQuantile(q), call.first_at);
    }
    if !samples.histograms.is_empty() {
        let note = Note::HistogramIgnoredInRange { metric: call.name_of(metric) };
        call.evaluator.note(&note, call.first_at);
    }
    Ok(Cell::Float(quantile(q, &mut samples.values.to_vec())))
}

/// The area under the samples, by seconds: with the value at the left end of each stretch (strategy 0), at its right
/// end (1), or their mean. NaN is taken for zero.
fn integral(call: &RangeCall<'_>, metric: &Metric, window: &Window<'_>, step: usize) -> Result<Cell> {
    let samples = &window.samples;
    if samples.values.is_empty() {
        return Ok(Cell::Absent);
    }
    call.ignored_histograms(metric, samples);
    let strategy = if call.scalars.is_empty() { 2.0 } else { call.scalar(0, step) };
    if ![0.0, 1.0, 2.0].contains(&strategy) {
        call.evaluator.note(&Note::InvalidIntegralStrategy(strategy), call.second_at);
    }
    let known = |value: f64| if value.is_nan() { 0.0 } else { value };
    let mut area = KahanSum::default();
    let pairs = samples.times_ms.windows(2).zip(samples.values.windows(2));
    for (times_ms, values) in pairs {
        let ([from_ms, to_ms], [left, right]) = (times_ms, values) else { continue };
        let (left, right) = (known(*left), known(*right));
        let mut mean = KahanSum::default();
        if strategy == 0.0 {
            mean.add(left);
        } else if strategy == 1.0 {
            mean.add(right);
        } else if left != 0.0 || right != 0.0 {
            mean = KahanSum::new(left);
            mean.add(right);
            if mean.sum.is_infinite() && left.is_finite() && right.is_finite() {
                mean = KahanSum::new(left / 2.0);
                mean.add(right / 2.0);
            } else {
                mean = KahanSum { sum: mean.sum / 2.0, lost: mean.lost / 2.0 };
            }
        }
        if mean.sum != 0.0 || mean.lost != 0.0 {
            let seconds = to_ms.saturating_sub(*from_ms) as f64 / 1000.0;
            area.lost += mean.lost * seconds;
            area.add(mean.sum * seconds);
        }
    }
    Ok(Cell::Float(area.total()))
}

/// The line of least squares: its slope per second, and its value at `origin_ms`.
fn regression(
    call: &RangeCall<'_>,
    metric: &Metric,
    samples: &Samples<'_>,
    origin_ms: i64,
) -> Option<(f64, f64)> {
    let first = *samples.values.first()?;
    call.ignored_histograms(metric, samples);
    if samples.values.len() < 2 {
        return None;
    }
    if samples.values.iter().all(|value| *value == first) {
        return Some(if first.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, first) });
    }
    let count = samples.values.len() as f64;
    let [mut x_sum, mut y_sum, mut xy_sum, mut xx_sum] = [KahanSum::default(); 4];
    for (time_ms, y) in samples.times_ms.iter().zip(samples.values) {
        let x = time_ms.saturating_sub(origin_ms) as f64 / 1000.0;
        x_sum.add(x);
        y_sum.add(*y);
        xy_sum.add(x * y);
        xx_sum.add(x * x);
    }
    let [x, y, xy, xx] = [x_sum, y_sum, xy_sum, xx_sum].map(|sum| sum.sum + sum.lost);
    let slope = (xy - x * y / count) / (xx - x * x / count);
    Some((slope, y / count - slope * x / count))
}

fn double_exponential_smoothing(
    call: &RangeCall<'_>,
    metric: &Metric,
    window: &Window<'_>,
    step: usize,
) -> Result<Cell> {
    let (smoothing, trend_factor) = (call.scalar(0, step), call.scalar(1, step));
    for (factor, name, short) in [(smoothing, "smoothing", "sf"), (trend_factor, "trend", "tf")] {
        if factor <= 0.0 || factor >= 1.0 {
            let got = format_float(factor);
            let message = format!("invalid {name} factor. Expected: 0 < {short} < 1, got: {got}");
            return Err(EvalError::Execution(message));
        }
    }
    let samples = &window.samples;
    if !samples.values.is_empty() {
        call.ignored_histograms(metric, samples);
    }
    let [first, second, ..] = samples.values else { return Ok(Cell::Absent) };
    let (mut before, mut level, mut trend) = (0.0, *first, second - first);
    for (at, value) in samples.values.iter().enumerate().skip(1) {
        if at > 1 {
            trend = trend_factor * (level - before) + (1.0 - trend_factor) * trend;
        }
        before = level;
        level = smoothing * value + (1.0 - smoothing) * (level + trend);
    }
    Ok(Cell::Float(level))
}
