//! `absent` and `absent_over_time`: a series of ones where there is nothing.

use std::collections::HashMap;

use pharos_model::{Labels, MatchOp};

use super::frame::{Frame, Metric, Row, is_metadata};
use super::{Evaluator, Result, Sink};
use crate::ast::{Expr, ExprKind};

impl Evaluator<'_> {
    pub(super) fn absent(&self, operand: &Expr, frame: Frame, sink: &mut Sink<'_>) -> Result<()> {
        let mut missing = Row { floats: vec![1.0; frame.steps()], histograms: None };
        self.stream(operand, frame, &mut |_, row| {
            clear_where_present(&mut missing, row);
            Ok(())
        })?;
        self.hand_on_missing(operand, missing, sink)
    }

    pub(super) fn absent_over_time(&self, args: &[Expr], frame: Frame, sink: &mut Sink<'_>) -> Result<()> {
        let Some(operand) = args.first() else { return Ok(()) };
        let mut missing = Row { floats: vec![1.0; frame.steps()], histograms: None };
        self.range_call("absent_over_time", args, frame, &mut |_, row| {
            clear_where_present(&mut missing, row);
            Ok(())
        })?;
        self.hand_on_missing(operand, missing, sink)
    }

    fn hand_on_missing(&self, operand: &Expr, mut missing: Row, sink: &mut Sink<'_>) -> Result<()> {
        if missing.is_empty() {
            return Ok(());
        }
        sink(&Metric::new(labels_asked_for(operand)), &mut missing)
    }
}

fn clear_where_present(missing: &mut Row, row: &Row) {
    for step in 0..row.steps() {
        if row.is_present(step) {
            missing.set(step, super::Cell::Absent);
        }
    }
}

/// The labels that a series would have had: those that the selector asks for by `=`, once each.
fn labels_asked_for(operand: &Expr) -> Labels {
    let matchers = match &operand.kind {
        ExprKind::Selector(selector) | ExprKind::Range { selector, .. } => &selector.matchers,
        _ => return Labels::empty(),
    };
    let mut times: HashMap<&str, usize> = HashMap::new();
    for matcher in matchers {
        *times.entry(matcher.name()).or_default() += 1;
    }
    let asked_for = matchers.iter().filter(|matcher| {
        matcher.op() == MatchOp::Equal
            && !is_metadata(matcher.name())
            && times.get(matcher.name()) == Some(&1)
    });
    Labels::from_pairs(asked_for.map(|matcher| (matcher.name(), matcher.value())))
}
