//! Aggregations that give one value per group: each row is folded into its group as it comes.

use std::collections::HashMap;
use std::sync::Arc;

use pharos_model::stale_nan;

use super::frame::{Cell, Frame, Metric, Row, is_absent};
use super::grouping::{Groups, LabelChoice};
use super::{EvalError, Evaluator, Result, Sink};
use crate::annotations::Note;
use crate::ast::{Aggregate, AggregateOp, Expr, Position};
use crate::float::{KahanSum, Mean, quantile};
use crate::histogram::{HistogramSum, IncompatibleSchemas, ResetHint};
use crate::text::{format_float, is_valid_name, quote};

impl Evaluator<'_> {
    pub(super) fn aggregate(
        &self,
        aggregate: &Aggregate,
        at: Position,
        frame: Frame,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        match aggregate.op {
            AggregateOp::Topk | AggregateOp::Bottomk | AggregateOp::Limitk | AggregateOp::LimitRatio => {
                self.pick(aggregate, at, frame, sink)
            }
            AggregateOp::CountValues => self.count_values(aggregate, frame, sink),
            AggregateOp::Quantile => self.quantile_of_groups(aggregate, frame, sink),
            _ => self.fold(aggregate, frame, sink),
        }
    }

    pub(super) fn groups(&self, aggregate: &Aggregate) -> Groups {
        Groups::new(LabelChoice::new(&aggregate.grouping, !aggregate.without, self))
    }

    pub(super) fn param(&self, aggregate: &Aggregate, frame: Frame) -> Result<(Vec<f64>, Position)> {
        let param: &Expr = aggregate
            .param
            .as_deref()
            .ok_or_else(|| EvalError::execution("missing aggregation parameter"))?;
        Ok((self.scalar(param, frame)?, param.at))
    }

    fn fold(&self, aggregate: &Aggregate, frame: Frame, sink: &mut Sink<'_>) -> Result<()> {
        let steps = frame.steps();
        let parts = self.parts_of(aggregate, frame)?;
        let Folded { groups, folds } = match parts.is_empty() {
            true => self.folded(aggregate, frame)?,
            false => self.folded_in_parts(aggregate, frame, parts)?,
        };
        let operand_at = aggregate.operand.at;
        let mut row = Row::default();
        for (group, fold) in folds.into_iter().enumerate() {
            self.let_go(Fold::size(frame));
            row.reset(steps);
            self.finish_fold(&fold, &mut row, operand_at);
            if !row.is_empty() {
                let metric = Metric { drop_name: fold.drop_name, ..Metric::new(groups.labels(group)) };
                sink(&metric, &mut row)?;
            }
        }
        Ok(())
    }

    /// All groups of an aggregation.
    pub(super) fn folded(&self, aggregate: &Aggregate, frame: Frame) -> Result<Folded> {
        let steps = frame.steps();
        let mut groups = self.groups(aggregate);
        let mut folds: Vec<Fold> = Vec::new();
        let operand_at = aggregate.operand.at;
        self.stream(&aggregate.operand, frame, &mut |metric, row| {
            let group = groups.group(metric);
            if folds.len() <= group {
                self.hold(Fold::size(frame))?;
                folds.push(Fold::new(aggregate.op, steps));
            }
            if let Some(fold) = folds.get_mut(group) {
                fold.drop_name |= metric.drop_name;
                fold.add_floats(&row.floats);
                if row.histograms.is_some() {
                    self.add_histograms(fold, metric, row, operand_at);
                }
            }
            Ok(())
        })?;
        Ok(Folded { groups, folds })
    }

    fn add_histograms(&self, fold: &mut Fold, metric: &Metric, row: &Row, at: Position) {
        for step in 0..row.steps() {
            let Some(histogram) = row.histogram(step) else { continue };
            match fold.op {
                AggregateOp::Count | AggregateOp::Group => {
                    if let Some(count) = fold.slots_mut().a.get_mut(step) {
                        *count += 1.0;
                    }
                }
                AggregateOp::Sum | AggregateOp::Avg => {
                    let steps = fold.steps;
                    let all = fold.histograms.get_or_insert_with(|| vec![HistogramFold::default(); steps]);
                    let Some(part) = all.get_mut(step) else { continue };
                    part.reset |= histogram.reset_hint == ResetHint::Reset;
                    part.not_reset |= histogram.reset_hint == ResetHint::NotReset;
                    if part.incompatible {
                        continue;
                    }
                    let Some(total) = &mut part.total else {
                        part.total = Some(HistogramSum::new(histogram));
                        continue;
                    };
                    let added = match fold.op {
                        AggregateOp::Avg => total.add_to_mean(histogram),
                        _ => total.add(histogram),
                    };
                    match added {
                        Ok(conflicts) if conflicts.bounds => {
                            self.note(&Note::MismatchedBounds { during: "aggregation" }, at);
                        }
                        Ok(_) => {}
                        Err(IncompatibleSchemas) => {
                            part.incompatible = true;
                            self.note(&Note::MixedSchemas { metric: self.name_of(metric) }, at);
                        }
                    }
                }
                op => self.note(&Note::HistogramIgnoredInAggregation { op: op.name() }, at),
            }
        }
    }

    fn finish_fold(&self, fold: &Fold, row: &mut Row, at: Position) {
        for step in 0..fold.steps {
            let histogram =
                fold.histograms.as_ref().and_then(|all| all.get(step)).filter(|part| part.total.is_some());
            let float = fold.float(step);
            match (float, histogram) {
                (Some(_), Some(_)) => self.note(&Note::MixedFloatsHistogramsInAggregation, at),
                (Some(value), None) => row.set(step, Cell::Float(value)),
                (None, Some(part)) => {
                    let Some(total) = part.total.clone().filter(|_| !part.incompatible) else { continue };
                    if part.reset && part.not_reset {
                        self.note(&Note::ResetCollision { during: "aggregation" }, at);
                    }
                    let value = if fold.op == AggregateOp::Avg { total.mean() } else { total.sum() };
                    row.set(step, Cell::Histogram(Arc::new(value)));
                }
                (None, None) => {}
            }
        }
    }

    fn quantile_of_groups(&self, aggregate: &Aggregate, frame: Frame, sink: &mut Sink<'_>) -> Result<()> {
        let steps = frame.steps();
        let (qs, param_at) = self.param(aggregate, frame)?;
        for q in [
            qs.iter().copied().find(|q| q.is_nan()),
            max(&qs).filter(|q| *q > 1.0),
            min(&qs).filter(|q| *q < 0.0),
        ]
        .into_iter()
        .flatten()
        {
            self.note(&Note::InvalidQuantile(q), param_at);
        }
        let mut groups = self.groups(aggregate);
        let mut members: Vec<(bool, Vec<Vec<f64>>)> = Vec::new();
        self.stream(&aggregate.operand, frame, &mut |metric, row| {
            let group = groups.group(metric);
            self.hold(row.size())?;
            if row.histograms.iter().flatten().any(Option::is_some) {
                self.note(&Note::HistogramIgnoredInAggregation { op: "quantile" }, aggregate.operand.at);
            }
            if members.len() <= group {
                members.push((false, vec![Vec::new(); steps]));
            }
            if let Some((drop_name, values)) = members.get_mut(group) {
                *drop_name |= metric.drop_name;
                for (values, value) in values.iter_mut().zip(&row.floats) {
                    if !is_absent(*value) {
                        values.push(*value);
                    }
                }
            }
            Ok(())
        })?;
        let mut row = Row::default();
        for (group, (drop_name, mut values)) in members.into_iter().enumerate() {
            row.reset(steps);
            for (step, values) in values.iter_mut().enumerate() {
                if !values.is_empty() {
                    let q = qs.get(step).copied().unwrap_or(f64::NAN);
                    row.set(step, Cell::Float(quantile(q, values)));
                }
            }
            if !row.is_empty() {
                sink(&Metric { drop_name, ..Metric::new(groups.labels(group)) }, &mut row)?;
            }
        }
        Ok(())
    }

    /// `count_values("label", v)`: a series per group and value.
    fn count_values(&self, aggregate: &Aggregate, frame: Frame, sink: &mut Sink<'_>) -> Result<()> {
        let param = aggregate.param.as_deref().ok_or_else(|| EvalError::execution("missing label name"))?;
        let label = self.text(param)?;
        if !is_valid_name(label) {
            return Err(EvalError::execution(format!("invalid label name {}", quote(label))));
        }
        let steps = frame.steps();
        let choice = LabelChoice::new(&aggregate.grouping, !aggregate.without, self);
        let mut index: HashMap<pharos_model::Labels, usize> = HashMap::new();
        let mut counted: Vec<(Metric, Row)> = Vec::new();
        self.stream(&aggregate.operand, frame, &mut |metric, row| {
            let labels = choice.labels(metric);
            for step in 0..steps {
                let value = match row.get(step) {
                    Cell::Absent => continue,
                    Cell::Float(value) => format_float(value),
                    Cell::Histogram(histogram) => histogram.to_string(),
                };
                let mut labels = labels.clone();
                labels.set(label, value);
                let at = match index.entry(labels) {
                    std::collections::hash_map::Entry::Occupied(entry) => *entry.get(),
                    std::collections::hash_map::Entry::Vacant(entry) => {
                        self.hold(steps)?;
                        counted.push((Metric::new(entry.key().clone()), Row::absent(steps)));
                        *entry.insert(counted.len() - 1)
                    }
                };
                if let Some(slot) = counted.get_mut(at).and_then(|(_, row)| row.floats.get_mut(step)) {
                    *slot = if is_absent(*slot) { 1.0 } else { *slot + 1.0 };
                }
            }
            Ok(())
        })?;
        for (metric, mut row) in counted {
            self.let_go(steps);
            sink(&metric, &mut row)?;
        }
        Ok(())
    }
}

pub(super) fn max(values: &[f64]) -> Option<f64> {
    values.iter().copied().filter(|value| !value.is_nan()).reduce(f64::max)
}

pub(super) fn min(values: &[f64]) -> Option<f64> {
    values.iter().copied().filter(|value| !value.is_nan()).reduce(f64::min)
}

/// Operations of which two folds of a group make one. A mean is not among them: how it is computed depends on what came
/// before.
pub(super) const MERGED: [AggregateOp; 5] =
    [AggregateOp::Sum, AggregateOp::Count, AggregateOp::Group, AggregateOp::Min, AggregateOp::Max];

/// Groups on their way, in the order in which they were first seen.
pub(super) struct Folded {
    pub(super) groups: Groups,
    pub(super) folds: Vec<Fold>,
}

/// A group on its way, step by step.
pub(super) struct Fold {
    op: AggregateOp,
    steps: usize,
    /// For each step what [`Slots`] tells of it, in one allocation: there may be many groups, of few steps each.
    slots: Vec<f64>,
    histograms: Option<Vec<HistogramFold>>,
    drop_name: bool,
}

/// What a fold knows of its steps. What `a` and `b` are depends on the operation; some have only `a`, or no counts.
struct Slots<S> {
    /// The number of values, if that is all that is wanted; else absent as long as there was none.
    a: S,
    b: S,
    /// Values so far. Of a mean that goes step by step since its sum would overflow, they are negative.
    counts: S,
}

#[derive(Debug, Clone, Default)]
struct HistogramFold {
    total: Option<HistogramSum>,
    incompatible: bool,
    reset: bool,
    not_reset: bool,
}

fn is_count(op: AggregateOp) -> bool {
    matches!(op, AggregateOp::Count | AggregateOp::Group)
}

fn or_zero(value: f64) -> f64 {
    if is_absent(value) { 0.0 } else { value }
}

impl Fold {
    /// In samples: what is known of a group at a step is no larger than two.
    pub(super) fn size(frame: Frame) -> usize {
        frame.steps().saturating_mul(2)
    }

    fn new(op: AggregateOp, steps: usize) -> Fold {
        let numbers = match op {
            AggregateOp::Count | AggregateOp::Group | AggregateOp::Min | AggregateOp::Max => 1,
            AggregateOp::Sum => 2,
            _ => 3,
        };
        let mut slots = vec![0.0; numbers * steps];
        if !is_count(op) {
            slots.iter_mut().take(steps).for_each(|slot| *slot = stale_nan());
        }
        Fold { op, steps, slots, histograms: None, drop_name: false }
    }

    fn slots(&self) -> Slots<&[f64]> {
        let (a, rest) = self.slots.split_at(self.steps);
        let (b, counts) = rest.split_at(self.steps.min(rest.len()));
        Slots { a, b, counts }
    }

    fn slots_mut(&mut self) -> Slots<&mut [f64]> {
        let (a, rest) = self.slots.split_at_mut(self.steps);
        let (b, counts) = rest.split_at_mut(self.steps.min(rest.len()));
        Slots { a, b, counts }
    }

    /// The operation is looked at once per row, not once per value.
    fn add_floats(&mut self, values: &[f64]) {
        match self.op {
            AggregateOp::Sum => self.add_to_sums(values),
            AggregateOp::Avg => self.each(values, |a, b, count, value| {
                let mean = if *count == 0.0 {
                    Mean::new(value)
                } else {
                    let mut mean = Mean::from_parts(*a, *b, *count);
                    mean.add(value);
                    mean
                };
                (*a, *b, *count) = mean.into_parts();
            }),
            AggregateOp::Min => self.each_extreme(values, |known, value| known > value),
            AggregateOp::Max => self.each_extreme(values, |known, value| known < value),
            AggregateOp::Stddev | AggregateOp::Stdvar => {
                self.each(values, |mean, deviations, count, value| {
                    // Welford: `b` is the sum of squared deviations from the mean.
                    *count += 1.0;
                    if *count == 1.0 {
                        *mean = value;
                        *deviations = if value.is_finite() { 0.0 } else { f64::NAN };
                        return;
                    }
                    let delta = value - *mean;
                    *mean += delta / *count;
                    *deviations += delta * (value - *mean);
                })
            }
            _ => {
                for (count, value) in self.slots_mut().a.iter_mut().zip(values) {
                    *count += f64::from(u8::from(!is_absent(*value)));
                }
            }
        }
    }

    /// [`KahanSum::add`] for a whole row, without a branch: the part that a sum loses comes out the same whichever
    /// of the two is larger, and of an infinite sum nobody looks at it.
    fn add_to_sums(&mut self, values: &[f64]) {
        let Slots { a, b, .. } = self.slots_mut();
        for ((sum, lost), value) in a.iter_mut().zip(b).zip(values) {
            let (before, is_present, value) = (or_zero(*sum), !is_absent(*value), or_zero(*value));
            let total = before + value;
            let added = total - before;
            *lost += (before - (total - added)) + (value - added);
            *sum = if is_present { total } else { *sum };
        }
    }

    #[inline]
    fn each(&mut self, values: &[f64], mut add: impl FnMut(&mut f64, &mut f64, &mut f64, f64)) {
        let Slots { a, b, counts } = self.slots_mut();
        for (((a, b), count), value) in a.iter_mut().zip(b).zip(counts).zip(values) {
            if !is_absent(*value) {
                add(a, b, count, *value);
            }
        }
    }

    #[inline]
    fn each_extreme(&mut self, values: &[f64], gives_way: impl Fn(f64, f64) -> bool) {
        for (known, value) in self.slots_mut().a.iter_mut().zip(values) {
            // What is absent is not a number either.
            if !is_absent(*value) && (gives_way(*known, *value) || known.is_nan()) {
                *known = *value;
            }
        }
    }

    /// Takes in what another fold knows of the same group. The operation is one of [`MERGED`].
    pub(super) fn merge(&mut self, other: &Fold) {
        self.drop_name |= other.drop_name;
        let of_other = other.slots();
        match self.op {
            AggregateOp::Sum => {
                let Slots { a, b, .. } = self.slots_mut();
                let others = of_other.a.iter().zip(of_other.b);
                for ((sum, lost), (other_sum, other_lost)) in a.iter_mut().zip(b).zip(others) {
                    if is_absent(*other_sum) {
                        continue;
                    }
                    let mut joined = KahanSum { sum: or_zero(*sum), lost: *lost + *other_lost };
                    joined.add(*other_sum);
                    (*sum, *lost) = (joined.sum, joined.lost);
                }
            }
            AggregateOp::Count | AggregateOp::Group => {
                let counts = self.slots_mut().a.iter_mut();
                counts.zip(of_other.a).for_each(|(count, others)| *count += others);
            }
            // An extreme of extremes.
            _ => self.add_floats(of_other.a),
        }
    }

    /// The value at a step, if there was any.
    fn float(&self, step: usize) -> Option<f64> {
        let Slots { a, b, counts } = self.slots();
        let part = |parts: &[f64]| parts.get(step).copied().unwrap_or_default();
        let (a, b, count) = (part(a), part(b), part(counts));
        let is_there = if is_count(self.op) { a != 0.0 } else { !is_absent(a) };
        is_there.then(|| match self.op {
            AggregateOp::Sum => KahanSum { sum: a, lost: b }.total(),
            AggregateOp::Avg => Mean::from_parts(a, b, count).value(),
            AggregateOp::Group => 1.0,
            AggregateOp::Stdvar => b / count,
            AggregateOp::Stddev => (b / count).sqrt(),
            _ => a,
        })
    }
}
