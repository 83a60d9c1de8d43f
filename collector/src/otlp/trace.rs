use std::sync::Arc;

use pharos_model::{
    Attributes, Scope, Span, SpanEvent, SpanId, SpanKind, SpanLink, SpanStatus, TraceId, UnixNanos, Value,
};
use pharos_proto::otlp::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::InstrumentationScope,
    resource::v1::Resource,
    trace::v1::{Span as OtlpSpan, span},
};

use super::value::attributes;
use crate::{clock::record_time, intake::Normalised};

/// The service of spans that do not name theirs, as OpenTelemetry's SDKs call it.
pub(crate) const UNKNOWN_SERVICE: &str = "unknown_service";

pub(super) fn spans(request: ExportTraceServiceRequest, now: UnixNanos) -> Normalised<Span> {
    let mut out = Normalised::default();
    for resource_spans in request.resource_spans {
        let (service, resource) = service_and_resource(resource_spans.resource);
        for scope_spans in resource_spans.scope_spans {
            let scope = scope(scope_spans.scope);
            for otlp in scope_spans.spans {
                let name = if out.rejected.is_empty() { otlp.name.clone() } else { String::new() };
                match span(otlp, now, &service, &resource, &scope) {
                    Ok(span) => out.rows.push(span),
                    Err(fault) => out.rejected.add(1, || match name.as_str() {
                        "" => fault,
                        name => format!("span {name:?}: {fault}"),
                    }),
                }
            }
        }
    }
    out
}

/// The service's name, and the resource without it.
pub(super) fn service_and_resource(resource: Option<Resource>) -> (Arc<str>, Arc<Attributes>) {
    let all = attributes(resource.map(|resource| resource.attributes).unwrap_or_default());
    let service: Arc<str> = match all.get("service.name") {
        None | Some(Value::Null) => UNKNOWN_SERVICE.into(),
        Some(name) => name.to_text().into(),
    };
    let others = all.iter().filter(|(key, _)| *key != "service.name");
    (service, Arc::new(others.map(|(key, value)| (key.to_string(), value.clone())).collect()))
}

pub(super) fn scope(scope: Option<InstrumentationScope>) -> Arc<Scope> {
    let scope = scope.unwrap_or_default();
    Arc::new(Scope { name: scope.name, version: scope.version, attributes: attributes(scope.attributes) })
}

fn span(
    otlp: OtlpSpan,
    now: UnixNanos,
    service: &Arc<str>,
    resource: &Arc<Attributes>,
    scope: &Arc<Scope>,
) -> Result<Span, String> {
    let trace_id = trace_id(&otlp.trace_id)?;
    let span_id = span_id(&otlp.span_id)?;
    let parent_span_id = match otlp.parent_span_id.as_slice() {
        [] => None,
        bytes => SpanId::from_slice(bytes)
            .map(|id| Some(id).filter(|id| !id.is_zero()))
            .ok_or_else(|| format!("parent_span_id has {} bytes instead of 8", bytes.len()))?,
    };
    let start = record_time(otlp.start_time_unix_nano, now)
        .map_err(|fault| format!("start_time_unix_nano {fault}"))?;
    let end = i64::try_from(otlp.end_time_unix_nano).unwrap_or(i64::MAX);
    let status = otlp.status.unwrap_or_default();
    Ok(Span {
        trace_id,
        span_id,
        parent_span_id,
        trace_state: otlp.trace_state,
        name: otlp.name,
        kind: SpanKind::from_number(otlp.kind),
        start,
        duration_ns: end.saturating_sub(start.0).max(0),
        status: SpanStatus::from_number(status.code),
        status_message: status.message,
        flags: otlp.flags,
        service: service.clone(),
        resource: resource.clone(),
        scope: scope.clone(),
        attributes: attributes(otlp.attributes),
        events: otlp.events.into_iter().map(event).collect(),
        links: otlp.links.into_iter().filter_map(link).collect(),
    })
}

fn trace_id(bytes: &[u8]) -> Result<TraceId, String> {
    let id = TraceId::from_slice(bytes)
        .ok_or_else(|| format!("trace_id has {} bytes instead of 16", bytes.len()))?;
    if id.is_zero() { Err("trace_id is all zero".into()) } else { Ok(id) }
}

fn span_id(bytes: &[u8]) -> Result<SpanId, String> {
    let id =
        SpanId::from_slice(bytes).ok_or_else(|| format!("span_id has {} bytes instead of 8", bytes.len()))?;
    if id.is_zero() { Err("span_id is all zero".into()) } else { Ok(id) }
}

fn event(otlp: span::Event) -> SpanEvent {
    SpanEvent {
        time: UnixNanos(i64::try_from(otlp.time_unix_nano).unwrap_or(i64::MAX)),
        name: otlp.name,
        attributes: attributes(otlp.attributes),
    }
}

/// A link whose ids are not valid points nowhere and is left out.
fn link(otlp: span::Link) -> Option<SpanLink> {
    Some(SpanLink {
        trace_id: trace_id(&otlp.trace_id).ok()?,
        span_id: span_id(&otlp.span_id).ok()?,
        trace_state: otlp.trace_state,
        attributes: attributes(otlp.attributes),
    })
}
