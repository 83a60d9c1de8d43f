//! Float arithmetic as PromQL defines it.

/// A sum with Neumaier's compensation: as if added with twice the precision.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct KahanSum {
    pub sum: f64,
    pub lost: f64,
}

impl KahanSum {
    pub(crate) fn new(first: f64) -> KahanSum {
        KahanSum { sum: first, lost: 0.0 }
    }

    #[inline]
    pub(crate) fn add(&mut self, value: f64) {
        let sum = self.sum + value;
        if sum.is_infinite() {
            self.lost = 0.0;
        } else if self.sum.abs() >= value.abs() {
            self.lost += (self.sum - sum) + value;
        } else {
            self.lost += (value - sum) + self.sum;
        }
        self.sum = sum;
    }

    #[inline]
    pub(crate) fn total(&self) -> f64 {
        if self.sum.is_infinite() { self.sum } else { self.sum + self.lost }
    }
}

/// A mean: the compensated sum divided at the end, unless the sum would overflow; then step by step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mean {
    running: KahanSum,
    count: f64,
    is_mean: bool,
}

impl Mean {
    pub(crate) fn new(first: f64) -> Mean {
        Mean { running: KahanSum::new(first), count: 1.0, is_mean: false }
    }

    pub(crate) fn add(&mut self, value: f64) {
        self.count += 1.0;
        if !self.is_mean {
            let mut sum = self.running;
            sum.add(value);
            if !sum.sum.is_infinite() {
                self.running = sum;
                return;
            }
            self.is_mean = true;
            self.running.sum /= self.count - 1.0;
            self.running.lost /= self.count - 1.0;
        }
        let weight = (self.count - 1.0) / self.count;
        self.running.sum *= weight;
        self.running.lost *= weight;
        self.running.add(value / self.count);
    }

    /// A mean kept as three numbers, of which the third is the count, negative once it goes step by step.
    pub(crate) fn from_parts(sum: f64, lost: f64, count: f64) -> Mean {
        Mean { running: KahanSum { sum, lost }, count: count.abs(), is_mean: count < 0.0 }
    }

    pub(crate) fn into_parts(self) -> (f64, f64, f64) {
        (self.running.sum, self.running.lost, if self.is_mean { -self.count } else { self.count })
    }

    pub(crate) fn value(&self) -> f64 {
        if self.is_mean {
            self.running.sum + self.running.lost
        } else {
            self.running.sum / self.count + self.running.lost / self.count
        }
    }
}

/// The `q`-quantile of `values`, which are sorted on the way; between two values it is interpolated.
pub(crate) fn quantile(q: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    values.sort_unstable_by(ascending_nan_first);
    let rank = q * (values.len() - 1) as f64;
    let weight = rank - rank.floor();
    let at = |index: usize| values.get(index.min(values.len() - 1)).copied().unwrap_or(f64::NAN);
    let lower = rank.floor() as usize;
    if weight == 0.0 {
        // No part of an infinite neighbour, which times zero would be NaN.
        return at(lower);
    }
    at(lower) * (1.0 - weight) + at(lower + 1) * weight
}

/// Total order of sample values with NaN below everything.
pub(crate) fn ascending_nan_first(a: &f64, b: &f64) -> std::cmp::Ordering {
    a.partial_cmp(b).unwrap_or_else(|| b.is_nan().cmp(&a.is_nan()))
}

/// Go's `math.Mod`: the remainder with the sign of the dividend.
pub(crate) fn modulo(a: f64, b: f64) -> f64 {
    a % b
}
