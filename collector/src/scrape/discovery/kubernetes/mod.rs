//! `kubernetes_sd_configs`: targets from the objects of a Kubernetes API server, followed by list and watch.
//!
//! Requests go through the client that Prometheus' HTTP configuration describes, so that TLS, credentials and proxies
//! hold for the API server as they do for targets.

mod api_server;
mod cluster;
mod object;
mod targets;
mod watch;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::Deserialize;
use tokio::{sync::mpsc, task::JoinSet};

use self::{
    api_server::Place,
    cluster::Cluster,
    watch::{Watch, follow},
};
use super::{DiscoveryConfig, Teller};
use crate::scrape::http_config::{HttpConfig, with_http_keys};

with_http_keys! {
    #[derive(Clone, Debug)]
    struct KubernetesSdConfig {
        role: Role,
        api_server: Option<String>,
        kubeconfig_file: Option<PathBuf>,
        #[serde(default)]
        namespaces: Namespaces,
        #[serde(default)]
        selectors: Vec<Selector>,
        #[serde(default)]
        attach_metadata: AttachMetadata,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::scrape) enum Role {
    Node,
    Pod,
    Service,
    Endpoints,
    EndpointSlice,
    Ingress,
}

impl Role {
    /// The objects that make targets.
    fn kind(self) -> Kind {
        match self {
            Role::Node => Kind::Node,
            Role::Pod => Kind::Pod,
            Role::Service => Kind::Service,
            Role::Endpoints => Kind::Endpoints,
            Role::EndpointSlice => Kind::EndpointSlice,
            Role::Ingress => Kind::Ingress,
        }
    }

    /// Those whose selectors may narrow what is found.
    fn selectable(self) -> &'static [Role] {
        match self {
            Role::Pod => &[Role::Pod, Role::Node],
            Role::EndpointSlice => &[Role::Pod, Role::Service, Role::EndpointSlice],
            Role::Endpoints => &[Role::Pod, Role::Service, Role::Endpoints],
            Role::Service => &[Role::Service],
            Role::Node => &[Role::Node],
            Role::Ingress => &[Role::Ingress],
        }
    }
}

/// What is listed and watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Node,
    Pod,
    Service,
    Endpoints,
    EndpointSlice,
    Ingress,
    Namespace,
    ReplicaSet,
    Job,
}

impl Kind {
    /// As roles, labels and sources are called.
    fn name(self) -> &'static str {
        match self {
            Kind::Node => "node",
            Kind::Pod => "pod",
            Kind::Service => "service",
            Kind::Endpoints => "endpoints",
            Kind::EndpointSlice => "endpointslice",
            Kind::Ingress => "ingress",
            Kind::Namespace => "namespace",
            Kind::ReplicaSet => "replicaset",
            Kind::Job => "job",
        }
    }

    /// The path of its API group, and of itself in that.
    fn path(self) -> (&'static str, &'static str) {
        match self {
            Kind::Node => ("api/v1", "nodes"),
            Kind::Pod => ("api/v1", "pods"),
            Kind::Service => ("api/v1", "services"),
            Kind::Endpoints => ("api/v1", "endpoints"),
            Kind::EndpointSlice => ("apis/discovery.k8s.io/v1", "endpointslices"),
            Kind::Ingress => ("apis/networking.k8s.io/v1", "ingresses"),
            Kind::Namespace => ("api/v1", "namespaces"),
            Kind::ReplicaSet => ("apis/apps/v1", "replicasets"),
            Kind::Job => ("apis/batch/v1", "jobs"),
        }
    }

    fn is_namespaced(self) -> bool {
        !matches!(self, Kind::Node | Kind::Namespace)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::scrape) struct Namespaces {
    own_namespace: bool,
    names: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::scrape) struct Selector {
    role: Role,
    #[serde(default)]
    label: String,
    #[serde(default)]
    field: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::scrape) struct AttachMetadata {
    node: bool,
    namespace: bool,
    deployment: bool,
    job: bool,
    cronjob: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(in crate::scrape) struct KubernetesSd {
    role: Role,
    place: Place,
    namespaces: Namespaces,
    selectors: Vec<Selector>,
    attach: AttachMetadata,
}

/// Objects often change together.
const SETTLE: Duration = Duration::from_millis(250);

/// How long a failure lasts at least, and at most; the time between is doubled at each.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

impl KubernetesSdConfig {
    /// Prometheus' own checks (`discovery/kubernetes`, `SDConfig.UnmarshalYAML`).
    pub(in crate::scrape) fn resolve(mut self, base: &Path) -> Result<DiscoveryConfig, String> {
        let http = self.take_http(base)?;
        let is_default = http == HttpConfig::prometheus_default();
        let own = self.namespaces.own_namespace;
        let place = match (self.api_server, self.kubeconfig_file) {
            (Some(_), Some(_)) => return Err("cannot use kubeconfig_file and api_server together".into()),
            (Some(_), None) if own => {
                return Err("cannot use api_server and namespaces.own_namespace together".into());
            }
            (None, Some(_)) if own => {
                return Err("cannot use kubeconfig_file and namespaces.own_namespace together".into());
            }
            (None, Some(_)) if !is_default => {
                return Err("cannot use a custom HTTP client configuration with kubeconfig_file".into());
            }
            (None, None) if !is_default => {
                return Err("a custom HTTP client configuration needs an api_server".into());
            }
            (Some(url), None) => Place::at(&url, http)?,
            (None, Some(file)) => Place::KubeConfig(base.join(file)),
            (None, None) => Place::InCluster,
        };
        for (at, selector) in self.selectors.iter().enumerate() {
            let role = selector.role.kind().name();
            if self.selectors.iter().take(at).any(|other| other.role == selector.role) {
                return Err(format!("duplicated selector role: {role}"));
            }
            if !self.role.selectable().contains(&selector.role) {
                let allowed: Vec<&str> =
                    self.role.selectable().iter().map(|role| role.kind().name()).collect();
                let role = self.role.kind().name();
                return Err(format!("{role} role supports only {} selectors", allowed.join(", ")));
            }
        }
        Ok(DiscoveryConfig::Kubernetes(Box::new(KubernetesSd {
            role: self.role,
            place,
            namespaces: self.namespaces,
            selectors: self.selectors,
            attach: self.attach_metadata,
        })))
    }
}

impl KubernetesSd {
    pub(super) async fn run(self, teller: Teller) {
        let mut last_fault = None;
        let mut wait = FIRST_WAIT;
        let server = loop {
            match self.place.connect() {
                Ok(server) => break Arc::new(server),
                Err(fault) => teller.fault(&mut last_fault, Some(fault)),
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        };
        let watches = self.watches(server.own_namespace.as_deref());
        let mut cluster = Cluster::new(self.role, self.attach, watches.iter().map(|watch| watch.kind));
        let (changed, mut changes) = mpsc::channel(256);
        // Ends with this task.
        let mut followers = JoinSet::new();
        for (number, watch) in watches.into_iter().enumerate() {
            followers.spawn(follow(server.clone(), watch, number, changed.clone(), teller.clone()));
        }
        loop {
            // We hold a sender: there is always more to come.
            let Some((number, change)) = changes.recv().await else { return };
            cluster.apply(number, change);
            tokio::time::sleep(SETTLE).await;
            while let Ok((number, change)) = changes.try_recv() {
                cluster.apply(number, change);
            }
            for (source, group) in cluster.news() {
                teller.tell(source, group.into_iter().collect()).await;
            }
        }
    }

    fn watches(&self, own_namespace: Option<&str>) -> Vec<Watch> {
        let mut kinds = vec![self.role.kind()];
        let of_endpoints = matches!(self.role, Role::Endpoints | Role::EndpointSlice);
        let with_pods = of_endpoints || self.role == Role::Pod;
        let attach = self.attach;
        for (kind, wanted) in [
            (Kind::Service, of_endpoints),
            (Kind::Pod, of_endpoints),
            (Kind::Node, with_pods && attach.node),
            (Kind::Namespace, self.role != Role::Node && attach.namespace),
            (Kind::ReplicaSet, with_pods && attach.deployment),
            (Kind::Job, with_pods && attach.cronjob),
        ] {
            if wanted {
                kinds.push(kind);
            }
        }
        let mut namespaces: Vec<Option<&str>> =
            self.namespaces.names.iter().map(|name| Some(name.as_str())).collect();
        namespaces.extend(own_namespace.filter(|_| self.namespaces.own_namespace).map(Some));
        namespaces.sort();
        namespaces.dedup();
        if namespaces.is_empty() {
            namespaces.push(None);
        }
        let mut watches = Vec::new();
        for kind in kinds {
            let selector = self.selectors.iter().find(|selector| selector.role.kind() == kind);
            let all = [None];
            for namespace in if kind.is_namespaced() { namespaces.as_slice() } else { &all } {
                watches.push(Watch::new(kind, *namespace, selector));
            }
        }
        watches
    }
}

#[cfg(test)]
mod tests;
