use std::borrow::Cow;

use pharos_model::{Span, SpanEvent, SpanId, SpanKind, SpanLink, SpanStatus, TraceId};

use crate::columns::{Cell, Column, Kind, Row, field};

/// A column that repeats, for SQL, what the attributes hold.
macro_rules! repeated {
    ($name:literal, $kind:expr, $get:expr) => {
        Column { name: $name, kind: $kind, get: $get, set: |_, _| {} }
    };
}

impl Row for Span {
    const COLUMNS: &'static [Column<Span>] = &[
        field!(time "time", start),
        field!(nanos "start_nanos_rem", start),
        field!(int64 "duration_ns", duration_ns),
        field!(symbol "service", service),
        field!(symbol "name", name),
        field!(kind "kind", kind),
        Column {
            name: "status",
            kind: Kind::Symbol,
            get: |span| Cell::text(status_name(span.status)),
            set: |span, cell| span.status = status_of_name(cell.as_text()),
        },
        repeated!("error", Kind::Bool, |span| Cell::Bool(span.is_error())),
        field!(id TraceId, "trace_id", trace_id),
        field!(id SpanId, "span_id", span_id),
        Column {
            name: "parent_span_id",
            kind: Kind::Bytes,
            get: |span| span.parent_span_id.as_ref().map_or(Cell::Null, |id| Cell::bytes(&id.0)),
            set: |span, cell| span.parent_span_id = SpanId::from_slice(cell.as_bytes()),
        },
        repeated!("request_id", Kind::Text, |span| Cell::optional(span.request_id())),
        repeated!("http_method", Kind::Symbol, |span| Cell::optional(span.http_method())),
        repeated!("http_status", Kind::Int32, |span| match span.http_status() {
            0 => Cell::Null,
            code => Cell::Int32(i32::from(code)),
        }),
        repeated!("http_url", Kind::Text, |span| Cell::optional(span.http_url())),
        repeated!("response_flags", Kind::Symbol, |span| Cell::optional(span.response_flags())),
        repeated!("upstream_cluster", Kind::Symbol, |span| Cell::optional(span.upstream_cluster())),
        repeated!("node_id", Kind::Symbol, |span| Cell::optional(span.node_id())),
        field!(text "status_message", status_message),
        field!(symbol "trace_state", trace_state),
        Column {
            name: "flags",
            kind: Kind::Int64,
            get: |span| Cell::Int64(i64::from(span.flags)),
            set: |span, cell| span.flags = cell.as_i64() as u32,
        },
        field!(attributes "attributes", attributes),
        field!(attribute_types "attribute_types", attributes),
        field!(attributes "resource_attributes", resource),
        field!(attribute_types "resource_attribute_types", resource),
        field!(scope_text "scope_name", name),
        field!(scope_text "scope_version", version),
        field!(scope_attributes "scope_attributes"),
        field!(scope_attribute_types "scope_attribute_types"),
        Column {
            name: "events",
            kind: Kind::Events,
            get: |span| Cell::Events(Cow::Borrowed(&span.events)),
            set: |span, cell| {
                if let Cell::Events(events) = cell {
                    span.events = events.to_vec();
                }
            },
        },
        Column {
            name: "links",
            kind: Kind::Links,
            get: |span| Cell::Links(Cow::Borrowed(&span.links)),
            set: |span, cell| {
                if let Cell::Links(links) = cell {
                    span.links = links.to_vec();
                }
            },
        },
    ];

    fn blank() -> Span {
        Span::default()
    }
}

impl Row for SpanEvent {
    const COLUMNS: &'static [Column<SpanEvent>] = &[
        field!(time "time", time),
        field!(nanos "nanos_rem", time),
        field!(text "name", name),
        field!(attributes "attributes", attributes),
        field!(attribute_types "attribute_types", attributes),
    ];

    fn blank() -> SpanEvent {
        SpanEvent::default()
    }
}

impl Row for SpanLink {
    const COLUMNS: &'static [Column<SpanLink>] = &[
        field!(id TraceId, "trace_id", trace_id),
        field!(id SpanId, "span_id", span_id),
        field!(text "trace_state", trace_state),
        field!(attributes "attributes", attributes),
        field!(attribute_types "attribute_types", attributes),
    ];

    fn blank() -> SpanLink {
        SpanLink::default()
    }
}

pub(crate) fn span_kind(name: &str) -> SpanKind {
    (0..=5).map(SpanKind::from_number).find(|kind| kind.name() == name).unwrap_or_default()
}

fn status_name(status: SpanStatus) -> &'static str {
    match status {
        SpanStatus::Unset => "unset",
        SpanStatus::Ok => "ok",
        SpanStatus::Error => "error",
    }
}

fn status_of_name(name: &str) -> SpanStatus {
    (0..=2).map(SpanStatus::from_number).find(|status| status_name(*status) == name).unwrap_or_default()
}
