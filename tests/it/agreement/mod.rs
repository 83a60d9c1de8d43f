//! Debian's Prometheus and Pharos, fed the same samples by remote write, give the same answers: to what Kiali asks,
//! to Istio's Grafana dashboards, and to queries in the manner of prometheus/compliance. The queries are in
//! `queries/`.

mod data;
mod queries;

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use prost::Message;
use serde_json::Value;

use crate::{
    backend::{Pharos, eventually, get_json},
    prometheus::Prometheus,
};
use data::Data;

/// Prometheus 2 adds up without compensation, and in another order.
const RELATIVE: f64 = 1e-9;

/// After the start of the data. Never on a multiple of five seconds, where the steps of subqueries lie: those at the
/// edge of a subquery's range Prometheus 2 takes in and Prometheus 3 does not.
const START_S: i64 = 15 * 60 + 2;
const END_S: i64 = 36 * 60 + 2;
const STEP_S: i64 = 75;

struct Both {
    client: reqwest::Client,
    pharos: String,
    prometheus: String,
    start_s: i64,
}

#[tokio::test]
async fn debian_prometheus_and_pharos_agree() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let pharos = Pharos::serve(folder.path(), &[])?;
    let flags = ["--web.enable-remote-write-receiver"];
    let prometheus = Prometheus::start("global: {}\n", &flags)?;
    eventually("Prometheus", async || get_json(&prometheus.url("/api/v1/query?query=1")).await).await?;

    let now_ms = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_millis() as i64;
    let start_ms = data::start_ms(now_ms);
    let both = Both {
        client: reqwest::Client::new(),
        pharos: pharos.url("prometheus", ""),
        prometheus: prometheus.url(""),
        start_s: start_ms / 1000,
    };
    for request in Data::new(start_ms).requests() {
        both.write(&request.encode_to_vec()).await?;
    }

    let (mut differences, mut asked) = (Vec::new(), 0);
    for query in queries::all()? {
        for times in [both.instant(), both.range()] {
            asked += 1;
            if let Err(difference) = both.compare(&query, &times).await {
                differences.push(format!("{query}\n    {difference:#}"));
            }
        }
    }
    ensure!(differences.is_empty(), "{} of {asked} differ:\n{}", differences.len(), differences.join("\n"));
    ensure!(asked > 1000, "only {asked} queries");
    Ok(())
}

/// The parameters that say when.
struct Times {
    path: &'static str,
    form: Vec<(&'static str, String)>,
}

impl Both {
    async fn write(&self, body: &[u8]) -> Result<()> {
        let body = snap::raw::Encoder::new().compress_vec(body)?;
        for base in [&self.pharos, &self.prometheus] {
            let response = self
                .client
                .post(format!("{base}/api/v1/write"))
                .header("Content-Encoding", "snappy")
                .header("Content-Type", "application/x-protobuf")
                .header("X-Prometheus-Remote-Write-Version", "0.1.0")
                .body(body.clone())
                .send()
                .await?;
            let status = response.status();
            ensure!(status.is_success(), "{base}: {status}: {}", response.text().await?);
        }
        Ok(())
    }

    fn instant(&self) -> Times {
        Times { path: "/api/v1/query", form: vec![("time", (self.start_s + END_S).to_string())] }
    }

    fn range(&self) -> Times {
        let form = vec![
            ("start", (self.start_s + START_S).to_string()),
            ("end", (self.start_s + END_S).to_string()),
            ("step", STEP_S.to_string()),
        ];
        Times { path: "/api/v1/query_range", form }
    }

    async fn compare(&self, query: &str, times: &Times) -> Result<()> {
        let (ours, theirs) =
            (self.ask(&self.pharos, query, times).await?, self.ask(&self.prometheus, query, times).await?);
        match (ours, theirs) {
            (Answer::Error(_), Answer::Error(_)) => Ok(()),
            (Answer::Series(ours), Answer::Series(theirs)) => same_series(&ours, &theirs),
            (ours, theirs) => anyhow::bail!("{}: Pharos gives {ours}, Prometheus {theirs}", times.path),
        }
    }

    async fn ask(&self, base: &str, query: &str, times: &Times) -> Result<Answer> {
        let mut form = times.form.clone();
        form.push(("query", query.to_string()));
        let response = self.client.post(format!("{base}{}", times.path)).form(&form).send().await?;
        let text = response.text().await?;
        let answer: Value = serde_json::from_str(&text).with_context(|| format!("{base}: {text}"))?;
        if answer["status"] != "success" {
            return Ok(Answer::Error(format!("{}: {}", answer["errorType"], answer["error"])));
        }
        let result = &answer["data"]["result"];
        let Some(all) = result.as_array().filter(|all| all.iter().all(Value::is_object)) else {
            return Ok(Answer::Series(BTreeMap::from([("scalar".to_string(), vec![point(result)?])])));
        };
        let mut series = BTreeMap::new();
        for one in all {
            let labels: BTreeMap<String, String> = serde_json::from_value(one["metric"].clone())?;
            let points = match one.get("value") {
                Some(value) => vec![point(value)?],
                None => {
                    one["values"].as_array().context("no values")?.iter().map(point).collect::<Result<_>>()?
                }
            };
            let labels = format!("{labels:?}");
            ensure!(series.insert(labels.clone(), points).is_none(), "{base}: {labels} twice");
        }
        Ok(Answer::Series(series))
    }
}

enum Answer {
    Series(BTreeMap<String, Vec<(f64, String)>>),
    Error(String),
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Answer::Series(series) => write!(f, "{series:?}"),
            Answer::Error(error) => f.write_str(error),
        }
    }
}

/// A time and what the value is written as.
fn point(pair: &Value) -> Result<(f64, String)> {
    let value = pair[1].as_str().with_context(|| format!("no value in {pair}"))?;
    Ok((pair[0].as_f64().context("no time")?, value.to_string()))
}

fn same_series(
    ours: &BTreeMap<String, Vec<(f64, String)>>,
    theirs: &BTreeMap<String, Vec<(f64, String)>>,
) -> Result<()> {
    for (labels, points) in theirs {
        let own = ours.get(labels).with_context(|| format!("Pharos lacks {labels} = {points:?}"))?;
        ensure!(own.len() == points.len(), "{labels}: Pharos has {own:?}, Prometheus {points:?}");
        for (own, their) in own.iter().zip(points) {
            ensure!(
                own.0 == their.0 && same_value(&own.1, &their.1),
                "{labels}: Pharos has {own:?}, Prometheus {their:?}"
            );
        }
    }
    match ours.iter().find(|(labels, _)| !theirs.contains_key(*labels)) {
        Some((labels, points)) => anyhow::bail!("Pharos alone has {labels} = {points:?}"),
        None => Ok(()),
    }
}

fn same_value(own: &str, their: &str) -> bool {
    if own == their {
        return true;
    }
    let (Ok(own), Ok(their)) = (own.parse::<f64>(), their.parse::<f64>()) else { return false };
    // What cancels out leaves the rounding of much larger numbers.
    (own - their).abs() <= RELATIVE * own.abs().max(their.abs()).max(1e-3)
}
