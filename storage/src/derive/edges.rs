use std::{hash::BuildHasher, sync::Arc};

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use pharos_model::{
    AccessLog, CounterPart, EDGE_BUCKET_NS, Edge, EdgeKey, EdgeMeasure, HistogramPart, Latency, Sample,
    SeriesId, Span, TimeRange, UnixNanos, counts_for_edges, edge_of_access_log, edge_of_span,
};

use crate::{head::HeadSamples, series_index::SeriesIndex};

type RowKey = (UnixNanos, EdgeKey, EdgeMeasure);

/// Edge rows under construction from access logs and spans.
#[derive(Clone, Default)]
pub(crate) struct EdgeSums {
    sums: HashMap<RowKey, (CounterPart, Latency)>,
}

impl EdgeSums {
    pub(crate) fn add_spans(&mut self, spans: &[Span]) {
        spans.iter().flat_map(edge_of_span).for_each(|edge| self.add(edge));
    }

    pub(crate) fn add_access_logs(&mut self, logs: &[AccessLog]) {
        logs.iter().flat_map(edge_of_access_log).for_each(|edge| self.add(edge));
    }

    fn add(&mut self, edge: Edge) {
        let (counter, latency) = self.sums.entry((edge.bucket, edge.key, edge.measure)).or_default();
        counter.join(&edge.counter);
        latency.join(&edge.latency);
    }

    pub(crate) fn edges(&self, range: TimeRange) -> impl Iterator<Item = Edge> {
        self.sums.iter().filter(move |((bucket, ..), _)| bucket_overlaps(*bucket, range)).map(
            |((bucket, key, measure), (counter, latency))| Edge {
                bucket: *bucket,
                key: key.clone(),
                measure: *measure,
                counter: *counter,
                latency: latency.clone(),
            },
        )
    }
}

pub(crate) fn bucket_overlaps(bucket: UnixNanos, range: TimeRange) -> bool {
    range.overlaps(bucket, bucket.plus_nanos(EDGE_BUCKET_NS - 1))
}

struct MetricSum {
    counter: CounterPart,
    /// By bucket bound.
    bounds: Vec<(f64, CounterPart)>,
}

/// The edge rows of the head's samples.
pub(crate) fn metric_edges(samples: &HeadSamples, index: &SeriesIndex, range: TimeRange) -> Vec<Edge> {
    let mut sums: HashMap<(UnixNanos, SeriesId, EdgeMeasure), (Arc<EdgeKey>, MetricSum)> = HashMap::new();
    for (id, series) in samples.iter() {
        let Some(role) = index.get(id).and_then(|entry| entry.edge.as_ref()) else { continue };
        for (time_ms, value) in series.times_ms.iter().zip(&series.values) {
            let sample = Sample { time_ms: *time_ms, value: *value };
            let bucket = UnixNanos::from_millis(*time_ms).floor_to(EDGE_BUCKET_NS);
            if !counts_for_edges(&sample) || !bucket_overlaps(bucket, range) {
                continue;
            }
            let part = CounterPart::of(sample);
            let (_, sum) = sums.entry((bucket, role.key.series, role.measure)).or_insert_with(|| {
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
    sums.into_iter()
        .map(|((bucket, _, measure), (key, sum))| Edge {
            bucket,
            key: Arc::unwrap_or_clone(key),
            measure,
            counter: sum.counter,
            latency: histogram(sum.bounds),
        })
        .collect()
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
