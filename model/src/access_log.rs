use serde::{Deserialize, Serialize};

use crate::{Attributes, ResponseFlags, SpanId, TraceId, UnixNanos};

/// Which proxy of a request tells of it: Istio's `reporter` label.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reporter {
    /// The client's sidecar, or a gateway.
    #[default]
    Source,
    /// The server's sidecar.
    Destination,
    /// An ambient waypoint.
    Waypoint,
}

impl Reporter {
    pub fn name(self) -> &'static str {
        match self {
            Reporter::Source => "source",
            Reporter::Destination => "destination",
            Reporter::Waypoint => "waypoint",
        }
    }

    pub fn from_name(name: &str) -> Option<Reporter> {
        match name {
            "source" => Some(Reporter::Source),
            "destination" => Some(Reporter::Destination),
            "waypoint" => Some(Reporter::Waypoint),
            _ => None,
        }
    }
}

/// One end of a request as the reporting proxy knows it. Text that the proxy does not know is `unknown`, as in
/// Istio's labels, or empty where the source has no such field.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Peer {
    pub cluster: String,
    pub namespace: String,
    pub workload: String,
    /// The `app` label.
    pub app: String,
    /// The `version` label.
    pub version: String,
    /// Istio's canonical service: canonical-name label, else app, else workload.
    pub canonical_service: String,
    pub canonical_revision: String,
    /// SPIFFE id with its scheme.
    pub principal: String,
}

/// One request (or TCP connection) as one proxy saw it: Envoy's access log, with both ends named.
/// Absent text is empty, an absent duration or size is 0, an absent id is `None`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AccessLog {
    /// Start of the request. `%START_TIME%`
    pub time: UnixNanos,
    /// First byte in to last byte out. `%DURATION%`
    pub duration_us: i64,
    pub reporter: Reporter,
    pub source: Peer,
    pub destination: Peer,
    /// Host that was asked for, as a service: `reviews.bookinfo.svc.cluster.local`.
    pub destination_service: String,
    /// Short name: `reviews`, or `PassthroughCluster`, `BlackHoleCluster`.
    pub destination_service_name: String,
    pub destination_service_namespace: String,
    /// `http`, `grpc` or `tcp`: Istio's `request_protocol`.
    pub request_protocol: String,
    /// `HTTP/1.1`, `HTTP/2`, … `%PROTOCOL%`
    pub http_version: String,
    pub method: String,
    pub scheme: String,
    pub authority: String,
    pub path: String,
    /// Before any rewrite, where there was one. `x-envoy-original-path`
    pub original_path: String,
    /// 0 when no response was sent, and for TCP.
    pub response_code: u16,
    /// `None` for anything but gRPC.
    pub grpc_status: Option<u16>,
    pub response_flags: ResponseFlags,
    pub response_code_details: String,
    pub connection_termination_details: String,
    pub upstream_transport_failure_reason: String,
    /// Body bytes for HTTP, connection bytes for TCP. `%BYTES_RECEIVED%`
    pub request_bytes: i64,
    /// `%BYTES_SENT%`
    pub response_bytes: i64,
    /// Headers, framing and body: what Istio's byte metrics count.
    pub request_wire_bytes: i64,
    pub response_wire_bytes: i64,
    /// Request's last byte received, since `time`.
    pub time_to_last_rx_us: i64,
    /// First byte to the upstream, since `time`.
    pub time_to_first_upstream_tx_us: i64,
    /// First byte from the upstream, since `time`.
    pub time_to_first_upstream_rx_us: i64,
    /// Last byte from the upstream, since `time`.
    pub time_to_last_upstream_rx_us: i64,
    /// First byte of the answer to the client, since `time`.
    pub time_to_first_downstream_tx_us: i64,
    /// 1 for a request that was not retried; 0 when it never reached an upstream.
    pub upstream_attempts: i64,
    pub route_name: String,
    /// `outbound|9080|v1|reviews.bookinfo.svc.cluster.local`
    pub upstream_cluster: String,
    pub upstream_host: String,
    pub upstream_local_address: String,
    pub downstream_local_address: String,
    pub downstream_remote_address: String,
    pub requested_server_name: String,
    pub forwarded_for: String,
    pub user_agent: String,
    pub referer: String,
    pub request_id: String,
    pub trace_id: Option<TraceId>,
    pub span_id: Option<SpanId>,
    /// `mutual_tls`, `none` or `unknown`: Istio's `connection_security_policy`.
    pub security_policy: String,
    pub tls_version: String,
    /// Envoy's node id of the reporting proxy.
    pub node_id: String,
    /// Whatever else the record carried: custom tags, logged headers.
    pub attributes: Attributes,
}
