use axum::{body::Body, http::Request};
use http_body_util::BodyExt;
use pharos_model::{
    HistogramSample, NativeHistogram, ResetHint, Sample as ModelSample, TimeSeries as ModelSeries, stale_nan,
};
use pharos_proto::prometheus::remote_write_v1::{
    ChunkedReadResponse, LabelMatcher as WireMatcher, ReadHints, ReadResponse, chunk::Encoding,
};
use pharos_storage::{Batch, Storage, StorageConfig};
use tower::ServiceExt;

use super::*;
use crate::{Configuration, EngineConfig, Host, api};

#[test]
fn chunks_hold_every_time_and_every_bit() {
    let times = |steps: &[i64]| {
        let mut time = -5i64;
        steps
            .iter()
            .map(|step| {
                time += step;
                time
            })
            .collect::<Vec<_>>()
    };
    let many: Vec<i64> = (0..120).map(|index| if index % 7 == 0 { 15_003 } else { 15_000 }).collect();
    let jumps = [0, 1, 8_193, 1, 1 << 16, 1, 1 << 19, 1, 1 << 40, 2, 8_194, 65_538, 3, (1 << 19) + 3, 1];
    for (steps, values) in [
        (vec![0], vec![1.5]),
        (vec![1_700_000_000_000, 15_000], vec![0.0, f64::INFINITY]),
        (many, (0..120).map(|index| f64::from(index) * 1.1).collect()),
        (jumps.to_vec(), jumps.iter().map(|jump| 1.0 / (*jump as f64 + 0.5)).collect()),
        (
            vec![1; 6],
            vec![stale_nan(), 0.0, -0.0, f64::MIN_POSITIVE, f64::from_bits(1), f64::from_bits(u64::MAX)],
        ),
        (vec![1; 40], vec![7.0; 40]),
    ] {
        let times = times(&steps);
        let decoded = xor::decode::samples(&xor::encode(&times, &values));
        let bits = |samples: Vec<(i64, f64)>| -> Vec<(i64, u64)> {
            samples.into_iter().map(|(time, value)| (time, value.to_bits())).collect()
        };
        assert_eq!(bits(decoded), bits(times.into_iter().zip(values).collect()));
    }
}

/// Written from the format's description alone: times, counts, zero counts, sums and the counts of all buckets.
fn histograms_of(chunk: &[u8]) -> (u8, Vec<(i64, Vec<f64>)>) {
    let count = u16::from_be_bytes([chunk[0], chunk[1]]);
    let mut reader = xor::decode::Reader { bytes: chunk, at: 24 };
    if reader.bits(8) == 255 {
        reader.bits(64);
    }
    let schema = reader.varbit_int();
    let mut buckets = 0;
    for _ in 0..2 {
        for _ in 0..reader.varbit().0 {
            buckets += reader.varbit().0;
            reader.varbit_int();
        }
    }
    if schema == i64::from(NativeHistogram::CUSTOM_SCHEMA) {
        for _ in 0..reader.varbit().0 {
            if reader.varbit().0 == 0 {
                reader.bits(64);
            }
        }
    }
    let (mut time, mut step) = (0, 0);
    let mut floats = vec![(0u64, (0, 0)); 3 + buckets as usize];
    let mut found = Vec::new();
    for number in 0..count {
        match number {
            0 => time = reader.varbit_int(),
            _ => {
                step += reader.varbit_int();
                time += step;
            }
        }
        let mut stale = false;
        for (place, (bits, window)) in floats.iter_mut().enumerate() {
            if place < 3 || !stale {
                match number {
                    0 => *bits = reader.bits(64),
                    _ => *bits ^= reader.changed(window),
                }
            }
            stale |= place == 2 && pharos_model::is_stale(f64::from_bits(*bits));
        }
        let kept = if stale { 3 } else { floats.len() };
        found.push((time, floats.iter().take(kept).map(|(bits, _)| f64::from_bits(*bits)).collect()));
    }
    (chunk[2], found)
}

#[test]
fn chunks_hold_every_histogram() {
    let histogram = |count: f64, positive: &[(i32, f64)], negative: &[(i32, f64)]| NativeHistogram {
        count,
        sum: count * 1.5,
        zero_threshold: 2f64.powi(-128),
        positive: positive.to_vec(),
        negative: negative.to_vec(),
        ..NativeHistogram::default()
    };
    let hinted = |reset_hint, of: NativeHistogram| NativeHistogram { reset_hint, ..of };
    let custom = |count: f64| NativeHistogram {
        schema: NativeHistogram::CUSTOM_SCHEMA,
        custom_bounds: vec![0.005, 0.1, 1.0 / 3.0, 1e9],
        zero_threshold: 0.0,
        ..histogram(count, &[(0, 1.0), (3, count - 1.0)], &[])
    };
    let a = || histogram(3.0, &[(-5, 1.0), (1, 2.0)], &[]);
    let b = || histogram(9.0, &[(-5, 1.0), (0, 4.0), (1, 2.0)], &[(900, 2.0)]);
    let stale = NativeHistogram::stale;
    // The flags and the number of histograms of each chunk.
    let check = |histograms: Vec<NativeHistogram>, want: &[(u8, usize)]| {
        let histograms: Vec<(i64, std::sync::Arc<NativeHistogram>)> = histograms
            .into_iter()
            .enumerate()
            .map(|(at, one)| (NOW_MS + at as i64 * 15_000 + (at as i64 % 3), std::sync::Arc::new(one)))
            .collect();
        let chunks = histogram_chunk::encode_all(&histograms);
        let mut rest = histograms.as_slice();
        let mut shapes = Vec::new();
        for chunk in &chunks {
            let (flags, found) = histograms_of(&chunk.data);
            shapes.push((flags, found.len()));
            let (run, after) = rest.split_at(found.len());
            assert_eq!((chunk.first_ms, chunk.last_ms), (run[0].0, run[run.len() - 1].0));
            for ((time_ms, one), (got_ms, got)) in run.iter().zip(found) {
                assert_eq!(*time_ms, got_ms);
                assert_eq!(one.is_stale(), got.len() == 3 && pharos_model::is_stale(got[2]));
                if !one.is_stale() {
                    // Buckets that a histogram lacks are empty ones.
                    let filled: Vec<f64> = got[3..].iter().copied().filter(|count| *count != 0.0).collect();
                    let own: Vec<f64> =
                        one.positive.iter().chain(&one.negative).map(|(_, count)| *count).collect();
                    assert_eq!((got[0], got[1], got[2], filled), (one.count, one.zero_count, one.sum, own));
                }
            }
            rest = after;
        }
        assert!(rest.is_empty());
        assert_eq!(shapes, want);
    };
    check(vec![], &[]);
    check(vec![a()], &[(0, 1)]);
    // Buckets that come are no reset, buckets that go are one.
    check(vec![a(), b(), b()], &[(0, 3)]);
    check(vec![b(), a()], &[(0, 1), (0x80, 1)]);
    check(vec![a(), stale(), a(), stale(), stale()], &[(0, 2), (0, 2), (0, 1)]);
    check(vec![custom(3.0), custom(5.0)], &[(0, 2)]);
    check(vec![custom(3.0), a()], &[(0, 1), (0x80, 1)]);
    check(vec![hinted(ResetHint::Gauge, b()), hinted(ResetHint::Gauge, a())], &[(0xc0, 2)]);
    check(vec![hinted(ResetHint::NotReset, a()), hinted(ResetHint::Reset, b())], &[(0x40, 1), (0x80, 1)]);
    check((0..250).map(|at| custom(f64::from(at) + 2.0)).collect(), &[(0, 120), (0, 120), (0, 10)]);
}

struct East;

impl Host for East {
    fn configuration(&self) -> Configuration {
        Configuration {
            external_labels: Labels::from_pairs([("cluster", "east")]),
            ..Configuration::default()
        }
    }
}

struct Bench {
    _folder: tempfile::TempDir,
    engine: Engine,
}

const NOW_MS: i64 = 1_795_248_000_000;

impl Bench {
    async fn new() -> Bench {
        let folder = tempfile::tempdir().expect("a folder");
        let storage = Storage::open(StorageConfig { retention: None, ..StorageConfig::new(folder.path()) })
            .await
            .expect("opens");
        let series = ["a", "b"].map(|pod| ModelSeries {
            labels: Labels::from_pairs([("__name__", "m"), ("pod", pod)]),
            samples: (0..300)
                .map(|at| ModelSample { time_ms: NOW_MS + at * 15_000, value: at as f64 })
                .collect(),
            ..ModelSeries::default()
        });
        let histogram =
            NativeHistogram { count: 2.0, sum: 3.0, positive: vec![(0, 2.0)], ..Default::default() };
        let histograms = ModelSeries {
            labels: Labels::from_pairs([("__name__", "h")]),
            histograms: vec![HistogramSample { time_ms: NOW_MS, histogram }],
            ..ModelSeries::default()
        };
        let all = series.into_iter().chain([histograms]).collect();
        storage.append(Batch::Samples(all)).await.expect("stored");
        let engine = Engine::new(storage, EngineConfig::default());
        engine.set_host(East);
        Bench { _folder: folder, engine }
    }

    async fn post(&self, body: Vec<u8>) -> (u16, String, Vec<u8>) {
        let request = Request::post("/api/v1/read").body(Body::from(body)).expect("a request");
        let router = api::prometheus_router(self.engine.clone());
        let response = router.oneshot(request).await.expect("infallible");
        let kind =
            response.headers().get("content-type").map(|kind| kind.to_str().expect("text").to_string());
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        (status, kind.unwrap_or_default(), body.to_vec())
    }
}

fn request(matchers: &[(&str, Type, &str)], types: &[ResponseType], last_ms: i64) -> Vec<u8> {
    let matchers = matchers
        .iter()
        .map(|(name, op, value)| WireMatcher {
            r#type: (*op).into(),
            name: (*name).into(),
            value: (*value).into(),
        })
        .collect();
    hinted_request(matchers, types, last_ms, None)
}

fn hinted_request(
    matchers: Vec<WireMatcher>,
    types: &[ResponseType],
    last_ms: i64,
    hints: Option<ReadHints>,
) -> Vec<u8> {
    let query = Query { start_timestamp_ms: NOW_MS, end_timestamp_ms: last_ms, matchers, hints };
    let request = ReadRequest {
        queries: vec![query],
        accepted_response_types: types.iter().map(|kind| (*kind).into()).collect(),
    };
    snap::raw::Encoder::new().compress_vec(&request.encode_to_vec()).expect("packed")
}

fn label_text(labels: &[Label]) -> String {
    labels.iter().map(|label| format!("{}={}", label.name, label.value)).collect::<Vec<_>>().join(",")
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_and_chunks_say_the_same() {
    let bench = Bench::new().await;
    let all = [("__name__", Type::Re, "m|n"), ("cluster", Type::Eq, "east"), ("pod", Type::Neq, "c")];
    let last_ms = NOW_MS + 200 * 15_000;
    let want: Vec<(i64, f64)> = (0..=200).map(|at| (NOW_MS + at * 15_000, at as f64)).collect();

    let (status, kind, body) = bench.post(request(&all, &[], last_ms)).await;
    assert_eq!((status, kind.as_str()), (200, "application/x-protobuf"));
    let bytes = snap::raw::Decoder::new().decompress_vec(&body).expect("packed");
    let response = ReadResponse::decode(bytes.as_slice()).expect("a response");
    let series = &response.results[0].timeseries;
    assert_eq!(
        series.iter().map(|series| label_text(&series.labels)).collect::<Vec<_>>(),
        ["__name__=m,cluster=east,pod=a", "__name__=m,cluster=east,pod=b"]
    );
    let samples = series[0].samples.iter().map(|sample| (sample.timestamp, sample.value));
    assert_eq!(samples.collect::<Vec<_>>(), want);

    let (status, kind, body) =
        bench.post(request(&all, &[ResponseType::StreamedXorChunks, ResponseType::Samples], last_ms)).await;
    assert_eq!((status, kind.split(';').next()), (200, Some("application/x-streamed-protobuf")));
    let mut rest = body.as_slice();
    let mut seen = Vec::new();
    while !rest.is_empty() {
        let length = prost::decode_length_delimiter(&mut rest).expect("a length");
        let (sum, after) = rest.split_at(4);
        let (message, after) = after.split_at(length);
        assert_eq!(sum, crc32c::crc32c(message).to_be_bytes());
        let frame = ChunkedReadResponse::decode(message).expect("a frame");
        assert_eq!(frame.query_index, 0);
        for series in frame.chunked_series {
            let samples: Vec<_> =
                series.chunks.iter().flat_map(|chunk| xor::decode::samples(&chunk.data)).collect();
            assert_eq!((series.chunks[0].min_time_ms, series.chunks[1].max_time_ms), (NOW_MS, last_ms));
            seen.push((label_text(&series.labels), samples));
        }
        rest = after;
    }
    assert_eq!(seen.len(), 2);
    assert_eq!((seen[0].0.as_str(), &seen[0].1), ("__name__=m,cluster=east,pod=a", &want));
}

#[tokio::test(flavor = "multi_thread")]
async fn histograms_come_both_ways_and_faults_are_named() {
    let bench = Bench::new().await;
    let named = [("__name__", Type::Eq, "h")];
    let streamed = [ResponseType::StreamedXorChunks];
    let (status, _, body) = bench.post(request(&named, &streamed, NOW_MS)).await;
    let mut rest = body.as_slice();
    let length = prost::decode_length_delimiter(&mut rest).expect("a length");
    let frame = ChunkedReadResponse::decode(&rest[4..4 + length]).expect("a frame");
    let chunk = &frame.chunked_series[0].chunks[0];
    assert_eq!((status, chunk.r#type()), (200, Encoding::FloatHistogram));
    assert_eq!(histograms_of(&chunk.data), (0, vec![(NOW_MS, vec![2.0, 0.0, 3.0, 2.0])]));
    let both = [ResponseType::Samples, ResponseType::StreamedXorChunks];
    let (status, kind, body) = bench.post(request(&named, &both, NOW_MS)).await;
    assert_eq!((status, kind.as_str()), (200, "application/x-protobuf"));
    let bytes = snap::raw::Decoder::new().decompress_vec(&body).expect("packed");
    let response = ReadResponse::decode(bytes.as_slice()).expect("a response");
    let histogram = &response.results[0].timeseries[0].histograms[0];
    assert_eq!((histogram.sum, &histogram.positive_counts, histogram.timestamp), (3.0, &vec![2.0], NOW_MS));
    for (body, words) in [
        (request(&[("__name__", Type::Re, "(")], &[], NOW_MS), "error parsing regexp"),
        (b"nonsense".to_vec(), "no remote read request"),
        (snap::raw::Encoder::new().compress_vec(b"\xff\xff").expect("packed"), "no remote read request"),
        (vec![0xff, 0xff, 0xff, 0xff, 0x0f], "no remote read request"),
    ] {
        let (status, _, text) = bench.post(body).await;
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(status == 400 && text.contains(words), "{status} {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hints_narrow_the_time_and_never_widen_it() {
    let bench = Bench::new().await;
    let at = |step: i64| NOW_MS + step * 15_000;
    for (hints, first, last) in [
        (None, 0, 200),
        (Some((at(50), at(60))), 50, 60),
        (Some((at(-50), at(300))), 0, 200),
        // Those that say nothing.
        (Some((0, 0)), 0, 200),
    ] {
        let hints = hints.map(|(start_ms, end_ms)| ReadHints { start_ms, end_ms });
        let matcher = |name: &str, value: &str| WireMatcher {
            r#type: Type::Eq.into(),
            name: name.into(),
            value: value.into(),
        };
        let matchers = vec![matcher("__name__", "m"), matcher("pod", "a")];
        let (status, _, body) = bench.post(hinted_request(matchers, &[], at(200), hints)).await;
        let bytes = snap::raw::Decoder::new().decompress_vec(&body).expect("packed");
        let response = ReadResponse::decode(bytes.as_slice()).expect("a response");
        let samples = &response.results[0].timeseries[0].samples;
        let ends = (samples.first().map(|one| one.timestamp), samples.last().map(|one| one.timestamp));
        assert_eq!((status, ends), (200, (Some(at(first)), Some(at(last)))), "{hints:?}");
    }
}
