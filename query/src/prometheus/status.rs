//! `/api/v1/status/*`: what Kiali, Grafana and promtool ask of the server itself.

use std::collections::BTreeMap;

use axum::response::Response;
use jiff::Timestamp;
use pharos_model::{UnixNanos, format_duration_ms};
use pharos_storage::{Cardinality, Count, Table};
use serde_json::{Value, json};

use super::respond::{ApiError, Notes, success};
use crate::{Engine, params::Params};

/// The release of Prometheus whose API this is; Grafana switches features by it.
const COMPATIBLE_WITH: &str = "3.14.0";

/// Names of each list of `/status/tsdb`.
const MAX_TSDB_LIMIT: i64 = 10_000;

type Answer = Result<Response, ApiError>;

fn answer(data: Value) -> Answer {
    Ok(success(data, &Notes::default()))
}

fn duration_text(duration: std::time::Duration) -> String {
    format_duration_ms(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}

fn build(engine: &Engine) -> Value {
    json!({
        "version": COMPATIBLE_WITH,
        "revision": format!("pharos-{}", engine.config().version),
        "branch": "",
        "buildUser": "pharos",
        "buildDate": "",
        "goVersion": "",
    })
}

pub(crate) fn build_info(engine: &Engine, _: &Params) -> Answer {
    answer(build(engine))
}

/// The same without an envelope, which is older than the API.
pub(crate) fn version(engine: &Engine) -> axum::Json<Value> {
    axum::Json(build(engine))
}

pub(crate) fn config(engine: &Engine, _: &Params) -> Answer {
    let yaml = engine.host().configuration().yaml.unwrap_or_else(|| {
        let interval = duration_text(engine.config().scrape_interval);
        format!("global:\n  scrape_interval: {interval}\n  evaluation_interval: 1m\n")
    });
    answer(json!({ "yaml": yaml }))
}

/// Under Prometheus' names, as far as there is the same here.
pub(crate) fn flags(engine: &Engine, _: &Params) -> Answer {
    let config = engine.config();
    let retention = config.retention.map_or_else(|| "0s".to_string(), duration_text);
    let mut flags: BTreeMap<&str, String> = BTreeMap::from([
        ("query.lookback-delta", duration_text(config.promql_lookback)),
        ("query.max-concurrency", config.promql_concurrency.to_string()),
        ("query.max-samples", config.promql_max_samples.to_string()),
        ("query.timeout", duration_text(config.promql_timeout)),
        ("storage.remote.read-concurrent-limit", config.remote_read_concurrency.to_string()),
        ("storage.tsdb.retention.time", retention),
        ("web.enable-admin-api", "false".to_string()),
        ("web.enable-lifecycle", "true".to_string()),
        ("web.enable-otlp-receiver", "true".to_string()),
        ("web.enable-remote-write-receiver", "true".to_string()),
    ]);
    flags.extend(config.flags.iter().map(|(name, value)| (name.as_str(), value.clone())));
    answer(json!(flags))
}

pub(crate) fn runtime_info(engine: &Engine, _: &Params) -> Answer {
    let rfc3339 = |time: UnixNanos| {
        Timestamp::from_nanosecond(i128::from(time.0)).map(|time| time.to_string()).unwrap_or_default()
    };
    let started = rfc3339(engine.started());
    let configuration = engine.host().configuration();
    let threads = crate::parallel::threads();
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
pub(crate) fn wal_replay(_: &Engine, _: &Params) -> Answer {
    answer(json!({ "min": 0, "max": 0, "current": 0 }))
}

/// Where the cardinality is.
pub(crate) fn tsdb(engine: &Engine, params: &Params) -> Answer {
    let limit = match params.i64("limit") {
        Ok(None) => 10,
        Ok(Some(limit)) if limit > MAX_TSDB_LIMIT => {
            return Err(ApiError::bad_data(format!("limit must not exceed {MAX_TSDB_LIMIT}")));
        }
        Ok(Some(limit)) if limit > 0 => usize::try_from(limit).unwrap_or(usize::MAX),
        Ok(Some(_)) | Err(_) => return Err(ApiError::bad_data("limit must be a positive number")),
    };
    let Cardinality {
        series,
        label_pairs,
        series_of_metric,
        values_of_label,
        bytes_of_label,
        series_of_pair,
        head_times_ms,
    } = engine.storage().cardinality(limit);
    // As in a head that is empty.
    let (first_ms, last_ms) = head_times_ms.unwrap_or((i64::MAX, i64::MIN));
    answer(json!({
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
    }))
}

/// A file of samples stands for a block: neither has rows that another has.
pub(crate) fn blocks(engine: &Engine, _: &Params) -> Answer {
    let files = engine.storage().data_files(Table::Samples);
    let blocks: Vec<Value> = files
        .iter()
        .map(|file| {
            let name = file.path.filename().unwrap_or_default();
            let id = name.strip_suffix(".parquet").unwrap_or(name);
            json!({
                "ulid": id,
                "minTime": file.min_time.millis(),
                // Exclusive, as a block's is.
                "maxTime": file.max_time.millis().saturating_add(1),
                "stats": { "numSamples": file.rows, "numBytes": file.size_bytes },
                "compaction": { "level": 1, "sources": [id] },
                "version": 1,
            })
        })
        .collect();
    answer(json!({ "blocks": blocks }))
}

fn counts(counts: Vec<Count>) -> Vec<Value> {
    counts.into_iter().map(|Count { name, count }| json!({ "name": name, "value": count })).collect()
}
