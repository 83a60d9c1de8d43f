use std::{borrow::Cow, sync::Arc};

use pharos_model::{Attributes, LogRecord, Scope, Severity, SpanId, TraceId, UnixNanos, Value};

use crate::{
    attribute_types,
    columns::{Cell, Column, Kind, Row, field},
};

impl Row for LogRecord {
    const COLUMNS: &'static [Column<LogRecord>] = &[
        field!(time "time", time),
        field!(nanos "time_nanos_rem", time),
        field!(symbol "service", service),
        Column {
            name: "severity",
            kind: Kind::Int32,
            get: |log| Cell::Int32(i32::from(log.severity.0)),
            set: |log, cell| log.severity = Severity(cell.as_i64() as u8),
        },
        field!(symbol "severity_text", severity_text),
        Column {
            name: "trace_id",
            kind: Kind::Bytes,
            get: |log| log.trace_id.as_ref().map_or(Cell::Null, |id| Cell::bytes(&id.0)),
            set: |log, cell| log.trace_id = TraceId::from_slice(cell.as_bytes()),
        },
        Column {
            name: "span_id",
            kind: Kind::Bytes,
            get: |log| log.span_id.as_ref().map_or(Cell::Null, |id| Cell::bytes(&id.0)),
            set: |log, cell| log.span_id = SpanId::from_slice(cell.as_bytes()),
        },
        Column {
            name: "body",
            kind: Kind::Text,
            get: |log| Cell::Text(attribute_types::text(&log.body)),
            set: |log, cell| log.body = Value::String(cell.as_text().to_string()),
        },
        // The body exactly, where it is anything but text.
        Column {
            name: "body_value",
            kind: Kind::Bytes,
            get: |log| match log.body {
                Value::String(_) => Cell::Null,
                _ => Cell::Bytes(Cow::Owned(attribute_types::encode(&log.body))),
            },
            set: |log, cell| {
                if let Some(body) = attribute_types::decode(cell.as_bytes()) {
                    log.body = body;
                }
            },
        },
        field!(symbol "event_name", event_name),
        field!(time "observed_time", observed),
        field!(nanos "observed_nanos_rem", observed),
        Column {
            name: "flags",
            kind: Kind::Int64,
            get: |log| Cell::Int64(i64::from(log.flags)),
            set: |log, cell| log.flags = cell.as_i64() as u32,
        },
        field!(attributes "attributes", attributes),
        field!(attribute_types "attribute_types", attributes),
        field!(attributes "resource_attributes", resource),
        field!(attribute_types "resource_attribute_types", resource),
        field!(scope_text "scope_name", name),
        field!(scope_text "scope_version", version),
        field!(scope_attributes "scope_attributes"),
        field!(scope_attribute_types "scope_attribute_types"),
    ];

    fn blank() -> LogRecord {
        LogRecord {
            time: UnixNanos(0),
            observed: UnixNanos(0),
            severity: Severity(0),
            severity_text: String::new(),
            body: Value::Null,
            event_name: String::new(),
            trace_id: None,
            span_id: None,
            flags: 0,
            service: Arc::from(""),
            resource: Arc::new(Attributes::new()),
            scope: Arc::new(Scope::default()),
            attributes: Attributes::new(),
        }
    }
}
