//! Classic histograms: `_bucket`, `_sum` and `_count` series.

use pharos_model::{Exemplar, Labels, METRIC_NAME, MetricMetadata, Sample, TimeSeries, stale_nan};

use crate::exposition::openmetrics_float;

/// One observation of a histogram: all that was counted so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Histogram {
    pub(crate) count: f64,
    pub(crate) sum: Option<f64>,
    /// Upper bound (inclusive) and what lies between it and the bound before; ascending, without `+Inf`.
    pub(crate) buckets: Vec<(f64, f64)>,
}

impl Histogram {
    /// Adds what was counted since: the way from delta to cumulative.
    pub(crate) fn add(&mut self, other: &Histogram) {
        self.count += other.count;
        self.sum = match (self.sum, other.sum) {
            (Some(a), Some(b)) => Some(a + b),
            (a, b) => a.or(b),
        };
        for (bound, count) in &other.buckets {
            match self.buckets.binary_search_by(|(known, _)| known.total_cmp(bound)) {
                Ok(index) => {
                    if let Some(bucket) = self.buckets.get_mut(index) {
                        bucket.1 += count;
                    }
                }
                Err(index) => self.buckets.insert(index, (*bound, *count)),
            }
        }
    }

    /// Its series. `labels` are those of the family without a name; `None` marks the series as stale.
    pub(crate) fn series(
        histogram: Option<&Histogram>,
        bounds: &[f64],
        family: &str,
        labels: &Labels,
        time_ms: i64,
        exemplars: Vec<Exemplar>,
        metadata: &MetricMetadata,
    ) -> Vec<TimeSeries> {
        let series = |suffix: &str, le: Option<f64>, value: f64| {
            let mut labels = labels.clone();
            labels.set(METRIC_NAME, format!("{family}{suffix}"));
            if let Some(le) = le {
                labels.set("le", openmetrics_float(le));
            }
            TimeSeries {
                labels,
                samples: vec![Sample { time_ms, value }],
                metadata: Some(metadata.clone()),
                ..TimeSeries::default()
            }
        };
        let mut out = Vec::with_capacity(bounds.len() + 3);
        let mut cumulative = 0.0;
        for (index, bound) in bounds.iter().enumerate() {
            let value = histogram.map(|histogram| {
                cumulative += histogram.buckets.get(index).map_or(0.0, |(_, count)| *count);
                cumulative
            });
            out.push(series("_bucket", Some(*bound), value.unwrap_or_else(stale_nan)));
        }
        let count = histogram.map_or_else(stale_nan, |histogram| histogram.count);
        out.push(series("_bucket", Some(f64::INFINITY), count));
        // Each exemplar belongs to the first bucket that its value fits in.
        for exemplar in exemplars {
            let index = bounds.partition_point(|bound| *bound < exemplar.value);
            if let Some(bucket) = out.get_mut(index) {
                bucket.exemplars.push(exemplar);
            }
        }
        out.push(series("_count", None, count));
        match histogram.map(|histogram| histogram.sum) {
            Some(Some(sum)) => out.push(series("_sum", None, sum)),
            Some(None) => {}
            None => out.push(series("_sum", None, stale_nan())),
        }
        out
    }

    pub(crate) fn bounds(&self) -> Vec<f64> {
        self.buckets.iter().map(|(bound, _)| *bound).collect()
    }
}
