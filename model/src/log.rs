use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Attributes, Scope, SpanId, TraceId, UnixNanos, Value};

/// OpenTelemetry's severity number, 1 to 24; 0 when unspecified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Severity(pub u8);

impl Severity {
    /// The short name of the severity's range, empty when unspecified.
    pub fn name(self) -> &'static str {
        match self.0 {
            1..=4 => "TRACE",
            5..=8 => "DEBUG",
            9..=12 => "INFO",
            13..=16 => "WARN",
            17..=20 => "ERROR",
            21..=24 => "FATAL",
            _ => "",
        }
    }
}

/// An application's log record: OpenTelemetry's data model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogRecord {
    /// When it happened; when it was observed, if the source does not say.
    pub time: UnixNanos,
    pub observed: UnixNanos,
    pub severity: Severity,
    pub severity_text: String,
    pub body: Value,
    pub event_name: String,
    pub trace_id: Option<TraceId>,
    pub span_id: Option<SpanId>,
    pub flags: u32,
    pub service: Arc<str>,
    pub resource: Arc<Attributes>,
    pub scope: Arc<Scope>,
    pub attributes: Attributes,
}
