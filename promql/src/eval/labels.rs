//! Functions of labels and of order, and what happens when series come to have the same labels.

use std::cmp::Ordering;
use std::collections::HashSet;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use pharos_model::{Labels, METRIC_NAME, MatchOp, Projection, anchored_regex};

use super::frame::{Cell, Frame, Metric, Row, Series, is_metadata};
use super::{EvalError, Evaluator, Result, Sink};
use crate::annotations::Note;
use crate::ast::{Expr, ExprKind, Position};
use crate::float::ascending_nan_first;
use crate::text::{is_valid_name, quote};

fn same_labelset() -> EvalError {
    EvalError::execution("vector cannot contain metrics with the same labelset")
}

/// Fails when a second series comes to have the same labels once names are off.
pub(super) struct NameCheck {
    seen: Option<HashSet<u64>>,
    visible: Visible,
}

impl NameCheck {
    pub(super) fn new(evaluator: &Evaluator<'_>, operand: &Expr) -> NameCheck {
        let seen = evaluator.names_may_collide(operand).then(HashSet::new);
        NameCheck { seen, visible: Visible::default() }
    }

    pub(super) fn off() -> NameCheck {
        NameCheck { seen: None, visible: Visible::default() }
    }

    pub(super) fn check(&mut self, metric: &Metric) -> Result<()> {
        let Some(seen) = &mut self.seen else { return Ok(()) };
        if seen.insert(self.visible.labels(metric).series_id().0) { Ok(()) } else { Err(same_labelset()) }
    }
}

/// Takes names off labels where they no longer hold. Which labels stay is worked out once for all of one shape.
#[derive(Default)]
pub(super) struct Visible {
    nameless: Option<Projection>,
}

impl Visible {
    pub(super) fn labels(&mut self, metric: &Metric) -> Labels {
        let labels = &metric.labels;
        if !metric.drop_name {
            return labels.clone();
        }
        let nameless = self.nameless.take().filter(|known| known.from() == labels.shape());
        let nameless = nameless.unwrap_or_else(|| Projection::new(labels.shape(), |name| !is_metadata(name)));
        labels.project(self.nameless.insert(nameless))
    }
}

impl Evaluator<'_> {
    pub(super) fn drops_names_at_once(&self) -> bool {
        !self.query.features.delayed_name_removal
    }

    /// Whether series of `operand` may have the same labels once their names are off. If every selector in it
    /// names one metric and nothing joins two of them, they cannot.
    pub(super) fn names_may_collide(&self, operand: &Expr) -> bool {
        self.drops_names_at_once() && !has_one_name(operand)
    }

    /// The labels with the name taken off where it no longer holds.
    pub(super) fn visible_labels(&self, metric: &Metric) -> Labels {
        self.visible.borrow_mut().labels(metric)
    }

    /// The labels as an operation sees them.
    pub(super) fn seen_labels(&self, metric: &Metric) -> Labels {
        if self.drops_names_at_once() { self.visible_labels(metric) } else { metric.labels.clone() }
    }

    /// Hands on series of which some may have the same labels: those without a sample at the same step are
    /// joined, others are an error.
    pub(super) fn merged(&self, series: Vec<Series>, sink: &mut Sink<'_>) -> Result<()> {
        let size: usize = series.iter().map(|series| series.row.size()).sum();
        for Series { metric, mut row } in self.joined(series, |metric| self.seen_labels(metric))? {
            sink(&metric, &mut row)?;
        }
        self.let_go(size);
        Ok(())
    }

    /// Joins series whose `identity` is the same.
    pub(super) fn joined(
        &self,
        series: Vec<Series>,
        identity: impl Fn(&Metric) -> Labels,
    ) -> Result<Vec<Series>> {
        let mut first_of: HashTable<(Labels, usize)> = HashTable::with_capacity(series.len());
        let mut out: Vec<Series> = Vec::with_capacity(series.len());
        for Series { metric, row } in series {
            let labels = identity(&metric);
            let hash = labels.series_id().0;
            match first_of.entry(hash, |(known, _)| *known == labels, |(known, _)| known.series_id().0) {
                Entry::Vacant(entry) => {
                    entry.insert((labels, out.len()));
                    out.push(Series { metric, row });
                }
                Entry::Occupied(entry) => {
                    let Some(target) = out.get_mut(entry.get().1) else { continue };
                    join_rows(&mut target.row, &row)?;
                }
            }
        }
        Ok(out)
    }

    pub(super) fn label_replace(
        &self,
        operand: &Expr,
        texts: &[Expr],
        frame: Frame,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        let [target, replacement, source, pattern] = texts else {
            return Err(EvalError::execution("label_replace needs four strings"));
        };
        let (target, replacement) = (self.text(target)?, self.text(replacement)?);
        let (source, pattern) = (self.text(source)?, self.text(pattern)?);
        let regex = anchored_regex(pattern).map_err(|_| {
            EvalError::execution(format!("invalid regular expression in label_replace(): {pattern}"))
        })?;
        if !is_valid_name(target) {
            let message = format!("invalid destination label name in label_replace(): {}", quote(target));
            return Err(EvalError::execution(message));
        }
        self.relabelled(operand, target, frame, sink, &|labels| {
            let captures = regex.captures(labels.get(source))?;
            let mut value = String::new();
            captures.expand(replacement, &mut value);
            Some(value)
        })
    }

    pub(super) fn label_join(
        &self,
        operand: &Expr,
        texts: &[Expr],
        frame: Frame,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        let [target, separator, sources @ ..] = texts else {
            return Err(EvalError::execution("label_join needs a label and a separator"));
        };
        let (target, separator) = (self.text(target)?, self.text(separator)?);
        let sources = sources.iter().map(|source| self.text(source)).collect::<Result<Vec<_>>>()?;
        for (name, kind) in sources.iter().map(|name| (*name, "source")).chain([(target, "destination")]) {
            if !is_valid_name(name) {
                let message = format!("invalid {kind} label name in label_join(): {}", quote(name));
                return Err(EvalError::execution(message));
            }
        }
        self.relabelled(operand, target, frame, sink, &|labels| {
            let values: Vec<&str> = sources.iter().map(|source| labels.get(source)).collect();
            Some(values.join(separator))
        })
    }

    /// Sets `target` to `value` of the labels, where there is one.
    fn relabelled(
        &self,
        operand: &Expr,
        target: &str,
        frame: Frame,
        sink: &mut Sink<'_>,
        value: &dyn Fn(&Labels) -> Option<String>,
    ) -> Result<()> {
        let mut all = self.vector(operand, frame)?;
        for series in &mut all {
            let mut labels = self.seen_labels(&series.metric);
            let Some(value) = value(&labels) else { continue };
            labels.set(target, value);
            // A metric that is given a name keeps it.
            let drop_name = series.metric.drop_name && target != METRIC_NAME && !self.drops_names_at_once();
            series.metric = Metric { drop_name, ..Metric::new(labels) };
        }
        self.merged(all, sink)
    }

    pub(super) fn sort(
        &self,
        descending: bool,
        operand: &Expr,
        at: Position,
        frame: Frame,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        let mut all = self.vector(operand, frame)?;
        self.note_sort(frame, at);
        let value = |series: &Series| series.row.floats.first().copied().unwrap_or(f64::NAN);
        if frame.steps() == 1 {
            all.retain(|series| matches!(series.row.get(0), Cell::Float(_)));
            all.sort_by(|a, b| match (value(a), value(b)) {
                // NaN goes last either way.
                (a, b) if a.is_nan() || b.is_nan() => a.is_nan().cmp(&b.is_nan()),
                (a, b) if descending => ascending_nan_first(&b, &a),
                (a, b) => ascending_nan_first(&a, &b),
            });
        } else {
            all.iter_mut().for_each(|series| series.row.histograms = None);
            all.retain(|series| !series.row.is_empty());
        }
        self.hand_on(all, sink)
    }

    pub(super) fn sort_by_label(
        &self,
        descending: bool,
        operand: &Expr,
        labels: &[Expr],
        at: Position,
        frame: Frame,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        let labels = labels.iter().map(|label| self.text(label)).collect::<Result<Vec<_>>>()?;
        let mut all = self.vector(operand, frame)?;
        self.note_sort(frame, at);
        all.sort_by(|a, b| {
            let (a, b) = (&a.metric.labels, &b.metric.labels);
            let by_label = labels.iter().map(|label| natural_order(a.get(label), b.get(label)));
            let order = by_label.fold(Ordering::Equal, Ordering::then).then_with(|| a.cmp(b));
            if descending { order.reverse() } else { order }
        });
        self.hand_on(all, sink)
    }

    fn note_sort(&self, frame: Frame, at: Position) {
        if frame.steps() > 1 {
            self.note(&Note::SortInRangeQuery, at);
        }
    }

    /// Hands on collected series.
    pub(super) fn hand_on(&self, all: Vec<Series>, sink: &mut Sink<'_>) -> Result<()> {
        self.release(&all);
        for Series { metric, mut row } in all {
            sink(&metric, &mut row)?;
        }
        Ok(())
    }
}

/// Whether all series of `expr` are known to have the same name.
pub(super) fn has_one_name(expr: &Expr) -> bool {
    match &expr.unwrap_parens().kind {
        ExprKind::Selector(selector) | ExprKind::Range { selector, .. } => selector
            .matchers
            .iter()
            .any(|matcher| matcher.name() == METRIC_NAME && matcher.op() == MatchOp::Equal),
        ExprKind::Subquery(subquery) => has_one_name(&subquery.operand),
        ExprKind::Unary { operand, .. } => has_one_name(operand),
        ExprKind::Aggregate(aggregate) => {
            // Groups have no name, unless it is asked for; picks keep those of their operand.
            has_one_name(&aggregate.operand)
                || !aggregate.grouping.iter().any(|label| label == METRIC_NAME)
                    && aggregate.op.param_type().is_none()
        }
        ExprKind::Call { function, args } => {
            let relabels = matches!(function.name, "label_replace" | "label_join" | "info");
            !relabels
                && args
                    .iter()
                    .filter(|arg| arg.value_type() != crate::ast::ValueType::Scalar)
                    .all(has_one_name)
        }
        ExprKind::Binary(binary) => {
            // With a scalar, series stay apart; arithmetic between vectors takes the names off by itself.
            let scalar = |side: &Expr| side.value_type() == crate::ast::ValueType::Scalar;
            (scalar(&binary.left) && has_one_name(&binary.right))
                || (scalar(&binary.right) && has_one_name(&binary.left))
        }
        _ => false,
    }
}

/// Adds the values of `other` to `row`; both must not have one at the same step.
fn join_rows(row: &mut Row, other: &Row) -> Result<()> {
    for step in 0..row.steps() {
        match other.get(step) {
            Cell::Absent => {}
            _ if row.is_present(step) => return Err(same_labelset()),
            cell => row.set(step, cell),
        }
    }
    Ok(())
}

/// Digits compare as numbers, the rest as text.
fn natural_order(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (chunks(a), chunks(b));
    loop {
        let order = match (left.next(), right.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(a), Some(b)) => {
                let number = |chunk: &str| chunk.starts_with(|c: char| c.is_ascii_digit());
                if number(a) && number(b) {
                    let digits = |chunk: &str| chunk.trim_start_matches('0').to_owned();
                    let (a_digits, b_digits) = (digits(a), digits(b));
                    (a_digits.len().cmp(&b_digits.len()))
                        .then(a_digits.cmp(&b_digits))
                        .then(a.len().cmp(&b.len()))
                } else {
                    a.cmp(b)
                }
            }
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// Runs of digits and runs of others.
fn chunks(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let end = rest.find(|c: char| c.is_ascii_digit() != first.is_ascii_digit()).unwrap_or(rest.len());
        let (chunk, tail) = rest.split_at(end);
        rest = tail;
        Some(chunk)
    })
}
