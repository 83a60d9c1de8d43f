use std::{hash::BuildHasher, sync::Arc};

use arrow::{array::RecordBatch, compute::take_record_batch, error::ArrowError};
use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use pharos_model::{
    AccessLog, AccessLogNumbers, CounterPart, EDGE_BUCKET_NS, Edge, EdgeKey, EdgeMeasure, HistogramPart,
    Latency, LatencySketch, NativeHistogram, Sample, SeriesId, Span, TimeRange, UnixNanos, counts_for_edges,
    edge_of_access_log, edge_of_span,
};

use super::Groups;
use crate::{
    columns::{Column, Row, field, from_batch},
    head::{Generation, HeadSeries},
    series_index::{EdgeRole, SeriesIndex},
};

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

/// A bucket, what the series of one edge share, and what they count.
type MetricKey = (UnixNanos, SeriesId, EdgeMeasure);

struct MetricSum {
    counter: CounterPart,
    /// By bucket bound.
    bounds: Vec<(f64, CounterPart)>,
}

/// Edge rows under construction from samples.
#[derive(Default)]
struct MetricSums(HashMap<MetricKey, (Arc<EdgeKey>, MetricSum)>);

impl MetricSums {
    /// Samples of one series in the order of time.
    fn add(&mut self, role: &EdgeRole, times_ms: &[i64], values: &[f64], range: TimeRange) {
        for (time_ms, value) in times_ms.iter().zip(values) {
            let sample = Sample { time_ms: *time_ms, value: *value };
            let bucket = UnixNanos::from_millis(*time_ms).floor_to(EDGE_BUCKET_NS);
            if !counts_for_edges(&sample) || !bucket_overlaps(bucket, range) {
                continue;
            }
            let part = CounterPart::of(sample);
            let (_, sum) = self.0.entry((bucket, role.key.series, role.measure)).or_insert_with(|| {
                (role.key.clone(), MetricSum { counter: CounterPart::default(), bounds: Vec::new() })
            });
            match role.bound {
                None => sum.counter.join(&part),
                Some(bound) => match sum.bounds.iter_mut().find(|(known, _)| *known == bound) {
                    Some((_, counter)) => counter.join(&part),
                    None => sum.bounds.push((bound, part)),
                },
            }
        }
    }

    fn take(&mut self) -> impl Iterator<Item = Edge> {
        self.0.drain().map(|((bucket, _, measure), (key, sum))| Edge {
            bucket,
            key: Arc::unwrap_or_clone(key),
            measure,
            counter: sum.counter,
            latency: histogram(sum.bounds),
        })
    }
}

/// The edge rows of samples and native histograms, which come by series, each in the order of time.
pub(crate) fn metric_edges<'a>(
    samples: impl Iterator<Item = (SeriesId, &'a [i64], &'a [f64])>,
    histograms: impl Iterator<Item = (SeriesId, i64, &'a NativeHistogram)>,
    index: &SeriesIndex,
    range: TimeRange,
) -> Vec<Edge> {
    let mut sums = MetricSums::default();
    for (id, times_ms, values) in samples {
        if let Some(role) = index.edge_role(id) {
            sums.add(role, times_ms, values, range);
        }
    }
    let mut natives = native_edges(histograms, index, range);
    natives.retain(|key, _| !sums.0.contains_key(key));
    sums.take().chain(natives.into_values()).collect()
}

/// The edge rows of the head's samples and native histograms. Those of one key follow each other, so that few are
/// under construction.
pub(crate) fn head_metric_edges(
    head: &Generation,
    index: &SeriesIndex,
    range: TimeRange,
    mut visit: impl FnMut(Edge),
) {
    let samples = &head.samples;
    let mut natives = native_edges(head.histograms.iter(), index, range);
    let role = |series: &HeadSeries| index.edge_role(series.labels.series_id());
    let mut series: Vec<(&EdgeRole, &HeadSeries)> =
        samples.iter().filter_map(|series| Some((role(series)?, series))).collect();
    series.sort_by_key(|(role, _)| role.key.series);
    let mut sums = MetricSums::default();
    let (mut times_ms, mut values) = (Vec::new(), Vec::new());
    for of_key in series.chunk_by(|(left, _), (right, _)| left.key.series == right.key.series) {
        for (role, series) in of_key {
            times_ms.clear();
            values.clear();
            // A bucket that the range cuts is made whole.
            samples.copy(series, i64::MIN, i64::MAX, &mut times_ms, &mut values);
            sums.add(role, &times_ms, &values, range);
        }
        if !natives.is_empty() {
            natives.retain(|key, _| !sums.0.contains_key(key));
        }
        sums.take().for_each(&mut visit);
    }
    natives.into_values().for_each(visit);
}

/// Where a histogram comes in the classic form too, that one tells all.
fn native_edges<'a>(
    histograms: impl Iterator<Item = (SeriesId, i64, &'a NativeHistogram)>,
    index: &SeriesIndex,
    range: TimeRange,
) -> HashMap<MetricKey, Edge> {
    let mut edges: HashMap<MetricKey, Edge> = HashMap::new();
    for (id, time_ms, histogram) in histograms {
        let Some(role) = index.edge_role(id) else { continue };
        let sample = Sample { time_ms, value: histogram.sum };
        let bucket = UnixNanos::from_millis(time_ms).floor_to(EDGE_BUCKET_NS);
        if !counts_for_edges(&sample) || !bucket_overlaps(bucket, range) {
            continue;
        }
        let edge = edges.entry((bucket, role.key.series, role.measure)).or_insert_with(|| Edge {
            bucket,
            key: EdgeKey::clone(&role.key),
            measure: role.measure,
            counter: CounterPart::default(),
            latency: Latency::None,
        });
        edge.counter.join(&CounterPart::of(sample));
        if role.measure == EdgeMeasure::DurationMs {
            edge.latency.join(&Latency::Histogram(HistogramPart::of_native(histogram)));
        }
    }
    edges
}

fn histogram(mut bounds: Vec<(f64, CounterPart)>) -> Latency {
    if bounds.is_empty() {
        return Latency::None;
    }
    bounds.sort_by(|(left, _), (right, _)| left.total_cmp(right));
    let column = |of: fn(&CounterPart) -> f64| bounds.iter().map(|(_, counter)| of(counter)).collect();
    Latency::Histogram(HistogramPart {
        bounds: bounds.iter().map(|(bound, _)| *bound).collect(),
        first: column(|counter| counter.first),
        last: column(|counter| counter.last),
        increase: column(|counter| counter.increase),
    })
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
