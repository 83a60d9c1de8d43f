use pharos_model::{EdgeMeasure, HistogramSample, Latency, NativeHistogram, ResetHint, Sample, TimeSeries};

use super::*;

const START_MS: i64 = 1_800_000_000_000;

fn config(dir: &std::path::Path) -> StorageConfig {
    StorageConfig { flush_after: Duration::from_secs(3_600), retention: None, ..StorageConfig::new(dir) }
}

fn histogram(n: i64) -> NativeHistogram {
    let n = n as f64;
    NativeHistogram {
        schema: 2,
        reset_hint: ResetHint::NotReset,
        zero_threshold: 0.001,
        zero_count: n,
        count: 4.0 * n,
        sum: 25.0 * n,
        positive: vec![(8, 2.0 * n), (13, n)],
        negative: Vec::new(),
        custom_bounds: Vec::new(),
    }
}

/// Request durations of one edge, with a histogram each 15 seconds.
fn durations(samples: std::ops::Range<i64>) -> TimeSeries {
    let at = |n: i64| START_MS + n * 15_000;
    TimeSeries {
        labels: Labels::from_pairs([
            ("__name__", "istio_request_duration_milliseconds"),
            ("reporter", "source"),
            ("source_workload", "productpage-v1"),
            ("destination_workload", "reviews-v1"),
        ]),
        histograms: samples.map(|n| HistogramSample { time_ms: at(n), histogram: histogram(n) }).collect(),
        ..TimeSeries::default()
    }
}

async fn check(storage: &Storage, numbers: std::ops::Range<i64>, when: &str) {
    let series = storage.select_series(&[], TimeRange::ALL, 10).unwrap();
    let ids: Vec<SeriesId> = series.iter().map(|(id, _)| *id).collect();
    let stored = storage.read_histograms(&ids, i64::MIN / 4, i64::MAX / 4).await.unwrap();
    let samples = stored.iter().flat_map(|series| series.samples.iter());
    let samples: Vec<_> = samples.map(|(time_ms, histogram)| (*time_ms, (**histogram).clone())).collect();
    let expected: Vec<_> = numbers.map(|n| (START_MS + n * 15_000, histogram(n))).collect();
    assert_eq!(samples, expected, "{when}");
}

#[tokio::test]
async fn native_histograms_are_kept_once_whatever_happens() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::open(config(dir.path())).await.unwrap();
    let append = async |storage: &Storage, samples| {
        storage.append(Batch::Samples(vec![durations(samples)])).await.unwrap()
    };
    assert_eq!(append(&storage, 1..9).await.rows, 8);
    // A float at the time of a histogram is a second sample of that time.
    let float = TimeSeries {
        histograms: Vec::new(),
        samples: vec![Sample { time_ms: START_MS + 15_000, value: 1.0 }],
        ..durations(0..0)
    };
    assert_eq!(storage.append(Batch::Samples(vec![float])).await.unwrap().duplicates, 1);
    assert_eq!(append(&storage, 1..3).await, Appended { rows: 0, duplicates: 2, ..Appended::default() });
    check(&storage, 1..9, "in the head").await;
    storage.flush().await.unwrap();
    append(&storage, 9..12).await;
    check(&storage, 1..12, "in a file and in the head").await;
    storage.close().await.unwrap();
    let storage = Storage::open(config(dir.path())).await.unwrap();
    check(&storage, 1..12, "after a start").await;
    assert_eq!(append(&storage, 10..13).await, Appended { rows: 1, duplicates: 2, ..Appended::default() });
    drop(storage);
    let storage = Storage::open(config(dir.path())).await.unwrap();
    check(&storage, 1..13, "after a replay").await;
    // Some only, and none of another metric.
    let ids = [durations(0..0).labels.series_id(), SeriesId(7)];
    let some = storage.read_histograms(&ids, START_MS + 30_000, START_MS + 45_000).await.unwrap();
    assert_eq!(
        some.iter().map(|series| (series.id, series.samples.len())).collect::<Vec<_>>(),
        [(ids[0], 2)]
    );
}

#[tokio::test]
async fn a_native_histogram_of_istio_makes_an_edge() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::open(config(dir.path())).await.unwrap();
    let mut series = durations(1..9);
    series
        .histograms
        .push(HistogramSample { time_ms: START_MS + 9 * 15_000, histogram: NativeHistogram::stale() });
    storage.append(Batch::Samples(vec![series])).await.unwrap();
    for when in ["in the head", "in a file"] {
        let edges = storage.edges_joined(TimeRange::ALL).await.unwrap();
        let mut edge = edges.first().cloned().unwrap();
        for next in &edges[1..] {
            edge.counter.join(&next.counter);
            edge.latency.join(&next.latency);
        }
        assert_eq!(
            (edge.measure, edge.key.destination.workload.as_str()),
            (EdgeMeasure::DurationMs, "reviews-v1")
        );
        // 7 steps of 25 ms and 4 requests each.
        assert_eq!(edge.counter.increase, 175.0, "{when}");
        let Latency::Histogram(latency) = &edge.latency else { panic!("no histogram {when}") };
        assert_eq!(latency.increase.last(), Some(&28.0), "{when}");
        // Three quarters lie at or below 4 ms, the rest between 8 and 2^3.25.
        let p90 = edge.latency.quantile_ms(0.9).unwrap();
        assert!((8.0..9.52).contains(&p90), "{p90} {when}");
        storage.flush().await.unwrap();
    }
}
