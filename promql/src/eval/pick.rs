//! Aggregations that pick series of each group: `topk`, `bottomk`, `limitk`, `limit_ratio`.

use std::cmp::Ordering;

use pharos_model::Labels;
use xxhash_rust::xxh64::Xxh64;

use super::aggregate::{max, min};
use super::frame::{Cell, Frame, Row, Series};
use super::{EvalError, Evaluator, Result, Sink};
use crate::annotations::Note;
use crate::ast::{Aggregate, AggregateOp, Position};
use crate::text::format_general;

impl Evaluator<'_> {
    pub(super) fn pick(
        &self,
        aggregate: &Aggregate,
        at: Position,
        frame: Frame,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        let (params, param_at) = self.param(aggregate, frame)?;
        if !self.check_params(aggregate.op, &params, param_at)? {
            // Nothing can be picked; what the operand does wrong is still said.
            return self.stream(&aggregate.operand, frame, &mut |_, _| Ok(()));
        }
        let all = self.vector(&aggregate.operand, frame)?;
        let mut groups = self.groups(aggregate);
        let mut members: Vec<Vec<usize>> = Vec::new();
        for (index, series) in all.iter().enumerate() {
            let group = groups.group(&series.metric);
            if members.len() <= group {
                members.push(Vec::new());
            }
            if let Some(members) = members.get_mut(group) {
                members.push(index);
            }
        }
        let steps = frame.steps();
        let mut picked: Vec<Row> = vec![Row::default(); all.len()];
        let mut order: Vec<usize> = Vec::new();
        for step in 0..steps {
            self.check_alive()?;
            let param = params.get(step).copied().unwrap_or(f64::NAN);
            for members in &members {
                for index in self.pick_at(aggregate.op, param, members, &all, step, at) {
                    let (Some(series), Some(row)) = (all.get(index), picked.get_mut(index)) else { continue };
                    if row.steps() == 0 {
                        row.reset(steps);
                        order.push(index);
                    }
                    row.set(step, series.row.get(step));
                }
            }
        }
        self.release(&all);
        for index in order {
            if let (Some(series), Some(row)) = (all.get(index), picked.get_mut(index)) {
                sink(&series.metric, row)?;
            }
        }
        Ok(())
    }

    /// Whether anything can be picked at all.
    fn check_params(&self, op: AggregateOp, params: &[f64], at: Position) -> Result<bool> {
        let (highest, lowest) = (max(params), min(params));
        let has_nan = params.iter().any(|param| param.is_nan());
        if op == AggregateOp::LimitRatio {
            if has_nan {
                return Err(EvalError::execution("Ratio value is NaN"));
            }
            for (ratio, used) in [(highest, 1.0), (lowest, -1.0)] {
                if let Some(ratio) = ratio.filter(|ratio| ratio.abs() > 1.0 && ratio.signum() == used) {
                    self.note(&Note::InvalidRatio { ratio, used }, at);
                }
            }
            return Ok(params.iter().any(|ratio| *ratio != 0.0));
        }
        if has_nan {
            return Err(EvalError::execution("Parameter value is NaN"));
        }
        if highest.is_some_and(|k| k < 1.0) {
            return Ok(false);
        }
        if let Some(k) = lowest.filter(|k| *k <= i64::MIN as f64) {
            return Err(EvalError::execution(format!("Scalar value {} underflows int64", format_general(k))));
        }
        if let Some(k) = highest.filter(|k| *k >= i64::MAX as f64) {
            return Err(EvalError::execution(format!("Scalar value {} overflows int64", format_general(k))));
        }
        Ok(true)
    }

    /// The members that are picked at a step, in the order in which an instant query shows them.
    fn pick_at(
        &self,
        op: AggregateOp,
        param: f64,
        members: &[usize],
        all: &[Series],
        step: usize,
        at: Position,
    ) -> Vec<usize> {
        let present = |index: &&usize| all.get(**index).is_some_and(|series| series.row.is_present(step));
        let present = members.iter().filter(present).copied();
        match op {
            AggregateOp::LimitRatio => present
                .filter(|index| {
                    let labels = all.get(*index).map(|series| self.seen_labels(&series.metric));
                    labels.is_some_and(|labels| in_sample(&labels, param))
                })
                .collect(),
            AggregateOp::Limitk => present.take(count(param)).collect(),
            _ => {
                let mut values: Vec<(usize, f64)> = Vec::new();
                for index in present {
                    match all.get(index).map(|series| series.row.get(step)) {
                        Some(Cell::Float(value)) => values.push((index, value)),
                        Some(Cell::Histogram(_)) => {
                            self.note(&Note::HistogramIgnoredInAggregation { op: op.name() }, at);
                        }
                        _ => {}
                    }
                }
                let order = |a: &(usize, f64), b: &(usize, f64)| {
                    let by_value = match (a.1.is_nan(), b.1.is_nan()) {
                        (false, false) if op == AggregateOp::Topk => {
                            b.1.partial_cmp(&a.1).unwrap_or(Ordering::Equal)
                        }
                        (false, false) => a.1.partial_cmp(&b.1).unwrap_or(Ordering::Equal),
                        // NaN is picked last.
                        (a, b) => a.cmp(&b),
                    };
                    by_value.then(a.0.cmp(&b.0))
                };
                let wanted = count(param);
                if wanted == 0 {
                    return Vec::new();
                }
                if wanted < values.len() {
                    values.select_nth_unstable_by(wanted, order);
                    values.truncate(wanted);
                }
                values.sort_unstable_by(order);
                values.into_iter().map(|(index, _)| index).collect()
            }
        }
    }
}

fn count(param: f64) -> usize {
    if param >= 1.0 { param as usize } else { 0 }
}

/// Whether a series is in a sample of the given ratio. A series' place depends on its labels alone, so that
/// ratios `r` and `-(1 - r)` complement each other.
fn in_sample(labels: &Labels, ratio: f64) -> bool {
    let place = place(labels);
    if ratio >= 0.0 { place < ratio.min(1.0) } else { place >= 1.0 + ratio.max(-1.0) }
}

/// A series' place in `[0, 1]`: the hash of its labels that Prometheus takes too (xxHash64 of each name and
/// value behind its length: `model/labels/labels_stringlabels.go`), so that both pick the same series.
fn place(labels: &Labels) -> f64 {
    let mut hasher = Xxh64::new(0);
    for text in labels.iter().flat_map(|(name, value)| [name, value]) {
        let length = text.len().to_le_bytes();
        match text.len() {
            0..255 => hasher.update(&length[..1]),
            _ => {
                hasher.update(&[0xff]);
                hasher.update(&length[..3]);
            }
        }
        hasher.update(text.as_bytes());
    }
    hasher.digest() as f64 / u64::MAX as f64
}
