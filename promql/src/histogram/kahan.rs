//! Sums and averages of native histograms with compensated summation, like those of floats.

use super::Histogram;
use super::arithmetic::{Conflicts, IncompatibleSchemas};

/// A running sum or mean of histograms: the plain one, and what rounding took from it.
#[derive(Debug, Clone)]
pub(crate) struct HistogramSum {
    total: Histogram,
    lost: Histogram,
    count: f64,
    /// The sum of counts left the range of floats; from then on `total` is the mean.
    is_mean: bool,
}

impl HistogramSum {
    pub(crate) fn new(first: &Histogram) -> HistogramSum {
        HistogramSum { total: first.clone(), lost: empty_like(first), count: 1.0, is_mean: false }
    }

    /// Adds to a sum.
    pub(crate) fn add(&mut self, other: &Histogram) -> Result<Conflicts, IncompatibleSchemas> {
        self.count += 1.0;
        let (total, lost, conflicts) = compensated(&self.total, &self.lost, other)?;
        self.total = total;
        self.lost = lost;
        Ok(conflicts)
    }

    /// Adds to an average: like a sum as long as that does not overflow.
    pub(crate) fn add_to_mean(&mut self, other: &Histogram) -> Result<Conflicts, IncompatibleSchemas> {
        self.count += 1.0;
        if !self.is_mean {
            let (total, lost, conflicts) = compensated(&self.total, &self.lost, other)?;
            if !overflows(&total) {
                self.total = total;
                self.lost = lost;
                return Ok(conflicts);
            }
            self.is_mean = true;
            self.total = std::mem::take(&mut self.total).divided(self.count - 1.0);
            self.lost = std::mem::take(&mut self.lost).divided(self.count - 1.0);
        }
        let weight = (self.count - 1.0) / self.count;
        let (mean, lost) = (self.total.clone().scaled(weight), self.lost.clone().scaled(weight));
        let (total, lost, conflicts) = compensated(&mean, &lost, &other.clone().divided(self.count))?;
        self.total = total;
        self.lost = lost;
        Ok(conflicts)
    }

    pub(crate) fn sum(self) -> Histogram {
        join(self.total, &self.lost)
    }

    pub(crate) fn mean(self) -> Histogram {
        if self.is_mean {
            return join(self.total, &self.lost);
        }
        let count = self.count;
        join(self.total.divided(count), &self.lost.divided(count))
    }
}

fn empty_like(histogram: &Histogram) -> Histogram {
    Histogram {
        schema: histogram.schema,
        zero_threshold: histogram.zero_threshold,
        custom_bounds: histogram.custom_bounds.clone(),
        reset_hint: histogram.reset_hint,
        ..Histogram::default()
    }
}

fn join(total: Histogram, lost: &Histogram) -> Histogram {
    match total.plus(lost) {
        Ok((sum, _)) => Histogram { reset_hint: total.reset_hint, ..sum.compacted() },
        Err(IncompatibleSchemas) => total,
    }
}

/// `total + other` and the rounding error of that, added to what was lost before.
fn compensated(
    total: &Histogram,
    lost: &Histogram,
    other: &Histogram,
) -> Result<(Histogram, Histogram, Conflicts), IncompatibleSchemas> {
    let (sum, conflicts) = total.plus(other)?;
    // Bring both sides to the layout of the sum, so that errors can be taken bucket by bucket.
    let layout = empty_like(&sum);
    let (left, _) = total.plus(&layout)?;
    let (right, _) = other.plus(&layout)?;
    let (mut error, _) = lost.plus(&layout)?;
    error.reset_hint = sum.reset_hint;
    error.sum += rounding_error(left.sum, right.sum, sum.sum);
    error.count += rounding_error(left.count, right.count, sum.count);
    error.zero_count += rounding_error(left.zero_count, right.zero_count, sum.zero_count);
    for negative in [false, true] {
        let side = |histogram: &Histogram| {
            if negative { histogram.negative.clone() } else { histogram.positive.clone() }
        };
        let (left, right, sums) = (side(&left), side(&right), side(&sum));
        let count_at = |buckets: &super::Buckets, index: i32| {
            let found = buckets.0.binary_search_by_key(&index, |(index, _)| *index).ok();
            found.and_then(|at| buckets.0.get(at)).map_or(0.0, |(_, count)| *count)
        };
        let lost_before = side(&error);
        let errors = sums.0.iter().map(|&(index, sum)| {
            let now = rounding_error(count_at(&left, index), count_at(&right, index), sum);
            (index, count_at(&lost_before, index) + now)
        });
        let errors = super::Buckets(errors.collect());
        *if negative { &mut error.negative } else { &mut error.positive } = errors;
    }
    Ok((sum, error, conflicts))
}

/// Neumaier's error term of `a + b = sum`.
fn rounding_error(a: f64, b: f64, sum: f64) -> f64 {
    if sum.is_infinite() {
        0.0
    } else if a.abs() >= b.abs() {
        (a - sum) + b
    } else {
        (b - sum) + a
    }
}

fn overflows(histogram: &Histogram) -> bool {
    let buckets = histogram.positive.0.iter().chain(&histogram.negative.0);
    [histogram.zero_count, histogram.count, histogram.sum].iter().any(|value| value.is_infinite())
        || buckets.into_iter().any(|(_, count)| count.is_infinite())
}
