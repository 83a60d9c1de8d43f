//! Histograms as the store keeps them: Prometheus' classic `_bucket`, `_sum` and `_count` series.

use pharos_model::{Exemplar, Labels, METRIC_NAME, MetricMetadata, Sample, TimeSeries, stale_nan};

use crate::exposition::openmetrics_float;

/// Finer exponential histograms are merged down to this scale: four buckets for each power of two, which bounds a
/// quantile's relative error by 9 % and, as it is the same for all, keeps the bounds of a series the same over time.
const MAX_SCALE: i32 = 2;

/// One observation of a histogram: all that was counted so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Histogram {
    pub(crate) count: f64,
    pub(crate) sum: Option<f64>,
    /// Upper bound (inclusive) and what lies between it and the bound before; ascending, without `+Inf`.
    pub(crate) buckets: Vec<(f64, f64)>,
}

/// One side of an exponential histogram: `counts[i]` lies in (base^(offset+i), base^(offset+i+1)].
#[derive(Clone, Debug, Default)]
pub(crate) struct ExponentialSide {
    pub(crate) offset: i32,
    pub(crate) counts: Vec<f64>,
}

impl Histogram {
    /// From an exponential histogram of base 2^(2^-scale).
    pub(crate) fn of_exponential(
        scale: i32,
        zero_threshold: f64,
        zero_count: f64,
        positive: ExponentialSide,
        negative: ExponentialSide,
    ) -> Histogram {
        let (scale, positive, negative) = (
            scale.min(MAX_SCALE),
            positive.downscaled((scale - MAX_SCALE).max(0)),
            negative.downscaled((scale - MAX_SCALE).max(0)),
        );
        let bound = |index: i64| 2f64.powf(index as f64 * 2f64.powi(-scale));
        let mut buckets = Vec::with_capacity(positive.counts.len() + negative.counts.len() + 2);
        for (index, count) in negative.counts.iter().enumerate().rev() {
            let lower_index = i64::from(negative.offset) + index as i64;
            buckets.push((-bound(lower_index), *count));
        }
        if zero_count > 0.0 {
            buckets.push((zero_threshold.max(0.0), zero_count));
        }
        // The bound below the first bucket, so that a quantile is not drawn down to zero.
        if !positive.counts.is_empty() {
            buckets.push((bound(i64::from(positive.offset)), 0.0));
        }
        for (index, count) in positive.counts.iter().enumerate() {
            buckets.push((bound(i64::from(positive.offset) + index as i64 + 1), *count));
        }
        buckets.retain(|(bound, _)| bound.is_finite());
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        buckets.dedup_by(|later, earlier| {
            later.0 == earlier.0 && {
                earlier.1 += later.1;
                true
            }
        });
        Histogram { count: 0.0, sum: None, buckets }
    }

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
                exemplars: Vec::new(),
                metadata: Some(metadata.clone()),
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

impl ExponentialSide {
    /// Halves the resolution `by` times; adjacent pairs merge exactly.
    fn downscaled(self, by: i32) -> ExponentialSide {
        if by == 0 || self.counts.is_empty() {
            return self;
        }
        let by = by.min(31);
        let offset = self.offset >> by;
        let mut counts: Vec<f64> = Vec::new();
        for (index, count) in self.counts.into_iter().enumerate() {
            let target = ((i64::from(self.offset) + index as i64) >> by) - i64::from(offset);
            let target = usize::try_from(target).unwrap_or(0);
            if counts.len() <= target {
                counts.resize(target + 1, 0.0);
            }
            if let Some(slot) = counts.get_mut(target) {
                *slot += count;
            }
        }
        ExponentialSide { offset, counts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_histograms_become_classic_ones() {
        let side = |offset, counts: &[f64]| ExponentialSide { offset, counts: counts.to_vec() };
        let check = |scale, positive, negative, zero, expected: &[(f64, f64)]| {
            let got = Histogram::of_exponential(scale, 0.0, zero, positive, negative).buckets;
            assert_eq!(got.len(), expected.len(), "{got:?}");
            for ((bound, count), (wanted, wanted_count)) in got.iter().zip(expected) {
                assert!(
                    (bound - wanted).abs() < 1e-9 && count == wanted_count,
                    "{got:?} is not {expected:?}"
                );
            }
        };
        check(0, side(0, &[1.0, 2.0]), side(0, &[]), 0.0, &[(1.0, 0.0), (2.0, 1.0), (4.0, 2.0)]);
        check(0, side(-1, &[3.0]), side(0, &[5.0]), 4.0, &[(-1.0, 5.0), (0.0, 4.0), (0.5, 0.0), (1.0, 3.0)]);
        // Scale 3 has 8 buckets for each power of two, of which pairs merge.
        check(
            3,
            side(6, &[1.0, 1.0, 1.0, 1.0]),
            side(0, &[]),
            0.0,
            &[(2f64.powf(0.75), 0.0), (2.0, 2.0), (2f64.powf(1.25), 2.0)],
        );
        check(4, side(-1, &[1.0]), side(0, &[]), 0.0, &[(2f64.powf(-0.25), 0.0), (1.0, 1.0)]);
    }
}
