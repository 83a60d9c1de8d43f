use http::StatusCode;
use pharos_model::{STALE_NAN_BITS, UnixNanos};
use pharos_proto::prometheus::{
    remote_write_v1::{
        BucketSpan, Exemplar, Histogram, Label, MetricMetadata, Sample, TimeSeries, WriteRequest, histogram,
        metric_metadata::MetricType,
    },
    remote_write_v2 as v2,
};
use prost::Message;

use crate::{
    CollectorConfig, Limits, Protocol,
    bench::{Answer, Bench, Headers, post},
    start_time::StartTimes,
};

const V1: Headers<'static> = &[("content-type", "application/x-protobuf"), ("content-encoding", "snappy")];
const V2: Headers<'static> = &[
    ("content-type", "application/x-protobuf;proto=io.prometheus.write.v2.Request"),
    ("content-encoding", "snappy"),
];

async fn send(bench: &Bench, headers: Headers<'_>, body: &[u8]) -> Answer {
    post(bench.collector.remote_write_router(), "/api/v1/write", headers, body.to_vec()).await
}

async fn write(bench: &Bench, request: &WriteRequest) -> Answer {
    send(bench, V1, &snappy(&request.encode_to_vec())).await
}

fn snappy(bytes: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(bytes).unwrap()
}

fn series(labels: Headers<'_>, samples: &[(i64, f64)]) -> TimeSeries {
    TimeSeries {
        labels: labels
            .iter()
            .map(|(name, value)| Label { name: (*name).into(), value: (*value).into() })
            .collect(),
        samples: samples
            .iter()
            .map(|(timestamp, value)| Sample { timestamp: *timestamp, value: *value })
            .collect(),
        ..TimeSeries::default()
    }
}

fn request(timeseries: Vec<TimeSeries>) -> WriteRequest {
    WriteRequest { timeseries, metadata: Vec::new() }
}

fn now_ms() -> i64 {
    UnixNanos::now().millis()
}

/// A request with every kind of field.
pub(crate) fn sample_request() -> Vec<u8> {
    let mut one = series(&[("__name__", "a"), ("b", "c")], &[(1_700_000_000_000, 1.0)]);
    one.histograms = vec![Histogram {
        count: Some(histogram::Count::CountInt(10)),
        schema: 3,
        negative_spans: vec![BucketSpan { offset: -3, length: 2 }],
        negative_deltas: vec![1, 2],
        positive_spans: vec![BucketSpan { offset: 5, length: 2 }, BucketSpan { offset: 1, length: 1 }],
        positive_deltas: vec![2, 1, 1],
        custom_values: vec![1.0, 2.0],
        timestamp: 1_700_000_000_000,
        ..Histogram::default()
    }];
    request(vec![one]).encode_to_vec()
}

/// Reads bytes as a request of both versions.
pub(crate) fn take_apart(bytes: &[u8]) {
    drop(super::v1::decode(bytes, i64::MAX, &Default::default()));
    drop(super::v2::decode(bytes, i64::MAX, &Default::default(), Some(&StartTimes::new(|_, _| false))));
}

#[tokio::test]
async fn samples_old_and_new_are_written() {
    let mut bench = Bench::new().await;
    let now = now_ms();
    let day = 86_400_000;
    let mut first =
        series(&[("__name__", "a"), ("b", "c"), ("empty", "")], &[(now, 1.0), (now - 3 * day, 2.0)]);
    let label = Label { name: "trace_id".into(), value: "t".into() };
    first.exemplars = vec![Exemplar { labels: vec![label], value: 0.5, timestamp: now }];
    let ended = series(&[("__name__", "a"), ("b", "d")], &[(now, f64::from_bits(STALE_NAN_BITS))]);
    let answer = write(&bench, &request(vec![first, ended])).await;
    assert_eq!((answer.status, answer.body.len()), (StatusCode::NO_CONTENT, 0), "{}", answer.text());
    assert_eq!(answer.header("x-prometheus-remote-write-samples-written"), "3");
    assert_eq!(answer.header("x-prometheus-remote-write-exemplars-written"), "1");
    let stored = bench.stored();
    assert_eq!(
        stored.lines(),
        [
            format!("a{{b=\"c\"}} 1 @{now}"),
            format!("a{{b=\"c\"}} 2 @{}", now - 3 * day),
            format!("a{{b=\"d\"}} stale @{now}"),
        ]
    );
    assert_eq!(stored.series[0].exemplars[0].labels.get("trace_id"), "t");
    assert_eq!(bench.received(Protocol::RemoteWrite).items, 3);
}

#[tokio::test]
async fn metadata_that_comes_by_itself_goes_with_the_familys_next_series() {
    let mut bench = Bench::new().await;
    let told = MetricMetadata {
        r#type: MetricType::Histogram.into(),
        metric_family_name: "h".into(),
        help: "how long".into(),
        unit: "s".into(),
    };
    let answer = write(&bench, &WriteRequest { timeseries: Vec::new(), metadata: vec![told] }).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    let bucket = || series(&[("__name__", "h_bucket"), ("le", "1")], &[(now_ms(), 1.0)]);
    write(&bench, &request(vec![bucket()])).await;
    let stored = bench.stored();
    let metadata = stored.series[0].metadata.as_ref().unwrap();
    assert_eq!(
        (metadata.family.as_str(), metadata.kind.name(), metadata.help.as_str()),
        ("h", "histogram", "how long")
    );
    write(&bench, &request(vec![bucket()])).await;
    assert!(bench.stored().series.iter().all(|series| series.metadata.is_none()), "once is enough");
}

#[tokio::test]
async fn native_histograms_are_written() {
    let mut bench = Bench::new().await;
    let now = now_ms();
    let native = Histogram {
        count: Some(histogram::Count::CountInt(10)),
        sum: 42.0,
        schema: 0,
        zero_count: Some(histogram::ZeroCount::ZeroCountInt(1)),
        zero_threshold: 0.001,
        // Buckets (0.5, 1], (1, 2] and, behind a gap of one, (4, 8].
        positive_spans: vec![BucketSpan { offset: 0, length: 2 }, BucketSpan { offset: 1, length: 1 }],
        positive_deltas: vec![2, 1, 1],
        timestamp: now,
        ..Histogram::default()
    };
    let mut both = series(&[("__name__", "h")], &[]);
    both.histograms = vec![native.clone()];
    let answer = write(&bench, &request(vec![both.clone()])).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT, "{}", answer.text());
    assert_eq!(answer.header("x-prometheus-remote-write-histograms-written"), "1");
    let line = format!("h {{count:10 sum:42 schema:0 zero:1 [0]:2 [1]:3 [3]:4}} @{now}");
    assert_eq!(bench.stored().lines(), [line]);

    for (native, words) in [
        (Histogram { schema: 99, ..native.clone() }, "schema 99"),
        (Histogram { positive_deltas: vec![1], ..native.clone() }, "fewer bucket counts"),
        (
            Histogram { positive_spans: vec![BucketSpan { offset: 0, length: u32::MAX }], ..native.clone() },
            "more than",
        ),
        (Histogram { timestamp: now + 3_600_000, ..native }, "future"),
    ] {
        let mut bad = both.clone();
        bad.histograms = vec![native];
        let answer = write(&bench, &request(vec![bad])).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        assert!(answer.text().contains(words), "{}", answer.text());
    }
}

#[tokio::test]
async fn bad_series_are_named_and_the_good_ones_kept() {
    let now = now_ms();
    for (labels, time, words) in [
        (vec![("b", "c")], now, "__name__"),
        (vec![("__name__", "bad"), ("", "c")], now, "without a name"),
        (vec![("__name__", "bad"), ("b", "c"), ("b", "d")], now, "bad{b=\"d\"} has a label twice"),
        (vec![("__name__", "bad")], now + 3_600_000, "future"),
    ] {
        let mut bench = Bench::new().await;
        let good = series(&[("__name__", "good")], &[(now, 1.0)]);
        let answer = write(&bench, &request(vec![good, series(&labels, &[(time, 2.0)])])).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        assert!(answer.text().contains(words), "{:?} does not say {words:?}", answer.text());
        assert_eq!(answer.header("x-prometheus-remote-write-samples-written"), "1");
        assert_eq!(bench.stored().lines(), [format!("good 1 @{now}")]);
        assert_eq!(bench.received(Protocol::RemoteWrite).rejected, 1);
    }
}

#[tokio::test]
async fn version_2_tells_when_counters_began() {
    let config = CollectorConfig { start_time_zeros: true, ..CollectorConfig::default() };
    let mut bench = Bench::with(config).await;
    let now = now_ms();
    let sample = |timestamp, start_timestamp| v2::Sample { value: 3.0, timestamp, start_timestamp };
    let histogram = v2::Histogram { timestamp: now, start_timestamp: now - 50, ..v2::Histogram::default() };
    let request = v2::Request {
        symbols: ["", "__name__", "a", "b", "h"].map(String::from).to_vec(),
        timeseries: vec![
            v2::TimeSeries {
                labels_refs: vec![1, 2],
                samples: vec![sample(now - 10, now - 30), sample(now, now - 30)],
                ..v2::TimeSeries::default()
            },
            v2::TimeSeries {
                labels_refs: vec![1, 3],
                samples: vec![sample(now, 0)],
                ..v2::TimeSeries::default()
            },
            v2::TimeSeries {
                labels_refs: vec![1, 4],
                histograms: vec![histogram],
                ..v2::TimeSeries::default()
            },
        ],
    };
    let answer = send(&bench, V2, &snappy(&request.encode_to_vec())).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT, "{}", answer.text());
    // The zeros are ours: the sender hears of what it sent.
    assert_eq!(answer.header("x-prometheus-remote-write-samples-written"), "3");
    assert_eq!(answer.header("x-prometheus-remote-write-histograms-written"), "1");
    let lines = bench.stored().lines();
    let floats = [
        format!("a 0 @{}", now - 30),
        format!("a 3 @{}", now - 10),
        format!("a 3 @{now}"),
        format!("b 3 @{now}"),
    ];
    assert_eq!(lines[..4], floats);
    assert_eq!(lines.len(), 6, "{lines:?}");
    assert!(lines[4..].iter().any(|line| line.ends_with(&format!("@{}", now - 50))), "{lines:?}");
}

#[tokio::test]
async fn a_start_that_does_not_fit_what_is_stored_is_no_fault() {
    let config = CollectorConfig { start_time_zeros: true, ..CollectorConfig::default() };
    let mut bench = Bench::with(config).await;
    let now = now_ms();
    let sample = |timestamp, start_timestamp| v2::Sample { value: 3.0, timestamp, start_timestamp };
    // The first tells of no start; those after it of starts at its time, before it, and between two of one request.
    for (samples, zeros) in [
        (vec![sample(now - 900, 0)], vec![]),
        (vec![sample(now - 800, now - 900)], vec![]),
        (vec![sample(now - 700, now - 950)], vec![]),
        (vec![sample(now - 600, 0), sample(now - 500, now - 600)], vec![]),
        (vec![sample(now - 400, now - 450)], vec![now - 450]),
    ] {
        let sent = samples.len();
        let request = v2::Request {
            symbols: ["", "__name__", "a"].map(String::from).to_vec(),
            timeseries: vec![v2::TimeSeries {
                labels_refs: vec![1, 2],
                samples,
                ..v2::TimeSeries::default()
            }],
        };
        let answer = send(&bench, V2, &snappy(&request.encode_to_vec())).await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT, "{}", answer.text());
        assert_eq!(answer.header("x-prometheus-remote-write-samples-written"), sent.to_string());
        let stored = bench.stored();
        let stored = stored.series.iter().flat_map(|series| &series.samples);
        let got: Vec<i64> =
            stored.filter(|sample| sample.value == 0.0).map(|sample| sample.time_ms).collect();
        assert_eq!(got, zeros);
    }
}

#[tokio::test]
async fn version_2_takes_exemplars_apart_from_their_samples() {
    let mut bench = Bench::new().await;
    let now = now_ms();
    let symbols: Vec<String> = ["", "__name__", "a", "trace_id", "7"].map(String::from).to_vec();
    let sample = v2::Sample { value: 3.0, timestamp: now, start_timestamp: 0 };
    let exemplar = v2::Exemplar { labels_refs: vec![3, 4], value: 3.0, timestamp: now };
    // Those with the exemplars know nothing of the metric.
    let known = v2::Metadata { r#type: v2::metadata::MetricType::Counter.into(), help_ref: 4, unit_ref: 0 };
    let apart = vec![
        v2::TimeSeries {
            labels_refs: vec![1, 2],
            samples: vec![sample],
            metadata: Some(known),
            ..v2::TimeSeries::default()
        },
        v2::TimeSeries {
            labels_refs: vec![1, 2],
            exemplars: vec![exemplar],
            metadata: Some(v2::Metadata::default()),
            ..v2::TimeSeries::default()
        },
    ];
    let request = v2::Request { symbols, timeseries: apart };
    let answer = send(&bench, V2, &snappy(&request.encode_to_vec())).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT, "{}", answer.text());
    for (what, written) in [("samples", "1"), ("exemplars", "1")] {
        assert_eq!(answer.header(&format!("x-prometheus-remote-write-{what}-written")), written);
    }
    let metadata: Vec<_> = bench.stored().series.into_iter().filter_map(|series| series.metadata).collect();
    assert_eq!(
        metadata.iter().map(|one| (one.kind, one.help.as_str())).collect::<Vec<_>>(),
        [(pharos_model::MetricKind::Counter, "7")]
    );
}

#[tokio::test]
async fn version_2() {
    let mut bench = Bench::new().await;
    let now = now_ms();
    let symbols = ["", "__name__", "a_total", "b", "c", "help text"].map(String::from).to_vec();
    let one = v2::TimeSeries {
        labels_refs: vec![1, 2, 3, 4],
        samples: vec![v2::Sample { value: 1.0, timestamp: now, start_timestamp: 0 }],
        exemplars: vec![v2::Exemplar { labels_refs: vec![3, 99], value: 1.0, timestamp: now }],
        metadata: Some(v2::Metadata {
            r#type: v2::metadata::MetricType::Counter.into(),
            help_ref: 5,
            unit_ref: 0,
        }),
        ..v2::TimeSeries::default()
    };
    let good = v2::Request { symbols: symbols.clone(), timeseries: vec![one.clone()] };
    let answer = send(&bench, V2, &snappy(&good.encode_to_vec())).await;
    assert_eq!(
        (answer.status, answer.header("x-prometheus-remote-write-samples-written")),
        (StatusCode::NO_CONTENT, "1")
    );
    let stored = bench.stored();
    assert_eq!(stored.lines(), [format!("a_total{{b=\"c\"}} 1 @{now}")]);
    let metadata = stored.series[0].metadata.as_ref().unwrap();
    assert_eq!((metadata.family.as_str(), metadata.help.as_str()), ("a_total", "help text"));

    for (refs, words) in [(vec![1, 2, 3], "odd number"), (vec![1, 77], "symbol 77")] {
        let bad = v2::TimeSeries { labels_refs: refs, ..one.clone() };
        let request = v2::Request { symbols: symbols.clone(), timeseries: vec![bad] };
        let answer = send(&bench, V2, &snappy(&request.encode_to_vec())).await;
        assert_eq!(
            (answer.status, answer.header("x-prometheus-remote-write-samples-written")),
            (StatusCode::BAD_REQUEST, "0")
        );
        assert!(answer.text().contains(words), "{}", answer.text());
    }
}

/// The series as a request of version 2, each text a symbol as often as it occurs.
fn as_version_2(all: &[TimeSeries]) -> v2::Request {
    let mut symbols = vec![String::new()];
    let mut refs = |labels: &[Label]| -> Vec<u32> {
        let texts = labels.iter().flat_map(|label| [&label.name, &label.value]);
        texts.map(|text| (symbols.push(text.clone()), symbols.len() as u32 - 1).1).collect()
    };
    let timeseries = all.iter().map(|series| v2::TimeSeries {
        labels_refs: refs(&series.labels),
        samples: series
            .samples
            .iter()
            .map(|sample| v2::Sample { value: sample.value, timestamp: sample.timestamp, start_timestamp: 7 })
            .collect(),
        histograms: series
            .histograms
            .iter()
            .map(|sent| v2::Histogram::decode(&*sent.encode_to_vec()).unwrap())
            .map(|sent| v2::Histogram { start_timestamp: 7, ..sent })
            .collect(),
        exemplars: series
            .exemplars
            .iter()
            .map(|sent| v2::Exemplar {
                labels_refs: refs(&sent.labels),
                value: sent.value,
                timestamp: sent.timestamp,
            })
            .collect(),
        metadata: None,
    });
    let timeseries = timeseries.collect();
    v2::Request { symbols, timeseries }
}

/// Status, counts of samples, histograms and exemplars that were written, and text.
async fn told(bench: &Bench, version: u8, all: Vec<TimeSeries>) -> (StatusCode, [String; 3], String) {
    let answer = match version {
        1 => write(bench, &request(all)).await,
        _ => send(bench, V2, &snappy(&as_version_2(&all).encode_to_vec())).await,
    };
    let written = ["samples", "histograms", "exemplars"]
        .map(|kind| answer.header(&format!("x-prometheus-remote-write-{kind}-written")).to_string());
    (answer.status, written, answer.text())
}

#[tokio::test]
async fn what_comes_twice_late_or_changed_has_prometheus_answer() {
    for version in [1, 2] {
        let mut bench = Bench::new().await;
        let now = now_ms();
        let (ok, bad) = (StatusCode::NO_CONTENT, StatusCode::BAD_REQUEST);
        for (what, samples, status, written, words, stored) in [
            ("new", vec![(now, 1.0)], ok, "1", "", 1),
            ("sent again", vec![(now, 1.0)], ok, "1", "", 0),
            ("changed", vec![(now, 2.0)], bad, "0", "a{b=\"c\"} has the value 1 at", 0),
            ("late", vec![(now - 60_000, 5.0)], ok, "1", "", 1),
            ("late again", vec![(now - 60_000, 5.0)], ok, "1", "", 0),
            ("late and changed", vec![(now - 60_000, 6.0)], bad, "0", "and not 6", 0),
            ("very old", vec![(now - 400 * 86_400_000, 5.0)], ok, "1", "", 1),
            ("twice at once", vec![(now + 1, 3.0), (now + 1, 3.0)], ok, "2", "", 1),
            ("two at one time", vec![(now + 2, 3.0), (now + 2, 4.0)], bad, "1", "has the value 3", 1),
            ("falling", vec![(now + 5, 1.0), (now + 4, 2.0)], ok, "2", "", 2),
            ("in the future", vec![(now + 6, 1.0), (now + 3_600_000, 2.0)], bad, "1", "future", 1),
            (
                "stale twice",
                vec![(now + 7, f64::from_bits(STALE_NAN_BITS)), (now + 7, f64::from_bits(STALE_NAN_BITS))],
                ok,
                "2",
                "",
                1,
            ),
        ] {
            let told = told(&bench, version, vec![series(&[("__name__", "a"), ("b", "c")], &samples)]).await;
            let wanted = [written, "0", "0"].map(String::from);
            assert_eq!((told.0, &told.1), (status, &wanted), "version {version}, {what}: {}", told.2);
            assert!(told.2.contains(words), "version {version}, {what}: {}", told.2);
            assert_eq!(bench.stored().lines().len(), stored, "version {version}, {what}");
        }
    }
}

#[tokio::test]
async fn what_the_store_refuses_is_not_counted_as_written() {
    for version in [1, 2] {
        let mut bench = Bench::new().await;
        let now = now_ms();
        let native = || Histogram {
            count: Some(histogram::Count::CountInt(1)),
            zero_count: Some(histogram::ZeroCount::ZeroCountInt(1)),
            timestamp: now + 1,
            ..Histogram::default()
        };
        let exemplar = || Exemplar { labels: vec![Label::default()], value: 1.0, timestamp: now };
        let with_all = |name: &str, value: &str| TimeSeries {
            histograms: vec![native()],
            exemplars: vec![exemplar()],
            ..series(&[("__name__", name), ("b", value)], &[(now, 1.0)])
        };
        let all = vec![with_all("bad", &"x".repeat(10_000)), with_all("good", "c")];
        let (status, written, text) = told(&bench, version, all).await;
        assert_eq!((status, written), (StatusCode::BAD_REQUEST, ["1", "1", "1"].map(String::from)), "{text}");
        assert!(text.contains("2 samples were not stored") && text.contains("10000 bytes"), "{text}");
        assert_eq!(bench.stored().lines().len(), 2);
    }
}

/// What protobuf leaves to a writer: numbers one by one, symbols after the series that name them.
#[tokio::test]
async fn version_2_in_another_order() {
    let mut bench = Bench::new().await;
    let now = now_ms();
    let packed = as_version_2(&[series(&[("__name__", "a"), ("b", "c")], &[(now, 1.0)])]);
    let mut one = v2::TimeSeries { labels_refs: Vec::new(), ..packed.timeseries[0].clone() }.encode_to_vec();
    one.extend([8, 1, 8, 2, 8, 3, 8, 4]);
    let mut body = vec![5 << 3 | 2, one.len() as u8];
    body.extend(one);
    for symbol in &packed.symbols {
        body.extend([4 << 3 | 2, symbol.len() as u8]);
        body.extend(symbol.as_bytes());
    }
    let answer = send(&bench, V2, &snappy(&body)).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT, "{}", answer.text());
    assert_eq!(bench.stored().lines(), [format!("a{{b=\"c\"}} 1 @{now}")]);
}

#[tokio::test]
async fn bad_requests_of_version_2_are_refused_whole_and_bad_series_alone() {
    let now = now_ms();
    let good = series(&[("__name__", "good")], &[(now, 1.0)]);
    let request = || as_version_2(&[good.clone(), series(&[("__name__", "a"), ("b", "c")], &[(now, 1.0)])]);
    type Change = fn(&mut v2::Request);
    let cases: [(&str, &str, Change); 8] = [
        ("first of the symbols", "0", |request| request.symbols[0] = "x".into()),
        ("symbol 99", "1", |request| request.timeseries[1].labels_refs[3] = 99),
        ("odd number", "1", |request| request.timeseries[1].labels_refs.truncate(3)),
        ("no label __name__", "1", |request| request.timeseries[1].labels_refs.clear()),
        ("neither samples nor histograms", "1", |request| request.timeseries[1].samples.clear()),
        ("has a label twice", "1", |request| {
            let refs = request.timeseries[1].labels_refs[2..].to_vec();
            request.timeseries[1].labels_refs.extend(refs);
        }),
        ("future", "1", |request| request.timeseries[1].samples[0].timestamp += 3_600_000),
        ("schema 99", "1", |request| {
            request.timeseries[1].histograms = vec![v2::Histogram { schema: 99, ..Default::default() }];
            request.timeseries[1].samples.clear();
        }),
    ];
    for (words, written, change) in cases {
        let mut bench = Bench::new().await;
        let mut changed = request();
        change(&mut changed);
        let answer = send(&bench, V2, &snappy(&changed.encode_to_vec())).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{words}");
        assert!(answer.text().contains(words), "{:?} does not say {words:?}", answer.text());
        assert_eq!(answer.header("x-prometheus-remote-write-samples-written"), written, "{words}");
        assert_eq!(bench.stored().lines().len().to_string(), written, "{words}");
    }
    // Cut anywhere, a request is refused or, between two of its parts, a shorter one.
    let bench = Bench::new().await;
    let whole = request().encode_to_vec();
    for end in 0..whole.len() {
        let status = send(&bench, V2, &snappy(&whole[..end])).await.status;
        assert!(matches!(status.as_u16(), 204 | 400), "{end}: {status}");
    }
}

#[tokio::test]
async fn bad_requests() {
    let bench = Bench::limited(Limits { max_body_bytes: 10_000, ..Limits::default() }).await;
    let good = snappy(&request(vec![series(&[("__name__", "a")], &[(now_ms(), 1.0)])]).encode_to_vec());
    let bad = StatusCode::BAD_REQUEST;
    let unsupported = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    let cases: Vec<(Headers<'_>, Vec<u8>, StatusCode, &str)> = vec![
        (V1, b"plain".to_vec(), bad, "snappy"),
        (V1, Vec::new(), bad, "snappy"),
        (V1, good[..good.len() - 2].to_vec(), bad, "snappy"),
        (V1, snappy(&[0xff, 0xff]), bad, "protobuf"),
        (V2, snappy(&[0xff, 0xff]), bad, "protobuf"),
        (V1, snappy(&vec![0; 10_001]), StatusCode::PAYLOAD_TOO_LARGE, "10000"),
        (&[("content-type", "application/json")], good.clone(), unsupported, "application/json"),
        (
            &[("content-type", "application/x-protobuf;proto=other.Message")],
            good.clone(),
            unsupported,
            "other.Message",
        ),
        (&[("content-encoding", "gzip")], good.clone(), unsupported, "gzip"),
    ];
    for (index, (headers, body, status, words)) in cases.into_iter().enumerate() {
        let answer = send(&bench, headers, &body).await;
        assert_eq!(answer.status, status, "case {index}: {}", answer.text());
        assert!(answer.text().contains(words), "case {index}: {:?} does not say {words:?}", answer.text());
    }
    // Senders that name no type are taken at their word.
    assert_eq!(send(&bench, &[], &good).await.status, StatusCode::NO_CONTENT);
}
