//! Aggregations that give one value per group: each row is folded into its group as it comes.

use std::collections::HashMap;
use std::sync::Arc;

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
        let mut groups = self.groups(aggregate);
        let mut folds: Vec<Fold> = Vec::new();
        let operand_at = aggregate.operand.at;
        self.stream(&aggregate.operand, frame, &mut |metric, row| {
            let group = groups.group(metric);
            if folds.len() <= group {
                // An accumulator is as large as two samples.
                self.hold(steps.saturating_mul(2))?;
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
        let mut row = Row::default();
        for (group, fold) in folds.into_iter().enumerate() {
            self.held.set(self.held.get().saturating_sub(steps.saturating_mul(2)));
            row.reset(steps);
            self.finish_fold(&fold, &mut row, operand_at);
            if !row.is_empty() {
                let metric = Metric { drop_name: fold.drop_name, ..Metric::new(groups.labels(group)) };
                sink(&metric, &mut row)?;
            }
        }
        Ok(())
    }

    fn add_histograms(&self, fold: &mut Fold, metric: &Metric, row: &Row, at: Position) {
        for step in 0..row.steps() {
            let Some(histogram) = row.histogram(step) else { continue };
            let Some(slot) = fold.floats.get_mut(step) else { continue };
            match fold.op {
                AggregateOp::Count | AggregateOp::Group => slot.count += 1.0,
                AggregateOp::Sum | AggregateOp::Avg => {
                    let steps = fold.floats.len();
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
                            self.note(&Note::MixedSchemas { metric: metric.labels.metric_name() }, at);
                        }
                    }
                }
                op => self.note(&Note::HistogramIgnoredInAggregation { op: op.name() }, at),
            }
        }
    }

    fn finish_fold(&self, fold: &Fold, row: &mut Row, at: Position) {
        for (step, accumulator) in fold.floats.iter().enumerate() {
            let histogram =
                fold.histograms.as_ref().and_then(|all| all.get(step)).filter(|part| part.total.is_some());
            let float = (accumulator.count != 0.0).then(|| accumulator.finish(fold.op));
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
            self.held.set(self.held.get().saturating_sub(steps));
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

/// A group on its way.
struct Fold {
    op: AggregateOp,
    floats: Vec<Accumulator>,
    histograms: Option<Vec<HistogramFold>>,
    drop_name: bool,
}

/// What is known of a group at one step. What `a` and `b` are depends on the operation.
#[derive(Debug, Clone, Copy, Default)]
struct Accumulator {
    a: f64,
    b: f64,
    count: f64,
}

#[derive(Debug, Clone, Default)]
struct HistogramFold {
    total: Option<HistogramSum>,
    incompatible: bool,
    reset: bool,
    not_reset: bool,
}

impl Fold {
    fn new(op: AggregateOp, steps: usize) -> Fold {
        Fold { op, floats: vec![Accumulator::default(); steps], histograms: None, drop_name: false }
    }

    /// The operation is looked at once per row, not once per value.
    fn add_floats(&mut self, values: &[f64]) {
        match self.op {
            AggregateOp::Sum => self.each(values, |slot, value| {
                let mut sum = KahanSum { sum: slot.a, lost: slot.b };
                sum.add(value);
                (slot.a, slot.b) = (sum.sum, sum.lost);
                slot.count += 1.0;
            }),
            AggregateOp::Avg => self.each(values, |slot, value| {
                let mean = if slot.count == 0.0 {
                    Mean::new(value)
                } else {
                    let mut mean = Mean::from_parts(slot.a, slot.b, slot.count);
                    mean.add(value);
                    mean
                };
                (slot.a, slot.b, slot.count) = mean.into_parts();
            }),
            AggregateOp::Min => self.each(values, |slot, value| {
                if slot.count == 0.0 || slot.a > value || slot.a.is_nan() {
                    slot.a = value;
                }
                slot.count += 1.0;
            }),
            AggregateOp::Max => self.each(values, |slot, value| {
                if slot.count == 0.0 || slot.a < value || slot.a.is_nan() {
                    slot.a = value;
                }
                slot.count += 1.0;
            }),
            AggregateOp::Stddev | AggregateOp::Stdvar => self.each(values, |slot, value| {
                // Welford: `a` is the mean, `b` the sum of squared deviations.
                slot.count += 1.0;
                if slot.count == 1.0 {
                    slot.a = value;
                    slot.b = if value.is_finite() { 0.0 } else { f64::NAN };
                    return;
                }
                let delta = value - slot.a;
                slot.a += delta / slot.count;
                slot.b += delta * (value - slot.a);
            }),
            _ => self.each(values, |slot, _| slot.count += 1.0),
        }
    }

    #[inline]
    fn each(&mut self, values: &[f64], mut add: impl FnMut(&mut Accumulator, f64)) {
        for (slot, value) in self.floats.iter_mut().zip(values) {
            if !is_absent(*value) {
                add(slot, *value);
            }
        }
    }
}

impl Accumulator {
    fn finish(&self, op: AggregateOp) -> f64 {
        match op {
            AggregateOp::Sum => KahanSum { sum: self.a, lost: self.b }.total(),
            AggregateOp::Avg => Mean::from_parts(self.a, self.b, self.count).value(),
            AggregateOp::Count => self.count,
            AggregateOp::Group => 1.0,
            AggregateOp::Stdvar => self.b / self.count,
            AggregateOp::Stddev => (self.b / self.count).sqrt(),
            _ => self.a,
        }
    }
}
