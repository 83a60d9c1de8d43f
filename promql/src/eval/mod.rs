//! Evaluates expressions series by series.
//!
//! An expression is *streamed*: series after series goes through a chain of functions in one reused row, from
//! the source's columns to whoever collects them. An aggregation folds each row into its group and lets go of
//! it, so `sum by (a) (rate(m[5m]))` needs memory for its groups alone. What must see all series at once
//! (matching, sorting, quantiles over buckets) collects them first.

mod absent;
mod aggregate;
mod binary;
mod buckets;
mod call;
mod duration;
mod elements;
mod extended;
mod finish;
mod frame;
mod grouping;
mod info;
mod invariant;
mod labels;
mod math;
mod over_time;
mod parts;
mod pick;
#[cfg(test)]
mod random_tests;
mod range;
mod rate;
mod rate_kernel;
mod selector;
mod set;
mod tally;
#[cfg(test)]
mod tests;

use std::cell::{Cell as StdCell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use crate::annotations::{Annotations, Note, Notebook};
use crate::ast::{BinaryOp, Expr, ExprKind, Position, ValueType};
use crate::parser::Features;
use crate::source::{SelectRequest, SeriesSource, SourceError};
use crate::value::Value;
use frame::{Cell, Frame, Metric, Row, Series};
use labels::Visible;
pub use tally::StepSamples;
use tally::Tally;

/// An expression and the times to evaluate it at.
#[derive(Debug, Clone)]
pub struct Query<'q> {
    pub expr: &'q Expr,
    pub start_ms: i64,
    pub end_ms: i64,
    /// 0 for an instant query, which has `start_ms == end_ms`.
    pub step_ms: i64,
    /// How old a sample may be and still count as current: `(t - lookback, t]`.
    pub lookback_ms: i64,
    /// The step of subqueries that name none: the global evaluation interval.
    pub subquery_step_ms: i64,
    pub features: Features,
    /// Whether to count the samples that each step takes.
    pub counts_samples: bool,
}

/// Prometheus' defaults: 5 minutes back, a subquery step of a minute.
const DEFAULT_LOOKBACK_MS: i64 = 300_000;
const DEFAULT_SUBQUERY_STEP_MS: i64 = 60_000;

impl<'q> Query<'q> {
    pub fn instant(expr: &'q Expr, time_ms: i64) -> Query<'q> {
        Query::range(expr, time_ms, time_ms, 0)
    }

    pub fn range(expr: &'q Expr, start_ms: i64, end_ms: i64, step_ms: i64) -> Query<'q> {
        Query {
            expr,
            start_ms,
            end_ms,
            step_ms,
            lookback_ms: DEFAULT_LOOKBACK_MS,
            subquery_step_ms: DEFAULT_SUBQUERY_STEP_MS,
            features: Features::default(),
            counts_samples: false,
        }
    }

    fn is_instant(&self) -> bool {
        self.step_ms == 0
    }
}

/// What a query may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits<'l> {
    /// Samples held in memory at once, a native histogram counting as several; 16 bytes each and less.
    pub max_samples: usize,
    pub deadline: Option<Instant>,
    /// Set by whoever no longer wants the answer.
    pub cancel: Option<&'l AtomicBool>,
}

impl Default for Limits<'_> {
    fn default() -> Self {
        Limits { max_samples: 50_000_000, deadline: None, cancel: None }
    }
}

/// What a query took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Of each step; empty unless the query counts samples.
    pub steps: Vec<StepSamples>,
    /// The most samples held at once.
    pub peak_samples: usize,
}

/// A result with what goes along with it.
#[derive(Debug, Clone)]
pub struct Evaluation {
    pub value: Value,
    pub annotations: Annotations,
    pub stats: Stats,
}

/// Why a query has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    #[error("query timed out in expression evaluation")]
    Timeout,
    #[error("query was canceled in expression evaluation")]
    Canceled,
    #[error("query processing would load too many samples into memory in query execution")]
    TooManySamples { limit: usize },
    /// The query makes no sense for the data: labels that do not match one to one, and the like.
    #[error("{0}")]
    Execution(String),
    #[error("expanding series: {0}")]
    Source(#[from] SourceError),
}

impl EvalError {
    fn execution(message: impl Into<String>) -> EvalError {
        EvalError::Execution(message.into())
    }
}

pub(crate) type Result<T, E = EvalError> = std::result::Result<T, E>;

/// Generous: a build without optimisation needs a good half of it.
const STACK_BYTES_PER_LEVEL: usize = 16 << 10;
const LEAST_STACK_BYTES: usize = 128 << 10;

/// Evaluates a query. Blocks for as long as it takes, within the limits.
pub fn evaluate(query: &Query<'_>, source: &dyn SeriesSource, limits: &Limits<'_>) -> Result<Evaluation> {
    let evaluator = Evaluator::new(query, source, limits, Arc::default());
    let value = on_deep_stack(query.expr, || evaluator.run())?;
    let annotations = evaluator.notebook.into_inner().finish();
    let stats = Stats {
        steps: evaluator.tally.into_inner().map(Tally::into_steps).unwrap_or_default(),
        peak_samples: evaluator.peak_samples.get(),
    };
    Ok(Evaluation { value, annotations, stats })
}

/// Evaluates `expr` where there is room: down the expression, and up again through the chain of those who take series.
fn on_deep_stack<R>(expr: &Expr, evaluate: impl FnOnce() -> R) -> R {
    let stack_bytes = LEAST_STACK_BYTES + usize::from(expr.depth) * STACK_BYTES_PER_LEVEL;
    stacker::maybe_grow(stack_bytes, stack_bytes, evaluate)
}

/// Checks of whether a query is still wanted, of which one looks at the clock.
const CHECKS_A_LOOK: u32 = 32;

pub(crate) struct Evaluator<'e> {
    query: &'e Query<'e>,
    source: &'e dyn SeriesSource,
    limits: &'e Limits<'e>,
    notebook: RefCell<Notebook>,
    visible: RefCell<Visible>,
    checks: StdCell<u32>,
    /// Samples held in memory now, by all threads.
    held: Arc<AtomicUsize>,
    /// What is looked at of native histograms.
    histogram_use: StdCell<HistogramUse>,
    /// Whether anything in the query has an `@`.
    has_pinned: bool,
    peak_samples: StdCell<usize>,
    /// Of the steps that are evaluated, if samples are counted.
    tally: RefCell<Option<Tally>>,
}

/// Takes a series; may take the row's contents with it.
type Sink<'s> = dyn FnMut(&Metric, &mut Row) -> Result<()> + 's;

impl<'e> Evaluator<'e> {
    fn new(
        query: &'e Query<'e>,
        source: &'e dyn SeriesSource,
        limits: &'e Limits<'e>,
        held: Arc<AtomicUsize>,
    ) -> Evaluator<'e> {
        Evaluator {
            query,
            source,
            limits,
            notebook: RefCell::default(),
            visible: RefCell::default(),
            checks: StdCell::new(0),
            held,
            histogram_use: StdCell::default(),
            has_pinned: invariant::has_pinned(query.expr),
            peak_samples: StdCell::default(),
            tally: RefCell::default(),
        }
    }
}

/// What is looked at of native histograms in the part of a query that is evaluated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum HistogramUse {
    #[default]
    All,
    /// Totals alone. Prometheus then reads totals alone, and finds out while reading whether histograms of unknown reset
    /// hint follow a reset; warnings about contradicting resets depend on it.
    Totals,
    /// Buckets, whatever functions there are further inside.
    Buckets,
}

impl Evaluator<'_> {
    /// Evaluates a part of which totals of native histograms, or their buckets, are looked at.
    fn using<R>(&self, wanted: HistogramUse, evaluate: impl FnOnce() -> R) -> R {
        let before = self.histogram_use.get();
        if before != HistogramUse::Buckets {
            self.histogram_use.set(wanted);
        }
        let result = evaluate();
        self.histogram_use.set(before);
        result
    }

    /// The frame of the whole query.
    fn frame(&self) -> Frame {
        Frame { start_ms: self.query.start_ms, end_ms: self.query.end_ms, step_ms: self.query.step_ms.max(1) }
    }

    fn note(&self, note: &Note<'_>, at: Position) {
        self.notebook.borrow_mut().add(note, at);
    }

    /// The metric name as notes show it: none where it no longer holds.
    fn name_of<'m>(&self, metric: &'m Metric) -> &'m str {
        if metric.drop_name && self.drops_names_at_once() { "" } else { metric.labels.metric_name() }
    }

    /// Fails if the query is no longer wanted or has run for too long. Called per series.
    fn check_alive(&self) -> Result<()> {
        if self.limits.cancel.is_some_and(|cancel| cancel.load(Ordering::Relaxed)) {
            return Err(EvalError::Canceled);
        }
        // The clock is not asked for every series.
        self.checks.set(self.checks.get().wrapping_add(1));
        let is_due = self.checks.get() % CHECKS_A_LOOK == 1;
        if is_due && self.limits.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(EvalError::Timeout);
        }
        Ok(())
    }

    /// Counts samples that are held from now on.
    fn hold(&self, samples: usize) -> Result<()> {
        let held = self.held.fetch_add(samples, Ordering::Relaxed).saturating_add(samples);
        if held > self.limits.max_samples {
            return Err(EvalError::TooManySamples { limit: self.limits.max_samples });
        }
        self.peak_samples.set(self.peak_samples.get().max(held));
        Ok(())
    }

    fn release(&self, series: &[Series]) {
        self.let_go(series.iter().map(|series| series.row.size()).sum());
    }

    fn let_go(&self, samples: usize) {
        // Never below nothing, which would be more than any limit.
        let less = |held: usize| Some(held.saturating_sub(samples));
        let _ = self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// Fails before a frame's rows are allocated if not even one of them fits.
    fn check_frame(&self, frame: Frame) -> Result<()> {
        if frame.steps() > self.limits.max_samples {
            return Err(EvalError::TooManySamples { limit: self.limits.max_samples });
        }
        Ok(())
    }

    /// All series of an instant-vector expression.
    fn vector(&self, expr: &Expr, frame: Frame) -> Result<Vec<Series>> {
        let mut all = Vec::new();
        self.stream(expr, frame, &mut |metric, row| {
            self.hold(row.size())?;
            all.push(Series { metric: metric.clone(), row: std::mem::take(row) });
            Ok(())
        })?;
        Ok(all)
    }

    /// Hands the series of an instant-vector expression to `sink`, one by one, none without a sample.
    fn stream(&self, expr: &Expr, frame: Frame, sink: &mut Sink<'_>) -> Result<()> {
        self.check_frame(frame)?;
        if self.is_worth_repeating(expr, frame) {
            return self.repeated(expr, frame, sink);
        }
        match &expr.kind {
            ExprKind::Paren(inner) => self.stream(inner, frame, sink),
            ExprKind::Selector(selector) => self.selector(selector, expr.at, frame, sink),
            ExprKind::Unary { negate: false, operand } => self.stream(operand, frame, sink),
            ExprKind::Unary { negate: true, operand } => self.negated(operand, frame, sink),
            ExprKind::Aggregate(aggregate) => self.aggregate(aggregate, expr.at, frame, sink),
            ExprKind::Binary(binary) if matches!(binary.op, BinaryOp::TrimUpper | BinaryOp::TrimLower) => {
                self.using(HistogramUse::Buckets, || self.binary(binary, expr.at, frame, sink))
            }
            ExprKind::Binary(binary) => self.binary(binary, expr.at, frame, sink),
            ExprKind::Call { function, args } => self.call(function.name, args, expr.at, frame, sink),
            ExprKind::Number { .. } | ExprKind::Text(_) | ExprKind::Range { .. } | ExprKind::Subquery(_) => {
                Err(EvalError::execution(format!(
                    "expected instant vector, got {}",
                    expr.value_type().name()
                )))
            }
        }
    }

    fn negated(&self, operand: &Expr, frame: Frame, sink: &mut Sink<'_>) -> Result<()> {
        self.without_names(operand, frame, sink, &mut |metric, row, sink| {
            row.map(|_, cell| match cell {
                Cell::Absent => Cell::Absent,
                Cell::Float(value) => Cell::Float(-value),
                Cell::Histogram(histogram) => {
                    Cell::Histogram(std::sync::Arc::new(histogram.as_ref().clone().scaled(-1.0)))
                }
            });
            sink(metric, row)
        })
    }

    /// A scalar expression's value at each step.
    fn scalar(&self, expr: &Expr, frame: Frame) -> Result<Vec<f64>> {
        self.check_frame(frame)?;
        let steps = frame.steps();
        match &expr.kind {
            ExprKind::Number { value, .. } => Ok(vec![*value; steps]),
            ExprKind::Paren(inner) => self.scalar(inner, frame),
            ExprKind::Unary { negate, operand } => {
                let mut values = self.scalar(operand, frame)?;
                if *negate {
                    values.iter_mut().for_each(|value| *value = -*value);
                }
                Ok(values)
            }
            ExprKind::Binary(binary) => {
                let mut left = self.scalar(&binary.left, frame)?;
                let right = self.scalar(&binary.right, frame)?;
                for (left, right) in left.iter_mut().zip(right) {
                    *left = elements::scalar_operation(binary.op, *left, right);
                }
                Ok(left)
            }
            ExprKind::Call { function, args } => self.scalar_call(function.name, args, frame),
            _ => Err(EvalError::execution(format!("expected scalar, got {}", expr.value_type().name()))),
        }
    }

    /// A string literal argument; the type check leaves nothing else here.
    fn text<'x>(&self, expr: &'x Expr) -> Result<&'x str> {
        match &expr.unwrap_parens().kind {
            ExprKind::Text(text) => Ok(text),
            _ => Err(EvalError::execution("expected a string literal")),
        }
    }

    /// The top: evaluates the query's expression by its type.
    fn run(&self) -> Result<Value> {
        self.check_alive()?;
        let expr = self.query.expr;
        self.check_frame(self.frame())?;
        self.tally.replace(self.query.counts_samples.then(|| Tally::new(self.frame())));
        match (expr.value_type(), self.query.is_instant()) {
            (ValueType::Scalar, _) => self.finish_scalar(self.scalar(expr, self.frame())?),
            (ValueType::String, true) => {
                Ok(Value::Text { time_ms: self.query.start_ms, text: self.text(expr)?.to_owned() })
            }
            (ValueType::InstantVector, _) => self.finish_vector(self.vector(expr, self.frame())?),
            (ValueType::RangeVector, true) => self.finish_range_vector(expr),
            (ValueType::String | ValueType::RangeVector, false) => {
                let message = format!(
                    "invalid expression type {:?} for range query, must be Scalar or instant Vector",
                    expr.value_type().name()
                );
                Err(EvalError::execution(message))
            }
        }
    }

    fn select(
        &self,
        request: &SelectRequest<'_>,
        visit: &mut dyn FnMut(&Metric, crate::source::Samples<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut outcome = Ok(());
        self.source.select(request, &mut |labels, samples| {
            let samples = samples.between(request.after_ms, request.until_ms);
            let metric = Metric { labels: labels.clone(), drop_name: false };
            outcome = self.check_alive().and_then(|()| {
                if self.histogram_use.get() != HistogramUse::Totals || samples.histograms.is_empty() {
                    return visit(&metric, samples);
                }
                let histograms = range::with_found_resets(samples.histograms);
                visit(&metric, crate::source::Samples { histograms: &histograms, ..samples })
            });
            match outcome {
                Ok(()) => std::ops::ControlFlow::Continue(()),
                Err(_) => std::ops::ControlFlow::Break(()),
            }
        })?;
        outcome
    }
}
