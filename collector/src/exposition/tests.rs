use pharos_model::MetricKind;
use pharos_proto::prometheus::exposition as proto;
use prost::Message;

use super::{Body, Entry, Format, HistogramForms, SampleValue, openmetrics_float, series_labels, unescape};
use crate::bench::conformance;

/// The entries as lines of text.
fn entries(text: &str, format: Format) -> Result<Vec<String>, String> {
    entries_of(text.as_bytes(), format, HistogramForms::default())
}

fn entries_of(body: &[u8], format: Format, forms: HistogramForms) -> Result<Vec<String>, String> {
    let body = Body::read(body, format).map_err(|error| error.to_string())?;
    let mut out = Vec::new();
    let parsed = body.parse(forms, |entry| {
        out.push(match entry {
            Entry::Help { family, text } => format!("help {family} {text}"),
            Entry::Type { family, kind } => format!("type {family} {}", kind.name()),
            Entry::Unit { family, unit } => format!("unit {family} {unit}"),
            Entry::Sample(sample) => {
                let labels: Vec<String> = series_labels(sample.series)?
                    .iter()
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect();
                let time = sample.time_ms.map(|ms| format!(" @{ms}")).unwrap_or_default();
                let exemplars = sample.exemplars.iter();
                let exemplars: String =
                    exemplars.map(|e| format!(" # {} {} {:?}", e.labels, e.value, e.time_ms)).collect();
                let value = match sample.value {
                    SampleValue::Float(value) => value.to_string(),
                    SampleValue::Histogram(histogram) => histogram.to_string(),
                };
                format!("{} {value}{time}{exemplars}", labels.join(","))
            }
        });
        Ok(())
    });
    parsed.map(|()| out).map_err(|error| error.to_string())
}

#[test]
fn text_lines() {
    for (line, expected) in [
        ("a 1", "__name__=a 1"),
        ("a{} 1", "__name__=a 1"),
        ("a{b=\"c\"} 1", "__name__=a,b=c 1"),
        ("  a { b = \"c\" , d=\"e\", } \t 2.5e3  ", "__name__=a,b=c,d=e 2500"),
        ("a:b_1{x=\"1\"}3", "__name__=a:b_1,x=1 3"),
        ("a{b=\"x}\\\"y{\\\\ \\n\\z\"} 1", "__name__=a,b=x}\"y{\\ \n\\z 1"),
        ("a{b=\"\"} NaN", "__name__=a,b= NaN"),
        ("a +Inf", "__name__=a inf"),
        ("a -Inf 17", "__name__=a -inf @17"),
        ("a 9007199254740993", "__name__=a 9007199254740992"),
        ("a -0.5", "__name__=a -0.5"),
        ("{\"my.name\",\"b.c\"=\"d\"} 1", "__name__=my.name,b.c=d 1"),
        ("{b=\"c\",\"my name\"} 1", "b=c,__name__=my name 1"),
        ("a{b=\"ü\"} 1", "__name__=a,b=ü 1"),
        ("# HELP a It is\\n so", "help a It is\\n so"),
        ("# TYPE a counter", "type a counter"),
        ("# TYPE a untyped", "type a unknown"),
        ("#\t HELP \t a  two  ", "help a  two  "),
        ("# HELP a", "help a "),
        ("# HELP a ", "help a "),
        // What ends a name need not be a space.
        ("# HELP a-b words", "help a b words"),
        // Quoted values go over lines, and commas are free.
        ("a{b=\"c\nd\"} 1", "__name__=a,b=c\nd 1"),
        ("a{b=\"c\" d=\"e\"} 1", "__name__=a,b=c,d=e 1"),
        ("# HELP \"my.name\" words", "help my.name words"),
    ] {
        assert_eq!(entries(line, Format::Text), Ok(vec![expected.to_string()]), "{line:?}");
    }
    let comments = "# a comment\n\n#\n   \n#TYPE a counter\n# HELP\n# TYPE\n# UNIT a s\n# EOF\n";
    assert_eq!(entries(comments, Format::Text), Ok(vec![]));
    assert_eq!(unescape("a\\nb\\\\c"), "a\nb\\c");
}

#[test]
fn openmetrics_lines() {
    for (line, expected) in [
        ("a_total 1 1.5", "__name__=a_total 1 @1500"),
        (
            "a_bucket{le=\"1\"} 3 # {t=\"x # y\"} 0.5 2",
            "__name__=a_bucket,le=1 3 # {t=\"x # y\"} 0.5 Some(2000)",
        ),
        ("a_total{b=\"c\"} 3 7 # {} 1", "__name__=a_total,b=c 3 @7000 # {} 1 None"),
        ("# UNIT a_seconds seconds", "unit a_seconds seconds"),
        ("# TYPE a info", "type a info"),
    ] {
        assert_eq!(
            entries(&format!("{line}\n# EOF\n"), Format::OpenMetrics),
            Ok(vec![expected.to_string()]),
            "{line:?}"
        );
    }
}

#[test]
fn faults_are_named_with_their_line() {
    for (text, format, words) in [
        ("a 1\nb", Format::Text, "line 2: series \"b\" has no value"),
        ("a one", Format::Text, "\"one\" is no value"),
        ("a 1 soon", Format::Text, "\"soon\" is no timestamp"),
        ("a 1 1.5", Format::Text, "no timestamp"),
        ("a{b=\"c\" 1", Format::Text, "do not end"),
        ("a{b=\"c} 1", Format::Text, "do not end"),
        ("a{b=c} 1", Format::Text, "not quoted"),
        ("a{b} 1", Format::Text, "no value"),
        ("a{=\"c\"} 1", Format::Text, "no label name"),
        ("{\"a\"b=\"c\"} 1", Format::Text, "has no value"),
        ("a{b=\"c\"\n} 1", Format::Text, "do not end"),
        ("a{b=\"c\\\nd\"} 1", Format::Text, "do not end"),
        ("a{b=\"c\nd\"} 1\nb", Format::Text, "line 3: series \"b\" has no value"),
        ("a{b=\"c\"d=\"e\"} 1\n# EOF", Format::OpenMetrics, "do not end"),
        ("a{b=\"c\nd\"} 1\n# EOF", Format::OpenMetrics, "do not end"),
        ("a{b=\"c\", d=\"e\"} 1\n# EOF", Format::OpenMetrics, "do not end"),
        ("a {b=\"c\"} 1\n# EOF", Format::OpenMetrics, "is no value"),
        ("a 1  2\n# EOF", Format::OpenMetrics, "no timestamp"),
        ("a 1 #  {} 1\n# EOF", Format::OpenMetrics, "no exemplar"),
        ("a 1 # {}  1\n# EOF", Format::OpenMetrics, "no value of an exemplar"),
        ("a 1 # {}\n# EOF", Format::OpenMetrics, "exemplar \"{}\" has no value"),
        ("# HELP a\n# EOF", Format::OpenMetrics, "has no text"),
        ("# HELP\n# EOF", Format::OpenMetrics, "neither HELP"),
        ("<html>", Format::Text, "no start of a series"),
        ("1a 1", Format::Text, "no start of a series"),
        ("é{b=\"c\"} 1", Format::Text, "no start of a series"),
        ("a.b 1", Format::Text, "no start of a series"),
        ("a\"} 1", Format::Text, "no start of a series"),
        ("a{b:c=\"d\"} 1", Format::Text, "no value"),
        ("a{1b=\"c\"} 1", Format::Text, "no label name"),
        ("a 1e400", Format::Text, "\"1e400\" is no value"),
        ("a 1 -1", Format::Text, "\"-1\" is no timestamp"),
        ("# TYPE a.b counter", Format::Text, "\"b counter\" is no metric type"),
        ("# TYPE a  counter", Format::Text, "\" counter\" is no metric type"),
        ("a 1\r\n", Format::Text, "no value"),
        ("# TYPE a thing", Format::Text, "\"thing\" is no metric type"),
        ("# TYPE ", Format::Text, "names no metric"),
        ("a 1", Format::OpenMetrics, "# EOF"),
        ("\n# EOF\n", Format::OpenMetrics, "line 1: an empty line"),
        (" a 1\n# EOF\n", Format::OpenMetrics, "no start of a series"),
        ("a  1\n# EOF\n", Format::OpenMetrics, "has no value"),
        ("a 1 \r\n# EOF\n", Format::OpenMetrics, "no timestamp"),
        ("a 1 NaN\n# EOF\n", Format::OpenMetrics, "no timestamp"),
        ("# a comment\n# EOF\n", Format::OpenMetrics, "neither HELP"),
        ("#EOF\n", Format::OpenMetrics, "neither HELP"),
        ("# TYPE a untyped\n# EOF\n", Format::OpenMetrics, "\"untyped\" is no metric type"),
        ("# TYPE a counter \n# EOF\n", Format::OpenMetrics, "\"counter \" is no metric type"),
        ("# UNIT a_seconds bytes\n# EOF\n", Format::OpenMetrics, "unit \"bytes\" is not a suffix"),
        ("# EOF\na 1", Format::OpenMetrics, "line 2: data follows # EOF"),
        ("a 1 # {b=\"c\" 1\n# EOF", Format::OpenMetrics, "no exemplar"),
        ("a 1 # {b=\"c\"} x\n# EOF", Format::OpenMetrics, "no value of an exemplar"),
    ] {
        let error = entries(text, format).unwrap_err();
        assert!(error.contains(words), "{text:?}: {error:?} does not say {words:?}");
    }
}

#[test]
fn floats_as_prometheus_writes_them_in_labels() {
    for (value, expected) in [
        (1.0, "1.0"),
        (0.0, "0.0"),
        (0.5, "0.5"),
        (-25.0, "-25.0"),
        (300_000.0, "300000.0"),
        (1e6, "1e+06"),
        (1_800_000.0, "1.8e+06"),
        (0.0001, "0.0001"),
        (0.00001, "1e-05"),
        (f64::INFINITY, "+Inf"),
    ] {
        assert_eq!(openmetrics_float(value), expected);
    }
}

fn delimited(families: &[proto::MetricFamily]) -> Vec<u8> {
    families.iter().flat_map(|family| family.encode_length_delimited_to_vec()).collect()
}

fn pair(name: &str, value: &str) -> proto::LabelPair {
    proto::LabelPair { name: name.into(), value: value.into() }
}

/// A histogram in both forms, with an exemplar in each.
fn histogram_family() -> proto::MetricFamily {
    let exemplar = |time_s: i64| proto::Exemplar {
        label: vec![pair("trace_id", "t")],
        value: 0.5,
        timestamp: Some(prost_types::Timestamp { seconds: time_s, nanos: 5_000_000 }),
    };
    let bucket = |upper_bound, cumulative_count, exemplar| proto::Bucket {
        upper_bound,
        cumulative_count,
        exemplar,
        ..proto::Bucket::default()
    };
    proto::MetricFamily {
        name: "h.x".into(),
        help: "How \\ long".into(),
        r#type: proto::MetricType::Histogram.into(),
        unit: "seconds".into(),
        metric: vec![proto::Metric {
            label: vec![pair("a", "b \"c\"\n")],
            histogram: Some(proto::Histogram {
                sample_count: 6,
                sample_sum: 8.5,
                bucket: vec![bucket(1.0, 2, Some(exemplar(7))), bucket(2.5, 5, None)],
                schema: 1,
                zero_threshold: 0.001,
                zero_count: 1,
                positive_span: vec![
                    proto::BucketSpan { offset: 0, length: 2 },
                    proto::BucketSpan { offset: 1, length: 1 },
                ],
                positive_delta: vec![1, 1, 0],
                exemplars: vec![exemplar(9)],
                ..proto::Histogram::default()
            }),
            timestamp_ms: 1234,
            ..proto::Metric::default()
        }],
    }
}

pub(crate) fn sample_families() -> Vec<u8> {
    delimited(&[histogram_family()])
}

#[test]
fn protobuf_families() {
    let head = ["help h.x How \\ long", "type h.x histogram", "unit h.x seconds"];
    let classic = [
        "__name__=h.x_count,a=b \"c\"\n 6 @1234",
        "__name__=h.x_sum,a=b \"c\"\n 8.5 @1234",
        "__name__=h.x_bucket,a=b \"c\"\n,le=1.0 2 @1234 # {\"trace_id\"=\"t\"} 0.5 Some(7005)",
        "__name__=h.x_bucket,a=b \"c\"\n,le=2.5 5 @1234",
        "__name__=h.x_bucket,a=b \"c\"\n,le=+Inf 6 @1234",
    ];
    let native = "__name__=h.x,a=b \"c\"\n {count:6 sum:8.5 schema:1 zero:1 [0]:1 [1]:2 [3]:2} @1234 # {\"trace_id\"=\"t\"} 0.5 Some(9005)";
    let body = delimited(&[histogram_family()]);
    for (native_forms, always_classic, expected) in [
        (false, false, [&head[..], &classic].concat()),
        (true, false, [&head[..], &[native]].concat()),
        (true, true, [&head[..], &[native], &classic].concat()),
    ] {
        let forms = HistogramForms { native: native_forms, always_classic };
        assert_eq!(entries_of(&body, Format::Protobuf, forms).unwrap(), expected);
    }
    let simple = |kind: proto::MetricType, metric: proto::Metric| proto::MetricFamily {
        name: "m".into(),
        r#type: kind.into(),
        metric: vec![metric],
        ..proto::MetricFamily::default()
    };
    let empty = proto::Metric::default;
    let quantile = |quantile, value| proto::Quantile { quantile, value };
    for (family, expected) in [
        (
            simple(
                proto::MetricType::Counter,
                proto::Metric {
                    counter: Some(proto::Counter { value: 3.0, ..Default::default() }),
                    ..empty()
                },
            ),
            vec!["help m ", "type m counter", "__name__=m 3"],
        ),
        (
            simple(
                proto::MetricType::Gauge,
                proto::Metric { gauge: Some(proto::Gauge { value: -1.5 }), ..empty() },
            ),
            vec!["help m ", "type m gauge", "__name__=m -1.5"],
        ),
        (
            simple(
                proto::MetricType::Untyped,
                proto::Metric { untyped: Some(proto::Untyped { value: f64::NAN }), ..empty() },
            ),
            vec!["help m ", "type m unknown", "__name__=m NaN"],
        ),
        (
            simple(
                proto::MetricType::Summary,
                proto::Metric {
                    summary: Some(proto::Summary {
                        sample_count: 2,
                        sample_sum: 3.0,
                        quantile: vec![quantile(0.5, 1.0), quantile(1.0, 2.0)],
                        created_timestamp: None,
                    }),
                    ..empty()
                },
            ),
            vec![
                "help m ",
                "type m summary",
                "__name__=m_count 2",
                "__name__=m_sum 3",
                "__name__=m,quantile=0.5 1",
                "__name__=m,quantile=1.0 2",
            ],
        ),
    ] {
        let got = entries_of(&delimited(&[family]), Format::Protobuf, HistogramForms::default()).unwrap();
        assert_eq!(got, expected);
    }
}

#[test]
fn bad_protobuf_is_named() {
    let whole = delimited(&[histogram_family()]);
    let native = HistogramForms { native: true, always_classic: false };
    let check = |body: &[u8], words: &str| {
        let error = entries_of(body, Format::Protobuf, native).unwrap_err();
        assert!(error.contains(words), "{error:?} does not say {words:?}");
    };
    check(&whole[..whole.len() - 3], "metric family 1");
    check(&[0xff; 20], "metric family 1");
    let changed = |change: fn(&mut proto::Histogram)| {
        let mut family = histogram_family();
        change(family.metric[0].histogram.as_mut().unwrap());
        delimited(&[family])
    };
    check(&changed(|histogram| histogram.sample_count = 7), "count of 7");
    check(&changed(|histogram| histogram.positive_delta.truncate(1)), "\"h.x\": native histogram: fewer");
    let mut family = histogram_family();
    family.set_type(proto::MetricType::Gauge);
    check(&delimited(&[family]), "no value of its type GAUGE");
}

/// Prometheus' own fixtures parse whole, whichever of them are there.
#[test]
fn prometheus_fixtures() {
    let Some(folder) = conformance("exposition") else { return };
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut read = 0;
    for path in files {
        let name = path.file_name().unwrap().to_str().unwrap().to_string();
        // OpenMetrics' end with their own mark, as the format asks.
        let Some(format) =
            name.ends_with(".txt").then(|| match name.contains(".om.") || name.starts_with("om") {
                true => Format::OpenMetrics,
                false => Format::Text,
            })
        else {
            continue;
        };
        let text = std::fs::read_to_string(&path).unwrap();
        let samples =
            text.lines().filter(|line| !line.trim_start().starts_with('#') && !line.trim().is_empty());
        let (samples, types) =
            (samples.count(), text.lines().filter(|line| line.starts_with("# TYPE ")).count());
        let (mut seen, mut typed) = (0, 0);
        let body = Body::read(text.as_bytes(), format).unwrap();
        let parsed = body.parse(HistogramForms::default(), |entry| {
            match entry {
                Entry::Sample(sample) => {
                    seen += 1;
                    assert!(series_labels(sample.series)?.iter().any(|(name, _)| name == "__name__"));
                }
                Entry::Type { kind, .. } => {
                    assert_ne!(kind, MetricKind::StateSet);
                    typed += 1;
                }
                _ => {}
            }
            Ok(())
        });
        assert_eq!(parsed, Ok(()), "{name}");
        assert_eq!((seen, typed), (samples, types), "{name}");
        read += 1;
    }
    assert!(read >= 4, "{read} fixtures were found");
}
