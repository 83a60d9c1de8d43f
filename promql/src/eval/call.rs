//! Functions of scalars and instant vectors.

use super::frame::{Cell, Frame, Metric, Row};
use super::math::{date_function, float_function};
use super::selector::Take;
use super::{EvalError, Evaluator, HistogramUse, Result, Sink};
use crate::annotations::Note;
use crate::ast::{Expr, ExprKind, Position, ValueType};
use crate::histogram::{Estimate, Histogram};

type MapRow<'m> = dyn FnMut(&Metric, &mut Row, &mut Sink<'_>) -> Result<()> + 'm;

impl Evaluator<'_> {
    pub(super) fn scalar_call(&self, function: &str, args: &[Expr], frame: Frame) -> Result<Vec<f64>> {
        let steps = frame.steps();
        let seconds = |ms: i64| ms as f64 / 1000.0;
        let constant = |value| Ok(vec![value; steps]);
        match (function, args) {
            ("time", _) => Ok((0..steps).map(|step| seconds(frame.time_ms(step))).collect()),
            ("pi", _) => constant(std::f64::consts::PI),
            ("start", _) => constant(seconds(self.query.start_ms)),
            ("end", _) => constant(seconds(self.query.end_ms)),
            ("step", _) => constant(seconds(self.query.step_ms)),
            ("range", _) => constant(seconds(self.query.end_ms.saturating_sub(self.query.start_ms))),
            ("min_of" | "max_of", [left, right]) => {
                let mut left = self.scalar(left, frame)?;
                let pick = if function == "max_of" { f64::max } else { f64::min };
                for (left, right) in left.iter_mut().zip(self.scalar(right, frame)?) {
                    *left = if left.is_nan() || right.is_nan() { f64::NAN } else { pick(*left, right) };
                }
                Ok(left)
            }
            ("scalar", [vector]) => self.only_float(vector, frame),
            _ => Err(EvalError::execution(format!("unknown function {function}"))),
        }
    }

    /// `scalar(v)`: at each step the one float there is, or NaN.
    fn only_float(&self, vector: &Expr, frame: Frame) -> Result<Vec<f64>> {
        let mut found: Vec<Option<f64>> = vec![None; frame.steps()];
        self.stream(vector, frame, &mut |_, row| {
            for (slot, value) in found.iter_mut().zip(&row.floats) {
                if !super::frame::is_absent(*value) {
                    *slot = Some(if slot.is_some() { f64::NAN } else { *value });
                }
            }
            Ok(())
        })?;
        Ok(found.into_iter().map(|value| value.unwrap_or(f64::NAN)).collect())
    }

    pub(super) fn call(
        &self,
        function: &'static str,
        args: &[Expr],
        at: Position,
        frame: Frame,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        if function == "absent_over_time" {
            return self.absent_over_time(args, frame, sink);
        }
        if args.iter().any(|arg| arg.value_type() == ValueType::RangeVector) {
            return self.range_call(function, args, frame, sink);
        }
        if let Some(float) = float_function(function) {
            let [operand, ..] = args else { return Err(missing(function)) };
            return self.without_names(operand, frame, sink, &mut |metric, row, sink| {
                row.map_floats(float);
                sink(metric, row)
            });
        }
        if let Some(date) = date_function(function) {
            return match args {
                [operand] => self.without_names(operand, frame, sink, &mut |metric, row, sink| {
                    row.map_floats(date);
                    sink(metric, row)
                }),
                _ => {
                    let times = (0..frame.steps()).map(|step| (frame.time_ms(step) as f64 / 1000.0).floor());
                    let mut row = Row { floats: times.map(date).collect(), histograms: None };
                    sink(&Metric::new(Default::default()), &mut row)
                }
            };
        }
        match (function, args) {
            ("vector", [scalar]) => {
                let mut row = Row { floats: self.scalar(scalar, frame)?, histograms: None };
                sink(&Metric::new(Default::default()), &mut row)
            }
            ("absent", [operand]) => self.absent(operand, frame, sink),
            ("clamp" | "clamp_min" | "clamp_max", [operand, bounds @ ..]) => {
                self.clamp(function, operand, bounds, frame, sink)
            }
            ("round", [operand, nearest @ ..]) => self.round(operand, nearest.first(), frame, sink),
            ("timestamp" | "start_timestamp", [operand]) => self.sample_time(function, operand, frame, sink),
            ("histogram_count", [operand]) => self.of_totals(operand, frame, sink, |h| h.count),
            ("histogram_sum", [operand]) => self.of_totals(operand, frame, sink, |h| h.sum),
            ("histogram_avg", [operand]) => self.of_totals(operand, frame, sink, |h| h.sum / h.count),
            ("histogram_stdvar", [operand]) => self.of_histograms(operand, frame, sink, Histogram::variance),
            ("histogram_stddev", [operand]) => {
                self.of_histograms(operand, frame, sink, |h| h.variance().sqrt())
            }
            ("histogram_quantile", [q, operand]) => {
                self.using(HistogramUse::Buckets, || self.histogram_quantile(q, operand, frame, sink))
            }
            ("histogram_quantiles", [operand, label, qs @ ..]) => self
                .using(HistogramUse::Buckets, || self.histogram_quantiles(operand, label, qs, frame, sink)),
            ("histogram_fraction", [lower, upper, operand]) => self
                .using(HistogramUse::Buckets, || self.histogram_fraction(lower, upper, operand, frame, sink)),
            ("label_replace", [operand, texts @ ..]) => self.label_replace(operand, texts, frame, sink),
            ("label_join", [operand, texts @ ..]) => self.label_join(operand, texts, frame, sink),
            ("sort" | "sort_desc", [operand]) => self.sort(function == "sort_desc", operand, at, frame, sink),
            ("sort_by_label" | "sort_by_label_desc", [operand, labels @ ..]) => {
                self.sort_by_label(function == "sort_by_label_desc", operand, labels, at, frame, sink)
            }
            ("info", [operand, selector @ ..]) => self.info(operand, selector.first(), frame, sink),
            _ => Err(EvalError::execution(format!("unknown function {function}"))),
        }
    }

    /// Streams `operand` through `map`, with series that have lost their names.
    pub(super) fn without_names(
        &self,
        operand: &Expr,
        frame: Frame,
        sink: &mut Sink<'_>,
        map: &mut MapRow<'_>,
    ) -> Result<()> {
        if self.names_may_collide(operand) {
            let mut all = Vec::new();
            self.stream(operand, frame, &mut |metric, row| {
                map(&metric.nameless(), row, &mut |metric, row| {
                    if !row.is_empty() {
                        self.hold(row.size())?;
                        all.push(super::Series { metric: metric.clone(), row: std::mem::take(row) });
                    }
                    Ok(())
                })
            })?;
            return self.merged(all, sink);
        }
        self.stream(operand, frame, &mut |metric, row| {
            map(&metric.nameless(), row, &mut |metric, row| {
                if row.is_empty() { Ok(()) } else { sink(metric, row) }
            })
        })
    }

    /// For functions that look at totals alone.
    fn of_totals(
        &self,
        operand: &Expr,
        frame: Frame,
        sink: &mut Sink<'_>,
        value: impl Fn(&Histogram) -> f64,
    ) -> Result<()> {
        self.using(HistogramUse::Totals, || self.of_histograms(operand, frame, sink, value))
    }

    fn of_histograms(
        &self,
        operand: &Expr,
        frame: Frame,
        sink: &mut Sink<'_>,
        value: impl Fn(&Histogram) -> f64,
    ) -> Result<()> {
        self.without_names(operand, frame, sink, &mut |metric, row, sink| {
            row.map(|_, cell| match cell {
                Cell::Histogram(histogram) => Cell::Float(value(&histogram)),
                _ => Cell::Absent,
            });
            sink(metric, row)
        })
    }

    fn clamp(
        &self,
        function: &str,
        operand: &Expr,
        bounds: &[Expr],
        frame: Frame,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        let steps = frame.steps();
        let values = bounds.iter().map(|bound| self.scalar(bound, frame)).collect::<Result<Vec<_>>>()?;
        let mut values = values.into_iter();
        let lower = if function == "clamp_max" {
            vec![f64::NEG_INFINITY; steps]
        } else {
            values.next().unwrap_or_default()
        };
        let upper = if function == "clamp_min" {
            vec![f64::INFINITY; steps]
        } else {
            values.next().unwrap_or_default()
        };
        self.without_names(operand, frame, sink, &mut |metric, row, sink| {
            row.map(|step, cell| match (cell, lower.get(step), upper.get(step)) {
                (_, Some(lower), Some(upper)) if upper < lower => Cell::Absent,
                (Cell::Float(value), Some(lower), Some(upper)) => {
                    Cell::Float(super::math::max(*lower, super::math::min(*upper, value)))
                }
                _ => Cell::Absent,
            });
            sink(metric, row)
        })
    }

    fn round(&self, operand: &Expr, nearest: Option<&Expr>, frame: Frame, sink: &mut Sink<'_>) -> Result<()> {
        let nearest = match nearest {
            Some(nearest) => self.scalar(nearest, frame)?,
            None => vec![1.0; frame.steps()],
        };
        self.without_names(operand, frame, sink, &mut |metric, row, sink| {
            row.map(|step, cell| match (cell, nearest.get(step)) {
                (Cell::Float(value), Some(nearest)) => {
                    // By the inverse, which is exact for the usual 0.1, 0.01 and so on.
                    let inverse = 1.0 / nearest;
                    Cell::Float((value * inverse + 0.5).floor() / inverse)
                }
                _ => Cell::Absent,
            });
            sink(metric, row)
        })
    }

    /// `timestamp(v)` is the time of the sample if `v` is a selector, else that of the step.
    fn sample_time(&self, function: &str, operand: &Expr, frame: Frame, sink: &mut Sink<'_>) -> Result<()> {
        let take = if function == "timestamp" { Take::Time } else { Take::StartTime };
        if let ExprKind::Selector(selector) = &operand.unwrap_parens().kind
            && selector.extension.is_none()
        {
            let mut names = super::labels::NameCheck::new(self, operand);
            let shift = self.shift(&selector.time)?;
            return self.newest(selector, shift, frame, take, &mut |metric, row| {
                let metric = metric.nameless();
                names.check(&metric)?;
                sink(&metric, row)
            });
        }
        if take == Take::StartTime {
            // Computed values have no start time.
            return Ok(());
        }
        self.without_names(operand, frame, sink, &mut |metric, row, sink| {
            row.map(|step, _| Cell::Float(frame.time_ms(step) as f64 / 1000.0));
            sink(metric, row)
        })
    }

    /// Notes on an estimate from a native histogram that observations of NaN make doubtful.
    pub(super) fn note_nan_quantile(&self, estimate: Estimate, metric: &str, at: Position) {
        if !estimate.nan_observations {
            return;
        }
        if estimate.value.is_nan() {
            self.note(&Note::QuantileNanResult { metric }, at);
        } else {
            self.note(&Note::QuantileNanSkew { metric }, at);
        }
    }
}

fn missing(function: &str) -> EvalError {
    EvalError::execution(format!("missing argument of {function}"))
}
