//! `/federate?match[]=…`: the current value of series with its time, in the text format or in protobuf.

use std::{borrow::Cow, collections::BTreeMap, fmt::Write, sync::Arc};

use axum::{
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use pharos_model::{
    Labels, METRIC_NAME, NativeHistogram, ResetHint, SeriesId, TimeRange, UnixNanos, is_stale,
    spans_of_buckets,
};
use pharos_promql::format_float;
use pharos_proto::prometheus::exposition::{
    BucketSpan, Histogram, LabelPair, Metric, MetricFamily, MetricType, Untyped,
};
use prost::Message;

use super::{labels::selectors, respond::ApiError};
use crate::{Engine, accept::weighted, params::Params};

/// The current value of a series.
struct Current {
    labels: Labels,
    time_ms: i64,
    value: Value,
}

enum Value {
    Float(f64),
    Histogram(Arc<NativeHistogram>),
}

/// The last sample of each series within the lookback, unless it has ended, grouped by metric name. A series
/// without `instance` gets an empty one, so that the scraping Prometheus does not put its own there. Native
/// histograms have no text form: they go to those who ask for protobuf.
pub(crate) async fn federate(
    engine: &Engine,
    params: &Params,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
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
    let histograms = engine.storage().read_histograms(&ids, first_ms, now_ms).await?;
    let mut histograms = histograms.into_iter().peekable();
    let external = engine.host().configuration().external_labels;
    let mut current = Vec::new();
    for (id, labels) in &series {
        let floats = columns.next_if(|column| column.id == *id);
        let float = floats.as_ref().and_then(|of| Some((*of.times_ms.last()?, *of.values.last()?)));
        let histogram = histograms.next_if(|of| of.id == *id).and_then(|mut of| of.samples.pop());
        let (time_ms, value) = match (float, histogram) {
            (float, Some((time_ms, histogram))) if float.is_none_or(|(float_ms, _)| float_ms < time_ms) => {
                (time_ms, Value::Histogram(histogram))
            }
            (Some((time_ms, value)), _) => (time_ms, Value::Float(value)),
            _ => continue,
        };
        let ended = match &value {
            Value::Float(value) => is_stale(*value),
            Value::Histogram(histogram) => histogram.is_stale(),
        };
        if !ended {
            current.push(Current { labels: with_external(labels, &external), time_ms, value });
        }
    }
    Ok(match wants_protobuf(headers) {
        true => ([(header::CONTENT_TYPE, PROTOBUF)], protobuf(&current)).into_response(),
        false => ([(header::CONTENT_TYPE, TEXT)], text(&current)).into_response(),
    })
}

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const PROTOBUF: &str =
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

/// Whether protobuf is wanted more than text.
fn wants_protobuf(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let weight = |wanted: fn(&str) -> bool| {
        let ranges = weighted(accept).filter(|(range, _)| wanted(range));
        ranges.map(|(_, weight)| weight).fold(0.0, f64::max)
    };
    let protobuf = weight(|range| {
        range.starts_with("application/vnd.google.protobuf")
            && range.contains("proto=io.prometheus.client.MetricFamily")
            && range.contains("encoding=delimited")
    });
    let text =
        weight(|range| range.starts_with("text/plain") || range.starts_with("application/openmetrics"));
    protobuf > 0.0 && protobuf >= text
}

fn text(current: &[Current]) -> String {
    let mut text = String::new();
    let mut metric = "";
    for Current { labels, time_ms, value } in current {
        let Value::Float(value) = value else { continue };
        if metric != labels.metric_name() {
            metric = labels.metric_name();
            let _ = writeln!(text, "# TYPE {} untyped", quoted_name(metric));
        }
        write_series(&mut text, labels);
        let _ = writeln!(text, " {} {time_ms}", format_float(*value));
    }
    text
}

/// A family for each metric and kind of value, each after its length.
fn protobuf(current: &[Current]) -> Vec<u8> {
    let mut families: BTreeMap<(&str, i32), Vec<Metric>> = BTreeMap::new();
    for Current { labels, time_ms, value } in current {
        let own = labels.iter().filter(|(name, _)| *name != METRIC_NAME);
        let instance = (!labels.contains("instance")).then_some(("instance", ""));
        let label =
            own.chain(instance).map(|(name, value)| LabelPair { name: name.into(), value: value.into() });
        let mut metric = Metric { label: label.collect(), timestamp_ms: *time_ms, ..Metric::default() };
        let kind = match value {
            Value::Float(value) => {
                metric.untyped = Some(Untyped { value: *value });
                MetricType::Untyped
            }
            Value::Histogram(histogram) => {
                metric.histogram = Some(histogram_of(histogram));
                match histogram.reset_hint {
                    ResetHint::Gauge => MetricType::GaugeHistogram,
                    _ => MetricType::Histogram,
                }
            }
        };
        families.entry((labels.metric_name(), kind.into())).or_default().push(metric);
    }
    let family = |((name, kind), metric): ((&str, i32), Vec<Metric>)| {
        MetricFamily { name: name.into(), r#type: kind, metric, ..MetricFamily::default() }
            .encode_length_delimited_to_vec()
    };
    families.into_iter().flat_map(family).collect()
}

/// With float counts, whatever it was scraped with.
fn histogram_of(histogram: &NativeHistogram) -> Histogram {
    let spans = |buckets: &[(i32, f64)]| {
        let spans = spans_of_buckets(buckets).into_iter();
        spans.map(|span| BucketSpan { offset: span.offset, length: span.length }).collect::<Vec<_>>()
    };
    let counts = |buckets: &[(i32, f64)]| buckets.iter().map(|(_, count)| *count).collect();
    let mut positive_span = spans(&histogram.positive);
    if positive_span.is_empty() && histogram.negative.is_empty() {
        // What tells an empty native histogram from a classic one.
        positive_span.push(BucketSpan::default());
    }
    Histogram {
        sample_count_float: histogram.count,
        sample_sum: histogram.sum,
        schema: histogram.schema,
        zero_threshold: histogram.zero_threshold,
        zero_count_float: histogram.zero_count,
        negative_span: spans(&histogram.negative),
        negative_count: counts(&histogram.negative),
        positive_span,
        positive_count: counts(&histogram.positive),
        ..Histogram::default()
    }
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
