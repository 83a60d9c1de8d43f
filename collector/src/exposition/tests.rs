use pharos_model::MetricKind;

use super::{Entry, Format, openmetrics_float, parse, series_labels, unescape};
use crate::bench::conformance;

/// The entries as lines of text.
fn entries(text: &str, format: Format) -> Result<Vec<String>, String> {
    let mut out = Vec::new();
    let parsed = parse(text, format, |entry| {
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
                let exemplar =
                    sample.exemplar.map(|e| format!(" # {} {} {:?}", e.labels, e.value, e.time_ms));
                format!("{} {}{time}{}", labels.join(","), sample.value, exemplar.unwrap_or_default())
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
        ("a 1 -1520879607789", "__name__=a 1 @-1520879607789"),
        ("a 9007199254740993", "__name__=a 9007199254740992"),
        ("a -0.5", "__name__=a -0.5"),
        ("{\"my.name\",\"b.c\"=\"d\"} 1", "__name__=my.name,b.c=d 1"),
        ("{b=\"c\",\"my name\"} 1", "b=c,__name__=my name 1"),
        ("é{b=\"ü\"} 1", "__name__=é,b=ü 1"),
        ("# HELP a It is\\n so", "help a It is\\n so"),
        ("# TYPE a counter", "type a counter"),
        ("#TYPE a untyped", "type a unknown"),
        ("# HELP \"my.name\" words", "help my.name words"),
    ] {
        assert_eq!(entries(line, Format::Text), Ok(vec![expected.to_string()]), "{line:?}");
    }
    assert_eq!(entries("# a comment\n\n#\n   \n# EOF\n", Format::Text), Ok(vec![]));
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
        ("a{b=\"c\"d=\"e\"} 1", Format::Text, "comma"),
        ("<html>", Format::Text, "no start of a series"),
        ("1a 1", Format::Text, "no start of a series"),
        ("# TYPE a thing", Format::Text, "\"thing\" is no metric type"),
        ("# TYPE", Format::Text, "names no metric"),
        ("a 1", Format::OpenMetrics, "# EOF"),
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

/// Prometheus' own fixtures parse whole.
#[test]
fn prometheus_fixtures() {
    let Some(folder) = conformance("exposition") else { return };
    for (file, format) in [
        ("1histogram.om.txt", Format::OpenMetrics),
        ("alltypes.5mfs.om.txt", Format::OpenMetrics),
        ("alltypes.237mfs.prom.txt", Format::Text),
        ("alltypes.237mfs.nometa.prom.txt", Format::Text),
    ] {
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        let samples = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).count();
        let families = text.lines().filter(|line| line.starts_with("# TYPE")).count();
        let (mut seen, mut typed) = (0, 0);
        parse(&text, format, |entry| {
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
        })
        .unwrap();
        assert_eq!((seen, typed), (samples, families), "{file}");
    }
}
