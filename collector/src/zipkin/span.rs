use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use pharos_model::{
    Attributes, Scope, Span, SpanEvent, SpanId, SpanKind, SpanStatus, TraceId, UnixNanos, Value,
};

use crate::{clock::record_time, otlp::UNKNOWN_SERVICE};

/// A span as it was sent, whatever the encoding. Absent text is empty, an absent number is 0.
#[derive(Clone, Debug, Default, PartialEq, Hash)]
pub(super) struct ZipkinSpan {
    pub(super) trace_id: String,
    pub(super) id: String,
    pub(super) parent_id: String,
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) timestamp_us: u64,
    pub(super) duration_us: u64,
    pub(super) local: Endpoint,
    pub(super) remote: Endpoint,
    pub(super) annotations: Vec<(u64, String)>,
    pub(super) tags: Vec<(String, String)>,
    pub(super) shared: bool,
    pub(super) debug: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Endpoint {
    pub(super) service_name: String,
    pub(super) ipv4: String,
    pub(super) ipv6: String,
    pub(super) port: u16,
}

/// One bad span fails the whole post, as in Zipkin's server: its protocol knows no partial success.
///
/// What only Zipkin knows is kept in attributes behind the tags, so that Zipkin's read API can give every span back
/// as it came:
///
/// | attribute | means |
/// |---|---|
/// | `zipkin.tags` | on every Zipkin span: so many attributes before this one are the tags that were sent |
/// | `zipkin.shared`, `zipkin.debug` | the flag was true |
/// | `zipkin.timestamp_absent`, `zipkin.duration_absent` | the span's start, its duration was not sent |
/// | `zipkin.service_absent` | the local endpoint has no service name |
/// | `zipkin.remote.service_name`, `.ipv4`, `.ipv6`, `.port` | the remote endpoint |
/// | `zipkin.local.ipv4`, `.ipv6`, `.port` | the local endpoint, in the resource |
/// | `peer.service` | the remote endpoint's service once more, under the name that edges are derived from |
pub(super) fn normalise(sent: Vec<ZipkinSpan>, now: UnixNanos) -> Result<Vec<Span>, String> {
    let starts = starts(&sent);
    let mut resources: HashMap<Endpoint, Arc<Attributes>> = HashMap::new();
    let scope = Arc::new(Scope::default());
    let mut spans = Vec::with_capacity(sent.len());
    for (index, span) in sent.into_iter().enumerate() {
        let resource = resources.entry(span.local.clone()).or_insert_with(|| Arc::new(resource(&span.local)));
        let fallback = starts.get(span.trace_id.as_str()).copied().unwrap_or(now);
        let made = normalise_one(span, fallback, now, resource, &scope);
        spans.push(made.map_err(|fault| format!("span {index}: {fault}"))?);
    }
    Ok(spans)
}

/// The earliest timestamp of each trace in the batch, for the spans that have none.
fn starts(sent: &[ZipkinSpan]) -> HashMap<String, UnixNanos> {
    let mut starts = HashMap::new();
    for span in sent.iter().filter(|span| span.timestamp_us > 0) {
        let start = UnixNanos::from_micros(i64::try_from(span.timestamp_us).unwrap_or(i64::MAX));
        starts
            .entry(span.trace_id.clone())
            .and_modify(|known: &mut UnixNanos| *known = start.min(*known))
            .or_insert(start);
    }
    starts
}

fn normalise_one(
    sent: ZipkinSpan,
    fallback: UnixNanos,
    now: UnixNanos,
    resource: &Arc<Attributes>,
    scope: &Arc<Scope>,
) -> Result<Span, String> {
    let trace_id: TraceId = sent.trace_id.parse().map_err(|error| format!("traceId: {error}"))?;
    let span_id: SpanId = sent.id.parse().map_err(|error| format!("id: {error}"))?;
    if trace_id.is_zero() || span_id.is_zero() {
        return Err(format!("{} is all zero", if trace_id.is_zero() { "traceId" } else { "id" }));
    }
    let parent_span_id = match sent.parent_id.as_str() {
        "" => None,
        text => Some(text.parse::<SpanId>().map_err(|error| format!("parentId: {error}"))?),
    };
    let kind = match sent.kind.as_str() {
        "" => SpanKind::Unspecified,
        "CLIENT" => SpanKind::Client,
        "SERVER" => SpanKind::Server,
        "PRODUCER" => SpanKind::Producer,
        "CONSUMER" => SpanKind::Consumer,
        other => return Err(format!("kind: {other:?} is not CLIENT, SERVER, PRODUCER or CONSUMER")),
    };
    let start = start_of(&sent, fallback, now)?;
    let duration_us = i64::try_from(sent.duration_us).map_err(|_| "duration: too large".to_string())?;
    let error = sent.tags.iter().find(|(key, _)| key == "error").map(|(_, value)| value.clone());
    let (status, status_message) = match error.as_deref() {
        None | Some("false") => (SpanStatus::Unset, String::new()),
        Some("" | "true") => (SpanStatus::Error, String::new()),
        Some(message) => (SpanStatus::Error, message.to_string()),
    };
    let service = match sent.local.service_name.to_lowercase() {
        name if name.is_empty() => UNKNOWN_SERVICE.into(),
        name => name.into(),
    };
    let events = sent.annotations.iter().map(|(time_us, value)| SpanEvent {
        time: UnixNanos::from_micros(i64::try_from(*time_us).unwrap_or(i64::MAX)),
        name: value.clone(),
        attributes: Attributes::new(),
    });
    Ok(Span {
        trace_id,
        span_id,
        // Zipkin takes a span that names itself as its parent for a root.
        parent_span_id: parent_span_id.filter(|parent| !parent.is_zero() && *parent != span_id),
        trace_state: String::new(),
        name: sent.name.to_lowercase(),
        kind,
        start,
        duration_ns: duration_us.saturating_mul(1_000),
        status,
        status_message,
        flags: 0,
        service,
        resource: resource.clone(),
        scope: scope.clone(),
        events: events.collect(),
        links: Vec::new(),
        attributes: attributes(sent),
    })
}

fn attributes(sent: ZipkinSpan) -> Attributes {
    let (timestamp_absent, duration_absent) = (sent.timestamp_us == 0, sent.duration_us == 0);
    let mut attributes: Attributes =
        sent.tags.into_iter().map(|(key, value)| (key, Value::String(value))).collect();
    attributes.insert("zipkin.tags", attributes.len() as i64);
    for (key, flag) in [
        ("zipkin.shared", sent.shared),
        ("zipkin.debug", sent.debug),
        ("zipkin.timestamp_absent", timestamp_absent),
        ("zipkin.duration_absent", duration_absent),
        ("zipkin.service_absent", sent.local.service_name.is_empty()),
    ] {
        if flag {
            attributes.insert(key, true);
        }
    }
    let remote_service = sent.remote.service_name.to_lowercase();
    for (key, text) in [
        ("zipkin.remote.service_name", &remote_service),
        ("zipkin.remote.ipv4", &sent.remote.ipv4),
        ("zipkin.remote.ipv6", &sent.remote.ipv6),
        ("peer.service", &remote_service),
    ] {
        if !text.is_empty() {
            attributes.insert(key, text.as_str());
        }
    }
    if sent.remote.port != 0 {
        attributes.insert("zipkin.remote.port", i64::from(sent.remote.port));
    }
    attributes
}

fn resource(local: &Endpoint) -> Attributes {
    let mut resource = Attributes::new();
    for (key, text) in [("zipkin.local.ipv4", &local.ipv4), ("zipkin.local.ipv6", &local.ipv6)] {
        if !text.is_empty() {
            resource.insert(key, text.as_str());
        }
    }
    if local.port != 0 {
        resource.insert("zipkin.local.port", i64::from(local.port));
    }
    resource
}

/// A span without a timestamp starts at its first annotation, or with its trace. Several pieces of one span may come
/// so; nanoseconds made from the content keep them apart, and a piece that is sent twice the same.
fn start_of(sent: &ZipkinSpan, fallback: UnixNanos, now: UnixNanos) -> Result<UnixNanos, String> {
    if sent.timestamp_us > 0 {
        let nanos = sent.timestamp_us.saturating_mul(1_000);
        return record_time(nanos, now)
            .map_err(|_| format!("timestamp: {} µs lies more than a day in the future", sent.timestamp_us));
    }
    let first = sent.annotations.iter().map(|(time_us, _)| *time_us).filter(|time_us| *time_us > 0).min();
    let start =
        first.and_then(|time_us| i64::try_from(time_us).ok()).map_or(fallback, UnixNanos::from_micros);
    let mut hasher = DefaultHasher::new();
    sent.hash(&mut hasher);
    Ok(UnixNanos(start.micros().saturating_mul(1_000)).plus_nanos((hasher.finish() % 1_000) as i64))
}
