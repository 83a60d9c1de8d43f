//! Peer metadata: how the two proxies of a request come to know each other's workload. Each sends its
//! own as `x-envoy-peer-metadata` (base64 of a protobuf Struct) and `x-envoy-peer-metadata-id`, as
//! Istio's metadata exchange does; both headers end at the proxies.

use crate::config::NodeConfig;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use parking_lot::Mutex;
use pharos_mesh::{Labels, WorkloadIdentity};
use prost::Message;
use prost_types::{Struct, Value, value::Kind};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

pub(crate) const METADATA: HeaderName = HeaderName::from_static("x-envoy-peer-metadata");
pub(crate) const METADATA_ID: HeaderName = HeaderName::from_static("x-envoy-peer-metadata-id");

/// Longest header value that is decoded; Istio's own are below 2 KiB.
const MAX_HEADER_BYTES: usize = 8 * 1024;
/// Longest name taken from a peer; Kubernetes ends at 253.
const MAX_NAME_BYTES: usize = 253;
/// Decoded peers that are remembered. Past it the memory starts afresh.
const MAX_CACHED: usize = 1024;

/// One end of a request, in the words of Istio's labels.
#[derive(Debug, Clone, Default)]
pub(crate) struct Peer {
    pub(crate) workload: String,
    pub(crate) namespace: String,
    pub(crate) cluster: String,
    pub(crate) app: String,
    pub(crate) version: String,
    pub(crate) canonical_service: String,
    pub(crate) canonical_revision: String,
    /// [`Peer::to_struct`] on the wire: every access-log row carries it.
    encoded: OnceLock<Vec<u8>>,
}

const UNKNOWN: &str = "unknown";

impl Peer {
    /// This proxy's own workload.
    pub(crate) fn own(node: &NodeConfig) -> Self {
        Self::new(&node.workload, &node.namespace, &node.cluster_id, &node.labels)
    }

    /// What the registry knows of an endpoint, in case that no peer answers for itself.
    pub(crate) fn of_endpoint(identity: &WorkloadIdentity) -> Self {
        let known = !identity.workload.is_empty();
        if !known {
            return Self::unknown();
        }
        Self::new(&identity.workload, &identity.namespace, &identity.cluster_id, &identity.labels)
            .or_unknown()
    }

    pub(crate) fn unknown() -> Self {
        Self::default().or_unknown()
    }

    fn new(workload: &str, namespace: &str, cluster: &str, labels: &Labels) -> Self {
        let label = |names: &[&str]| names.iter().find_map(|name| labels.get(*name)).cloned();
        let mut canonical_service =
            label(&["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"])
                .unwrap_or_else(|| workload.to_owned());
        truncate(&mut canonical_service, 63);
        Self {
            workload: workload.to_owned(),
            namespace: namespace.to_owned(),
            cluster: cluster.to_owned(),
            app: label(&["app"]).unwrap_or_default(),
            version: label(&["version"]).unwrap_or_default(),
            canonical_service,
            canonical_revision: label(&[
                "service.istio.io/canonical-revision",
                "app.kubernetes.io/version",
                "version",
            ])
            .unwrap_or_else(|| "latest".to_owned()),
            encoded: OnceLock::new(),
        }
    }

    /// Fills what a remote side left open, as Istio's labels do.
    fn or_unknown(mut self) -> Self {
        for field in [
            &mut self.workload,
            &mut self.namespace,
            &mut self.cluster,
            &mut self.app,
            &mut self.version,
            &mut self.canonical_service,
        ] {
            if field.is_empty() {
                UNKNOWN.clone_into(field);
            }
        }
        if self.canonical_revision.is_empty() {
            "latest".clone_into(&mut self.canonical_revision);
        }
        self
    }

    /// As the Struct that is exchanged and that access logs carry.
    pub(crate) fn to_struct(&self) -> Struct {
        let text = |value: &str| Value { kind: Some(Kind::StringValue(value.to_owned())) };
        let mut labels = Struct::default();
        for (key, value) in [
            ("app", &self.app),
            ("version", &self.version),
            ("service.istio.io/canonical-name", &self.canonical_service),
            ("service.istio.io/canonical-revision", &self.canonical_revision),
        ] {
            if !value.is_empty() {
                labels.fields.insert(key.to_owned(), text(value));
            }
        }
        let mut all = Struct::default();
        for (key, value) in [
            ("NAME", &self.workload),
            ("WORKLOAD_NAME", &self.workload),
            ("NAMESPACE", &self.namespace),
            ("CLUSTER_ID", &self.cluster),
        ] {
            all.fields.insert(key.to_owned(), text(value));
        }
        all.fields.insert("LABELS".to_owned(), Value { kind: Some(Kind::StructValue(labels)) });
        all
    }

    /// [`Peer::to_struct`] in protobuf's encoding.
    pub(crate) fn encoded(&self) -> &[u8] {
        self.encoded.get_or_init(|| self.to_struct().encode_to_vec())
    }

    fn from_struct(all: &Struct) -> Self {
        let text = |fields: &Struct, key: &str| match fields.fields.get(key).and_then(|v| v.kind.as_ref()) {
            Some(Kind::StringValue(value)) => {
                let mut value = value.clone();
                truncate(&mut value, MAX_NAME_BYTES);
                value
            }
            _ => String::new(),
        };
        let none = Struct::default();
        let labels = match all.fields.get("LABELS").and_then(|v| v.kind.as_ref()) {
            Some(Kind::StructValue(labels)) => labels,
            _ => &none,
        };
        Self {
            workload: text(all, "WORKLOAD_NAME"),
            namespace: text(all, "NAMESPACE"),
            cluster: text(all, "CLUSTER_ID"),
            app: text(labels, "app"),
            version: text(labels, "version"),
            canonical_service: text(labels, "service.istio.io/canonical-name"),
            canonical_revision: text(labels, "service.istio.io/canonical-revision"),
            encoded: OnceLock::new(),
        }
        .or_unknown()
    }

    fn decode(value: &[u8]) -> Option<Self> {
        let bytes = STANDARD.decode(value).ok()?;
        Some(Self::from_struct(&Struct::decode(bytes.as_slice()).ok()?))
    }
}

/// Cuts at a character boundary.
fn truncate(text: &mut String, max_bytes: usize) {
    if text.len() > max_bytes {
        let end = (0..=max_bytes).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
    }
}

/// Sends our metadata and reads theirs.
#[derive(Debug)]
pub(crate) struct Exchange {
    metadata: HeaderValue,
    id: HeaderValue,
    /// By header value: there are as many peers as workloads, and each sends the same on every request.
    known: Mutex<HashMap<HeaderValue, Arc<Peer>>>,
}

impl Exchange {
    pub(crate) fn new(own: &Peer, node_id: &str) -> Self {
        let encoded = STANDARD.encode(own.encoded());
        let value = |text: &str| HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(UNKNOWN));
        Self { metadata: value(&encoded), id: value(node_id), known: Mutex::default() }
    }

    /// Adds our own metadata to a message for another proxy.
    pub(crate) fn announce(&self, headers: &mut HeaderMap) {
        headers.insert(METADATA, self.metadata.clone());
        headers.insert(METADATA_ID, self.id.clone());
    }

    /// Takes the other side's metadata out of a message. `None` when it sent none that can be read.
    pub(crate) fn take(&self, headers: &mut HeaderMap) -> Option<Arc<Peer>> {
        headers.remove(METADATA_ID);
        let value = headers.remove(METADATA)?;
        if value.len() > MAX_HEADER_BYTES {
            return None;
        }
        if let Some(peer) = self.known.lock().get(&value) {
            return Some(peer.clone());
        }
        let peer = Arc::new(Peer::decode(value.as_bytes())?);
        let mut known = self.known.lock();
        if known.len() >= MAX_CACHED {
            known.clear();
        }
        known.insert(value, peer.clone());
        Some(peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn two_proxies_come_to_know_each_other() {
        let own =
            Peer::new("reviews-v1", "bookinfo", "c1", &labels(&[("app", "reviews"), ("version", "v1")]));
        let exchange = Exchange::new(&own, "sidecar~1~2~3");
        let mut headers = HeaderMap::new();
        exchange.announce(&mut headers);
        let seen = exchange.take(&mut headers).unwrap();
        assert_eq!(seen.to_struct(), own.to_struct());
        assert!(headers.is_empty(), "the app must not see {headers:?}");
        assert!(exchange.take(&mut headers).is_none());
    }

    #[test]
    fn what_a_peer_does_not_say_is_unknown() {
        let peer = Peer::from_struct(&Struct::default());
        assert_eq!((peer.workload.as_str(), peer.canonical_revision.as_str()), ("unknown", "latest"));
    }

    #[test]
    fn metadata_that_cannot_be_read_is_dropped() {
        let exchange = Exchange::new(&Peer::default(), "id");
        for bad in ["%%%", "AAAA", &"A".repeat(MAX_HEADER_BYTES + 1)] {
            let mut headers = HeaderMap::new();
            headers.insert(METADATA, HeaderValue::try_from(bad).unwrap());
            assert!(exchange.take(&mut headers).is_none(), "{bad}");
            assert!(headers.is_empty());
        }
    }

    #[test]
    fn canonical_names_follow_the_injectors_order() {
        for (pairs, service, revision) in [
            (&[][..], "w", "latest"),
            (&[("app", "a"), ("version", "1")][..], "a", "1"),
            (&[("app", "a"), ("app.kubernetes.io/name", "k")][..], "k", "latest"),
            (&[("service.istio.io/canonical-name", "c"), ("app", "a")][..], "c", "latest"),
        ] {
            let peer = Peer::new("w", "n", "c", &labels(pairs));
            assert_eq!(
                (&*peer.canonical_service, &*peer.canonical_revision),
                (service, revision),
                "{pairs:?}"
            );
        }
    }
}
