//! `/rules`, `/alerts` and `/alertmanagers`.

use std::collections::BTreeSet;

use axum::response::Response;
use pharos_model::{Labels, Matcher};
use pharos_promql::parse_selector;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{
    respond::{ApiError, Notes, success},
    times::{rfc3339, rfc3339_or_never},
};
use crate::{
    Engine,
    params::Params,
    rules::{Alert, Group, Rule, RuleKind, RuleState},
};

pub(crate) fn alerts(engine: &Engine, _: &Params) -> Result<Response, ApiError> {
    let groups = engine.rules().groups();
    let rules = groups.iter().flat_map(|group| &group.rules);
    let alerts: Vec<Value> = rules.flat_map(|rule| active_alerts(&rule.state.read())).collect();
    Ok(success(json!({ "alerts": alerts }), &Notes::default()))
}

pub(crate) fn alertmanagers(engine: &Engine, _: &Params) -> Result<Response, ApiError> {
    let alertmanagers = engine.rules().alertmanagers();
    let active = alertmanagers.active();
    let active: Vec<Value> = active.iter().map(|known| json!({ "url": known.url() })).collect();
    let dropped = alertmanagers.dropped_urls().into_iter();
    let dropped: Vec<Value> = dropped.map(|url| json!({ "url": url })).collect();
    Ok(success(json!({ "activeAlertmanagers": active, "droppedAlertmanagers": dropped }), &Notes::default()))
}

/// What a request wants to see of the rules.
struct Filter {
    alerting: bool,
    recording: bool,
    names: BTreeSet<String>,
    groups: BTreeSet<String>,
    files: BTreeSet<String>,
    matchers: Vec<Vec<Matcher>>,
    with_alerts: bool,
}

impl Filter {
    fn parse(params: &Params) -> Result<Filter, ApiError> {
        let kind = params.text("type").map(str::to_lowercase);
        if let Some(other) = kind.as_deref().filter(|kind| !matches!(*kind, "alert" | "record")) {
            return Err(ApiError::bad_data(format!(
                "invalid parameter \"type\": not supported value {other:?}"
            )));
        }
        let set = |name: &str| params.all(name).map(str::to_string).collect::<BTreeSet<_>>();
        let matchers = params
            .all("match[]")
            .map(|text| {
                let selector =
                    parse_selector(text).map_err(|error| ApiError::of_parameter("match[]", &error))?;
                Ok(selector.matchers)
            })
            .collect::<Result<Vec<_>, ApiError>>()?;
        Ok(Filter {
            alerting: kind.as_deref() != Some("record"),
            recording: kind.as_deref() != Some("alert"),
            names: set("rule_name[]"),
            groups: set("rule_group[]"),
            files: set("file[]"),
            matchers,
            with_alerts: !params.bool("exclude_alerts", false)?,
        })
    }

    fn wants_group(&self, group: &Group) -> bool {
        (self.groups.is_empty() || self.groups.contains(&group.spec.name))
            && (self.files.is_empty() || self.files.contains(&group.spec.file))
    }

    fn wants(&self, rule: &Rule) -> bool {
        let labels = || own_labels(rule);
        (if rule.is_alerting() { self.alerting } else { self.recording })
            && (self.names.is_empty() || self.names.contains(&rule.spec.name))
            && (self.matchers.is_empty() || {
                let labels = labels();
                self.matchers.iter().any(|set| set.iter().all(|matcher| matcher.matches_labels(&labels)))
            })
    }
}

pub(crate) fn rules(engine: &Engine, params: &Params) -> Result<Response, ApiError> {
    let filter = Filter::parse(params)?;
    let wrong = |name: &str, what: &str| ApiError::bad_data(format!("invalid parameter {name:?}: {what}"));
    let limit = match params.i64("group_limit") {
        Ok(None) => None,
        Ok(Some(limit)) if limit > 0 => usize::try_from(limit).ok(),
        Ok(Some(_)) => return Err(wrong("group_limit", "group_limit needs to be greater than 0")),
        Err(error) => {
            let what = format!("group_limit needs to be a valid number: {}", error.message);
            return Err(wrong("group_limit", &what));
        }
    };
    let from = params.text("group_next_token");
    if from.is_some() && limit.is_none() {
        let what = "group_limit needs to be present in order to paginate over the groups";
        return Err(wrong("group_next_token", what));
    }
    let mut groups = engine.rules().groups();
    groups.sort_by(|a, b| (&a.spec.file, &a.spec.name).cmp(&(&b.spec.file, &b.spec.name)));
    let start = match from {
        None => 0,
        Some(token) => groups.iter().position(|group| page_token(group) == token).ok_or_else(|| {
            wrong(
                "group_next_token",
                &format!("invalid group_next_token '{token}'. were rule groups changed?"),
            )
        })?,
    };
    let mut shown = Vec::new();
    let mut next = None;
    for group in groups.iter().skip(start).filter(|group| filter.wants_group(group)) {
        let rules: Vec<Value> = group
            .rules
            .iter()
            .filter(|rule| filter.wants(rule))
            .map(|rule| rule_json(rule, &filter))
            .collect();
        if rules.is_empty() {
            continue;
        }
        if limit.is_some_and(|limit| shown.len() == limit) {
            next = Some(page_token(group));
            break;
        }
        shown.push(group_json(group, rules));
    }
    let mut data = Map::from_iter([("groups".to_string(), Value::Array(shown))]);
    if let Some(token) = next {
        data.insert("groupNextToken".into(), token.into());
    }
    Ok(success(data, &Notes::default()))
}

/// Names a group to go on with.
fn page_token(group: &Group) -> String {
    hex::encode(Sha256::digest(format!("{};{}", group.spec.file, group.spec.name)))
}

fn group_json(group: &Group, rules: Vec<Value>) -> Value {
    let last = *group.last.read();
    json!({
        "name": group.spec.name,
        "file": group.spec.file,
        "rules": rules,
        "interval": group.interval.as_secs_f64(),
        "limit": group.spec.limit,
        "evaluationTime": last.took.as_secs_f64(),
        "lastEvaluation": rfc3339_or_never(last.time_ms),
    })
}

fn own_labels(rule: &Rule) -> Labels {
    Labels::from_pairs(rule.spec.labels.iter().map(|(name, label)| (name.as_str(), label.text.as_str())))
}

fn rule_json(rule: &Rule, filter: &Filter) -> Value {
    let state = rule.state.read();
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| _ = fields.insert(name.to_string(), value);
    put("name", rule.spec.name.as_str().into());
    put("query", rule.spec.expr.to_string().into());
    let labels = own_labels(rule);
    match &rule.spec.kind {
        RuleKind::Recording => {
            put("labels", json!(labels));
            put("type", "recording".into());
        }
        RuleKind::Alerting { hold, keep_firing, annotations } => {
            let annotations: Map<String, Value> = annotations
                .iter()
                .map(|(name, annotation)| (name.clone(), annotation.text.as_str().into()))
                .collect();
            put("state", state.alerts.state().name().into());
            put("duration", hold.as_secs_f64().into());
            put("keepFiringFor", keep_firing.as_secs_f64().into());
            put("labels", json!(labels));
            put("annotations", Value::Object(annotations));
            put("alerts", if filter.with_alerts { active_alerts(&state).into() } else { json!([]) });
            put("type", "alerting".into());
        }
    }
    put("health", state.health.name().into());
    if let Some(error) = &state.error {
        put("lastError", error.as_str().into());
    }
    put("evaluationTime", state.took.as_secs_f64().into());
    put("lastEvaluation", rfc3339_or_never(state.evaluated_ms).into());
    Value::Object(fields)
}

fn active_alerts(state: &RuleState) -> Vec<Value> {
    state.alerts.active().map(|(labels, alert)| alert_json(labels, alert)).collect()
}

fn alert_json(labels: &Labels, alert: &Alert) -> Value {
    let mut fields = json!({
        "labels": labels,
        "annotations": alert.annotations,
        "state": alert.state.name(),
        "activeAt": rfc3339(alert.active_at_ms),
        "value": with_exponent(alert.value),
    });
    if let (Some(since_ms), Some(fields)) = (alert.keep_firing_since_ms, fields.as_object_mut()) {
        fields.insert("keepFiringSince".into(), rfc3339(since_ms).into());
    }
    fields
}

/// Go's `%e` with the fewest digits, as Prometheus shows the values of alerts: `1e+00`.
fn with_exponent(value: f64) -> String {
    if !value.is_finite() {
        return pharos_promql::format_float(value);
    }
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    match exponent.strip_prefix('-') {
        Some(exponent) => format!("{digits}e-{exponent:0>2}"),
        None => format!("{digits}e+{exponent:0>2}"),
    }
}
