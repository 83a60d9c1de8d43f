//! Edges of Istio's counters and histograms. They are made of samples whenever someone reads them and stored nowhere: a
//! scrape brings less than a sample in ten seconds, so that their rows would be more bytes than the samples are.

use std::sync::Arc;

use hashbrown::HashMap;
use pharos_model::{
    CounterPart, EDGE_BUCKET_NS, Edge, EdgeKey, EdgeMeasure, HistogramPart, Latency, NativeHistogram, Sample,
    SeriesId, TimeRange, UnixNanos, counts_for_edges,
};

use super::bucket_overlaps;
use crate::series_index::EdgeRole;

/// Which rows of one key and measure become one.
#[derive(Clone, Copy)]
pub(crate) enum Joining {
    /// Those of a bucket.
    Buckets,
    /// Those of a bucket, and those of all buckets that lie wholly inside the range and are not its first: so a reader
    /// may clip what lies at the borders.
    Inner,
}

impl Joining {
    /// The stretch of time whose rows become one, by one of its buckets.
    pub(crate) fn stretch(self, bucket: UnixNanos, range: TimeRange) -> TimeRange {
        let bucket_end = bucket.plus_nanos(EDGE_BUCKET_NS);
        let second = range.start.plus_nanos(2 * EDGE_BUCKET_NS - 1).floor_to(EDGE_BUCKET_NS);
        match self {
            Joining::Inner if bucket >= second && bucket_end <= range.end => {
                TimeRange::new(second, range.end.floor_to(EDGE_BUCKET_NS))
            }
            _ => TimeRange::new(bucket, bucket_end),
        }
    }
}

/// Start of a stretch, what the series of one edge share, and what they count.
type Place = (UnixNanos, SeriesId, EdgeMeasure);

struct Sum {
    /// Of the first sample.
    bucket: UnixNanos,
    key: Arc<EdgeKey>,
    counter: CounterPart,
    /// By upper bound.
    bounds: Vec<(f64, CounterPart)>,
}

/// Edge rows under construction.
pub(crate) struct MetricSums {
    range: TimeRange,
    joining: Joining,
    sums: HashMap<Place, Sum>,
    natives: HashMap<Place, Edge>,
}

impl MetricSums {
    /// Rows whose buckets overlap `range`.
    pub(crate) fn new(range: TimeRange, joining: Joining) -> MetricSums {
        MetricSums { range, joining, sums: HashMap::new(), natives: HashMap::new() }
    }

    /// All samples of one series in the order of time.
    pub(crate) fn add(&mut self, role: &EdgeRole, times_ms: &[i64], values: &[f64]) {
        let mut run: Option<(TimeRange, CounterPart)> = None;
        for (time_ms, value) in times_ms.iter().zip(values) {
            let sample = Sample { time_ms: *time_ms, value: *value };
            if !counts_for_edges(&sample) {
                continue;
            }
            let part = CounterPart::of(sample);
            match &mut run {
                Some((stretch, sum)) if *time_ms < stretch.end.millis() => sum.join(&part),
                _ => {
                    self.put(role, run.take());
                    run = self.stretch(*time_ms).map(|stretch| (stretch, part));
                }
            }
        }
        self.put(role, run);
    }

    fn stretch(&self, time_ms: i64) -> Option<TimeRange> {
        let bucket = UnixNanos::from_millis(time_ms).floor_to(EDGE_BUCKET_NS);
        bucket_overlaps(bucket, self.range).then(|| self.joining.stretch(bucket, self.range))
    }

    fn put(&mut self, role: &EdgeRole, run: Option<(TimeRange, CounterPart)>) {
        let Some((stretch, part)) = run else { return };
        let bucket = UnixNanos::from_millis(part.first_ms).floor_to(EDGE_BUCKET_NS);
        let sum = self.sums.entry((stretch.start, role.key.series, role.measure)).or_insert_with(|| Sum {
            bucket,
            key: role.key.clone(),
            counter: CounterPart::default(),
            bounds: Vec::new(),
        });
        sum.bucket = sum.bucket.min(bucket);
        match role.bound {
            None => sum.counter.join(&part),
            Some(bound) => match sum.bounds.iter_mut().find(|(known, _)| *known == bound) {
                Some((_, counter)) => counter.join(&part),
                None => sum.bounds.push((bound, part)),
            },
        }
    }

    /// A native histogram; those of one series come in the order of time.
    pub(crate) fn add_native(&mut self, role: &EdgeRole, time_ms: i64, histogram: &NativeHistogram) {
        let sample = Sample { time_ms, value: histogram.sum };
        if !counts_for_edges(&sample) {
            return;
        }
        let Some(stretch) = self.stretch(time_ms) else { return };
        let edge =
            self.natives.entry((stretch.start, role.key.series, role.measure)).or_insert_with(|| Edge {
                bucket: UnixNanos::from_millis(time_ms).floor_to(EDGE_BUCKET_NS),
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

    /// Where a histogram comes in the classic form too, that one tells all.
    pub(crate) fn edges(self) -> Vec<Edge> {
        let MetricSums { sums, mut natives, .. } = self;
        natives.retain(|place, _| !sums.contains_key(place));
        let classic = sums.into_iter().map(|((_, _, measure), sum)| Edge {
            bucket: sum.bucket,
            key: EdgeKey::clone(&sum.key),
            measure,
            counter: sum.counter,
            latency: histogram(sum.bounds),
        });
        classic.chain(natives.into_values()).collect()
    }
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
