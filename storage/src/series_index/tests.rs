use pharos_model::{MatchOp, UnixNanos};

use super::*;

fn index() -> SeriesIndex {
    let mut index = SeriesIndex::default();
    for (metric, pod, code, first_ms) in [
        ("requests", "a-1", "200", 1_000),
        ("requests", "a-2", "503", 2_000),
        ("requests", "b-1", "", 3_000),
        ("errors", "b-1", "200", DAY_MS + 5),
    ] {
        let labels = Labels::from_pairs([("__name__", metric), ("pod", pod), ("code", code)]);
        index.insert(&SeriesRow { first_ms, series: labels.series_id(), labels, metadata: None });
    }
    index
}

#[test]
fn matchers_choose_series_as_prometheus_does() {
    let check = |matchers: &[(&str, MatchOp, &str)], wanted: &[&str]| {
        let index = index();
        let matchers: Vec<Matcher> =
            matchers.iter().map(|(name, op, value)| Matcher::new(*name, *op, *value).unwrap()).collect();
        let found = index.select(&matchers, TimeRange::ALL);
        let mut pods: Vec<String> = found
            .iter()
            .map(|(_, entry)| format!("{}/{}", entry.metric(), entry.labels.get("pod")))
            .collect();
        pods.sort();
        assert_eq!(pods, wanted, "{matchers:?}");
    };
    use MatchOp::{Equal, NotEqual, NotRegex, Regex};
    check(&[("__name__", Equal, "requests")], &["requests/a-1", "requests/a-2", "requests/b-1"]);
    check(&[("__name__", Equal, "requests"), ("pod", Regex, "a-.*")], &["requests/a-1", "requests/a-2"]);
    check(&[("pod", Regex, "a")], &[]);
    check(&[("code", Equal, "")], &["requests/b-1"]);
    check(&[("code", NotEqual, "")], &["errors/b-1", "requests/a-1", "requests/a-2"]);
    check(&[("code", NotEqual, "200"), ("__name__", Equal, "requests")], &["requests/a-2", "requests/b-1"]);
    check(&[("code", NotRegex, "2..|")], &["requests/a-2"]);
    check(&[("code", Regex, "2..|")], &["errors/b-1", "requests/a-1", "requests/b-1"]);
    check(&[("absent", Equal, ""), ("pod", Equal, "b-1")], &["errors/b-1", "requests/b-1"]);
    check(&[("absent", Regex, ".+")], &[]);
}

#[test]
fn a_series_is_found_in_the_range_of_its_samples_only() {
    let index = index();
    let before = TimeRange::new(UnixNanos::from_millis(0), UnixNanos::from_millis(2_500));
    assert_eq!(index.select(&[], before).len(), 2);
    assert_eq!(index.label_values("code", &[], before), ["200", "503"]);
    assert_eq!(index.label_names(&[], before), ["__name__", "code", "pod"]);
}

#[test]
fn a_series_needs_a_row_for_each_new_day() {
    let mut index = index();
    let id = Labels::from_pairs([("__name__", "requests"), ("pod", "b-1")]).series_id();
    assert!(index.get(id).unwrap().has_day(5_000));
    assert!(!index.get(id).unwrap().has_day(DAY_MS));
    let labels = index.get(id).unwrap().labels.clone();
    index.insert(&SeriesRow { first_ms: DAY_MS, series: id, labels, metadata: None });
    assert!(index.get(id).unwrap().has_day(DAY_MS + 1));
    assert_eq!(index.len(), 4);
}

#[test]
fn series_without_samples_since_a_time_are_forgotten() {
    let mut index = index();
    let id = Labels::from_pairs([("__name__", "requests"), ("pod", "a-2"), ("code", "503")]).series_id();
    index.recall(index.ordinal(id).unwrap(), 9_000);
    let head = index
        .ordinal(Labels::from_pairs([("__name__", "requests"), ("pod", "a-1"), ("code", "200")]).series_id());
    index.forget_before(5_000, |ordinal| Some(ordinal) == head);
    assert_eq!(index.len(), 3);
    index.forget_before(5_000, |_| false);
    let matcher = [Matcher::new("pod", MatchOp::Regex, ".+").unwrap()];
    let found = index.select(&matcher, TimeRange::ALL);
    let mut pods: Vec<&str> = found.iter().map(|(_, entry)| entry.labels.get("pod")).collect();
    pods.sort_unstable();
    assert_eq!(pods, ["a-2", "b-1"]);
    assert_eq!(index.label_values("__name__", &[], TimeRange::ALL), ["errors", "requests"]);
    assert_eq!(index.len(), 2);
}

#[test]
fn a_forgotten_series_leaves_its_number_to_another() {
    let mut index = index();
    index.forget_before(5_000, |_| false);
    let labels = Labels::from_pairs([("__name__", "requests"), ("pod", "c-1")]);
    let row = SeriesRow { first_ms: 9_000, series: labels.series_id(), labels, metadata: None };
    assert!(index.insert(&row) < 3);
    let found = index.select(&[Matcher::equal("__name__", "requests")], TimeRange::ALL);
    assert_eq!(found.iter().map(|(_, entry)| entry.labels.get("pod")).collect::<Vec<_>>(), ["c-1"]);
}

#[test]
fn cardinality_names_what_there_is_most_of() {
    let count = |name: &str, count| Count { name: name.to_string(), count };
    let found = index().cardinality(2);
    assert_eq!((found.series, found.label_pairs), (4, 7));
    assert_eq!(found.series_of_metric, [count("requests", 3), count("errors", 1)]);
    assert_eq!(found.values_of_label, [count("pod", 3), count("__name__", 2)]);
    assert_eq!(found.bytes_of_label, [count("__name__", 14), count("pod", 9)]);
    assert_eq!(found.series_of_pair, [count("__name__=requests", 3), count("code=200", 2)]);
}
