//! Counts the samples that a query takes, step by step and as Prometheus does, for those who ask for statistics.
//!
//! Nothing is counted while samples are looked at: selectors count each series by its row or its windows.

use super::frame::{Frame, Row};
use super::range::Windows;
use super::{Evaluator, HistogramUse, Result};
use crate::histogram::Histogram;
use crate::source::Samples;

/// The samples that a step of a query takes. A native histogram counts as many as fit its place in memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StepSamples {
    /// Those that the step looks at, as if it were a query of its own: all of each window.
    pub loaded: u64,
    /// Those of them that no step before has looked at.
    pub read: u64,
}

/// What the steps of a frame take.
#[derive(Debug, Clone)]
pub(super) struct Tally {
    steps: Vec<StepSamples>,
    frame: Frame,
}

impl Tally {
    pub(super) fn new(frame: Frame) -> Tally {
        Tally { steps: vec![StepSamples::default(); frame.steps()], frame }
    }

    pub(super) fn into_steps(self) -> Vec<StepSamples> {
        self.steps
    }

    fn sum(&self) -> StepSamples {
        self.steps.iter().fold(StepSamples::default(), |sum, step| StepSamples {
            loaded: sum.loaded + step.loaded,
            read: sum.read + step.read,
        })
    }

    fn add(&mut self, step: usize, loaded: u64, read: u64) {
        if let Some(step) = self.steps.get_mut(step) {
            step.loaded += loaded;
            step.read += read;
        }
    }

    /// Adds samples that only this step looks at.
    pub(super) fn add_read(&mut self, step: usize, samples: u64) {
        self.add(step, samples, samples);
    }

    /// Adds what a part of the same steps took.
    pub(super) fn add_part(&mut self, part: &Tally) {
        for (step, of_part) in part.steps.iter().enumerate() {
            self.add(step, of_part.loaded, of_part.read);
        }
    }

    /// Adds what was looked at once, for all steps.
    pub(super) fn add_repeated(&mut self, once: &Tally) {
        let once = once.sum();
        for step in 0..self.steps.len() {
            self.add(step, once.loaded, if step == 0 { once.read } else { 0 });
        }
    }

    /// Adds the newest samples of a series. Pinned ones are the same at each step, and read once.
    pub(super) fn add_row(&mut self, row: &Row, is_pinned: bool, weigh: Weigh) {
        for step in 0..row.steps() {
            let samples = match row.histogram(step) {
                Some(histogram) => weigh(histogram),
                None => u64::from(row.is_present(step)),
            };
            self.add(step, samples, if is_pinned && step > 0 { 0 } else { samples });
        }
    }

    /// Adds the windows of a series. What a subquery evaluated is looked at, but not read again.
    pub(super) fn add_windows(
        &mut self,
        samples: &Samples<'_>,
        windows: &Windows,
        is_read: bool,
        weigh: Weigh,
    ) -> Result<()> {
        let count = |samples: &Samples<'_>| {
            let histograms: u64 = samples.histograms.iter().map(|sample| weigh(&sample.value)).sum();
            samples.times_ms.len() as u64 + histograms
        };
        windows.each(samples, |step, window| {
            let (_, until_ms) = windows.reach_ms(step);
            let loaded = count(&window.samples);
            let read = match step {
                _ if !is_read => 0,
                0 => loaded,
                _ if windows.shift.at_ms.is_some() => 0,
                _ => count(&window.samples.between(until_ms.saturating_sub(windows.frame.step_ms), until_ms)),
            };
            self.add(step, loaded, read);
            Ok(())
        })
    }

    /// Adds what the steps of a subquery read: each to the first step whose window has it. None has what lies
    /// between two windows.
    fn add_subquery(&mut self, inner: &Tally, windows: &Windows) {
        let Some(last) = self.steps.len().checked_sub(1) else { return };
        if last == 0 {
            return self.add(0, 0, inner.sum().read);
        }
        let outer = self.frame;
        for (number, step) in inner.steps.iter().enumerate() {
            let seen_ms = inner.frame.time_ms(number).saturating_add(windows.shift.offset_ms);
            let steps = Frame { end_ms: seen_ms.saturating_sub(1), ..outer }.steps();
            let first = steps.min(last);
            if seen_ms > outer.time_ms(first).saturating_sub(windows.range_ms) {
                self.add(first, 0, step.read);
            }
        }
    }
}

/// How many samples a native histogram counts as.
pub(super) type Weigh = fn(&Histogram) -> u64;

/// Samples of 16 bytes, by what Prometheus keeps: a fixed part, and 8 bytes for each bucket, run of neighbouring
/// buckets and listed bound.
pub(super) fn weight(histogram: &Histogram) -> u64 {
    let runs = |buckets: &[(i32, f64)]| {
        let gaps = buckets.windows(2).filter(|pair| matches!(pair, [a, b] if b.0 != a.0 + 1)).count();
        gaps + usize::from(!buckets.is_empty())
    };
    let (positive, negative) = (&histogram.positive.0, &histogram.negative.0);
    let parts = positive.len() + runs(positive) + negative.len() + runs(negative);
    weight_of_parts(parts + histogram.custom_bounds.len())
}

fn weight_of_parts(parts: usize) -> u64 {
    (168 + 8 * parts as u64 + 8) / 16
}

impl Evaluator<'_> {
    /// Calls `count` if anyone asked for a count.
    pub(super) fn tally<R>(&self, count: impl FnOnce(&mut Tally) -> R) -> Option<R> {
        self.tally.borrow_mut().as_mut().map(count)
    }

    /// Evaluates with a tally of its own, for other steps.
    pub(super) fn tallied<R>(
        &self,
        frame: Frame,
        evaluate: impl FnOnce() -> Result<R>,
    ) -> Result<(R, Option<Tally>)> {
        let around = self.tally.take();
        self.tally.replace(around.is_some().then(|| Tally::new(frame)));
        let outcome = evaluate();
        let own = self.tally.replace(around);
        Ok((outcome?, own))
    }

    /// Adds a subquery. Alone it counts for what it looks at; within a function its outcome is looked at.
    pub(super) fn tally_subquery(&self, inner: Option<Tally>, windows: &Windows, is_alone: bool) {
        let Some(inner) = inner else { return };
        self.tally(|tally| {
            tally.add_subquery(&inner, windows);
            if is_alone {
                tally.add(0, inner.sum().loaded, 0);
            }
        });
    }

    /// Where buckets are not looked at, Prometheus does not load them.
    pub(super) fn weigh(&self) -> Weigh {
        match self.histogram_use.get() {
            HistogramUse::Totals => |_| weight_of_parts(0),
            _ => weight,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pharos_model::{Labels, Sample};

    use crate::{
        Buckets, Evaluation, Features, Histogram, HistogramSample, MemorySeries, MemorySource, Query,
        RangeSeries, Value, evaluate, parse_with,
    };

    /// `m{i="0"}` and `m{i="1"}`, counting up by 1 a second, and the native histogram `h`, every 10 s for 10 minutes.
    fn source() -> MemorySource {
        let mut source = MemorySource::new();
        let times = || (0..=60).map(|at| at * 10_000);
        for series in 0..2 {
            let labels = Labels::from_pairs([("__name__", "m".to_owned()), ("i", series.to_string())]);
            source.push(&labels, times().map(|time_ms| Sample { time_ms, value: time_ms as f64 / 1_000.0 }));
        }
        let histogram = Histogram { positive: Buckets::dense(1, [1.0, 2.0]), ..Histogram::default() };
        let value = Arc::new(Histogram { count: 3.0, sum: 5.0, ..histogram });
        let sample = |time_ms| HistogramSample { time_ms, start_ms: 0, value: Arc::clone(&value) };
        let series = MemorySeries { histograms: times().map(sample).collect(), ..MemorySeries::default() };
        source.insert(Labels::from_pairs([("__name__", "h")]), series);
        source
    }

    fn run(query: &str, start_ms: i64, end_ms: i64, step_ms: i64) -> Evaluation {
        let expr = parse_with(query, &Features::ALL).unwrap_or_else(|error| panic!("{query}: {error}"));
        let query = Query { counts_samples: true, ..Query::range(&expr, start_ms, end_ms, step_ms) };
        evaluate(&query, &source(), &Default::default()).unwrap_or_else(|error| panic!("{expr}: {error}"))
    }

    /// As Prometheus 3.14 counts them.
    #[test]
    fn steps_count_what_they_look_at_and_what_is_new() {
        let check = |query: &str, evaluation: &Evaluation, loaded: &[u64], read: &[u64]| {
            let steps = &evaluation.stats.steps;
            assert_eq!(steps.iter().map(|step| step.loaded).collect::<Vec<_>>(), loaded, "{query} loads");
            assert_eq!(steps.iter().map(|step| step.read).collect::<Vec<_>>(), read, "{query} reads");
        };
        for (query, loaded, read) in [
            ("m", [2, 2, 2], [2, 2, 2]),
            ("timestamp(m)", [2, 2, 2], [2, 2, 2]),
            ("m @ 100", [2, 2, 2], [2, 0, 0]),
            ("rate(m[1m])", [12, 12, 12], [12, 6, 6]),
            ("sum(rate(m[1m]))", [12, 12, 12], [12, 6, 6]),
            ("rate(m[20s])", [4, 4, 4], [4, 4, 4]),
            ("max_over_time(m[1m] @ 300) + 1", [12, 12, 12], [12, 0, 0]),
            ("predict_linear(m[1m] @ 300, 60)", [12, 12, 12], [12, 0, 0]),
            ("h", [12, 12, 12], [12, 12, 12]),
            ("histogram_count(h)", [11, 11, 11], [11, 11, 11]),
            ("histogram_quantile(0.5, histogram_count(h))", [12, 12, 12], [12, 12, 12]),
            ("histogram_sum(h </ 3)", [12, 12, 12], [12, 12, 12]),
            ("sum_over_time(h[20s])", [24, 24, 24], [24, 24, 24]),
            ("max_over_time(m[1m:20s])", [6, 6, 6], [6, 2, 4]),
            ("max_over_time(sum_over_time(m[20s])[1m:20s])", [6, 6, 6], [12, 4, 8]),
            ("max_over_time(m[10s:5s])", [4, 4, 4], [4, 4, 4]),
            ("1", [0, 0, 0], [0, 0, 0]),
            ("absent(x)", [0, 0, 0], [0, 0, 0]),
        ] {
            check(query, &run(query, 301_000, 361_000, 30_000), &loaded, &read);
        }
        for (query, samples) in
            [("m[30s]", 6), ("m[30s:10s]", 6), ("m[30s] anchored", 10), ("m[30s] smoothed", 10)]
        {
            check(query, &run(query, 301_000, 301_000, 0), &[samples], &[samples]);
        }
    }

    #[test]
    fn nothing_is_counted_for_nobody() {
        let expr = parse_with("m", &Features::ALL).unwrap_or_else(|error| panic!("{error}"));
        let evaluation = evaluate(&Query::instant(&expr, 300_000), &source(), &Default::default());
        assert!(evaluation.is_ok_and(|evaluation| evaluation.stats.steps.is_empty()));
    }

    #[test]
    fn an_extended_window_alone_has_samples_at_its_edges() {
        for (query, first, last) in
            [("m{i=\"0\"}[20s] anchored", 280.0, 300.0), ("m{i=\"0\"}[20s] smoothed", 281.0, 301.0)]
        {
            let value = run(query, 301_000, 301_000, 0).value;
            let Value::Matrix(series) = &value else { panic!("{query}: {value:?}") };
            let [RangeSeries { floats, .. }] = series.as_slice() else { panic!("{query}: {value:?}") };
            let expected = [(281_000, first), (290_000, 290.0), (300_000, 300.0), (301_000, last)];
            assert_eq!(floats, &expected, "{query}");
        }
        let expr = parse_with("h[20s] anchored", &Features::ALL).unwrap_or_else(|error| panic!("{error}"));
        let refused = evaluate(&Query::instant(&expr, 301_000), &source(), &Default::default());
        let error = refused.err().map(|error| error.to_string());
        assert_eq!(error.as_deref(), Some("anchored modifier is not supported with histograms"));
    }
}
