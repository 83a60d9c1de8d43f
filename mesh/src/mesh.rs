//! All configuration of a mesh at one moment, indexed: objects by kind, oldest first, and services
//! from the registry and from ServiceEntries.

use crate::host;
use crate::istio::{DestinationRule, Gateway, ServiceEntry, Sidecar, VirtualService};
use crate::object::{Object, Spec};
use crate::{Labels, Protocol, Registry, ServicePort};
use indexmap::IndexMap;
use std::sync::Arc;

/// Mesh-wide settings that routing depends on.
#[derive(Debug, Clone)]
pub struct MeshSettings {
    /// Suffix of cluster-local hosts, `cluster.local`.
    pub domain: String,
    pub root_namespace: String,
    /// False: a request to an unknown host is answered with 502.
    pub allow_any: bool,
}

impl Default for MeshSettings {
    fn default() -> Self {
        Self { domain: "cluster.local".into(), root_namespace: "istio-system".into(), allow_any: true }
    }
}

/// A configuration object with its identity.
#[derive(Debug, Clone)]
pub(crate) struct Named<T> {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) spec: Arc<T>,
}

/// Something that can be called: a service of the registry or a host of a ServiceEntry.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// Full host, `reviews.bookinfo.svc.cluster.local`.
    pub host: Arc<str>,
    /// First label of the host for registry services, the whole host for ServiceEntries.
    pub name: Arc<str>,
    pub namespace: Arc<str>,
    pub ports: Vec<ServicePort>,
    pub addresses: Vec<String>,
    /// True for a ServiceEntry outside of the mesh: no peer metadata is exchanged with it.
    pub external: bool,
    pub(crate) export_to: Vec<String>,
    pub(crate) endpoints: Vec<ServiceEndpoint>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ServiceEndpoint {
    /// One `host:port` per entry of `Service::ports`; `None` where the port is not served.
    pub(crate) addresses: Vec<Option<Arc<str>>>,
    pub(crate) workload: Arc<WorkloadIdentity>,
}

/// Who stands behind an endpoint, as far as the registry knows. Unknown parts are empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WorkloadIdentity {
    pub workload: String,
    pub namespace: String,
    pub service_account: String,
    pub cluster_id: String,
    pub labels: Arc<Labels>,
}

/// Everything that is configured, ready to be asked.
#[derive(Debug, Clone)]
pub struct Mesh {
    pub(crate) settings: MeshSettings,
    pub(crate) virtual_services: Vec<Named<VirtualService>>,
    pub(crate) destination_rules: Vec<Named<DestinationRule>>,
    pub(crate) gateways: Vec<Named<Gateway>>,
    pub(crate) sidecars: Vec<Named<Sidecar>>,
    /// By full host.
    pub(crate) services: IndexMap<Arc<str>, Arc<Service>>,
}

impl Mesh {
    pub fn new(settings: MeshSettings, objects: &[Object], registry: &Registry) -> Self {
        let mut sorted: Vec<&Object> = objects.iter().collect();
        // Oldest first; an object that does not say when is older than all that do, and equals go by name.
        sorted.sort_by(|a, b| (a.created, &a.name, &a.namespace).cmp(&(b.created, &b.name, &b.namespace)));
        let mut mesh = Self {
            settings,
            virtual_services: Vec::new(),
            destination_rules: Vec::new(),
            gateways: Vec::new(),
            sidecars: Vec::new(),
            services: IndexMap::new(),
        };
        for service in &registry.services {
            mesh.add_service(registry_service(service, &mesh.settings.domain));
        }
        for object in sorted {
            match &object.spec {
                Spec::VirtualService(spec) => mesh.virtual_services.push(named(object, spec)),
                Spec::DestinationRule(spec) => mesh.destination_rules.push(named(object, spec)),
                Spec::Gateway(spec) => mesh.gateways.push(named(object, spec)),
                Spec::Sidecar(spec) => mesh.sidecars.push(named(object, spec)),
                Spec::ServiceEntry(spec) => {
                    for host in &spec.hosts {
                        mesh.add_service(entry_service(spec, host, &object.namespace));
                    }
                }
                Spec::Other | Spec::Invalid => {}
            }
        }
        mesh
    }

    /// The first service of a host wins.
    fn add_service(&mut self, service: Service) {
        self.services.entry(service.host.clone()).or_insert_with(|| Arc::new(service));
    }

    /// The service with this full host.
    pub fn service(&self, host: &str) -> Option<&Arc<Service>> {
        self.services.get(host)
    }
}

fn named<T>(object: &Object, spec: &Arc<T>) -> Named<T> {
    Named { namespace: object.namespace.clone(), name: object.name.clone(), spec: spec.clone() }
}

fn registry_service(service: &crate::RegistryService, domain: &str) -> Service {
    let endpoints = service.endpoints.iter().map(|endpoint| ServiceEndpoint {
        addresses: service
            .ports
            .iter()
            .map(|port| endpoint.address_for(&port.name).ok().map(Arc::from))
            .collect(),
        workload: Arc::new(WorkloadIdentity {
            workload: endpoint.workload.clone(),
            namespace: endpoint.namespace.clone().unwrap_or_else(|| service.namespace.clone()),
            service_account: endpoint.service_account.clone(),
            cluster_id: endpoint.cluster_id.clone(),
            labels: endpoint.labels.clone(),
        }),
    });
    Service {
        host: host::resolve(&service.name, &service.namespace, domain).into(),
        name: service.name.as_str().into(),
        namespace: service.namespace.as_str().into(),
        ports: service.ports.clone(),
        addresses: service.addresses.clone(),
        external: false,
        export_to: Vec::new(),
        endpoints: endpoints.collect(),
    }
}

/// A ServiceEntry's host. Without endpoints of its own it is found by its name; that also stands for
/// resolution NONE, because an explicit proxy knows no original destination but the name.
fn entry_service(entry: &ServiceEntry, host: &str, namespace: &str) -> Service {
    let ports: Vec<ServicePort> = entry
        .ports
        .iter()
        .map(|port| ServicePort { number: port.number, name: port.name.clone(), protocol: port.protocol })
        .collect();
    let target = |index: usize, own: Option<u16>| {
        let port = entry.ports.get(index);
        own.or(port.and_then(|p| p.target_port)).or(port.map(|p| p.number)).unwrap_or_default()
    };
    let address = |host: &str, port: u16| -> Arc<str> {
        if host.contains(':') { format!("[{host}]:{port}").into() } else { format!("{host}:{port}").into() }
    };
    let endpoints = if entry.endpoints.is_empty() && entry.workload_selector.is_none() {
        let addresses = (0..ports.len()).map(|i| Some(address(host, target(i, None)))).collect();
        if host.starts_with('*') {
            Vec::new()
        } else {
            vec![ServiceEndpoint { addresses, workload: Arc::default() }]
        }
    } else {
        entry
            .endpoints
            .iter()
            .map(|endpoint| ServiceEndpoint {
                addresses: ports
                    .iter()
                    .enumerate()
                    .map(|(i, port)| {
                        Some(address(&endpoint.address, target(i, endpoint.ports.get(&port.name).copied())))
                    })
                    .collect(),
                workload: Arc::new(WorkloadIdentity {
                    service_account: endpoint.service_account.clone(),
                    labels: endpoint.labels.clone(),
                    ..WorkloadIdentity::default()
                }),
            })
            .collect()
    };
    Service {
        host: host.to_ascii_lowercase().into(),
        name: host.to_ascii_lowercase().into(),
        namespace: namespace.into(),
        ports,
        addresses: entry.addresses.clone(),
        external: entry.location.as_deref() != Some("MESH_INTERNAL"),
        export_to: entry.export_to.clone(),
        endpoints,
    }
}

impl Service {
    /// The port with this number.
    pub fn port(&self, number: u16) -> Option<&ServicePort> {
        self.ports.iter().find(|port| port.number == number)
    }

    /// Ports whose requests are routed by HTTP fields.
    pub(crate) fn http_ports(&self) -> impl Iterator<Item = (usize, &ServicePort)> {
        self.ports.iter().enumerate().filter(|(_, port)| Protocol::is_http(port.protocol))
    }
}
