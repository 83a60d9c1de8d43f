//! Settings of one proxy process, with their defaults and where they are wrong.

use crate::trace::Propagation;
use pharos_mesh::{ConfigError, Labels, parse_single};
use serde::Deserialize;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

/// Settings of one proxy process: one YAML file, unknown keys are errors with their place.
///
/// ```yaml
#[doc = include_str!("../proxy.example.yaml")]
/// ```
///
/// The registry's format is described at [`pharos_mesh::Registry`].
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    pub node: NodeConfig,
    #[serde(default)]
    pub inbound: Vec<InboundConfig>,
    #[serde(default)]
    pub outbound: Vec<OutboundConfig>,
    #[serde(default)]
    pub gateway: Vec<GatewayConfig>,
    pub admin: AdminConfig,
    pub mesh: MeshPaths,
    #[serde(default)]
    pub telemetry: TelemetryConfig,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeConfig {
    pub workload: String,
    pub namespace: String,
    #[serde(default)]
    pub labels: Labels,
    #[serde(default = "default_service_account")]
    pub service_account: String,
    #[serde(default = "default_cluster_id")]
    pub cluster_id: String,
    #[serde(default)]
    pub mesh_id: Option<String>,
    #[serde(default)]
    pub instance: Option<String>,
    #[serde(default)]
    pub ip: Option<IpAddr>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InboundConfig {
    pub listen: SocketAddr,
    pub app: SocketAddr,
    /// Full host of the service that this port belongs to; without it the Host header is reported.
    #[serde(default)]
    pub service: Option<String>,
    #[serde(default)]
    pub port: Option<u16>,
    #[serde(default)]
    pub protocol: AppProtocol,
}

/// What the app behind an inbound listener speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AppProtocol {
    /// The version that the request came with.
    #[default]
    Auto,
    Http1,
    /// HTTP/2 with prior knowledge (h2c).
    Http2,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OutboundConfig {
    pub listen: SocketAddr,
    #[serde(default)]
    pub port: Option<u16>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GatewayConfig {
    pub listen: SocketAddr,
    pub port: u16,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AdminConfig {
    pub listen: SocketAddr,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MeshPaths {
    pub config_dir: PathBuf,
    pub registry: PathBuf,
    #[serde(default = "default_domain")]
    pub domain: String,
    #[serde(default = "default_root_namespace")]
    pub root_namespace: String,
    #[serde(default)]
    pub outbound_traffic_policy: OutboundTrafficPolicy,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OutboundTrafficPolicy {
    #[default]
    AllowAny,
    RegistryOnly,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TelemetryConfig {
    #[serde(default)]
    pub access_log: Option<AccessLogConfig>,
    #[serde(default)]
    pub tracing: TracingConfig,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AccessLogConfig {
    pub address: String,
    #[serde(default = "default_log_name")]
    pub log_name: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TracingConfig {
    pub otlp: Option<OtlpConfig>,
    pub zipkin: Option<ZipkinConfig>,
    /// 0 to 100, in steps of 0.01.
    pub sampling_percent: f64,
    pub extract: Vec<Propagation>,
    pub inject: Vec<Propagation>,
}

impl Default for TracingConfig {
    fn default() -> Self {
        Self {
            otlp: None,
            zipkin: None,
            sampling_percent: 100.0,
            extract: vec![Propagation::B3, Propagation::W3c],
            inject: vec![Propagation::B3, Propagation::W3c],
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OtlpConfig {
    pub address: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ZipkinConfig {
    pub url: String,
}

fn default_service_account() -> String {
    "default".to_owned()
}
fn default_cluster_id() -> String {
    "Kubernetes".to_owned()
}
fn default_domain() -> String {
    "cluster.local".to_owned()
}
fn default_root_namespace() -> String {
    "istio-system".to_owned()
}
fn default_log_name() -> String {
    "http_envoy_accesslog".to_owned()
}

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl Config {
    /// Reads the file at `path`; relative paths in it become relative to its directory.
    ///
    /// # Errors
    /// When it cannot be read, or with file, line and field of the first fault in it.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| LoadError::Read { path: path.to_owned(), source })?;
        let mut config = Self::parse(&path.display().to_string(), &text)?;
        if let Some(base) = path.parent() {
            config.mesh.config_dir = base.join(&config.mesh.config_dir);
            config.mesh.registry = base.join(&config.mesh.registry);
        }
        Ok(config)
    }

    /// Parses the text of a settings file; `file` is only for messages.
    ///
    /// # Errors
    /// With line and field of the first fault.
    pub fn parse(file: &str, text: &str) -> Result<Self, ConfigError> {
        let config: Self = parse_single(file, text)?;
        let fault = |field: &str, message: &str| ConfigError {
            file: file.to_owned(),
            document: 1,
            line: 0,
            object: None,
            field: field.to_owned(),
            message: message.to_owned(),
        };
        let sidecar = !config.inbound.is_empty() || !config.outbound.is_empty();
        match (sidecar, config.is_gateway()) {
            (false, false) => {
                return Err(fault("inbound", "no listener: give inbound and outbound, or gateway"));
            }
            (true, true) => return Err(fault("gateway", "a gateway has no inbound or outbound listeners")),
            _ => {}
        }
        let tracing = &config.telemetry.tracing;
        if tracing.otlp.is_some() && tracing.zipkin.is_some() {
            return Err(fault("telemetry.tracing", "otlp and zipkin are both set; give one of them"));
        }
        if !(0.0..=100.0).contains(&tracing.sampling_percent) {
            return Err(fault("telemetry.tracing.samplingPercent", "must be from 0 to 100"));
        }
        Ok(config)
    }

    pub fn is_gateway(&self) -> bool {
        !self.gateway.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../proxy.example.yaml");

    #[test]
    fn the_example_is_a_valid_file() {
        let config = Config::parse("example", EXAMPLE).unwrap();
        assert_eq!(config.inbound[0].app.port(), 9080);
        assert!(config.telemetry.tracing.otlp.is_some() && !config.is_gateway());
    }

    #[test]
    fn a_wrong_setting_is_named_with_its_place() {
        for (from, to, field, words) in [
            ("workload:", "worklaod:", "node", "worklaod"),
            ("samplingPercent: 100", "samplingPercent: 101", "telemetry.tracing.samplingPercent", "0 to 100"),
            ("listen: 127.0.1.1:15006", "listen: here", "inbound[0].listen", "socket address"),
            ("extract: [b3, w3c]", "extract: [jaeger]", "telemetry.tracing.extract[0]", "jaeger"),
            ("# zipkin:", "zipkin:", "telemetry.tracing", "one of them"),
            ("admin:", "admins:", "", "admins"),
        ] {
            assert!(EXAMPLE.contains(from), "{from}");
            let error = Config::parse("p.yaml", &EXAMPLE.replace(from, to)).unwrap_err();
            assert!(error.field.starts_with(field), "{error}");
            assert!(error.to_string().starts_with("p.yaml") && error.message.contains(words), "{error}");
        }
    }
}
