//! Quantiles and fractions of histograms, classic ones (a series per bucket) and native ones.

use pharos_model::Labels;

use super::frame::{Cell, Frame, Metric, Row, is_absent};
use super::{EvalError, Evaluator, Result, Sink};
use crate::annotations::{MonotonicityFix, Note};
use crate::ast::{Expr, Position};
use crate::text::{format_float, quote};

/// Cumulative count of observations up to a bound.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Bucket {
    upper_bound: f64,
    count: f64,
}

/// A classic histogram's buckets by rising bound, and a native histogram of the same labels.
struct Distribution {
    metric: Metric,
    bounds: Vec<(f64, Row)>,
    native: Option<Row>,
}

/// What there is of a distribution at one step.
enum AtStep<'d> {
    Nothing,
    Classic,
    Native(&'d crate::histogram::Histogram),
}

impl Distribution {
    /// Puts the classic buckets into `buckets`. Both kinds at once exclude each other.
    fn at(
        &self,
        step: usize,
        evaluator: &Evaluator<'_>,
        at: Position,
        buckets: &mut Vec<Bucket>,
    ) -> AtStep<'_> {
        buckets.clear();
        buckets.extend(self.bounds.iter().filter_map(|(upper_bound, row)| {
            let count = row.floats.get(step).copied().filter(|count| !is_absent(*count))?;
            Some(Bucket { upper_bound: *upper_bound, count })
        }));
        let native = self.native.as_ref().and_then(|row| row.histogram(step));
        match (native, buckets.is_empty()) {
            (Some(_), false) => {
                evaluator.note(&Note::MixedClassicNative { metric: evaluator.name_of(&self.metric) }, at);
                AtStep::Nothing
            }
            (Some(native), true) => AtStep::Native(native),
            (None, false) => AtStep::Classic,
            (None, true) => AtStep::Nothing,
        }
    }
}

impl Evaluator<'_> {
    pub(super) fn histogram_quantile(
        &self,
        q: &Expr,
        operand: &Expr,
        frame: Frame,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        let qs = self.scalar(q, frame)?;
        self.note_invalid_quantiles(&qs, q.at);
        let all = self.distributions(operand, frame)?;
        let mut out = Vec::with_capacity(all.len());
        for distribution in &all {
            self.check_alive()?;
            let row = self.quantile_row(distribution, &qs, frame, operand.at);
            out.push(super::Series { metric: distribution.metric.nameless(), row });
        }
        self.hand_on_distributions(out, sink)
    }

    pub(super) fn histogram_quantiles(
        &self,
        operand: &Expr,
        label: &Expr,
        qs: &[Expr],
        frame: Frame,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        let label = self.text(label)?;
        if !crate::text::is_valid_name(label) {
            return Err(EvalError::execution(format!("invalid label name {}", quote(label))));
        }
        let all = self.distributions(operand, frame)?;
        let mut out = Vec::new();
        for q in qs {
            let values = self.scalar(q, frame)?;
            self.note_invalid_quantiles(&values, q.at);
            for distribution in &all {
                self.check_alive()?;
                let row = self.quantile_row(distribution, &values, frame, operand.at);
                // The quantile is a label, hence a series of its own for every value that it takes.
                let mut steps_of: Vec<(f64, Row)> = Vec::new();
                for (step, q) in values.iter().enumerate() {
                    let at = match steps_of.iter().position(|(known, _)| known.to_bits() == q.to_bits()) {
                        Some(at) => at,
                        None => {
                            steps_of.push((*q, Row::absent(values.len())));
                            steps_of.len() - 1
                        }
                    };
                    if let Some((_, part)) = steps_of.get_mut(at) {
                        part.set(step, row.get(step));
                    }
                }
                for (q, row) in steps_of {
                    let mut labels = self.seen_labels(&distribution.metric.nameless());
                    labels.set(label, open_metrics_float(q));
                    out.push(super::Series {
                        metric: Metric { drop_name: true, ..Metric::new(labels) },
                        row,
                    });
                }
            }
        }
        self.hand_on_distributions(out, sink)
    }

    pub(super) fn histogram_fraction(
        &self,
        lower: &Expr,
        upper: &Expr,
        operand: &Expr,
        frame: Frame,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        let (lower, upper) = (self.scalar(lower, frame)?, self.scalar(upper, frame)?);
        let all = self.distributions(operand, frame)?;
        let mut out = Vec::with_capacity(all.len());
        for distribution in &all {
            self.check_alive()?;
            let (mut row, mut buckets) = (Row::absent(frame.steps()), Vec::new());
            for (step, (lower, upper)) in lower.iter().zip(&upper).enumerate() {
                let value = match distribution.at(step, self, operand.at, &mut buckets) {
                    AtStep::Nothing => continue,
                    AtStep::Classic => fraction(*lower, *upper, &mut buckets),
                    AtStep::Native(histogram) => {
                        let estimate = histogram.fraction(*lower, *upper);
                        if estimate.nan_observations {
                            let metric = self.name_of(&distribution.metric);
                            self.note(&Note::FractionNan { metric }, operand.at);
                        }
                        estimate.value
                    }
                };
                row.set(step, Cell::Float(value));
            }
            out.push(super::Series { metric: distribution.metric.nameless(), row });
        }
        self.hand_on_distributions(out, sink)
    }

    fn hand_on_distributions(&self, mut out: Vec<super::Series>, sink: &mut Sink<'_>) -> Result<()> {
        out.retain(|series| !series.row.is_empty());
        if self.drops_names_at_once() {
            self.hold(out.iter().map(|series| series.row.size()).sum())?;
            return self.merged(out, sink);
        }
        for super::Series { metric, mut row } in out {
            sink(&metric, &mut row)?;
        }
        Ok(())
    }

    fn note_invalid_quantiles(&self, qs: &[f64], at: Position) {
        for q in qs.iter().filter(|q| !(0.0..=1.0).contains(*q)) {
            self.note(&Note::InvalidQuantile(*q), at);
        }
    }

    fn quantile_row(
        &self,
        distribution: &Distribution,
        qs: &[f64],
        frame: Frame,
        operand_at: Position,
    ) -> Row {
        let metric = self.name_of(&distribution.metric);
        let (mut row, mut buckets) = (Row::absent(frame.steps()), Vec::new());
        for (step, q) in qs.iter().enumerate() {
            let value = match distribution.at(step, self, operand_at, &mut buckets) {
                AtStep::Nothing => continue,
                AtStep::Classic => {
                    let (value, fix) = quantile(*q, &mut buckets);
                    if let Some(fix) = fix {
                        let fix = MonotonicityFix { time_ms: frame.time_ms(step), ..fix };
                        let metric = if self.drops_names_at_once() { "" } else { metric };
                        self.note(&Note::ForcedMonotonicity { metric, fix }, operand_at);
                    }
                    value
                }
                AtStep::Native(histogram) => {
                    let estimate = histogram.quantile(*q);
                    self.note_nan_quantile(estimate, metric, operand_at);
                    estimate.value
                }
            };
            row.set(step, Cell::Float(value));
        }
        row
    }

    /// Collects the series of `operand` into histograms: classic ones by all labels but `le`.
    fn distributions(&self, operand: &Expr, frame: Frame) -> Result<Vec<Distribution>> {
        let mut index: std::collections::HashMap<Labels, usize> = std::collections::HashMap::new();
        let mut all: Vec<Distribution> = Vec::new();
        let mut held = 0;
        self.stream(operand, frame, &mut |metric, row| {
            held += row.size();
            self.hold(row.size())?;
            let row = std::mem::take(row);
            let mut labels = self.seen_labels(metric);
            let le = labels.get("le").to_owned();
            let mut place = |labels: Labels| -> usize {
                *index.entry(labels).or_insert_with_key(|labels| {
                    let metric = Metric { drop_name: metric.drop_name, ..Metric::new(labels.clone()) };
                    all.push(Distribution { metric, bounds: Vec::new(), native: None });
                    all.len() - 1
                })
            };
            let has_histograms = row.histograms.is_some();
            let has_floats = row.has_floats();
            let native_at = has_histograms.then(|| place(labels.clone()));
            let bound = crate::parser::parse_bound(&le);
            labels.remove("le");
            let classic_at = match bound {
                Some(bound) if has_floats => Some((place(labels), bound)),
                Some(_) => None,
                None => {
                    if has_floats {
                        let metric = match self.drops_names_at_once() {
                            true => "",
                            false => metric.labels.metric_name(),
                        };
                        self.note(&Note::BadBucketLabel { le: &le, metric }, operand.at);
                    }
                    None
                }
            };
            if let Some(distribution) = native_at.and_then(|at| all.get_mut(at)) {
                distribution.native = Some(Row { floats: Vec::new(), histograms: row.histograms });
            }
            if let Some((at, bound)) = classic_at
                && let Some(distribution) = all.get_mut(at)
            {
                distribution.bounds.push((bound, Row { floats: row.floats, histograms: None }));
            }
            Ok(())
        })?;
        for distribution in &mut all {
            distribution.bounds.sort_by(|a, b| a.0.total_cmp(&b.0));
        }
        self.let_go(held);
        Ok(all)
    }
}

/// A label value for a quantile: `0.5`, `1.0`.
fn open_metrics_float(value: f64) -> String {
    let text = format_float(value);
    let whole = text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    if whole { format!("{text}.0") } else { text }
}

/// Joins buckets of one bound, takes rounding noise out, and makes counts rise.
fn prepare(buckets: &mut Vec<Bucket>) -> Option<MonotonicityFix> {
    buckets.dedup_by(|later, earlier| {
        let same = later.upper_bound == earlier.upper_bound;
        if same {
            earlier.count += later.count;
        }
        same
    });
    let mut fix: Option<MonotonicityFix> = None;
    let mut previous: Option<f64> = None;
    for bucket in buckets {
        if let Some(previous) = previous {
            let drop = previous - bucket.count;
            if drop != 0.0 && drop.abs() / bucket.count.abs() <= 1e-12 {
                bucket.count = previous;
            } else if drop > 0.0 {
                let fix = fix.get_or_insert(MonotonicityFix {
                    lowest: bucket.upper_bound,
                    highest: bucket.upper_bound,
                    largest_drop: 0.0,
                    time_ms: 0,
                });
                fix.highest = bucket.upper_bound;
                fix.largest_drop = fix.largest_drop.max(drop);
                bucket.count = previous;
            }
        }
        previous = Some(bucket.count);
    }
    fix
}

/// The quantile of a classic histogram, interpolated linearly inside a bucket. Above the highest finite bound
/// it is that bound; below the lowest one it begins at 0, if that bound is positive.
fn quantile(q: f64, buckets: &mut Vec<Bucket>) -> (f64, Option<MonotonicityFix>) {
    if q.is_nan() {
        return (f64::NAN, None);
    }
    if q < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if q > 1.0 {
        return (f64::INFINITY, None);
    }
    if buckets.last().is_none_or(|bucket| bucket.upper_bound != f64::INFINITY) {
        return (f64::NAN, None);
    }
    let fix = prepare(buckets);
    let [finite @ .., highest] = buckets.as_slice() else { return (f64::NAN, None) };
    let Some(last_finite) = finite.last() else { return (f64::NAN, None) };
    if highest.count == 0.0 || highest.count.is_nan() {
        return (f64::NAN, None);
    }
    let rank = q * highest.count;
    let at = finite.partition_point(|bucket| bucket.count < rank);
    let Some(bucket) = finite.get(at) else { return (last_finite.upper_bound, fix) };
    let below = at.checked_sub(1).and_then(|at| finite.get(at));
    let value = match below {
        None if bucket.upper_bound <= 0.0 => bucket.upper_bound,
        None => bucket.upper_bound * (rank / bucket.count),
        Some(below) => {
            let width = bucket.upper_bound - below.upper_bound;
            below.upper_bound + width * ((rank - below.count) / (bucket.count - below.count))
        }
    };
    (value, fix)
}

/// The fraction of a classic histogram's observations between two values.
fn fraction(lower: f64, upper: f64, buckets: &mut Vec<Bucket>) -> f64 {
    if buckets.last().is_none_or(|bucket| bucket.upper_bound != f64::INFINITY) {
        return f64::NAN;
    }
    prepare(buckets);
    let count = buckets.last().map_or(0.0, |bucket| bucket.count);
    if count == 0.0 || lower.is_nan() || upper.is_nan() || count.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    (rank_of(upper, buckets, count) - rank_of(lower, buckets, count)) / count
}

/// How many observations lie below a value.
fn rank_of(value: f64, buckets: &[Bucket], count: f64) -> f64 {
    let mut below = 0.0;
    let mut lower_bound = match buckets.first() {
        Some(first) if first.upper_bound > 0.0 => 0.0,
        _ => f64::NEG_INFINITY,
    };
    for bucket in buckets {
        if value <= lower_bound {
            return below;
        }
        if value < bucket.upper_bound {
            // What lies in an open bucket is taken to lie at its far end.
            if lower_bound == f64::NEG_INFINITY {
                return bucket.count;
            }
            if bucket.upper_bound == f64::INFINITY {
                return below;
            }
            let share = (value - lower_bound) / (bucket.upper_bound - lower_bound);
            return below + (bucket.count - below) * share;
        }
        below = bucket.count;
        lower_bound = bucket.upper_bound;
    }
    count
}
