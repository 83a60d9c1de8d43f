//! Range vectors: the samples of each series in a window before each step.

use pharos_model::is_stale;

use super::duration::Shift;
use super::frame::{Frame, Metric, Series};
use super::tally::weight;
use super::{EvalError, Evaluator, HistogramUse, Result};
use crate::ast::{DurationExpr, Expr, ExprKind, Extension, Selector, Subquery};
use crate::histogram::{Histogram, ResetHint};
use crate::source::{HistogramSample, Samples, SelectRequest};

/// The windows of a range vector.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Windows {
    pub frame: Frame,
    pub shift: Shift,
    pub range_ms: i64,
    pub extension: Option<Extension>,
    /// How far beyond its edges an extended window may look.
    pub lookback_ms: i64,
}

/// The samples in one window.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window<'s> {
    /// The window is open on the left: `(start_ms, end_ms]`.
    pub start_ms: i64,
    pub end_ms: i64,
    /// The step that the window belongs to; with `@` or an offset this is not its end.
    pub step_ms: i64,
    pub samples: Samples<'s>,
}

impl Windows {
    /// The edges of the window of a step.
    pub(crate) fn edges_ms(&self, step: usize) -> (i64, i64) {
        let end_ms = self.shift.time_ms(self.frame, step);
        (end_ms.saturating_sub(self.range_ms), end_ms)
    }

    /// The same, widened by what an extension may look at.
    pub(super) fn reach_ms(&self, step: usize) -> (i64, i64) {
        let (start_ms, end_ms) = self.edges_ms(step);
        match self.extension {
            None => (start_ms, end_ms),
            Some(Extension::Anchored) => (start_ms.saturating_sub(self.lookback_ms), end_ms),
            Some(Extension::Smoothed) => {
                (start_ms.saturating_sub(self.lookback_ms), end_ms.saturating_add(self.lookback_ms))
            }
        }
    }

    /// Calls `visit` with the window of each step, in order, and with the step.
    pub(crate) fn each<'s>(
        &self,
        samples: &Samples<'s>,
        mut visit: impl FnMut(usize, &Window<'s>) -> Result<()>,
    ) -> Result<()> {
        let (mut from, mut to, mut first, mut last) = (0, 0, 0, 0);
        for step in 0..self.frame.steps() {
            let (after_ms, until_ms) = self.reach_ms(step);
            if step == 0 {
                from = samples.times_ms.partition_point(|time| *time <= after_ms);
                to = from;
            }
            while samples.times_ms.get(from).is_some_and(|time| *time <= after_ms) {
                from += 1;
            }
            to = to.max(from);
            while samples.times_ms.get(to).is_some_and(|time| *time <= until_ms) {
                to += 1;
            }
            while samples.histograms.get(first).is_some_and(|sample| sample.time_ms <= after_ms) {
                first += 1;
            }
            last = last.max(first);
            while samples.histograms.get(last).is_some_and(|sample| sample.time_ms <= until_ms) {
                last += 1;
            }
            if from == to && first == last {
                continue;
            }
            let (start_ms, end_ms) = self.edges_ms(step);
            let window = Window {
                start_ms,
                end_ms,
                step_ms: self.frame.time_ms(step),
                samples: samples.slice(from..to, first..last),
            };
            visit(step, &window)?;
        }
        Ok(())
    }
}

/// Columns of our own, where those of the source cannot be used as they are.
#[derive(Debug, Clone, Default)]
pub(crate) struct OwnedSamples {
    times_ms: Vec<i64>,
    values: Vec<f64>,
    starts_ms: Vec<i64>,
    histograms: Vec<HistogramSample>,
}

impl OwnedSamples {
    pub(crate) fn borrowed(&self) -> Samples<'_> {
        Samples {
            times_ms: &self.times_ms,
            values: &self.values,
            starts_ms: &self.starts_ms,
            histograms: &self.histograms,
        }
    }

    /// A copy without staleness markers; `None` if nothing is left.
    pub(crate) fn without_stale(samples: &Samples<'_>) -> Option<OwnedSamples> {
        let mut out = OwnedSamples::default();
        for (index, (time_ms, value)) in samples.times_ms.iter().zip(samples.values).enumerate() {
            if !is_stale(*value) {
                out.times_ms.push(*time_ms);
                out.values.push(*value);
                out.starts_ms.extend(samples.starts_ms.get(index));
            }
        }
        out.histograms.extend(samples.histograms.iter().filter(|sample| !sample.value.is_stale()).cloned());
        (!out.times_ms.is_empty() || !out.histograms.is_empty()).then_some(out)
    }

    /// The result of a subquery's operand as samples.
    fn of_series(series: &Series, frame: Frame) -> OwnedSamples {
        let mut out = OwnedSamples::default();
        for (step, value) in series.row.floats.iter().enumerate() {
            if !is_stale(*value) {
                out.times_ms.push(frame.time_ms(step));
                out.values.push(*value);
            }
        }
        for (step, histogram) in series.row.histograms.iter().flatten().enumerate() {
            let Some(histogram) = histogram else { continue };
            // A reset between the steps would go unseen, and one sample may be seen twice: what the hints say
            // holds for the samples that the source had.
            let value = match histogram.reset_hint {
                ResetHint::Reset | ResetHint::NotReset => {
                    Histogram { reset_hint: ResetHint::Unknown, ..histogram.as_ref().clone() }.into()
                }
                ResetHint::Unknown | ResetHint::Gauge => histogram.clone(),
            };
            out.histograms.push(HistogramSample { time_ms: frame.time_ms(step), start_ms: 0, value });
        }
        out
    }
}

/// Histograms with their unknown reset hints found out by comparison with the sample before.
pub(super) fn with_found_resets(histograms: &[HistogramSample]) -> Vec<HistogramSample> {
    let mut out: Vec<HistogramSample> = Vec::with_capacity(histograms.len());
    for sample in histograms {
        let mut sample = sample.clone();
        let previous =
            out.last().filter(|_| sample.value.reset_hint == ResetHint::Unknown && !sample.value.is_stale());
        if let Some(previous) = previous {
            let reset = sample.value.is_reset_after(&previous.value);
            let reset_hint = if reset { ResetHint::Reset } else { ResetHint::NotReset };
            sample.value = Histogram { reset_hint, ..sample.value.as_ref().clone() }.into();
        }
        out.push(sample);
    }
    out
}

impl Evaluator<'_> {
    /// Hands every series of a range-vector expression to `visit`, free of staleness markers, with its windows.
    pub(super) fn ranges(
        &self,
        expr: &Expr,
        frame: Frame,
        function: Option<&str>,
        visit: &mut dyn FnMut(&Metric, &Samples<'_>, &Windows) -> Result<()>,
    ) -> Result<()> {
        match &expr.unwrap_parens().kind {
            ExprKind::Range { selector, range } => {
                let windows = self.windows(selector, range, frame)?;
                let request = self.range_request(selector, &windows, function);
                self.select(&request, &mut |metric, samples| {
                    let mut samples = samples;
                    if !self.query.features.start_timestamps {
                        samples.starts_ms = &[];
                    }
                    // Without an early end the compiler looks at several at once.
                    let stale = samples.values.iter().fold(false, |found, value| found | is_stale(*value))
                        || samples.histograms.iter().any(|sample| sample.value.is_stale());
                    let own = if stale { OwnedSamples::without_stale(&samples) } else { None };
                    match &own {
                        Some(own) => samples = own.borrowed(),
                        None if stale => return Ok(()),
                        None => {}
                    }
                    // Alone, an extended window has other samples: those at its edges.
                    if windows.extension.is_none() || function.is_some() {
                        self.tally(|tally| tally.add_windows(&samples, &windows, true, self.weigh()));
                    }
                    visit(metric, &samples, &windows)
                })
            }
            ExprKind::Subquery(subquery) => self.subquery(subquery, frame, function.is_none(), visit),
            _ => {
                Err(EvalError::execution(format!("expected range vector, got {}", expr.value_type().name())))
            }
        }
    }

    pub(super) fn windows(&self, selector: &Selector, range: &DurationExpr, frame: Frame) -> Result<Windows> {
        Ok(Windows {
            frame,
            shift: self.shift(&selector.time)?,
            range_ms: self.positive_duration_ms(range)?,
            extension: selector.extension,
            lookback_ms: self.query.lookback_ms,
        })
    }

    pub(super) fn range_request<'x>(
        &self,
        selector: &'x Selector,
        windows: &Windows,
        function: Option<&'x str>,
    ) -> SelectRequest<'x> {
        SelectRequest {
            matchers: &selector.matchers,
            after_ms: windows.reach_ms(0).0,
            until_ms: windows.reach_ms(windows.frame.steps().saturating_sub(1)).1,
            step_ms: self.query.step_ms,
            range_ms: windows.range_ms,
            function,
        }
    }

    fn subquery(
        &self,
        subquery: &Subquery,
        frame: Frame,
        is_alone: bool,
        visit: &mut dyn FnMut(&Metric, &Samples<'_>, &Windows) -> Result<()>,
    ) -> Result<()> {
        let windows = Windows {
            frame,
            shift: self.shift(&subquery.time)?,
            range_ms: self.positive_duration_ms(&subquery.range)?,
            extension: None,
            lookback_ms: self.query.lookback_ms,
        };
        let step_ms = match &subquery.step {
            Some(step) => self.positive_duration_ms(step)?,
            None => self.query.subquery_step_ms.max(1),
        };
        // Steps lie on multiples of the step, whatever the query's own times are.
        let (after_ms, _) = windows.edges_ms(0);
        let (_, end_ms) = windows.edges_ms(frame.steps().saturating_sub(1));
        let aligned_ms = after_ms.div_euclid(step_ms).saturating_mul(step_ms).saturating_add(step_ms);
        let inner = Frame { start_ms: aligned_ms, end_ms, step_ms };
        if inner.steps() == 0 {
            return Ok(());
        }
        self.check_frame(inner)?;
        // Resets between steps are found by buckets.
        let evaluate = || self.using(HistogramUse::Buckets, || self.vector(&subquery.operand, inner));
        let (all, tally) = self.tallied(inner, evaluate)?;
        self.tally_subquery(tally, &windows, is_alone);
        for series in &all {
            self.check_alive()?;
            let samples = OwnedSamples::of_series(series, inner);
            let samples = samples.borrowed();
            if !is_alone {
                self.tally(|tally| tally.add_windows(&samples, &windows, false, weight));
            }
            visit(&series.metric, &samples, &windows)?;
        }
        self.release(&all);
        Ok(())
    }
}
