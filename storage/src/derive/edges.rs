use std::{hash::BuildHasher, sync::Arc};

use arrow::{array::RecordBatch, compute::take_record_batch, error::ArrowError};
use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use pharos_model::{
    AccessLog, AccessLogNumbers, CounterPart, EDGE_BUCKET_NS, Edge, EdgeKey, EdgeMeasure, Latency,
    LatencySketch, Span, TimeRange, UnixNanos, edge_of_access_log, edge_of_span,
};

use super::Groups;
use crate::columns::{Column, Row, field, from_batch};

/// Edge rows under construction from access logs and spans.
#[derive(Clone, Default)]
pub(crate) struct EdgeSums {
    keys: Vec<Arc<EdgeKey>>,
    numbers: HashMap<Arc<EdgeKey>, u32>,
    sums: HashMap<(UnixNanos, u32, EdgeMeasure), (CounterPart, Latency)>,
}

impl EdgeSums {
    /// Adds the rows of a batch of the table `spans`. Rows that are alike in all that makes their
    /// key have it made once.
    pub(crate) fn add_spans(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        let mut groups = Groups::new(batch.num_rows());
        ["kind", "service", "status"].iter().for_each(|name| groups.tell_apart(batch.column_by_name(name)));
        ["attributes", "resource_attributes"]
            .iter()
            .for_each(|name| groups.tell_attributes_apart(batch.column_by_name(name)));
        let (numbers, first_rows) = groups.finish();
        let first: Vec<Span> = from_batch(&take_record_batch(batch, &first_rows)?)?;
        let keys: Vec<Option<u32>> =
            first.iter().map(|span| edge_of_span(span).map(|key| self.number(key))).collect();
        for (row, numbers_of_row) in from_batch::<SpanNumbers>(batch)?.iter().zip(numbers) {
            let Some(Some(key)) = keys.get(numbers_of_row as usize) else { continue };
            let end = row.time.plus_nanos(row.duration_ns);
            let micros = row.duration_ns / 1_000;
            self.add(end, *key, EdgeMeasure::Requests, 1.0, micros);
            self.add(end, *key, EdgeMeasure::DurationMs, micros as f64 / 1_000.0, micros);
        }
        Ok(())
    }

    /// Adds the rows of a batch of the table `access_logs`.
    pub(crate) fn add_access_logs(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        let mut groups = Groups::new(batch.num_rows());
        ACCESS_LOG_KEY.iter().for_each(|name| groups.tell_apart(batch.column_by_name(name)));
        let (numbers, first_rows) = groups.finish();
        let first: Vec<AccessLog> = from_batch(&take_record_batch(batch, &first_rows)?)?;
        let keys: Vec<(u32, bool)> = first
            .iter()
            .map(|log| (self.number(edge_of_access_log(log)), log.request_protocol == "tcp"))
            .collect();
        for (row, number) in from_batch::<AccessLogNumbers>(batch)?.iter().zip(numbers) {
            let Some((key, is_tcp)) = keys.get(number as usize) else { continue };
            for (measure, sum) in row.measures(*is_tcp) {
                self.add(row.end(), *key, measure, sum, row.duration_us);
            }
        }
        Ok(())
    }

    fn number(&mut self, key: EdgeKey) -> u32 {
        if let Some(number) = self.numbers.get(&key) {
            return *number;
        }
        let (key, number) = (Arc::new(key), self.keys.len() as u32);
        self.keys.push(key.clone());
        self.numbers.insert(key, number);
        number
    }

    /// `micros` goes into the distribution of the measure that has one.
    fn add(&mut self, at: UnixNanos, key: u32, measure: EdgeMeasure, sum: f64, micros: i64) {
        let (counter, latency) = self.sums.entry((at.floor_to(EDGE_BUCKET_NS), key, measure)).or_default();
        counter.join(&CounterPart::of_rows(at, 1, sum));
        if measure == EdgeMeasure::DurationMs {
            if *latency == Latency::None {
                *latency = Latency::Sketch(LatencySketch::new());
            }
            if let Latency::Sketch(sketch) = latency {
                sketch.insert_micros(micros);
            }
        }
    }

    /// Takes the rows of the buckets before `end` out.
    pub(crate) fn take_before(&mut self, end: UnixNanos) -> Vec<Edge> {
        let edges = self.edges(TimeRange::new(UnixNanos::MIN, end)).collect();
        self.sums.retain(|(bucket, ..), _| *bucket >= end);
        edges
    }

    pub(crate) fn edges(&self, range: TimeRange) -> impl Iterator<Item = Edge> {
        self.sums.iter().filter(move |((bucket, ..), _)| bucket_overlaps(*bucket, range)).filter_map(
            |((bucket, key, measure), (counter, latency))| {
                Some(Edge {
                    bucket: *bucket,
                    key: EdgeKey::clone(self.keys.get(*key as usize)?),
                    measure: *measure,
                    counter: *counter,
                    latency: latency.clone(),
                })
            },
        )
    }
}

/// The columns of the table `spans` that are needed.
pub(crate) const SPAN_COLUMNS: [&str; 10] = [
    "time",
    "start_nanos_rem",
    "duration_ns",
    "service",
    "kind",
    "status",
    "attributes",
    "attribute_types",
    "resource_attributes",
    "resource_attribute_types",
];

/// The columns of the table `access_logs` that are needed.
pub(crate) fn access_log_columns() -> Vec<&'static str> {
    let numbers = AccessLogNumbers::COLUMNS.iter().map(|column| column.name);
    ACCESS_LOG_KEY.into_iter().chain(numbers).collect()
}

/// The columns of which [`edge_of_access_log`] makes a key.
const ACCESS_LOG_KEY: [&str; 25] = [
    "reporter",
    "source_cluster",
    "source_namespace",
    "source_workload",
    "source_app",
    "source_version",
    "source_canonical_service",
    "source_canonical_revision",
    "source_principal",
    "destination_cluster",
    "destination_namespace",
    "destination_workload",
    "destination_app",
    "destination_version",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_principal",
    "destination_service",
    "destination_service_name",
    "destination_service_namespace",
    "request_protocol",
    "response_code",
    "grpc_status",
    "response_flags",
    "security_policy",
];

impl Row for AccessLogNumbers {
    const COLUMNS: &'static [Column<AccessLogNumbers>] = &[
        field!(time "time", time),
        field!(nanos "time_nanos_rem", time),
        field!(int64 "duration_us", duration_us),
        field!(int64 "request_bytes", request_bytes),
        field!(int64 "response_bytes", response_bytes),
        field!(int64 "request_wire_bytes", request_wire_bytes),
        field!(int64 "response_wire_bytes", response_wire_bytes),
    ];

    fn blank() -> AccessLogNumbers {
        AccessLogNumbers::default()
    }
}

/// The numbers of a span that its edge adds up.
#[derive(Default)]
struct SpanNumbers {
    time: UnixNanos,
    duration_ns: i64,
}

impl Row for SpanNumbers {
    const COLUMNS: &'static [Column<SpanNumbers>] = &[
        field!(time "time", time),
        field!(nanos "start_nanos_rem", time),
        field!(int64 "duration_ns", duration_ns),
    ];

    fn blank() -> SpanNumbers {
        SpanNumbers::default()
    }
}

pub(crate) fn bucket_overlaps(bucket: UnixNanos, range: TimeRange) -> bool {
    range.overlaps(bucket, bucket.plus_nanos(EDGE_BUCKET_NS - 1))
}

/// Joins rows of one bucket, key and measure that lie in several files or generations; sorted by time.
pub(crate) fn merge_edges(mut edges: Vec<Edge>) -> Vec<Edge> {
    edges.sort_by_key(|edge| (edge.bucket, edge.counter.first_ms));
    let mut merged: Vec<Edge> = Vec::with_capacity(edges.len());
    let mut places: HashTable<usize> = HashTable::new();
    let hasher = DefaultHashBuilder::default();
    let mut bucket = None;
    for edge in edges {
        if bucket != Some(edge.bucket) {
            bucket = Some(edge.bucket);
            places.clear();
        }
        let hash = |edge: &Edge| hasher.hash_one((edge.measure, &edge.key));
        let same = |place: &usize| {
            merged.get(*place).is_some_and(|known| known.measure == edge.measure && known.key == edge.key)
        };
        match places.find(hash(&edge), same).copied().and_then(|place| merged.get_mut(place)) {
            Some(known) => {
                known.counter.join(&edge.counter);
                known.latency.join(&edge.latency);
            }
            None => {
                let rehash = |place: &usize| merged.get(*place).map_or(0, hash);
                places.insert_unique(hash(&edge), merged.len(), rehash);
                merged.push(edge);
            }
        }
    }
    merged
}
