//! Rule files over input series with a controlled clock: the cases are test files of promtool's own form, which the
//! real promtool finds right as well (`tests/it/rules.rs`).

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use pharos_model::{Labels, METRIC_NAME, PromDuration, Sample, TimeSeries, stale_nan};
use pharos_promql::{SampleValue, parse, parse_selector};
use pharos_storage::{Batch, Storage, StorageConfig};
use serde::Deserialize;
use tokio::runtime::Handle;

use super::{
    alert::AlertState,
    file::{GroupSpec, parse_groups},
    group::{Group, Tools},
    queries::Queries,
    rule::Shared,
    *,
};
use crate::EngineConfig;

#[derive(Deserialize)]
struct TestFile {
    rule_files: Vec<PathBuf>,
    evaluation_interval: PromDuration,
    tests: Vec<TestGroup>,
}

#[derive(Deserialize)]
struct TestGroup {
    interval: PromDuration,
    #[serde(default)]
    external_labels: BTreeMap<String, String>,
    input_series: Vec<InputSeries>,
    #[serde(default)]
    alert_rule_test: Vec<AlertTest>,
    #[serde(default)]
    promql_expr_test: Vec<ExprTest>,
}

#[derive(Deserialize)]
struct InputSeries {
    series: String,
    values: String,
}

#[derive(Deserialize)]
struct AlertTest {
    eval_time: PromDuration,
    alertname: String,
    exp_alerts: Vec<ExpectedAlert>,
}

#[derive(Deserialize)]
struct ExpectedAlert {
    exp_labels: BTreeMap<String, String>,
    exp_annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct ExprTest {
    expr: String,
    eval_time: PromDuration,
    exp_samples: Vec<ExpectedSample>,
}

#[derive(Deserialize)]
struct ExpectedSample {
    labels: String,
    value: f64,
}

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/rules/testdata")
}

/// `1 2 _ stale 0+5x10 1x3`
fn points(text: &str) -> Vec<Option<f64>> {
    let mut points = Vec::new();
    for item in text.split_whitespace() {
        match (item, item.split_once('x')) {
            ("_", _) => points.push(None),
            ("stale", _) => points.push(Some(stale_nan())),
            (_, None) => points.push(Some(item.parse().expect("a number"))),
            (_, Some((step, times))) => {
                let (start, step) = step.split_once('+').unwrap_or((step, "0"));
                let (start, step): (f64, f64) =
                    (start.parse().expect("a number"), step.parse().expect("a number"));
                let times: u32 = times.parse().expect("a count");
                points.extend((0..=times).map(|at| Some(start + step * f64::from(at))));
            }
        }
    }
    points
}

fn labels_of(series: &str) -> Labels {
    let selector = parse_selector(series).expect(series);
    Labels::from_pairs(selector.matchers.iter().map(|matcher| (matcher.name(), matcher.value())))
}

struct World {
    _folder: tempfile::TempDir,
    tools: Tools,
    /// What test files call time 0.
    zero_ms: i64,
}

impl World {
    async fn new() -> World {
        let folder = tempfile::tempdir().expect("a folder");
        let storage = Storage::open(StorageConfig { retention: None, ..StorageConfig::new(folder.path()) })
            .await
            .expect("opens");
        let queries = Queries::new(storage.clone(), &EngineConfig::default());
        let tools = Tools::new(storage, queries);
        let zero_ms = (UnixNanos::now().millis() / 3_600_000 - 24) * 3_600_000;
        World { _folder: folder, tools, zero_ms }
    }

    async fn load(&self, series: &[InputSeries], interval: PromDuration) {
        for InputSeries { series, values } in series {
            let times = (self.zero_ms..).step_by(usize::try_from(interval.millis()).expect("positive"));
            let samples = times
                .zip(points(values))
                .filter_map(|(time_ms, value)| value.map(|value| Sample { time_ms, value }));
            let series =
                TimeSeries { labels: labels_of(series), samples: samples.collect(), ..TimeSeries::default() };
            self.tools.storage.append(Batch::Samples(vec![series])).await.expect("stored");
        }
    }

    async fn query(&self, query: &str, time_ms: i64) -> Vec<(Labels, f64)> {
        let (queries, runtime) = (self.tools.queries.clone(), Handle::current());
        let expr = parse(query).expect(query);
        let result = tokio::task::spawn_blocking(move || queries.vector(&runtime, &expr, time_ms));
        let samples = result.await.expect("no panic").expect(query);
        let mut found: Vec<(Labels, f64)> = samples
            .into_iter()
            .map(|sample| match sample.value {
                SampleValue::Float(value) => (sample.labels.clone(), value),
                SampleValue::Histogram(_) => panic!("a histogram"),
            })
            .collect();
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found
    }
}

fn groups(specs: Vec<GroupSpec>, external_labels: Labels) -> Vec<Arc<Group>> {
    let shared = Arc::new(Shared { external_labels, external_url: "http://pharos".into() });
    let minute = Duration::from_secs(60);
    specs.into_iter().map(|spec| Arc::new(Group::new(spec, minute, Duration::ZERO, shared.clone()))).collect()
}

fn firing(groups: &[Arc<Group>], name: &str) -> Vec<(Labels, BTreeMap<String, String>)> {
    let rules = groups.iter().flat_map(|group| &group.rules).filter(|rule| rule.spec.name == name);
    rules
        .flat_map(|rule| {
            let state = rule.state.read();
            let alerts = state.alerts.active().filter(|(_, alert)| alert.state == AlertState::Firing);
            alerts.map(|(labels, alert)| (labels.clone(), alert.annotations.clone())).collect::<Vec<_>>()
        })
        .collect()
}

async fn run(name: &str) {
    let text = std::fs::read_to_string(testdata().join(name)).expect("a test file");
    let file: TestFile = serde_saphyr::from_str(&text).expect(name);
    for test in file.tests {
        let world = World::new().await;
        world.load(&test.input_series, test.interval).await;
        let external = Labels::from(test.external_labels);
        let specs = file.rule_files.iter().flat_map(|rules| {
            read_groups(&testdata().join(rules), &Features::default()).expect("good rules")
        });
        let groups = groups(specs.collect(), external);
        groups.iter().for_each(|group| group.begin_fresh());
        let last = test
            .alert_rule_test
            .iter()
            .map(|alert| alert.eval_time)
            .chain(test.promql_expr_test.iter().map(|expr| expr.eval_time))
            .max()
            .expect("something to check");
        let mut at = Duration::ZERO;
        while at <= last.0 {
            let now_ms = world.zero_ms + PromDuration(at).millis();
            for group in &groups {
                group.evaluate(now_ms, &world.tools).await;
                for rule in &group.rules {
                    assert_eq!(rule.state.read().error, None, "{name}: {}", rule.spec.name);
                }
            }
            for alert in test.alert_rule_test.iter().filter(|alert| alert.eval_time.0 == at) {
                let want: Vec<_> = alert
                    .exp_alerts
                    .iter()
                    .map(|expected| {
                        let mut labels = Labels::from(expected.exp_labels.clone());
                        labels.set("alertname", &*alert.alertname);
                        (labels, expected.exp_annotations.clone())
                    })
                    .collect();
                assert_eq!(firing(&groups, &alert.alertname), want, "{name}: {} at {at:?}", alert.alertname);
            }
            for expr in test.promql_expr_test.iter().filter(|expr| expr.eval_time.0 == at) {
                let mut want: Vec<(Labels, f64)> =
                    expr.exp_samples.iter().map(|sample| (labels_of(&sample.labels), sample.value)).collect();
                want.sort_by(|a, b| a.0.cmp(&b.0));
                assert_eq!(world.query(&expr.expr, now_ms).await, want, "{name}: {} at {at:?}", expr.expr);
            }
            at += file.evaluation_interval.0;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn recording_rules_give_what_promtool_expects() {
    run("recording_test.yaml").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn alerting_rules_give_what_promtool_expects() {
    run("alerting_test.yaml").await;
}

fn group_of(yaml: &str) -> Arc<Group> {
    let specs = parse_groups("rules.yaml", yaml, &Features::default()).expect("good rules");
    groups(specs, Labels::empty()).remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_template_stands_in_its_annotation_and_a_limit_fails_the_rule() {
    let world = World::new().await;
    let series = [
        InputSeries { series: "m{x='1'}".into(), values: "1x10".into() },
        InputSeries { series: "m{x='2'}".into(), values: "1x10".into() },
    ];
    world.load(&series, PromDuration(Duration::from_secs(60))).await;
    let group = group_of(
        "groups: [{name: g, limit: 1, rules: [
          {alert: A, expr: m, annotations: {text: '{{ .Nothing }}'}},
          {record: r, expr: m},
          {record: r, expr: 'm{x=\"1\"}'},
          {record: r, expr: m, labels: {x: same}},
          {alert: B, expr: 'm{x=\"1\"}', annotations: {text: '{{ .Nothing }}'}}]}]",
    );
    group.begin_fresh();
    group.evaluate(world.zero_ms, &world.tools).await;
    let errors: Vec<Option<String>> =
        group.rules.iter().map(|rule| rule.state.read().error.clone()).collect();
    assert_eq!(errors[0].as_deref(), Some("exceeded limit of 1 with 2 alerts"));
    assert_eq!(errors[1].as_deref(), Some("exceeded limit of 1 with 2 series"));
    assert_eq!((&errors[2], &errors[4]), (&None, &None));
    assert_eq!(errors[3].as_deref(), Some("exceeded limit of 1 with 2 series"));
    let alerts = firing(&[group], "B");
    assert_eq!(alerts[0].1["text"], "<error expanding template: line 1: can't evaluate field Nothing>");
    let group = group_of("groups: [{name: g, rules: [{record: r, expr: m, labels: {x: same}}]}]");
    group.evaluate(world.zero_ms, &world.tools).await;
    let error = group.rules[0].state.read().error.clone();
    assert!(error.is_some_and(|error| error.contains("same labelset")));
}

#[tokio::test(flavor = "multi_thread")]
async fn pending_alerts_survive_a_restart() {
    let world = World::new().await;
    let series = [InputSeries { series: "up{instance='a'}".into(), values: "0x100".into() }];
    world.load(&series, PromDuration(Duration::from_secs(60))).await;
    let yaml = "groups: [{name: g, rules: [{alert: Down, expr: up == 0, for: 30m}]}]";
    let minute = |at: i64| world.zero_ms + at * 60_000;
    let before = group_of(yaml);
    before.begin_fresh();
    for at in 0..15 {
        before.evaluate(minute(at), &world.tools).await;
    }
    // Down from minute 14 to 20: that time does not count, and the alert fires after its 30 minutes.
    let after = group_of(yaml);
    let fires_at = async |group: &Arc<Group>, from: i64| {
        for at in from..90 {
            group.evaluate(minute(at), &world.tools).await;
            if !firing(std::slice::from_ref(group), "Down").is_empty() {
                return at;
            }
        }
        panic!("never fires");
    };
    assert_eq!(fires_at(&after, 20).await, 36);
    // One that fired before fires at once.
    let again = group_of(yaml);
    assert_eq!(fires_at(&again, 40).await, 41);
    // Without an earlier run, it waits for its whole time.
    let fresh = World::new().await;
    fresh.load(&series, PromDuration(Duration::from_secs(60))).await;
    let group = group_of(yaml);
    for at in 0..30 {
        group.evaluate(fresh.zero_ms + at * 60_000, &fresh.tools).await;
        assert!(firing(std::slice::from_ref(&group), "Down").is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_group_keeps_its_state_and_ends_the_series_of_rules_that_are_gone() {
    let world = World::new().await;
    let series = [InputSeries { series: "m{x='1'}".into(), values: "1x100".into() }];
    world.load(&series, PromDuration(Duration::from_secs(60))).await;
    let minute = |at: i64| world.zero_ms + at * 60_000;
    let before = group_of(
        "groups: [{name: g, rules: [{record: kept, expr: m}, {record: gone, expr: m}, {alert: A, expr: m, for: 5m}]}]",
    );
    before.begin_fresh();
    for at in 0..4 {
        before.evaluate(minute(at), &world.tools).await;
    }
    let after =
        group_of("groups: [{name: g, rules: [{alert: A, expr: m, for: 5m}, {record: kept, expr: m * 2}]}]");
    after.adopt(&before);
    after.evaluate(minute(4), &world.tools).await;
    assert_eq!(world.query("kept", minute(4)).await.len(), 1);
    assert_eq!(world.query("gone", minute(3)).await.len(), 1);
    assert_eq!(world.query("gone", minute(4)).await, []);
    after.evaluate(minute(5), &world.tools).await;
    assert_eq!(firing(&[after], "A").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_offset_moves_what_is_read_and_what_is_written() {
    let world = World::new().await;
    let series = [InputSeries { series: "m".into(), values: "0+1x30".into() }];
    world.load(&series, PromDuration(Duration::from_secs(60))).await;
    let group =
        group_of("groups: [{name: g, query_offset: 2m, labels: {of: group}, rules: [{record: r, expr: m}]}]");
    group.evaluate(world.zero_ms + 600_000, &world.tools).await;
    let want = Labels::from_pairs([(METRIC_NAME, "r"), ("of", "group")]);
    assert_eq!(world.query("r", world.zero_ms + 480_000).await, [(want, 8.0)]);
    assert_eq!(world.query("r", world.zero_ms + 479_000).await, []);
}

#[test]
fn evaluation_times_are_spread_and_stay_the_same() {
    let times: Vec<i64> = ["a", "b", "c", "d"]
        .iter()
        .map(|name| {
            let group = group_of(&format!("groups: [{{name: {name}, rules: []}}]"));
            let first = group.next_time_ms(1_000_000_000);
            assert!((1..=60_000).contains(&(first - 1_000_000_000)));
            assert_eq!(group.next_time_ms(first), first + 60_000);
            assert_eq!(group.next_time_ms(first - 1), first);
            first
        })
        .collect();
    assert!(times.iter().any(|time| *time != times[0]), "{times:?}");
}

#[test]
fn faults_name_file_group_rule_and_line() {
    let check = |yaml: &str, wanted: &[&str]| {
        let errors = parse_groups("r.yaml", yaml, &Features::default()).expect_err(yaml);
        let all = errors.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(all.len(), wanted.len(), "{all:#?}");
        for (error, wanted) in all.iter().zip(wanted) {
            assert!(error.contains(wanted), "{error} lacks {wanted}");
        }
    };
    check(
        "groups:\n- name: g\n  rules:\n  - record: a\n    expr: sum(\n  - alert: B\n    expr: up\n    labels: {__name__: x, y: '{{'}\n  - record: c\n    for: 5m\n",
        &[
            "r.yaml:5: group \"g\", rule 1, \"a\": could not parse expression: 1:5: parse error",
            "r.yaml:6: group \"g\", rule 2, \"B\": invalid label name: __name__",
            "label \"y\": template: line 1: unclosed action",
            "r.yaml:9: group \"g\", rule 3, \"c\": field 'expr' must be set in rule",
            "invalid field 'for' in recording rule",
        ],
    );
    check("groups: [{name: g}, {name: g}]", &["groupname: \"g\" is repeated in the same file"]);
    check(
        "groups: [{name: '', rules: [{expr: up}]}]",
        &["name is empty", "one of 'record' or 'alert' must be set"],
    );
    check("groups: [{name: g, rules: [{record: a, alert: b, expr: up}]}]", &["only one of"]);
    check("groups:\n- name: g\n  interval: soon\n", &["r.yaml:3: "]);
    check("groups:\n- name: g\n  nonsense: 1\n", &["nonsense"]);
    check("groups: {", &["r.yaml"]);
    assert!(
        parse_groups("r.yaml", "# nothing\n", &Features::default()).is_ok_and(|groups| groups.is_empty())
    );
    assert!(parse_groups("r.yaml", "groups:\n", &Features::default()).is_ok_and(|groups| groups.is_empty()));
}

#[test]
fn patterns_name_files() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["a.yml", "b.yml", "c.txt"] {
        std::fs::write(folder.path().join(name), "groups: []").expect("written");
    }
    let files = |patterns: &[&str]| {
        let patterns: Vec<PathBuf> = patterns.iter().map(PathBuf::from).collect();
        matching_files(&patterns, folder.path()).map(|files| files.len())
    };
    assert_eq!(files(&["*.yml", "a.yml"]), Ok(2));
    assert_eq!(files(&["nothing*"]), Ok(0));
    assert!(files(&["*/a.yml"]).is_err());
    let missing = check_rule_files(&[folder.path().join("none.yml")]).expect_err("it is missing");
    assert!(missing[0].to_string().contains("none.yml"));
    assert_eq!(check_rule_files(&[testdata().join("*_rules.yaml")]), Ok(11));
}

#[tokio::test(flavor = "multi_thread")]
async fn native_histograms_are_recorded() {
    use pharos_model::{HistogramSample, NativeHistogram};
    let world = World::new().await;
    let histogram = NativeHistogram {
        schema: 3,
        count: 5.0,
        sum: 9.5,
        positive: vec![(1, 2.0), (4, 3.0)],
        ..NativeHistogram::default()
    };
    let histograms = vec![HistogramSample { time_ms: world.zero_ms, histogram }];
    let labels = Labels::from_pairs([(METRIC_NAME, "h"), ("pod", "1")]);
    let series = TimeSeries { labels, histograms, ..TimeSeries::default() };
    world.tools.storage.append(Batch::Samples(vec![series])).await.expect("stored");
    let group = group_of("groups: [{name: g, rules: [{record: all, expr: sum(h)}]}]");
    group.evaluate(world.zero_ms, &world.tools).await;
    let count = world.query("histogram_count(all)", world.zero_ms).await;
    let sum = world.query("histogram_sum(all)", world.zero_ms).await;
    assert_eq!((count[0].1, sum[0].1), (5.0, 9.5));
    let same = world.query("count(all == on() h)", world.zero_ms).await;
    assert_eq!(same[0].1, 1.0);
}
