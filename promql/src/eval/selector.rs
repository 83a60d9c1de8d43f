//! Instant vectors: the newest sample of each series at each step.

use std::sync::Arc;

use super::duration::Shift;
use super::extended::interpolated;
use super::frame::{Cell, Frame, Row};
use super::{Evaluator, Result, Sink};
use crate::annotations::Note;
use crate::ast::{Extension, Position, Selector};
use crate::source::{Samples, SelectRequest};

/// What of the newest sample is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Take {
    Value,
    /// Its time, in seconds.
    Time,
    /// Its time, in milliseconds, of floats alone.
    FloatTimeMs,
    /// When its counting began, in seconds.
    StartTime,
}

impl Evaluator<'_> {
    pub(super) fn selector(
        &self,
        selector: &Selector,
        at: Position,
        frame: Frame,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        let shift = self.shift(&selector.time)?;
        if selector.extension == Some(Extension::Smoothed) {
            return self.smoothed_selector(selector, at, shift, frame, sink);
        }
        self.newest(selector, shift, frame, Take::Value, sink)
    }

    pub(super) fn newest(
        &self,
        selector: &Selector,
        shift: Shift,
        frame: Frame,
        take: Take,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        let steps = frame.steps();
        let first_ms = shift.span_ms(frame).0;
        let lookback_ms = self.query.lookback_ms;
        let mut row = Row::default();
        self.select(&self.newest_request(selector, shift, frame), &mut |metric, samples| {
            row.reset(steps);
            if shift.at_ms.is_some() {
                let cell = newest_cell(&samples, first_ms, lookback_ms, take);
                for step in 0..steps {
                    row.set(step, cell.clone());
                }
            } else if take == Take::Value && samples.histograms.is_empty() {
                newest_floats(&samples, shift, frame, lookback_ms, &mut row.floats);
            } else {
                for step in 0..steps {
                    row.set(step, newest_cell(&samples, shift.time_ms(frame, step), lookback_ms, take));
                }
            }
            if row.is_empty() {
                return Ok(());
            }
            let is_pinned = shift.at_ms.is_some();
            self.tally(|tally| tally.add_row(&row, is_pinned, self.weigh()));
            sink(metric, &mut row)
        })
    }

    pub(super) fn newest_request<'x>(
        &self,
        selector: &'x Selector,
        shift: Shift,
        frame: Frame,
    ) -> SelectRequest<'x> {
        let (first_ms, last_ms) = shift.span_ms(frame);
        SelectRequest {
            matchers: &selector.matchers,
            after_ms: first_ms.saturating_sub(self.query.lookback_ms),
            until_ms: last_ms,
            step_ms: self.query.step_ms,
            range_ms: 0,
            function: None,
        }
    }

    /// `selector smoothed`: the value on the line between the samples around each step.
    fn smoothed_selector(
        &self,
        selector: &Selector,
        at: Position,
        shift: Shift,
        frame: Frame,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        let steps = frame.steps();
        let (first_ms, last_ms) = shift.span_ms(frame);
        let lookback_ms = self.query.lookback_ms;
        let request = SelectRequest {
            matchers: &selector.matchers,
            after_ms: first_ms.saturating_sub(lookback_ms),
            until_ms: last_ms.saturating_add(lookback_ms),
            step_ms: self.query.step_ms,
            range_ms: 0,
            function: None,
        };
        let mut row = Row::default();
        self.select(&request, &mut |metric, samples| {
            let Some(samples) = super::range::OwnedSamples::without_stale(&samples) else { return Ok(()) };
            let samples = samples.borrowed();
            row.reset(steps);
            for step in 0..steps {
                let time_ms = shift.time_ms(frame, step);
                let near =
                    samples.between(time_ms.saturating_sub(lookback_ms), time_ms.saturating_add(lookback_ms));
                let name = metric.labels.metric_name();
                if !near.times_ms.is_empty() && !near.histograms.is_empty() {
                    self.note(&Note::MixedFloatsHistograms { metric: name }, at);
                    continue;
                }
                match interpolated(&near, time_ms) {
                    Ok(cell) => row.set(step, cell),
                    Err(_) => self.note(&Note::MixedSchemas { metric: name }, at),
                }
            }
            if row.is_empty() { Ok(()) } else { sink(metric, &mut row) }
        })
    }
}

/// The fast path: floats alone, one pass over samples and steps. A stale newest sample leaves its marker in the
/// row, where it means "absent".
fn newest_floats(samples: &Samples<'_>, shift: Shift, frame: Frame, lookback_ms: i64, out: &mut [f64]) {
    let mut next = 0;
    for (step, slot) in out.iter_mut().enumerate() {
        let time_ms = shift.time_ms(frame, step);
        if step == 0 {
            next = samples.times_ms.partition_point(|sample_ms| *sample_ms <= time_ms);
        }
        while samples.times_ms.get(next).is_some_and(|sample_ms| *sample_ms <= time_ms) {
            next += 1;
        }
        let Some(newest) = next.checked_sub(1) else { continue };
        let (Some(&sample_ms), Some(&value)) = (samples.times_ms.get(newest), samples.values.get(newest))
        else {
            continue;
        };
        if sample_ms > time_ms.saturating_sub(lookback_ms) {
            *slot = value;
        }
    }
}

fn newest_cell(samples: &Samples<'_>, time_ms: i64, lookback_ms: i64, take: Take) -> Cell {
    let window = samples.between(time_ms.saturating_sub(lookback_ms), time_ms);
    let float = window.times_ms.last().zip(window.values.last());
    let histogram = window.histograms.last();
    let seconds = |ms: i64| Cell::Float(ms as f64 / 1000.0);
    match (float, histogram) {
        (Some((&float_ms, &value)), histogram)
            if histogram.is_none_or(|sample| sample.time_ms < float_ms) =>
        {
            if pharos_model::is_stale(value) {
                return Cell::Absent;
            }
            match take {
                Take::Value => Cell::Float(value),
                Take::Time => seconds(float_ms),
                Take::FloatTimeMs => Cell::Float(float_ms as f64),
                Take::StartTime => seconds(window.starts_ms.last().copied().unwrap_or(0)),
            }
        }
        (_, Some(sample)) if !sample.value.is_stale() => match take {
            Take::Value | Take::FloatTimeMs => Cell::Histogram(Arc::clone(&sample.value)),
            Take::Time => seconds(sample.time_ms),
            Take::StartTime => seconds(sample.start_ms),
        },
        _ => Cell::Absent,
    }
}
