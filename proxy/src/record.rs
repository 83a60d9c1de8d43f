//! The record of one request: filled on its way, closed exactly once, when its last byte has gone or
//! the client has. Metrics, access log and spans are made from it, so that they cannot disagree.

use crate::body::Progress;
use crate::headers::{self, wire_bytes};
use crate::listen::Listener;
use crate::peer::Peer;
use crate::state::Shared;
use crate::telemetry::{Labels, Observation, Span, Tag, entry};
use crate::trace::Context;
use http::header::{CONTENT_TYPE, REFERER, USER_AGENT};
use http::request::Parts;
use http::{HeaderMap, HeaderName, Method, Version};
use pharos_mesh::Service;
use pharos_model::{ResponseFlag, ResponseFlags, SpanKind};
use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// Longest URL in a span, as in Envoy.
const MAX_URL_BYTES: usize = 256;

/// Which way a request goes, seen from the workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Inbound,
    Outbound,
    Gateway,
}

/// Both ends of the connection that a request came by.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
}

/// What the request was for, in Istio's words.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// Not decided: no route, or not yet.
    Nobody,
    Service(Arc<Service>),
    /// The app behind us: host and short name of its service, where that is configured.
    Own(Option<(Arc<str>, Arc<str>)>),
    Passthrough,
    BlackHole,
}

/// Since the start of the request.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Marks {
    pub(crate) last_rx: Option<Duration>,
    pub(crate) first_upstream_tx: Option<Duration>,
    pub(crate) last_upstream_tx: Option<Duration>,
    pub(crate) first_upstream_rx: Option<Duration>,
    pub(crate) last_upstream_rx: Option<Duration>,
    pub(crate) first_downstream_tx: Option<Duration>,
}

pub(crate) struct Record {
    shared: Arc<Shared>,
    pub(crate) role: Role,
    pub(crate) connection: Arc<Connection>,
    pub(crate) started: Instant,
    pub(crate) started_at: SystemTime,
    pub(crate) version: Version,
    pub(crate) method: Method,
    pub(crate) scheme: &'static str,
    pub(crate) authority: String,
    /// With its query, as it came.
    pub(crate) path: String,
    /// With its query, where a route changed it.
    pub(crate) upstream_path: Option<String>,
    pub(crate) user_agent: String,
    pub(crate) referer: String,
    pub(crate) forwarded_for: String,
    pub(crate) request_id: String,
    downstream_cluster: String,
    pub(crate) grpc: bool,
    pub(crate) request_header_bytes: u64,
    pub(crate) request_body: Arc<Progress>,
    pub(crate) route_name: Arc<str>,
    pub(crate) cluster_name: Arc<str>,
    pub(crate) target: Target,
    pub(crate) upstream_address: Option<SocketAddr>,
    pub(crate) upstream_local_address: Option<SocketAddr>,
    /// The other end: the client's workload for inbound, the server's otherwise.
    pub(crate) peer: Option<Arc<Peer>>,
    pub(crate) flags: ResponseFlags,
    pub(crate) details: Cow<'static, str>,
    pub(crate) failure_reason: String,
    /// 0 until a response is sent.
    pub(crate) status: u16,
    pub(crate) response_header_bytes: u64,
    pub(crate) response_body_bytes: u64,
    pub(crate) response_trailer_bytes: u64,
    pub(crate) response_messages: u64,
    pub(crate) grpc_status: Option<u16>,
    grpc_message: String,
    pub(crate) attempts: u32,
    pub(crate) marks: Marks,
    /// Our span. `None` when the request's own headers are broken: then there is none.
    pub(crate) trace: Option<Context>,
    pub(crate) span_name: Arc<str>,
    /// A gateway's second span, for its request to the upstream, and when it began.
    pub(crate) upstream_trace: Option<(Context, Duration)>,
    closed: bool,
}

impl Record {
    pub(crate) fn begin(listener: &Listener, connection: &Arc<Connection>, head: &Parts) -> Box<Self> {
        let started = Instant::now();
        let text = |name: &HeaderName| {
            head.headers
                .get(name)
                .map_or_else(String::new, |value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        let authority = match head.uri.authority() {
            Some(authority) => authority.as_str().to_owned(),
            None => text(&http::header::HOST),
        };
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let grpc = text(&CONTENT_TYPE).starts_with("application/grpc");
        // Start line, the blank line after the headers, and for HTTP/2 what stands for them.
        let start_line = head.method.as_str().len() + path.len() + 14;
        Box::new(Self {
            shared: listener.shared.clone(),
            role: listener.role,
            connection: connection.clone(),
            started,
            started_at: SystemTime::now(),
            version: head.version,
            method: head.method.clone(),
            scheme: "http",
            authority,
            path,
            upstream_path: None,
            user_agent: text(&USER_AGENT),
            referer: text(&REFERER),
            forwarded_for: text(&headers::FORWARDED_FOR),
            request_id: String::new(),
            downstream_cluster: text(&headers::DOWNSTREAM_CLUSTER),
            grpc,
            request_header_bytes: wire_bytes(&head.headers) + start_line as u64,
            request_body: Progress::new(started),
            route_name: "".into(),
            cluster_name: "".into(),
            target: Target::Nobody,
            upstream_address: None,
            upstream_local_address: None,
            peer: None,
            flags: ResponseFlags::none(),
            details: Cow::Borrowed(""),
            failure_reason: String::new(),
            status: 0,
            response_header_bytes: 0,
            response_body_bytes: 0,
            response_trailer_bytes: 0,
            response_messages: 0,
            grpc_status: None,
            grpc_message: String::new(),
            attempts: 0,
            marks: Marks::default(),
            trace: None,
            span_name: "".into(),
            upstream_trace: None,
            closed: false,
        })
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Notes the head of the response that goes to the client.
    pub(crate) fn respond(&mut self, status: http::StatusCode, headers: &HeaderMap) {
        self.status = status.as_u16();
        let reason = status.canonical_reason().map_or(0, str::len);
        self.response_header_bytes = wire_bytes(headers) + (17 + reason) as u64;
        self.marks.first_downstream_tx = Some(self.elapsed());
        // A gRPC response without messages has its status among the headers.
        if self.grpc {
            self.read_grpc_status(headers);
        }
    }

    pub(crate) fn read_grpc_status(&mut self, headers: &HeaderMap) {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        if self.grpc
            && let Some(status) = text("grpc-status")
        {
            self.grpc_status = status.parse().ok();
            self.grpc_message = text("grpc-message").unwrap_or_default().to_owned();
        }
    }

    pub(crate) fn timed_out(&mut self) {
        self.flags.insert(ResponseFlag::UpstreamRequestTimeout);
        self.details = Cow::Borrowed("response_timeout");
    }

    /// The upstream broke off in the middle of its response.
    pub(crate) fn response_broke(&mut self, error: &hyper::Error) {
        let failure = crate::pool::SendError::of(error).failure;
        let (flag, word) = match failure {
            crate::pool::Failure::Reset | crate::pool::Failure::Refused => {
                (ResponseFlag::UpstreamRemoteReset, "remote_reset")
            }
            crate::pool::Failure::Protocol => (ResponseFlag::UpstreamProtocolError, "protocol_error"),
            _ => (ResponseFlag::UpstreamConnectionTermination, "connection_termination"),
        };
        self.flags.insert(flag);
        self.details = Cow::Owned(format!("upstream_reset_after_response_started{{{word}}}"));
    }

    pub(crate) fn marks(&self) -> Marks {
        let last_rx = self.request_body.ended_after();
        let sent = self.marks.first_upstream_tx;
        Marks {
            last_rx,
            last_upstream_tx: sent.map(|first| last_rx.unwrap_or(first).max(first)),
            ..self.marks
        }
    }

    pub(crate) fn request_wire_bytes(&self) -> u64 {
        self.request_header_bytes + self.request_body.bytes()
    }

    pub(crate) fn response_wire_bytes(&self) -> u64 {
        self.response_header_bytes + self.response_body_bytes + self.response_trailer_bytes
    }

    /// The response is through, or nothing more can come: tells what there is to tell.
    pub(crate) fn complete(mut self: Box<Self>) {
        if self.marks.first_upstream_rx.is_some() {
            self.marks.last_upstream_rx = Some(self.elapsed());
        }
        self.close();
    }

    fn close(&mut self) {
        self.closed = true;
        let duration = self.elapsed();
        let code = http::StatusCode::from_u16(self.status).ok();
        let code = code.as_ref().map_or("0", http::StatusCode::as_str);
        let flags =
            if self.flags.is_empty() { Cow::Borrowed("-") } else { Cow::Owned(self.flags.to_string()) };
        let grpc_status = self.grpc_status.map_or_else(String::new, |status| status.to_string());
        let labels = self.labels(code, &flags, &grpc_status);
        let telemetry = &self.shared.telemetry;
        telemetry.metrics.observe(
            &labels,
            Observation {
                duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
                request_bytes: self.request_wire_bytes(),
                response_bytes: self.response_wire_bytes(),
                grpc_messages: self.grpc.then(|| (self.request_body.messages(), self.response_messages)),
            },
        );
        if telemetry.wants_logs() {
            telemetry.log(entry(self, duration, &labels));
        }
        if let Some(context) = self.trace.filter(|c| c.sampled && telemetry.wants_spans()) {
            let error = self.status == 0 || self.status >= 500 || self.grpc_failed();
            let kind = if self.role == Role::Outbound { SpanKind::Client } else { SpanKind::Server };
            telemetry.span(Span {
                context,
                kind,
                name: self.span_name.clone(),
                start: self.started_at,
                duration,
                tags: self.tags(&flags, error),
                error,
            });
            if let Some((context, began)) = self.upstream_trace {
                telemetry.span(Span {
                    context,
                    kind: SpanKind::Client,
                    name: format!("router {} egress", self.cluster_name).into(),
                    start: self.started_at + began,
                    duration: duration.saturating_sub(began),
                    tags: self.upstream_tags(&flags, error),
                    error,
                });
            }
        }
    }

    /// Istio's labels: our own side as it is, the other as far as it is known.
    fn labels<'a>(&'a self, code: &'a str, flags: &'a str, grpc_status: &'a str) -> Labels<'a> {
        let own = &*self.shared.node.peer;
        let other = self.peer.as_ref().unwrap_or(&self.shared.unknown_peer);
        let inbound = self.role == Role::Inbound;
        let (source, destination): (&Peer, &Peer) = if inbound { (other, own) } else { (own, other) };
        let (service, name, namespace) = self.destination_service(&destination.namespace);
        Labels([
            if inbound { "destination" } else { "source" },
            &source.workload,
            &source.canonical_service,
            &source.canonical_revision,
            &source.namespace,
            "unknown",
            &source.app,
            &source.version,
            &source.cluster,
            &destination.workload,
            &destination.namespace,
            "unknown",
            &destination.app,
            &destination.version,
            service,
            &destination.canonical_service,
            &destination.canonical_revision,
            name,
            namespace,
            &destination.cluster,
            if self.grpc { "grpc" } else { "http" },
            code,
            grpc_status,
            flags,
            // Plain text on both sides so far; the client's proxy never claims to know.
            if inbound { "none" } else { "unknown" },
        ])
    }

    /// Host, short name and namespace of the service. What nobody routed is named by the Host header in
    /// a sidecar, and not at all at the edge, where anybody could make up names.
    fn destination_service<'a>(&'a self, peer_namespace: &'a str) -> (&'a str, &'a str, &'a str) {
        let host = match self.role {
            Role::Outbound => self.authority.as_str(),
            Role::Inbound | Role::Gateway => "unknown",
        };
        match &self.target {
            Target::Service(service) => (&service.host, &service.name, &service.namespace),
            Target::Own(Some((host, name))) => (host, name, &self.shared.node.namespace),
            Target::Own(None) => {
                let canonical = &self.shared.node.peer.canonical_service;
                (canonical, canonical, &self.shared.node.namespace)
            }
            Target::Passthrough => (host, "PassthroughCluster", peer_namespace),
            Target::BlackHole => (host, "BlackHoleCluster", peer_namespace),
            Target::Nobody => (host, host, peer_namespace),
        }
    }

    /// The gRPC statuses that Envoy marks as errors in spans.
    fn grpc_failed(&self) -> bool {
        self.grpc_status.is_some_and(|status| matches!(status, 2 | 4 | 8 | 12 | 13 | 14 | 15))
    }

    fn tags(&self, flags: &str, error: bool) -> Vec<(&'static str, Tag)> {
        let or_dash = |text: &str| if text.is_empty() { Tag::Fixed("-") } else { text.to_owned().into() };
        let mut url = format!("{}://{}{}", self.scheme, self.authority, self.path);
        if let Some(end) = (0..=MAX_URL_BYTES).rev().find(|at| url.is_char_boundary(*at)) {
            url.truncate(end);
        }
        let own = &self.shared.node.tags;
        let mut tags = Vec::with_capacity(own.len() + 19);
        tags.extend_from_slice(own);
        tags.extend([
            ("guid:x-request-id", self.request_id.clone().into()),
            ("http.url", url.into()),
            ("http.method", self.method.to_string().into()),
            ("downstream_cluster", or_dash(&self.downstream_cluster)),
            ("user_agent", or_dash(&self.user_agent)),
            ("peer.address", self.connection.remote.ip().to_string().into()),
            ("request_size", self.request_body.bytes().to_string().into()),
            ("response_size", self.response_body_bytes.to_string().into()),
        ]);
        self.push_common(&mut tags, flags, error);
        tags
    }

    fn upstream_tags(&self, flags: &str, error: bool) -> Vec<(&'static str, Tag)> {
        let mut tags = Vec::with_capacity(14);
        tags.push(("component", Tag::Fixed("proxy")));
        if let Some(address) = self.upstream_address {
            tags.push(("upstream_address", address.to_string().into()));
            tags.push(("peer.address", address.to_string().into()));
        }
        self.push_common(&mut tags, flags, error);
        tags
    }

    fn push_common(&self, tags: &mut Vec<(&'static str, Tag)>, flags: &str, error: bool) {
        let protocol = match self.version {
            Version::HTTP_10 => "HTTP/1.0",
            Version::HTTP_2 => "HTTP/2",
            _ => "HTTP/1.1",
        };
        tags.push(("http.protocol", protocol.into()));
        tags.push(("http.status_code", self.status.to_string().into()));
        tags.push(("response_flags", if flags == "-" { "-".into() } else { flags.to_owned().into() }));
        if !self.cluster_name.is_empty() {
            tags.push(("upstream_cluster", (&self.cluster_name).into()));
            tags.push(("upstream_cluster.name", (&self.cluster_name).into()));
        }
        if error {
            tags.push(("error", "true".into()));
        }
        if self.grpc {
            tags.push(("grpc.path", self.path.clone().into()));
            tags.push(("grpc.authority", self.authority.clone().into()));
            if let Some(status) = self.grpc_status {
                tags.push(("grpc.status_code", status.to_string().into()));
                tags.push(("grpc.message", self.grpc_message.clone().into()));
            }
        }
    }
}

impl Drop for Record {
    /// Nobody completed the record: the client went away, before or in the middle of the response.
    fn drop(&mut self) {
        if !self.closed {
            self.flags.insert(ResponseFlag::DownstreamConnectionTermination);
            self.details = Cow::Borrowed("downstream_remote_disconnect");
            self.close();
        }
    }
}
