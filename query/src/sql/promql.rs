//! `promql('sum by (app) (rate(m[5m]))', start, end, step)`: a query's result as rows.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use datafusion::{
    catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider},
    common::{Result, ScalarValue},
    datasource::MemTable,
    error::DataFusionError,
    logical_expr::Expr,
};
use pharos_model::{Labels, UnixNanos, parse_duration_ms};
use pharos_promql::{
    EvalError, Features, Histogram, Limits, Query, SampleValue, Value, evaluate, parse_with,
};
use pharos_storage::Storage;
use tokio::runtime::Handle;

use super::series_rows::{Column, SeriesRows, batch_of, schema_of};
use crate::prometheus::{MAX_POINTS, StorageSource, parse_time_ms};

/// Evaluates a query when the SQL around it is planned, since its labels are the table's columns.
#[derive(Clone)]
pub(super) struct PromqlFunction {
    pub(super) storage: Storage,
    pub(super) runtime: Handle,
    pub(super) cancel: Arc<AtomicBool>,
    pub(super) limits: PromqlLimits,
}

/// What one query may say and take.
#[derive(Clone, Copy, Debug)]
pub(super) struct PromqlLimits {
    pub(super) features: Features,
    pub(super) lookback_ms: i64,
    pub(super) max_samples: usize,
    pub(super) max_series: usize,
    pub(super) timeout: Duration,
}

impl fmt::Debug for PromqlFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("promql")
    }
}

/// The labels of a series, its floats and its native histograms.
type SeriesOf = (Labels, Vec<(i64, f64)>, Vec<(i64, Arc<Histogram>)>);

const USAGE: &str = "promql takes ('query'), ('query', time) or ('query', start, end, step); times are timestamps, \
                     RFC 3339 or unix seconds, a step is '30s', seconds or an interval";

impl TableFunctionImpl for PromqlFunction {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        let literals: Option<Vec<&ScalarValue>> = args
            .exprs()
            .iter()
            .map(|expr| match expr {
                Expr::Literal(value, _) => Some(value),
                _ => None,
            })
            .collect();
        let literals = literals.ok_or_else(|| plan(USAGE))?;
        let (text, times) = match literals.as_slice() {
            [ScalarValue::Utf8(Some(text))] => {
                let now_ms = UnixNanos::now().millis();
                (text, (now_ms, now_ms, 0))
            }
            [ScalarValue::Utf8(Some(text)), time] => {
                let time_ms = time_of("time", time)?;
                (text, (time_ms, time_ms, 0))
            }
            [ScalarValue::Utf8(Some(text)), start, end, step] => {
                (text, (time_of("start", start)?, time_of("end", end)?, step_of(step)?))
            }
            _ => return Err(plan(USAGE)),
        };
        let (start_ms, end_ms, step_ms) = times;
        if end_ms < start_ms {
            return Err(plan("promql: the end lies before the start"));
        }
        if step_ms > 0 && (end_ms - start_ms) / step_ms > MAX_POINTS {
            return Err(plan(&format!("promql: more than {MAX_POINTS} steps")));
        }
        self.rows(text, times)
    }
}

impl PromqlFunction {
    fn rows(&self, text: &str, times: (i64, i64, i64)) -> Result<Arc<dyn TableProvider>> {
        // Reading blocks on the runtime, which a thread that works for it already may not.
        let value = std::thread::scope(|scope| scope.spawn(|| self.evaluate(text, times)).join())
            .map_err(|_| DataFusionError::Internal("the evaluation broke off".into()))??;
        let mut series: Vec<SeriesOf> = Vec::new();
        match value {
            Value::Scalar { time_ms, value } => {
                series.push((Labels::empty(), vec![(time_ms, value)], Vec::new()));
            }
            Value::Text { .. } => return Err(plan("promql: a text is no table")),
            Value::Vector(samples) => {
                for sample in samples {
                    let (floats, histograms) = match sample.value {
                        SampleValue::Float(value) => (vec![(sample.time_ms, value)], Vec::new()),
                        SampleValue::Histogram(histogram) => (Vec::new(), vec![(sample.time_ms, histogram)]),
                    };
                    series.push((sample.labels, floats, histograms));
                }
            }
            Value::Matrix(matrix) => {
                series.extend(matrix.into_iter().map(|one| (one.labels, one.floats, one.histograms)));
            }
        }
        let names: BTreeSet<String> =
            series.iter().flat_map(|(labels, ..)| labels.iter().map(|(name, _)| name.to_string())).collect();
        let columns = Column::all(names);
        let schema = schema_of(&columns);
        let rows: Vec<SeriesRows<'_>> = series
            .iter_mut()
            .map(|(labels, floats, histograms)| {
                let (times_ms, values) = std::mem::take(floats).into_iter().unzip();
                SeriesRows { labels, times_ms, values, histograms: std::mem::take(histograms) }
            })
            .collect();
        let batch = batch_of(&columns, &schema, &rows)?;
        Ok(Arc::new(MemTable::try_new(schema, vec![vec![batch]])?))
    }

    fn evaluate(&self, text: &str, (start_ms, end_ms, step_ms): (i64, i64, i64)) -> Result<Value> {
        let PromqlLimits { features, lookback_ms, max_samples, max_series, timeout } = self.limits;
        let expr = parse_with(text, &features).map_err(|error| plan(&format!("promql: {error}")))?;
        let source =
            StorageSource::new(self.storage.clone(), self.runtime.clone(), max_series, self.cancel.clone());
        let query = Query { lookback_ms, features, ..Query::range(&expr, start_ms, end_ms, step_ms) };
        let deadline = Some(Instant::now() + timeout);
        let limits = Limits { max_samples, deadline, cancel: Some(&self.cancel) };
        let evaluated = evaluate(&query, &source, &limits).map_err(|error| match error {
            EvalError::Source(error) if !source.had_too_many_series() => {
                DataFusionError::External(Box::new(error))
            }
            error => plan(&format!("promql: {error}")),
        })?;
        Ok(evaluated.value)
    }
}

fn plan(message: &str) -> DataFusionError {
    DataFusionError::Plan(message.to_string())
}

fn time_of(name: &str, value: &ScalarValue) -> Result<i64> {
    let wrong = || plan(&format!("promql: {name} is {value}, which is no time. {USAGE}"));
    match value {
        ScalarValue::Utf8(Some(text)) => parse_time_ms(name, text).map_err(|_| wrong()),
        ScalarValue::Int64(Some(seconds)) => seconds.checked_mul(1_000).ok_or_else(wrong),
        ScalarValue::Float64(Some(seconds)) if seconds.abs() < 9.2e15 => Ok((seconds * 1e3).round() as i64),
        ScalarValue::TimestampSecond(Some(time), _) => time.checked_mul(1_000).ok_or_else(wrong),
        ScalarValue::TimestampMillisecond(Some(time), _) => Ok(*time),
        ScalarValue::TimestampMicrosecond(Some(time), _) => Ok(time.div_euclid(1_000)),
        ScalarValue::TimestampNanosecond(Some(time), _) => Ok(time.div_euclid(1_000_000)),
        _ => Err(wrong()),
    }
}

fn step_of(value: &ScalarValue) -> Result<i64> {
    let step_ms = match value {
        ScalarValue::Utf8(Some(text)) => match text.parse::<f64>() {
            Ok(seconds) => Some((seconds * 1e3) as i64),
            Err(_) => parse_duration_ms(text).ok(),
        },
        ScalarValue::Int64(Some(seconds)) => seconds.checked_mul(1_000),
        ScalarValue::Float64(Some(seconds)) => Some((seconds * 1e3) as i64),
        ScalarValue::IntervalMonthDayNano(Some(span)) if span.months == 0 => i64::from(span.days)
            .checked_mul(86_400_000)
            .and_then(|days| days.checked_add(span.nanoseconds / 1_000_000)),
        ScalarValue::IntervalDayTime(Some(span)) => {
            Some(i64::from(span.days) * 86_400_000 + i64::from(span.milliseconds))
        }
        _ => None,
    };
    step_ms
        .filter(|step_ms| *step_ms > 0)
        .ok_or_else(|| plan(&format!("promql: the step is {value}, which is no duration above 0. {USAGE}")))
}
