use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use axum::{Router, routing::get};
use http::{StatusCode, header};
use parking_lot::Mutex;
use pharos_model::Labels;
use pharos_proto::prometheus::exposition::{Counter, Histogram, Metric, MetricFamily, MetricType};
use prost::Message;
use tokio_util::sync::CancellationToken;

use super::{
    ScrapeConfig,
    protocol::{Escaping, Protocol as ScrapeProtocol, accept, format_of},
    relabel::{Relabel, relabel},
    series::{ScrapeTime, SeriesCache},
    target::targets_of,
};
use crate::{
    CollectorConfig, Protocol,
    bench::{Bench, Stored},
    exposition::Format,
    start_time::StartTimes,
};

fn config(yaml: &str) -> ScrapeConfig {
    ScrapeConfig::parse(yaml, Path::new(".")).unwrap()
}

#[test]
fn wrong_configuration_is_named() {
    for (yaml, words) in [
        ("scrape_configs: [{job: a}]", "scrape_configs[0].job"),
        (
            "scrape_configs: [{job_name: a}, {job_name: b, static_configs: [{target: [x]}]}]",
            "[1].static_configs[0].target",
        ),
        ("scrape_configs: [{job_name: a, consul_sd_configs: []}]", "consul_sd_configs"),
        ("scrape_configs: [{job_name: a, scrape_interval: 5 parsecs}]", "5 parsecs"),
        ("scrape_configs: [{job_name: a, scrape_interval: 1s, scrape_timeout: 2s}]", "scrape_timeout"),
        ("global: {scrape_interval: 1s, scrape_timeout: 2s}", "scrape_timeout"),
        ("scrape_configs: [{job_name: a, scheme: gopher}]", "gopher"),
        ("scrape_configs: [{job_name: a}, {job_name: a}]", "twice"),
        ("scrape_configs: [{job_name: ''}]", "job_name"),
        ("scrape_configs: [{job_name: a, relabel_configs: [{regex: '('}]}]", "regex"),
        ("scrape_configs: [{job_name: a, relabel_configs: [{action: explode}]}]", "explode"),
        ("scrape_configs: [{job_name: a, relabel_configs: [{action: hashmod, target_label: x}]}]", "modulus"),
        (
            "scrape_configs: [{job_name: a, relabel_configs: [{action: labeldrop, source_labels: [x], regex: y}]}]",
            "requires only 'regex'",
        ),
        (
            "scrape_configs: [{job_name: a, relabel_configs: [{action: lowercase, target_label: x, replacement: y}]}]",
            "replacement",
        ),
        ("scrape_configs: [{job_name: a, metric_relabel_configs: [{action: replace}]}]", "target_label"),
        ("scrape_configs: [{job_name: a, body_size_limit: huge}]", "huge"),
        (
            "scrape_configs: [{job_name: a, scrape_protocols: [PrometheusText0.0.4, PrometheusText0.0.4]}]",
            "twice",
        ),
        ("scrape_configs: [{job_name: a, scrape_protocols: [Smoke]}]", "Smoke"),
        ("scrape_configs: [{job_name: a, basic_auth: {}, authorization: {}}]", "at most one"),
        ("scrape_configs: [{job_name: a, bearer_token: x, authorization: {}}]", "at most one"),
        ("scrape_configs: [{job_name: a, tls_config: {cert_file: x}}]", "certificate and its key"),
        ("scrape_configs: [{job_name: a, tls_config: {min_version: SSL3}}]", "SSL3"),
        ("scrape_configs: [{job_name: a, proxy_url: 'no url'}]", "proxy_url"),
        ("scrape_configs: [{job_name: a, http_headers: {Host: {values: [x]}}}]", "not allowed"),
        (
            "scrape_configs: [{job_name: a, file_sd_configs: [{files: [a.txt]}]}]",
            "not valid for file discovery",
        ),
        ("scrape_configs: [{job_name: a, http_sd_configs: [{url: 'ftp://x'}]}]", "http or https"),
        ("scrape_configs: [{job_name: a, dns_sd_configs: [{names: [x], type: A}]}]", "port"),
        (
            "scrape_configs: [{job_name: a, metric_name_validation_scheme: legacy, metric_name_escaping_scheme: allow-utf-8}]",
            "allow-utf-8",
        ),
        ("otlp: {promote_all_resource_attributes: true, promote_resource_attributes: [a]}", "exclude"),
        ("otlp: {translation_strategy: Guess}", "Guess"),
        ("rule_files: []", "rule_files"),
    ] {
        let error = ScrapeConfig::parse(yaml, Path::new(".")).unwrap_err().to_string();
        assert!(error.contains(words), "{yaml}: {error:?} does not say {words:?}");
    }
    assert!(
        config("global: {scrape_interval: 1m30s, evaluation_interval: 1m}\nscrape_configs: []").is_empty()
    );
}

#[test]
fn relabel_actions() {
    let cases = [
        ("{source_labels: [a], target_label: b}", "b=\"1\""),
        ("{source_labels: [a, x], separator: '-', target_label: b}", "b=\"1-y\""),
        ("{source_labels: [x], regex: 'y(.*)', target_label: b, replacement: 'got${1}$1!'}", "b=\"got!\""),
        ("{source_labels: [x], regex: 'n.*', target_label: b}", ""),
        ("{source_labels: [x], regex: 'y', target_label: x, replacement: ''}", "-x"),
        ("{source_labels: [x], regex: '(.)', target_label: 'to_$1', replacement: v}", "to_y=\"v\""),
        ("{target_label: b, replacement: fixed}", "b=\"fixed\""),
        ("{source_labels: [a], regex: '1', action: keep}", ""),
        ("{source_labels: [a], regex: '2', action: keep}", "dropped"),
        ("{source_labels: [a], regex: '1|3', action: drop}", "dropped"),
        ("{source_labels: [a], regex: '', action: drop}", ""),
        ("{source_labels: [a], target_label: same, action: keepequal}", ""),
        ("{source_labels: [a], target_label: x, action: keepequal}", "dropped"),
        ("{source_labels: [a], target_label: same, action: dropequal}", "dropped"),
        ("{source_labels: [x], target_label: b, modulus: 1000, action: hashmod}", "b=\"269\""),
        ("{regex: 'sa(.*)', replacement: 'k_$1', action: labelmap}", "k_me=\"1\""),
        ("{regex: 'same|x', action: labeldrop}", "-same -x"),
        ("{regex: 'a|__name__', action: labelkeep}", "-same -x -UP"),
        ("{source_labels: [UP], target_label: b, action: lowercase}", "b=\"éa\""),
        ("{source_labels: [x], target_label: b, action: uppercase}", "b=\"Y\""),
    ];
    let base =
        || Labels::from_pairs([("a", "1"), ("same", "1"), ("x", "y"), ("UP", "ÉA"), ("__name__", "m")]);
    for (rule, expected) in cases {
        let rule: Relabel = serde_saphyr::from_str(rule).unwrap_or_else(|error| panic!("{rule}: {error}"));
        rule.check().unwrap();
        let mut wanted = base();
        for change in expected.split_whitespace().filter(|change| *change != "dropped") {
            match change.strip_prefix('-') {
                Some(gone) => wanted.remove(gone),
                None => {
                    let (name, value) = change.split_once('=').unwrap();
                    wanted.set(name, value.trim_matches('"'));
                }
            }
        }
        let mut labels = base();
        let kept = relabel(std::slice::from_ref(&rule), &mut labels);
        assert_eq!(kept, expected != "dropped", "{rule:?}");
        if kept {
            assert_eq!(labels, wanted, "{rule:?}");
        }
    }
}

#[test]
fn targets_after_relabelling() {
    let config = config(
        r"
scrape_configs:
  - job_name: mesh
    metrics_path: /stats/prometheus
    params: { format: [a, b] }
    static_configs:
      - targets: ['127.0.1.1:15020', '127.0.1.2:15020', 'gone:1', 'bad/host']
        labels: { workload: w, __meta_x: y }
    relabel_configs:
      - { source_labels: [__address__], regex: 'gone.*', action: drop }
      - { source_labels: [__meta_x], target_label: from_meta }
      - { source_labels: [__address__], regex: '127.0.1.2.*', target_label: __scrape_interval__, replacement: 5s }
      - { source_labels: [__address__], regex: '127.0.1.2.*', target_label: __scrape_timeout__, replacement: 4s }
      - { source_labels: [__address__], regex: '127.0.1.2.*', target_label: __param_format, replacement: 'c d' }
      - { source_labels: [__address__], regex: '127.0.1.2.*', target_label: __scheme__, replacement: https }
",
    );
    let job = &config.jobs[0];
    let found = targets_of(job, &job.static_groups);
    assert_eq!(found.faults, ["target bad/host: \"bad/host\" is not a valid hostname"]);
    assert_eq!((found.dropped_count, found.dropped[0].get("__address__")), (1, "gone:1"));
    let targets = found.active;
    assert_eq!(targets.len(), 2);
    assert_eq!(targets[0].url, "http://127.0.1.1:15020/stats/prometheus?format=a&format=b");
    let expected = r#"{from_meta="y", instance="127.0.1.1:15020", job="mesh", workload="w"}"#;
    assert_eq!(targets[0].labels.to_string(), expected);
    assert_eq!((targets[0].interval.as_secs(), targets[0].timeout.as_secs()), (60, 10));
    assert_eq!((targets[1].interval.as_secs(), targets[1].timeout.as_secs()), (5, 4));
    assert_eq!(targets[1].url, "https://127.0.1.2:15020/stats/prometheus?format=c+d&format=b");
    assert!(targets[0].offset() < targets[0].interval);
    assert_ne!(targets[0].offset(), targets[1].offset());
}

fn read(cache: &mut SeriesCache, yaml: &str, text: &str, time_ms: i64) -> Result<Vec<String>, String> {
    let config = config(&format!("scrape_configs: [{{job_name: j, {yaml}}}]"));
    let target = Labels::from_pairs([("job", "j"), ("instance", "i")]);
    let time = ScrapeTime { ms: time_ms, latest_ms: 1_000 };
    let scraped = cache.read(&config.jobs[0], &target, text.as_bytes(), Format::Text, time);
    match scraped.fault {
        Some(fault) => Err(fault),
        None => Ok(Stored { series: scraped.series, ..Stored::default() }.lines()),
    }
}

#[test]
fn series_that_are_missing_end_and_known_ones_go_on() {
    let mut cache = SeriesCache::default();
    let i = r#"instance="i", job="j""#;
    assert_eq!(
        read(&mut cache, "", "a{x=\"1\"} 1\nb 2\nb 3\nc 4 77\n", 10),
        Ok(vec![format!("a{{{i}, x=\"1\"}} 1 @10"), format!("b{{{i}}} 2 @10"), format!("c{{{i}}} 4 @77"),])
    );
    assert_eq!(
        read(&mut cache, "", "b 5\n", 20),
        Ok(vec![format!("a{{{i}, x=\"1\"}} stale @20"), format!("b{{{i}}} 5 @20")])
    );
    let config = config("scrape_configs: [{job_name: j}]");
    let target = Labels::from_pairs([("job", "j"), ("instance", "i")]);
    let mut scrape = |text: &str, ms| {
        let time = ScrapeTime { ms, latest_ms: 1_000 };
        let scraped = cache.read(&config.jobs[0], &target, text.as_bytes(), Format::Text, time);
        let counts = (scraped.samples, scraped.after_relabel, scraped.added, scraped.refused);
        (Stored { series: scraped.series, ..Stored::default() }.lines(), counts, scraped.fault)
    };
    let (ended, _, fault) = scrape("b 6\nc oops\n", 30);
    assert_eq!(ended, [format!("b{{{i}}} stale @30")]);
    assert!(fault.unwrap().contains("oops"));
    assert_eq!(scrape("b 6\nb oops\n", 40).0, Vec::<String>::new(), "it has ended already");
    // It was known all the time, and what lies too far ahead is left out.
    let (lines, counts, _) = scrape("b 6\nb 7\nnew 1\nlater 1 2000\n", 50);
    assert_eq!(lines, [format!("b{{{i}}} 6 @50"), format!("new{{{i}}} 1 @50")]);
    assert_eq!(counts, (4, 4, 2, 2));
    assert_eq!(scrape("b 6\n", 60).0, [format!("b{{{i}}} 6 @60"), format!("new{{{i}}} stale @60")]);
}

#[test]
fn labels_of_series_and_target_meet() {
    for (yaml, line, expected) in [
        ("", "a{job=\"own\"} 1", r#"a{exported_job="own", instance="i", job="j"} 1 @10"#),
        (
            "",
            "a{job=\"own\",exported_job=\"x\"} 1",
            r#"a{exported_exported_job="own", exported_job="x", instance="i", job="j"} 1 @10"#,
        ),
        ("honor_labels: true", "a{job=\"own\"} 1", r#"a{instance="i", job="own"} 1 @10"#),
        ("honor_labels: true", "a{instance=\"\"} 1", r#"a{job="j"} 1 @10"#),
        ("honor_timestamps: false", "a 1 77", r#"a{instance="i", job="j"} 1 @10"#),
        ("metric_relabel_configs: [{source_labels: [__name__], regex: a, action: drop}]", "a 1", ""),
        ("metric_relabel_configs: [{regex: instance, action: labeldrop}]", "a 1", r#"a{job="j"} 1 @10"#),
        (
            "",
            "# TYPE a histogram\na_bucket{le=\"1\"} 1",
            r#"a_bucket{instance="i", job="j", le="1.0"} 1 @10"#,
        ),
        ("", "# TYPE a summary\na{quantile=\"0.50\"} 1", r#"a{instance="i", job="j", quantile="0.5"} 1 @10"#),
    ] {
        let lines = read(&mut SeriesCache::default(), yaml, line, 10).unwrap();
        assert_eq!(lines.join("\n"), expected, "{yaml} {line}");
    }
}

#[test]
fn limits_fail_the_whole_scrape() {
    for (yaml, text, words) in [
        ("sample_limit: 1", "a 1\nb 2", "sample_limit"),
        ("label_limit: 3", "a{b=\"c\"} 1", "label_limit"),
        ("label_name_length_limit: 8", "a{bcdefghij=\"c\"} 1", "label_name_length_limit"),
        ("label_value_length_limit: 4", "a{b=\"cdefg\"} 1", "label_value_length_limit"),
        ("", "a{b=\"c\",b=\"d\"} 1", "twice"),
        ("metric_relabel_configs: [{regex: __name__, action: labeldrop}]", "a 1", "without a name"),
    ] {
        let error = read(&mut SeriesCache::default(), yaml, text, 10).unwrap_err();
        assert!(error.contains(words), "{yaml} {text}: {error}");
    }
    let legacy = "metric_name_validation_scheme: legacy";
    assert!(
        read(&mut SeriesCache::default(), legacy, "{\"a.b\"} 1", 10)
            .unwrap_err()
            .contains("invalid metric name")
    );
    assert!(read(&mut SeriesCache::default(), "sample_limit: 2", "a 1\nb 2", 10).is_ok());
}

/// Faults say what is wrong and where, in few words, however much was sent.
#[test]
fn hostile_bodies_fail_clearly() {
    let config = config("scrape_configs: [{job_name: j, scrape_native_histograms: true}]");
    let many = 2_000_000;
    let family = |histogram: Histogram| {
        MetricFamily {
            name: "h".into(),
            r#type: MetricType::Histogram.into(),
            metric: vec![Metric { histogram: Some(histogram), ..Metric::default() }],
            ..MetricFamily::default()
        }
        .encode_length_delimited_to_vec()
    };
    let spans = |length: u32, offset: i32| {
        let span = pharos_proto::prometheus::exposition::BucketSpan { offset, length };
        family(Histogram { sample_count: 1, positive_span: vec![span], ..Histogram::default() })
    };
    let mut groups = vec![0xa0, 0x8d, 0x06];
    groups.extend(vec![0x7b; 100_000]);
    let (text, openmetrics, protobuf) = (Format::Text, Format::OpenMetrics, Format::Protobuf);
    for (format, body, words) in [
        (text, [b"a{b=\"".to_vec(), vec![b'x'; many]].concat(), "line 1: the labels of"),
        (text, vec![b'a'; many], "has no value"),
        (text, [b"a{".to_vec(), vec![b'{'; many], b"} 1".to_vec()].concat(), "is no label name"),
        (text, b"good 1\na{b=\"\xff\"} 1\n".to_vec(), "byte 12: the body is not UTF-8"),
        (text, [b"a ".to_vec(), vec![b'9'; many], b"x".to_vec()].concat(), "line 1"),
        (text, [b"# TYPE a ".to_vec(), vec![b'z'; many]].concat(), "line 1"),
        (openmetrics, vec![b'\n'; many], "line 1: an empty line"),
        (openmetrics, [b"a 1 # {".to_vec(), vec![b'e'; many]].concat(), "is no exemplar"),
        (openmetrics, b"a 1 9e99\n# EOF\n".to_vec(), "is no timestamp"),
        (protobuf, vec![0xff, 0xff, 0xff, 0xff, 0x7f], "metric family 1"),
        (protobuf, groups, "metric family 1"),
        (protobuf, spans(u32::MAX, 0), "metric family \"h\""),
        (protobuf, spans(1, i32::MAX), "metric family \"h\""),
    ] {
        let time = ScrapeTime { ms: 10, latest_ms: 1_000 };
        let scraped = SeriesCache::default().read(&config.jobs[0], &Labels::empty(), &body, format, time);
        let fault =
            scraped.fault.unwrap_or_else(|| panic!("{format:?} is taken, but {words:?} was expected"));
        assert!(fault.contains(words) && fault.len() < 1_300, "{format:?} {words:?}: {fault}");
        assert!(scraped.series.is_empty());
    }
}

#[test]
fn classic_histograms_become_native_ones_where_asked_for() {
    let text = "# TYPE h histogram\nh_bucket{a=\"b\",le=\"1\"} 2\nh_bucket{a=\"b\",le=\"2.5\"} 2\nh_bucket{a=\"b\",le=\"+Inf\"} 6\nh_sum{a=\"b\"} 9\nh_count{a=\"b\"} 6\nc 1\n";
    let i = r#"instance="i", job="j""#;
    let native = format!("h{{a=\"b\", {i}}} {{count:6 sum:9 schema:-53 [0]:2 [2]:4 bounds:[1.0, 2.5]}} @10");
    let lines = read(&mut SeriesCache::default(), "convert_classic_histograms_to_nhcb: true", text, 10);
    assert_eq!(lines, Ok(vec![format!("c{{{i}}} 1 @10"), native.clone()]));
    let both = "convert_classic_histograms_to_nhcb: true, always_scrape_classic_histograms: true";
    let lines = read(&mut SeriesCache::default(), both, text, 10).unwrap();
    assert_eq!((lines.len(), lines.contains(&native)), (7, true));
}

#[test]
fn counters_get_a_zero_where_they_began() {
    let config = config("scrape_configs: [{job_name: j, scrape_native_histograms: true}]");
    let target = Labels::from_pairs([("job", "j")]);
    let scrape = |cache: &mut SeriesCache, body: &[u8], format, ms| {
        let scraped =
            cache.read(&config.jobs[0], &target, body, format, ScrapeTime { ms, latest_ms: 1_000_000 });
        assert_eq!(scraped.fault, None);
        Stored { series: scraped.series, ..Stored::default() }.lines()
    };
    let text = "# TYPE a counter\na_total{x=\"1\"} 3\na_created{x=\"1\"} 9.5\n# TYPE h histogram\nh_created 9\nh_bucket{le=\"+Inf\"} 2\nh_count 2\nh_sum 1\n# TYPE g gauge\ng_created 1\n# EOF\n";
    let mut cache = SeriesCache::new(Some(Arc::new(StartTimes::new(|_, _| false))));
    let openmetrics = Format::OpenMetrics;
    let first = [
        "a_total{job=\"j\", x=\"1\"} 0 @9500",
        "a_total{job=\"j\", x=\"1\"} 3 @10000",
        "g_created{job=\"j\"} 1 @10000",
        "h_bucket{job=\"j\", le=\"+Inf\"} 0 @9000",
        "h_bucket{job=\"j\", le=\"+Inf\"} 2 @10000",
        "h_count{job=\"j\"} 0 @9000",
        "h_count{job=\"j\"} 2 @10000",
        "h_sum{job=\"j\"} 0 @9000",
        "h_sum{job=\"j\"} 1 @10000",
    ];
    assert_eq!(scrape(&mut cache, text.as_bytes(), openmetrics, 10_000), first);
    assert_eq!(scrape(&mut cache, text.as_bytes(), openmetrics, 20_000).len(), 5, "once for each start");
    let restarted = text.replace("} 9.5", "} 25.001");
    let lines = scrape(&mut cache, restarted.as_bytes(), openmetrics, 30_000);
    assert_eq!((lines.len(), lines[0].as_str()), (6, "a_total{job=\"j\", x=\"1\"} 0 @25001"));
    // Without the feature, and in the plain format, it is a series as others.
    for (mut cache, format) in [
        (SeriesCache::default(), openmetrics),
        (SeriesCache::new(Some(Arc::new(StartTimes::new(|_, _| false)))), Format::Text),
    ] {
        let lines = scrape(&mut cache, text.as_bytes(), format, 10_000);
        assert_eq!(lines.len(), 7);
        assert!(lines.contains(&"h_created{job=\"j\"} 9 @10000".to_string()), "{lines:?}");
    }

    let created_timestamp = Some(prost_types::Timestamp { seconds: 9, nanos: 500_000_000 });
    let counter = Counter { value: 3.0, created_timestamp, ..Counter::default() };
    let histogram = Histogram {
        sample_count: 1,
        sample_sum: 2.0,
        schema: 1,
        zero_threshold: 0.5,
        zero_count: 1,
        created_timestamp,
        ..Histogram::default()
    };
    let family = |name: &str, kind: MetricType, metric: Metric| {
        MetricFamily {
            name: name.into(),
            r#type: kind.into(),
            metric: vec![metric],
            ..MetricFamily::default()
        }
        .encode_length_delimited_to_vec()
    };
    let body = [
        family("c", MetricType::Counter, Metric { counter: Some(counter), ..Metric::default() }),
        family("n", MetricType::Histogram, Metric { histogram: Some(histogram), ..Metric::default() }),
    ];
    let lines = scrape(
        &mut SeriesCache::new(Some(Arc::new(StartTimes::new(|_, _| false)))),
        &body.concat(),
        Format::Protobuf,
        10_000,
    );
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert_eq!(lines[0], "c{job=\"j\"} 0 @9500");
    assert!(
        lines.iter().any(|line| line.starts_with("n{job=\"j\"} {count:0") && line.ends_with("@9500")),
        "{lines:?}"
    );
}

#[test]
fn what_is_asked_for_and_what_comes() {
    let text = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
    assert_eq!(accept(&ScrapeProtocol::defaults(false), Escaping::AllowUtf8), text);
    let protobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,application/openmetrics-text;version=1.0.0;escaping=underscores;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=underscores;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
    assert_eq!(accept(&ScrapeProtocol::defaults(true), Escaping::Underscores), protobuf);
    for (content_type, fallback, expected) in [
        ("text/plain; version=0.0.4; charset=utf-8", None, Ok(Format::Text)),
        ("application/openmetrics-text; version=1.0.0", None, Ok(Format::OpenMetrics)),
        ("application/vnd.google.protobuf; proto=x", None, Ok(Format::Protobuf)),
        ("", Some(ScrapeProtocol::PrometheusText0_0_4), Ok(Format::Text)),
        ("text/html", Some(ScrapeProtocol::OpenMetricsText1_0_0), Ok(Format::OpenMetrics)),
        ("", None, Err("no Content-Type")),
        ("text/html", None, Err("text/html")),
    ] {
        match (format_of(content_type, fallback), expected) {
            (Err(error), Err(words)) => assert!(error.contains(words), "{error}"),
            (got, expected) => assert_eq!(got.ok(), expected.ok(), "{content_type}"),
        }
    }
}

/// A target on a free port that answers with `body`, or with an error while `broken`.
struct Exporter {
    address: String,
    body: Arc<Mutex<String>>,
    broken: Arc<AtomicBool>,
    scrapes: Arc<AtomicU32>,
}

impl Exporter {
    async fn start(body: &str) -> Exporter {
        let body = Arc::new(Mutex::new(body.to_string()));
        let broken = Arc::new(AtomicBool::new(false));
        let scrapes = Arc::new(AtomicU32::new(0));
        let answer = {
            let (body, broken, scrapes) = (body.clone(), broken.clone(), scrapes.clone());
            move || async move {
                scrapes.fetch_add(1, Ordering::Relaxed);
                if broken.load(Ordering::Relaxed) {
                    return Err(StatusCode::SERVICE_UNAVAILABLE);
                }
                let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                Ok(([(header::CONTENT_TYPE, content_type)], body.lock().clone()))
            }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let router = Router::new().route("/metrics", get(answer));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Exporter { address, body, broken, scrapes }
    }
}

/// Waits for a scrape of `instance` of which `wanted` holds.
pub(super) async fn until(bench: &mut Bench, instance: &str, wanted: impl Fn(&[String]) -> bool) -> Stored {
    let limit = std::time::Duration::from_secs(60);
    let scrape = async {
        loop {
            let stored = bench.next_stored().await;
            let lines = stored.lines();
            if lines.iter().any(|line| line.contains(instance)) && wanted(&lines) {
                return stored;
            }
        }
    };
    tokio::time::timeout(limit, scrape).await.expect("the scrape that was waited for")
}

#[tokio::test]
async fn targets_are_scraped_whatever_happens_to_others() {
    let good = Exporter::start(
        "# TYPE a counter\n# HELP a What it counts\na_total 3 # {trace_id=\"t\"} 1\nb 1\n# EOF\n",
    )
    .await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("targets.json");
    let write = |targets: &[&str]| {
        std::fs::write(
            &file,
            serde_json::json!([{"targets": targets, "labels": {"from": "file"}}]).to_string(),
        )
        .unwrap()
    };
    // Nothing listens on the second, and the third never answers.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent_address = silent.local_addr().unwrap().to_string();
    write(&[&good.address]);
    let yaml = format!(
        "global: {{scrape_interval: 200ms}}\nscrape_configs: [{{job_name: mesh, file_sd_configs: [{{files: ['*.json']}}], static_configs: [{{targets: ['127.0.0.1:9', '{silent_address}']}}]}}]"
    );
    let scrape = ScrapeConfig::parse(&yaml, folder.path()).unwrap();
    let mut bench = Bench::with(CollectorConfig { scrape, ..CollectorConfig::default() }).await;
    let shutdown = CancellationToken::new();
    let collector = bench.collector.clone();
    let running = tokio::spawn({
        let shutdown = shutdown.clone();
        async move { collector.run_scraper(shutdown).await }
    });
    let has = |name: &'static str, end: &'static str| {
        move |lines: &[String]| lines.iter().any(|line| line.starts_with(name) && line.contains(end))
    };

    let stored = until(&mut bench, &good.address, has("a_total{", " 3 @")).await;
    let total = stored.series.iter().find(|series| series.labels.metric_name() == "a_total").unwrap();
    assert_eq!(total.labels.get("from"), "file");
    assert_eq!(total.exemplars[0].labels.get("trace_id"), "t");
    let metadata = total.metadata.as_ref().unwrap();
    assert_eq!(
        (metadata.family.as_str(), metadata.kind.name(), metadata.help.as_str()),
        ("a", "counter", "What it counts")
    );
    let lines = stored.lines();
    for report in ["up{", "scrape_samples_scraped{", "scrape_series_added{"] {
        assert!(lines.iter().any(|line| line.starts_with(report)), "{report} {lines:?}");
    }
    // On a busy machine a good one may be late now and then.
    for (address, up, words) in [
        (silent_address.as_str(), " 0 @", "no answer within 200ms"),
        ("127.0.0.1:9", " 0 @", "onnect"),
        (good.address.as_str(), " 1 @", ""),
    ] {
        let error = |bench: &Bench| {
            let targets = bench.collector.targets();
            assert_eq!(targets.len(), 3);
            let target = targets.into_iter().find(|target| target.url.contains(&format!("{address}/")));
            target.unwrap().last_scrape.and_then(|last| last.error).unwrap_or_default()
        };
        let fits = |error: String| error.contains(words) && error.is_empty() == words.is_empty();
        while !fits(error(&bench)) {
            until(&mut bench, address, has("up{", up)).await;
        }
    }

    *good.body.lock() = "b 2\n# EOF\n".into();
    until(&mut bench, &good.address, has("a_total{", " stale @")).await;
    // Whatever fails, its series end once.
    until(&mut bench, &good.address, has("b{", " 2 @")).await;
    good.broken.store(true, Ordering::Relaxed);
    let failed = |lines: &[String]| has("up{", " 0 @")(lines) && has("b{", " stale @")(lines);
    until(&mut bench, &good.address, failed).await;
    good.broken.store(false, Ordering::Relaxed);
    until(&mut bench, &good.address, has("b{", " 2 @")).await;
    write(&[]);
    let has_ended = std::cell::Cell::new(false);
    let gone = |lines: &[String]| {
        has_ended.set(has_ended.get() || has("b{", " stale @")(lines));
        has("up{", " stale @")(lines)
    };
    until(&mut bench, &good.address, gone).await;
    assert!(has_ended.get(), "the series of a target that is gone end");
    let scrapes = good.scrapes.load(Ordering::Relaxed);
    until(&mut bench, &silent_address, has("up{", " 0 @")).await;
    assert_eq!(good.scrapes.load(Ordering::Relaxed), scrapes, "a target that is gone is not scraped");
    assert!(bench.received(Protocol::Scrape).items > 0);

    shutdown.cancel();
    running.await.unwrap();
}
