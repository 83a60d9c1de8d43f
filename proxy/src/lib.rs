//! The data plane: a sidecar or gateway that routes HTTP by Istio's configuration and says
//! everything it saw as Istio metrics, Envoy access logs and spans. See [`Config`] for its settings.

mod config;
mod trace;

pub use config::{
    AccessLogConfig, AdminConfig, AppProtocol, Config, GatewayConfig, InboundConfig, LoadError, MeshPaths,
    NodeConfig, OtlpConfig, OutboundConfig, OutboundTrafficPolicy, TelemetryConfig, TracingConfig,
    ZipkinConfig,
};
pub use trace::Propagation;
