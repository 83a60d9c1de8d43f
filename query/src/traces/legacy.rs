//! Spans as Jaeger's legacy JSON. Mapping: OpenTelemetry Collector's Jaeger translator (reference §1.3).

use std::collections::{BTreeMap, HashMap};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use pharos_model::{Attributes, Span, SpanKind, SpanStatus, TraceId, Value};
use serde::Serialize;
use serde_json::json;

/// The envelope of every legacy answer.
#[derive(Debug, Serialize)]
pub(crate) struct Answer<T> {
    pub(crate) data: T,
    pub(crate) total: usize,
    pub(crate) limit: usize,
    pub(crate) offset: usize,
    pub(crate) errors: Option<Vec<AnswerError>>,
}

#[derive(Debug, Serialize)]
pub(crate) struct AnswerError {
    pub(crate) code: u16,
    pub(crate) msg: String,
    #[serde(rename = "traceID", skip_serializing_if = "Option::is_none")]
    pub(crate) trace_id: Option<String>,
}

impl<T> Answer<Vec<T>> {
    pub(crate) fn of(data: Vec<T>) -> Answer<Vec<T>> {
        Answer { total: data.len(), data, limit: 0, offset: 0, errors: None }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct LegacyTrace {
    #[serde(rename = "traceID")]
    trace_id: String,
    spans: Vec<LegacySpan>,
    processes: BTreeMap<String, Process>,
    warnings: Option<Vec<String>>,
}

/// Times in whole microseconds.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct LegacySpan {
    #[serde(rename = "traceID")]
    trace_id: String,
    #[serde(rename = "spanID")]
    span_id: String,
    #[serde(skip_serializing_if = "is_zero")]
    flags: u32,
    operation_name: String,
    references: Vec<Reference>,
    start_time: i64,
    duration: i64,
    tags: Vec<Tag>,
    logs: Vec<Log>,
    #[serde(rename = "processID")]
    process_id: String,
    warnings: Option<Vec<String>>,
}

fn is_zero(flags: &u32) -> bool {
    *flags == 0
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Reference {
    ref_type: &'static str,
    #[serde(rename = "traceID")]
    trace_id: String,
    #[serde(rename = "spanID")]
    span_id: String,
}

#[derive(Debug, Serialize)]
struct Log {
    timestamp: i64,
    fields: Vec<Tag>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Process {
    service_name: String,
    tags: Vec<Tag>,
}

#[derive(Debug, Serialize)]
struct Tag {
    key: String,
    r#type: &'static str,
    value: serde_json::Value,
}

/// The greatest whole number that a JSON reader with doubles keeps.
const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

impl Tag {
    fn text(key: &str, text: impl Into<String>) -> Tag {
        Tag { key: key.to_string(), r#type: "string", value: serde_json::Value::String(text.into()) }
    }

    fn of(key: &str, value: &Value) -> Tag {
        let (r#type, value) = match value {
            Value::Bool(flag) => ("bool", json!(flag)),
            Value::Int(number) if number.unsigned_abs() > MAX_SAFE_INTEGER => {
                ("int64", json!(number.to_string()))
            }
            Value::Int(number) => ("int64", json!(number)),
            // JSON has no infinities.
            Value::Double(number) if !number.is_finite() => ("string", json!(number.to_string())),
            Value::Double(number) => ("float64", json!(number)),
            Value::Bytes(bytes) => ("binary", json!(BASE64_STANDARD.encode(bytes))),
            Value::Null | Value::String(_) | Value::Array(_) | Value::Map(_) => {
                ("string", json!(value.to_text()))
            }
        };
        Tag { key: key.to_string(), r#type, value }
    }
}

fn tags(attributes: &Attributes) -> Vec<Tag> {
    attributes.iter().map(|(key, value)| Tag::of(key, value)).collect()
}

/// What a span tells outside of its attributes and is searched and shown as tags. A key that an attribute has
/// already, as Envoy's `error`, is not repeated.
pub(crate) fn derived_tags(span: &Span) -> Vec<(&'static str, Value)> {
    let mut derived: Vec<(&'static str, Value)> = Vec::new();
    if !span.scope.name.is_empty() {
        derived.push(("otel.scope.name", span.scope.name.as_str().into()));
    }
    if !span.scope.version.is_empty() {
        derived.push(("otel.scope.version", span.scope.version.as_str().into()));
    }
    if span.kind != SpanKind::Unspecified {
        derived.push(("span.kind", span.kind.name().into()));
    }
    match span.status {
        SpanStatus::Unset => {}
        SpanStatus::Ok => derived.push(("otel.status_code", "OK".into())),
        SpanStatus::Error => {
            derived.push(("error", true.into()));
            derived.push(("otel.status_code", "ERROR".into()));
        }
    }
    if !span.status_message.is_empty() {
        derived.push(("otel.status_description", span.status_message.as_str().into()));
    }
    if !span.trace_state.is_empty() {
        derived.push(("w3c.tracestate", span.trace_state.as_str().into()));
    }
    derived.retain(|(key, _)| span.attributes.get(key).is_none());
    derived
}

/// The spans of one trace, in the order of their start.
pub(crate) fn legacy_trace(trace_id: TraceId, mut spans: Vec<Span>) -> LegacyTrace {
    spans.sort_by_key(|span| (span.start, span.span_id, span.kind as u8));
    let mut processes: BTreeMap<String, Process> = BTreeMap::new();
    let mut known: HashMap<(String, String), String> = HashMap::new();
    let spans = spans
        .into_iter()
        .map(|span| {
            let identity = (span.service.to_string(), format!("{:?}", span.resource));
            let next = format!("p{}", known.len() + 1);
            let process_id = known.entry(identity).or_insert(next).clone();
            processes.entry(process_id.clone()).or_insert_with(|| Process {
                service_name: span.service.to_string(),
                tags: tags(&span.resource),
            });
            legacy_span(span, process_id)
        })
        .collect();
    LegacyTrace { trace_id: trace_id.short_hex(), spans, processes, warnings: None }
}

fn legacy_span(span: Span, process_id: String) -> LegacySpan {
    let parent = span.parent_span_id.map(|parent| Reference {
        ref_type: "CHILD_OF",
        trace_id: span.trace_id.short_hex(),
        span_id: parent.to_string(),
    });
    let links = span.links.iter().map(|link| Reference {
        ref_type: if link.attributes.text("opentracing.ref_type") == Some("child_of") {
            "CHILD_OF"
        } else {
            "FOLLOWS_FROM"
        },
        trace_id: link.trace_id.short_hex(),
        span_id: link.span_id.to_string(),
    });
    let derived = derived_tags(&span);
    let logs = span.events.iter().map(|event| {
        let name = (!event.name.is_empty()).then(|| Tag::text("event", event.name.as_str()));
        Log {
            timestamp: event.time.micros(),
            fields: name.into_iter().chain(tags(&event.attributes)).collect(),
        }
    });
    LegacySpan {
        references: parent.into_iter().chain(links).collect(),
        tags: tags(&span.attributes)
            .into_iter()
            .chain(derived.iter().map(|(key, value)| Tag::of(key, value)))
            .chain(tags(&span.scope.attributes))
            .collect(),
        logs: logs.collect(),
        trace_id: span.trace_id.short_hex(),
        span_id: span.span_id.to_string(),
        // Only the W3C part of the flags is Jaeger's.
        flags: span.flags & 0xff,
        start_time: span.start.micros(),
        duration: span.duration_ns / 1_000,
        operation_name: span.name,
        process_id,
        warnings: None,
    }
}
