//! Spans as OTLP/JSON: hex ids, integer enums, 64-bit integers as decimal text. Source: OpenTelemetry protocol
//! specification, "JSON Protobuf Encoding".

use base64::{Engine as _, prelude::BASE64_STANDARD};
use pharos_model::{Attributes, Scope, Span, Value};
use serde_json::{Value as Json, json};

/// `{"resourceSpans": […]}` with one scope an entry, as Grafana's and Kiali's clients expect.
pub(crate) fn traces_data(spans: &[Span]) -> Json {
    let mut groups: Vec<(&Span, Vec<Json>)> = Vec::new();
    for span in spans {
        let same = |(first, _): &&mut (&Span, Vec<Json>)| {
            first.service == span.service && first.resource == span.resource && first.scope == span.scope
        };
        match groups.iter_mut().find(same) {
            Some((_, list)) => list.push(span_json(span)),
            None => groups.push((span, vec![span_json(span)])),
        }
    }
    let resource_spans: Vec<Json> = groups
        .into_iter()
        .map(|(first, spans)| {
            let mut resource = Vec::new();
            if !first.service.is_empty() && first.resource.get("service.name").is_none() {
                resource.push(json!({ "key": "service.name", "value": { "stringValue": &*first.service } }));
            }
            resource.extend(attributes(&first.resource));
            json!({
                "resource": { "attributes": resource },
                "scopeSpans": [{ "scope": scope(&first.scope), "spans": spans }],
            })
        })
        .collect();
    json!({ "resourceSpans": resource_spans })
}

fn scope(scope: &Scope) -> Json {
    let mut json = json!({});
    set(&mut json, "name", &scope.name);
    set(&mut json, "version", &scope.version);
    if !scope.attributes.is_empty() {
        json["attributes"] = attributes(&scope.attributes).into();
    }
    json
}

/// Sets a text unless it is empty, as protobuf's JSON leaves defaults out.
fn set(json: &mut Json, key: &str, text: &str) {
    if !text.is_empty() {
        json[key] = text.into();
    }
}

fn span_json(span: &Span) -> Json {
    let mut json = json!({
        "traceId": span.trace_id.to_string(),
        "spanId": span.span_id.to_string(),
        "name": span.name,
        "kind": span.kind as i32,
        "startTimeUnixNano": span.start.0.to_string(),
        "endTimeUnixNano": span.end().0.to_string(),
    });
    set(&mut json, "traceState", &span.trace_state);
    set(&mut json, "parentSpanId", &span.parent_span_id.map(|id| id.to_string()).unwrap_or_default());
    if span.flags != 0 {
        json["flags"] = span.flags.into();
    }
    if !span.attributes.is_empty() {
        json["attributes"] = attributes(&span.attributes).into();
    }
    if !span.events.is_empty() {
        let events = span.events.iter().map(|event| {
            let mut json = json!({ "timeUnixNano": event.time.0.to_string() });
            set(&mut json, "name", &event.name);
            if !event.attributes.is_empty() {
                json["attributes"] = attributes(&event.attributes).into();
            }
            json
        });
        json["events"] = events.collect();
    }
    if !span.links.is_empty() {
        let links = span.links.iter().map(|link| {
            let mut json =
                json!({ "traceId": link.trace_id.to_string(), "spanId": link.span_id.to_string() });
            set(&mut json, "traceState", &link.trace_state);
            if !link.attributes.is_empty() {
                json["attributes"] = attributes(&link.attributes).into();
            }
            json
        });
        json["links"] = links.collect();
    }
    let mut status = json!({});
    if span.status as i32 != 0 {
        status["code"] = (span.status as i32).into();
    }
    set(&mut status, "message", &span.status_message);
    json["status"] = status;
    json
}

fn attributes(attributes: &Attributes) -> Vec<Json> {
    attributes.iter().map(|(key, value)| json!({ "key": key, "value": any_value(value) })).collect()
}

fn any_value(value: &Value) -> Json {
    match value {
        Value::Null => json!({}),
        Value::Bool(flag) => json!({ "boolValue": flag }),
        Value::Int(number) => json!({ "intValue": number.to_string() }),
        Value::Double(number) if number.is_finite() => json!({ "doubleValue": number }),
        Value::Double(number) => {
            let name = if number.is_nan() {
                "NaN"
            } else if *number > 0.0 {
                "Infinity"
            } else {
                "-Infinity"
            };
            json!({ "doubleValue": name })
        }
        Value::String(text) => json!({ "stringValue": text }),
        Value::Bytes(bytes) => json!({ "bytesValue": BASE64_STANDARD.encode(bytes) }),
        Value::Array(items) => {
            json!({ "arrayValue": { "values": items.iter().map(any_value).collect::<Vec<_>>() } })
        }
        Value::Map(entries) => {
            let values: Vec<Json> =
                entries.iter().map(|(key, value)| json!({ "key": key, "value": any_value(value) })).collect();
            json!({ "kvlistValue": { "values": values } })
        }
    }
}
