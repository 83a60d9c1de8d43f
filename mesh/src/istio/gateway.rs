//! `networking.istio.io` Gateway.

use crate::{Labels, ServicePort};
use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Gateway {
    pub servers: Vec<GatewayServer>,
    /// Empty selects every gateway workload.
    pub selector: Labels,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GatewayServer {
    pub port: ServicePort,
    #[serde(default)]
    pub bind: String,
    /// `host` or `namespace/host`; the host may start with `*`, the namespace may be `*` or `.`.
    pub hosts: Vec<String>,
    #[serde(default)]
    pub tls: Option<ServerTls>,
    #[serde(default)]
    pub default_endpoint: String,
    #[serde(default)]
    pub name: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServerTls {
    pub https_redirect: bool,
    /// `PASSTHROUGH`, `SIMPLE`, `MUTUAL`, …
    pub mode: Option<String>,
    /// Certificates and the like, not interpreted here.
    #[serde(flatten)]
    pub rest: serde_json::Map<String, Value>,
}
