//! Operators between vectors and scalars, and between vectors one to one, many to one and one to many.

use std::collections::HashMap;

use pharos_model::Labels;

use super::elements::Outcome;
use super::frame::{Cell, Frame, Metric, Row, Series, is_metadata};
use super::grouping::{Groups, LabelChoice};
use super::{EvalError, Evaluator, Result, Sink};
use crate::ast::{Binary, Cardinality, Expr, Position, ValueType};

impl Evaluator<'_> {
    pub(super) fn binary(
        &self,
        binary: &Binary,
        at: Position,
        frame: Frame,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        let scalar = |side: &Expr| side.value_type() == ValueType::Scalar;
        if scalar(&binary.right) {
            return self.with_scalar(binary, &binary.left, &binary.right, false, at, frame, sink);
        }
        if scalar(&binary.left) {
            return self.with_scalar(binary, &binary.right, &binary.left, true, at, frame, sink);
        }
        if binary.op.is_set() {
            return self.set_operation(binary, frame, sink);
        }
        self.matched(binary, at, frame, sink)
    }

    #[expect(clippy::too_many_arguments, reason = "both operands and which of them stands on the left")]
    fn with_scalar(
        &self,
        binary: &Binary,
        vector: &Expr,
        scalar: &Expr,
        scalar_on_left: bool,
        at: Position,
        frame: Frame,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        let scalars = self.scalar(scalar, frame)?;
        let op = binary.op;
        let map = |row: &mut Row| {
            row.map(|step, cell| {
                let number = Cell::Float(scalars.get(step).copied().unwrap_or(f64::NAN));
                let outcome = match scalar_on_left {
                    true => self.operation(op, &number, &cell, at),
                    false => self.operation(op, &cell, &number, at),
                };
                match outcome {
                    Outcome::Value(value) => value,
                    Outcome::Compared(_, holds) if binary.return_bool => {
                        Cell::Float(f64::from(u8::from(holds)))
                    }
                    // It is the vector's value that is kept, on whichever side it stands.
                    Outcome::Compared(_, true) => cell,
                    Outcome::Compared(_, false) | Outcome::Nothing => Cell::Absent,
                }
            });
        };
        if !op.is_comparison() && !is_trim(binary) || binary.return_bool {
            return self.without_names(vector, frame, sink, &mut |metric, row, sink| {
                map(row);
                sink(metric, row)
            });
        }
        self.stream(vector, frame, &mut |metric, row| {
            map(row);
            if row.is_empty() { Ok(()) } else { sink(metric, row) }
        })
    }

    fn matched(&self, binary: &Binary, at: Position, frame: Frame, sink: &mut Sink<'_>) -> Result<()> {
        let left = self.vector(&binary.left, frame)?;
        let right = self.vector(&binary.right, frame)?;
        let fills = binary.matching.fill_left.is_some() || binary.matching.fill_right.is_some();
        if (left.is_empty() || right.is_empty()) && !fills || left.is_empty() && right.is_empty() {
            self.release(&left);
            self.release(&right);
            return Ok(());
        }
        let joined = Join::new(self, binary, at, frame.steps(), &left, &right).run()?;
        for series in [&left, &right, &joined] {
            self.release(series);
        }
        if joined.len() < 2 {
            return self.hand_on_released(joined, sink);
        }
        let merged = self.joined(joined, |metric| self.seen_labels(metric))?;
        self.hand_on_released(merged, sink)
    }

    fn hand_on_released(&self, all: Vec<Series>, sink: &mut Sink<'_>) -> Result<()> {
        for Series { metric, mut row } in all {
            sink(&metric, &mut row)?;
        }
        Ok(())
    }
}

fn is_trim(binary: &Binary) -> bool {
    matches!(binary.op, crate::ast::BinaryOp::TrimUpper | crate::ast::BinaryOp::TrimLower)
}

/// The join of two vectors by matching labels. One side has at most one series per group and step: the right
/// one, or, for `group_right`, the left one. It is called the "one" side, the other the "many" side.
struct Join<'j> {
    evaluator: &'j Evaluator<'j>,
    binary: &'j Binary,
    at: Position,
    steps: usize,
    many: &'j [Series],
    one: &'j [Series],
    groups: Groups,
    /// Members of each group, by index.
    many_of: Vec<Vec<usize>>,
    one_of: Vec<Vec<usize>>,
    /// The steps at which a group has its result, one to one; at which a result's labels are taken, else.
    taken: HashMap<(usize, Option<Labels>), Vec<bool>>,
    /// The steps at which the group at hand had two sides that the operator is for.
    matched: Vec<bool>,
    out: Vec<Series>,
}

impl<'j> Join<'j> {
    fn new(
        evaluator: &'j Evaluator<'j>,
        binary: &'j Binary,
        at: Position,
        steps: usize,
        left: &'j [Series],
        right: &'j [Series],
    ) -> Join<'j> {
        let (many, one) = match binary.matching.cardinality {
            Cardinality::OneToMany => (right, left),
            _ => (left, right),
        };
        let choice = LabelChoice::new(&binary.matching.labels, binary.matching.on, evaluator);
        let mut groups = Groups::new(choice);
        let mut assign = |series: &[Series]| {
            let mut members: Vec<Vec<usize>> = Vec::new();
            for (index, series) in series.iter().enumerate() {
                let group = groups.group(&series.metric);
                if members.len() <= group {
                    members.resize_with(group + 1, Vec::new);
                }
                if let Some(members) = members.get_mut(group) {
                    members.push(index);
                }
            }
            members
        };
        let mut one_of = assign(one);
        let mut many_of = assign(many);
        one_of.resize_with(groups.len(), Vec::new);
        many_of.resize_with(groups.len(), Vec::new);
        let out = Vec::new();
        Join {
            evaluator,
            binary,
            at,
            steps,
            many,
            one,
            groups,
            many_of,
            one_of,
            taken: HashMap::new(),
            matched: Vec::new(),
            out,
        }
    }

    fn swapped(&self) -> bool {
        self.binary.matching.cardinality == Cardinality::OneToMany
    }

    fn run(mut self) -> Result<Vec<Series>> {
        for group in 0..self.groups.len() {
            self.evaluator.check_alive()?;
            self.check_one_side(group)?;
            self.matched.clear();
            self.matched.resize(self.steps, false);
            let members = |of: &[Vec<usize>]| of.get(group).cloned().unwrap_or_default();
            let (many, one) = (members(&self.many_of), members(&self.one_of));
            for many_index in &many {
                for one_index in &one {
                    self.pair(group, *many_index, *one_index)?;
                }
            }
            self.fill(group, &many, &one)?;
        }
        Ok(self.out)
    }

    /// At no step may the "one" side have two series of a group.
    fn check_one_side(&self, group: usize) -> Result<()> {
        let Some([first, rest @ ..]) = self.one_of.get(group).map(Vec::as_slice) else { return Ok(()) };
        let mut present_in: Vec<Option<usize>> = vec![None; if rest.is_empty() { 0 } else { self.steps }];
        for index in std::iter::once(first).chain(rest) {
            let Some(series) = self.one.get(*index) else { continue };
            for (step, present) in present_in.iter_mut().enumerate() {
                if !series.row.is_present(step) {
                    continue;
                }
                if let Some(other) = present.replace(*index).and_then(|other| self.one.get(other)) {
                    let side = if self.swapped() { "left" } else { "right" };
                    let shown = |metric: &Metric| braces(&self.evaluator.seen_labels(metric));
                    let mut both = [shown(&series.metric), shown(&other.metric)];
                    both.sort();
                    return Err(EvalError::execution(format!(
                        "found duplicate series for the match group {} on the {side} hand-side of the operation: \
                         [{}];many-to-many matching not allowed: matching labels must be unique on one side",
                        braces(&self.groups.labels(group)),
                        both.join(", "),
                    )));
                }
            }
        }
        Ok(())
    }

    fn pair(&mut self, group: usize, many_index: usize, one_index: usize) -> Result<()> {
        let (Some(many), Some(one)) = (self.many.get(many_index), self.one.get(one_index)) else {
            return Ok(());
        };
        let both =
            (0..self.steps).filter(|step| many.row.is_present(*step) && one.row.is_present(*step)).collect();
        let cells = |step: usize| (many.row.get(step), one.row.get(step));
        self.emit(group, &many.metric, &one.metric, both, &cells)
    }

    /// Where one side has nothing, a fill value may stand in for it.
    fn fill(&mut self, group: usize, many: &[usize], one: &[usize]) -> Result<()> {
        let matching = &self.binary.matching;
        // With `group_right` Prometheus still takes `fill_left` for the "many" side, and its tests demand it.
        let (many_fill, one_fill) = (matching.fill_left, matching.fill_right);
        let stand_in = Metric::new(self.groups.labels(group));
        for (fill, present, absent, many_present) in
            [(one_fill, many, one, true), (many_fill, one, many, false)]
        {
            let Some(fill) = fill else { continue };
            let (present_side, absent_side) =
                if many_present { (self.many, self.one) } else { (self.one, self.many) };
            for index in present {
                let Some(series) = present_side.get(*index) else { continue };
                let alone = |step: &usize| {
                    if !many_present {
                        return series.row.is_present(*step)
                            && !self.matched.get(*step).is_some_and(|matched| *matched);
                    }
                    let others = absent.iter().filter_map(|index| absent_side.get(*index));
                    series.row.is_present(*step)
                        && !others.into_iter().any(|other| other.row.is_present(*step))
                };
                let steps: Vec<usize> = (0..self.steps).filter(alone).collect();
                let fill = Cell::Float(fill);
                if many_present {
                    let cells = |step: usize| (series.row.get(step), fill.clone());
                    self.emit(group, &series.metric, &stand_in, steps, &cells)?;
                } else {
                    let cells = |step: usize| (fill.clone(), series.row.get(step));
                    self.emit(group, &stand_in, &series.metric, steps, &cells)?;
                }
            }
        }
        Ok(())
    }

    /// Computes one result series at the given steps.
    fn emit(
        &mut self,
        group: usize,
        many: &Metric,
        one: &Metric,
        steps: Vec<usize>,
        cells: &dyn Fn(usize) -> (Cell, Cell),
    ) -> Result<()> {
        if steps.is_empty() {
            return Ok(());
        }
        let metric = self.result_metric(many, one);
        let mut row = Row::absent(self.steps);
        let mut matched = Vec::with_capacity(steps.len());
        for step in steps {
            let (many, one) = cells(step);
            let (left, right) = if self.swapped() { (one, many) } else { (many, one) };
            let cell = match self.evaluator.operation(self.binary.op, &left, &right, self.at) {
                Outcome::Value(value) => value,
                Outcome::Compared(_, holds) if self.binary.return_bool => {
                    Cell::Float(f64::from(u8::from(holds)))
                }
                Outcome::Compared(value, true) => value,
                Outcome::Compared(_, false) => Cell::Absent,
                // Sides that do not go together are as if they had not met.
                Outcome::Nothing => continue,
            };
            row.set(step, cell);
            matched.push(step);
        }
        self.claim(group, &metric, &matched)?;
        if !row.is_empty() {
            self.evaluator.hold(row.size())?;
            self.out.push(Series { metric, row });
        }
        Ok(())
    }

    /// Takes the steps for a result; nothing else may have them.
    fn claim(&mut self, group: usize, metric: &Metric, steps: &[usize]) -> Result<()> {
        for step in steps {
            if let Some(matched) = self.matched.get_mut(*step) {
                *matched = true;
            }
        }
        let one_to_one = self.binary.matching.cardinality == Cardinality::OneToOne;
        let alone = |of: &[Vec<usize>]| of.get(group).is_none_or(|members| members.len() < 2);
        if alone(&self.many_of) {
            return Ok(());
        }
        let labels = (!one_to_one).then(|| self.evaluator.seen_labels(metric));
        let taken = self.taken.entry((group, labels)).or_insert_with(|| vec![false; self.steps]);
        for step in steps {
            let Some(slot) = taken.get_mut(*step) else { continue };
            if std::mem::replace(slot, true) {
                return Err(EvalError::execution(if one_to_one {
                    "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)"
                } else {
                    "multiple matches for labels: grouping labels must ensure unique matches"
                }));
            }
        }
        Ok(())
    }

    fn result_metric(&self, many: &Metric, one: &Metric) -> Metric {
        let matching = &self.binary.matching;
        let seen = self.evaluator.seen_labels(many);
        let changes_meaning = !self.binary.op.is_comparison() && !is_trim(self.binary);
        let one_to_one = matching.cardinality == Cardinality::OneToOne;
        let kept = seen.iter().filter(|(name, _)| {
            let listed = matching.labels.iter().any(|label| label == name);
            !(changes_meaning && is_metadata(name)) && (!one_to_one || listed == matching.on)
        });
        let mut labels = Labels::from_pairs(kept);
        for label in &matching.include {
            // What the "one" side lacks is taken off, too, unless a fill value stands in for that side.
            let from_one = one.labels.get(label);
            labels.set(label, from_one);
        }
        let drop_name = self.binary.return_bool || many.drop_name;
        Metric { drop_name, ..Metric::new(labels) }
    }
}

/// `{a="b", c="d"}`, the name among the labels.
pub(super) fn braces(labels: &Labels) -> String {
    let pairs: Vec<String> = labels
        .iter()
        .map(|(name, value)| {
            let name = if crate::text::is_plain_label_name(name) {
                name.to_owned()
            } else {
                crate::text::quote(name)
            };
            format!("{name}={}", crate::text::quote(value))
        })
        .collect();
    format!("{{{}}}", pairs.join(", "))
}
