//! `/format_query` and `/parse_query`: a query as text that is easy to read, and as a tree in JSON.

use axum::response::Response;
use pharos_model::MatchOp;
use pharos_promql::{
    At, BinaryOp, Cardinality, DurationExpr, Expr, ExprKind, Extension, Features, Selector, TimeShift,
    ValueType, Variadic, format_float, format_query, parse_with,
};
use serde_json::{Map, Value, json};

use super::respond::{ApiError, Notes, success};
use crate::params::Params;

fn parsed(params: &Params, features: Features) -> Result<Expr, ApiError> {
    let text = params.get("query").unwrap_or("");
    parse_with(text, &features).map_err(|error| ApiError::of_parameter("query", &error))
}

pub(crate) fn format(params: &Params, features: Features) -> Result<Response, ApiError> {
    Ok(success(format_query(&parsed(params, features)?), &Notes::default()))
}

pub(crate) fn parse(params: &Params, features: Features) -> Result<Response, ApiError> {
    Ok(success(tree(&parsed(params, features)?), &Notes::default()))
}

/// A node in the form of Prometheus' own UI. The parser bounds the depth.
fn tree(expr: &Expr) -> Value {
    match &expr.kind {
        ExprKind::Number { value, .. } => json!({ "type": "numberLiteral", "val": format_float(*value) }),
        ExprKind::Text(text) => json!({ "type": "stringLiteral", "val": text }),
        ExprKind::Paren(inner) => json!({ "type": "parenExpr", "expr": tree(inner) }),
        ExprKind::Unary { negate, operand } => {
            json!({ "type": "unaryExpr", "op": if *negate { "-" } else { "+" }, "expr": tree(operand) })
        }
        ExprKind::Selector(selector) => Value::Object(selector_fields("vectorSelector", selector)),
        ExprKind::Range { selector, range } => {
            let mut fields = selector_fields("matrixSelector", selector);
            fields.insert("range".into(), constant_ms(range).into());
            Value::Object(fields)
        }
        ExprKind::Subquery(subquery) => {
            let mut fields = Map::from_iter([
                ("type".to_string(), Value::from("subquery")),
                ("expr".to_string(), tree(&subquery.operand)),
                ("range".to_string(), constant_ms(&subquery.range).into()),
                ("step".to_string(), subquery.step.as_ref().map_or(0, constant_ms).into()),
            ]);
            fields.extend(time_fields(&subquery.time));
            Value::Object(fields)
        }
        ExprKind::Aggregate(aggregate) => json!({
            "type": "aggregation",
            "op": aggregate.op.name(),
            "expr": tree(&aggregate.operand),
            "param": aggregate.param.as_deref().map(tree),
            "grouping": aggregate.grouping,
            "without": aggregate.without,
        }),
        ExprKind::Call { function, args } => json!({
            "type": "call",
            "func": {
                "name": function.name,
                "argTypes": function.args.iter().map(|kind| type_name(*kind)).collect::<Vec<_>>(),
                "variadic": match function.variadic {
                    Variadic::No => 0,
                    Variadic::Optional(count) | Variadic::AtMost(count) => i64::try_from(count).unwrap_or(0),
                    Variadic::Repeated => -1,
                },
                "returnType": type_name(function.returns),
            },
            "args": args.iter().map(tree).collect::<Vec<_>>(),
        }),
        ExprKind::Binary(binary) => {
            let are_vectors = [&binary.left, &binary.right]
                .iter()
                .all(|side| side.value_type() == ValueType::InstantVector);
            let matching = &binary.matching;
            let matching = are_vectors.then(|| {
                json!({
                    "card": cardinality(binary.op, matching.cardinality),
                    "labels": matching.labels,
                    "on": matching.on,
                    "include": matching.include,
                    "fillValues": { "lhs": matching.fill_left, "rhs": matching.fill_right },
                })
            });
            json!({
                "type": "binaryExpr",
                "op": binary.op.symbol(),
                "lhs": tree(&binary.left),
                "rhs": tree(&binary.right),
                "matching": matching,
                "bool": binary.return_bool,
            })
        }
    }
}

fn cardinality(op: BinaryOp, cardinality: Cardinality) -> &'static str {
    match cardinality {
        _ if op.is_set() => "many-to-many",
        Cardinality::OneToOne => "one-to-one",
        Cardinality::ManyToOne => "many-to-one",
        Cardinality::OneToMany => "one-to-many",
        Cardinality::ManyToMany => "many-to-many",
    }
}

fn type_name(kind: ValueType) -> &'static str {
    match kind {
        ValueType::Scalar => "scalar",
        ValueType::String => "string",
        ValueType::InstantVector => "vector",
        ValueType::RangeVector => "matrix",
    }
}

fn selector_fields(kind: &str, selector: &Selector) -> Map<String, Value> {
    let matchers = selector.matchers.iter().map(|matcher| {
        let op = match matcher.op() {
            MatchOp::Equal => "=",
            MatchOp::NotEqual => "!=",
            MatchOp::Regex => "=~",
            MatchOp::NotRegex => "!~",
        };
        json!({ "name": matcher.name(), "value": matcher.value(), "type": op })
    });
    let mut fields = Map::from_iter([
        ("type".to_string(), Value::from(kind)),
        ("name".to_string(), Value::from(selector.name.as_deref().unwrap_or(""))),
        ("matchers".to_string(), Value::Array(matchers.collect())),
        ("anchored".to_string(), (selector.extension == Some(Extension::Anchored)).into()),
        ("smoothed".to_string(), (selector.extension == Some(Extension::Smoothed)).into()),
    ]);
    fields.extend(time_fields(&selector.time));
    fields
}

fn time_fields(time: &TimeShift) -> [(String, Value); 3] {
    let (timestamp, start_or_end) = match time.at {
        None => (Value::Null, Value::Null),
        Some(At::TimeMs(ms)) => (ms.into(), Value::Null),
        Some(At::Start) => (Value::Null, "start".into()),
        Some(At::End) => (Value::Null, "end".into()),
    };
    [
        ("offset".to_string(), time.offset.as_ref().map_or(0, constant_ms).into()),
        ("timestamp".to_string(), timestamp),
        ("startOrEnd".to_string(), start_or_end),
    ]
}

/// A duration in milliseconds; 0 where it depends on the query's step or range, as in Prometheus.
fn constant_ms(duration: &DurationExpr) -> i64 {
    constant_s(duration).map_or(0, |seconds| (seconds * 1e3).round() as i64)
}

fn constant_s(duration: &DurationExpr) -> Option<f64> {
    Some(match duration {
        DurationExpr::Literal { ms } => *ms as f64 / 1e3,
        DurationExpr::Number(value) => *value,
        DurationExpr::Step | DurationExpr::Range => return None,
        DurationExpr::Negate(inner) => -constant_s(inner)?,
        DurationExpr::Plus(inner) | DurationExpr::Paren(inner) => constant_s(inner)?,
        DurationExpr::Pick { max, left, right } => {
            let (left, right) = (constant_s(left)?, constant_s(right)?);
            if *max { left.max(right) } else { left.min(right) }
        }
        DurationExpr::Binary { op, left, right } => {
            let (left, right) = (constant_s(left)?, constant_s(right)?);
            match op {
                BinaryOp::Add => left + right,
                BinaryOp::Sub => left - right,
                BinaryOp::Mul => left * right,
                BinaryOp::Div => left / right,
                BinaryOp::Mod => left % right,
                BinaryOp::Pow => left.powf(right),
                _ => return None,
            }
        }
    })
}
