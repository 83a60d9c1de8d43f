use pharos_model::{AccessLog, Attributes, Peer, Reporter, Value};

use super::node::{ProxyKind, ProxyNode, UNKNOWN};

/// Which way a request went through the proxy that tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Inbound,
    Outbound,
}

/// Names the two ends of a request by the rules of Istio's standard metrics.
pub(crate) struct Naming<'a> {
    pub(crate) node: &'a ProxyNode,
    /// The other end, as metadata exchange told it.
    pub(crate) upstream_peer: Option<Peer>,
    pub(crate) downstream_peer: Option<Peer>,
    /// SPIFFE id of the certificate that the client showed; `None` without mutual TLS.
    pub(crate) client_principal: Option<String>,
    pub(crate) own_principal: Option<String>,
}

/// Istio's capture ports tell the direction of requests that never got a cluster.
const INBOUND_PORTS: [&str; 2] = [":15006", ":15008"];
const OUTBOUND_PORT: &str = ":15001";

impl Naming<'_> {
    /// Fills reporter, both ends, the destination's service and the security policy from what `log` has already:
    /// cluster, authority, addresses.
    pub(crate) fn complete(self, log: &mut AccessLog) {
        let direction = self.direction(log);
        let own = own_peer(&self.node.peer);
        let mutual_tls = self.client_principal.is_some() && self.own_principal.is_some();
        log.node_id.clone_from(&self.node.id);
        log.reporter = match (self.node.kind, direction) {
            (ProxyKind::Waypoint, _) => Reporter::Waypoint,
            (_, Direction::Inbound) => Reporter::Destination,
            (_, Direction::Outbound) => Reporter::Source,
        };
        match log.reporter {
            Reporter::Source => {
                log.source = own;
                log.source.principal = UNKNOWN.into();
                log.destination = other_peer(self.upstream_peer);
                log.security_policy = UNKNOWN.into();
            }
            Reporter::Destination => {
                log.source = other_peer(self.downstream_peer);
                log.destination = own;
                log.destination.principal = self.own_principal.unwrap_or_else(|| UNKNOWN.into());
                log.security_policy = if mutual_tls { "mutual_tls" } else { "none" }.into();
            }
            Reporter::Waypoint => {
                log.source = other_peer(self.downstream_peer);
                log.destination = other_peer(self.upstream_peer);
                log.security_policy = if mutual_tls { "mutual_tls" } else { "none" }.into();
            }
        }
        if let Some(principal) = self.client_principal.filter(|_| log.reporter != Reporter::Source) {
            if let Some(namespace) = namespace_of_principal(&principal) {
                log.source.namespace = namespace.to_string();
            }
            log.source.principal = principal;
        }
        name_service(log, &self.node.peer);
    }

    fn direction(&self, log: &AccessLog) -> Direction {
        let cluster = log.upstream_cluster.as_str();
        if cluster.starts_with("inbound|") || cluster.starts_with("InboundPassthroughCluster") {
            return Direction::Inbound;
        }
        let outbound_names = ["PassthroughCluster", "BlackHoleCluster"];
        if cluster.starts_with("outbound") || outbound_names.contains(&cluster) {
            return Direction::Outbound;
        }
        match (&self.upstream_peer, &self.downstream_peer, self.node.kind) {
            (_, _, ProxyKind::Gateway) => Direction::Outbound,
            (None, Some(_), _) => Direction::Inbound,
            (Some(_), None, _) => Direction::Outbound,
            _ if INBOUND_PORTS.iter().any(|port| log.downstream_local_address.ends_with(port)) => {
                Direction::Inbound
            }
            _ if log.downstream_local_address.ends_with(OUTBOUND_PORT) => Direction::Outbound,
            _ if self.client_principal.is_some() => Direction::Inbound,
            _ => Direction::Outbound,
        }
    }
}

fn own_peer(known: &Peer) -> Peer {
    let mut own = known.clone();
    if own.canonical_revision.is_empty() {
        own.canonical_revision = "latest".into();
    }
    own
}

/// What is missing of the other end is `unknown`, as in Istio's labels; its revision is `latest`.
fn other_peer(told: Option<Peer>) -> Peer {
    let mut peer = told.unwrap_or_default();
    for field in [
        &mut peer.cluster,
        &mut peer.namespace,
        &mut peer.workload,
        &mut peer.app,
        &mut peer.version,
        &mut peer.canonical_service,
        &mut peer.principal,
    ] {
        if field.is_empty() {
            *field = UNKNOWN.into();
        }
    }
    if peer.canonical_revision.is_empty() {
        peer.canonical_revision = "latest".into();
    }
    peer
}

/// `destination_service` and its parts.
fn name_service(log: &mut AccessLog, own: &Peer) {
    let cluster = log.upstream_cluster.as_str();
    let host = match service_of_cluster(cluster) {
        Some(host) => host.to_string(),
        None => {
            let asked = log.authority.rsplit_once(':').map_or(log.authority.as_str(), |(host, port)| {
                if port.bytes().all(|b| b.is_ascii_digit()) { host } else { &log.authority }
            });
            let inbound = log.reporter == Reporter::Destination;
            match full_service_host(asked, &own.namespace) {
                Some(host) => host,
                // Whatever a sidecar was asked for from outside of the mesh, it stands for its own service.
                None if inbound && !own.canonical_service.is_empty() => {
                    format!("{}.{}.svc.cluster.local", own.canonical_service, own.namespace)
                }
                None if asked.is_empty() => UNKNOWN.to_string(),
                None => asked.to_string(),
            }
        }
    };
    let mut labels = host.split('.');
    let name = labels.next().unwrap_or_default();
    let namespace = match (labels.next(), labels.next()) {
        (Some(namespace), Some("svc")) => Some(namespace),
        _ => None,
    };
    log.destination_service_name = match cluster {
        "PassthroughCluster" | "BlackHoleCluster" | "InboundPassthroughCluster" => cluster.to_string(),
        _ if cluster.starts_with("InboundPassthroughCluster") => "InboundPassthroughCluster".to_string(),
        _ if log.route_name == "block_all" => "BlackHoleCluster".to_string(),
        _ if log.route_name == "allow_any" => "PassthroughCluster".to_string(),
        _ if namespace.is_some() => name.to_string(),
        _ => host.clone(),
    };
    log.destination_service_namespace = match (namespace, log.reporter) {
        (Some(namespace), _) => namespace.to_string(),
        (None, Reporter::Destination) => own.namespace.clone(),
        (None, _) => log.destination.namespace.clone(),
    };
    log.destination_service = host;
}

/// The host in `outbound|9080|v1|reviews.bookinfo.svc.cluster.local`; inbound clusters name none.
fn service_of_cluster(cluster: &str) -> Option<&str> {
    let mut parts = cluster.split('|');
    let is_outbound = parts.next()?.starts_with("outbound");
    let host = parts.nth(2)?;
    (is_outbound && !host.is_empty()).then_some(host)
}

/// `reviews`, `reviews.bookinfo` and longer forms as the whole name; `None` for what is no Kubernetes service.
fn full_service_host(host: &str, namespace: &str) -> Option<String> {
    let labels: Vec<&str> = host.split('.').collect();
    let named = labels.iter().all(|label| !label.is_empty())
        && !host.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b':' | b'[' | b']'))
        && host != "localhost";
    match labels.as_slice() {
        _ if !named => None,
        [name] if !namespace.is_empty() => Some(format!("{name}.{namespace}.svc.cluster.local")),
        [name, asked] if *asked == namespace => Some(format!("{name}.{namespace}.svc.cluster.local")),
        [name, asked, "svc"] => Some(format!("{name}.{asked}.svc.cluster.local")),
        [_, _, "svc", _, ..] => Some(host.to_string()),
        _ => None,
    }
}

fn namespace_of_principal(principal: &str) -> Option<&str> {
    principal.split_once("/ns/")?.1.split('/').next().filter(|namespace| !namespace.is_empty())
}

/// Labels of Istio's standard metrics under their own names win over what was derived: a proxy that knows them can
/// send them as custom tags or log attributes. Returns the pairs that were not such labels.
pub(crate) fn apply_labels(log: &mut AccessLog, pairs: impl Iterator<Item = (String, Value)>) -> Attributes {
    let mut others = Attributes::new();
    for (key, value) in pairs {
        let text = value.to_text();
        match field_of_label(log, &key) {
            Some(_) if text.is_empty() || text == "-" => {}
            Some(field) => *field = text,
            None => match (key.as_str(), Reporter::from_name(&text)) {
                ("reporter", Some(reporter)) => log.reporter = reporter,
                ("grpc_response_status" | "grpc_status", _) => {
                    log.grpc_status = text.parse().ok().or(log.grpc_status)
                }
                _ => others.insert(key, value),
            },
        }
    }
    others
}

fn field_of_label<'a>(log: &'a mut AccessLog, label: &str) -> Option<&'a mut String> {
    Some(match label {
        "destination_service" => &mut log.destination_service,
        "destination_service_name" => &mut log.destination_service_name,
        "destination_service_namespace" => &mut log.destination_service_namespace,
        "request_protocol" => &mut log.request_protocol,
        "connection_security_policy" => &mut log.security_policy,
        _ => {
            let (peer, field) = match label.split_once('_')? {
                ("source", field) => (&mut log.source, field),
                ("destination", field) => (&mut log.destination, field),
                _ => return None,
            };
            match field {
                "workload" => &mut peer.workload,
                "workload_namespace" => &mut peer.namespace,
                "principal" => &mut peer.principal,
                "app" => &mut peer.app,
                "version" => &mut peer.version,
                "cluster" => &mut peer.cluster,
                "canonical_service" => &mut peer.canonical_service,
                "canonical_revision" => &mut peer.canonical_revision,
                _ => return None,
            }
        }
    })
}
