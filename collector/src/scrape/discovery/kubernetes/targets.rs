//! The targets that an object makes, with the labels that Prometheus gives them (`discovery/kubernetes`).

use std::{collections::BTreeMap, fmt::Display};

use super::{
    Kind, Role,
    cluster::Cluster,
    object::{Container, ContainerPort, Endpoint, EndpointPort, Metadata, Object, Reference, key},
};
use crate::scrape::discovery::{ADDRESS, TargetGroup};

type LabelMap = BTreeMap<String, String>;

/// Labels that begin with `__meta_kubernetes_`.
#[derive(Clone, Default)]
struct Meta(LabelMap);

impl Meta {
    fn at(address: String) -> Meta {
        Meta(LabelMap::from([(ADDRESS.to_string(), address)]))
    }

    fn set(&mut self, name: &str, value: impl Display) {
        self.0.insert(format!("__meta_kubernetes_{name}"), value.to_string());
    }

    fn set_some(&mut self, name: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }

    /// Name, labels and annotations of an object.
    fn object(&mut self, kind: Kind, metadata: &Metadata) {
        self.set(&format!("{}_name", kind.name()), &metadata.name);
        self.labels_and_annotations(kind, metadata);
    }

    fn labels_and_annotations(&mut self, kind: Kind, metadata: &Metadata) {
        let kind = kind.name();
        for (pairs, of) in [(&metadata.labels, "label"), (&metadata.annotations, "annotation")] {
            for (name, value) in pairs {
                let name = sanitized(name);
                self.set(&format!("{kind}_{of}_{name}"), value);
                self.set(&format!("{kind}_{of}present_{name}"), true);
            }
        }
    }

    fn container(&mut self, container: &Container, is_init: bool) {
        self.set("pod_container_name", &container.name);
        self.set("pod_container_image", &container.image);
        self.set("pod_container_init", is_init);
    }

    fn container_port(&mut self, port: &ContainerPort, protocol: &str) {
        self.set("pod_container_port_name", &port.name);
        self.set("pod_container_port_number", port.container_port);
        self.set("pod_container_port_protocol", protocol);
    }
}

/// Whatever cannot be in a label's name becomes an underscore.
fn sanitized(name: &str) -> String {
    name.chars().map(|ch| if ch.is_ascii_alphanumeric() { ch } else { '_' }).collect()
}

fn join(host: &str, port: u32) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// The targets of an object of the cluster's role; none if it has no address yet.
pub(super) fn group(cluster: &Cluster, object: &Object) -> TargetGroup {
    let mut group = Meta::default();
    let targets = match cluster.role {
        Role::Node => node(object, &mut group),
        Role::Pod => pod(cluster, object, &mut group),
        Role::Service => service(object, &mut group),
        Role::Endpoints => endpoints(cluster, object, &mut group),
        Role::EndpointSlice => endpoint_slice(cluster, object, &mut group),
        Role::Ingress => ingress(object, &mut group),
    };
    if cluster.attach.namespace
        && let Some(namespace) = cluster.get(Kind::Namespace, &object.metadata.namespace)
    {
        group.labels_and_annotations(Kind::Namespace, &namespace.metadata);
    }
    TargetGroup { targets: targets.into_iter().map(|Meta(labels)| labels).collect(), labels: group.0 }
}

fn node(node: &Object, group: &mut Meta) -> Vec<Meta> {
    /// The best first.
    const ADDRESSES: [&str; 6] =
        ["InternalIP", "InternalDNS", "ExternalIP", "ExternalDNS", "LegacyHostIP", "Hostname"];
    group.set("node_provider_id", &node.spec.provider_id);
    for condition in &node.status.conditions {
        let kind = sanitized(&condition.kind.to_lowercase());
        group.set(&format!("node_condition_{kind}"), condition.status.to_lowercase());
    }
    group.object(Kind::Node, &node.metadata);
    let first_of = |kind: &str| node.status.addresses.iter().find(|address| address.kind == kind);
    let Some(address) = ADDRESSES.into_iter().find_map(first_of) else { return Vec::new() };
    let mut target = Meta::at(join(&address.address, node.status.daemon_endpoints.kubelet_endpoint.port));
    target.0.insert("instance".into(), node.metadata.name.clone());
    // The first of each type.
    for address in node.status.addresses.iter().rev() {
        target.set(&format!("node_address_{}", sanitized(&address.kind)), &address.address);
    }
    vec![target]
}

fn pod(cluster: &Cluster, pod: &Object, group: &mut Meta) -> Vec<Meta> {
    let ip = &pod.status.pod_ip;
    // A pod that starts, or was evicted, has none.
    if ip.is_empty() {
        return Vec::new();
    }
    pod_labels(cluster, pod, group);
    group.set("namespace", &pod.metadata.namespace);
    if cluster.attach.node {
        // The nodes' selectors leave out the pods of the others.
        let Some(node) = cluster.get(Kind::Node, &pod.spec.node_name) else { return Vec::new() };
        group.object(Kind::Node, &node.metadata);
    }
    let mut targets = Vec::new();
    for (container, is_init) in containers(pod) {
        let statuses =
            if is_init { &pod.status.init_container_statuses } else { &pod.status.container_statuses };
        let status = statuses.iter().find(|status| status.name == container.name);
        let mut of_container = Meta::default();
        of_container.container(container, is_init);
        of_container.set("pod_container_id", status.map_or("", |status| &status.container_id));
        if container.ports.is_empty() {
            // Relabelling may add a port.
            let mut target = of_container.clone();
            target.0.insert(ADDRESS.into(), ip.clone());
            targets.push(target);
        }
        for port in &container.ports {
            let mut target = of_container.clone();
            target.0.insert(ADDRESS.into(), join(ip, port.container_port));
            target.container_port(port, &port.protocol);
            targets.push(target);
        }
    }
    targets
}

/// With whether it is one that runs before the others.
fn containers(pod: &Object) -> impl Iterator<Item = (&Container, bool)> {
    let of = |containers, is_init| std::iter::zip(containers, std::iter::repeat(is_init));
    of(&pod.spec.containers, false).chain(of(&pod.spec.init_containers, true))
}

fn pod_labels(cluster: &Cluster, pod: &Object, labels: &mut Meta) {
    labels.set("pod_ip", &pod.status.pod_ip);
    let ready = pod.status.conditions.iter().find(|condition| condition.kind == "Ready");
    labels.set("pod_ready", ready.map_or_else(|| "unknown".into(), |ready| ready.status.to_lowercase()));
    labels.set("pod_phase", &pod.status.phase);
    labels.set("pod_node_name", &pod.spec.node_name);
    labels.set("pod_host_ip", &pod.status.host_ip);
    labels.set("pod_uid", &pod.metadata.uid);
    labels.object(Kind::Pod, &pod.metadata);
    let Some(controller) = pod.metadata.controller() else { return };
    labels.set("pod_controller_kind", &controller.kind);
    labels.set("pod_controller_name", &controller.name);
    let attach = cluster.attach;
    let owner_of_controller = |kind, owner_kind: &str| {
        let controller = cluster.get(kind, &key(&pod.metadata.namespace, &controller.name))?;
        controller.metadata.controller().filter(|owner| owner.kind == owner_kind).map(|owner| &owner.name)
    };
    match controller.kind.as_str() {
        "ReplicaSet" if attach.deployment => {
            labels.set_some("pod_deployment_name", owner_of_controller(Kind::ReplicaSet, "Deployment"));
        }
        "Job" => {
            labels.set_some("pod_job_name", attach.job.then_some(&controller.name));
            if attach.cronjob {
                labels.set_some("pod_cronjob_name", owner_of_controller(Kind::Job, "CronJob"));
            }
        }
        _ => {}
    }
}

fn service(service: &Object, group: &mut Meta) -> Vec<Meta> {
    service_labels(service, group);
    let spec = &service.spec;
    let host = format!("{}.{}.svc", service.metadata.name, service.metadata.namespace);
    let target = |port: &super::object::ServicePort| {
        let mut target = Meta::at(join(&host, port.port));
        target.set("service_port_name", &port.name);
        target.set("service_port_number", port.port);
        target.set("service_port_protocol", &port.protocol);
        target.set("service_type", &spec.service_type);
        match spec.service_type.as_str() {
            "ExternalName" => target.set("service_external_name", &spec.external_name),
            _ => target.set("service_cluster_ip", &spec.cluster_ip),
        }
        if spec.service_type == "LoadBalancer" {
            let assigned = service.status.load_balancer.ingress.iter().map(|ingress| ingress.ip.as_str());
            let assigned: Vec<&str> = assigned.filter(|ip| !ip.is_empty()).collect();
            let asked_for = &spec.load_balancer_ip;
            let ips = if assigned.is_empty() { asked_for.clone() } else { assigned.join(",") };
            target.set("service_loadbalancer_ip", ips);
        }
        target
    };
    spec.ports.iter().map(target).collect()
}

fn service_labels(service: &Object, labels: &mut Meta) {
    labels.set("namespace", &service.metadata.namespace);
    labels.object(Kind::Service, &service.metadata);
}

fn endpoints(cluster: &Cluster, endpoints: &Object, group: &mut Meta) -> Vec<Meta> {
    group.set("namespace", &endpoints.metadata.namespace);
    if let Some(service) = cluster.get(Kind::Service, &endpoints.key()) {
        service_labels(service, group);
    }
    group.object(Kind::Endpoints, &endpoints.metadata);
    let mut targets = EndpointTargets::new(cluster);
    for subset in &endpoints.subsets {
        for port in &subset.ports {
            let ready = subset.addresses.iter().map(|address| (address, true));
            for (address, ready) in
                ready.chain(subset.not_ready_addresses.iter().map(|address| (address, false)))
            {
                let mut target = Meta::at(join(&address.ip, port.port.unwrap_or(0)));
                let protocol = port.protocol.as_deref().unwrap_or_default();
                target.set("endpoint_port_name", port.name.as_deref().unwrap_or_default());
                target.set("endpoint_port_protocol", protocol);
                target.set("endpoint_ready", ready);
                if let Some(of) = &address.target_ref {
                    target.set("endpoint_address_target_kind", &of.kind);
                    target.set("endpoint_address_target_name", &of.name);
                }
                target.set_some("endpoint_node_name", address.node_name.as_ref());
                target.set("endpoint_hostname", &address.hostname);
                let of_node = address.target_ref.as_ref().filter(|of| of.kind == "Node").map(|of| &of.name);
                targets.attach_node(&mut target, address.node_name.as_ref().or(of_node));
                targets.add(target, address.target_ref.as_ref(), port, |_| protocol);
            }
        }
    }
    targets.with_other_ports()
}

fn endpoint_slice(cluster: &Cluster, slice: &Object, group: &mut Meta) -> Vec<Meta> {
    group.set("namespace", &slice.metadata.namespace);
    group.set("endpointslice_address_type", &slice.address_type);
    group.object(Kind::EndpointSlice, &slice.metadata);
    let service = slice.metadata.labels.get("kubernetes.io/service-name");
    let service = service.and_then(|name| cluster.get(Kind::Service, &key(&slice.metadata.namespace, name)));
    if let Some(service) = service {
        service_labels(service, group);
        // The other family's slice of the same service names the same pods.
        let two_families =
            matches!(service.spec.ip_family_policy.as_str(), "PreferDualStack" | "RequireDualStack");
        if two_families && service.spec.ip_families.first().is_some_and(|first| *first != slice.address_type)
        {
            return Vec::new();
        }
    }
    let mut targets = EndpointTargets::new(cluster);
    for endpoint in &slice.endpoints {
        for port in &slice.ports {
            for address in &endpoint.addresses {
                let mut target = slice_target(address, endpoint, port);
                let of_node = endpoint.target_ref.as_ref().filter(|of| of.kind == "Node").map(|of| &of.name);
                targets.attach_node(&mut target, of_node.or(endpoint.node_name.as_ref()));
                targets.add(target, endpoint.target_ref.as_ref(), port, |port| &port.protocol);
            }
        }
    }
    targets.with_other_ports()
}

fn slice_target(address: &str, endpoint: &Endpoint, port: &EndpointPort) -> Meta {
    let mut target = Meta::at(port.port.map_or_else(|| address.to_string(), |port| join(address, port)));
    for (name, value) in [
        ("port_name", port.name.clone()),
        ("port_protocol", port.protocol.clone()),
        ("port", port.port.map(|port| port.to_string())),
        ("port_app_protocol", port.app_protocol.clone()),
        ("endpoint_conditions_ready", endpoint.conditions.ready.map(|is| is.to_string())),
        ("endpoint_conditions_serving", endpoint.conditions.serving.map(|is| is.to_string())),
        ("endpoint_conditions_terminating", endpoint.conditions.terminating.map(|is| is.to_string())),
        ("endpoint_hostname", endpoint.hostname.clone()),
        ("address_target_kind", endpoint.target_ref.as_ref().map(|of| of.kind.clone())),
        ("address_target_name", endpoint.target_ref.as_ref().map(|of| of.name.clone())),
        ("endpoint_node_name", endpoint.node_name.clone()),
        ("endpoint_zone", endpoint.zone.clone()),
    ] {
        target.set_some(&format!("endpointslice_{name}"), value);
    }
    for (name, value) in &endpoint.deprecated_topology {
        let name = sanitized(name);
        target.set(&format!("endpointslice_endpoint_topology_{name}"), value);
        target.set(&format!("endpointslice_endpoint_topology_present_{name}"), true);
    }
    target
}

/// Targets of the endpoints of a service, and of what else their pods listen on.
struct EndpointTargets<'c> {
    cluster: &'c Cluster,
    targets: Vec<Meta>,
    /// With the ports that there are targets of already.
    pods: BTreeMap<String, (&'c Object, Vec<u32>)>,
}

impl<'c> EndpointTargets<'c> {
    fn new(cluster: &'c Cluster) -> EndpointTargets<'c> {
        EndpointTargets { cluster, targets: Vec::new(), pods: BTreeMap::new() }
    }

    fn attach_node(&self, target: &mut Meta, name: Option<&String>) {
        if self.cluster.attach.node
            && let Some(node) = name.and_then(|name| self.cluster.get(Kind::Node, name))
        {
            target.object(Kind::Node, &node.metadata);
        }
    }

    fn add<'p>(
        &mut self,
        mut target: Meta,
        of: Option<&Reference>,
        port: &EndpointPort,
        protocol: impl Fn(&'p ContainerPort) -> &'p str,
    ) where
        'c: 'p,
    {
        let of_pod = of.filter(|of| of.kind == "Pod").map(|of| key(&of.namespace, &of.name));
        if let Some(pod_key) = of_pod
            && let Some(pod) = self.cluster.get(Kind::Pod, &pod_key)
        {
            pod_labels(self.cluster, pod, &mut target);
            for (container, is_init) in containers(pod) {
                let listens = container.ports.iter().find(|own| Some(own.container_port) == port.port);
                if let Some(own) = listens {
                    target.container(container, is_init);
                    target.container_port(own, protocol(own));
                }
            }
            self.pods.entry(pod_key).or_insert((pod, Vec::new())).1.extend(port.port);
        }
        self.targets.push(target);
    }

    /// A pod may listen on more than the service sends to.
    fn with_other_ports(mut self) -> Vec<Meta> {
        for (pod, known) in self.pods.values().filter(|(pod, _)| !pod.status.pod_ip.is_empty()) {
            for (container, is_init) in containers(pod) {
                for port in container.ports.iter().filter(|port| !known.contains(&port.container_port)) {
                    let mut target = Meta::at(join(&pod.status.pod_ip, port.container_port));
                    pod_labels(self.cluster, pod, &mut target);
                    target.container(container, is_init);
                    target.container_port(port, &port.protocol);
                    self.targets.push(target);
                }
            }
        }
        self.targets
    }
}

fn ingress(ingress: &Object, group: &mut Meta) -> Vec<Meta> {
    group.set("namespace", &ingress.metadata.namespace);
    group.set("ingress_class_name", &ingress.spec.ingress_class_name);
    group.object(Kind::Ingress, &ingress.metadata);
    let mut targets = Vec::new();
    for rule in &ingress.spec.rules {
        let mut secured = ingress.spec.tls.iter().flat_map(|tls| &tls.hosts);
        let scheme = if secured.any(|pattern| covers(pattern, &rule.host)) { "https" } else { "http" };
        let paths = rule.http.as_ref().map(|http| http.paths.iter().map(|path| path.path.as_str()).collect());
        for path in paths.unwrap_or_else(|| vec![""]) {
            let mut target = Meta::at(rule.host.clone());
            target.set("ingress_scheme", scheme);
            target.set("ingress_host", &rule.host);
            target.set("ingress_path", if path.is_empty() { "/" } else { path });
            targets.push(target);
        }
    }
    targets
}

/// `*.` stands for one name.
fn covers(pattern: &str, host: &str) -> bool {
    pattern == host
        || pattern
            .strip_prefix("*.")
            .is_some_and(|rest| host.split_once('.').is_some_and(|(_, host)| host == rest))
}
