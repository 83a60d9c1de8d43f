//! `/api/v1/features`: what is switched on, by category.

use std::collections::BTreeMap;

use axum::response::Response;
use pharos_promql::{BinaryOp, Features, functions};

use super::respond::{Notes, success};
use crate::rules::template_functions;

type Category = BTreeMap<String, bool>;

fn category<N: Into<String>>(entries: impl IntoIterator<Item = (N, bool)>) -> Category {
    entries.into_iter().map(|(name, is_on)| (name.into(), is_on)).collect()
}

pub(crate) fn features(on: Features) -> Response {
    let operators = [
        BinaryOp::Add,
        BinaryOp::Sub,
        BinaryOp::Mul,
        BinaryOp::Div,
        BinaryOp::Mod,
        BinaryOp::Pow,
        BinaryOp::Atan2,
        BinaryOp::Equal,
        BinaryOp::NotEqual,
        BinaryOp::Greater,
        BinaryOp::Less,
        BinaryOp::GreaterOrEqual,
        BinaryOp::LessOrEqual,
        BinaryOp::And,
        BinaryOp::Or,
        BinaryOp::Unless,
    ];
    let all = BTreeMap::from([
        (
            "api",
            category([
                ("admin", false),
                ("exclude_alerts", true),
                ("label_values_match", true),
                ("lifecycle", true),
                ("otlp_write_receiver", true),
                ("query_stats", true),
                ("query_warnings", true),
                ("remote_write_receiver", true),
            ]),
        ),
        (
            "promql",
            category([
                ("anchored", on.extended_selectors),
                ("at_modifier", true),
                ("bool", true),
                ("by", true),
                ("delayed_name_removal", on.delayed_name_removal),
                ("duration_expr", true),
                ("group_left", true),
                ("group_right", true),
                ("ignoring", true),
                ("negative_offset", true),
                ("offset", true),
                ("on", true),
                ("per_query_lookback_delta", true),
                ("smoothed", on.extended_selectors),
                ("subqueries", true),
                ("without", true),
            ]),
        ),
        (
            "promql_functions",
            category(
                functions()
                    .iter()
                    .map(|function| (function.name, !function.experimental || on.experimental_functions)),
            ),
        ),
        ("promql_operators", category(operators.map(|operator| (operator.symbol(), true)))),
        (
            "rules",
            category([("concurrent_rule_eval", false), ("keep_firing_for", true), ("query_offset", true)]),
        ),
        ("templating_functions", category(template_functions().map(|name| (name, true)))),
    ]);
    success(all, &Notes::default())
}
