//! Parts of a range query that have the same value at every step: what `@` pins. They are evaluated once.

use super::frame::{Frame, Row};
use super::{Evaluator, Result, Sink};
use crate::ast::{Expr, ExprKind};

/// Functions that look at the time of the step themselves.
const TIME_DEPENDENT: [&str; 2] = ["time", "predict_linear"];

/// Functions that without an argument take the time of the step.
const OF_TIME: [&str; 8] =
    ["minute", "hour", "day_of_week", "day_of_month", "day_of_year", "days_in_month", "month", "year"];

/// Whether every selector of `expr` is pinned by an `@`, and nothing in it looks at the time of the step.
fn is_invariant(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Number { .. } | ExprKind::Text(_) => true,
        ExprKind::Selector(selector) | ExprKind::Range { selector, .. } => selector.time.at.is_some(),
        ExprKind::Subquery(subquery) => subquery.time.at.is_some(),
        ExprKind::Call { function, args } => {
            let of_time = TIME_DEPENDENT.contains(&function.name)
                || (args.is_empty() && OF_TIME.contains(&function.name))
                // Of a computed value it is the time of the step.
                || function.name == "timestamp"
                // Info metrics may be looked at as of the step.
                || function.name == "info";
            !of_time && args.iter().all(is_invariant)
        }
        _ => expr.children().into_iter().all(is_invariant),
    }
}

/// Whether any selector or subquery in `expr` has an `@`.
pub(super) fn has_pinned(expr: &Expr) -> bool {
    let own = match &expr.kind {
        ExprKind::Selector(selector) | ExprKind::Range { selector, .. } => selector.time.at.is_some(),
        ExprKind::Subquery(subquery) => subquery.time.at.is_some(),
        _ => false,
    };
    own || expr.children().into_iter().any(has_pinned)
}

impl Evaluator<'_> {
    /// Whether to evaluate `expr` for one step and repeat the outcome. Selectors do that by themselves.
    pub(super) fn is_worth_repeating(&self, expr: &Expr, frame: Frame) -> bool {
        let computes =
            matches!(expr.kind, ExprKind::Call { .. } | ExprKind::Aggregate(_) | ExprKind::Binary(_));
        self.has_pinned && computes && frame.steps() > 1 && has_pinned(expr) && is_invariant(expr)
    }

    pub(super) fn repeated(&self, expr: &Expr, frame: Frame, sink: &mut Sink<'_>) -> Result<()> {
        let once = Frame { end_ms: frame.start_ms, ..frame };
        let steps = frame.steps();
        let mut repeated = Row::default();
        let evaluate = || {
            self.stream(expr, once, &mut |metric, row| {
                repeated.reset(steps);
                let cell = row.get(0);
                for step in 0..steps {
                    repeated.set(step, cell.clone());
                }
                sink(metric, &mut repeated)
            })
        };
        let ((), tally) = self.tallied(once, evaluate)?;
        tally.and_then(|once| self.tally(|tally| tally.add_repeated(&once)));
        Ok(())
    }
}
