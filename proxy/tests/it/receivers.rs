//! What a backend would receive: access logs, OTLP spans, Zipkin spans.

use crate::world::PATIENCE;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use pharos_proto::envoy::config::core::v3::Node;
use pharos_proto::envoy::data::accesslog::v3::HttpAccessLogEntry;
use pharos_proto::envoy::service::accesslog::v3::access_log_service_server::{
    AccessLogService, AccessLogServiceServer,
};
use pharos_proto::envoy::service::accesslog::v3::stream_access_logs_message::LogEntries;
use pharos_proto::envoy::service::accesslog::v3::{StreamAccessLogsMessage, StreamAccessLogsResponse};
use pharos_proto::otlp::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use pharos_proto::otlp::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Status, Streaming};

/// Things that arrive one after the other and can be waited for.
pub(crate) struct Inbox<T> {
    items: Mutex<Vec<T>>,
    arrived: Notify,
}

impl<T: Clone> Inbox<T> {
    fn new() -> Arc<Self> {
        Arc::new(Self { items: Mutex::new(Vec::new()), arrived: Notify::new() })
    }

    fn put(&self, items: impl IntoIterator<Item = T>) {
        self.items.lock().extend(items);
        self.arrived.notify_waiters();
    }

    /// Waits until what has arrived satisfies `done`, and returns all of it.
    pub(crate) async fn wait_for(&self, what: &str, done: impl Fn(&[T]) -> bool) -> Vec<T> {
        let wait = async {
            loop {
                let arrived = self.arrived.notified();
                tokio::pin!(arrived);
                arrived.as_mut().enable();
                {
                    let items = self.items.lock();
                    if done(&items) {
                        return items.clone();
                    }
                }
                arrived.await;
            }
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(items) => items,
            Err(_) => panic!("{what} did not arrive; {} items did", self.items.lock().len()),
        }
    }
}

#[derive(Clone)]
pub(crate) struct LogRow {
    pub(crate) node: Arc<Node>,
    pub(crate) log_name: String,
    pub(crate) entry: HttpAccessLogEntry,
}

impl LogRow {
    pub(crate) fn request_id(&self) -> &str {
        &self.entry.request.as_ref().unwrap().request_id
    }

    pub(crate) fn cluster(&self) -> &str {
        &self.entry.common_properties.as_ref().unwrap().upstream_cluster
    }

    pub(crate) fn route_name(&self) -> &str {
        &self.entry.common_properties.as_ref().unwrap().route_name
    }

    pub(crate) fn details(&self) -> &str {
        &self.entry.response.as_ref().unwrap().response_code_details
    }

    pub(crate) fn code(&self) -> u32 {
        self.entry.response.as_ref().unwrap().response_code.unwrap()
    }

    pub(crate) fn attempts(&self) -> u32 {
        self.entry.common_properties.as_ref().unwrap().upstream_request_attempt_count
    }

    pub(crate) fn tag(&self, name: &str) -> &str {
        let tags = &self.entry.common_properties.as_ref().unwrap().custom_tags;
        tags.get(name).map_or("", String::as_str)
    }

    /// Short flags, joined as in text.
    pub(crate) fn flags(&self) -> String {
        let flags = self.entry.common_properties.as_ref().unwrap().response_flags.unwrap();
        let set: Vec<&str> = [
            ("UH", flags.no_healthy_upstream),
            ("UT", flags.upstream_request_timeout),
            ("LR", flags.local_reset),
            ("UR", flags.upstream_remote_reset),
            ("UF", flags.upstream_connection_failure),
            ("UC", flags.upstream_connection_termination),
            ("UO", flags.upstream_overflow),
            ("NR", flags.no_route_found),
            ("DI", flags.delay_injected),
            ("FI", flags.fault_injected),
            ("DC", flags.downstream_connection_termination),
            ("URX", flags.upstream_retry_limit_exceeded),
            ("DPE", flags.downstream_protocol_error),
            ("NC", flags.no_cluster_found),
        ]
        .into_iter()
        .filter_map(|(name, set)| set.then_some(name))
        .collect();
        if set.is_empty() { "-".to_owned() } else { set.join(",") }
    }
}

struct Logs(Arc<Inbox<LogRow>>);

#[tonic::async_trait]
impl AccessLogService for Logs {
    async fn stream_access_logs(
        &self,
        request: tonic::Request<Streaming<StreamAccessLogsMessage>>,
    ) -> Result<tonic::Response<StreamAccessLogsResponse>, Status> {
        let mut stream = request.into_inner();
        let mut identity = None;
        while let Some(message) = stream.message().await? {
            if let Some(identifier) = message.identifier {
                identity = Some((Arc::new(identifier.node.unwrap_or_default()), identifier.log_name));
            }
            let (node, log_name) =
                identity.clone().ok_or_else(|| Status::invalid_argument("no identifier"))?;
            if let Some(LogEntries::HttpLogs(logs)) = message.log_entries {
                let row = |entry| LogRow { node: node.clone(), log_name: log_name.clone(), entry };
                self.0.put(logs.log_entry.into_iter().map(row));
            }
        }
        Ok(tonic::Response::new(StreamAccessLogsResponse {}))
    }
}

/// An access-log service. It ends with the returned handle, so that a test can play it being away.
pub(crate) async fn access_logs(
    at: SocketAddr,
) -> (SocketAddr, Arc<Inbox<LogRow>>, tokio::task::JoinHandle<()>) {
    let inbox = Inbox::new();
    let (address, task) = access_logs_into(at, inbox.clone()).await;
    (address, inbox, task)
}

pub(crate) async fn access_logs_into(
    at: SocketAddr,
    inbox: Arc<Inbox<LogRow>>,
) -> (SocketAddr, tokio::task::JoinHandle<()>) {
    let socket = TcpListener::bind(at).await.unwrap();
    let address = socket.local_addr().unwrap();
    let server = tonic::transport::Server::builder()
        .add_service(AccessLogServiceServer::new(Logs(inbox)))
        .serve_with_incoming(TcpListenerStream::new(socket));
    let task = tokio::spawn(async move {
        let _ = server.await;
    });
    (address, task)
}

/// A span, whichever way it came.
#[derive(Debug, Clone)]
pub(crate) struct SpanRow {
    pub(crate) service: String,
    pub(crate) name: String,
    pub(crate) kind: &'static str,
    pub(crate) trace_id: String,
    pub(crate) span_id: String,
    pub(crate) parent: String,
    pub(crate) tags: std::collections::BTreeMap<String, String>,
}

struct Otlp(Arc<Inbox<SpanRow>>);

#[tonic::async_trait]
impl TraceService for Otlp {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, Status> {
        use pharos_proto::otlp::common::v1::{KeyValue, any_value::Value};
        let text = |pair: &KeyValue| match pair.value.as_ref().and_then(|v| v.value.as_ref()) {
            Some(Value::StringValue(text)) => text.clone(),
            other => format!("{other:?}"),
        };
        for resource in request.into_inner().resource_spans {
            let attributes = resource.resource.unwrap().attributes;
            let service = attributes.iter().find(|a| a.key == "service.name").map(text).unwrap();
            for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                self.0.put([SpanRow {
                    service: service.clone(),
                    kind: if span.kind == 3 { "CLIENT" } else { "SERVER" },
                    trace_id: hex::encode(&span.trace_id),
                    span_id: hex::encode(&span.span_id),
                    parent: hex::encode(&span.parent_span_id),
                    tags: span.attributes.iter().map(|a| (a.key.clone(), text(a))).collect(),
                    name: span.name,
                }]);
            }
        }
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

pub(crate) async fn otlp() -> (SocketAddr, Arc<Inbox<SpanRow>>) {
    let inbox = Inbox::new();
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let server = tonic::transport::Server::builder()
        .add_service(TraceServiceServer::new(Otlp(inbox.clone())))
        .serve_with_incoming(TcpListenerStream::new(socket));
    tokio::spawn(server);
    (address, inbox)
}

pub(crate) async fn zipkin() -> (SocketAddr, Arc<Inbox<SpanRow>>) {
    let inbox = Inbox::new();
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let received = inbox.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = socket.accept().await.unwrap();
            let received = received.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let received = received.clone();
                async move {
                    assert_eq!(request.uri().path(), "/api/v2/spans");
                    assert_eq!(request.headers()["content-type"], "application/json");
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    let spans: Vec<serde_json::Value> = serde_json::from_slice(&body).unwrap();
                    received.put(spans.iter().map(zipkin_row));
                    let mut response = Response::new(Full::new(Bytes::new()));
                    *response.status_mut() = http::StatusCode::ACCEPTED;
                    Ok::<_, Infallible>(response)
                }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    (address, inbox)
}

fn zipkin_row(span: &serde_json::Value) -> SpanRow {
    let text = |key: &str| span[key].as_str().unwrap_or_default().to_owned();
    assert!(span["timestamp"].as_u64().unwrap() > 0 && span["duration"].as_u64().unwrap() > 0, "{span}");
    SpanRow {
        service: span["localEndpoint"]["serviceName"].as_str().unwrap().to_owned(),
        kind: if span["kind"] == "CLIENT" { "CLIENT" } else { "SERVER" },
        trace_id: text("traceId"),
        span_id: text("id"),
        parent: text("parentId"),
        name: text("name"),
        tags: span["tags"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(key, value)| (key.clone(), value.as_str().unwrap().to_owned()))
            .collect(),
    }
}
