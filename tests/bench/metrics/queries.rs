//! The queries that are timed, and what they answer.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Request,
    client::conn::http1::{SendRequest, handshake},
    header::{ACCEPT_ENCODING, CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Options, peer::Peer};

/// Kiali's labels of an HTTP edge.
const KIALI_LABELS: &str = "source_cluster,source_workload_namespace,source_workload,source_canonical_service,\
    source_canonical_revision,destination_cluster,destination_service_namespace,destination_service,\
    destination_service_name,destination_workload_namespace,destination_workload,destination_canonical_service,\
    destination_canonical_revision,request_protocol,response_code,grpc_response_status,response_flags";

pub(crate) struct TimedQuery {
    pub(crate) name: &'static str,
    pub(crate) text: String,
    /// How far back a range query reaches; an instant query without.
    pub(crate) over_s: Option<i64>,
}

pub(crate) fn queries() -> Vec<TimedQuery> {
    let graph = |selector: &str| {
        format!("round(sum(rate(istio_requests_total{{{selector}}} [60s])) by ({KIALI_LABELS}) > 0,0.001)")
    };
    let query = |name, text: &str, over_s| TimedQuery { name, text: text.to_string(), over_s };
    vec![
        TimedQuery {
            name: "Kiali graph, a namespace, instant",
            text: graph("reporter=~\"waypoint|destination\",destination_workload_namespace=\"team-01\""),
            over_s: None,
        },
        TimedQuery {
            name: "Kiali graph, the mesh, instant",
            text: graph("reporter=\"source\""),
            over_s: None,
        },
        query(
            "histogram_quantile by workload, 1 h",
            "histogram_quantile(0.99, sum by (le, destination_workload) \
                (rate(istio_request_duration_milliseconds_bucket[1m])))",
            Some(3_600),
        ),
        query(
            "sum by (destination_service), 2 h",
            "sum by (destination_service) (rate(istio_requests_total[5m]))",
            Some(7_200),
        ),
        query(
            "topk of one service, 1 h",
            "topk(5, rate(istio_requests_total{destination_workload=\"workload-0003\"}[5m]))",
            Some(3_600),
        ),
        query("count by name, instant", "count({job=\"kubernetes-pods\"}) by (__name__)", None),
    ]
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Timing {
    pub(crate) name: String,
    /// The first run, with whatever caches are cold.
    pub(crate) first_s: f64,
    pub(crate) median_s: f64,
    /// CPU time of the process per run, without the first.
    pub(crate) cpu_s: f64,
    pub(crate) series: usize,
    pub(crate) points: usize,
    pub(crate) sum: f64,
}

/// Short queries are asked for so long.
const LEAST: Duration = Duration::from_millis(500);

/// Asks the same again and again, with as little work of its own as can be.
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    path: String,
    host: String,
    form: Bytes,
}

impl Connection {
    async fn open(address: &str, asked: &reqwest::Request) -> Result<Connection> {
        let stream = tokio::net::TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let form = asked.body().and_then(reqwest::Body::as_bytes).context("a form")?;
        let form = Bytes::copy_from_slice(form);
        Ok(Connection { sender, path: asked.url().path().to_owned(), host: address.to_owned(), form })
    }

    /// Until the last byte of the answer, packed as it comes: to unpack it is the reader's work.
    async fn time(&mut self) -> Result<Duration> {
        let began = Instant::now();
        self.ask("gzip").await?;
        Ok(began.elapsed())
    }

    async fn ask(&mut self, encoding: &str) -> Result<Bytes> {
        let request = Request::post(&self.path)
            .header(HOST, &self.host)
            .header(ACCEPT_ENCODING, encoding)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Full::new(self.form.clone()))?;
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        ensure!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&body));
        Ok(body)
    }
}

impl TimedQuery {
    pub(crate) async fn time(&self, options: &Options, peer: &Peer) -> Result<Timing> {
        let end_s = options.query_end_s();
        let mut form =
            vec![("query", self.text.clone()), ("timeout", "110s".into()), ("nocache", "1".into())];
        let url = match self.over_s {
            None => {
                form.push(("time", end_s.to_string()));
                peer.url("/api/v1/query")
            }
            Some(over_s) => {
                let data_s = (options.scrapes() * options.interval_s) as i64;
                let start_s = end_s - over_s.min(data_s);
                form.extend([
                    ("start", start_s.to_string()),
                    ("end", end_s.to_string()),
                    ("step", "15".into()),
                ]);
                peer.url("/api/v1/query_range")
            }
        };
        let asked = reqwest::Client::new().post(url).form(&form).build()?;
        let mut connection = Connection::open(peer.address(), &asked).await?;
        let first = connection.time().await?;
        let cpu_before = peer.cpu()?;
        let (began, mut times) = (Instant::now(), Vec::new());
        while times.len() < options.repeat || began.elapsed() < LEAST {
            times.push(connection.time().await?);
        }
        times.sort();
        let cpu = peer.cpu()?.saturating_sub(cpu_before);
        let answer: Value = serde_json::from_slice(&connection.ask("identity").await?)?;
        let result = answer["data"]["result"].as_array().context("no result")?;
        let values: Vec<f64> = result
            .iter()
            .flat_map(|series| {
                let many = series["values"].as_array().into_iter().flatten();
                series.get("value").into_iter().chain(many)
            })
            .filter_map(|pair| pair[1].as_str()?.parse().ok())
            .collect();
        Ok(Timing {
            name: self.name.to_string(),
            first_s: first.as_secs_f64(),
            median_s: times.get(times.len() / 2).unwrap_or(&first).as_secs_f64(),
            cpu_s: cpu.as_secs_f64() / times.len().max(1) as f64,
            series: result.len(),
            points: values.len(),
            sum: values.iter().filter(|value| value.is_finite()).sum(),
        })
    }
}
