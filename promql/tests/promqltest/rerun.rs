//! The further runs of an instant evaluation: with `@`, and as the middle step of a range query.

use std::collections::BTreeMap;

use pharos_model::Labels;
use pharos_promql::{At, Expr, ExprKind, MemorySource, SampleValue, Value};

use crate::check;
use crate::run::execute;
use crate::script::Eval;

/// Functions whose value depends on the time of evaluation, however far back their selectors look.
const TIME_DEPENDENT: [&str; 15] = [
    "time",
    "timestamp",
    "start",
    "end",
    "step",
    "range",
    "predict_linear",
    "minute",
    "hour",
    "day_of_week",
    "day_of_month",
    "day_of_year",
    "days_in_month",
    "month",
    "year",
];

pub(crate) fn check(source: &MemorySource, eval: &Eval, expr: &Expr) -> Result<(), String> {
    as_range(source, eval, expr, eval.start_ms)?;
    let mut pinned = expr.clone();
    if !pin(&mut pinned, eval.start_ms) {
        return Ok(());
    }
    let time_ms = eval.start_ms;
    let times = match time_ms {
        0 => vec![-1000, 0, 1000],
        _ => vec![-10 * time_ms, 0, time_ms / 5, time_ms, 10 * time_ms],
    };
    for time_ms in times {
        let context = |error: String| format!("with @, evaluated at {time_ms} ms: {error}");
        let evaluation = execute(source, &Ok(pinned.clone()), time_ms, time_ms, 0).map_err(context)?;
        check::value(eval, &evaluation.value).map_err(context)?;
        as_range(source, eval, &pinned, time_ms).map_err(context)?;
    }
    Ok(())
}

/// Puts `@ time` on every selector and subquery that has none. What a subquery holds is pinned by that one's
/// `@` already. `false` if the expression depends on the time of evaluation otherwise.
fn pin(expr: &mut Expr, time_ms: i64) -> bool {
    let at = |time: &mut pharos_promql::TimeShift| {
        time.at.get_or_insert(At::TimeMs(time_ms));
        true
    };
    match &mut expr.kind {
        ExprKind::Number { .. } | ExprKind::Text(_) => true,
        ExprKind::Selector(selector) | ExprKind::Range { selector, .. } => at(&mut selector.time),
        ExprKind::Subquery(subquery) => at(&mut subquery.time),
        ExprKind::Aggregate(aggregate) => {
            aggregate.param.iter_mut().all(|param| pin(param, time_ms))
                && pin(&mut aggregate.operand, time_ms)
        }
        ExprKind::Binary(binary) => pin(&mut binary.left, time_ms) && pin(&mut binary.right, time_ms),
        ExprKind::Unary { operand, .. } => pin(operand, time_ms),
        ExprKind::Paren(inner) => pin(inner, time_ms),
        ExprKind::Call { function, args } => {
            !TIME_DEPENDENT.contains(&function.name)
                // The second argument of `info` is no selector.
                && args.iter_mut().take(if function.name == "info" { 1 } else { usize::MAX }).all(|arg| pin(arg, time_ms))
        }
    }
}

fn calls_any(expr: &Expr, names: &[&str]) -> bool {
    let itself = matches!(&expr.kind, ExprKind::Call { function, .. } if names.contains(&function.name));
    itself || expr.children().into_iter().any(|child| calls_any(child, names))
}

fn as_range(source: &MemorySource, eval: &Eval, expr: &Expr, time_ms: i64) -> Result<(), String> {
    let by_text =
        ["start()", "end()", "step()", "range()"].iter().any(|call| eval.expr.to_lowercase().contains(call));
    if eval.string.is_some()
        || eval.range_vector.is_some()
        || by_text
        || calls_any(expr, &["start", "end", "step", "range"])
    {
        return Ok(());
    }
    const MINUTE_MS: i64 = 60_000;
    let (start_ms, end_ms) = (time_ms - MINUTE_MS, time_ms + MINUTE_MS);
    let range = execute(source, &Ok(expr.clone()), start_ms, end_ms, MINUTE_MS)
        .map_err(|error| format!("as a range query: {error}"))?;
    if eval.ordered {
        return Ok(());
    }
    let instant = execute(source, &Ok(expr.clone()), time_ms, time_ms, 0)?;
    let Value::Matrix(matrix) = range.value else { return Err("a range query gave no matrix".into()) };
    let mut middle: BTreeMap<Labels, SampleValue> = BTreeMap::new();
    for series in matrix {
        let float = series.floats.iter().find(|(at, _)| *at == time_ms);
        let histogram = series.histograms.iter().find(|(at, _)| *at == time_ms);
        let value = match (float, histogram) {
            (Some((_, value)), _) => SampleValue::Float(*value),
            (None, Some((_, value))) => SampleValue::Histogram(value.clone()),
            (None, None) => continue,
        };
        middle.insert(series.labels.clone(), value);
    }
    let expected: BTreeMap<Labels, SampleValue> = match instant.value {
        Value::Scalar { value, .. } => [(Labels::empty(), SampleValue::Float(value))].into(),
        Value::Vector(samples) => {
            samples.into_iter().map(|sample| (sample.labels.clone(), sample.value)).collect()
        }
        other => return Err(format!("a range query of {other:?}")),
    };
    let same = expected.len() == middle.len()
        && expected
            .iter()
            .all(|(labels, value)| middle.get(labels).is_some_and(|other| check::same_value(value, other)));
    if same { Ok(()) } else { Err(format!("as a range query: expected {expected:?}, got {middle:?}")) }
}
