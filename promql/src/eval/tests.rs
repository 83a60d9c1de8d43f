use std::sync::atomic::AtomicBool;
use std::time::Instant;

use pharos_model::{Labels, Sample};

use super::{EvalError, Evaluation, Limits, Query, evaluate};
use crate::{Features, MAX_DEPTH, MemorySource, SampleValue, Value, parse_with};

/// `m{i="0"}` to `m{i="9"}`, counting up by 1 a second every 10 s for 10 minutes.
fn source() -> MemorySource {
    let mut source = MemorySource::new();
    for series in 0..10 {
        let labels = Labels::from_pairs([("__name__", "m".to_owned()), ("i", series.to_string())]);
        source.push(&labels, (0..=60).map(|at| Sample { time_ms: at * 10_000, value: at as f64 * 10.0 }));
    }
    source
}

fn run_with(query: &str, limits: &Limits<'_>, ask: impl Fn(&mut Query<'_>)) -> Result<Evaluation, EvalError> {
    let expr = parse_with(query, &Features::ALL).unwrap_or_else(|error| panic!("{query}: {error}"));
    let mut asked = Query::instant(&expr, 600_000);
    ask(&mut asked);
    evaluate(&asked, &source(), limits)
}

fn run(query: &str) -> Result<Evaluation, EvalError> {
    run_with(query, &Limits::default(), |_| {})
}

fn series_of(evaluation: &Evaluation) -> usize {
    match &evaluation.value {
        Value::Vector(samples) => samples.len(),
        Value::Matrix(series) => series.len(),
        Value::Scalar { .. } | Value::Text { .. } => 1,
    }
}

/// What the parser lets through, a thread with Rust's default stack evaluates.
#[test]
fn the_deepest_queries_are_evaluated() {
    let deep = usize::from(MAX_DEPTH) - 2;
    for (query, series) in [
        (format!("{}m{}", "abs(".repeat(deep), ")".repeat(deep)), 10),
        (format!("{}m{}", "sum(".repeat(deep), ")".repeat(deep)), 1),
        (format!("{}m{}", "(".repeat(deep), ")".repeat(deep)), 10),
        (format!("{}m{}", "-".repeat(deep), ""), 10),
        (format!("m{}", " or m".repeat(deep)), 10),
        (format!("m{}", " + 1".repeat(deep)), 10),
        (format!("m{}", " > 1".repeat(deep)), 10),
        (format!("1{}", " + 1".repeat(deep)), 1),
        (format!("{}m{}", "label_replace(".repeat(deep), ",\"a\",\"\",\"b\",\"\")".repeat(deep)), 10),
        (format!("{}m{}", "topk(3, ".repeat(deep), ")".repeat(deep)), 3),
        (format!("{}m{}", "max_over_time(".repeat(100), "[1m:30s])".repeat(100)), 10),
    ] {
        let start: String = query.chars().take(20).collect();
        let evaluation = run(&query).unwrap_or_else(|error| panic!("{start}…: {error}"));
        assert_eq!(series_of(&evaluation), series, "{start}…");
    }
}

#[test]
fn limits_stop_a_query() {
    let few = Limits { max_samples: 1000, ..Limits::default() };
    for query in ["m[1h:1ms]", "sum_over_time(m[1y:1ms])", "rate(m[1m:1ms])", "max_over_time(m[10m:1s])"] {
        let outcome = run_with(query, &few, |_| {});
        assert_eq!(outcome.err(), Some(EvalError::TooManySamples { limit: 1000 }), "{query}");
    }
    let long_range = |asked: &mut Query<'_>| {
        asked.start_ms = 0;
        asked.end_ms = i64::MAX;
        asked.step_ms = 1;
    };
    for query in ["m", "1", "vector(1)", "time()", "sum(m)", "absent(x)"] {
        let outcome = run_with(query, &Limits::default(), long_range);
        assert!(matches!(outcome, Err(EvalError::TooManySamples { .. })), "{query}");
    }
    // Groups are all that is held of an aggregated range.
    let range = |asked: &mut Query<'_>| {
        asked.start_ms = 0;
        asked.step_ms = 10_000;
        asked.counts_samples = true;
    };
    let evaluation = run_with("sum(rate(m[1m]))", &Limits { max_samples: 200, ..Limits::default() }, range);
    let read = |evaluation: Evaluation| evaluation.stats.steps.iter().map(|step| step.read).sum::<u64>();
    assert_eq!(evaluation.map(read), Ok(610));
}

/// What is let go is what was held: else a later part of the query would find the limit reached.
#[test]
fn parts_of_a_query_leave_nothing_behind() {
    let by_name = |asked: &mut Query<'_>| asked.features.delayed_name_removal = false;
    for query in [
        "sum(histogram_quantile(0.5, label_replace(m, \"le\", \"+Inf\", \"i\", \".*\")))",
        "stdvar(histogram_fraction(0, 1, label_replace(m, \"le\", \"+Inf\", \"i\", \"(.*)\")))",
        "topk(1, abs({__name__=~\"m\"}))",
        "sum(m or m) + sum(m and m) + sum(m unless m or m)",
        "count_values(\"v\", -{i!=\"\"}) + on () group_left () sum(sort(m))",
        "sum(max_over_time(abs({i!=\"\"})[5m:1m])) + sum(m * on (i) m)",
    ] {
        let outcome = run_with(query, &Limits::default(), by_name);
        assert!(outcome.is_ok(), "{query}: {:?}", outcome.err());
    }
}

#[test]
fn a_query_stops_when_it_is_cancelled_or_late() {
    let cancel = AtomicBool::new(true);
    let outcome = run_with("sum(m)", &Limits { cancel: Some(&cancel), ..Limits::default() }, |_| {});
    assert_eq!(outcome.err(), Some(EvalError::Canceled));
    let outcome = run_with("sum(m)", &Limits { deadline: Some(Instant::now()), ..Limits::default() }, |_| {});
    assert_eq!(outcome.err(), Some(EvalError::Timeout));
}

/// Times at the very ends do not overflow.
#[test]
fn extreme_times_are_harmless() {
    for query in [
        "m @ 9223372036854774",
        "m @ -9223372036854774 offset 200y",
        "rate(m[290y] offset -290y)",
        "predict_linear(m[5m] @ 600, 1e308)",
        "sum_over_time(m[5m:1m] @ -9223372036854774)",
        "m[5m] @ 9223372036854774",
        "timestamp(m @ -9223372036854774)",
        "year(vector(1e300))",
        "day_of_year(vector(-1e300))",
        "rate(m[5m] smoothed)",
        "m smoothed offset -290y",
        "absent_over_time(m[290y:290y])",
    ] {
        for time_ms in [i64::MIN, -1, 0, 600_000, i64::MAX] {
            let at = |asked: &mut Query<'_>| {
                asked.start_ms = time_ms;
                asked.end_ms = time_ms;
            };
            assert!(run_with(query, &Limits::default(), at).is_ok(), "{query} at {time_ms}");
        }
    }
}

#[test]
fn a_rate_of_an_unlikely_counter_carries_an_info() {
    let evaluation = run("rate(m[1m])").expect("a result");
    let infos: Vec<&String> = evaluation.annotations.infos.iter().collect();
    assert_eq!(
        infos,
        [
            "PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: \"m\" (1:6)"
        ]
    );
    let Value::Vector(samples) = evaluation.value else { panic!("not a vector") };
    assert!(
        samples
            .iter()
            .all(|sample| sample.value == SampleValue::Float(1.0) && !sample.labels.contains("__name__"))
    );
}

/// Without delayed name removal, two series that lose what tells them apart are an error at once.
#[test]
fn series_that_become_one_are_an_error() {
    let mut source = MemorySource::new();
    for name in ["a_total", "b_total"] {
        let labels = Labels::from_pairs([("__name__", name)]);
        source.push(&labels, (0..=6).map(|at| Sample { time_ms: at * 10_000, value: at as f64 }));
    }
    let run = |query: &str, features: Features| {
        let expr = parse_with(query, &features).unwrap_or_else(|error| panic!("{query}: {error}"));
        let asked = Query { features, ..Query::instant(&expr, 60_000) };
        evaluate(&asked, &source, &Limits::default())
    };
    let same = "vector cannot contain metrics with the same labelset";
    for query in [
        "rate({__name__=~\".+\"}[1m])",
        "sum(rate({__name__=~\".+\"}[1m]))",
        "-{__name__=~\".+\"}",
        "{__name__=~\".+\"} * 2",
        "timestamp({__name__=~\".+\"})",
        "label_replace({__name__=~\".+\"}, \"__name__\", \"x\", \"\", \"\")",
    ] {
        let error = run(query, Features::default()).expect_err(query);
        assert_eq!(error.to_string(), same, "{query}");
    }
    // Delayed, names still tell them apart inside the query.
    let evaluation = run("sum(rate({__name__=~\".+\"}[1m]))", Features::ALL).expect("a result");
    assert_eq!(series_of(&evaluation), 1);
    for query in ["{__name__=~\".+\"} > 1", "last_over_time({__name__=~\".+\"}[1m])", "rate(a_total[1m])"] {
        assert!(run(query, Features::default()).is_ok(), "{query}");
    }
}
