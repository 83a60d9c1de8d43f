//! Native histograms with float counts: one sample that holds a whole distribution.

mod arithmetic;
mod estimate;
mod kahan;
mod trim;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use pharos_model::exponential_bound;

pub(crate) use arithmetic::{Conflicts, IncompatibleSchemas};
pub(crate) use estimate::Estimate;
pub(crate) use kahan::HistogramSum;

/// The schema of histograms whose bucket bounds are listed: `custom_bounds`.
pub const CUSTOM_SCHEMA: i32 = -53;

/// A native histogram. Schemas -4 to 8 have buckets that grow by the factor `2^(2^-schema)`, around a zero
/// bucket of width `zero_threshold`; [`CUSTOM_SCHEMA`] has listed bounds and only positive buckets.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Histogram {
    pub schema: i32,
    pub reset_hint: ResetHint,
    pub zero_threshold: f64,
    pub zero_count: f64,
    pub count: f64,
    pub sum: f64,
    pub positive: Buckets,
    /// Indexes count away from zero: the bucket of index `i` mirrors the positive one.
    pub negative: Buckets,
    /// Upper bounds, rising, without the last one, which is +Inf.
    pub custom_bounds: Arc<[f64]>,
}

/// What is known of a histogram's counts in relation to the sample before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ResetHint {
    #[default]
    Unknown,
    Reset,
    NotReset,
    Gauge,
}

/// Bucket counts by bucket index, rising; absent ones are 0. Bucket `i` of an exponential schema ends at
/// `2^(i · 2^-schema)`, bucket `i` of the custom schema at the `i`th bound.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Buckets(pub Vec<(i32, f64)>);

/// A bucket with its bounds in the order of the number line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    pub lower: f64,
    pub upper: f64,
    pub count: f64,
    pub lower_inclusive: bool,
    pub upper_inclusive: bool,
}

/// As it is stored: the source's data, without what the engine computes.
impl From<&pharos_model::NativeHistogram> for Histogram {
    fn from(stored: &pharos_model::NativeHistogram) -> Histogram {
        Histogram {
            schema: stored.schema,
            reset_hint: match stored.reset_hint {
                pharos_model::ResetHint::Unknown => ResetHint::Unknown,
                pharos_model::ResetHint::Reset => ResetHint::Reset,
                pharos_model::ResetHint::NotReset => ResetHint::NotReset,
                pharos_model::ResetHint::Gauge => ResetHint::Gauge,
            },
            zero_threshold: stored.zero_threshold,
            zero_count: stored.zero_count,
            count: stored.count,
            sum: stored.sum,
            positive: Buckets(stored.positive.clone()),
            negative: Buckets(stored.negative.clone()),
            custom_bounds: stored.custom_bounds.as_slice().into(),
        }
    }
}

/// As it is stored: a recording rule may give histograms.
impl From<&Histogram> for pharos_model::NativeHistogram {
    fn from(computed: &Histogram) -> pharos_model::NativeHistogram {
        let occupied =
            |buckets: &Buckets| buckets.0.iter().copied().filter(|(_, count)| *count != 0.0).collect();
        pharos_model::NativeHistogram {
            schema: computed.schema,
            reset_hint: match computed.reset_hint {
                ResetHint::Unknown => pharos_model::ResetHint::Unknown,
                ResetHint::Reset => pharos_model::ResetHint::Reset,
                ResetHint::NotReset => pharos_model::ResetHint::NotReset,
                ResetHint::Gauge => pharos_model::ResetHint::Gauge,
            },
            zero_threshold: computed.zero_threshold,
            zero_count: computed.zero_count,
            count: computed.count,
            sum: computed.sum,
            positive: occupied(&computed.positive),
            negative: occupied(&computed.negative),
            custom_bounds: computed.custom_bounds.to_vec(),
        }
    }
}

impl Buckets {
    /// Consecutive buckets from `offset` on.
    pub fn dense(offset: i32, counts: impl IntoIterator<Item = f64>) -> Buckets {
        Buckets(counts.into_iter().enumerate().map(|(at, count)| (offset + at as i32, count)).collect())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn compact(&mut self) {
        self.0.retain(|(_, count)| *count != 0.0);
    }

    /// Moves every count to the bucket of index `to`, which must not change the order.
    fn regroup(&mut self, to: impl Fn(i32) -> i32) {
        let mut regrouped: Vec<(i32, f64)> = Vec::with_capacity(self.0.len());
        for &(index, count) in &self.0 {
            let index = to(index);
            match regrouped.last_mut() {
                Some((last, sum)) if *last == index => *sum += count,
                _ => regrouped.push((index, count)),
            }
        }
        self.0 = regrouped;
    }
}

impl Histogram {
    pub fn uses_custom_buckets(&self) -> bool {
        self.schema == CUSTOM_SCHEMA
    }

    /// Whether the sample is a staleness marker.
    pub fn is_stale(&self) -> bool {
        pharos_model::is_stale(self.sum)
    }

    /// How many floats it takes in memory: what limits count.
    pub(crate) fn size(&self) -> usize {
        5 + self.positive.0.len() + self.negative.0.len()
    }

    /// Removes buckets without observations.
    pub fn compact(&mut self) {
        self.positive.compact();
        self.negative.compact();
    }

    pub(crate) fn compacted(mut self) -> Histogram {
        self.compact();
        self
    }

    /// The bounds of the positive bucket `index`.
    fn bounds(&self, index: i32) -> (f64, f64) {
        if self.uses_custom_buckets() {
            let bound = |at: i32| usize::try_from(at).ok().and_then(|at| self.custom_bounds.get(at)).copied();
            (bound(index - 1).unwrap_or(f64::NEG_INFINITY), bound(index).unwrap_or(f64::INFINITY))
        } else {
            (exponential_bound(self.schema, index - 1), exponential_bound(self.schema, index))
        }
    }

    fn positive_bucket(&self, &(index, count): &(i32, f64)) -> Bucket {
        let (lower, upper) = self.bounds(index);
        let lower_inclusive = self.uses_custom_buckets() && lower == f64::NEG_INFINITY;
        Bucket { lower, upper, count, lower_inclusive, upper_inclusive: true }
    }

    fn negative_bucket(&self, &(index, count): &(i32, f64)) -> Bucket {
        let (lower, upper) = self.bounds(index);
        Bucket { lower: -upper, upper: -lower, count, lower_inclusive: true, upper_inclusive: false }
    }

    fn zero_bucket(&self) -> Bucket {
        Bucket {
            lower: -self.zero_threshold,
            upper: self.zero_threshold,
            count: self.zero_count,
            lower_inclusive: true,
            upper_inclusive: true,
        }
    }

    /// All buckets along the number line, the zero bucket among them if it holds anything. Others end where it begins.
    pub fn buckets(&self) -> impl DoubleEndedIterator<Item = Bucket> + '_ {
        let threshold = self.zero_threshold;
        let zero = (self.zero_count > 0.0).then(|| self.zero_bucket());
        let negative = self.negative.0.iter().rev().map(move |bucket| {
            let bucket = self.negative_bucket(bucket);
            let reaches_in = bucket.upper < 0.0 && bucket.upper > -threshold;
            if reaches_in { Bucket { upper: -threshold, ..bucket } } else { bucket }
        });
        let positive = self.positive.0.iter().map(move |bucket| {
            let bucket = self.positive_bucket(bucket);
            let reaches_in = bucket.lower > 0.0 && bucket.lower < threshold;
            if reaches_in { Bucket { lower: threshold, ..bucket } } else { bucket }
        });
        negative.chain(zero).chain(positive)
    }

    /// Equal but for how empty buckets are written and for the reset hint; NaN equals NaN.
    pub(crate) fn same_as(&self, other: &Histogram) -> bool {
        let same = |a: f64, b: f64| a.to_bits() == b.to_bits() || a == b;
        let same_buckets = |a: &Buckets, b: &Buckets| {
            let filled = |buckets: &Buckets| {
                buckets.0.iter().filter(|(_, count)| *count != 0.0).copied().collect::<Vec<(i32, f64)>>()
            };
            filled(a) == filled(b)
        };
        self.schema == other.schema
            && same(self.count, other.count)
            && same(self.sum, other.sum)
            && same(self.zero_count, other.zero_count)
            && same(self.zero_threshold, other.zero_threshold)
            && self.custom_bounds == other.custom_bounds
            && same_buckets(&self.positive, &other.positive)
            && same_buckets(&self.negative, &other.negative)
    }
}

/// As Prometheus prints a histogram: `{count:4, sum:5, (0.5,1]:1, (1,2]:2}`.
impl std::fmt::Display for Histogram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let number = crate::text::format_general;
        write!(f, "{{count:{}, sum:{}", number(self.count), number(self.sum))?;
        for bucket in self.buckets().filter(|bucket| bucket.count != 0.0) {
            write!(
                f,
                ", {}{},{}{}:{}",
                if bucket.lower_inclusive { '[' } else { '(' },
                number(bucket.lower),
                number(bucket.upper),
                if bucket.upper_inclusive { ']' } else { ')' },
                number(bucket.count)
            )?;
        }
        f.write_str("}")
    }
}
