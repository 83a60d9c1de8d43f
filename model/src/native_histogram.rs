//! Prometheus' native histograms: a whole distribution in one sample.

use std::sync::LazyLock;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::is_stale;

/// A native histogram. Schemas -4 to 8 have buckets that grow by the factor `2^(2^-schema)` around a zero bucket of
/// half-width `zero_threshold`; [`NativeHistogram::CUSTOM_SCHEMA`] has listed bounds and positive buckets only.
///
/// Counts are floats for integer histograms too, which are exact up to 2^53. It is stale when its `sum` is the
/// staleness marker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NativeHistogram {
    pub schema: i32,
    pub reset_hint: ResetHint,
    pub zero_threshold: f64,
    pub zero_count: f64,
    pub count: f64,
    pub sum: f64,
    /// Counts by bucket index, rising, without empty ones. Bucket `i` of an exponential schema ends at
    /// `2^(i · 2^-schema)`, bucket `i` of the custom schema at the `i`th bound.
    pub positive: Vec<(i32, f64)>,
    /// The bucket of index `i` mirrors the positive one.
    pub negative: Vec<(i32, f64)>,
    /// Upper bounds, rising, without the last one, which is +Inf.
    pub custom_bounds: Vec<f64>,
}

/// What is known of a histogram's counts in relation to the sample before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ResetHint {
    #[default]
    Unknown,
    Reset,
    NotReset,
    Gauge,
}

/// A native histogram at a time, in milliseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HistogramSample {
    pub time_ms: i64,
    pub histogram: NativeHistogram,
}

/// A native histogram that cannot be; the message says why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("native histogram: {0}")]
pub struct HistogramError(pub String);

/// A run of consecutive buckets: how far it begins behind the end of the run before (the first one: behind bucket 0),
/// and how many it has. As all of Prometheus' formats write them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketSpan {
    pub offset: i32,
    pub length: u32,
}

impl NativeHistogram {
    /// The schema of histograms whose bounds are listed.
    pub const CUSTOM_SCHEMA: i32 = -53;
    /// The coarsest and the finest exponential schema that Prometheus computes with.
    pub const SCHEMAS: std::ops::RangeInclusive<i32> = -4..=8;
    /// Schemas that senders may use beyond; such histograms are merged down to the finest of [`Self::SCHEMAS`].
    const FINEST_SENT: i32 = 52;
    /// On each side. Prometheus' own clients stop at 160.
    pub const MAX_BUCKETS: usize = 10_000;

    /// The sample that says "this series ended here".
    pub fn stale() -> NativeHistogram {
        NativeHistogram { sum: crate::stale_nan(), ..NativeHistogram::default() }
    }

    pub fn is_stale(&self) -> bool {
        is_stale(self.sum)
    }

    pub fn uses_custom_buckets(&self) -> bool {
        self.schema == Self::CUSTOM_SCHEMA
    }

    /// Checks what a peer sent by Prometheus' rules (`model/histogram`, `Validate`), and brings a finer schema down to
    /// one that can be computed with. `integer`: the counts were sent as whole numbers, so they must add up.
    pub fn checked(mut self, integer: bool) -> Result<NativeHistogram, HistogramError> {
        let wrong = |what: String| Err(HistogramError(what));
        if self.is_stale() {
            return Ok(NativeHistogram { sum: self.sum, ..NativeHistogram::default() });
        }
        if self.uses_custom_buckets() {
            if !self.negative.is_empty() || self.zero_count != 0.0 || self.zero_threshold != 0.0 {
                return wrong("custom buckets leave no room for negative buckets and a zero bucket".into());
            }
            if !self.custom_bounds.is_sorted_by(|a, b| a < b) || self.custom_bounds.iter().any(|b| b.is_nan())
            {
                return wrong("the custom bounds do not ascend".into());
            }
            // The +Inf bucket may be written as a bound.
            while self.custom_bounds.last() == Some(&f64::INFINITY) {
                self.custom_bounds.pop();
            }
            let last = self.positive.last().map_or(0, |(index, _)| *index);
            let first = self.positive.first().map_or(0, |(index, _)| *index);
            if first < 0 || usize::try_from(last).is_ok_and(|last| last > self.custom_bounds.len()) {
                return wrong(format!(
                    "bucket {last} lies outside of the {} custom bounds",
                    self.custom_bounds.len()
                ));
            }
        } else {
            if !(*Self::SCHEMAS.start()..=Self::FINEST_SENT).contains(&self.schema) {
                return wrong(format!("schema {} is not known", self.schema));
            }
            if !self.custom_bounds.is_empty() {
                return wrong("only the schema of custom buckets has custom bounds".into());
            }
            if !(self.zero_threshold >= 0.0 && self.zero_threshold.is_finite()) {
                return wrong(format!("the zero threshold is {}", self.zero_threshold));
            }
        }
        let buckets = self.positive.iter().chain(&self.negative);
        let counts = buckets.map(|(_, count)| *count).chain([self.zero_count, self.count]);
        if let Some(count) = counts.into_iter().find(|count| *count < 0.0) {
            return wrong(format!("a count is {count}"));
        }
        let in_buckets: f64 =
            self.positive.iter().chain(&self.negative).map(|(_, count)| count).sum::<f64>() + self.zero_count;
        // Observations that are NaN are counted and lie in no bucket.
        let adds_up = if self.sum.is_nan() { in_buckets <= self.count } else { in_buckets == self.count };
        if integer && !adds_up {
            return wrong(format!("{in_buckets} observations in the buckets, but a count of {}", self.count));
        }
        if self.schema > *Self::SCHEMAS.end() {
            self.reduce_to(*Self::SCHEMAS.end());
        }
        Ok(self)
    }

    /// Merges buckets until the schema is `schema`; nothing where it is as coarse already.
    pub fn reduce_to(&mut self, schema: i32) {
        let by = self.schema - schema;
        if by <= 0 || self.uses_custom_buckets() {
            return;
        }
        for side in [&mut self.positive, &mut self.negative] {
            let mut merged: Vec<(i32, f64)> = Vec::with_capacity(side.len());
            for (index, count) in side.drain(..) {
                let index = ((i64::from(index) - 1) >> by.min(62)) as i32 + 1;
                match merged.last_mut() {
                    Some((last, sum)) if *last == index => *sum += count,
                    _ => merged.push((index, count)),
                }
            }
            *side = merged;
        }
        self.schema = schema;
    }

    /// Adds what was counted since, of the same kind of buckets: at the coarser schema and the wider zero bucket of the
    /// two. Custom buckets of other bounds replace what there was.
    pub fn add(&mut self, mut other: NativeHistogram) {
        if self.uses_custom_buckets() != other.uses_custom_buckets()
            || self.custom_bounds != other.custom_bounds
        {
            *self = other;
            return;
        }
        let schema = self.schema.min(other.schema);
        let zero_threshold = self.zero_threshold.max(other.zero_threshold);
        for histogram in [&mut *self, &mut other] {
            histogram.reduce_to(schema);
            histogram.widen_zero(zero_threshold);
        }
        self.count += other.count;
        self.sum += other.sum;
        self.zero_count += other.zero_count;
        for (side, more) in [(&mut self.positive, other.positive), (&mut self.negative, other.negative)] {
            for (index, count) in more {
                match side.binary_search_by_key(&index, |(index, _)| *index) {
                    Ok(at) => {
                        if let Some((_, known)) = side.get_mut(at) {
                            *known += count;
                        }
                    }
                    Err(at) => side.insert(at, (index, count)),
                }
            }
        }
    }

    /// Moves the buckets that a zero bucket of this half-width reaches into it.
    fn widen_zero(&mut self, threshold: f64) {
        if threshold <= self.zero_threshold {
            return;
        }
        self.zero_threshold = threshold;
        let schema = self.schema;
        let lower = |index: i32| exponential_bound(schema, index.saturating_sub(1));
        for side in [&mut self.positive, &mut self.negative] {
            side.retain(|(index, count)| {
                let stays = lower(*index) >= threshold;
                if !stays {
                    self.zero_count += count;
                }
                stays
            });
        }
    }

    /// The upper bound of the positive bucket `index`.
    pub fn upper_bound(&self, index: i32) -> f64 {
        if self.uses_custom_buckets() {
            let bound = usize::try_from(index).ok().and_then(|index| self.custom_bounds.get(index));
            return bound.copied().unwrap_or(f64::INFINITY);
        }
        exponential_bound(self.schema, index)
    }

    /// How many observations are at most `bound`, where that is a bucket's bound: a bucket that contains it counts
    /// as above.
    pub fn count_up_to(&self, bound: f64) -> f64 {
        let below = |(index, _): &&(i32, f64)| self.upper_bound(*index) <= bound;
        let positive: f64 = self.positive.iter().filter(below).map(|(_, count)| count).sum();
        let zero = if bound >= self.zero_threshold { self.zero_count } else { 0.0 };
        // Bucket i reaches from -upper(i), inclusive, to -upper(i-1).
        let negative =
            self.negative.iter().filter(|(index, _)| -self.upper_bound(index.saturating_sub(1)) <= bound);
        positive + zero + negative.map(|(_, count)| count).sum::<f64>()
    }
}

/// The upper bound of the bucket `index` of an exponential schema, -4 to 8, to the last digit as Prometheus has it.
/// The last bucket of finite numbers ends at the largest of them; only the one behind it is open.
pub fn exponential_bound(schema: i32, index: i32) -> f64 {
    let (fraction, exponent) = if schema <= 0 {
        (0.5, (i64::from(index) << -schema.max(-4)) + 1)
    } else {
        let schema = schema.min(FINEST);
        let place = (index & ((1 << schema) - 1)) << (FINEST - schema);
        let fraction = usize::try_from(place).ok().and_then(|place| FRACTIONS.get(place));
        (fraction.copied().unwrap_or(0.5), i64::from(index >> schema) + 1)
    };
    if fraction == 0.5 && exponent == 1025 {
        return f64::MAX;
    }
    // No power of two is lost on the way, as 2^1024 would be.
    let half = exponent.clamp(-4_000, 4_000) as f64 / 2.0;
    fraction * half.floor().exp2() * half.ceil().exp2()
}

const FINEST: i32 = 8;

/// The bounds of the finest schema in [0.5, 1): each is the one before, times two to the power of its finest part.
static FRACTIONS: LazyLock<[f64; 1 << FINEST]> = LazyLock::new(|| {
    let mut fractions = [0.5; 1 << FINEST];
    let mut factor = 2.0_f64;
    for level in 1..=FINEST {
        factor = factor.sqrt();
        let step = 1 << (FINEST - level);
        for at in (0..fractions.len()).step_by(2 * step) {
            let before = fractions.get(at).copied().unwrap_or(0.5);
            if let Some(fraction) = fractions.get_mut(at + step) {
                // The first one was made the other way round.
                *fraction = if level == 1 { factor.recip() } else { before * factor };
            }
        }
    }
    fractions
});

/// Buckets from their spans and one count each. Empty ones are left out.
pub fn buckets_of_spans(
    spans: impl IntoIterator<Item = BucketSpan>,
    counts: impl IntoIterator<Item = f64>,
) -> Result<Vec<(i32, f64)>, HistogramError> {
    let mut counts = counts.into_iter();
    let mut buckets = Vec::new();
    let mut next: i64 = 0;
    let mut seen = 0;
    for (number, span) in spans.into_iter().enumerate() {
        if number > 0 && span.offset < 0 {
            return Err(HistogramError(format!(
                "span {} has the negative offset {}",
                number + 1,
                span.offset
            )));
        }
        next += i64::from(span.offset);
        seen += span.length as usize;
        if seen > NativeHistogram::MAX_BUCKETS {
            return Err(HistogramError(format!("more than {} buckets", NativeHistogram::MAX_BUCKETS)));
        }
        for _ in 0..span.length {
            let count = counts.next();
            let count =
                count.ok_or_else(|| HistogramError("fewer bucket counts than the spans say".into()))?;
            let index = i32::try_from(next);
            let index = index.map_err(|_| HistogramError(format!("bucket index {next} is out of range")))?;
            if count != 0.0 {
                buckets.push((index, count));
            }
            next += 1;
        }
    }
    if counts.next().is_some() {
        return Err(HistogramError("more bucket counts than the spans say".into()));
    }
    Ok(buckets)
}

/// The counts of an integer histogram, which are written as differences from bucket to bucket.
pub fn counts_of_deltas(deltas: impl IntoIterator<Item = i64>) -> impl Iterator<Item = f64> {
    deltas.into_iter().scan(0i64, |count, delta| {
        *count = count.saturating_add(delta);
        Some(*count as f64)
    })
}

/// The spans of buckets; their counts follow each other in the buckets' order.
pub fn spans_of_buckets(buckets: &[(i32, f64)]) -> Vec<BucketSpan> {
    let mut spans: Vec<BucketSpan> = Vec::new();
    let mut next = 0;
    for (index, _) in buckets {
        match spans.last_mut() {
            Some(span) if *index == next => span.length += 1,
            _ => spans.push(BucketSpan { offset: index.saturating_sub(next), length: 1 }),
        }
        next = index.saturating_add(1);
    }
    spans
}

impl ResetHint {
    pub fn name(self) -> &'static str {
        match self {
            ResetHint::Unknown => "unknown",
            ResetHint::Reset => "reset",
            ResetHint::NotReset => "not_reset",
            ResetHint::Gauge => "gauge",
        }
    }

    /// Anything else is unknown.
    pub fn from_name(name: &str) -> ResetHint {
        let hints = [ResetHint::Reset, ResetHint::NotReset, ResetHint::Gauge];
        hints.into_iter().find(|hint| hint.name() == name).unwrap_or_default()
    }
}

/// For logs and tests: count, sum and the filled buckets by index.
impl fmt::Display for NativeHistogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_stale() {
            return f.write_str("stale");
        }
        write!(f, "{{count:{} sum:{} schema:{}", self.count, self.sum, self.schema)?;
        if self.zero_count != 0.0 {
            write!(f, " zero:{}", self.zero_count)?;
        }
        for (sign, side) in [("-", &self.negative), ("", &self.positive)] {
            for (index, count) in side {
                write!(f, " {sign}[{index}]:{count}")?;
            }
        }
        if !self.custom_bounds.is_empty() {
            write!(f, " bounds:{:?}", self.custom_bounds)?;
        }
        f.write_str("}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(of: &[(i32, u32)]) -> Vec<BucketSpan> {
        of.iter().map(|(offset, length)| BucketSpan { offset: *offset, length: *length }).collect()
    }

    #[test]
    fn spans_and_back() {
        for (written, counts, expected) in [
            (&[(0, 2), (1, 2)][..], &[1.0, 2.0, 1.0, 1.0][..], &[(0, 1.0), (1, 2.0), (3, 1.0), (4, 1.0)][..]),
            (&[(-3, 1), (4, 2)], &[5.0, 6.0, 7.0], &[(-3, 5.0), (2, 6.0), (3, 7.0)]),
            (&[(1, 1)], &[5.0], &[(1, 5.0)]),
            (&[], &[], &[]),
        ] {
            let buckets = buckets_of_spans(spans(written), counts.iter().copied()).unwrap();
            assert_eq!(buckets, expected);
            assert_eq!(spans_of_buckets(&buckets), spans(written));
        }
        assert_eq!(buckets_of_spans(spans(&[(2, 3)]), [1.0, 0.0, 2.0]).unwrap(), [(2, 1.0), (4, 2.0)]);
        for (written, counts, words) in [
            (&[(0, 2)][..], 1, "fewer"),
            (&[(0, 1)], 2, "more bucket counts"),
            (&[(0, 1), (-1, 1)], 2, "negative offset -1"),
            (&[(0, u32::MAX)], 2, "more than 10000"),
            (&[(i32::MAX, 2)], 2, "out of range"),
        ] {
            let error = buckets_of_spans(spans(written), vec![1.0; counts]).unwrap_err().to_string();
            assert!(error.contains(words), "{written:?}: {error}");
        }
        assert_eq!(counts_of_deltas([1, 1, -1]).collect::<Vec<_>>(), [1.0, 2.0, 1.0]);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let good = NativeHistogram {
            count: 3.0,
            sum: 4.0,
            zero_threshold: 0.001,
            zero_count: 1.0,
            positive: vec![(0, 2.0)],
            ..NativeHistogram::default()
        };
        let custom = NativeHistogram {
            schema: NativeHistogram::CUSTOM_SCHEMA,
            count: 2.0,
            positive: vec![(1, 2.0)],
            custom_bounds: vec![1.0],
            ..NativeHistogram::default()
        };
        assert_eq!(good.clone().checked(true).unwrap(), good);
        assert_eq!(custom.clone().checked(true).unwrap(), custom);
        for (wrong, words) in [
            (
                NativeHistogram { count: 4.0, ..good.clone() },
                "3 observations in the buckets, but a count of 4",
            ),
            (NativeHistogram { schema: 53, ..good.clone() }, "schema 53"),
            (NativeHistogram { schema: -5, ..good.clone() }, "schema -5"),
            (NativeHistogram { zero_threshold: -1.0, ..good.clone() }, "zero threshold is -1"),
            (NativeHistogram { custom_bounds: vec![1.0], ..good.clone() }, "custom bounds"),
            (NativeHistogram { positive: vec![(0, -2.0)], ..good.clone() }, "a count is -2"),
            (NativeHistogram { custom_bounds: vec![], ..custom.clone() }, "outside of the 0"),
            (NativeHistogram { custom_bounds: vec![2.0, 1.0], ..custom.clone() }, "do not ascend"),
            (NativeHistogram { zero_count: 1.0, ..custom.clone() }, "zero bucket"),
        ] {
            let error = wrong.clone().checked(true).unwrap_err().to_string();
            assert!(error.contains(words), "{wrong:?}: {error}");
        }
        assert!(
            NativeHistogram { count: 4.0, ..good.clone() }.checked(false).is_ok(),
            "floats need not add up"
        );
        assert!(NativeHistogram { count: 4.0, sum: f64::NAN, ..good }.checked(true).is_ok());
        assert!(NativeHistogram::stale().checked(true).unwrap().is_stale());
    }

    #[test]
    fn a_finer_schema_is_merged_down() {
        let mut fine = NativeHistogram {
            schema: 2,
            positive: vec![(-4, 1.0), (-3, 2.0), (0, 3.0), (1, 4.0), (4, 5.0), (5, 6.0)],
            ..NativeHistogram::default()
        };
        fine.reduce_to(0);
        assert_eq!((fine.schema, fine.positive), (0, vec![(-1, 1.0), (0, 5.0), (1, 9.0), (2, 6.0)]));
        let sent = NativeHistogram {
            schema: 9,
            count: 3.0,
            positive: vec![(1, 1.0), (2, 2.0)],
            ..Default::default()
        };
        assert_eq!(sent.checked(true).unwrap().positive, [(1, 3.0)]);
    }

    #[test]
    fn sums() {
        let mut sum = NativeHistogram {
            schema: 1,
            count: 4.0,
            sum: 10.0,
            zero_threshold: 0.001,
            positive: vec![(-30, 1.0), (1, 1.0), (2, 2.0)],
            ..NativeHistogram::default()
        };
        sum.add(NativeHistogram {
            schema: 0,
            count: 3.0,
            sum: 5.0,
            zero_threshold: 0.25,
            zero_count: 1.0,
            positive: vec![(1, 1.0), (4, 1.0)],
            ..NativeHistogram::default()
        });
        assert_eq!(sum.to_string(), "{count:7 sum:15 schema:0 zero:2 [1]:4 [4]:1}");
    }

    #[test]
    fn bounds_are_to_the_last_digit_those_of_prometheus() {
        for (schema, index, expected) in [
            (0, 0, 1.0),
            (0, -1, 0.5),
            (1, 5, 5.65685424949238),
            (1, 3, 2.82842712474619),
            (3, 1, 1.0905077326652577),
            (-2, 2, 256.0),
            (0, 1024, f64::MAX),
            (0, 1025, f64::INFINITY),
            (8, 1024 << 8, f64::MAX),
            (-4, 64, f64::MAX),
            (-4, 65, f64::INFINITY),
            (0, -1074, 5e-324),
            (0, -1080, 0.0),
            (8, i32::MIN, 0.0),
            (-4, i32::MAX, f64::INFINITY),
        ] {
            assert_eq!(exponential_bound(schema, index), expected, "schema {schema}, bucket {index}");
        }
        for schema in -4..=8 {
            let bounds = (-300..300).map(|index| exponential_bound(schema, index));
            assert!(bounds.is_sorted_by(|a, b| a <= b), "schema {schema}");
        }
    }

    #[test]
    fn counts_below_a_bound() {
        let histogram = NativeHistogram {
            zero_threshold: 0.01,
            zero_count: 1.0,
            positive: vec![(0, 2.0), (1, 3.0)],
            negative: vec![(1, 4.0)],
            ..NativeHistogram::default()
        };
        for (bound, expected) in [(-1.0, 4.0), (-2.0, 0.0), (0.5, 5.0), (1.0, 7.0), (2.0, 10.0)] {
            assert_eq!(histogram.count_up_to(bound), expected, "{bound}");
        }
    }
}
