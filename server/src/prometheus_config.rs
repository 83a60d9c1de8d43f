//! The parts of the configuration file that are Prometheus' own, as far as they are not the collector's.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, ensure};
use pharos_collector::AlertingConfig;
use pharos_model::{Labels, PromDuration};
use pharos_query::RuleSettings;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// What rules take from `global`; the collector reads and checks the rest of it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Global {
    evaluation_interval: Option<PromDuration>,
    rule_query_offset: PromDuration,
    external_labels: BTreeMap<String, String>,
}

const EVALUATION_INTERVAL: Duration = Duration::from_secs(60);

/// # Errors
/// `global` holds a wrong value.
pub(crate) fn rule_settings(
    global: Option<&Value>,
    files: &[PathBuf],
    external_url: String,
    base: &Path,
) -> anyhow::Result<RuleSettings> {
    let global: Global = match global {
        None | Some(Value::Null) => Global::default(),
        Some(global) => serde_json::from_value(global.clone()).context("global")?,
    };
    let evaluation_interval = global.evaluation_interval.map_or(EVALUATION_INTERVAL, |interval| interval.0);
    ensure!(!evaluation_interval.is_zero(), "global: evaluation_interval is 0");
    Ok(RuleSettings {
        files: files.to_vec(),
        base: base.to_path_buf(),
        evaluation_interval,
        query_offset: global.rule_query_offset.0,
        external_labels: Labels::from(global.external_labels),
        external_url,
    })
}

/// # Errors
/// `alerting` holds what is not supported, or a wrong value.
pub(crate) fn alerting(alerting: Option<&Value>, base: &Path) -> anyhow::Result<AlertingConfig> {
    Ok(match alerting {
        None | Some(Value::Null) => AlertingConfig::default(),
        // JSON is YAML; the collector reads Prometheus' own format.
        Some(alerting) => AlertingConfig::parse(&alerting.to_string(), base)?,
    })
}

/// The configuration as YAML, with the defaults that Kiali reads and without secrets.
pub(crate) fn shown(
    global: Option<&Value>,
    alerting: Option<&Value>,
    rule_files: Option<&[PathBuf]>,
    scrape_configs: Option<&Value>,
) -> String {
    let mut shown_global = global.and_then(Value::as_object).cloned().unwrap_or_default();
    // What is pushed comes every 15 s as a rule; what is scraped, every minute where nothing else is said.
    let interval = if scrape_configs.is_some() { "1m" } else { "15s" };
    shown_global.entry("scrape_interval").or_insert_with(|| interval.into());
    shown_global.entry("evaluation_interval").or_insert_with(|| "1m".into());
    let mut config = Map::from_iter([("global".to_string(), Value::Object(shown_global))]);
    if let Some(alerting) = alerting {
        config.insert("alerting".into(), alerting.clone());
    }
    if let Some(files) = rule_files {
        config.insert("rule_files".into(), json!(files));
    }
    if let Some(scrape_configs) = scrape_configs {
        config.insert("scrape_configs".into(), scrape_configs.clone());
    }
    let mut config = Value::Object(config);
    hide_secrets(&mut config);
    serde_saphyr::to_string(&config).unwrap_or_default()
}

/// A scrape configuration as YAML, with the defaults of what is not said and without secrets.
pub(crate) fn shown_job(job: &Value) -> String {
    let defaults = json!({
        "honor_timestamps": true,
        "track_timestamps_staleness": false,
        "metrics_path": "/metrics",
        "scheme": "http",
        "enable_compression": true,
        "follow_redirects": true,
        "enable_http2": true,
    });
    let mut shown = job.clone();
    if let (Some(shown), Value::Object(defaults)) = (shown.as_object_mut(), defaults) {
        for (name, value) in defaults {
            shown.entry(name).or_insert(value);
        }
    }
    hide_secrets(&mut shown);
    serde_saphyr::to_string(&shown).unwrap_or_default()
}

fn hide_secrets(value: &mut Value) {
    const SECRETS: [&str; 8] = [
        "password",
        "credentials",
        "bearer_token",
        "client_secret",
        "secret_key",
        "token",
        // Of a client certificate, and of header values.
        "key",
        "secrets",
    ];
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if SECRETS.contains(&name.as_str()) {
                    // An empty one is shown as what it is; of a list, each.
                    match value {
                        Value::Array(all) => all.iter_mut().for_each(|one| *one = "<secret>".into()),
                        Value::String(text) if text.is_empty() => {}
                        value => *value = "<secret>".into(),
                    }
                } else {
                    hide_secrets(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(hide_secrets),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shown_configuration_has_defaults_and_no_secrets() {
        let alerting =
            json!({ "alertmanagers": [{ "basic_auth": { "username": "u", "password": "p4ss" } }] });
        let yaml = shown(Some(&json!({ "evaluation_interval": "30s" })), Some(&alerting), None, None);
        for line in ["scrape_interval: 15s", "evaluation_interval: 30s", "username: u", "<secret>"] {
            assert!(yaml.contains(line), "{yaml}");
        }
        assert!(!yaml.contains("p4ss"), "{yaml}");
    }

    #[test]
    fn a_wrong_value_is_named() {
        let of = |global: Value, alerting: Value| {
            let settings = rule_settings(Some(&global), &[], String::new(), Path::new(""));
            let alerting = super::alerting(Some(&alerting), Path::new(""));
            settings.and(alerting).map(|_| ()).map_err(|error| format!("{error:#}"))
        };
        assert_eq!(of(json!({ "external_labels": { "cluster": "a" } }), json!({})), Ok(()));
        for (global, alerting, words) in [
            (json!({ "evaluation_interval": "soon" }), json!({}), "\"soon\""),
            (json!({ "evaluation_interval": "0s" }), json!({}), "evaluation_interval is 0"),
            (json!({}), json!({ "alertmanagers": [{ "scheme": "gopher" }] }), "gopher"),
            (json!({}), json!({ "alertmanagers": [{ "consul_sd_configs": [] }] }), "consul_sd_configs"),
        ] {
            let error = of(global, alerting).expect_err(words);
            assert!(error.contains(words), "{error}");
        }
    }
}
