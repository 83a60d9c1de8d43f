//! `networking.istio.io` ServiceEntry.

use super::sidecar::WorkloadSelector;
use crate::{Labels, Protocol};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ServiceEntry {
    pub hosts: Vec<String>,
    pub addresses: Vec<String>,
    pub ports: Vec<ServiceEntryPort>,
    /// `MESH_EXTERNAL` (default) or `MESH_INTERNAL`.
    pub location: Option<String>,
    /// `NONE` (default), `STATIC`, `DNS`, `DNS_ROUND_ROBIN` or `DYNAMIC_DNS`.
    pub resolution: Option<String>,
    pub endpoints: Vec<ServiceEntryEndpoint>,
    pub workload_selector: Option<WorkloadSelector>,
    pub export_to: Vec<String>,
    pub subject_alt_names: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceEntryPort {
    pub number: u16,
    pub name: String,
    #[serde(default = "tcp")]
    pub protocol: Protocol,
    #[serde(default)]
    pub target_port: Option<u16>,
}

fn tcp() -> Protocol {
    Protocol::TCP
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ServiceEntryEndpoint {
    pub address: String,
    pub ports: BTreeMap<String, u16>,
    pub labels: Arc<Labels>,
    pub network: String,
    pub locality: String,
    pub weight: u32,
    pub service_account: String,
}
