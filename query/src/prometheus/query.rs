//! `/api/v1/query` and `/api/v1/query_range`.

use std::time::{Duration, Instant};

use axum::response::Response;
use pharos_model::UnixNanos;
use pharos_promql::{
    EvalError, Evaluation, Expr, Features, Limits, Query, Stats, StepSamples, Value, ValueType, evaluate,
    parse_with,
};
use serde_json::json;
use tokio::runtime::Handle;

use super::{
    respond::{ApiError, Notes},
    result::query_result,
    source::StorageSource,
    times::{duration_ms, optional_time_ms, time_ms, write_time},
};
use crate::{Engine, engine::CancelOnDrop, params::Params};

/// Points a series may have.
pub(crate) const MAX_POINTS: i64 = 11_000;

pub(crate) async fn instant(engine: &Engine, params: &Params) -> Result<Response, ApiError> {
    let at = optional_time_ms(params, "time")?.unwrap_or_else(|| UnixNanos::now().millis());
    run(engine, params, Times { start_ms: at, end_ms: at, step_ms: 0 }).await
}

pub(crate) async fn range(engine: &Engine, params: &Params) -> Result<Response, ApiError> {
    let required = |name: &str, value: Option<i64>, kind: &str| {
        let message = || format!("invalid parameter {name:?}: cannot parse \"\" to a valid {kind}");
        value.ok_or_else(|| ApiError::bad_data(message()))
    };
    let start_ms = required("start", time_ms(params, "start")?, "timestamp")?;
    let end_ms = required("end", time_ms(params, "end")?, "timestamp")?;
    let step_ms = required("step", duration_ms(params, "step")?, "duration")?;
    if end_ms < start_ms {
        return Err(ApiError::bad_data(
            "invalid parameter \"end\": end timestamp must not be before start time",
        ));
    }
    if step_ms <= 0 {
        return Err(ApiError::bad_data(
            "invalid parameter \"step\": zero or negative query resolution step widths are not accepted. Try a positive integer",
        ));
    }
    if (end_ms - start_ms) / step_ms > MAX_POINTS {
        return Err(ApiError::bad_data(
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
        ));
    }
    run(engine, params, Times { start_ms, end_ms, step_ms }).await
}

#[derive(Clone, Copy)]
struct Times {
    start_ms: i64,
    end_ms: i64,
    step_ms: i64,
}

async fn run(engine: &Engine, params: &Params, times: Times) -> Result<Response, ApiError> {
    let began = Instant::now();
    let text = params.get("query").unwrap_or("");
    let features = engine.config().promql_features;
    let expr = parse_with(text, &features).map_err(|error| ApiError::of_parameter("query", &error))?;
    let kind = expr.value_type();
    if times.step_ms > 0 && !matches!(kind, ValueType::Scalar | ValueType::InstantVector) {
        return Err(ApiError::bad_data(format!(
            "invalid parameter \"query\": invalid expression type {:?} for range query, must be Scalar or instant Vector",
            kind.name()
        )));
    }
    let limit = result_limit(params)?;
    let config = engine.config();
    let timeout = match duration_ms(params, "timeout")? {
        Some(ms) if ms > 0 => Duration::from_millis(ms.unsigned_abs()).min(config.promql_timeout),
        _ => config.promql_timeout,
    };
    let lookback_ms = match duration_ms(params, "lookback_delta")? {
        Some(ms) if ms > 0 => ms,
        _ => i64::try_from(config.promql_lookback.as_millis()).unwrap_or(i64::MAX),
    };
    let deadline = began + timeout;
    let permit = tokio::time::timeout(timeout, engine.promql_permits().acquire_owned());
    let permit = permit
        .await
        .map_err(|_| ApiError::timeout("query timed out in expression queue"))?
        .map_err(ApiError::internal)?;
    let prepared = began.elapsed();
    let cancel = CancelOnDrop::default();
    let stats = params.text("stats").map(str::to_owned);
    let job = Job {
        source: StorageSource::new(
            engine.storage().clone(),
            Handle::current(),
            config.promql_max_series,
            cancel.flag(),
        ),
        expr,
        times,
        lookback_ms,
        features,
        max_samples: config.promql_max_samples,
        counts_samples: stats.is_some(),
        deadline,
    };
    let flag = cancel.flag();
    let work = move || {
        let Evaluation { value, annotations, stats: taken } = {
            let _permit = permit;
            job.evaluate(&flag)?
        };
        let (value, is_truncated) = truncated(value, limit);
        let mut notes = Notes {
            warnings: annotations.warnings.into_iter().collect(),
            infos: annotations.infos.into_iter().collect(),
        };
        notes.warnings.extend(Notes::truncated(is_truncated).warnings);
        if let Some(other) = stats.as_deref().filter(|asked| !matches!(*asked, "true" | "all")) {
            notes.warnings.push(format!(
                "value {other:?} for parameter \"stats\" is deprecated and will be rejected in the next major release, use \"true\" or \"all\""
            ));
        }
        let stats = stats.map(|asked| stats_json(&asked, times, began.elapsed(), prepared, &taken));
        Ok(query_result(value, &notes, stats))
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| ApiError::internal("the query's evaluation broke off"))?
}

type Count = fn(&StepSamples) -> u64;

/// `all` gives the counts of each step besides.
fn stats_json(asked: &str, times: Times, whole: Duration, waited: Duration, taken: &Stats) -> String {
    let (whole, waited) = (whole.as_secs_f64(), waited.as_secs_f64());
    let timings = json!({
        "evalTotalTime": whole - waited,
        "resultSortTime": 0,
        "queryPreparationTime": 0,
        "innerEvalTime": whole - waited,
        "execQueueTime": waited,
        "execTotalTime": whole,
    });
    let mut samples = String::new();
    let loaded = |step: &StepSamples| step.loaded;
    let read = |step: &StepSamples| step.read;
    for (name, count) in [("totalQueryableSamples", loaded as Count), ("samplesRead", read)] {
        if asked == "all" && !taken.steps.is_empty() {
            samples.push_str(&format!("\"{name}PerStep\":["));
            for (number, step) in (0..).zip(&taken.steps) {
                samples.push_str(if number == 0 { "[" } else { ",[" });
                write_time(&mut samples, times.start_ms + number * times.step_ms);
                samples.push_str(&format!(",{}]", count(step)));
            }
            samples.push_str("],");
        }
        let sum: u64 = taken.steps.iter().map(count).sum();
        samples.push_str(&format!("\"{name}\":{sum},"));
    }
    format!("{{\"timings\":{timings},\"samples\":{{{samples}\"peakSamples\":{}}}}}", taken.peak_samples)
}

struct Job {
    source: StorageSource,
    expr: Expr,
    times: Times,
    lookback_ms: i64,
    features: Features,
    max_samples: usize,
    counts_samples: bool,
    deadline: Instant,
}

impl Job {
    fn evaluate(&self, cancel: &std::sync::atomic::AtomicBool) -> Result<Evaluation, ApiError> {
        let Times { start_ms, end_ms, step_ms } = self.times;
        let query = Query {
            lookback_ms: self.lookback_ms,
            features: self.features,
            counts_samples: self.counts_samples,
            ..Query::range(&self.expr, start_ms, end_ms, step_ms)
        };
        let limits =
            Limits { max_samples: self.max_samples, deadline: Some(self.deadline), cancel: Some(cancel) };
        evaluate(&query, &self.source, &limits).map_err(|error| match error {
            EvalError::Source(_) if self.source.had_too_many_series() => ApiError::execution(error),
            error => error.into(),
        })
    }
}

/// 0 is no limit.
pub(crate) fn result_limit(params: &Params) -> Result<usize, ApiError> {
    match params.i64("limit")? {
        None | Some(0) => Ok(usize::MAX),
        Some(limit) => usize::try_from(limit)
            .map_err(|_| ApiError::bad_data("invalid parameter \"limit\": limit must be non-negative")),
    }
}

fn truncated(value: Value, limit: usize) -> (Value, bool) {
    match value {
        Value::Vector(mut samples) => {
            let is_more = samples.len() > limit;
            samples.truncate(limit);
            (Value::Vector(samples), is_more)
        }
        Value::Matrix(mut series) => {
            let is_more = series.len() > limit;
            series.truncate(limit);
            (Value::Matrix(series), is_more)
        }
        other => (other, false),
    }
}
