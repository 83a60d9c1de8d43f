use std::borrow::Cow;

use pharos_model::{TraceId, UnixNanos};

use crate::columns::{Cell, Column, Kind, Row, field};

/// What one file (or the head) knows of a trace. A trace whose spans came in over a longer time has several rows:
/// sum the counts, take the least start and the greatest end, and the root from the row that has one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TraceSummary {
    pub trace_id: TraceId,
    pub start: UnixNanos,
    pub end: UnixNanos,
    /// Of the span without a parent; empty when it is not among these spans.
    pub root_service: String,
    pub root_name: String,
    /// By name.
    pub services: Vec<ServiceCount>,
    pub spans: i64,
    pub errors: i64,
    /// Spans whose parent is not among these spans.
    pub orphans: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceCount {
    pub name: String,
    pub spans: i64,
    pub errors: i64,
}

impl Row for TraceSummary {
    const COLUMNS: &'static [Column<TraceSummary>] = &[
        field!(time "time", start),
        field!(nanos "start_nanos_rem", start),
        field!(time "end", end),
        field!(nanos "end_nanos_rem", end),
        Column {
            name: "duration_ns",
            kind: Kind::Int64,
            get: |row| Cell::Int64(row.end.0.saturating_sub(row.start.0)),
            set: |_, _| {},
        },
        field!(id TraceId, "trace_id", trace_id),
        field!(symbol "root_service", root_service),
        field!(symbol "root_name", root_name),
        field!(int64 "spans", spans),
        field!(int64 "errors", errors),
        field!(int64 "orphans", orphans),
        Column {
            name: "services",
            kind: Kind::Services,
            get: |row| Cell::Services(Cow::Borrowed(&row.services)),
            set: |row, cell| {
                if let Cell::Services(services) = cell {
                    row.services = services.to_vec();
                }
            },
        },
    ];

    fn blank() -> TraceSummary {
        TraceSummary::default()
    }
}

impl Row for ServiceCount {
    const COLUMNS: &'static [Column<ServiceCount>] =
        &[field!(text "name", name), field!(int64 "spans", spans), field!(int64 "errors", errors)];

    fn blank() -> ServiceCount {
        ServiceCount::default()
    }
}
