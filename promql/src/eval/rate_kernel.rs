//! The fast path of `rate`, `increase` and `delta`: series of floats alone.
//!
//! Series of one scrape share their times, so where each window begins and ends, and how far to extrapolate, is
//! worked out once and used for every series of the same times. What is left per series and step is a
//! difference and a product, over columns that lie one after the other. A counter that never moved is zero
//! without a look at its windows; only one that fell takes the long way.

use std::ops::Range;

use pharos_model::stale_nan;

use super::frame::Row;
use super::range::Windows;
use super::rate::Kind;
use crate::source::Samples;

pub(super) struct RateKernel {
    kind: Kind,
    /// The times that the steps are worked out for.
    times_ms: Vec<i64>,
    steps: Vec<Step>,
    /// By step, what to multiply a change by if it is not cut short at zero.
    factors: Vec<f64>,
    /// By step: a first value up to this share of the change may be cut short.
    cut_shares: Vec<f64>,
    /// By step, the rate of what does not change.
    idle: Vec<f64>,
    runs: Vec<Run>,
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
    /// 1, or the range in seconds.
    divisor: f64,
}

/// Steps whose windows begin one sample later from step to step, and end one later: those of a query with the step
/// of the scrapes.
#[derive(Debug, Clone)]
struct Run {
    steps: Range<usize>,
    first: usize,
    last: usize,
}

/// The margin is wider than the rounding of a division.
const CUT_MARGIN: f64 = 1.000_001;

impl RateKernel {
    pub(super) fn new(kind: Kind) -> RateKernel {
        RateKernel {
            kind,
            times_ms: Vec::new(),
            steps: Vec::new(),
            factors: Vec::new(),
            cut_shares: Vec::new(),
            idle: Vec::new(),
            runs: Vec::new(),
            falls: Vec::new(),
        }
    }

    /// Fills `row`, which has all cells absent, with the function's values.
    pub(super) fn run(&mut self, samples: &Samples<'_>, windows: &Windows, row: &mut Row) {
        if self.steps.is_empty() || self.times_ms != samples.times_ms {
            self.plan(samples.times_ms, windows);
        }
        let values = samples.values;
        let out = row.floats.as_mut_slice();
        if !self.kind.counter {
            return self.runs.iter().for_each(|run| self.differences(run, values, out));
        }
        // Not so where there is a NaN either.
        if !values
            .iter()
            .zip(values.iter().skip(1))
            .fold(true, |rises, (before, after)| rises & (after >= before))
        {
            return self.with_falls(values, out);
        }
        if values.first() == values.last() && values.first().is_some_and(|value| value.is_finite()) {
            return out.copy_from_slice(self.idle.get(..out.len()).unwrap_or(&self.idle));
        }
        self.runs.iter().for_each(|run| self.differences(run, values, out));
    }

    fn differences(&self, run: &Run, values: &[f64], out: &mut [f64]) {
        let count = run.steps.len();
        let (Some(firsts), Some(lasts), Some(factors), Some(shares), Some(out)) = (
            values.get(run.first..run.first + count),
            values.get(run.last..run.last + count),
            self.factors.get(run.steps.clone()),
            self.cut_shares.get(run.steps.clone()),
            out.get_mut(run.steps.clone()),
        ) else {
            return;
        };
        let mut any_cut = false;
        for ((((first, last), factor), share), slot) in
            firsts.iter().zip(lasts).zip(factors).zip(shares).zip(&mut *out)
        {
            let change = last - first;
            any_cut |= (change > 0.0) & (*first >= 0.0) & (*first <= share * change);
            *slot = change * factor;
        }
        if any_cut && self.kind.counter {
            let steps = self.steps.get(run.steps.clone()).unwrap_or_default();
            for (((first, last), (step, factor)), slot) in
                firsts.iter().zip(lasts).zip(steps.iter().zip(factors)).zip(out)
            {
                let change = last - first;
                *slot = change * step.factor_for(*first, change, *factor);
            }
        }
    }

    /// Falls of a counter are resets: what it had counted before is added.
    fn with_falls(&mut self, values: &[f64], out: &mut [f64]) {
        self.falls.clear();
        for (at, (before, after)) in values.iter().zip(values.iter().skip(1)).enumerate() {
            if after < before {
                self.falls.push((at + 1, *before));
            }
        }
        let mut first_fall = 0;
        for ((step, factor), slot) in self.steps.iter().zip(&self.factors).zip(out) {
            if step.first == step.last {
                continue;
            }
            let (Some(first), Some(last)) = (values.get(step.first), values.get(step.last)) else { continue };
            let mut change = last - first;
            while self.falls.get(first_fall).is_some_and(|(at, _)| *at <= step.first) {
                first_fall += 1;
            }
            let inside = self.falls.iter().skip(first_fall).take_while(|(at, _)| *at <= step.last);
            inside.for_each(|(_, before)| change += before);
            *slot = change * step.factor_for(*first, change, *factor);
        }
    }

    fn plan(&mut self, times_ms: &[i64], windows: &Windows) {
        self.times_ms.clear();
        self.times_ms.extend_from_slice(times_ms);
        self.steps.clear();
        self.factors.clear();
        self.cut_shares.clear();
        self.idle.clear();
        self.runs.clear();
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
            self.add_step(Step::new(self.kind, times_ms, from..to, start_ms, end_ms));
        }
    }

    fn add_step(&mut self, step: Step) {
        let at = self.steps.len();
        let is_empty = step.first == step.last;
        self.factors.push((step.sampled_s + step.to_start_s + step.to_end_s) / step.sampled_s / step.divisor);
        self.cut_shares.push(step.to_start_s * CUT_MARGIN / step.sampled_s);
        self.idle.push(if is_empty { stale_nan() } else { 0.0 });
        self.steps.push(step);
        if is_empty {
            return;
        }
        match self.runs.last_mut() {
            Some(run)
                if run.steps.end == at
                    && run.first + run.steps.len() == step.first
                    && run.last + run.steps.len() == step.last =>
            {
                run.steps.end += 1;
            }
            _ => self.runs.push(Run { steps: at..at + 1, first: step.first, last: step.last }),
        }
    }
}

impl Step {
    fn new(kind: Kind, times_ms: &[i64], samples: Range<usize>, start_ms: i64, end_ms: i64) -> Step {
        let seconds = |ms: i64| ms as f64 / 1000.0;
        let none = Step { first: 0, last: 0, sampled_s: 1.0, to_start_s: 0.0, to_end_s: 0.0, divisor: 1.0 };
        let [first_ms, .., last_ms] = times_ms.get(samples.clone()).unwrap_or_default() else { return none };
        let sampled_s = seconds(last_ms - first_ms);
        let average_s = sampled_s / (samples.len() - 1) as f64;
        // Close enough to an edge is up to a tenth more than the usual distance of samples.
        let reach = |gap_s: f64| if gap_s >= average_s * 1.1 { average_s / 2.0 } else { gap_s };
        let to_start_s = reach(seconds(first_ms.saturating_sub(start_ms)));
        let to_end_s = reach(seconds(end_ms.saturating_sub(*last_ms)));
        let divisor = if kind.per_second { seconds(end_ms - start_ms) } else { 1.0 };
        Step { first: samples.start, last: samples.end - 1, sampled_s, to_start_s, to_end_s, divisor }
    }

    /// What to multiply the change of a counter by: it is not extrapolated to before it was zero.
    fn factor_for(&self, first: f64, change: f64, factor: f64) -> f64 {
        if !(change > 0.0 && first >= 0.0) || self.sampled_s * first > self.to_start_s * change * CUT_MARGIN {
            return factor;
        }
        let to_start_s = self.to_start_s.min(self.sampled_s * (first / change));
        (self.sampled_s + to_start_s + self.to_end_s) / self.sampled_s / self.divisor
    }
}
