//! OTLP/JSON that was posted for display, read without being stored.

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use pharos_model::{Attributes, Scope, Span, SpanEvent, SpanKind, SpanLink, SpanStatus, UnixNanos, Value};
use serde_json::Value as Json;

/// Deeper attribute values are refused.
const MAX_DEPTH: usize = 32;

/// The spans of `{"resourceSpans": […]}`. The error names what is wrong and where.
pub(crate) fn spans_of_otlp_json(json: &Json) -> Result<Vec<Span>, String> {
    let mut spans = Vec::new();
    let resources = json
        .get("resourceSpans")
        .and_then(Json::as_array)
        .ok_or("the body is no OTLP/JSON: there is no array \"resourceSpans\"")?;
    for resource_spans in resources {
        let mut resource = attributes(&resource_spans["resource"]["attributes"])?;
        let service: Arc<str> = resource.text("service.name").unwrap_or_default().into();
        resource = resource
            .iter()
            .filter(|(key, _)| *key != "service.name")
            .map(|(key, value)| (key.to_string(), value.clone()))
            .collect();
        let resource = Arc::new(resource);
        for scope_spans in list(&resource_spans["scopeSpans"]) {
            let scope = Arc::new(Scope {
                name: text(&scope_spans["scope"]["name"]),
                version: text(&scope_spans["scope"]["version"]),
                attributes: attributes(&scope_spans["scope"]["attributes"])?,
            });
            for span in list(&scope_spans["spans"]) {
                let span = one_span(span, service.clone(), resource.clone(), scope.clone())
                    .map_err(|error| format!("span {}: {error}", spans.len()))?;
                spans.push(span);
            }
        }
    }
    Ok(spans)
}

fn one_span(
    json: &Json,
    service: Arc<str>,
    resource: Arc<Attributes>,
    scope: Arc<Scope>,
) -> Result<Span, String> {
    let id = |field: &str| json[field].as_str().unwrap_or("");
    let start = time(&json["startTimeUnixNano"])?;
    let end = time(&json["endTimeUnixNano"])?;
    let parent = match id("parentSpanId") {
        "" => None,
        parent => Some(parent.parse().map_err(|error| format!("parentSpanId: {error}"))?),
    };
    let mut events = Vec::new();
    for event in list(&json["events"]) {
        events.push(SpanEvent {
            time: time(&event["timeUnixNano"])?,
            name: text(&event["name"]),
            attributes: attributes(&event["attributes"])?,
        });
    }
    let mut links = Vec::new();
    for link in list(&json["links"]) {
        let id = |field: &str| link[field].as_str().unwrap_or("");
        links.push(SpanLink {
            trace_id: id("traceId").parse().map_err(|error| format!("link's traceId: {error}"))?,
            span_id: id("spanId").parse().map_err(|error| format!("link's spanId: {error}"))?,
            trace_state: text(&link["traceState"]),
            attributes: attributes(&link["attributes"])?,
        });
    }
    Ok(Span {
        trace_id: id("traceId").parse().map_err(|error| format!("traceId: {error}"))?,
        span_id: id("spanId").parse().map_err(|error| format!("spanId: {error}"))?,
        parent_span_id: parent,
        trace_state: text(&json["traceState"]),
        name: text(&json["name"]),
        kind: SpanKind::from_number(json["kind"].as_i64().and_then(|kind| kind.try_into().ok()).unwrap_or(0)),
        start,
        duration_ns: end.0.saturating_sub(start.0).max(0),
        status: SpanStatus::from_number(
            json["status"]["code"].as_i64().and_then(|code| code.try_into().ok()).unwrap_or(0),
        ),
        status_message: text(&json["status"]["message"]),
        flags: json["flags"].as_u64().and_then(|flags| flags.try_into().ok()).unwrap_or(0),
        service,
        resource,
        scope,
        attributes: attributes(&json["attributes"])?,
        events,
        links,
    })
}

fn list(json: &Json) -> &[Json] {
    json.as_array().map_or(&[], Vec::as_slice)
}

fn text(json: &Json) -> String {
    json.as_str().unwrap_or("").to_string()
}

/// A 64-bit number, as text or as a number.
fn integer(json: &Json) -> Option<i64> {
    match json {
        Json::String(text) => text.parse().ok(),
        other => other.as_i64(),
    }
}

fn time(json: &Json) -> Result<UnixNanos, String> {
    match json {
        Json::Null => Ok(UnixNanos(0)),
        other => integer(other).map(UnixNanos).ok_or_else(|| format!("{other} is no time in nanoseconds")),
    }
}

fn attributes(json: &Json) -> Result<Attributes, String> {
    list(json).iter().map(|pair| Ok((text(&pair["key"]), value(&pair["value"], 0)?))).collect()
}

fn value(json: &Json, depth: usize) -> Result<Value, String> {
    if depth > MAX_DEPTH {
        return Err(format!("an attribute value is nested deeper than {MAX_DEPTH}"));
    }
    let Some((kind, inner)) = json.as_object().and_then(|object| object.iter().next()) else {
        return Ok(Value::Null);
    };
    let wrong = || format!("{inner} is no {kind}");
    Ok(match kind.as_str() {
        "stringValue" => Value::String(inner.as_str().ok_or_else(wrong)?.to_string()),
        "boolValue" => Value::Bool(inner.as_bool().ok_or_else(wrong)?),
        "intValue" => Value::Int(integer(inner).ok_or_else(wrong)?),
        "doubleValue" => Value::Double(match inner.as_str() {
            Some(name) => name.parse().map_err(|_| wrong())?,
            None => inner.as_f64().ok_or_else(wrong)?,
        }),
        "bytesValue" => {
            Value::Bytes(inner.as_str().and_then(|text| BASE64_STANDARD.decode(text).ok()).ok_or_else(wrong)?)
        }
        "arrayValue" => Value::Array(
            list(&inner["values"]).iter().map(|item| value(item, depth + 1)).collect::<Result<_, _>>()?,
        ),
        "kvlistValue" => Value::Map(
            list(&inner["values"])
                .iter()
                .map(|pair| Ok((text(&pair["key"]), value(&pair["value"], depth + 1)?)))
                .collect::<Result<_, String>>()?,
        ),
        other => return Err(format!("there is no kind of attribute value {other:?}")),
    })
}
