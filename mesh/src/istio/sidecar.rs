//! `networking.istio.io` Sidecar: what of the mesh a workload wants to know.

use crate::Labels;
use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Sidecar {
    pub workload_selector: Option<WorkloadSelector>,
    pub ingress: Vec<Value>,
    pub egress: Vec<EgressListener>,
    pub inbound_connection_pool: Option<Value>,
    pub outbound_traffic_policy: Option<TrafficPolicyMode>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WorkloadSelector {
    pub labels: Labels,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct EgressListener {
    pub port: Option<Value>,
    pub bind: String,
    pub capture_mode: String,
    /// `namespace/host`, with `*`, `.` and `~` for the namespace.
    pub hosts: Vec<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TrafficPolicyMode {
    /// `ALLOW_ANY` or `REGISTRY_ONLY`.
    pub mode: String,
    pub egress_proxy: Option<Value>,
}
