//! `/api/v1/status/*`: what Kiali, Grafana and promtool ask of the server itself.

use std::collections::BTreeMap;

use axum::response::Response;
use jiff::Timestamp;
use pharos_model::{METRIC_NAME, TimeRange, UnixNanos, format_duration_ms};
use pharos_storage::Table;
use serde_json::{Value, json};

use super::respond::{ApiError, Notes, success};
use crate::{Engine, params::Params};

/// The release of Prometheus whose API this is; Grafana switches features by it.
const COMPATIBLE_WITH: &str = "3.14.0";

fn answer(data: Value) -> Response {
    success(data, &Notes::default())
}

fn duration_text(duration: std::time::Duration) -> String {
    format_duration_ms(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}

pub(crate) fn build_info(engine: &Engine) -> Response {
    let version = &engine.config().version;
    answer(json!({
        "version": COMPATIBLE_WITH,
        "revision": format!("pharos-{version}"),
        "branch": "",
        "buildUser": "pharos",
        "buildDate": "",
        "goVersion": "",
    }))
}

pub(crate) fn config(engine: &Engine) -> Response {
    let yaml = engine.host().configuration().yaml.unwrap_or_else(|| {
        let interval = duration_text(engine.config().scrape_interval);
        format!("global:\n  scrape_interval: {interval}\n  evaluation_interval: 1m\n")
    });
    answer(json!({ "yaml": yaml }))
}

pub(crate) fn flags(engine: &Engine) -> Response {
    answer(json!(engine.config().flags))
}

pub(crate) fn runtime_info(engine: &Engine) -> Response {
    let rfc3339 = |time: UnixNanos| {
        Timestamp::from_nanosecond(i128::from(time.0)).map(|time| time.to_string()).unwrap_or_default()
    };
    let started = rfc3339(engine.started());
    let configuration = engine.host().configuration();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    answer(json!({
        "startTime": started,
        "CWD": std::env::current_dir().map(|path| path.display().to_string()).unwrap_or_default(),
        "hostname": std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim(),
        "serverTime": rfc3339(UnixNanos::now()),
        "reloadConfigSuccess": configuration.reload_succeeded.unwrap_or(true),
        "lastConfigTime": configuration.loaded_at.map_or_else(|| started.clone(), rfc3339),
        "corruptionCount": 0,
        "goroutineCount": 0,
        "GOMAXPROCS": threads,
        "GOMEMLIMIT": i64::MAX,
        "GOGC": "",
        "GODEBUG": "",
        // Kiali reads its longest window here; without retention everything is kept.
        "storageRetention": engine.config().retention.map_or_else(|| "100y".to_string(), duration_text),
    }))
}

/// The API answers only when the log is replayed.
pub(crate) fn wal_replay() -> Response {
    answer(json!({ "min": 0, "max": 0, "current": 0 }))
}

/// Where the cardinality is.
pub(crate) fn tsdb(engine: &Engine, params: &Params) -> Result<Response, ApiError> {
    let limit = params.limit("limit", 10, 10_000)?;
    let series = engine.storage().select_series(&[], TimeRange::ALL, usize::MAX)?;
    let mut by_metric: BTreeMap<&str, u64> = BTreeMap::new();
    let mut by_pair: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for (_, labels) in &series {
        for (name, value) in labels.iter() {
            if name == METRIC_NAME {
                *by_metric.entry(value).or_default() += 1;
            }
            *by_pair.entry((name, value)).or_default() += 1;
        }
    }
    let mut values_of: BTreeMap<&str, u64> = BTreeMap::new();
    let mut bytes_of: BTreeMap<&str, u64> = BTreeMap::new();
    for ((name, value), count) in &by_pair {
        *values_of.entry(name).or_default() += 1;
        *bytes_of.entry(name).or_default() += value.len() as u64 * count;
    }
    let pairs = by_pair.iter().map(|((name, value), count)| (format!("{name}={value}"), *count));
    let samples = engine.storage().stats().tables.into_iter().find(|stats| stats.table == Table::Samples);
    let (oldest, newest) = samples.map_or((None, None), |stats| (stats.oldest, stats.newest));
    Ok(answer(json!({
        "headStats": {
            "numSeries": series.len(),
            "numLabelPairs": by_pair.len(),
            "chunkCount": 0,
            "minTime": oldest.map_or(0, UnixNanos::millis),
            "maxTime": newest.map_or(0, UnixNanos::millis),
        },
        "seriesCountByMetricName": top(by_metric.iter().map(|(name, count)| (name.to_string(), *count)), limit),
        "labelValueCountByLabelName": top(values_of.iter().map(|(name, count)| (name.to_string(), *count)), limit),
        "memoryInBytesByLabelName": top(bytes_of.iter().map(|(name, bytes)| (name.to_string(), *bytes)), limit),
        "seriesCountByLabelValuePair": top(pairs, limit),
    })))
}

fn top(counts: impl Iterator<Item = (String, u64)>, limit: usize) -> Vec<Value> {
    let mut counts: Vec<(String, u64)> = counts.collect();
    counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    counts.into_iter().take(limit).map(|(name, value)| json!({ "name": name, "value": value })).collect()
}
