//! `</` and `>/`: the part of a native histogram below or above a value.

use super::{Bucket, Buckets, Histogram};

impl Histogram {
    /// Keeps the observations below `limit` (`keep_below`) or above it. If any go, the sum is estimated anew:
    /// every observation that stays is taken to lie in the middle of what its bucket keeps.
    pub(crate) fn trimmed(&self, limit: f64, keep_below: bool) -> Histogram {
        let mut out = self.clone();
        let (mut count, mut sum, mut all_stay) = (0.0, 0.0, true);
        let mut keep = |bucket: Bucket, part: Part| {
            all_stay &= part.count == bucket.count;
            count += part.count;
            if part.count != 0.0 {
                sum += part.count * part.middle;
            }
            part.count
        };
        for negative in [false, true] {
            let buckets = if negative { &self.negative } else { &self.positive };
            let trimmed = buckets.0.iter().filter(|(_, count)| *count != 0.0).map(|entry| {
                let bucket = if negative { self.negative_bucket(entry) } else { self.positive_bucket(entry) };
                (entry.0, keep(bucket, self.part_of(bucket, limit, keep_below)))
            });
            let trimmed = Buckets(trimmed.collect());
            *if negative { &mut out.negative } else { &mut out.positive } = trimmed;
        }
        if self.zero_count > 0.0 {
            let bucket = self.with_natural_bounds(self.zero_bucket());
            out.zero_count = keep(bucket, finite_part(bucket, limit, keep_below, true));
        }
        if all_stay {
            return self.clone();
        }
        out.count = count;
        out.sum = sum;
        out.compact();
        out
    }

    fn part_of(&self, bucket: Bucket, limit: f64, keep_below: bool) -> Part {
        if limit.is_nan() {
            NOTHING
        } else if bucket.lower == f64::NEG_INFINITY || bucket.upper == f64::INFINITY {
            open_part(bucket, limit, keep_below)
        } else {
            finite_part(bucket, limit, keep_below, self.uses_custom_buckets())
        }
    }
}

/// What stays of a bucket: how many observations, and where they are taken to lie.
#[derive(Debug, Clone, Copy)]
struct Part {
    count: f64,
    middle: f64,
}

const NOTHING: Part = Part { count: 0.0, middle: 0.0 };

fn finite_part(bucket: Bucket, limit: f64, keep_below: bool, linear: bool) -> Part {
    let limit = limit.clamp(bucket.lower, bucket.upper);
    let below = bucket.count * share_below(bucket, limit, linear);
    let (count, lower, upper) =
        if keep_below { (below, bucket.lower, limit) } else { (bucket.count - below, limit, bucket.upper) };
    let middle = if linear {
        f64::midpoint(lower, upper)
    } else {
        (lower * upper).sqrt().copysign(bucket.lower + bucket.upper)
    };
    Part { count, middle }
}

/// The share of a finite bucket's observations below `limit`, which lies in the bucket.
fn share_below(bucket: Bucket, limit: f64, linear: bool) -> f64 {
    if limit <= bucket.lower {
        return 0.0;
    }
    if limit >= bucket.upper {
        return 1.0;
    }
    if linear {
        return (limit - bucket.lower) / (bucket.upper - bucket.lower);
    }
    let (log_lower, log_upper) = (bucket.lower.abs().log2(), bucket.upper.abs().log2());
    (limit.abs().log2() - log_lower) / (log_upper - log_lower)
}

/// Open buckets belong to custom layouts alone. One that ends at a positive bound is taken to begin at 0; for
/// the others, all observations are taken to lie on the far side of any limit.
fn open_part(bucket: Bucket, limit: f64, keep_below: bool) -> Part {
    let all = |middle: f64| Part { count: bucket.count, middle };
    let from_zero = Bucket { lower: 0.0, ..bucket };
    match (bucket.lower == f64::NEG_INFINITY, bucket.upper == f64::INFINITY) {
        (true, true) if keep_below && limit == f64::INFINITY => all(0.0),
        (true, true) if !keep_below && limit == f64::NEG_INFINITY => all(0.0),
        (true, true) => NOTHING,
        (true, false) if limit == f64::NEG_INFINITY => {
            if keep_below {
                NOTHING
            } else {
                all(bucket.upper)
            }
        }
        (true, false) if bucket.upper > 0.0 && limit >= 0.0 => {
            finite_part(from_zero, limit, keep_below, true)
        }
        (true, false) if bucket.upper > 0.0 => NOTHING,
        (true, false) if keep_below => all(limit.min(bucket.upper)),
        (true, false) => NOTHING,
        (false, _) if limit == f64::INFINITY => {
            if keep_below {
                all(bucket.lower)
            } else {
                NOTHING
            }
        }
        (false, _) if keep_below => NOTHING,
        (false, _) => all(limit.max(bucket.lower)),
    }
}
