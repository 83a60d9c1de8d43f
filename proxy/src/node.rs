//! Who this proxy is: the identity that its metrics, logs, spans and peers are told.

use crate::config::Config;
use crate::peer::Peer;
use crate::telemetry::Tag;
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
    /// What every span of ours says.
    pub(crate) tags: Vec<(&'static str, Tag)>,
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
        let id = format!("{role}~{ip}~{instance}.{namespace}~{namespace}.svc.{domain}");
        let mesh_id = node.mesh_id.clone().unwrap_or_else(|| domain.clone());
        let shared = |text: &str| Tag::Shared(text.into());
        let tags = vec![
            ("node_id", shared(&id)),
            ("component", Tag::Fixed("proxy")),
            ("istio.canonical_service", shared(&peer.canonical_service)),
            ("istio.canonical_revision", shared(&peer.canonical_revision)),
            ("istio.mesh_id", shared(&mesh_id)),
            ("istio.namespace", shared(namespace)),
            ("istio.cluster_id", shared(&peer.cluster)),
        ];
        Self {
            id,
            tags,
            service_name: format!("{}.{namespace}", peer.canonical_service),
            namespace: namespace.clone(),
            labels: node.labels.clone(),
            mesh_id,
            gateway,
            peer: Arc::new(peer),
        }
    }
}
