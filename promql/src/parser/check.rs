//! The type check: whether every part of a query has the type that its place demands.

use pharos_model::METRIC_NAME;

use super::ParseError;
use crate::ast::{Binary, Cardinality, Expr, ExprKind, Selector, ValueType};
use crate::functions::{Function, Variadic};
use crate::text::quote;

pub(super) fn check(expr: &Expr) -> Result<(), ParseError> {
    super::with_stack(|| check_on_this_stack(expr))
}

fn check_on_this_stack(expr: &Expr) -> Result<(), ParseError> {
    let fail = |message: String| Err(ParseError::new(expr.at, message));
    match &expr.kind {
        ExprKind::Number { .. } | ExprKind::Text(_) => Ok(()),
        ExprKind::Selector(selector) | ExprKind::Range { selector, .. } => check_selector(selector, expr),
        ExprKind::Paren(inner) => check(inner),
        ExprKind::Unary { operand, .. } => {
            check(operand)?;
            match operand.value_type() {
                ValueType::Scalar | ValueType::InstantVector => Ok(()),
                other => fail(format!(
                    "unary expression only allowed on expressions of type scalar or instant vector, got {}",
                    quote(other.name())
                )),
            }
        }
        ExprKind::Subquery(subquery) => {
            check(&subquery.operand)?;
            match subquery.operand.value_type() {
                ValueType::InstantVector => Ok(()),
                other => {
                    let got = match other {
                        ValueType::RangeVector => "matrix",
                        other => other.name(),
                    };
                    fail(format!("subquery is only allowed on instant vector, got {got} instead"))
                }
            }
        }
        ExprKind::Aggregate(aggregate) => {
            expect(&aggregate.operand, ValueType::InstantVector, "aggregation expression")?;
            if let (Some(param), Some(wanted)) = (&aggregate.param, aggregate.op.param_type()) {
                expect(param, wanted, "aggregation parameter")?;
            }
            Ok(())
        }
        ExprKind::Binary(binary) => check_binary(binary, expr),
        ExprKind::Call { function, args } => check_call(function, args, expr),
    }
}

fn expect(expr: &Expr, wanted: ValueType, context: &str) -> Result<(), ParseError> {
    check(expr)?;
    let found = expr.value_type();
    if found == wanted {
        return Ok(());
    }
    let message = format!("expected type {} in {context}, got {}", wanted.name(), found.name());
    Err(ParseError::new(expr.at, message))
}

fn check_selector(selector: &Selector, expr: &Expr) -> Result<(), ParseError> {
    if let Some(name) = &selector.name {
        let mut names = selector.matchers.iter().filter(|matcher| matcher.name() == METRIC_NAME);
        let (Some(other), Some(_)) = (names.next(), names.next()) else { return Ok(()) };
        let (name, other) = (quote(name), quote(other.value()));
        let message = format!("metric name must not be set twice: {name} or {other}");
        return Err(ParseError::new(expr.at, message));
    }
    // A selector that an absent label satisfies everywhere would read every series there is.
    if selector.matchers.iter().all(|matcher| matcher.matches("")) {
        return Err(ParseError::new(expr.at, "vector selector must contain at least one non-empty matcher"));
    }
    Ok(())
}

fn check_binary(binary: &Binary, expr: &Expr) -> Result<(), ParseError> {
    let fail = |message: &str| Err(ParseError::new(expr.at, message));
    let fail_at_operator = |message: &str| Err(ParseError::new(binary.op_at, message));
    check(&binary.left)?;
    check(&binary.right)?;
    let Binary { op, return_bool, matching, .. } = binary;
    let types = [binary.left.value_type(), binary.right.value_type()];
    if *return_bool && !op.is_comparison() {
        return fail_at_operator("bool modifier can only be used on comparison operators");
    }
    if types == [ValueType::Scalar; 2] && op.is_comparison() && !return_bool {
        return fail_at_operator("comparisons between scalars must use BOOL modifier");
    }
    let both = matching.labels.iter().find(|label| matching.on && matching.include.contains(label));
    if let Some(both) = both {
        let message = format!("label {} must not occur in ON and GROUP clause at once", quote(both));
        return fail_at_operator(&message);
    }
    for (side, found) in [&binary.left, &binary.right].into_iter().zip(types) {
        if !matches!(found, ValueType::Scalar | ValueType::InstantVector) {
            let message = "binary expression must contain only scalar and instant vector types";
            return Err(ParseError::new(side.at, message));
        }
    }
    let fills = matching.fill_left.is_some() || matching.fill_right.is_some();
    let symbol = quote(op.symbol());
    if types != [ValueType::InstantVector; 2] {
        if !matching.labels.is_empty() {
            return fail("vector matching only allowed between instant vectors");
        }
        if fills {
            return fail("filling in missing series only allowed between instant vectors");
        }
        if op.is_set() {
            return fail(&format!("set operator {symbol} not allowed in binary scalar expression"));
        }
    } else if op.is_set() {
        if matching.cardinality != Cardinality::ManyToMany {
            return fail(&format!("no grouping allowed for {symbol} operation"));
        }
        if fills {
            return fail("filling in missing series not allowed for set operators");
        }
    }
    Ok(())
}

fn check_call(function: &Function, args: &[Expr], expr: &Expr) -> Result<(), ParseError> {
    let fail = |message: String| Err(ParseError::new(expr.at, message));
    let listed = function.args.len();
    let (least, most) = match function.variadic {
        Variadic::No => (listed, listed),
        Variadic::Optional(count) => (listed - count, listed),
        Variadic::Repeated => (listed - 1, usize::MAX),
        Variadic::AtMost(count) => (listed, listed - 1 + count),
    };
    let name = quote(function.name);
    if args.len() < least || args.len() > most {
        let bound = match (least == most, args.len() < least) {
            (true, _) => format!("{least}"),
            (false, true) => format!("at least {least}"),
            (false, false) => format!("at most {most}"),
        };
        return fail(format!("expected {bound} argument(s) in call to {name}, got {}", args.len()));
    }
    for (index, arg) in args.iter().enumerate() {
        if function.name == "info" && index == 1 && arg.value_type() == ValueType::InstantVector {
            check_info_selector(arg)?;
            continue;
        }
        let Some(wanted) = function.args.get(index.min(listed.saturating_sub(1))) else { continue };
        expect(arg, *wanted, &format!("call to function {name}"))?;
    }
    Ok(())
}

/// The second argument of `info` names labels of info metrics and is no selector of series on its own.
fn check_info_selector(arg: &Expr) -> Result<(), ParseError> {
    let ExprKind::Selector(selector) = &arg.kind else {
        return Err(ParseError::new(arg.at, "expected label selectors only"));
    };
    if selector.name.is_some() {
        return Err(ParseError::new(arg.at, "expected label selectors only, got vector selector instead"));
    }
    Ok(())
}
