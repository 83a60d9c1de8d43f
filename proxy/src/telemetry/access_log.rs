//! Access logs by Envoy's gRPC Access Log Service: one long client stream, a batch per message, opened
//! anew when it breaks.
//!
//! The stream's identifier carries the node: `id`, `cluster` (`<app>.<namespace>`) and, in `metadata`,
//! NAME, WORKLOAD_NAME, NAMESPACE, CLUSTER_ID, LABELS and MESH_ID: the reporter's own end. The other end
//! is a google.protobuf.Struct of the same keys in `filter_state_objects`, under `upstream_peer` for
//! outbound requests and `downstream_peer` for inbound ones, as Istio's proxies attach it.
//! `custom_tags` hold what Envoy has no field for:
//!
//! | tag | value |
//! |---|---|
//! | `reporter` | `source` or `destination` |
//! | `trace_id`, `span_id` | lower-case hex, 32 and 16 digits; absent when there is no trace |
//! | `destination_service`, `destination_service_name`, `destination_service_namespace` | as Istio's labels |
//! | `request_protocol` | `http` or `grpc` |
//! | `grpc_status` | decimal; absent for plain HTTP |
//! | `connection_security_policy` | as Istio's label |

use super::StartError;
use super::batch::{Backoff, Batches};
use crate::config::AccessLogConfig;
use crate::node::Node;
use crate::record::{Record, Role};
use http::uri::PathAndQuery;
use pharos_model::ResponseFlag;
use pharos_proto::envoy::config::core::v3::{
    Address, Node as ProtoNode, RequestMethod, SocketAddress, address, socket_address,
};
use pharos_proto::envoy::data::accesslog::v3::http_access_log_entry::HttpVersion;
use pharos_proto::envoy::data::accesslog::v3::{
    AccessLogCommon, AccessLogType, HttpAccessLogEntry, HttpRequestProperties, HttpResponseProperties,
    ResponseFlags, response_flags::Unauthorized,
};
use pharos_proto::envoy::service::accesslog::v3::StreamAccessLogsResponse;
use pharos_proto::envoy::service::accesslog::v3::stream_access_logs_message::Identifier;
use prost::Message;
use prost_types::{Any, Duration as ProtoDuration, Timestamp, Value, value::Kind};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

/// An `HTTPAccessLogEntry`, encoded: entries wait by the hundred when their receiver is away, and take a
/// quarter of the memory that way.
pub(crate) type LogEntry = Vec<u8>;

const METHOD: &str = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs";

/// `StreamAccessLogsMessage` on the wire, its entries already encoded.
#[derive(Clone, PartialEq, Message)]
struct Batch {
    #[prost(message, optional, tag = "1")]
    identifier: Option<Identifier>,
    #[prost(message, optional, tag = "2")]
    http_logs: Option<Entries>,
}

#[derive(Clone, PartialEq, Message)]
struct Entries {
    #[prost(bytes = "vec", repeated, tag = "1")]
    log_entry: Vec<LogEntry>,
}

/// Messages under way inside the client.
const IN_FLIGHT: usize = 2;
/// How long the receiver may take to acknowledge the end of the stream when we stop.
const FAREWELL: Duration = Duration::from_millis(700);

pub(crate) struct Sender {
    endpoint: Endpoint,
    identifier: Identifier,
}

impl Sender {
    pub(crate) fn new(config: &AccessLogConfig, node: &Node) -> Result<Self, StartError> {
        let endpoint = Endpoint::from_shared(config.address.clone())
            .map_err(|error| StartError {
                field: "accessLog.address",
                address: config.address.clone(),
                message: error.to_string(),
            })?
            .connect_timeout(Duration::from_secs(2))
            .http2_keep_alive_interval(Duration::from_secs(30));
        let mut metadata = node.peer.to_struct();
        let text = Value { kind: Some(Kind::StringValue(node.mesh_id.clone())) };
        metadata.fields.insert("MESH_ID".to_owned(), text);
        let identifier = Identifier {
            node: Some(ProtoNode {
                id: node.id.clone(),
                cluster: node.service_name.clone(),
                metadata: Some(metadata),
                user_agent_name: "pharos-proxy".to_owned(),
                ..ProtoNode::default()
            }),
            log_name: config.log_name.clone(),
        };
        Ok(Self { endpoint, identifier })
    }

    pub(crate) async fn run(self, mut batches: Batches<LogEntry>) {
        let mut backoff = Backoff::new();
        let mut stream: Option<Stream> = None;
        while let Some(batch) = batches.next().await {
            let count = batch.len();
            let mut message = Batch { identifier: None, http_logs: Some(Entries { log_entry: batch }) };
            loop {
                let open = match stream.take() {
                    Some(open) => Ok(open),
                    None => self.open().await,
                };
                match open {
                    Ok(mut open) => {
                        message.identifier = (!open.identified).then(|| self.identifier.clone());
                        match open.send(message).await {
                            Ok(()) => {
                                backoff.reset();
                                stream = Some(open);
                                break;
                            }
                            // The stream is gone and the batch came back: open a new one.
                            Err(unsent) => message = *unsent,
                        }
                    }
                    Err(error) => tracing::debug!(%error, "the access-log receiver is away"),
                }
                if batches.stopping() {
                    batches.count_dropped(count);
                    break;
                }
                backoff.wait(batches.stop_token()).await;
            }
        }
        if let Some(stream) = stream {
            stream.finish().await;
        }
    }

    async fn open(&self) -> Result<Stream, tonic::transport::Error> {
        let channel: Channel = self.endpoint.connect().await?;
        let (sender, receiver) = mpsc::channel(IN_FLIGHT);
        let call = tokio::spawn(async move {
            let mut client = tonic::client::Grpc::new(channel);
            if let Err(error) = client.ready().await {
                tracing::debug!(%error, "the access-log receiver is away");
                return;
            }
            let codec = tonic_prost::ProstCodec::<Batch, StreamAccessLogsResponse>::default();
            let batches = tonic::Request::new(ReceiverStream::new(receiver));
            if let Err(status) =
                client.client_streaming(batches, PathAndQuery::from_static(METHOD), codec).await
            {
                tracing::debug!(%status, "the access-log stream ended");
            }
        });
        Ok(Stream { sender, call, identified: false })
    }
}

struct Stream {
    sender: mpsc::Sender<Batch>,
    call: tokio::task::JoinHandle<()>,
    identified: bool,
}

impl Stream {
    async fn send(&mut self, message: Batch) -> Result<(), Box<Batch>> {
        self.sender.send(message).await.map_err(|unsent| Box::new(unsent.0))?;
        self.identified = true;
        Ok(())
    }

    /// Ends the stream and waits for the receiver's answer, which says that it has read everything.
    async fn finish(self) {
        drop(self.sender);
        if tokio::time::timeout(FAREWELL, self.call).await.is_err() {
            tracing::debug!("the access-log receiver did not acknowledge the end of the stream");
        }
    }
}

/// The encoded entry for a finished request.
pub(crate) fn entry(record: &Record, duration: Duration, labels: &super::Labels<'_>) -> LogEntry {
    let [
        reporter,
        ..,
        destination_service,
        _,
        _,
        service_name,
        service_namespace,
        _,
        request_protocol,
        _,
        grpc_status,
        _,
        security_policy,
    ] = labels.0;
    let mut custom_tags = HashMap::with_capacity(10);
    let mut tag = |key: &str, value: &str| {
        if !value.is_empty() {
            custom_tags.insert(key.to_owned(), value.to_owned());
        }
    };
    tag("reporter", reporter);
    tag("destination_service", destination_service);
    tag("destination_service_name", service_name);
    tag("destination_service_namespace", service_namespace);
    tag("request_protocol", request_protocol);
    tag("grpc_status", grpc_status);
    tag("connection_security_policy", security_policy);
    if let Some(context) = &record.trace {
        tag("trace_id", &context.trace_id.to_string());
        tag("span_id", &context.span_id.to_string());
    }
    let mut filter_state_objects = HashMap::with_capacity(1);
    if let Some(peer) = &record.peer {
        let key = if record.role == Role::Inbound { "downstream_peer" } else { "upstream_peer" };
        let any = Any {
            type_url: "type.googleapis.com/google.protobuf.Struct".to_owned(),
            value: peer.encoded().to_vec(),
        };
        filter_state_objects.insert(key.to_owned(), any);
    }
    let since_start = |mark: Option<Duration>| mark.map(proto_duration);
    let marks = record.marks();
    let common = AccessLogCommon {
        sample_rate: 1.0,
        downstream_remote_address: Some(address(record.connection.remote)),
        downstream_direct_remote_address: Some(address(record.connection.remote)),
        downstream_local_address: Some(address(record.connection.local)),
        start_time: Some(Timestamp::from(record.started_at)),
        time_to_last_rx_byte: since_start(marks.last_rx),
        time_to_first_upstream_tx_byte: since_start(marks.first_upstream_tx),
        time_to_last_upstream_tx_byte: since_start(marks.last_upstream_tx),
        time_to_first_upstream_rx_byte: since_start(marks.first_upstream_rx),
        time_to_last_upstream_rx_byte: since_start(marks.last_upstream_rx),
        time_to_first_downstream_tx_byte: since_start(marks.first_downstream_tx),
        time_to_last_downstream_tx_byte: since_start(Some(duration)),
        duration: Some(proto_duration(duration)),
        upstream_remote_address: record.upstream_address.map(address),
        upstream_local_address: record.upstream_local_address.map(address),
        upstream_cluster: record.cluster_name.to_string(),
        response_flags: Some(flags(record)),
        upstream_transport_failure_reason: record.failure_reason.clone(),
        route_name: record.route_name.to_string(),
        upstream_request_attempt_count: record.attempts,
        custom_tags,
        filter_state_objects,
        stream_id: record.request_id.clone(),
        downstream_wire_bytes_received: record.request_wire_bytes(),
        downstream_wire_bytes_sent: record.response_wire_bytes(),
        access_log_type: AccessLogType::DownstreamEnd.into(),
        ..AccessLogCommon::default()
    };
    // As where Istio's own logging asks for these: they tell gRPC from plain HTTP.
    let grpc_headers = |present: bool, name: &str, value: &str| {
        let pair = present.then(|| (name.to_owned(), value.to_owned()));
        pair.into_iter().collect::<HashMap<_, _>>()
    };
    let request = HttpRequestProperties {
        request_headers: grpc_headers(record.grpc, "content-type", "application/grpc"),
        request_method: method(&record.method).into(),
        scheme: record.scheme.to_owned(),
        authority: record.authority.clone(),
        port: Some(u32::from(record.connection.local.port())),
        path: record.upstream_path.clone().unwrap_or_else(|| record.path.clone()),
        original_path: record.upstream_path.as_ref().map_or_else(String::new, |_| record.path.clone()),
        user_agent: record.user_agent.clone(),
        referer: record.referer.clone(),
        forwarded_for: record.forwarded_for.clone(),
        request_id: record.request_id.clone(),
        request_headers_bytes: record.request_header_bytes,
        request_body_bytes: record.request_body.bytes(),
        downstream_header_bytes_received: record.request_header_bytes,
        ..HttpRequestProperties::default()
    };
    let response = HttpResponseProperties {
        response_trailers: grpc_headers(!grpc_status.is_empty(), "grpc-status", grpc_status),
        response_code: Some(u32::from(record.status)),
        response_headers_bytes: record.response_header_bytes,
        response_body_bytes: record.response_body_bytes,
        response_code_details: record.details.to_string(),
        downstream_header_bytes_sent: record.response_header_bytes,
        ..HttpResponseProperties::default()
    };
    let entry = HttpAccessLogEntry {
        common_properties: Some(common),
        protocol_version: match record.version {
            http::Version::HTTP_10 => HttpVersion::Http10,
            http::Version::HTTP_2 => HttpVersion::Http2,
            _ => HttpVersion::Http11,
        }
        .into(),
        request: Some(request),
        response: Some(response),
    };
    entry.encode_to_vec()
}

fn proto_duration(duration: Duration) -> ProtoDuration {
    ProtoDuration::try_from(duration).unwrap_or_default()
}

fn address(socket: SocketAddr) -> Address {
    Address {
        address: Some(address::Address::SocketAddress(SocketAddress {
            address: socket.ip().to_string(),
            port_specifier: Some(socket_address::PortSpecifier::PortValue(u32::from(socket.port()))),
            ..SocketAddress::default()
        })),
    }
}

fn method(method: &http::Method) -> RequestMethod {
    RequestMethod::from_str_name(method.as_str()).unwrap_or(RequestMethod::MethodUnspecified)
}

fn flags(record: &Record) -> ResponseFlags {
    use ResponseFlag as F;
    let has = |flag: F| record.flags.contains(flag);
    ResponseFlags {
        failed_local_healthcheck: has(F::FailedLocalHealthCheck),
        no_healthy_upstream: has(F::NoHealthyUpstream),
        upstream_request_timeout: has(F::UpstreamRequestTimeout),
        local_reset: has(F::LocalReset),
        upstream_remote_reset: has(F::UpstreamRemoteReset),
        upstream_connection_failure: has(F::UpstreamConnectionFailure),
        upstream_connection_termination: has(F::UpstreamConnectionTermination),
        upstream_overflow: has(F::UpstreamOverflow),
        no_route_found: has(F::NoRouteFound),
        delay_injected: has(F::DelayInjected),
        fault_injected: has(F::FaultInjected),
        rate_limited: has(F::RateLimited),
        unauthorized_details: has(F::UnauthorizedExternalService).then(Unauthorized::default),
        rate_limit_service_error: has(F::RateLimitServiceError),
        downstream_connection_termination: has(F::DownstreamConnectionTermination),
        upstream_retry_limit_exceeded: has(F::UpstreamRetryLimitExceeded),
        stream_idle_timeout: has(F::StreamIdleTimeout),
        invalid_envoy_request_headers: has(F::InvalidEnvoyRequestHeaders),
        downstream_protocol_error: has(F::DownstreamProtocolError),
        upstream_max_stream_duration_reached: has(F::UpstreamMaxStreamDurationReached),
        response_from_cache_filter: has(F::ResponseFromCacheFilter),
        no_filter_config_found: has(F::NoFilterConfigFound),
        duration_timeout: has(F::DurationTimeout),
        upstream_protocol_error: has(F::UpstreamProtocolError),
        no_cluster_found: has(F::NoClusterFound),
        overload_manager: has(F::OverloadManagerTerminated),
        dns_resolution_failure: has(F::DnsResolutionFailed),
        downstream_remote_reset: has(F::DownstreamRemoteReset),
    }
}
