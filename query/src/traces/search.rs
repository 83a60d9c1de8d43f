//! Finding traces. A trace is an answer when at least one of its spans fulfils all conditions at once.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
};

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, DictionaryArray, RecordBatch},
    compute::filter_record_batch,
    datatypes::Int32Type,
};
use futures::{StreamExt, TryStreamExt, stream};
use pharos_model::{Attributes, Span, SpanId, TimeRange, TraceId, UnixNanos};
use pharos_storage::{
    Scan, ScanValue, ServiceCount, Storage, StorageError, Table, TableSnapshot, TraceSummary, spans_of,
    trace_summaries_of,
};

use super::legacy::derived_tags;

/// Traces that one search may ask for.
pub(crate) const MAX_TRACES: usize = 1_500;

/// Traces that are read at once.
const CONCURRENT_READS: usize = 8;

/// Conditions on a span. The range is of its start.
#[derive(Clone, Debug)]
pub(crate) struct TraceQuery {
    pub(crate) service: Option<String>,
    pub(crate) operation: Option<String>,
    pub(crate) range: TimeRange,
    pub(crate) min_duration_ns: Option<i64>,
    pub(crate) max_duration_ns: Option<i64>,
    /// Compared as text. A tag may be of the span, its resource, its scope, one of its events or links.
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) limit: usize,
}

impl TraceQuery {
    fn is_met_by(&self, span: &Span) -> bool {
        self.service.as_ref().is_none_or(|service| *service == *span.service)
            && self.operation.as_ref().is_none_or(|operation| *operation == span.name)
            && self.range.contains(span.start)
            && self.min_duration_ns.is_none_or(|min| span.duration_ns >= min)
            && self.max_duration_ns.is_none_or(|max| span.duration_ns <= max)
            && self.tags.iter().all(|(key, value)| has_tag(span, key, value))
    }

    /// Columns that the conditions look at; all of them when tags do.
    fn columns(&self) -> Option<Vec<String>> {
        let plain = ["time", "start_nanos_rem", "duration_ns", "service", "name", "trace_id"];
        self.tags.is_empty().then(|| plain.map(str::to_string).to_vec())
    }

    fn scan(&self, range: TimeRange) -> Scan {
        let mut scan = Scan::new(range);
        scan.columns = self.columns();
        for (column, value) in [("service", &self.service), ("name", &self.operation)] {
            if let Some(value) = value {
                scan = scan.equal(column, ScanValue::Text(value.clone()));
            }
        }
        scan
    }
}

fn has_tag(span: &Span, key: &str, value: &str) -> bool {
    let has = |attributes: &Attributes| attributes.get(key).is_some_and(|found| found.to_text() == value);
    has(&span.attributes)
        || has(&span.resource)
        || has(&span.scope.attributes)
        || span.events.iter().any(|event| has(&event.attributes) || (key == "event" && event.name == value))
        || span.links.iter().any(|link| has(&link.attributes))
        || derived_tags(span).iter().any(|(known, found)| *known == key && found.to_text() == value)
}

/// How much of the past one step of a search looks at, at first; each further step looks at four times as much.
const FIRST_STEP_NS: i64 = 10_000_000_000;

/// The ids of the newest matching traces, newest first; those of one instant in the order of their ids.
pub(crate) async fn find_ids(storage: &Storage, query: &TraceQuery) -> Result<Vec<TraceId>, StorageError> {
    Ok(find(storage, query).await?.into_iter().map(|(id, _)| id).collect())
}

/// The newest matching traces, each with the start of its newest matching span. A step back in time that has found
/// enough traces is the last one: what lies before it can only be older.
async fn find(storage: &Storage, query: &TraceQuery) -> Result<Vec<(TraceId, UnixNanos)>, StorageError> {
    let snapshot = storage.snapshot(Table::Spans, query.range)?;
    let Some(mut range) = extent(&snapshot, query.range) else { return Ok(Vec::new()) };
    let mut newest: HashMap<TraceId, UnixNanos> = HashMap::new();
    let mut step_ns = FIRST_STEP_NS;
    while range.start < range.end && newest.len() < query.limit {
        let from = range.end.plus_nanos(-step_ns).max(range.start);
        let mut batches = snapshot.read(&query.scan(TimeRange::new(from, range.end))).await?;
        while let Some(batch) = batches.try_next().await? {
            for span in spans_of(&batch)? {
                if query.is_met_by(&span) {
                    let start = newest.entry(span.trace_id).or_insert(span.start);
                    *start = (*start).max(span.start);
                }
            }
        }
        range.end = from;
        step_ns = step_ns.saturating_mul(4);
    }
    let mut found: Vec<(TraceId, UnixNanos)> = newest.into_iter().collect();
    found.sort_by_key(|(id, start)| (Reverse(*start), *id));
    found.truncate(query.limit);
    Ok(found)
}

/// The part of `range` in which the snapshot may have rows; `None` if it has none.
fn extent(snapshot: &TableSnapshot, range: TimeRange) -> Option<TimeRange> {
    if snapshot.has_head() {
        return Some(TimeRange::new(range.start.max(UnixNanos(0)), range.end));
    }
    let oldest = snapshot.files.iter().map(|file| file.min_time).min()?;
    let newest = snapshot.files.iter().map(|file| file.max_time).max()?;
    Some(TimeRange::new(range.start.max(oldest), range.end.min(newest.plus_nanos(1))))
}

/// All spans of the traces, in the order of `ids`; a trace that is unknown has none.
pub(crate) async fn read_traces(
    storage: &Storage,
    ids: &[TraceId],
) -> Result<Vec<(TraceId, Vec<Span>)>, StorageError> {
    let snapshot = storage.snapshot(Table::Spans, TimeRange::ALL)?;
    stream::iter(ids.to_vec())
        .map(|id| {
            let snapshot = snapshot.clone();
            async move { Ok::<_, StorageError>((id, spans_of_trace(&snapshot, id).await?)) }
        })
        .buffered(CONCURRENT_READS)
        .try_collect()
        .await
}

async fn spans_of_trace(snapshot: &TableSnapshot, id: TraceId) -> Result<Vec<Span>, StorageError> {
    let scan = Scan::new(TimeRange::ALL).equal("trace_id", ScanValue::Bytes(id.0.to_vec()));
    let mut batches = snapshot.read(&scan).await?;
    let mut spans = Vec::new();
    while let Some(batch) = batches.try_next().await? {
        spans.extend(spans_of(&batch)?);
    }
    spans.sort_by_key(|span| (span.start, span.span_id, span.kind as u8));
    Ok(spans)
}

/// One summary a matching trace, newest first.
pub(crate) async fn find_summaries(
    storage: &Storage,
    query: &TraceQuery,
) -> Result<Vec<TraceSummary>, StorageError> {
    // A trace may have begun before its matching span, and a late span may have a summary row of its own.
    const SLACK_NS: i64 = 600_000_000_000;
    let found = find(storage, query).await?;
    let (Some((_, newest)), Some((_, oldest))) = (found.first(), found.last()) else { return Ok(Vec::new()) };
    let range = TimeRange::new(oldest.plus_nanos(-SLACK_NS), newest.plus_nanos(SLACK_NS));
    let ids: Vec<TraceId> = found.iter().map(|(id, _)| *id).collect();
    let wanted: HashSet<TraceId> = ids.iter().copied().collect();
    let mut known: HashMap<TraceId, (TraceSummary, usize)> = HashMap::new();
    let snapshot = storage.snapshot(Table::TraceSummaries, range)?;
    let mut batches = snapshot.read(&Scan::new(range)).await?;
    while let Some(batch) = batches.try_next().await? {
        for row in trace_summaries_of(&of_traces(&batch, &wanted)?)? {
            let (sum, rows) = known.entry(row.trace_id).or_default();
            *rows += 1;
            if *rows == 1 {
                *sum = row;
            }
        }
    }
    // Rows of one trace in several files don't know each other's parents, so such a trace is counted from its spans.
    let doubtful: Vec<TraceId> = ids
        .iter()
        .copied()
        .filter(|id| {
            known
                .get(id)
                .is_none_or(|(sum, rows)| *rows > 1 || sum.orphans > 0 || sum.root_service.is_empty())
        })
        .collect();
    for (id, spans) in read_traces(storage, &doubtful).await? {
        known.insert(id, (summary_of(id, &spans), 1));
    }
    Ok(ids.iter().filter_map(|id| known.remove(id)).map(|(summary, _)| summary).collect())
}

/// The rows of these traces, chosen before they are decoded.
fn of_traces(batch: &RecordBatch, wanted: &HashSet<TraceId>) -> Result<RecordBatch, StorageError> {
    let ids = batch.column_by_name("trace_id").and_then(|column| column.as_binary_opt::<i32>());
    let Some(ids) = ids else { return Ok(batch.clone()) };
    let rows: BooleanArray = ids
        .iter()
        .map(|id| Some(id.and_then(TraceId::from_slice).is_some_and(|id| wanted.contains(&id))))
        .collect();
    Ok(filter_record_batch(batch, &rows)?)
}

fn summary_of(trace_id: TraceId, spans: &[Span]) -> TraceSummary {
    let own: HashSet<SpanId> = spans.iter().map(|span| span.span_id).collect();
    let mut services: BTreeMap<String, ServiceCount> = BTreeMap::new();
    let mut summary = TraceSummary { trace_id, ..TraceSummary::default() };
    for span in spans {
        let service = services.entry(span.service.to_string()).or_insert_with(|| ServiceCount {
            name: span.service.to_string(),
            spans: 0,
            errors: 0,
        });
        service.spans += 1;
        summary.spans += 1;
        if span.is_error() {
            service.errors += 1;
            summary.errors += 1;
        }
        if span.parent_span_id.is_some_and(|parent| !own.contains(&parent)) {
            summary.orphans += 1;
        }
    }
    summary.start = spans.iter().map(|span| span.start).min().unwrap_or_default();
    summary.end = spans.iter().map(Span::end).max().unwrap_or_default();
    if let Some(root) =
        spans.iter().filter(|span| span.parent_span_id.is_none()).min_by_key(|span| span.start)
    {
        summary.root_service = root.service.to_string();
        summary.root_name = root.name.clone();
    }
    summary.services = services.into_values().collect();
    summary
}

/// Services and operations that were seen last before this are not listed: Jaeger's default of `max-span-age`.
const LISTED_NS: i64 = 72 * 3_600_000_000_000;

/// The services of the spans of the last three days, sorted.
pub(crate) async fn services(storage: &Storage) -> Result<BTreeSet<String>, StorageError> {
    let scan = Scan::new(listed_range()).columns(["service"]);
    let mut batches = storage.snapshot(Table::Spans, scan.range)?.read(&scan).await?;
    let mut services = BTreeSet::new();
    while let Some(batch) = batches.try_next().await? {
        for column in batch.columns().iter().filter_map(symbols) {
            let mut seen = vec![false; column.values().len()];
            for key in column.keys().iter().flatten() {
                if let Some(seen) = usize::try_from(key).ok().and_then(|key| seen.get_mut(key)) {
                    *seen = true;
                }
            }
            let named = (0..seen.len()).filter(|key| seen.get(*key) == Some(&true));
            services.extend(named.map(|key| symbol(column, key)).filter(|service| !service.is_empty()));
        }
    }
    Ok(services)
}

/// Names and kinds of the spans of a service in the last three days, sorted.
pub(crate) async fn operations(
    storage: &Storage,
    service: &str,
) -> Result<BTreeSet<(String, String)>, StorageError> {
    let scan = Scan::new(listed_range())
        .columns(["name", "kind"])
        .equal("service", ScanValue::Text(service.to_string()));
    let mut batches = storage.snapshot(Table::Spans, scan.range)?.read(&scan).await?;
    let mut operations = BTreeSet::new();
    while let Some(batch) = batches.try_next().await? {
        let mut columns = batch.columns().iter().filter_map(symbols);
        let (Some(names), Some(kinds)) = (columns.next(), columns.next()) else { continue };
        let pairs: HashSet<(i32, i32)> =
            names.keys().values().iter().copied().zip(kinds.keys().values().iter().copied()).collect();
        for (name, kind) in pairs {
            if let (Ok(name), Ok(kind)) = (usize::try_from(name), usize::try_from(kind)) {
                operations.insert((symbol(names, name), symbol(kinds, kind)));
            }
        }
    }
    Ok(operations)
}

fn listed_range() -> TimeRange {
    TimeRange::new(UnixNanos::now().plus_nanos(-LISTED_NS), UnixNanos::MAX)
}

fn symbols(column: &ArrayRef) -> Option<&DictionaryArray<Int32Type>> {
    column.as_dictionary_opt::<Int32Type>()
}

/// A value of a dictionary of text; empty where there is none of that key.
fn symbol(column: &DictionaryArray<Int32Type>, key: usize) -> String {
    match column.values().as_string_opt::<i32>() {
        Some(texts) if key < texts.len() => texts.value(key).to_string(),
        _ => String::new(),
    }
}
