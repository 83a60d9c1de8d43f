//! `/api/v1/status/*`: what Kiali, Grafana and promtool ask of the server itself.

use axum::response::Response;
use jiff::Timestamp;
use pharos_model::{UnixNanos, format_duration_ms};
use pharos_storage::{Cardinality, Count};
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
    let Cardinality {
        series,
        label_pairs,
        series_of_metric,
        values_of_label,
        bytes_of_label,
        series_of_pair,
        head_times_ms,
    } = engine.storage().cardinality(limit);
    let (first_ms, last_ms) = head_times_ms.unwrap_or((0, 0));
    Ok(answer(json!({
        "headStats": {
            "numSeries": series,
            "numLabelPairs": label_pairs,
            "chunkCount": 0,
            "minTime": first_ms,
            "maxTime": last_ms,
        },
        "seriesCountByMetricName": counts(series_of_metric),
        "labelValueCountByLabelName": counts(values_of_label),
        "memoryInBytesByLabelName": counts(bytes_of_label),
        "seriesCountByLabelValuePair": counts(series_of_pair),
    })))
}

fn counts(counts: Vec<Count>) -> Vec<Value> {
    counts.into_iter().map(|Count { name, count }| json!({ "name": name, "value": count })).collect()
}
