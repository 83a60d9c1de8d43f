//! The static service registry: which services exist and which endpoints stand behind them.
//! In a cluster this comes from the Kubernetes API; for machines and the demo it is a YAML file.

use crate::yaml::{ConfigError, parse_single};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Label set of a workload; sorted, so that equal sets compare and hash equal.
pub type Labels = BTreeMap<String, String>;

/// The services of a mesh, as a file:
///
/// ```yaml
/// services:
///   - name: reviews
///     namespace: bookinfo
///     ports:
///       - { number: 9080, name: http, protocol: HTTP }
///     endpoints:
///       - address: 127.0.1.3:15006        # ip:port; IPv6 as [::1]:15006
///         workload: reviews-v1
///         labels: { app: reviews, version: v1 }
///         serviceAccount: bookinfo-reviews
/// ```
///
/// An endpoint of a service with several ports names one address per port instead:
/// `address: 127.0.1.3` and `ports: { http: 15006, grpc: 15007 }` (service port name to its own port).
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Registry {
    #[serde(default)]
    pub services: Vec<RegistryService>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RegistryService {
    /// First label of the host: `reviews` for `reviews.bookinfo.svc.cluster.local`.
    pub name: String,
    pub namespace: String,
    pub ports: Vec<ServicePort>,
    /// Virtual addresses a client may use instead of the name.
    #[serde(default)]
    pub addresses: Vec<String>,
    #[serde(default)]
    pub endpoints: Vec<RegistryEndpoint>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServicePort {
    pub number: u16,
    pub name: String,
    #[serde(default = "Protocol::http")]
    pub protocol: Protocol,
}

/// What a service port speaks, in Istio's spelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Protocol {
    #[serde(alias = "http", alias = "Http")]
    HTTP,
    #[serde(alias = "http2", alias = "Http2")]
    HTTP2,
    #[serde(alias = "grpc", alias = "Grpc")]
    GRPC,
    #[serde(rename = "GRPC-WEB", alias = "grpc-web")]
    GRPCWeb,
    #[serde(alias = "https")]
    HTTPS,
    #[serde(alias = "tls")]
    TLS,
    #[serde(alias = "tcp")]
    TCP,
    #[serde(alias = "mongo")]
    MONGO,
}

impl Protocol {
    fn http() -> Self {
        Self::HTTP
    }

    /// True when the upstream connection has to be HTTP/2.
    pub fn is_http2(self) -> bool {
        matches!(self, Self::HTTP2 | Self::GRPC)
    }

    /// True when requests on the port can be routed by their HTTP fields.
    pub fn is_http(self) -> bool {
        matches!(self, Self::HTTP | Self::HTTP2 | Self::GRPC | Self::GRPCWeb)
    }
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RegistryEndpoint {
    /// `ip:port`, or an ip alone together with `ports`.
    pub address: String,
    /// Service port name to the endpoint's own port.
    #[serde(default)]
    pub ports: BTreeMap<String, u16>,
    #[serde(default)]
    pub workload: String,
    /// Namespace of the workload; the service's when absent.
    #[serde(default)]
    pub namespace: Option<String>,
    #[serde(default)]
    pub labels: Arc<Labels>,
    #[serde(default)]
    pub service_account: String,
    #[serde(default)]
    pub cluster_id: String,
}

impl Registry {
    /// Parses the text of a registry file; `file` is only for messages.
    ///
    /// # Errors
    /// The first fault, with line and field.
    pub fn parse(file: &str, text: &str) -> Result<Self, ConfigError> {
        let registry: Self = parse_single(file, text)?;
        for (s, service) in registry.services.iter().enumerate() {
            for (e, endpoint) in service.endpoints.iter().enumerate() {
                for port in &service.ports {
                    endpoint.address_for(&port.name).map_err(|message| ConfigError {
                        file: file.to_owned(),
                        document: 1,
                        line: 0,
                        object: Some(format!("service {}/{}", service.namespace, service.name)),
                        field: format!("services[{s}].endpoints[{e}].address"),
                        message,
                    })?;
                }
            }
        }
        Ok(registry)
    }
}

impl RegistryEndpoint {
    /// `host:port` that serves the service port called `port_name`.
    pub(crate) fn address_for(&self, port_name: &str) -> Result<String, String> {
        let whole: Result<std::net::SocketAddr, _> = self.address.parse();
        match (self.ports.get(port_name), whole) {
            (None, Ok(_)) if self.ports.is_empty() => Ok(self.address.clone()),
            (Some(port), Err(_)) => match self.address.parse::<std::net::IpAddr>() {
                Ok(ip) => Ok(std::net::SocketAddr::new(ip, *port).to_string()),
                Err(_) => Err(format!("`{}` is neither an ip nor ip:port", self.address)),
            },
            (Some(_), Ok(_)) => Err("has a port of its own and `ports` too; give one of them".to_owned()),
            (None, _) if self.ports.is_empty() => Err(format!("`{}` is not ip:port", self.address)),
            (None, _) => Err(format!("no entry in `ports` for the service port `{port_name}`")),
        }
    }
}
