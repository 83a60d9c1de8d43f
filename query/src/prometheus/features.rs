//! `/api/v1/features`: what is switched on, by category.

use std::collections::BTreeMap;

use axum::response::Response;
use pharos_promql::{BinaryOp, functions};

use super::respond::{ApiError, Notes, success};
use crate::{Engine, params::Params, rules::template_functions};

type Category = BTreeMap<String, bool>;

fn category<N: Into<String>>(entries: impl IntoIterator<Item = (N, bool)>) -> Category {
    entries.into_iter().map(|(name, is_on)| (name.into(), is_on)).collect()
}

pub(crate) fn features(engine: &Engine, _: &Params) -> Result<Response, ApiError> {
    let on = engine.config().promql_features;
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
                ("search", false),
                ("time_range_labels", true),
                ("time_range_series", true),
            ]),
        ),
        (
            "prometheus",
            category([("agent_mode", false), ("auto_reload_config", false), ("server_mode", true)]),
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
                ("per_step_stats", true),
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
        ("scrape", category([("extra_scrape_metrics", true), ("type_and_unit_labels", false)])),
        (
            "service_discovery_providers",
            category([("dns", true), ("file", true), ("http", true), ("static", true)]),
        ),
        ("templating_functions", category(template_functions().map(|name| (name, true)))),
        ("tsdb", category([("exemplar_storage", true), ("native_histograms", true)])),
    ]);
    Ok(success(all, &Notes::default()))
}
