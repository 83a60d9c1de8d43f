//! From evaluated series to results.

use std::sync::Arc;

use super::extended::with_edges;
use super::frame::{Cell, Frame, Metric, Series};
use super::{EvalError, Evaluator, Result};
use crate::ast::{Expr, Extension};
use crate::value::{InstantSample, RangeSeries, SampleValue, Value};

impl Evaluator<'_> {
    pub(super) fn finish_scalar(&self, values: Vec<f64>) -> Result<Value> {
        let frame = self.frame();
        if self.query.is_instant() {
            let value = values.first().copied().unwrap_or(f64::NAN);
            return Ok(Value::Scalar { time_ms: frame.start_ms, value });
        }
        let floats =
            values.into_iter().enumerate().map(|(step, value)| (frame.time_ms(step), value)).collect();
        Ok(Value::Matrix(vec![RangeSeries {
            labels: pharos_model::Labels::empty(),
            floats,
            histograms: Vec::new(),
        }]))
    }

    pub(super) fn finish_vector(&self, all: Vec<Series>) -> Result<Value> {
        let frame = self.frame();
        // Names that were only marked go now. Two series that have become one are an error, unless they take
        // turns over the range.
        let named = self.dropped(all)?;
        if self.query.is_instant() {
            let samples = named.into_iter().filter_map(|series| {
                let value = match series.row.get(0) {
                    Cell::Float(value) => SampleValue::Float(value),
                    Cell::Histogram(value) => SampleValue::Histogram(value),
                    Cell::Absent => return None,
                };
                Some(InstantSample { labels: series.metric.labels, time_ms: frame.start_ms, value })
            });
            return Ok(Value::Vector(samples.collect()));
        }
        let mut matrix: Vec<RangeSeries> = named
            .into_iter()
            .filter(|series| !series.row.is_empty())
            .map(|series| points(series, frame))
            .collect();
        matrix.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(Value::Matrix(matrix))
    }

    fn dropped(&self, all: Vec<Series>) -> Result<Vec<Series>> {
        let mut all = all;
        let mut any_changed = false;
        for series in &mut all {
            let labels = self.visible_labels(&series.metric);
            any_changed |= labels != series.metric.labels;
            series.metric = Metric { labels, drop_name: false };
        }
        // As long as names go at once, what they told apart has been looked at where they went.
        if !any_changed || self.drops_names_at_once() {
            return Ok(all);
        }
        self.joined(all, |metric| metric.labels.clone())
    }

    pub(super) fn finish_range_vector(&self, expr: &Expr) -> Result<Value> {
        let mut matrix = Vec::new();
        self.ranges(expr, self.frame(), None, &mut |metric, samples, windows| {
            windows.each(samples, |_, window| {
                let samples = &window.samples;
                self.hold(samples.times_ms.len() + samples.histograms.len())?;
                let floats = match windows.extension {
                    None => samples.times_ms.iter().copied().zip(samples.values.iter().copied()).collect(),
                    Some(extension) if !samples.histograms.is_empty() => {
                        let name = extension.keyword();
                        let message = format!("{name} modifier is not supported with histograms");
                        return Err(EvalError::execution(message));
                    }
                    Some(extension) => {
                        let floats = with_edges(window, extension == Extension::Smoothed);
                        self.tally(|tally| tally.add_read(0, floats.len() as u64));
                        floats
                    }
                };
                if floats.is_empty() && samples.histograms.is_empty() {
                    return Ok(());
                }
                matrix.push(RangeSeries {
                    labels: metric.labels.clone(),
                    floats,
                    histograms: samples
                        .histograms
                        .iter()
                        .map(|sample| (sample.time_ms, Arc::clone(&sample.value)))
                        .collect(),
                });
                Ok(())
            })
        })?;
        matrix.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(Value::Matrix(matrix))
    }
}

fn points(series: Series, frame: Frame) -> RangeSeries {
    let row = &series.row;
    let floats = row.floats.iter().enumerate().filter(|(_, value)| !super::frame::is_absent(**value));
    let floats = floats.map(|(step, value)| (frame.time_ms(step), *value)).collect();
    let histograms = row.histograms.iter().flatten().enumerate();
    let histograms = histograms
        .filter_map(|(step, histogram)| Some((frame.time_ms(step), Arc::clone(histogram.as_ref()?))))
        .collect();
    RangeSeries { labels: series.metric.labels, floats, histograms }
}
