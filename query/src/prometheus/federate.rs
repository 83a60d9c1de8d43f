//! `/federate?match[]=…`: the current value of series in the text format, with its time.

use std::{borrow::Cow, collections::BTreeMap, fmt::Write};

use axum::{
    http::header,
    response::{IntoResponse, Response},
};
use pharos_model::{Labels, METRIC_NAME, SeriesId, TimeRange, UnixNanos, is_stale};
use pharos_promql::format_float;

use super::{labels::selectors, respond::ApiError};
use crate::{Engine, params::Params};

/// The last sample of each series within the lookback, unless it has ended, grouped by metric name. A series
/// without `instance` gets an empty one, so that the scraping Prometheus does not put its own there.
pub(crate) async fn federate(engine: &Engine, params: &Params) -> Result<Response, ApiError> {
    let selectors = selectors(params)?;
    let now_ms = UnixNanos::now().millis();
    let lookback_ms = i64::try_from(engine.config().promql_lookback.as_millis()).unwrap_or(i64::MAX);
    let first_ms = now_ms.saturating_sub(lookback_ms).saturating_add(1);
    let range = TimeRange::new(UnixNanos::from_millis(first_ms), UnixNanos::from_millis(now_ms + 1));
    let mut series: BTreeMap<SeriesId, Labels> = BTreeMap::new();
    for matchers in selectors {
        series.extend(engine.storage().select_series(&matchers, range, engine.config().promql_max_series)?);
    }
    let mut series: Vec<(SeriesId, Labels)> = series.into_iter().collect();
    series.sort_by(|a, b| (a.1.metric_name(), &a.1).cmp(&(b.1.metric_name(), &b.1)));
    let ids: Vec<SeriesId> = series.iter().map(|(id, _)| *id).collect();
    let columns = engine.storage().read_samples(&ids, first_ms, now_ms).await?;
    let mut columns = columns.into_iter().peekable();
    let external = engine.host().configuration().external_labels;
    let mut text = String::new();
    let mut current = String::new();
    for (id, labels) in &series {
        let Some(column) = columns.next_if(|column| column.id == *id) else { continue };
        let (Some(time_ms), Some(value)) = (column.times_ms.last(), column.values.last()) else { continue };
        if is_stale(*value) {
            continue;
        }
        if current != labels.metric_name() {
            current = labels.metric_name().to_string();
            let _ = writeln!(text, "# TYPE {} untyped", quoted_name(&current));
        }
        write_series(&mut text, &with_external(labels, &external));
        let _ = writeln!(text, " {} {time_ms}", format_float(*value));
    }
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}

/// External labels say where samples come from; what a series says itself comes first.
fn with_external(labels: &Labels, external: &Labels) -> Labels {
    let mut labels = labels.clone();
    for (name, value) in external.iter() {
        if !labels.contains(name) {
            labels.set(name, value);
        }
    }
    labels
}

/// A name that is none of the older text format stands in quotes, and within the braces.
fn write_series(text: &mut String, labels: &Labels) {
    let metric = labels.metric_name();
    let mut separator = "";
    if is_plain(metric) {
        text.push_str(metric);
        text.push('{');
    } else {
        let _ = write!(text, "{{{}", quoted_name(metric));
        separator = ",";
    }
    let own = labels.iter().filter(|(name, _)| *name != METRIC_NAME);
    let instance = (!labels.contains("instance")).then_some(("instance", ""));
    for (name, value) in own.chain(instance) {
        let _ = write!(text, "{separator}{}=\"{}\"", quoted_name(name), escaped(value));
        separator = ",";
    }
    text.push('}');
}

fn is_plain(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':'))
}

fn quoted_name(name: &str) -> Cow<'_, str> {
    if is_plain(name) { Cow::Borrowed(name) } else { Cow::Owned(format!("\"{}\"", escaped(name))) }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
