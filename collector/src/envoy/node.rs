use pharos_model::Peer;
use pharos_proto::envoy::config::core::v3::Node;
use prost_types::{Struct, value::Kind};

/// What Istio's labels say of an end that is not known.
pub(crate) const UNKNOWN: &str = "unknown";

/// What a proxy is, by the first part of its node id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ProxyKind {
    #[default]
    Sidecar,
    Gateway,
    Waypoint,
}

/// The proxy that sends, and the workload that it stands for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ProxyNode {
    pub(crate) id: String,
    pub(crate) kind: ProxyKind,
    pub(crate) peer: Peer,
}

impl ProxyNode {
    /// From a bootstrap's node: Istio's metadata where it is there, else the node id
    /// `sidecar~<ip>~<pod>.<namespace>~<domain>` and the service cluster `<app>.<namespace>`.
    pub(crate) fn new(node: &Node) -> ProxyNode {
        let mut proxy = ProxyNode::from_names(&node.id, &node.cluster);
        if let Some(metadata) = &node.metadata {
            let known = peer_of_struct(metadata);
            // What the metadata leaves open stays as the names have it.
            let keep = |own: &mut String, told: String| {
                if !told.is_empty() {
                    *own = told;
                }
            };
            keep(&mut proxy.peer.cluster, known.cluster);
            keep(&mut proxy.peer.namespace, known.namespace);
            keep(&mut proxy.peer.workload, known.workload);
            keep(&mut proxy.peer.app, known.app);
            keep(&mut proxy.peer.version, known.version);
            keep(&mut proxy.peer.canonical_service, known.canonical_service);
            keep(&mut proxy.peer.canonical_revision, known.canonical_revision);
        }
        proxy
    }

    pub(crate) fn from_names(id: &str, cluster: &str) -> ProxyNode {
        let mut parts = id.split('~');
        let kind = match parts.next() {
            Some("router" | "gateway") => ProxyKind::Gateway,
            Some("waypoint") => ProxyKind::Waypoint,
            _ => ProxyKind::Sidecar,
        };
        let mut peer = Peer { canonical_revision: "latest".into(), ..Peer::default() };
        if let Some((pod, namespace)) = parts.nth(1).and_then(|pod| pod.rsplit_once('.')) {
            peer.workload = workload_of_pod(pod).to_string();
            peer.namespace = namespace.to_string();
        }
        if let Some((app, namespace)) = cluster.split_once('.') {
            peer.canonical_service = app.to_string();
            if peer.namespace.is_empty() {
                peer.namespace = namespace.split('.').next().unwrap_or_default().to_string();
            }
        }
        if peer.canonical_service.is_empty() {
            peer.canonical_service = peer.workload.clone();
        }
        ProxyNode { id: id.to_string(), kind, peer }
    }
}

/// A Deployment's pods are named `<workload>-<template hash>-<random>`, with hashes of a small alphabet.
fn workload_of_pod(pod: &str) -> &str {
    let is_suffix = |text: &str, lengths: std::ops::RangeInclusive<usize>| {
        lengths.contains(&text.len()) && text.bytes().all(|b| b"bcdfghjklmnpqrstvwxz2456789".contains(&b))
    };
    if let Some((front, last)) = pod.rsplit_once('-') {
        if is_suffix(last, 5..=5)
            && let Some((workload, hash)) = front.rsplit_once('-')
            && is_suffix(hash, 6..=10)
        {
            return workload;
        }
        if last.bytes().all(|b| b.is_ascii_digit()) && !last.is_empty() {
            return front;
        }
    }
    pod
}

pub(crate) fn text_of<'a>(metadata: &'a Struct, key: &str) -> &'a str {
    match metadata.fields.get(key).and_then(|value| value.kind.as_ref()) {
        Some(Kind::StringValue(text)) => text,
        _ => "",
    }
}

/// A workload as Istio writes it: node metadata and the metadata exchange have upper-case keys and a struct of
/// labels, newer proxies' filter state has lower-case keys (Envoy `contrib/istio`, `metadata_object.h`). What is not
/// said stays empty.
pub(crate) fn peer_of_struct(metadata: &Struct) -> Peer {
    let labels =
        ["LABELS", "labels"].iter().find_map(|key| match metadata.fields.get(*key)?.kind.as_ref()? {
            Kind::StructValue(labels) => Some(labels),
            _ => None,
        });
    let label = |key: &str| labels.map(|labels| text_of(labels, key)).unwrap_or_default();
    let field = |keys: &[&str]| keys.iter().map(|key| text_of(metadata, key)).find(|text| !text.is_empty());
    let first = |candidates: &[&str]| {
        candidates.iter().find(|text| !text.is_empty()).map(|text| text.to_string()).unwrap_or_default()
    };
    let workload = field(&["WORKLOAD_NAME", "workload"]).unwrap_or_default();
    Peer {
        cluster: field(&["CLUSTER_ID", "cluster"]).unwrap_or_default().into(),
        namespace: field(&["NAMESPACE", "namespace"]).unwrap_or_default().into(),
        workload: workload.into(),
        app: first(&[field(&["app"]).unwrap_or_default(), label("app")]),
        version: first(&[field(&["version"]).unwrap_or_default(), label("version")]),
        canonical_service: first(&[
            field(&["service"]).unwrap_or_default(),
            label("service.istio.io/canonical-name"),
            label("app.kubernetes.io/name"),
            label("app"),
            workload,
        ]),
        canonical_revision: first(&[
            field(&["revision"]).unwrap_or_default(),
            label("service.istio.io/canonical-revision"),
            label("app.kubernetes.io/version"),
            label("version"),
        ]),
        principal: field(&["IDENTITY", "identity"]).unwrap_or_default().into(),
    }
}
