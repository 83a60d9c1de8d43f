use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Attributes, SpanId, TraceId, UnixNanos, Value};

/// OpenTelemetry's span kinds, numbered as on its wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SpanKind {
    #[default]
    Unspecified = 0,
    Internal = 1,
    Server = 2,
    Client = 3,
    Producer = 4,
    Consumer = 5,
}

impl SpanKind {
    /// A number that no kind has is read as unspecified, as OpenTelemetry asks.
    pub fn from_number(number: i32) -> SpanKind {
        match number {
            1 => SpanKind::Internal,
            2 => SpanKind::Server,
            3 => SpanKind::Client,
            4 => SpanKind::Producer,
            5 => SpanKind::Consumer,
            _ => SpanKind::Unspecified,
        }
    }

    /// Lower-case name as in Jaeger's `span.kind` tag.
    pub fn name(self) -> &'static str {
        match self {
            SpanKind::Unspecified => "unspecified",
            SpanKind::Internal => "internal",
            SpanKind::Server => "server",
            SpanKind::Client => "client",
            SpanKind::Producer => "producer",
            SpanKind::Consumer => "consumer",
        }
    }
}

/// OpenTelemetry's span status, numbered as on its wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SpanStatus {
    #[default]
    Unset = 0,
    Ok = 1,
    Error = 2,
}

impl SpanStatus {
    pub fn from_number(number: i32) -> SpanStatus {
        match number {
            1 => SpanStatus::Ok,
            2 => SpanStatus::Error,
            _ => SpanStatus::Unset,
        }
    }
}

/// The instrumentation library that made a span.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scope {
    pub name: String,
    pub version: String,
    pub attributes: Attributes,
}

/// One span, whatever protocol it came by. Its identity, by which a resend is recognised, is
/// (`trace_id`, `span_id`, `kind`, `start`): Zipkin's client and server halves share the first two.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Span {
    pub trace_id: TraceId,
    pub span_id: SpanId,
    /// `None` for a root.
    pub parent_span_id: Option<SpanId>,
    pub trace_state: String,
    pub name: String,
    pub kind: SpanKind,
    pub start: UnixNanos,
    /// Never negative; a span whose end lies before its start has 0.
    pub duration_ns: i64,
    pub status: SpanStatus,
    pub status_message: String,
    /// W3C trace flags and OpenTelemetry's additions.
    pub flags: u32,
    /// `service.name` of the resource, or Zipkin's local endpoint; shared by the spans of one batch.
    pub service: Arc<str>,
    /// The resource (Jaeger's process) without `service.name`.
    pub resource: Arc<Attributes>,
    pub scope: Arc<Scope>,
    pub attributes: Attributes,
    pub events: Vec<SpanEvent>,
    pub links: Vec<SpanLink>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SpanEvent {
    pub time: UnixNanos,
    pub name: String,
    pub attributes: Attributes,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SpanLink {
    pub trace_id: TraceId,
    pub span_id: SpanId,
    pub trace_state: String,
    pub attributes: Attributes,
}

/// Mesh attributes under their several names: Envoy's own tags first, then OpenTelemetry's HTTP conventions,
/// old and new. `reference`: Envoy `source/common/tracing/http_tracer_impl.cc`, semconv 1.44 HTTP.
impl Span {
    pub fn end(&self) -> UnixNanos {
        self.start.plus_nanos(self.duration_ns)
    }

    pub fn is_error(&self) -> bool {
        self.status == SpanStatus::Error
            || match self.attributes.get("error") {
                Some(Value::Bool(flag)) => *flag,
                Some(Value::String(text)) => text == "true",
                _ => false,
            }
    }

    /// 0 when the span states none.
    pub fn http_status(&self) -> u16 {
        self.attributes
            .first_of(&["http.response.status_code", "http.status_code"])
            .and_then(Value::as_i64)
            .and_then(|code| u16::try_from(code).ok())
            .unwrap_or(0)
    }

    pub fn http_method(&self) -> Option<&str> {
        self.attributes.first_of(&["http.request.method", "http.method"]).and_then(Value::as_str)
    }

    /// The URL or the path, whichever the span has.
    pub fn http_url(&self) -> Option<&str> {
        self.attributes.first_of(&["url.full", "http.url", "url.path", "http.target"]).and_then(Value::as_str)
    }

    /// Envoy's `x-request-id`, by which spans and access logs are joined.
    pub fn request_id(&self) -> Option<&str> {
        self.attributes
            .first_of(&["guid:x-request-id", "http.request.header.x-request-id"])
            .and_then(Value::as_str)
    }

    /// Envoy's short flags; `None` when absent or `-`.
    pub fn response_flags(&self) -> Option<&str> {
        self.attributes.text("response_flags").filter(|flags| *flags != "-" && !flags.is_empty())
    }

    pub fn upstream_cluster(&self) -> Option<&str> {
        self.attributes.first_of(&["upstream_cluster.name", "upstream_cluster"]).and_then(Value::as_str)
    }

    /// Envoy's node id, `sidecar~<ip>~<pod>.<namespace>~<domain>`.
    pub fn node_id(&self) -> Option<&str> {
        self.attributes.text("node_id").or_else(|| self.resource.text("node_id"))
    }
}
