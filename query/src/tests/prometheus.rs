use axum::{body::Body, http::Request};
use pharos_model::{
    Exemplar, HistogramSample, Labels, MetricKind, MetricMetadata, NativeHistogram, Sample, TimeSeries,
    stale_nan,
};
use pharos_proto::prometheus::exposition::{MetricFamily, MetricType};
use pharos_storage::Batch;
use prost::Message;
use serde_json::json;

use super::{Bench, query_string, recent_minute_s};
use crate::EngineConfig;

/// Two counters over ten minutes, 1/s and 3/s, and a series that ended.
async fn bench() -> (Bench, i64) {
    let bench = Bench::new().await;
    let now_s = recent_minute_s();
    for (pod, rate) in [("a", 1.0), ("b", 3.0)] {
        let labels = Labels::from_pairs([("__name__", "requests_total"), ("pod", pod), ("app", "x \"y\"")]);
        bench
            .append_counter(labels, (now_s - 600..=now_s).step_by(15), |t| rate * (t - now_s + 600) as f64)
            .await;
    }
    let labels = Labels::from_pairs([("__name__", "ended"), ("instance", "i")]);
    bench
        .append_counter(labels, [now_s - 30, now_s - 15].into_iter(), |t| {
            if t == now_s - 15 { stale_nan() } else { 1.0 }
        })
        .await;
    (bench, now_s)
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_answer_by_get_and_by_form() {
    let (bench, now_s) = bench().await;
    let time = now_s.to_string();
    let query = query_string([
        ("query", "sort(round(sum(rate(requests_total [300s])) by (pod) > 0, 0.001))"),
        ("time", &time),
    ]);
    let want = json!({
        "status": "success",
        "data": {
            "resultType": "vector",
            "result": [
                { "metric": { "pod": "a" }, "value": [now_s, "1"] },
                { "metric": { "pod": "b" }, "value": [now_s, "3"] },
            ],
        },
    });
    assert_eq!(bench.get(&format!("/api/v1/query?{query}")).await.1, want);
    assert_eq!(bench.post("/api/v1/query", "application/x-www-form-urlencoded", query).await.1, want);
    let (start, end) = ((now_s - 60).to_string(), now_s.to_string());
    let query = query_string([
        ("query", "requests_total{pod=\"a\"}"),
        ("start", &start),
        ("end", &end),
        ("step", "30s"),
    ]);
    let (_, body) = bench.get(&format!("/api/v1/query_range?{query}")).await;
    assert_eq!(
        body["data"]["result"][0]["values"],
        json!([[now_s - 60, "540"], [now_s - 30, "570"], [now_s, "600"]])
    );
    assert_eq!(body["data"]["resultType"], "matrix");
    let scalar = bench.get("/api/v1/query?query=1%2B1&time=4").await.1;
    assert_eq!(scalar["data"], json!({ "resultType": "scalar", "result": [4, "2"] }));
    let text = bench.get("/api/v1/query?query=%22a%22&time=4.5").await.1;
    assert_eq!(text["data"], json!({ "resultType": "string", "result": [4.500, "a"] }));
    let none = bench.get("/api/v1/query?query=nothing").await.1;
    assert_eq!(none["data"]["result"], json!([]));
    let query = query_string([("query", "requests_total"), ("time", &time), ("limit", "1")]);
    let (_, body) = bench.get(&format!("/api/v1/query?{query}")).await;
    assert_eq!(body["data"]["result"].as_array().map(Vec::len), Some(1));
    assert_eq!(body["warnings"], json!(["results truncated due to limit"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_count_samples_by_step() {
    let (bench, now_s) = bench().await;
    let ask = async |query: &str, stats: &str| {
        let (start, end) = ((now_s - 60).to_string(), now_s.to_string());
        let query = [("query", query), ("start", &start), ("end", &end), ("step", "30"), ("stats", stats)];
        let (_, body) = bench.get(&format!("/api/v1/query_range?{}", query_string(query))).await;
        body["data"]["stats"].clone()
    };
    // Two series with a sample every 15 s: windows of four samples, of which two are of the step before.
    let stats = ask("rate(requests_total[1m])", "all").await;
    let steps =
        |counts: [u64; 3]| json!([[now_s - 60, counts[0]], [now_s - 30, counts[1]], [now_s, counts[2]]]);
    let samples = &stats["samples"];
    assert_eq!(samples["totalQueryableSamplesPerStep"], steps([8, 8, 8]));
    assert_eq!(samples["samplesReadPerStep"], steps([8, 4, 4]));
    assert_eq!((&samples["totalQueryableSamples"], &samples["samplesRead"]), (&json!(24), &json!(16)));
    assert!(samples["peakSamples"].as_u64() > Some(0), "{samples}");
    for part in ["evalTotalTime", "innerEvalTime", "execQueueTime", "execTotalTime"] {
        assert!(stats["timings"][part].is_f64(), "{part} in {stats}");
    }
    // Sums alone for any other wish, and nothing for none.
    let samples = &ask("rate(requests_total[1m])", "1").await["samples"];
    assert_eq!(samples["totalQueryableSamples"], 24);
    assert!(samples.get("totalQueryableSamplesPerStep").is_none(), "{samples}");
    assert_eq!(ask("rate(requests_total[1m])", "").await, json!(null));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_takes_its_query_with_it() {
    let config = EngineConfig {
        promql_concurrency: 1,
        promql_timeout: std::time::Duration::from_secs(3_600),
        ..EngineConfig::default()
    };
    let bench = Bench::with_config(config).await;
    let now_s = recent_minute_s();
    // Fifty times eleven thousand windows of sixty thousand values each.
    let (start, end) = ((now_s - 600).to_string(), (now_s + 10_400).to_string());
    let expression = ["stddev_over_time(vector(1)[16h:1s])"; 50].join(" + ");
    let query = query_string([("query", &*expression), ("start", &start), ("end", &end), ("step", "1")]);
    let uri = format!("/api/v1/query_range?{query}");
    let permits = bench.engine.promql_permits();
    let is_at_work = async {
        while permits.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        answer = bench.get(&uri) => panic!("a query of many minutes answers {answer:?}"),
        () = is_at_work => {}
    }
    // The one place for queries is free again long before the other would have ended.
    let (status, body) = bench.get("/api/v1/query?query=up&timeout=60s").await;
    assert_eq!(status, 200, "{body}");
}

/// As Prometheus' `--query.max-samples`: what fits is answered, what does not has its error.
#[tokio::test(flavor = "multi_thread")]
async fn a_query_holds_so_many_samples_and_no_more() {
    let bench = Bench::with_config(EngineConfig { promql_max_samples: 100, ..EngineConfig::default() }).await;
    let now_s = recent_minute_s();
    for pod in ["a", "b", "c"] {
        let labels = Labels::from_pairs([("__name__", "up"), ("pod", pod)]);
        bench.append_counter(labels, (now_s - 600..=now_s).step_by(15), |_| 1.0).await;
    }
    let ask = async |query: &str, step_s: i64| {
        let (start, end) = ((now_s - 600).to_string(), now_s.to_string());
        let step = step_s.to_string();
        let query = query_string([("query", query), ("start", &start), ("end", &end), ("step", &step)]);
        bench.get(&format!("/api/v1/query_range?{query}")).await
    };
    // Three series of 21 and of 41 points.
    assert_eq!(ask("up", 30).await.0, 200);
    for (query, step_s) in [("up", 15), ("up + on (pod) up", 15), ("vector(1)", 1)] {
        let (status, body) = ask(query, step_s).await;
        let error = "query processing would load too many samples into memory in query execution";
        assert_eq!((status.as_u16(), &body["errorType"]), (422, &json!("execution")), "{query}: {body}");
        assert_eq!((&body["status"], &body["error"]), (&json!("error"), &json!(error)), "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_has_its_own_lookback_timeout_and_features() {
    let (bench, now_s) = bench().await;
    let found = async |bench: &Bench, lookback: &str| {
        let time = (now_s + 60).to_string();
        let query =
            query_string([("query", "requests_total"), ("time", &time), ("lookback_delta", lookback)]);
        let (_, body) = bench.get(&format!("/api/v1/query?{query}")).await;
        body["data"]["result"].as_array().map(Vec::len)
    };
    assert_eq!((found(&bench, "61s").await, found(&bench, "59").await), (Some(2), Some(0)));

    let slow = query_string([("query", "stddev_over_time(vector(1)[16h:1s])"), ("timeout", "200ms")]);
    let uri = format!("/api/v1/query_range?{slow}&start=0&end=10000&step=1");
    let (status, body) = bench.get(&uri).await;
    assert_eq!((status.as_u16(), &body["errorType"]), (503, &json!("timeout")), "{body}");

    let experimental = "/api/v1/query?query=mad_over_time(requests_total[5m])";
    assert_eq!(bench.get(experimental).await.0, 400);
    let promql_features = crate::PromqlFeatures { experimental_functions: true, ..Default::default() };
    let bench = Bench::with_config(EngineConfig { promql_features, ..EngineConfig::default() }).await;
    assert_eq!(bench.get(experimental).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_have_prometheus_form() {
    let (bench, _) = bench().await;
    let check = async |uri: &str, status: u16, kind: &str, message: &str| {
        let (got, body) = bench.get(uri).await;
        assert_eq!(
            (got.as_u16(), &body["status"], &body["errorType"]),
            (status, &json!("error"), &json!(kind)),
            "{uri}: {body}"
        );
        assert!(body["error"].as_str().unwrap_or("").contains(message), "{uri}: {body}");
    };
    check("/api/v1/query?query=sum(", 400, "bad_data", "parse error").await;
    check("/api/v1/query", 400, "bad_data", "no expression").await;
    check("/api/v1/query?query=up&time=noon", 400, "bad_data", "\"noon\"").await;
    check("/api/v1/query?query=up&limit=-1", 400, "bad_data", "non-negative").await;
    check("/api/v1/query_range?query=up&start=0&end=1&step=0", 400, "bad_data", "zero or negative").await;
    check("/api/v1/query_range?query=up&start=2&end=1&step=1", 400, "bad_data", "before start").await;
    check("/api/v1/query_range?query=up&start=0&end=100000&step=1", 400, "bad_data", "11,000 points").await;
    check("/api/v1/query_range?query=up&end=1&step=1", 400, "bad_data", "\"start\"").await;
    check("/api/v1/series", 400, "bad_data", "match[]").await;
    check("/api/v1/series?match[]=%7B%7D", 400, "bad_data", "match[]").await;
    check("/api/v1/labels?match[]=a%7B", 400, "bad_data", "parse error").await;
    let many = query_string([("query", "requests_total + on(app) requests_total")]);
    check(&format!("/api/v1/query?{many}"), 422, "execution", "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_series_and_metadata() {
    let (bench, now_s) = bench().await;
    let data = async |uri: &str| bench.get(uri).await.1["data"].clone();
    assert_eq!(data("/api/v1/labels").await, json!(["__name__", "app", "instance", "pod"]));
    assert_eq!(data("/api/v1/labels?match[]=ended").await, json!(["__name__", "instance"]));
    assert_eq!(
        data("/api/v1/label/__name__/values?start=0&end=99999999999").await,
        json!(["ended", "requests_total"])
    );
    assert_eq!(
        data("/api/v1/label/pod/values?match[]=requests_total%7Bpod!%3D%22a%22%7D").await,
        json!(["b"])
    );
    assert_eq!(data("/api/v1/label/none/values").await, json!([]));
    let (_, body) = bench.get("/api/v1/labels?limit=2").await;
    assert_eq!((body["data"].as_array().map(Vec::len), body["warnings"].is_array()), (Some(2), true));
    let series = data("/api/v1/series?match[]=requests_total&match[]=ended").await;
    assert_eq!(
        series,
        json!([
            { "__name__": "ended", "instance": "i" },
            { "__name__": "requests_total", "app": "x \"y\"", "pod": "a" },
            { "__name__": "requests_total", "app": "x \"y\"", "pod": "b" },
        ])
    );
    let labels = Labels::from_pairs([("__name__", "latency_bucket"), ("le", "1")]);
    bench
        .append(Batch::Samples(vec![TimeSeries {
            labels,
            samples: vec![Sample { time_ms: now_s * 1_000, value: 1.0 }],
            exemplars: vec![Exemplar {
                labels: Labels::from_pairs([("trace_id", "abc")]),
                time_ms: now_s * 1_000,
                value: 0.5,
            }],
            metadata: Some(MetricMetadata {
                family: "latency".into(),
                kind: MetricKind::Histogram,
                help: "How long.".into(),
                unit: "seconds".into(),
            }),
            ..TimeSeries::default()
        }]))
        .await;
    assert_eq!(
        data("/api/v1/metadata").await,
        json!({ "latency": [{ "type": "histogram", "help": "How long.", "unit": "seconds" }] })
    );
    assert_eq!(
        data("/api/v1/query_exemplars?query=rate(latency_bucket%5B5m%5D)").await,
        json!([{
            "seriesLabels": { "__name__": "latency_bucket", "le": "1" },
            "exemplars": [{ "labels": { "trace_id": "abc" }, "value": "0.5", "timestamp": now_s as f64 }],
        }])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn native_histograms_that_are_stored_can_be_queried() {
    let bench = Bench::new().await;
    let now_s = recent_minute_s();
    let at = |t: i64| HistogramSample {
        time_ms: t * 1_000,
        // Each second one observation in (1, 2] and three in (2, 4].
        histogram: NativeHistogram {
            count: 4.0 * (t - now_s + 600) as f64,
            sum: 10.0 * (t - now_s + 600) as f64,
            positive: vec![(1, (t - now_s + 600) as f64), (2, 3.0 * (t - now_s + 600) as f64)],
            ..NativeHistogram::default()
        },
    };
    let series = TimeSeries {
        labels: Labels::from_pairs([("__name__", "latency"), ("pod", "a")]),
        histograms: (now_s - 600..=now_s).step_by(15).map(at).collect(),
        ..TimeSeries::default()
    };
    bench.append(Batch::Samples(vec![series])).await;
    let ask = async |query: &str| {
        let query = query_string([("query", query), ("time", &now_s.to_string())]);
        bench.get(&format!("/api/v1/query?{query}")).await.1["data"]["result"].clone()
    };
    assert_eq!(
        ask("latency").await,
        json!([{
            "metric": { "__name__": "latency", "pod": "a" },
            "histogram": [now_s, {
                "count": "2400",
                "sum": "6000",
                "buckets": [[0, "1", "2", "600"], [0, "2", "4", "1800"]],
            }],
        }])
    );
    let number = async |query: &str| ask(query).await[0]["value"][1].as_str().unwrap_or("").to_string();
    assert_eq!(number("round(histogram_count(rate(latency[5m])), 0.001)").await, "4");
    assert_eq!(number("round(histogram_avg(sum(rate(latency[5m]))), 0.001)").await, "2.5");
    assert_eq!(number("round(histogram_quantile(0.25, rate(latency[5m])), 0.001)").await, "2");
    bench.storage.flush().await.expect("flushed");
    assert_eq!(number("round(histogram_count(rate(latency[5m])), 0.001)").await, "4");
    // A Prometheus that federates them asks for protobuf.
    let uri = "/federate?match[]=latency";
    let request = || Request::get(uri);
    assert_eq!(bench.text(request().body(Body::empty()).expect("a request")).await.1, "");
    let accept = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,text/plain;q=0.3";
    let request = request().header("accept", accept).body(Body::empty()).expect("a request");
    let body = bench.bytes(request).await.1;
    let family = MetricFamily::decode_length_delimited(body.as_slice()).expect("a family");
    let histogram = family.metric[0].histogram.as_ref().expect("a histogram");
    assert_eq!((family.name.as_str(), family.r#type()), ("latency", MetricType::Histogram));
    assert_eq!((histogram.sample_count_float, &histogram.positive_count), (2400.0, &vec![600.0, 1800.0]));
    let query = query_string([
        ("query", "latency"),
        ("start", &(now_s - 15).to_string()),
        ("end", &now_s.to_string()),
        ("step", "15"),
    ]);
    let (_, body) = bench.get(&format!("/api/v1/query_range?{query}")).await;
    let series = &body["data"]["result"][0];
    assert_eq!((series["histograms"][1][1]["count"].as_str(), series.get("values")), (Some("2400"), None));
}

/// What an unmodified Kiali asks of the server itself.
#[tokio::test(flavor = "multi_thread")]
async fn status_tells_what_kiali_needs() {
    let (bench, _) = bench().await;
    let data = async |uri: &str| bench.get(uri).await.1["data"].clone();
    let config = data("/api/v1/status/config").await;
    assert!(config["yaml"].as_str().unwrap_or("").contains("scrape_interval: 15s"), "{config}");
    assert_eq!(data("/api/v1/status/runtimeinfo").await["storageRetention"], "100y");
    assert_eq!(data("/api/v1/status/buildinfo").await["version"], "3.14.0");
    assert_eq!(data("/api/v1/status/flags").await["query.lookback-delta"], "5m");
    assert_eq!(data("/api/v1/status/tsdb").await["headStats"]["numSeries"], 3);
    assert_eq!(
        data("/api/v1/status/tsdb").await["seriesCountByMetricName"][0],
        json!({ "name": "requests_total", "value": 2 })
    );
    for probe in ["/-/healthy", "/-/ready"] {
        assert_eq!(bench.get(probe).await.0, 200);
    }
    let (status, own) = bench.get("/api/v1/status").await;
    assert_eq!(status, 200);
    let samples = own["tables"].as_array().into_iter().flatten().find(|table| table["name"] == "samples");
    assert_eq!(samples.map(|table| &table["rows"]), Some(&json!(84)), "{own}");
}

#[tokio::test(flavor = "multi_thread")]
async fn federation_gives_the_current_value_with_its_time() {
    let (bench, now_s) = bench().await;
    let request = Request::get("/federate?match[]=%7B__name__%3D~%22.%2B%22%7D")
        .body(Body::empty())
        .expect("a request");
    let (status, text) = bench.text(request).await;
    assert_eq!(status, 200);
    let time_ms = now_s * 1_000;
    assert_eq!(
        text,
        format!(
            "# TYPE requests_total untyped\n\
             requests_total{{app=\"x \\\"y\\\"\",pod=\"a\",instance=\"\"}} 600 {time_ms}\n\
             requests_total{{app=\"x \\\"y\\\"\",pod=\"b\",instance=\"\"}} 1800 {time_ms}\n"
        )
    );
    let (status, body) = bench.get("/federate?match[]=a%7B").await;
    let text = body.as_str().unwrap_or_default();
    assert!(status == 400 && text.contains("parse error"), "{status} {body}");
}
