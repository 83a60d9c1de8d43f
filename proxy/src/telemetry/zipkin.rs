//! Spans as Zipkin v2 JSON, by HTTP POST. `shared` is never set: a server span has an id of its own.

use super::StartError;
use super::batch::{Backoff, Batches};
use super::span::Span;
use crate::config::ZipkinConfig;
use crate::node::Node;
use bytes::Bytes;
use http::{Method, Request, Uri};
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use pharos_model::SpanKind;
use serde_json::{Map, Value, json};
use std::net::IpAddr;
use std::time::{Duration, UNIX_EPOCH};

/// Tries for one batch; then it is given up, so that newer spans get their turn.
const ATTEMPTS: u32 = 5;
const TIMEOUT: Duration = Duration::from_secs(2);

pub(crate) struct Sender {
    client: Client<HttpConnector, Full<Bytes>>,
    url: Uri,
    service_name: String,
    ip: Option<IpAddr>,
}

impl Sender {
    pub(crate) fn new(config: &ZipkinConfig, node: &Node) -> Result<Self, StartError> {
        let fault = |message: &str| StartError {
            field: "tracing.zipkin.url",
            address: config.url.clone(),
            message: message.to_owned(),
        };
        let url: Uri = config.url.parse().map_err(|_| fault("is not a URL"))?;
        if url.scheme_str() != Some("http") || url.host().is_none() {
            return Err(fault("must be http://host:port/path"));
        }
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).pool_max_idle_per_host(1).build_http(),
            url,
            service_name: node.service_name.clone(),
            ip: node.id.split('~').nth(1).and_then(|ip| ip.parse().ok()),
        })
    }

    pub(crate) async fn run(self, mut batches: Batches<Span>) {
        let mut backoff = Backoff::new();
        while let Some(batch) = batches.next().await {
            let spans: Vec<Value> = batch.iter().map(|span| self.json(span)).collect();
            let body = Bytes::from(Value::Array(spans).to_string());
            let mut sent = false;
            for attempt in 1..=ATTEMPTS {
                match self.post(body.clone()).await {
                    Ok(()) => {
                        backoff.reset();
                        sent = true;
                        break;
                    }
                    Err(Refusal::Final(reason)) => {
                        tracing::warn!(reason, "the Zipkin receiver refuses our spans");
                        break;
                    }
                    Err(Refusal::Later(reason)) => {
                        tracing::debug!(reason, attempt, "spans were not taken");
                        if batches.stopping() {
                            break;
                        }
                        backoff.wait(batches.stop_token()).await;
                    }
                }
            }
            if !sent {
                tracing::warn!(spans = batch.len(), "spans given up: the Zipkin receiver does not take them");
                batches.count_dropped(batch.len());
            }
        }
    }

    async fn post(&self, body: Bytes) -> Result<(), Refusal> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(self.url.clone())
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| Refusal::Final(error.to_string()))?;
        let response = tokio::time::timeout(TIMEOUT, self.client.request(request))
            .await
            .map_err(|_| Refusal::Later("no answer in time".to_owned()))?
            .map_err(|error| Refusal::Later(error.to_string()))?;
        let status = response.status();
        if status.is_success() {
            Ok(())
        } else if status.is_client_error() && status.as_u16() != 429 {
            Err(Refusal::Final(status.to_string()))
        } else {
            Err(Refusal::Later(status.to_string()))
        }
    }

    fn json(&self, span: &Span) -> Value {
        let since_epoch = span.start.duration_since(UNIX_EPOCH).unwrap_or_default();
        let micros = |d: Duration| u64::try_from(d.as_micros()).unwrap_or(u64::MAX);
        let mut endpoint = Map::new();
        endpoint.insert("serviceName".into(), json!(self.service_name));
        match self.ip {
            Some(IpAddr::V4(ip)) => endpoint.insert("ipv4".into(), json!(ip.to_string())),
            Some(IpAddr::V6(ip)) => endpoint.insert("ipv6".into(), json!(ip.to_string())),
            None => None,
        };
        let tags: Map<String, Value> =
            span.tags.iter().map(|(k, v)| ((*k).to_owned(), json!(v.as_str()))).collect();
        let mut all = json!({
            "traceId": span.context.trace_id.short_hex(),
            "id": span.context.span_id.to_string(),
            "kind": if span.kind == SpanKind::Client { "CLIENT" } else { "SERVER" },
            "name": &*span.name,
            "timestamp": micros(since_epoch),
            "duration": micros(span.duration).max(1),
            "localEndpoint": endpoint,
            "tags": tags,
        });
        if let (Some(parent), Some(fields)) = (span.context.parent, all.as_object_mut()) {
            fields.insert("parentId".into(), json!(parent.to_string()));
        }
        if span.context.debug
            && let Some(fields) = all.as_object_mut()
        {
            fields.insert("debug".into(), json!(true));
        }
        all
    }
}

enum Refusal {
    /// The same again is of no use.
    Final(String),
    Later(String),
}
