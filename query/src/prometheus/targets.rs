//! `/targets` and `/targets/metadata`: what is scraped.

use axum::response::Response;
use pharos_model::{Matcher, PromDuration};
use pharos_promql::parse_selector;
use serde_json::{Value, json};

use super::{
    respond::{ApiError, Notes, success},
    times::rfc3339_or_never,
};
use crate::{ActiveTarget, Engine, params::Params};

pub(crate) fn targets(engine: &Engine, params: &Params) -> Result<Response, ApiError> {
    let mut targets = engine.host().scrape_targets();
    if let Some(pool) = params.text("scrapePool") {
        targets.active.retain(|target| target.scrape_pool == pool);
        targets.dropped.retain(|target| target.scrape_pool == pool);
    }
    let state = params.text("state").map(str::to_lowercase).unwrap_or_default();
    let shows = |kind: &str| matches!(state.as_str(), "" | "any") || state == kind;
    if !shows("active") {
        targets.active.clear();
    }
    if !shows("dropped") {
        targets.dropped.clear();
    }
    let dropped = targets.dropped.iter().map(
        |target| json!({ "discoveredLabels": target.discovered_labels, "scrapePool": target.scrape_pool }),
    );
    let data = json!({
        "activeTargets": targets.active.iter().map(active_json).collect::<Vec<_>>(),
        "droppedTargets": dropped.collect::<Vec<_>>(),
        "droppedTargetCounts": shows("dropped").then_some(targets.dropped_counts),
    });
    Ok(success(data, &Notes::default()))
}

fn active_json(target: &ActiveTarget) -> Value {
    let last = target.last_scrape.as_ref();
    let error = last.and_then(|last| last.error.as_deref());
    let health = match (last, error) {
        (None, _) => "unknown",
        (Some(_), None) => "up",
        (Some(_), Some(_)) => "down",
    };
    json!({
        "discoveredLabels": target.discovered_labels,
        "labels": target.labels,
        "scrapePool": target.scrape_pool,
        "scrapeUrl": target.scrape_url,
        "globalUrl": target.global_url,
        "lastError": error.unwrap_or(""),
        "lastScrape": rfc3339_or_never(last.map(|last| last.time_ms)),
        "lastScrapeDuration": last.map_or(0.0, |last| last.took.as_secs_f64()),
        "health": health,
        "scrapeInterval": PromDuration(target.interval).to_string(),
        "scrapeTimeout": PromDuration(target.timeout).to_string(),
    })
}

/// What targets say of their metrics.
pub(crate) fn metadata(engine: &Engine, params: &Params) -> Result<Response, ApiError> {
    let limit = entry_limit(params, "limit")?;
    let selected: Vec<Matcher> = match params.text("match_target") {
        None => Vec::new(),
        Some(text) => {
            parse_selector(text).map_err(|error| ApiError::of_parameter("match_target", &error))?.matchers
        }
    };
    let metric = params.text("metric");
    let mut found: Vec<Value> = Vec::new();
    for target in engine.host().target_metadata() {
        // As in Prometheus, the limit never cuts a target's list.
        if limit.is_some_and(|limit| found.len() >= limit) {
            break;
        }
        if !selected.iter().all(|matcher| matcher.matches_labels(&target.labels)) {
            continue;
        }
        for family in target.families.iter().filter(|known| metric.is_none_or(|name| known.family == name)) {
            let mut entry = json!({
                "target": target.labels,
                "type": family.kind.name(),
                "help": family.help,
                "unit": family.unit,
            });
            if metric.is_none()
                && let Some(entry) = entry.as_object_mut()
            {
                entry.insert("metric".into(), Value::from(family.family.as_str()));
            }
            found.push(entry);
        }
    }
    Ok(success(found, &Notes::default()))
}

/// A limit where 0 is none at all and less than 0 is no limit.
pub(crate) fn entry_limit(params: &Params, name: &str) -> Result<Option<usize>, ApiError> {
    match params.i64(name) {
        Ok(limit) => Ok(limit.and_then(|limit| usize::try_from(limit).ok())),
        Err(_) => Err(ApiError::bad_data(format!("{name} must be a number"))),
    }
}
