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
    span_ids: HashSet<SpanId>,
    parents: Vec<SpanId>,
}

/// A row for each trace that has spans in these batches of the table `spans`, by start.
pub(crate) fn summarise(batches: &[RecordBatch]) -> Result<Vec<TraceSummary>, ArrowError> {
    let mut traces: HashMap<TraceId, Trace> = HashMap::new();
    for batch in batches {
        for span in from_batch::<Outline>(batch)? {
            traces.entry(span.trace_id).or_default().add(span);
        }
    }
    let mut summaries: Vec<TraceSummary> = traces.into_values().map(Trace::finish).collect();
    summaries.sort_by_key(|summary| (summary.start, summary.trace_id));
    Ok(summaries)
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
