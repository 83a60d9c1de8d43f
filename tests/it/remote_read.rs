//! Debian's Prometheus, which has no data of its own and reads Pharos' by remote read, answers as Pharos does.

use anyhow::{Context, Result, ensure};
use pharos_proto::prometheus::remote_write_v1::{Label, Sample, TimeSeries, WriteRequest};
use prost::Message;
use serde_json::Value;

use crate::{
    backend::{Pharos, eventually, get_json},
    prometheus::Prometheus,
};

const SERIES: usize = 40;
/// Several chunks of each series.
const SAMPLES: i64 = 500;
const INTERVAL_MS: i64 = 15_000;

/// Counters and gauges of `SERIES` pods whose values change in many and in few bits.
fn data(start_ms: i64) -> WriteRequest {
    let series = |name: &str, pod: usize, value: &dyn Fn(i64) -> f64| TimeSeries {
        labels: [
            ("__name__", name.to_string()),
            ("app", format!("app-{}", pod % 3)),
            ("pod", format!("pod-{pod}")),
        ]
        .map(|(name, value)| Label { name: name.into(), value })
        .to_vec(),
        samples: (0..SAMPLES)
            .map(|at| Sample { timestamp: start_ms + at * INTERVAL_MS + at % 3, value: value(at) })
            .collect(),
        ..TimeSeries::default()
    };
    let timeseries = (0..SERIES)
        .flat_map(|pod| {
            let counter = series("requests_total", pod, &|at| ((at * (pod as i64 + 1)) % 3_000) as f64);
            let gauge = series("load", pod, &|at| (at as f64 * 0.37 + pod as f64).sin());
            [counter, gauge]
        })
        .collect();
    WriteRequest { timeseries, ..WriteRequest::default() }
}

#[tokio::test]
async fn debian_prometheus_reads_what_pharos_has() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let pharos = Pharos::serve(folder.path(), &[])?;
    let now_ms = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_millis();
    let start_ms = i64::try_from(now_ms)? / 60_000 * 60_000 - SAMPLES * INTERVAL_MS - 60_000;
    let client = reqwest::Client::new();
    let body = snap::raw::Encoder::new().compress_vec(&data(start_ms).encode_to_vec())?;
    let written = client
        .post(pharos.url("prometheus", "/api/v1/write"))
        .header("content-type", "application/x-protobuf")
        .header("content-encoding", "snappy")
        .header("x-prometheus-remote-write-version", "0.1.0")
        .body(body)
        .send()
        .await?;
    ensure!(written.status().is_success(), "{}", written.text().await?);

    let read = pharos.url("prometheus", "/api/v1/read");
    let config = format!("global: {{}}\nremote_read: [{{url: '{read}', read_recent: true}}]\n");
    let prometheus = Prometheus::start(&config, &[])?;
    eventually("Prometheus", async || get_json(&prometheus.url("/api/v1/query?query=1")).await).await?;

    // Off the multiples of a second: Prometheus 2 takes a sample on a window's left edge in, Prometheus 3 does not.
    let (start, end) = ((start_ms + 900_500) as f64 / 1e3, (start_ms + 7_000_500) as f64 / 1e3);
    for query in [
        "requests_total",
        "load{pod=~\"pod-[12].*\", app!=\"app-0\"}",
        "sum by (app) (rate(requests_total[5m]))",
        "max_over_time(load[10m]) > 0.9",
        "count({app=\"app-1\"}) by (__name__)",
        "absent(nothing)",
    ] {
        let ask = async |base: String| -> Result<Vec<String>> {
            let form = [
                ("query", query.to_string()),
                ("start", start.to_string()),
                ("end", end.to_string()),
                ("step", "77".to_string()),
            ];
            let answer: Value = client.post(base).form(&form).send().await?.json().await?;
            let result = answer["data"]["result"].as_array().with_context(|| answer.to_string())?;
            let mut result: Vec<String> = result.iter().map(same_form).collect();
            result.sort();
            Ok(result)
        };
        let own = ask(pharos.url("prometheus", "/api/v1/query_range")).await?;
        let read = ask(prometheus.url("/api/v1/query_range")).await?;
        ensure!(!own.is_empty(), "{query} has no result");
        ensure!(own == read, "{query}:\nPharos     {own:?}\nPrometheus {read:?}");
    }
    Ok(())
}

/// A series with its values rounded in the last digits: Prometheus 2 sums in another order.
fn same_form(series: &Value) -> String {
    let values = series["values"].as_array().into_iter().flatten().map(|pair| {
        let value: f64 = pair[1].as_str().and_then(|value| value.parse().ok()).unwrap_or(f64::NAN);
        format!("{} {value:.9e}", pair[0])
    });
    format!("{} {:?}", series["metric"], values.collect::<Vec<_>>())
}
