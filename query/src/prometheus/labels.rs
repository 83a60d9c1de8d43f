//! `/series`, `/labels`, `/label/<name>/values`, `/metadata`.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use axum::response::Response;
use pharos_model::Matcher;
use pharos_promql::parse_selector;
use serde_json::{Value, json};

use super::{
    query::result_limit,
    respond::{ApiError, Notes, success},
    targets::entry_limit,
    times::range,
};
use crate::{Engine, params::Params};

/// Selectors of one request.
const MAX_SELECTORS: usize = 100;

/// The selectors of `match[]`, as matchers. None at all gives an empty list.
pub(crate) fn selectors(params: &Params) -> Result<Vec<Vec<Matcher>>, ApiError> {
    let texts: Vec<&str> = params.all("match[]").collect();
    if texts.len() > MAX_SELECTORS {
        return Err(ApiError::bad_data(format!(
            "invalid parameter \"match[]\": more than {MAX_SELECTORS} selectors"
        )));
    }
    texts
        .into_iter()
        .map(|text| {
            let selector = parse_selector(text).map_err(|error| ApiError::of_parameter("match[]", &error))?;
            Ok(selector.matchers)
        })
        .collect()
}

/// Without selectors every series counts.
fn selectors_or_all(params: &Params) -> Result<Vec<Vec<Matcher>>, ApiError> {
    let mut selectors = selectors(params)?;
    if selectors.is_empty() {
        selectors.push(Vec::new());
    }
    Ok(selectors)
}

fn limited<T>(all: BTreeSet<T>, limit: usize) -> (Vec<T>, Notes) {
    let is_truncated = all.len() > limit;
    (all.into_iter().take(limit).collect(), Notes::truncated(is_truncated))
}

pub(crate) fn names(engine: &Engine, params: &Params) -> Result<Response, ApiError> {
    let (range, limit) = (range(params)?, result_limit(params)?);
    let mut names = BTreeSet::new();
    for matchers in selectors_or_all(params)? {
        names.extend(engine.storage().label_names(&matchers, range));
    }
    let (names, notes) = limited(names, limit);
    Ok(success(names, &notes))
}

pub(crate) fn values(engine: &Engine, name: &str, params: &Params) -> Result<Response, ApiError> {
    let name = &*unescaped(name);
    if name.is_empty() {
        return Err(ApiError::bad_data("invalid label name: \"\""));
    }
    let (range, limit) = (range(params)?, result_limit(params)?);
    let mut values = BTreeSet::new();
    for matchers in selectors_or_all(params)? {
        values.extend(engine.storage().label_values(name, &matchers, range));
    }
    let (values, notes) = limited(values, limit);
    Ok(success(values, &notes))
}

/// A name that a URL cannot hold comes as `U__` and the name with `_` doubled and other characters as `_hex_`; what is
/// not well formed is taken as it stands.
fn unescaped(name: &str) -> Cow<'_, str> {
    let Some(escaped) = name.strip_prefix("U__") else { return Cow::Borrowed(name) };
    let mut out = String::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some((plain, after)) = rest.split_once('_') {
        out.push_str(plain);
        if let Some(after) = after.strip_prefix('_') {
            out.push('_');
            rest = after;
            continue;
        }
        let decoded = after.split_once('_').and_then(|(hex, after)| {
            let code = (hex.len() <= 6).then(|| u32::from_str_radix(hex, 16).ok()).flatten()?;
            Some((char::from_u32(code)?, after))
        });
        let Some((c, after)) = decoded else { return Cow::Borrowed(name) };
        out.push(c);
        rest = after;
    }
    out.push_str(rest);
    Cow::Owned(out)
}

pub(crate) fn series(engine: &Engine, params: &Params) -> Result<Response, ApiError> {
    let (range, limit) = (range(params)?, result_limit(params)?);
    let selectors = selectors(params)?;
    if selectors.is_empty() {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    let mut found = BTreeSet::new();
    for matchers in selectors {
        let series = engine.storage().select_series(&matchers, range, engine.config().promql_max_series)?;
        found.extend(series.into_iter().map(|(_, labels)| labels));
    }
    let (series, notes) = limited(found, limit);
    let series: Vec<BTreeMap<&str, &str>> = series.iter().map(|labels| labels.iter().collect()).collect();
    Ok(success(series, &notes))
}

pub(crate) fn metadata(engine: &Engine, params: &Params) -> Result<Response, ApiError> {
    let limit = entry_limit(params, "limit")?.unwrap_or(usize::MAX);
    let per_metric = match entry_limit(params, "limit_per_metric")? {
        None | Some(0) => usize::MAX,
        Some(limit) => limit,
    };
    let metric = params.text("metric");
    let of_targets = engine.host().target_metadata();
    let of_targets = of_targets.iter().flat_map(|target| target.families.iter());
    let all = engine.storage().metadata(metric);
    let mut families: BTreeMap<&str, BTreeSet<(&str, &str, &str)>> = BTreeMap::new();
    for known in all.iter().chain(of_targets.filter(|known| metric.is_none_or(|name| known.family == name))) {
        let told = families.entry(&known.family).or_default();
        if told.len() < per_metric {
            told.insert((known.kind.name(), &known.help, &known.unit));
        }
    }
    let families: BTreeMap<&str, Vec<Value>> = families
        .into_iter()
        .take(limit)
        .map(|(family, told)| {
            let entry = |(kind, help, unit)| json!({ "type": kind, "help": help, "unit": unit });
            (family, told.into_iter().map(entry).collect())
        })
        .collect();
    Ok(success(families, &Notes::default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unescaped_where_they_are_well_formed() {
        for (escaped, name) in [
            ("plain", "plain"),
            ("U__http_2e_status", "http.status"),
            ("U__a__b", "a_b"),
            ("U___1f600_", "😀"),
            ("U__a_zz_b", "U__a_zz_b"),
            ("U__a_2e", "U__a_2e"),
            ("U__a_110000_", "U__a_110000_"),
            ("U__", ""),
        ] {
            assert_eq!(unescaped(escaped), name, "{escaped}");
        }
    }
}
