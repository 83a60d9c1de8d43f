//! `/scrape_pools`, `/scrape_pools/config` and `/targets/relabel_steps`: what the scrape configurations are, and what
//! one of them makes of a target.

use std::collections::BTreeMap;

use axum::response::Response;
use pharos_model::Labels;
use serde_json::{Value, json};

use super::respond::{ApiError, Notes, success};
use crate::{Engine, params::Params};

pub(crate) fn list(engine: &Engine, _: &Params) -> Result<Response, ApiError> {
    let mut pools = engine.host().scrape_targets().pools;
    pools.sort();
    Ok(success(json!({ "scrapePools": pools }), &Notes::default()))
}

fn pool_of(params: &Params) -> Result<&str, ApiError> {
    params.text("scrapePool").ok_or_else(|| ApiError::bad_data("no scrapePool parameter provided"))
}

fn unknown(pool: &str) -> ApiError {
    ApiError::bad_data(format!("error retrieving scrape config: scrape pool {pool:?} not found"))
}

pub(crate) fn config(engine: &Engine, params: &Params) -> Result<Response, ApiError> {
    let pool = pool_of(params)?;
    let yaml = engine.host().scrape_config(pool).ok_or_else(|| unknown(pool))?;
    Ok(success(json!({ "yaml": yaml }), &Notes::default()))
}

pub(crate) fn relabel_steps(engine: &Engine, params: &Params) -> Result<Response, ApiError> {
    let pool = pool_of(params)?;
    let labels = params.text("labels").ok_or_else(|| ApiError::bad_data("no labels parameter provided"))?;
    let labels: BTreeMap<String, String> = serde_json::from_str(labels)
        .map_err(|error| ApiError::bad_data(format!("error parsing labels: {error}")))?;
    let steps = engine.host().relabel_steps(pool, Labels::from(labels)).ok_or_else(|| unknown(pool))?;
    let steps: Vec<Value> = steps
        .into_iter()
        .map(|step| json!({ "rule": step.rule, "output": step.output, "keep": step.keep }))
        .collect();
    Ok(success(json!({ "steps": steps }), &Notes::default()))
}
