use axum::{body::Body, http::Request};
use http_body_util::BodyExt;
use pharos_model::{
    HistogramSample, NativeHistogram, Sample as ModelSample, TimeSeries as ModelSeries, stale_nan,
};
use pharos_proto::prometheus::remote_write_v1::{
    ChunkedReadResponse, LabelMatcher as WireMatcher, ReadResponse,
};
use pharos_storage::{Batch, StorageConfig};
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
        let storage = Storage::open(StorageConfig::new(folder.path())).await.expect("opens");
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
    let query = Query { start_timestamp_ms: NOW_MS, end_timestamp_ms: last_ms, matchers };
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
async fn histograms_come_as_samples_and_faults_are_named() {
    let bench = Bench::new().await;
    let named = [("__name__", Type::Eq, "h")];
    let both = [ResponseType::StreamedXorChunks, ResponseType::Samples];
    let (status, kind, body) = bench.post(request(&named, &both, NOW_MS)).await;
    assert_eq!((status, kind.as_str()), (200, "application/x-protobuf"));
    let bytes = snap::raw::Decoder::new().decompress_vec(&body).expect("packed");
    let response = ReadResponse::decode(bytes.as_slice()).expect("a response");
    let histogram = &response.results[0].timeseries[0].histograms[0];
    assert_eq!((histogram.sum, &histogram.positive_counts, histogram.timestamp), (3.0, &vec![2.0], NOW_MS));
    for (body, words) in [
        (request(&named, &[ResponseType::StreamedXorChunks], NOW_MS), "native histograms"),
        (request(&[("__name__", Type::Re, "(")], &[], NOW_MS), "matcher"),
        (b"nonsense".to_vec(), "no remote read request"),
        (snap::raw::Encoder::new().compress_vec(b"\xff\xff").expect("packed"), "no remote read request"),
        (vec![0xff, 0xff, 0xff, 0xff, 0x0f], "no remote read request"),
    ] {
        let (status, _, text) = bench.post(body).await;
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(status == 400 && text.contains(words), "{status} {text}");
    }
}
