//! Executes the commands of a file.

use std::collections::BTreeMap;
use std::sync::Arc;

use pharos_model::{Labels, METRIC_NAME};
use pharos_promql::{
    Buckets, CUSTOM_SCHEMA, EvalError, Evaluation, Expr, Features, Histogram, HistogramSample, Limits,
    MemorySeries, MemorySource, Query, ResetHint, evaluate, parse_with,
};

use crate::check;
use crate::points::Point;
use crate::rerun;
use crate::script::{Command, Eval, LoadedSeries, parse};

pub(crate) struct Report {
    pub evals: usize,
    pub failures: Vec<String>,
}

pub(crate) fn run_file(text: &str) -> Report {
    let mut report = Report { evals: 0, failures: Vec::new() };
    let mut store = Store::default();
    for (line, command) in parse(text) {
        match command {
            Err(error) => report.failures.push(format!("{line}: {error}")),
            Ok(Command::Clear) => store = Store::default(),
            Ok(Command::Load { step_ms, with_nhcb, series }) => store.load(step_ms, with_nhcb, series),
            Ok(Command::Eval(eval)) => {
                report.evals += 1;
                if let Err(error) = run_eval(&store.source(), &eval) {
                    report.failures.push(format!("{line}: {}\n    {error}", eval.expr));
                }
            }
        }
    }
    report
}

/// Runs an expression; a text that is no query fails like a query that has no result.
pub(crate) fn execute(
    source: &MemorySource,
    expr: &Result<Expr, String>,
    start_ms: i64,
    end_ms: i64,
    step_ms: i64,
) -> Result<Evaluation, String> {
    let expr = expr.as_ref().map_err(Clone::clone)?;
    let query = Query { features: Features::ALL, ..Query::range(expr, start_ms, end_ms, step_ms) };
    // Histograms count by their buckets, and rows by their steps: more than the reference counts.
    let limits = Limits { max_samples: 1_000_000, ..Limits::default() };
    evaluate(&query, source, &limits).map_err(|error: EvalError| error.to_string())
}

fn run_eval(source: &MemorySource, eval: &Eval) -> Result<(), String> {
    let expr = parse_with(&eval.expr, &Features::ALL).map_err(|error| error.to_string());
    let outcome = execute(source, &expr, eval.start_ms, eval.end_ms, eval.step_ms);
    if let Some(expected) = &eval.fails {
        return match outcome {
            Ok(evaluation) => Err(format!("expected a failure, got {:?}", evaluation.value)),
            Err(error) if expected.matches(&error) => Ok(()),
            Err(error) => Err(format!("expected failure {expected:?}, got: {error}")),
        };
    }
    let evaluation = outcome.map_err(|error| format!("failed: {error}"))?;
    check::annotations("warning", &eval.warnings, &evaluation.annotations.warnings)?;
    check::annotations("info", &eval.infos, &evaluation.annotations.infos)?;
    check::value(eval, &evaluation.value)?;
    match expr {
        Ok(expr) if eval.is_instant() => rerun::check(source, eval, &expr),
        _ => Ok(()),
    }
}

/// The samples of all loads since the last `clear`.
#[derive(Default)]
struct Store {
    series: BTreeMap<Labels, BTreeMap<i64, (Point, i64)>>,
}

impl Store {
    fn load(&mut self, step_ms: i64, with_nhcb: bool, all: Vec<LoadedSeries>) {
        // Of a series that is listed twice in a load the later one counts.
        let mut loaded: BTreeMap<Labels, BTreeMap<i64, (Point, i64)>> = BTreeMap::new();
        for series in all {
            let mut samples = BTreeMap::new();
            for (at, point) in series.points.into_iter().enumerate() {
                let time_ms = at as i64 * step_ms;
                let start_ms = series.starts.get(at).copied().flatten().map_or(0, |start| time_ms + start);
                if !matches!(point, Point::None) {
                    samples.insert(time_ms, (point, start_ms));
                }
            }
            loaded.insert(series.labels, samples);
        }
        if with_nhcb {
            loaded.extend(custom_bucket_histograms(&loaded));
        }
        for (labels, samples) in loaded {
            self.series.entry(labels).or_default().extend(samples);
        }
    }

    fn source(&self) -> MemorySource {
        let mut source = MemorySource::new();
        for (labels, samples) in &self.series {
            source.insert(labels.clone(), columns(samples));
        }
        source
    }
}

fn columns(samples: &BTreeMap<i64, (Point, i64)>) -> MemorySeries {
    let mut series = MemorySeries::default();
    let any_start = samples.values().any(|(_, start_ms)| *start_ms != 0);
    let mut previous: Option<Arc<Histogram>> = None;
    for (time_ms, (point, start_ms)) in samples {
        match point {
            Point::None => {}
            Point::Float(value) => {
                series.times_ms.push(*time_ms);
                series.values.push(*value);
                if any_start {
                    series.starts_ms.push(*start_ms);
                }
            }
            Point::Histogram { value, .. } => {
                let value = Arc::new(with_stored_hint(value, previous.as_deref()));
                previous = Some(Arc::clone(&value));
                series.histograms.push(HistogramSample { time_ms: *time_ms, start_ms: *start_ms, value });
            }
        }
    }
    series
}

/// A store knows of each counter histogram whether it was reset: what is unknown on arrival is found out by
/// comparison with the sample before.
fn with_stored_hint(value: &Histogram, previous: Option<&Histogram>) -> Histogram {
    let mut value = value.clone();
    let Some(previous) = previous.filter(|previous| previous.reset_hint != ResetHint::Gauge) else {
        if value.reset_hint == ResetHint::NotReset {
            value.reset_hint = ResetHint::Unknown;
        }
        return value;
    };
    if matches!(value.reset_hint, ResetHint::Gauge | ResetHint::Reset) {
        return value;
    }
    let same_layout = value.schema == previous.schema
        && value.zero_threshold == previous.zero_threshold
        && value.custom_bounds == previous.custom_bounds;
    let count_in = |buckets: &Buckets, index: i32| {
        buckets.0.iter().find(|(known, _)| *known == index).map_or(0.0, |(_, count)| *count)
    };
    let shrank = |now: &Buckets, before: &Buckets| {
        before.0.iter().any(|(index, count)| count_in(now, *index) < *count)
    };
    // Behind a reset, Prometheus' own store forgets what it found out.
    let reset = !same_layout
        || value.count < previous.count
        || value.zero_count < previous.zero_count
        || shrank(&value.positive, &previous.positive)
        || shrank(&value.negative, &previous.negative);
    value.reset_hint = if reset { ResetHint::Unknown } else { ResetHint::NotReset };
    value
}

/// One series per classic histogram, with a custom-bucket histogram at each time.
fn custom_bucket_histograms(
    loaded: &BTreeMap<Labels, BTreeMap<i64, (Point, i64)>>,
) -> BTreeMap<Labels, BTreeMap<i64, (Point, i64)>> {
    #[derive(Default)]
    struct Parts {
        buckets: Vec<(f64, f64)>,
        count: Option<f64>,
        sum: f64,
    }
    let mut parts: BTreeMap<Labels, BTreeMap<i64, Parts>> = BTreeMap::new();
    for (labels, samples) in loaded {
        let name = labels.metric_name();
        let known = ["_bucket", "_count", "_sum"]
            .iter()
            .find_map(|suffix| Some((*suffix, name.strip_suffix(suffix)?)));
        let Some((suffix, base)) = known else { continue };
        let le = crate::script::parse_number(labels.get("le"));
        if suffix == "_bucket" && le.is_none() {
            continue;
        }
        let mut own = labels.without(&["le"]);
        own.set(METRIC_NAME, base);
        for (time_ms, (point, _)) in samples {
            let Point::Float(value) = point else { continue };
            let parts = parts.entry(own.clone()).or_default().entry(*time_ms).or_default();
            match (suffix, le) {
                ("_bucket", Some(le)) => parts.buckets.push((le, *value)),
                ("_count", _) => parts.count = Some(*value),
                _ => parts.sum = *value,
            }
        }
    }
    parts.retain(|_, times| times.values().any(|parts| !parts.buckets.is_empty()));
    let histogram = |mut parts: Parts| {
        parts.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        let highest = parts.buckets.last().copied();
        let count = parts.count.or(highest.map(|(_, count)| count)).unwrap_or(0.0);
        if highest.is_none_or(|(le, _)| le != f64::INFINITY) {
            parts.buckets.push((f64::INFINITY, count));
        }
        let mut below = 0.0;
        let counts: Vec<f64> =
            parts.buckets.iter().map(|(_, upto)| upto - std::mem::replace(&mut below, *upto)).collect();
        let bounds: Vec<f64> = parts.buckets.iter().map(|(le, _)| *le).filter(|le| le.is_finite()).collect();
        let positive = Buckets::dense(0, counts);
        Histogram {
            schema: CUSTOM_SCHEMA,
            count,
            sum: parts.sum,
            positive,
            custom_bounds: bounds.into(),
            ..Histogram::default()
        }
    };
    let points = |times: BTreeMap<i64, Parts>| {
        times
            .into_iter()
            .map(|(time_ms, parts)| {
                (time_ms, (Point::Histogram { value: Arc::new(histogram(parts)), with_hint: false }, 0))
            })
            .collect()
    };
    parts.into_iter().map(|(labels, times)| (labels, points(times))).collect()
}
