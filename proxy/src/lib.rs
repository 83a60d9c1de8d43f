//! The data plane: a sidecar or gateway that routes HTTP by Istio's configuration and tells everything
//! it saw as Istio metrics, Envoy access logs and spans. [`Config`] has its settings, [`Proxy`] runs it.
//!
//! A request is read from top to bottom in `request.rs`: received and named, given a place in a trace,
//! routed by [`pharos_mesh::RouteTable`], perhaps delayed or aborted, forwarded with retries
//! (`forward.rs`) over kept connections (`pool.rs`). All that while a record of it is filled
//! (`record.rs`), which is closed once: with the last byte, or when the client goes away.
//!
//! It serves HTTP/1.1 and HTTP/2 with prior knowledge on every port, so that gRPC passes with its
//! trailers. Bodies stream; of a request's body 64 KiB are kept for a retry. What a peer can send is
//! limited: `listen.rs` for clients, `pool.rs` for upstreams, `peer.rs` for metadata, `metrics.rs` for
//! label sets, `batch.rs` for what waits to be sent.
//!
//! It stores nothing, never waits for a receiver of telemetry, and knows nothing of the backend but
//! the addresses it sends to. Not built yet: TLS, upgrades, circuit breaking, outlier detection.

mod admin;
mod body;
mod cluster;
mod config;
mod forward;
mod headers;
mod listen;
mod node;
mod peer;
mod plan;
mod pool;
mod record;
mod reply;
mod request;
mod run;
mod state;
mod telemetry;
mod trace;

pub use config::{
    AccessLogConfig, AdminConfig, AppProtocol, Config, GatewayConfig, InboundConfig, LoadError, MeshPaths,
    NodeConfig, OtlpConfig, OutboundConfig, OutboundTrafficPolicy, TelemetryConfig, TracingConfig,
    ZipkinConfig,
};
pub use run::{Proxy, ProxyAddresses, RunError};
pub use state::{ReloadError, check};
pub use telemetry::StartError;
pub use trace::Propagation;
