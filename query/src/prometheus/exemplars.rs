//! `/api/v1/query_exemplars`.

use std::collections::BTreeMap;

use axum::response::Response;
use pharos_model::Labels;
use pharos_promql::{Expr, ExprKind, Selector, format_json_float, parse_with};
use serde_json::{Value, json};

use super::{
    respond::{ApiError, Notes, success},
    times::range,
};
use crate::{Engine, params::Params};

pub(crate) async fn exemplars(engine: &Engine, params: &Params) -> Result<Response, ApiError> {
    let range = range(params)?;
    if range.duration_ns() == 0 {
        return Err(ApiError::bad_data("end timestamp must not be before start timestamp"));
    }
    let expr = parse_with(params.get("query").unwrap_or(""), &engine.config().promql_features)
        .map_err(|error| ApiError::of_parameter("query", &error))?;
    let mut selectors = Vec::new();
    collect_selectors(&expr, &mut selectors);
    let mut found: BTreeMap<Labels, Value> = BTreeMap::new();
    for selector in selectors {
        for (labels, exemplars) in engine.storage().exemplars(&selector.matchers, range).await? {
            let exemplars: Vec<Value> = exemplars
                .iter()
                .map(|exemplar| {
                    json!({
                        "labels": pairs(&exemplar.labels),
                        "value": format_json_float(exemplar.value),
                        "timestamp": exemplar.time_ms as f64 / 1_000.0,
                    })
                })
                .collect();
            let entry = json!({ "seriesLabels": pairs(&labels), "exemplars": exemplars });
            found.insert(labels, entry);
        }
    }
    Ok(success(found.into_values().collect::<Vec<_>>(), &Notes::default()))
}

fn pairs(labels: &Labels) -> BTreeMap<&str, &str> {
    labels.iter().collect()
}

/// Every selector of the expression; its depth is bounded by the parser.
fn collect_selectors<'e>(expr: &'e Expr, into: &mut Vec<&'e Selector>) {
    match &expr.kind {
        ExprKind::Number { .. } | ExprKind::Text(_) => {}
        ExprKind::Selector(selector) | ExprKind::Range { selector, .. } => into.push(selector),
        ExprKind::Subquery(subquery) => collect_selectors(&subquery.operand, into),
        ExprKind::Aggregate(aggregate) => collect_selectors(&aggregate.operand, into),
        ExprKind::Binary(binary) => {
            collect_selectors(&binary.left, into);
            collect_selectors(&binary.right, into);
        }
        ExprKind::Unary { operand, .. } => collect_selectors(operand, into),
        ExprKind::Call { args, .. } => args.iter().for_each(|arg| collect_selectors(arg, into)),
        ExprKind::Paren(inner) => collect_selectors(inner, into),
    }
}
