//! Quantiles, fractions and moments of native histograms.

use super::{Bucket, Histogram};

/// An estimate, and whether observations of NaN stood in its way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Estimate {
    pub value: f64,
    pub nan_observations: bool,
}

impl Histogram {
    /// The value below which the fraction `q` of the observations lies.
    pub(crate) fn quantile(&self, q: f64) -> Estimate {
        let exact = |value| Estimate { value, nan_observations: false };
        if q < 0.0 {
            return exact(f64::NEG_INFINITY);
        }
        if q > 1.0 {
            return exact(f64::INFINITY);
        }
        if self.count == 0.0 || q.is_nan() {
            return exact(f64::NAN);
        }
        // Observations of NaN are counted but are in no bucket: they make the sum NaN, and count as highest.
        let upwards = self.sum.is_nan() || q < 0.5;
        let has_nan = self.has_nan_observations();
        let mut rank = if upwards { q * self.count } else { (1.0 - q) * self.count };
        let mut seen = 0.0;
        let mut found: Option<Bucket> = None;
        let mut look = |bucket: Bucket| {
            if bucket.count == 0.0 {
                return false;
            }
            seen += bucket.count;
            found = Some(bucket);
            seen >= rank
        };
        _ = if upwards { self.buckets().any(&mut look) } else { self.buckets().rev().any(&mut look) };
        let Some(bucket) = found else { return Estimate { value: f64::NAN, nan_observations: has_nan } };
        let is_lowest = bucket.lower == f64::NEG_INFINITY;
        let bucket = self.with_natural_bounds(bucket);
        if self.uses_custom_buckets() {
            if bucket.lower == f64::NEG_INFINITY {
                return exact(bucket.upper);
            }
            if bucket.upper == f64::INFINITY && !is_lowest {
                return exact(bucket.lower);
            }
        }
        let seen = seen.min(self.count);
        if seen < rank {
            let value = if self.sum.is_nan() { f64::NAN } else { bucket.upper };
            return Estimate { value, nan_observations: has_nan };
        }
        rank = if upwards { rank - (seen - bucket.count) } else { seen - rank };
        let fraction = rank / bucket.count;
        let value = if self.is_linear(bucket) {
            bucket.lower + (bucket.upper - bucket.lower) * fraction
        } else {
            let (log_lower, log_upper) = (bucket.lower.abs().log2(), bucket.upper.abs().log2());
            if bucket.lower > 0.0 {
                (log_lower + (log_upper - log_lower) * fraction).exp2()
            } else {
                -(log_upper + (log_lower - log_upper) * (1.0 - fraction)).exp2()
            }
        };
        Estimate { value, nan_observations: has_nan }
    }

    /// The fraction of the observations between `lower` and `upper`.
    pub(crate) fn fraction(&self, lower: f64, upper: f64) -> Estimate {
        let exact = |value| Estimate { value, nan_observations: false };
        if self.count == 0.0 || lower.is_nan() || upper.is_nan() {
            return exact(f64::NAN);
        }
        if lower >= upper {
            return exact(0.0);
        }
        let has_nan = self.has_nan_observations();
        let observations = if has_nan { self.observations_in_buckets() } else { self.count };
        let below = |limit: f64| self.observations_below(limit).unwrap_or(observations).min(observations);
        Estimate { value: (below(upper) - below(lower)) / self.count, nan_observations: has_nan }
    }

    /// A sum of NaN alone does not tell: that of both infinities is NaN, too.
    fn has_nan_observations(&self) -> bool {
        self.sum.is_nan() && self.observations_in_buckets() < self.count
    }

    fn observations_in_buckets(&self) -> f64 {
        self.buckets().map(|bucket| bucket.count).sum()
    }

    /// Observations below `limit`; `None` if all buckets are.
    fn observations_below(&self, limit: f64) -> Option<f64> {
        let mut rank = 0.0;
        for bucket in self.buckets() {
            let bucket = self.with_natural_bounds(bucket);
            if bucket.lower >= limit {
                return Some(rank);
            }
            if bucket.upper > limit {
                return Some(rank + bucket.count * self.share_below(bucket, limit));
            }
            rank += bucket.count;
        }
        None
    }

    /// The share of a bucket's observations below `limit`, which lies inside the bucket.
    fn share_below(&self, bucket: Bucket, limit: f64) -> f64 {
        if bucket.lower == f64::NEG_INFINITY || bucket.upper == f64::INFINITY {
            // What lies in an open bucket is taken to lie at its far end.
            return if bucket.lower == f64::NEG_INFINITY { 1.0 } else { 0.0 };
        }
        if self.is_linear(bucket) {
            return (limit - bucket.lower) / (bucket.upper - bucket.lower);
        }
        let (log_lower, log_upper) = (bucket.lower.abs().log2(), bucket.upper.abs().log2());
        let log_limit = limit.abs().log2();
        if limit > 0.0 {
            (log_limit - log_lower) / (log_upper - log_lower)
        } else {
            1.0 - (log_limit - log_upper) / (log_lower - log_upper)
        }
    }

    fn is_linear(&self, bucket: Bucket) -> bool {
        self.uses_custom_buckets() || (bucket.lower <= 0.0 && bucket.upper >= 0.0)
    }

    /// Zero is where a histogram without negative (or positive) buckets is taken to begin (or end).
    pub(super) fn with_natural_bounds(&self, mut bucket: Bucket) -> Bucket {
        if self.uses_custom_buckets() {
            if bucket.lower == f64::NEG_INFINITY && bucket.upper > 0.0 {
                bucket.lower = 0.0;
            }
        } else if bucket.lower < 0.0 && bucket.upper > 0.0 {
            if self.negative.is_empty() && !self.positive.is_empty() {
                bucket.lower = 0.0;
            } else if self.positive.is_empty() && !self.negative.is_empty() {
                bucket.upper = 0.0;
            }
        }
        bucket
    }

    pub(crate) fn variance(&self) -> f64 {
        let mean = self.sum / self.count;
        let mut sum = crate::float::KahanSum::default();
        for bucket in self.buckets().filter(|bucket| bucket.count != 0.0) {
            let middle = if self.uses_custom_buckets() {
                f64::midpoint(bucket.upper, bucket.lower)
            } else if bucket.lower <= 0.0 && bucket.upper >= 0.0 {
                0.0
            } else {
                (bucket.upper * bucket.lower).sqrt().copysign(bucket.upper)
            };
            let delta = middle - mean;
            sum.add(bucket.count * delta * delta);
        }
        sum.total() / self.count
    }
}
