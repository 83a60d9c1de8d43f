//! The fast path of `rate`, `increase` and `delta`: series of floats alone.
//!
//! Series of one scrape share their times, so where each window begins and ends, and how far to extrapolate, is
//! worked out once and used for every series of the same times. What is left per series and step is a
//! difference and a product. Falls of a counter are looked for once per series.

use super::frame::Row;
use super::range::Windows;
use super::rate::Kind;
use crate::source::Samples;

pub(super) struct RateKernel {
    kind: Kind,
    /// The times that the steps are worked out for.
    times_ms: Vec<i64>,
    steps: Vec<Step>,
    falls: Vec<(usize, f64)>,
}

/// A window's samples, and its extrapolation in seconds.
#[derive(Debug, Clone, Copy)]
struct Step {
    /// Indexes of the first and the last sample; equal where there are too few.
    first: usize,
    last: usize,
    sampled_s: f64,
    to_start_s: f64,
    to_end_s: f64,
    /// What to multiply a change by, if it is not cut short at zero.
    factor: f64,
    /// 1, or the range in seconds.
    divisor: f64,
}

impl RateKernel {
    pub(super) fn new(kind: Kind) -> RateKernel {
        RateKernel { kind, times_ms: Vec::new(), steps: Vec::new(), falls: Vec::new() }
    }

    /// Fills `row`, which has all cells absent, with the function's values.
    pub(super) fn run(&mut self, samples: &Samples<'_>, windows: &Windows, row: &mut Row) {
        if self.steps.is_empty() || self.times_ms != samples.times_ms {
            self.plan(samples.times_ms, windows);
        }
        let values = samples.values;
        self.falls.clear();
        if self.kind.counter {
            for (at, pair) in values.windows(2).enumerate() {
                if let [before, after] = pair
                    && after < before
                {
                    self.falls.push((at + 1, *before));
                }
            }
        }
        let mut first_fall = 0;
        for (step, slot) in self.steps.iter().zip(&mut row.floats) {
            if step.first == step.last {
                continue;
            }
            let (Some(first), Some(last)) = (values.get(step.first), values.get(step.last)) else { continue };
            let mut change = last - first;
            if !self.falls.is_empty() {
                while self.falls.get(first_fall).is_some_and(|(at, _)| *at <= step.first) {
                    first_fall += 1;
                }
                let inside = self.falls.iter().skip(first_fall).take_while(|(at, _)| *at <= step.last);
                inside.for_each(|(_, before)| change += before);
            }
            *slot = change * step.factor_for(self.kind, *first, change);
        }
    }

    fn plan(&mut self, times_ms: &[i64], windows: &Windows) {
        self.times_ms.clear();
        self.times_ms.extend_from_slice(times_ms);
        self.steps.clear();
        let (mut from, mut to) = (0, 0);
        for step in 0..windows.frame.steps() {
            let (start_ms, end_ms) = windows.edges_ms(step);
            if step == 0 {
                from = times_ms.partition_point(|time| *time <= start_ms);
                to = from;
            }
            while times_ms.get(from).is_some_and(|time| *time <= start_ms) {
                from += 1;
            }
            to = to.max(from);
            while times_ms.get(to).is_some_and(|time| *time <= end_ms) {
                to += 1;
            }
            self.steps.push(Step::new(self.kind, times_ms, from..to, start_ms, end_ms));
        }
    }
}

impl Step {
    fn new(
        kind: Kind,
        times_ms: &[i64],
        samples: std::ops::Range<usize>,
        start_ms: i64,
        end_ms: i64,
    ) -> Step {
        let seconds = |ms: i64| ms as f64 / 1000.0;
        let none = Step {
            first: 0,
            last: 0,
            sampled_s: 0.0,
            to_start_s: 0.0,
            to_end_s: 0.0,
            factor: 0.0,
            divisor: 1.0,
        };
        let [first_ms, .., last_ms] = times_ms.get(samples.clone()).unwrap_or_default() else { return none };
        let sampled_s = seconds(last_ms - first_ms);
        let average_s = sampled_s / (samples.len() - 1) as f64;
        // Close enough to an edge is up to a tenth more than the usual distance of samples.
        let reach = |gap_s: f64| if gap_s >= average_s * 1.1 { average_s / 2.0 } else { gap_s };
        let to_start_s = reach(seconds(first_ms.saturating_sub(start_ms)));
        let to_end_s = reach(seconds(end_ms.saturating_sub(*last_ms)));
        let divisor = if kind.per_second { seconds(end_ms - start_ms) } else { 1.0 };
        let factor = (sampled_s + to_start_s + to_end_s) / sampled_s / divisor;
        Step { first: samples.start, last: samples.end - 1, sampled_s, to_start_s, to_end_s, factor, divisor }
    }

    /// A counter is not extrapolated to before it was zero.
    #[inline]
    fn factor_for(&self, kind: Kind, first: f64, change: f64) -> f64 {
        let may_be_cut = kind.counter && change > 0.0 && first >= 0.0;
        // Without the division first; the margin is wider than its rounding.
        if !may_be_cut || self.sampled_s * first > self.to_start_s * change * 1.000_001 {
            return self.factor;
        }
        let to_start_s = self.to_start_s.min(self.sampled_s * (first / change));
        (self.sampled_s + to_start_s + self.to_end_s) / self.sampled_s / self.divisor
    }
}
