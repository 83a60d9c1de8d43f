use arrow::{array::RecordBatch, error::ArrowError};
use hashbrown::{HashMap, HashSet};
use pharos_model::{SpanId, TraceId, UnixNanos};

use crate::{
    columns::{Cell, Column, Kind, Row, field, from_batch},
    rows::{ServiceCount, TraceSummary},
};

/// Of a span, what its trace's summary needs.
#[derive(Default)]
struct Outline {
    start: UnixNanos,
    duration_ns: i64,
    service: String,
    name: String,
    error: bool,
    trace_id: TraceId,
    span_id: SpanId,
    parent_span_id: Option<SpanId>,
}

impl Row for Outline {
    const COLUMNS: &'static [Column<Outline>] = &[
        field!(time "time", start),
        field!(nanos "start_nanos_rem", start),
        field!(int64 "duration_ns", duration_ns),
        field!(symbol "service", service),
        field!(symbol "name", name),
        field!(bool "error", error),
        field!(id TraceId, "trace_id", trace_id),
        field!(id SpanId, "span_id", span_id),
        Column {
            name: "parent_span_id",
            kind: Kind::Bytes,
            get: |_| Cell::Null,
            set: |span, cell| span.parent_span_id = SpanId::from_slice(cell.as_bytes()),
        },
    ];

    fn blank() -> Outline {
        Outline::default()
    }
}

#[derive(Default)]
struct Trace {
    summary: TraceSummary,
    /// Start of the newest span.
    newest: UnixNanos,
    span_ids: HashSet<SpanId>,
    parents: Vec<SpanId>,
}

/// Spans of one trace come in over a short time, and start near each other. Where they do not, the trace has several
/// rows.
pub(crate) const TRACE_GAP_NS: i64 = 60_000_000_000;

/// A trace that goes on for longer than this has several rows.
const LONG_TRACE_NS: i64 = 3_600_000_000_000;

/// Summaries under construction.
#[derive(Default)]
pub(crate) struct TraceSums {
    traces: HashMap<TraceId, Trace>,
}

impl TraceSums {
    /// What is needed of the table `spans`.
    pub(crate) fn columns() -> impl Iterator<Item = &'static str> {
        Outline::COLUMNS.iter().map(|column| column.name)
    }

    pub(crate) fn add(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        for span in from_batch::<Outline>(batch)? {
            self.traces.entry(span.trace_id).or_default().add(span);
        }
        Ok(())
    }

    /// The summaries to which no span that starts at `now` or later belongs, by start. What is given back later
    /// starts later.
    pub(crate) fn take_before(&mut self, now: UnixNanos) -> Vec<TraceSummary> {
        let is_open = |trace: &Trace| {
            trace.newest > now.plus_nanos(-TRACE_GAP_NS)
                && trace.summary.start > now.plus_nanos(-LONG_TRACE_NS)
                && now != UnixNanos::MAX
        };
        let open_since = self.traces.values().filter(|trace| is_open(trace)).map(|trace| trace.summary.start);
        let open_since = open_since.min().unwrap_or(UnixNanos::MAX);
        let complete = self.traces.extract_if(|_, trace| trace.summary.start < open_since);
        let mut summaries: Vec<TraceSummary> = complete.map(|(_, trace)| trace.finish()).collect();
        summaries.sort_by_key(|summary| (summary.start, summary.trace_id));
        summaries
    }

    /// A row for each trace, by start.
    pub(crate) fn take_all(&mut self) -> Vec<TraceSummary> {
        self.take_before(UnixNanos::MAX)
    }
}

impl Trace {
    fn add(&mut self, span: Outline) {
        let end = span.start.plus_nanos(span.duration_ns);
        let summary = &mut self.summary;
        if summary.spans == 0 {
            (summary.trace_id, summary.start, summary.end) = (span.trace_id, span.start, end);
        }
        summary.start = summary.start.min(span.start);
        summary.end = summary.end.max(end);
        self.newest = self.newest.max(span.start);
        summary.spans += 1;
        summary.errors += i64::from(span.error);
        self.span_ids.insert(span.span_id);
        match span.parent_span_id {
            Some(parent) => self.parents.push(parent),
            None => {
                summary.root_service.clone_from(&span.service);
                summary.root_name.clone_from(&span.name);
            }
        }
        match summary.services.iter_mut().find(|service| service.name == span.service) {
            Some(service) => {
                service.spans += 1;
                service.errors += i64::from(span.error);
            }
            None => summary.services.push(ServiceCount {
                name: span.service,
                spans: 1,
                errors: i64::from(span.error),
            }),
        }
    }

    fn finish(mut self) -> TraceSummary {
        self.summary.orphans =
            self.parents.iter().filter(|parent| !self.span_ids.contains(*parent)).count() as i64;
        self.summary.services.sort_by(|left, right| left.name.cmp(&right.name));
        self.summary
    }
}
