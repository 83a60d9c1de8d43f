//! Who this proxy is: the identity that its metrics, logs, spans and peers are told.

use crate::config::Config;
use crate::peer::Peer;
use pharos_mesh::Labels;
use std::sync::Arc;

#[derive(Debug)]
pub(crate) struct Node {
    /// `sidecar~<ip>~<instance>.<namespace>~<namespace>.svc.<domain>`, as Istio writes it.
    pub(crate) id: String,
    /// `<app>.<namespace>`: the service name of spans.
    pub(crate) service_name: String,
    pub(crate) namespace: String,
    pub(crate) labels: Labels,
    pub(crate) mesh_id: String,
    pub(crate) gateway: bool,
    /// As metrics and peers name us. Own labels that are absent stay empty.
    pub(crate) peer: Arc<Peer>,
}

impl Node {
    pub(crate) fn new(config: &Config) -> Self {
        let node = &config.node;
        let first_listener = config
            .gateway
            .iter()
            .map(|g| g.listen)
            .chain(config.inbound.iter().map(|i| i.listen))
            .chain(config.outbound.iter().map(|o| o.listen))
            .next();
        let ip = node.ip.or(first_listener.map(|a| a.ip())).map_or_else(String::new, |ip| ip.to_string());
        let instance = node.instance.as_deref().unwrap_or(&node.workload);
        let gateway = config.is_gateway();
        let role = if gateway { "router" } else { "sidecar" };
        let (namespace, domain) = (&node.namespace, &config.mesh.domain);
        let peer = Peer::own(node);
        Self {
            id: format!("{role}~{ip}~{instance}.{namespace}~{namespace}.svc.{domain}"),
            service_name: format!("{}.{namespace}", peer.canonical_service),
            namespace: namespace.clone(),
            labels: node.labels.clone(),
            mesh_id: node.mesh_id.clone().unwrap_or_else(|| domain.clone()),
            gateway,
            peer: Arc::new(peer),
        }
    }
}
