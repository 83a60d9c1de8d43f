//! The route table of one proxy: for each listener port the virtual hosts, for each of these the
//! routes. Made once per configuration, asked for every request.

use crate::Labels;
use crate::cluster::{Cluster, clusters};
use crate::host;
use crate::istio::{Sidecar, VirtualService};
use crate::mesh::{Mesh, Named, Service};
use crate::route::{GatewayName, RequestView, Route, Viewer, default_route, routes_of};
use indexmap::{IndexMap, IndexSet};
use std::collections::HashMap;
use std::sync::Arc;

/// The workload that a proxy speaks for.
#[derive(Debug, Clone, Copy)]
pub struct ProxyWorkload<'a> {
    pub namespace: &'a str,
    pub labels: &'a Labels,
}

/// What to do with a request.
#[derive(Debug)]
pub enum Decision<'t> {
    Route(&'t Arc<Route>),
    /// The host is known and no rule fits, or a gateway does not know the host: 404 NR.
    NoRoute,
    /// The Gateway's server wants https: 301 to the same address there.
    RedirectToHttps,
    /// An unknown host, and the mesh lets such requests out.
    Passthrough,
    /// An unknown host, and the mesh does not: 502.
    BlockAll,
}

#[derive(Debug, Clone, Default)]
pub struct RouteTable {
    ports: HashMap<u16, VirtualHosts>,
    clusters: IndexMap<Arc<str>, Arc<Cluster>>,
    /// What a sidecar does with a host it does not know; a gateway answers 404.
    unknown: Unknown,
}

#[derive(Debug, Clone, Copy, Default)]
enum Unknown {
    #[default]
    NotFound,
    Allow,
    Block,
}

#[derive(Debug, Clone, Default)]
struct VirtualHosts {
    exact: HashMap<String, Arc<VirtualHost>>,
    /// Longest suffix first; `*` is the empty suffix.
    wildcard: Vec<(String, Arc<VirtualHost>)>,
}

#[derive(Debug, Clone, Default)]
struct VirtualHost {
    routes: Vec<Arc<Route>>,
    https_only: bool,
}

impl RouteTable {
    /// Routes of a sidecar's outbound traffic.
    pub fn for_sidecar(mesh: &Mesh, workload: ProxyWorkload<'_>) -> Self {
        let scope = Scope::of(mesh, workload);
        let services: Vec<&Arc<Service>> = mesh
            .services
            .values()
            .filter(|s| {
                host::exported(&s.export_to, &s.namespace, workload.namespace)
                    && scope.imports(&s.namespace, &s.host)
            })
            .collect();
        let clusters = clusters(mesh, mesh.services.values(), workload.namespace);
        let rules = mesh_rules(mesh, workload.namespace, &scope);
        let mut ports: HashMap<u16, VirtualHosts> = HashMap::new();
        let all_ports: IndexSet<u16> =
            services.iter().flat_map(|s| s.http_ports().map(|(_, port)| port.number)).chain([80]).collect();
        for port in all_ports {
            let viewer = Viewer {
                mesh,
                clusters: &clusters,
                namespace: workload.namespace,
                labels: workload.labels,
                gateway: GatewayName::Mesh,
                port,
            };
            ports.insert(port, sidecar_hosts(&viewer, &services, &rules));
        }
        let unknown = if scope.allow_any { Unknown::Allow } else { Unknown::Block };
        Self { ports, clusters, unknown }
    }

    /// Routes of an ingress gateway: of every Gateway object whose selector fits the labels.
    pub fn for_gateway(mesh: &Mesh, workload: ProxyWorkload<'_>) -> Self {
        let clusters = clusters(mesh, mesh.services.values(), workload.namespace);
        // Port, host → what the virtual host is made of, in order of the objects' age.
        let mut merged: HashMap<u16, IndexMap<String, VirtualHost>> = HashMap::new();
        for gateway in &mesh.gateways {
            if !gateway.spec.selector.iter().all(|(k, v)| workload.labels.get(k) == Some(v)) {
                continue;
            }
            for server in gateway.spec.servers.iter().filter(|server| server.port.protocol.is_http()) {
                let hosts = merged.entry(server.port.number).or_default();
                let viewer = Viewer {
                    mesh,
                    clusters: &clusters,
                    namespace: workload.namespace,
                    labels: workload.labels,
                    gateway: GatewayName::Gateway(&gateway.namespace, &gateway.name),
                    port: server.port.number,
                };
                let https_only = server.tls.as_ref().is_some_and(|tls| tls.https_redirect);
                for service in &mesh.virtual_services {
                    add_gateway_hosts(&viewer, &server.hosts, https_only, service, hosts);
                }
                if https_only {
                    for host in server.hosts.iter().map(|h| h.rsplit('/').next().unwrap_or_default()) {
                        let entry = hosts.entry(host.to_ascii_lowercase()).or_default();
                        entry.https_only = true;
                    }
                }
            }
        }
        let ports = merged
            .into_iter()
            .map(|(port, hosts)| {
                let mut virtual_hosts = VirtualHosts::default();
                for (host, mut entry) in hosts {
                    // A stable sort: rules keep their order, those that take everything go last.
                    entry.routes.sort_by_key(|route| route.matcher.is_catch_all());
                    virtual_hosts.add(&host, &Arc::new(entry));
                }
                virtual_hosts.finish();
                (port, virtual_hosts)
            })
            .collect();
        Self { ports, clusters, unknown: Unknown::NotFound }
    }

    /// Decides on a request that came to the listener for `port`. `host` is the authority without its
    /// port, in lower case: see [`crate::split_authority`].
    pub fn decide(&self, port: u16, host: &str, request: &RequestView<'_>) -> Decision<'_> {
        let Some(virtual_host) = self.ports.get(&port).and_then(|hosts| hosts.find(host)) else {
            return match self.unknown {
                Unknown::NotFound => Decision::NoRoute,
                Unknown::Allow => Decision::Passthrough,
                Unknown::Block => Decision::BlockAll,
            };
        };
        if virtual_host.https_only && request.scheme != "https" {
            return Decision::RedirectToHttps;
        }
        let route = virtual_host.routes.iter().find(|route| route.matcher.fits(request));
        route.map_or(Decision::NoRoute, Decision::Route)
    }

    /// Every cluster that a route may name.
    pub fn clusters(&self) -> impl Iterator<Item = &Arc<Cluster>> {
        self.clusters.values()
    }
}

impl VirtualHosts {
    /// Adds a virtual host under a name or wildcard, unless that is taken.
    fn add(&mut self, host: &str, virtual_host: &Arc<VirtualHost>) {
        match host.strip_prefix('*') {
            Some(suffix) => {
                if self.wildcard.iter().all(|(known, _)| known != suffix) {
                    self.wildcard.push((suffix.to_owned(), virtual_host.clone()));
                }
            }
            None => {
                self.exact.entry(host.to_owned()).or_insert_with(|| virtual_host.clone());
            }
        }
    }

    fn finish(&mut self) {
        self.wildcard.sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
    }

    fn find(&self, host: &str) -> Option<&Arc<VirtualHost>> {
        self.exact.get(host).or_else(|| {
            let covered =
                |suffix: &str| suffix.is_empty() || host.len() > suffix.len() && host.ends_with(suffix);
            self.wildcard.iter().find(|(suffix, _)| covered(suffix)).map(|(_, virtual_host)| virtual_host)
        })
    }
}

/// The VirtualServices that sidecars of a namespace obey, with the hosts each one won: of several for
/// one host the oldest.
fn mesh_rules<'m>(
    mesh: &'m Mesh,
    namespace: &str,
    scope: &Scope<'_>,
) -> Vec<(String, &'m Named<VirtualService>)> {
    let mut rules: IndexMap<String, &Named<VirtualService>> = IndexMap::new();
    for service in &mesh.virtual_services {
        let for_mesh = service.spec.gateways.is_empty() || service.spec.gateways.iter().any(|g| g == "mesh");
        if !for_mesh || !host::exported(&service.spec.export_to, &service.namespace, namespace) {
            continue;
        }
        for written in &service.spec.hosts {
            let resolved = host::resolve(written, &service.namespace, &mesh.settings.domain);
            if scope.imports(&service.namespace, &resolved) {
                rules.entry(resolved).or_insert(service);
            }
        }
    }
    rules.into_iter().collect()
}

/// The virtual hosts of one port: one per service that has the port, under all the names a client of
/// this namespace may use, and one per other host of a VirtualService, which Istio serves on port 80.
fn sidecar_hosts(
    viewer: &Viewer<'_>,
    services: &[&Arc<Service>],
    rules: &[(String, &Named<VirtualService>)],
) -> VirtualHosts {
    let mut hosts = VirtualHosts::default();
    for service in services.iter().filter(|s| s.http_ports().any(|(_, port)| port.number == viewer.port)) {
        let rule = rules
            .iter()
            .filter(|(host, _)| host::covers(host, &service.host))
            .max_by_key(|(host, _)| host::specificity(host));
        let routes = match rule {
            Some((_, rule)) => routes_of(viewer, rule),
            None => vec![Arc::new(default_route(viewer, service))],
        };
        let virtual_host = Arc::new(VirtualHost { routes, https_only: false });
        for name in names_of(service, viewer) {
            hosts.add(&name, &virtual_host);
        }
    }
    if viewer.port == 80 {
        for (host, rule) in rules {
            if !services.iter().any(|service| host::covers(host, &service.host)) {
                let routes = routes_of(viewer, rule);
                hosts.add(host, &Arc::new(VirtualHost { routes, https_only: false }));
            }
        }
    }
    hosts.finish();
    hosts
}

/// The names that a client may call a service by: its host, the shorter forms of a cluster-local one
/// (the shortest only from its own namespace), and its addresses.
fn names_of(service: &Service, viewer: &Viewer<'_>) -> Vec<String> {
    let mut names = vec![service.host.to_string()];
    let suffix = format!(".svc.{}", viewer.mesh.settings.domain);
    if let Some(short) = service.host.strip_suffix(&suffix) {
        names.push(format!("{short}.svc"));
        names.push(short.to_owned());
        if *service.namespace == *viewer.namespace {
            names.push(service.name.to_string());
        }
    }
    names.extend(service.addresses.iter().cloned());
    names
}

/// Adds what one VirtualService contributes to a server of a gateway.
fn add_gateway_hosts(
    viewer: &Viewer<'_>,
    server_hosts: &[String],
    https_only: bool,
    service: &Named<VirtualService>,
    hosts: &mut IndexMap<String, VirtualHost>,
) {
    let GatewayName::Gateway(gateway_namespace, _) = viewer.gateway else { return };
    let bound = service.spec.gateways.iter().any(|written| viewer.gateway.is(written, &service.namespace));
    if !bound || !host::exported(&service.spec.export_to, &service.namespace, viewer.namespace) {
        return;
    }
    let mut routes = None;
    for written in &service.spec.hosts {
        let own = host::resolve(written, &service.namespace, &viewer.mesh.settings.domain);
        for server_host in server_hosts {
            let (namespace, pattern) = server_host.split_once('/').unwrap_or(("*", server_host));
            let allowed = match namespace {
                "*" => true,
                "." => service.namespace == gateway_namespace,
                other => service.namespace == other,
            };
            let pattern = pattern.to_ascii_lowercase();
            let Some(host) = host::intersection(&own, &pattern).filter(|_| allowed) else { continue };
            let routes = routes.get_or_insert_with(|| routes_of(viewer, service));
            let entry = hosts.entry(host.to_owned()).or_default();
            entry.https_only |= https_only;
            // Two server hosts may both cover the host; its rules count once.
            let known =
                entry.routes.iter().any(|r| routes.first().is_some_and(|first| Arc::ptr_eq(r, first)));
            if !known {
                entry.routes.extend(routes.iter().cloned());
            }
        }
    }
}

/// What a Sidecar object lets a workload see.
struct Scope<'m> {
    /// `None`: everything.
    egress: Option<(&'m Sidecar, String)>,
    allow_any: bool,
}

impl<'m> Scope<'m> {
    /// The Sidecar that selects the workload, else the one for its whole namespace, else the root's.
    fn of(mesh: &'m Mesh, workload: ProxyWorkload<'_>) -> Self {
        let selected = |sidecar: &&Named<Sidecar>| {
            sidecar.namespace == workload.namespace
                && sidecar.spec.workload_selector.as_ref().is_some_and(|selector| {
                    selector.labels.iter().all(|(k, v)| workload.labels.get(k) == Some(v))
                })
        };
        let default_of = |namespace: &str| {
            mesh.sidecars.iter().find(|s| s.namespace == namespace && s.spec.workload_selector.is_none())
        };
        let found = mesh
            .sidecars
            .iter()
            .find(selected)
            .or_else(|| default_of(workload.namespace))
            .or_else(|| default_of(&mesh.settings.root_namespace));
        let mode = found.and_then(|s| s.spec.outbound_traffic_policy.as_ref()).map(|p| p.mode.as_str());
        let allow_any = match mode {
            Some("REGISTRY_ONLY") => false,
            Some("ALLOW_ANY") => true,
            _ => mesh.settings.allow_any,
        };
        // `.` in the root's default means the namespace of the workload it is applied to.
        let egress =
            found.filter(|s| !s.spec.egress.is_empty()).map(|s| (&*s.spec, workload.namespace.to_owned()));
        Self { egress, allow_any }
    }

    fn imports(&self, namespace: &str, service_host: &str) -> bool {
        let Some((sidecar, own_namespace)) = &self.egress else { return true };
        sidecar.egress.iter().flat_map(|listener| &listener.hosts).any(|written| {
            let Some((from, pattern)) = written.split_once('/') else { return false };
            let from_fits = match from {
                "*" => true,
                "." => namespace == own_namespace,
                "~" => false,
                other => other == namespace,
            };
            from_fits && host::covers(pattern, service_host)
        })
    }
}

#[cfg(test)]
mod tests;
