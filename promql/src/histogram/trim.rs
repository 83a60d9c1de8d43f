//! `</` and `>/`: the part of a native histogram below or above a value.

use super::{Bucket, Buckets, Histogram};

impl Histogram {
    /// Keeps the observations below `limit` (`keep_below`) or above it. The sum is corrected by what the
    /// removed observations are estimated to have been.
    pub(crate) fn trimmed(&self, limit: f64, keep_below: bool) -> Histogram {
        let mut out = self.clone();
        let (mut kept, mut removed_sum) = (0.0, 0.0);
        let (mut has_positive, mut has_negative) = (false, false);
        for negative in [false, true] {
            let buckets = if negative { &self.negative } else { &self.positive };
            let trimmed = buckets.0.iter().map(|entry| {
                let bucket = if negative { self.negative_bucket(entry) } else { self.positive_bucket(entry) };
                if bucket.count == 0.0 {
                    return *entry;
                }
                has_negative |=
                    negative || bucket.upper <= 0.0 || (self.uses_custom_buckets() && bucket.lower < 0.0);
                has_positive |= !negative && bucket.upper > 0.0;
                let (count, removed_middle) = self.kept_of(bucket, limit, keep_below, !negative);
                kept += count;
                removed_sum += (bucket.count - count) * removed_middle;
                (entry.0, count)
            });
            let trimmed = Buckets(trimmed.collect());
            *if negative { &mut out.negative } else { &mut out.positive } = trimmed;
        }
        if self.zero_count > 0.0 {
            let below = split(self.with_zero_bounds(), limit, true, true);
            out.zero_count = if keep_below { below } else { self.zero_count - below };
            kept += out.zero_count;
        }
        let sum = if kept == 0.0 { 0.0 } else { self.sum - removed_sum };
        let impossible = (!has_negative && sum < 0.0) || (!has_positive && sum > 0.0);
        out.sum = if impossible { 0.0 } else { sum };
        out.count = kept;
        out.compact();
        out
    }

    fn with_zero_bounds(&self) -> Bucket {
        let mut bucket = self.zero_bucket();
        if self.negative.is_empty() && !self.positive.is_empty() {
            bucket.lower = 0.0;
        } else if self.positive.is_empty() && !self.negative.is_empty() {
            bucket.upper = 0.0;
        }
        bucket
    }

    /// How many of a bucket's observations stay, and the value that each of the others is taken to have had.
    fn kept_of(&self, bucket: Bucket, limit: f64, keep_below: bool, positive: bool) -> (f64, f64) {
        let custom = self.uses_custom_buckets();
        let middle = |lower: f64, upper: f64| {
            if custom {
                f64::midpoint(lower, upper)
            } else {
                (lower * upper).abs().sqrt().copysign(lower + upper)
            }
        };
        if bucket.lower == f64::NEG_INFINITY || bucket.upper == f64::INFINITY {
            return kept_of_open_bucket(bucket, limit, keep_below);
        }
        let below = split(bucket, limit, positive, custom);
        let all_stays = if keep_below { bucket.upper <= limit } else { bucket.lower >= limit };
        let all_goes = if keep_below { bucket.lower >= limit } else { bucket.upper <= limit };
        if all_stays {
            (bucket.count, 0.0)
        } else if all_goes || custom {
            let count = if all_goes {
                0.0
            } else if keep_below {
                below
            } else {
                bucket.count - below
            };
            (count, middle(bucket.lower, bucket.upper))
        } else if keep_below {
            (below, middle(limit, bucket.upper))
        } else {
            (bucket.count - below, middle(bucket.lower, limit))
        }
    }
}

/// The part of a bucket's observations below `limit`.
fn split(bucket: Bucket, limit: f64, positive: bool, linear: bool) -> f64 {
    if limit <= bucket.lower {
        return 0.0;
    }
    if limit >= bucket.upper {
        return bucket.count;
    }
    let fraction = if linear {
        (limit - bucket.lower) / (bucket.upper - bucket.lower)
    } else {
        let (log_lower, log_upper) = (bucket.lower.abs().log2(), bucket.upper.abs().log2());
        let log_limit = limit.abs().log2();
        if positive {
            (log_limit - log_lower) / (log_upper - log_lower)
        } else {
            1.0 - (log_limit - log_upper) / (log_lower - log_upper)
        }
    };
    bucket.count * fraction
}

/// Open buckets belong to custom layouts alone. One from -Inf to a positive bound is taken to begin at 0; of
/// the others nothing is known, so what the limit cuts is dropped as a whole.
fn kept_of_open_bucket(bucket: Bucket, limit: f64, keep_below: bool) -> (f64, f64) {
    if bucket.lower == f64::NEG_INFINITY {
        if keep_below && limit >= bucket.upper {
            return (bucket.count, 0.0);
        }
        if !keep_below && limit == f64::NEG_INFINITY {
            return (bucket.count, 0.0);
        }
        let inside = limit >= 0.0 && bucket.upper > limit && bucket.upper.is_finite();
        return match (inside, keep_below) {
            (true, true) => (bucket.count * limit / bucket.upper, f64::midpoint(limit, bucket.upper)),
            (true, false) => (bucket.count * (1.0 - limit / bucket.upper), limit / 2.0),
            (false, _) => (0.0, bucket.upper),
        };
    }
    if !keep_below && limit <= bucket.lower {
        return (bucket.count, 0.0);
    }
    (0.0, bucket.lower)
}
