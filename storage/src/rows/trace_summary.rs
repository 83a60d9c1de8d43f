use std::borrow::Cow;

use pharos_model::{TraceId, UnixNanos};

use crate::columns::{Cell, Column, Kind, Row, field};

/// What is known of a trace. One whose spans came in with several flushes has several rows until a merge of files
/// joins them ([`TraceSummary::join`]).
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
    /// Spans whose parent is not among these spans. Rows that were joined did not know each other's spans, so theirs
    /// may be too many, never too few.
    pub orphans: i64,
}

impl TraceSummary {
    /// Adds what another row knows of the same trace.
    pub fn join(&mut self, other: TraceSummary) {
        self.start = self.start.min(other.start);
        self.end = self.end.max(other.end);
        if self.root_service.is_empty() && self.root_name.is_empty() {
            (self.root_service, self.root_name) = (other.root_service, other.root_name);
        }
        self.spans += other.spans;
        self.errors += other.errors;
        self.orphans += other.orphans;
        for service in other.services {
            match self.services.iter_mut().find(|known| known.name == service.name) {
                Some(known) => {
                    known.spans += service.spans;
                    known.errors += service.errors;
                }
                None => self.services.push(service),
            }
        }
        self.services.sort_by(|left, right| left.name.cmp(&right.name));
    }
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
