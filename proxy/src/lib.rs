//! The data plane: a sidecar or gateway that routes HTTP by Istio's configuration and tells everything
//! it saw as Istio metrics, Envoy access logs and spans. [`Config`] has its settings, [`Proxy`] runs it.
//!
//! A request is read once from top to bottom in `request.rs`. It never stores telemetry, never blocks
//! on it, and knows nothing of the backend but the addresses it sends to.

mod admin;
mod body;
mod cluster;
mod config;
mod forward;
mod headers;
mod listen;
mod node;
mod peer;
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
