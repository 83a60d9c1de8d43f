//! Prints expressions: on one line as Prometheus' API does, and over many lines as its `format_query` does.

use std::fmt::{self, Display, Formatter, Write as _};

use pharos_model::{METRIC_NAME, MatchOp, Matcher, format_duration_ms};

use crate::ast::{
    Aggregate, At, Binary, BinaryOp, Cardinality, DurationExpr, Expr, ExprKind, Matching, Selector, Subquery,
    TimeShift,
};
use crate::text::{format_float, format_general, is_plain_label_name, quote};

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ExprKind::Number { value, as_duration: true } => {
                f.write_str(&format_duration_ms((value * 1000.0).round() as i64))
            }
            ExprKind::Number { value, as_duration: false } => f.write_str(&format_float(*value)),
            ExprKind::Text(text) => f.write_str(&quote(text)),
            ExprKind::Selector(selector) => write!(f, "{selector}{}", suffix(selector)),
            ExprKind::Range { selector, range } => {
                write!(f, "{selector}[{}]{}", alone(range), suffix(selector))
            }
            ExprKind::Subquery(subquery) => write!(f, "{}{}", subquery.operand, subquery_suffix(subquery)),
            ExprKind::Aggregate(aggregate) => {
                write!(f, "{}(", aggregate_head(aggregate))?;
                if let Some(param) = &aggregate.param {
                    write!(f, "{param}, ")?;
                }
                write!(f, "{})", aggregate.operand)
            }
            ExprKind::Binary(binary) => {
                write!(f, "{} {} {}", binary.left, operator(binary), binary.right)
            }
            ExprKind::Unary { negate, operand } => write!(f, "{}{operand}", if *negate { '-' } else { '+' }),
            ExprKind::Call { function, args } => {
                write!(f, "{}(", function.name)?;
                for (index, arg) in args.iter().enumerate() {
                    write!(f, "{}{arg}", if index > 0 { ", " } else { "" })?;
                }
                f.write_str(")")
            }
            ExprKind::Paren(inner) => write!(f, "({inner})"),
        }
    }
}

/// The name and the braces, without what may follow them.
impl Display for Selector {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.name.as_deref().unwrap_or_default())?;
        let own_name = |name: &str, op: MatchOp, value: &str| {
            name == METRIC_NAME
                && op == MatchOp::Equal
                && self.name.as_deref() == Some(value)
                && !value.is_empty()
        };
        let others = self.matchers.iter().filter(|one| !own_name(one.name(), one.op(), one.value()));
        let mut shown: Vec<String> = others.map(matcher_text).collect();
        shown.sort();
        if shown.is_empty() && self.name.is_some() { Ok(()) } else { write!(f, "{{{}}}", shown.join(",")) }
    }
}

fn matcher_text(matcher: &Matcher) -> String {
    let (name, value) = (matcher.name(), quote(matcher.value()));
    let name = if is_plain_label_name(name) { name.to_owned() } else { quote(name) };
    format!("{name}{}{value}", matcher.op().symbol())
}

/// What follows a selector.
fn suffix(selector: &Selector) -> String {
    let extension = selector.extension.map_or(String::new(), |extension| format!(" {}", extension.keyword()));
    time_suffix(&selector.time, &extension)
}

fn time_suffix(time: &TimeShift, between: &str) -> String {
    let at = match time.at {
        None => String::new(),
        Some(At::TimeMs(ms)) => format!(" @ {:.3}", ms as f64 / 1000.0),
        Some(At::Start) => " @ start()".into(),
        Some(At::End) => " @ end()".into(),
    };
    let offset = time.offset.as_ref().map_or(String::new(), |offset| match signed_literal_ms(offset) {
        Some(0) => String::new(),
        Some(ms) => format!(" offset {}", format_duration_ms(ms)),
        None => format!(" offset {offset}"),
    });
    format!("{at}{between}{offset}")
}

fn subquery_suffix(subquery: &Subquery) -> String {
    let step = subquery.step.as_ref().map_or(String::new(), alone);
    format!("[{}:{step}]{}", alone(&subquery.range), time_suffix(&subquery.time, ""))
}

/// The milliseconds of a plain duration or number, with or without a sign.
fn signed_literal_ms(duration: &DurationExpr) -> Option<i64> {
    match duration {
        DurationExpr::Literal { ms } => Some(*ms),
        DurationExpr::Number(seconds) => Some((seconds * 1000.0).round() as i64),
        DurationExpr::Negate(inner) => signed_literal_ms(inner).map(|ms| -ms),
        DurationExpr::Plus(inner) => signed_literal_ms(inner),
        _ => None,
    }
}

/// A duration that stands alone: a bare number is then as many seconds.
fn alone(duration: &DurationExpr) -> String {
    signed_literal_ms(duration).map_or_else(|| duration.to_string(), format_duration_ms)
}

impl Display for DurationExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            DurationExpr::Literal { ms } => f.write_str(&format_duration_ms(*ms)),
            DurationExpr::Number(value) => f.write_str(&format_float(*value)),
            DurationExpr::Step => f.write_str("step()"),
            DurationExpr::Range => f.write_str("range()"),
            DurationExpr::Negate(inner) => write!(f, "-{inner}"),
            DurationExpr::Plus(inner) => inner.fmt(f),
            DurationExpr::Paren(inner) => write!(f, "({inner})"),
            DurationExpr::Binary { op, left, right } => write!(f, "{left} {} {right}", op.symbol()),
            DurationExpr::Pick { max, left, right } => {
                write!(f, "{}({left}, {right})", if *max { "max_of" } else { "min_of" })
            }
        }
    }
}

fn aggregate_head(aggregate: &Aggregate) -> String {
    let name = aggregate.op.name();
    if aggregate.without {
        format!("{name} without ({}) ", label_list(&aggregate.grouping))
    } else if aggregate.grouping.is_empty() {
        name.into()
    } else {
        format!("{name} by ({}) ", label_list(&aggregate.grouping))
    }
}

fn label_list(labels: &[String]) -> String {
    let shown =
        labels.iter().map(|label| if is_plain_label_name(label) { label.clone() } else { quote(label) });
    shown.collect::<Vec<_>>().join(", ")
}

/// The operator with its modifiers.
fn operator(binary: &Binary) -> String {
    let Binary { op, return_bool, matching, .. } = binary;
    let mut out = op.symbol().to_owned();
    if *return_bool {
        out.push_str(" bool");
    }
    let Matching { cardinality, on, labels, include, fill_left, fill_right } = matching;
    let grouped = match cardinality {
        Cardinality::ManyToOne => Some("group_left"),
        Cardinality::OneToMany => Some("group_right"),
        Cardinality::OneToOne | Cardinality::ManyToMany => None,
    };
    if *on || !labels.is_empty() || grouped.is_some() {
        _ = write!(out, " {} ({})", if *on { "on" } else { "ignoring" }, label_list(labels));
    }
    if let Some(grouped) = grouped {
        _ = write!(out, " {grouped} ({})", label_list(include));
    }
    let mut fill = |name: &str, value: f64| _ = write!(out, " {name} ({})", format_general(value));
    match (fill_left, fill_right) {
        (Some(left), Some(right)) if left.to_bits() == right.to_bits() => fill("fill", *left),
        (left, right) => {
            left.iter().for_each(|value| fill("fill_left", *value));
            right.iter().for_each(|value| fill("fill_right", *value));
        }
    }
    out
}

/// How long a line may get before its expression is broken over several.
const MAX_LINE: usize = 100;
const INDENT: &str = "  ";

/// Prints an expression over as many lines as it takes to keep them short.
pub fn format_query(expr: &Expr) -> String {
    let mut out = String::new();
    pretty(expr, 0, &mut out);
    out
}

fn indent(level: usize, out: &mut String) {
    out.extend(std::iter::repeat_n(INDENT, level));
}

fn pretty(expr: &Expr, level: usize, out: &mut String) {
    let flat = expr.to_string();
    let breakable = match &expr.kind {
        ExprKind::Call { args, .. } => !args.is_empty(),
        ExprKind::Aggregate(_) | ExprKind::Binary(_) | ExprKind::Paren(_) => true,
        ExprKind::Unary { .. } | ExprKind::Subquery(_) => true,
        _ => false,
    };
    if flat.len() <= MAX_LINE || !breakable {
        indent(level, out);
        out.push_str(&flat);
        return;
    }
    match &expr.kind {
        ExprKind::Paren(inner) => enclosed("(", [&**inner], ")", level, out),
        ExprKind::Call { function, args } => enclosed(&format!("{}(", function.name), args, ")", level, out),
        ExprKind::Aggregate(aggregate) => {
            let args = aggregate.param.as_deref().into_iter().chain([&*aggregate.operand]);
            enclosed(&format!("{}(", aggregate_head(aggregate)), args, ")", level, out);
        }
        ExprKind::Binary(binary) => {
            pretty(&binary.left, level + 1, out);
            out.push('\n');
            indent(level, out);
            out.push_str(&operator(binary));
            out.push('\n');
            pretty(&binary.right, level + 1, out);
        }
        ExprKind::Unary { negate, operand } => {
            let mut inner = String::new();
            pretty(operand, level, &mut inner);
            indent(level, out);
            out.push(if *negate { '-' } else { '+' });
            out.push_str(inner.trim_start());
        }
        ExprKind::Subquery(subquery) => {
            pretty(&subquery.operand, level, out);
            out.push_str(&subquery_suffix(subquery));
        }
        _ => {}
    }
}

fn enclosed<'e>(
    open: &str,
    parts: impl IntoIterator<Item = &'e Expr>,
    close: &str,
    level: usize,
    out: &mut String,
) {
    indent(level, out);
    out.push_str(open);
    out.push('\n');
    for (index, part) in parts.into_iter().enumerate() {
        if index > 0 {
            out.push_str(",\n");
        }
        pretty(part, level + 1, out);
    }
    out.push('\n');
    indent(level, out);
    out.push_str(close);
}

impl Display for BinaryOp {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.symbol())
    }
}
