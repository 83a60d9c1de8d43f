//! Random queries over random data: none panics, and each has at an instant the value that it has there in a range.

use std::collections::BTreeMap;
use std::sync::Arc;

use pharos_model::{Labels, stale_nan};
use proptest::prelude::*;

use super::{Limits, Query, evaluate};
use crate::{
    Buckets, CUSTOM_SCHEMA, Features, Histogram, HistogramSample, MemorySeries, MemorySource, SampleValue,
    Value, functions, parse_with,
};
use crate::{ValueType, Variadic};

const STEP_MS: i64 = 10_000;
const SAMPLES: i64 = 30;

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        6 => (0u8..20).prop_map(f64::from),
        1 => Just(f64::NAN),
        1 => Just(f64::INFINITY),
        1 => Just(stale_nan()),
        1 => -1e300..1e300f64,
    ]
}

fn histogram() -> impl Strategy<Value = Histogram> {
    let counts = prop::collection::vec((0u8..5).prop_map(f64::from), 0..4);
    (counts, -2i32..3, 0u8..3, any::<bool>()).prop_map(|(counts, schema, zero, custom)| {
        let count = counts.iter().sum::<f64>();
        Histogram {
            schema: if custom { CUSTOM_SCHEMA } else { schema },
            count: if custom { count } else { count + f64::from(zero) },
            sum: count,
            zero_threshold: if custom { 0.0 } else { f64::from(zero) * 0.3 },
            zero_count: if custom { 0.0 } else { f64::from(zero) },
            custom_bounds: if custom {
                [1.0, 2.0 + f64::from(zero), 9.0].as_slice().into()
            } else {
                Arc::from([])
            },
            positive: Buckets::dense(0, counts),
            ..Histogram::default()
        }
    })
}

/// Some series of floats with gaps, with start times or without, and some of histograms.
fn source() -> impl Strategy<Value = MemorySource> {
    let floats =
        prop::collection::vec(prop::collection::vec(prop::option::of(value()), SAMPLES as usize), 1..5);
    let histograms =
        prop::collection::vec(prop::collection::vec(prop::option::of(histogram()), SAMPLES as usize), 0..3);
    (floats, histograms, any::<bool>()).prop_map(|(floats, histograms, with_starts)| {
        let mut source = MemorySource::new();
        for (index, values) in floats.into_iter().enumerate() {
            let mut series = MemorySeries::default();
            for (at, value) in values.into_iter().enumerate() {
                let Some(value) = value else { continue };
                series.times_ms.push(at as i64 * STEP_MS);
                series.values.push(value);
                if with_starts {
                    series.starts_ms.push((at as i64 - index as i64) * STEP_MS);
                }
            }
            let name = if index % 2 == 0 { "m" } else { "n_total" };
            let le = ["1", "2", "+Inf", "x"].get(index % 4).copied().unwrap_or("");
            source.insert(
                Labels::from_pairs([
                    ("__name__", name),
                    ("i", if index < 2 { "a" } else { "b" }),
                    ("le", le),
                ]),
                series,
            );
        }
        for (index, values) in histograms.into_iter().enumerate() {
            let samples = values.into_iter().enumerate().filter_map(|(at, value)| {
                let value = Arc::new(value?);
                Some(HistogramSample { time_ms: at as i64 * STEP_MS + 1, start_ms: 0, value })
            });
            let series = MemorySeries { histograms: samples.collect(), ..MemorySeries::default() };
            source
                .insert(Labels::from_pairs([("__name__", "m".to_owned()), ("h", index.to_string())]), series);
        }
        source
    })
}

/// A text of each type, by recursion; what the parser refuses is left out by the test.
fn expr(of: ValueType, depth: u32) -> BoxedStrategy<String> {
    let suffix = prop::sample::select(vec!["", "", "", " offset 20s", " @ 150", " offset -30s"]);
    let selector =
        prop::sample::select(vec!["m", "n_total", "{i=\"a\"}", "m{h=~\".+\"}", "{__name__=~\"m|n_total\"}"]);
    match of {
        ValueType::String => prop::sample::select(vec!["\"i\"", "\"le\"", "\"x\"", "\"$1\"", "\"(.*)\""])
            .prop_map(str::to_owned)
            .boxed(),
        ValueType::RangeVector => {
            let range = prop::sample::select(vec!["[30s]", "[1m]", "[45s] anchored", "[1m] smoothed"]);
            let plain = (selector, range, suffix.clone()).prop_map(|(s, r, x)| format!("{s}{r}{x}"));
            if depth == 0 {
                return plain.boxed();
            }
            let subquery = (expr(ValueType::InstantVector, depth - 1), suffix)
                .prop_map(|(inner, suffix)| format!("({inner})[40s:7s]{suffix}"));
            prop_oneof![3 => plain, 1 => subquery].boxed()
        }
        ValueType::Scalar => {
            let number =
                prop::sample::select(vec!["0", "1", "2", "-1", "0.5", "NaN", "Inf"]).prop_map(str::to_owned);
            if depth == 0 {
                return number.boxed();
            }
            let scalar =
                expr(ValueType::InstantVector, depth - 1).prop_map(|inner| format!("scalar({inner})"));
            prop_oneof![4 => number, 1 => scalar].boxed()
        }
        ValueType::InstantVector => {
            let plain = (selector, suffix).prop_map(|(s, x)| format!("{s}{x}"));
            if depth == 0 {
                return plain.boxed();
            }
            let vector = || expr(ValueType::InstantVector, depth - 1);
            let op = prop::sample::select(vec![
                "+",
                "-",
                "*",
                "/",
                "%",
                "^",
                "atan2",
                "==",
                "!=",
                "> bool",
                "<",
                "and",
                "or",
                "unless",
                "</",
                ">/",
                "* on(i) group_left",
                "+ on(i) group_right",
                "/ ignoring(le)",
                "+ on(i) fill(1)",
            ]);
            let binary = (vector(), op.clone(), vector()).prop_map(|(a, op, b)| format!("({a} {op} {b})"));
            let with_scalar = (vector(), op, expr(ValueType::Scalar, depth - 1))
                .prop_map(|(a, op, b)| format!("({a} {op} {b})"));
            // No limitk: it takes the first of its input, which topk and sort put in order in an instant query alone.
            let aggregate = prop::sample::select(vec![
                "sum(",
                "avg by (i)(",
                "min(",
                "max without (le)(",
                "count by (i)(",
                "group(",
                "stddev(",
                "stdvar(",
                "topk(2,",
                "bottomk by (i)(1,",
                "quantile(0.5,",
                "count_values(\"v\",",
                "limit_ratio(0.5,",
                "-(",
                "+(",
            ]);
            let aggregate = (aggregate, vector()).prop_map(|(head, inner)| format!("{head}{inner})"));
            let call = (0..functions().len()).prop_flat_map(move |index| call(index, depth - 1));
            prop_oneof![1 => plain, 2 => binary, 1 => with_scalar, 3 => aggregate, 5 => call].boxed()
        }
    }
}

fn call(index: usize, depth: u32) -> BoxedStrategy<String> {
    let Some(function) =
        functions().get(index).filter(|function| function.returns == ValueType::InstantVector)
    else {
        return Just("vector(1)".to_owned()).boxed();
    };
    let optional = match function.variadic {
        Variadic::Optional(count) => count,
        _ => 0,
    };
    let args: Vec<_> =
        function.args.iter().take(function.args.len() - optional.min(1)).map(|of| expr(*of, depth)).collect();
    args.prop_map(move |args| format!("{}({})", function.name, args.join(", "))).boxed()
}

/// The values of one step by labels, as bits so that NaN equals NaN.
fn at_step(value: &Value, time_ms: i64) -> Option<BTreeMap<Labels, String>> {
    let shown = |value: &SampleValue| match value {
        SampleValue::Float(value) if value.is_nan() => "NaN".to_owned(),
        SampleValue::Float(value) => format!("{value:?}"),
        SampleValue::Histogram(value) => value.to_string(),
    };
    match value {
        Value::Vector(samples) => {
            Some(samples.iter().map(|sample| (sample.labels.clone(), shown(&sample.value))).collect())
        }
        Value::Matrix(all) => Some(
            all.iter()
                .filter_map(|series| {
                    let float = series
                        .floats
                        .iter()
                        .find(|(at, _)| *at == time_ms)
                        .map(|(_, value)| SampleValue::Float(*value));
                    let histogram = series.histograms.iter().find(|(at, _)| *at == time_ms);
                    let histogram = histogram.map(|(_, value)| SampleValue::Histogram(Arc::clone(value)));
                    Some((series.labels.clone(), shown(&float.or(histogram)?)))
                })
                .collect(),
        ),
        Value::Scalar { .. } | Value::Text { .. } => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, max_global_rejects: 100_000, ..ProptestConfig::default() })]

    #[test]
    fn an_instant_is_a_step_of_a_range(source in source(), text in expr(ValueType::InstantVector, 3), delayed in any::<bool>()) {
        let features = Features { delayed_name_removal: delayed, ..Features::ALL };
        let Ok(expr) = parse_with(&text, &features) else { return Ok(()) };
        let limits = Limits { max_samples: 200_000, ..Limits::default() };
        let run = |query: Query<'_>| evaluate(&Query { features, ..query }, &source, &limits);
        let time_ms = 200_000;
        let instant = run(Query::instant(&expr, time_ms));
        let range = run(Query::range(&expr, time_ms - 2 * STEP_MS, time_ms + STEP_MS, STEP_MS));
        // A range can fail where the instant does not, at another step.
        if let (Ok(instant), Ok(range)) = (instant, range) {
            prop_assert_eq!(at_step(&instant.value, time_ms), at_step(&range.value, time_ms), "{}", text);
        }
    }
}
