use std::borrow::Cow;

use pharos_model::{AccessLog, LogRecord, SpanId, TraceId, Value};

use super::{
    line::{Fields, access_log_of_fields, is_known_field, parse_line},
    naming::{Naming, apply_labels},
    node::ProxyNode,
};

/// Log names under which Envoy's OpenTelemetry logger sends, if it was not told another.
const LOG_NAMES: [&str; 3] = ["otel_envoy_accesslog", "http_envoy_accesslog", "tcp_envoy_accesslog"];

/// The access log that an OpenTelemetry log record is, if it is one: Envoy puts the text format into the body, or
/// the configured labels into the attributes (Istio's `envoyOtelAls` provider).
pub(crate) fn access_log_of_record(record: &LogRecord) -> Option<AccessLog> {
    let mut log = from_body(record).or_else(|| from_attributes(record))?;
    log.trace_id = record.trace_id;
    log.span_id = record.span_id;
    let node = node_of(record);
    Naming {
        node: &node,
        upstream_peer: None,
        downstream_peer: None,
        client_principal: None,
        own_principal: None,
    }
    .complete(&mut log);
    let others = record.attributes.iter().filter(|(key, _)| !is_known_field(key));
    log.attributes = apply_labels(&mut log, others.map(|(key, value)| (key.to_string(), value.clone())));
    let id = |keys: &[&str]| log.attributes.first_of(keys).map(Value::to_text);
    if log.trace_id.is_none() {
        log.trace_id = id(&["trace_id", "traceid", "TRACE_ID"]).and_then(|text| text.parse::<TraceId>().ok());
        log.span_id = id(&["span_id", "spanid", "SPAN_ID"]).and_then(|text| text.parse::<SpanId>().ok());
    }
    Some(log)
}

fn from_body(record: &LogRecord) -> Option<AccessLog> {
    let Value::String(line) = &record.body else { return None };
    let line = line.trim();
    // Cheap tests first: most application logs fail them.
    let text = line.starts_with("[2") && line.contains("] \"");
    let json =
        line.starts_with('{') && line.contains("\"response_flags\"") && line.contains("\"start_time\"");
    if text || json { parse_line(line).ok() } else { None }
}

/// Labels under the keys of Istio's JSON format; the record's own time stands in for `start_time`.
fn from_attributes(record: &LogRecord) -> Option<AccessLog> {
    let attributes = &record.attributes;
    let named = record.resource.text("log_name").is_some_and(|name| LOG_NAMES.contains(&name));
    let has = |key: &str| attributes.get(key).is_some();
    let typical =
        has("response_code") && has("response_flags") && (has("upstream_cluster") || has("authority"));
    let known = typical || (named && has("response_code"));
    if !known {
        return None;
    }
    let time = jiff::Timestamp::from_nanosecond(i128::from(record.time.0)).ok()?.to_string();
    let mut fields: Fields<'_> =
        attributes.iter().map(|(key, value)| (Cow::Borrowed(key), Cow::Owned(value.to_text()))).collect();
    if attributes.text("start_time").is_none() {
        fields.push((Cow::Borrowed("start_time"), Cow::Owned(time)));
    }
    access_log_of_fields(&fields).ok()
}

/// The sending proxy: Envoy's built-in labels, where Istio left them on, else the resource's service and workload.
fn node_of(record: &LogRecord) -> ProxyNode {
    let resource = &record.resource;
    let text = |keys: &[&str]| resource.first_of(keys).map(Value::to_text).unwrap_or_default();
    let cluster = match text(&["cluster_name"]) {
        name if name.is_empty() => record.service.to_string(),
        name => name,
    };
    let mut node = ProxyNode::from_names(&text(&["node_name"]), &cluster);
    let mut set = |field: fn(&mut ProxyNode) -> &mut String, keys: &[&str]| {
        let told = text(keys);
        if !told.is_empty() {
            *field(&mut node) = told;
        }
    };
    set(|node| &mut node.peer.namespace, &["k8s.namespace.name", "service.namespace"]);
    set(
        |node| &mut node.peer.workload,
        &["k8s.deployment.name", "k8s.statefulset.name", "k8s.daemonset.name"],
    );
    set(|node| &mut node.peer.cluster, &["k8s.cluster.name"]);
    set(|node| &mut node.peer.version, &["service.version"]);
    node
}
