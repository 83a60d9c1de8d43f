//! Adding, subtracting, scaling and comparing native histograms whose bucket layouts differ.

use std::sync::Arc;

use super::{Buckets, Histogram, ResetHint};

/// An exponential and a custom layout have no common coarser one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IncompatibleSchemas;

/// What had to be glossed over to combine two histograms.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Conflicts {
    /// One side says "reset", the other "not reset".
    pub resets: bool,
    /// Custom bounds differ; the common ones are kept.
    pub bounds: bool,
}

impl Histogram {
    /// Multiplies all counts and the sum.
    pub(crate) fn scale(&mut self, factor: f64) {
        self.zero_count *= factor;
        self.count *= factor;
        self.sum *= factor;
        for (_, count) in self.positive.0.iter_mut().chain(&mut self.negative.0) {
            *count *= factor;
        }
        if factor < 0.0 {
            self.reset_hint = ResetHint::Gauge;
        }
    }

    pub(crate) fn scaled(mut self, factor: f64) -> Histogram {
        self.scale(factor);
        self
    }

    /// Divides all counts and the sum. Division by zero leaves no buckets: each would be infinite or NaN.
    pub(crate) fn divided(mut self, divisor: f64) -> Histogram {
        self.zero_count /= divisor;
        self.count /= divisor;
        self.sum /= divisor;
        if divisor == 0.0 {
            self.positive = Buckets::default();
            self.negative = Buckets::default();
        }
        for (_, count) in self.positive.0.iter_mut().chain(&mut self.negative.0) {
            *count /= divisor;
        }
        if divisor < 0.0 {
            self.reset_hint = ResetHint::Gauge;
        }
        self
    }

    /// `self + other`, in the finest layout that both can be brought to.
    pub(crate) fn plus(&self, other: &Histogram) -> Result<(Histogram, Conflicts), IncompatibleSchemas> {
        self.combined(other, 1.0)
    }

    /// `self - other`, in the finest layout that both can be brought to.
    pub(crate) fn minus(&self, other: &Histogram) -> Result<(Histogram, Conflicts), IncompatibleSchemas> {
        self.combined(other, -1.0)
    }

    fn combined(&self, other: &Histogram, sign: f64) -> Result<(Histogram, Conflicts), IncompatibleSchemas> {
        let (mut left, mut right) = (self.clone(), other.clone());
        let bounds = reconcile(&mut left, &mut right)?;
        let (reset_hint, resets) = combined_hint(left.reset_hint, right.reset_hint);
        left.reset_hint = reset_hint;
        left.zero_count += sign * right.zero_count;
        left.count += sign * right.count;
        left.sum += sign * right.sum;
        left.positive = merged(&left.positive, &right.positive, sign);
        left.negative = merged(&left.negative, &right.negative, sign);
        Ok((left, Conflicts { resets, bounds }))
    }

    /// Whether a counter was reset between `previous` and this sample.
    pub(crate) fn is_reset_after(&self, previous: &Histogram) -> bool {
        match self.reset_hint {
            ResetHint::Reset => return true,
            ResetHint::NotReset => return false,
            ResetHint::Unknown | ResetHint::Gauge => {}
        }
        if self.count < previous.count
            || self.uses_custom_buckets() != previous.uses_custom_buckets()
            || self.schema > previous.schema
            || self.zero_threshold < previous.zero_threshold
        {
            return true;
        }
        let (mut now, mut before) = (self.clone(), previous.clone());
        if reconcile(&mut now, &mut before).is_err() || now.zero_threshold != self.zero_threshold {
            // A filled bucket of the earlier sample straddles the later one's zero bucket.
            return true;
        }
        now.zero_count < before.zero_count
            || any_bucket_shrank(&now.positive, &before.positive)
            || any_bucket_shrank(&now.negative, &before.negative)
    }

    /// The count of a zero bucket widened to at least `threshold`, and the width it then really needs: filled
    /// buckets are swallowed whole.
    fn widen_zero_bucket(&mut self, threshold: f64) {
        let mut threshold = threshold;
        loop {
            let straddled = [&self.positive, &self.negative].into_iter().flat_map(|buckets| {
                buckets.0.iter().filter(|(_, count)| *count != 0.0).map(|(index, _)| self.bounds(*index))
            });
            let wider = straddled
                .filter(|(lower, upper)| *lower < threshold && *upper > threshold)
                .map(|(_, upper)| upper)
                .fold(threshold, f64::max);
            if wider == threshold {
                break;
            }
            threshold = wider;
        }
        let mut swallowed = 0.0;
        for negative in [false, true] {
            let inside = |histogram: &Histogram, index: i32| histogram.bounds(index).1 <= threshold;
            let buckets = if negative { &self.negative } else { &self.positive };
            let (gone, kept): (Vec<_>, Vec<_>) =
                buckets.0.iter().copied().partition(|(index, _)| inside(self, *index));
            swallowed += gone.iter().map(|(_, count)| count).sum::<f64>();
            *if negative { &mut self.negative } else { &mut self.positive } = Buckets(kept);
        }
        self.zero_count += swallowed;
        self.zero_threshold = threshold;
    }

    /// Brings an exponential histogram to a coarser schema.
    pub(crate) fn reduce_to(&mut self, schema: i32) {
        let Some(shift) = self.schema.checked_sub(schema).filter(|shift| (1..32).contains(shift)) else {
            return;
        };
        let coarser = |index: i32| ((index - 1) >> shift) + 1;
        self.positive.regroup(coarser);
        self.negative.regroup(coarser);
        self.schema = schema;
    }

    fn rebound(&mut self, bounds: &Arc<[f64]>) {
        let old = std::mem::replace(&mut self.custom_bounds, Arc::clone(bounds));
        self.positive.regroup(|index| {
            let upper = usize::try_from(index).ok().and_then(|index| old.get(index)).copied();
            bounds.partition_point(|bound| upper.is_none_or(|upper| *bound < upper)) as i32
        });
    }
}

/// Brings both to one layout: schema, zero bucket, custom bounds. Says whether custom bounds differed.
fn reconcile(left: &mut Histogram, right: &mut Histogram) -> Result<bool, IncompatibleSchemas> {
    match (left.uses_custom_buckets(), right.uses_custom_buckets()) {
        (true, true) => {
            if left.custom_bounds == right.custom_bounds {
                return Ok(false);
            }
            let common: Arc<[f64]> = left
                .custom_bounds
                .iter()
                .copied()
                .filter(|bound| right.custom_bounds.contains(bound))
                .collect();
            left.rebound(&common);
            right.rebound(&common);
            Ok(true)
        }
        (false, false) => {
            while left.zero_threshold != right.zero_threshold {
                if left.zero_threshold < right.zero_threshold {
                    left.widen_zero_bucket(right.zero_threshold);
                } else {
                    right.widen_zero_bucket(left.zero_threshold);
                }
            }
            let schema = left.schema.min(right.schema);
            left.reduce_to(schema);
            right.reduce_to(schema);
            Ok(false)
        }
        _ => Err(IncompatibleSchemas),
    }
}

/// The hint of a sum, and whether the two contradict each other.
pub(super) fn combined_hint(left: ResetHint, right: ResetHint) -> (ResetHint, bool) {
    match (left, right) {
        (left, right) if left == right => (left, false),
        (ResetHint::Gauge, _) | (_, ResetHint::Gauge) => (ResetHint::Gauge, false),
        (ResetHint::Unknown, _) | (_, ResetHint::Unknown) => (ResetHint::Unknown, false),
        _ => (ResetHint::Unknown, true),
    }
}

fn merged(left: &Buckets, right: &Buckets, sign: f64) -> Buckets {
    let mut out = Vec::with_capacity(left.0.len().max(right.0.len()));
    let (mut lefts, mut rights) = (left.0.iter().peekable(), right.0.iter().peekable());
    loop {
        match (lefts.peek(), rights.peek()) {
            (None, None) => return Buckets(out),
            (Some(l), Some(r)) if l.0 == r.0 => {
                out.push((l.0, l.1 + sign * r.1));
                lefts.next();
                rights.next();
            }
            (Some(l), r) if r.is_none_or(|r| l.0 < r.0) => {
                out.push(**l);
                lefts.next();
            }
            (_, Some(r)) => {
                out.push((r.0, sign * r.1));
                rights.next();
            }
            (Some(_), None) => return Buckets(out),
        }
    }
}

fn any_bucket_shrank(now: &Buckets, before: &Buckets) -> bool {
    before.0.iter().any(|(index, count)| {
        let present =
            now.0.binary_search_by_key(index, |(index, _)| *index).ok().and_then(|at| now.0.get(at));
        present.map_or(0.0, |(_, count)| *count) < *count
    })
}
