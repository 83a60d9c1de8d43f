//! `/targets`, `/targets/metadata` and `/scrape_pools`: what is scraped.

use std::collections::BTreeMap;

use axum::response::Response;
use pharos_model::{LabelMatcher, METRIC_NAME, PromDuration, TimeRange};
use pharos_promql::{Matcher, parse_selector};
use serde_json::{Value, json};

use super::{
    respond::{ApiError, Notes, success},
    times::rfc3339_or_never,
};
use crate::{ActiveTarget, Engine, params::Params};

pub(crate) fn targets(engine: &Engine, params: &Params) -> Response {
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
        "droppedTargetCounts": targets.dropped_counts,
    });
    success(data, &Notes::default())
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

pub(crate) fn scrape_pools(engine: &Engine) -> Response {
    let mut pools = engine.host().scrape_targets().pools;
    pools.sort();
    success(json!({ "scrapePools": pools }), &Notes::default())
}

/// What targets say of their metrics. A family belongs to a target when a series of it carries the target's labels.
pub(crate) fn metadata(engine: &Engine, params: &Params) -> Result<Response, ApiError> {
    let limit = match params.i64("limit") {
        Ok(Some(limit)) if limit >= 0 => usize::try_from(limit).unwrap_or(usize::MAX),
        Ok(None) => usize::MAX,
        Ok(Some(_)) | Err(_) => return Err(ApiError::bad_data("limit must be a number")),
    };
    let selected: Vec<Matcher> = match params.text("match_target") {
        None => Vec::new(),
        Some(text) => {
            parse_selector(text).map_err(|error| ApiError::of_parameter("match_target", &error))?.matchers
        }
    };
    let metric = params.text("metric");
    let families: BTreeMap<String, _> = engine
        .storage()
        .metadata(metric)
        .into_iter()
        .map(|metadata| (metadata.family.clone(), metadata))
        .collect();
    let mut found: Vec<Value> = Vec::new();
    for target in engine.host().scrape_targets().active {
        if !selected.iter().all(|matcher| matcher.matches_labels(&target.labels)) {
            continue;
        }
        let matchers: Vec<LabelMatcher> =
            target.labels.iter().map(|(name, value)| LabelMatcher::equal(name, value)).collect();
        let names = engine.storage().label_values(METRIC_NAME, &matchers, TimeRange::ALL)?;
        let mut of_target = BTreeMap::new();
        for name in &names {
            let stems = ["", "_total", "_bucket", "_sum", "_count", "_info", "_created"];
            let stems = stems.iter().filter_map(|suffix| name.strip_suffix(suffix));
            of_target.extend(stems.filter_map(|stem| families.get(stem)).map(|known| (&known.family, known)));
        }
        for known in of_target.into_values() {
            if found.len() >= limit {
                return Ok(success(found, &Notes::default()));
            }
            let mut entry = json!({
                "target": target.labels,
                "type": known.kind.name(),
                "help": known.help,
                "unit": known.unit,
            });
            if metric.is_none()
                && let Some(entry) = entry.as_object_mut()
            {
                entry.insert("metric".into(), Value::from(known.family.as_str()));
            }
            found.push(entry);
        }
    }
    if found.is_empty() && (metric.is_some() || !selected.is_empty()) {
        return Err(ApiError::not_found("specified metadata not found"));
    }
    Ok(success(found, &Notes::default()))
}
