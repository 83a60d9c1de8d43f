//! What Istio's configuration says of the services that a graph shows: which have routes of their own, faults,
//! timeouts, circuit breakers. Kiali's `istio` appender (reference §1.3 and §2.6), on service nodes and, for circuit
//! breakers, on what they lead to.

use std::collections::{BTreeMap, BTreeSet};

use pharos_model::{MeshObject, UnixNanos};
use serde::Serialize;
use serde_json::Value;

use super::traffic::{Node, NodeKind, ServiceRef, TrafficMap};

/// The objects that were in force at one moment.
#[derive(Clone, Debug, Default)]
pub struct MeshConfig {
    virtual_services: Vec<VirtualService>,
    destination_rules: Vec<DestinationRule>,
}

#[derive(Clone, Debug)]
struct VirtualService {
    hosts: Vec<Host>,
    hostnames: Vec<String>,
    badges: Badges,
}

#[derive(Clone, Debug)]
struct DestinationRule {
    host: Host,
    /// Of the whole host.
    breaks_circuits: bool,
    /// Versions whose subset does.
    versions: BTreeSet<String>,
}

/// A host as configuration names it.
#[derive(Clone, Debug, PartialEq)]
struct Host {
    name: String,
    namespace: String,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct AttachedRoutes {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hostnames: Vec<String>,
}

/// Badges of a node.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Badges {
    #[serde(rename = "hasCB", skip_serializing_if = "is_false")]
    pub has_circuit_breaker: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub has_fault_injection: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub has_mirroring: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub has_request_routing: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub has_request_timeout: bool,
    #[serde(rename = "hasTCPTrafficShifting", skip_serializing_if = "is_false")]
    pub has_tcp_traffic_shifting: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub has_traffic_shifting: bool,
    #[serde(rename = "hasVS", skip_serializing_if = "Option::is_none")]
    pub has_vs: Option<AttachedRoutes>,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

impl Host {
    /// `reviews`, `reviews.bookinfo` or the whole name; a short one is of the object's own namespace.
    fn parse(text: &str, own_namespace: &str) -> Host {
        let mut labels = text.split('.');
        let name = labels.next().unwrap_or("").to_string();
        Host { name, namespace: labels.next().unwrap_or(own_namespace).to_string() }
    }

    fn is(&self, service: &ServiceRef) -> bool {
        self.name == service.name && self.namespace == service.namespace
    }
}

impl MeshConfig {
    /// From every version of every object; of each the last one up to `at` counts.
    pub fn at(objects: Vec<MeshObject>, at: UnixNanos) -> MeshConfig {
        let mut latest: BTreeMap<(String, String, String, String), MeshObject> = BTreeMap::new();
        for object in objects.into_iter().filter(|object| object.time <= at) {
            let key =
                (object.cluster.clone(), object.kind.clone(), object.namespace.clone(), object.name.clone());
            match latest.get(&key) {
                Some(known) if known.time > object.time => {}
                _ => {
                    latest.insert(key, object);
                }
            }
        }
        let mut config = MeshConfig::default();
        for object in latest.into_values().filter(|object| !object.deleted) {
            // What is no JSON says nothing of the graph.
            let Ok(json) = serde_json::from_str::<Value>(&object.json) else { continue };
            let spec = &json["spec"];
            match object.kind.as_str() {
                "VirtualService" => config.virtual_services.push(virtual_service(spec, &object.namespace)),
                "DestinationRule" => config.destination_rules.push(destination_rule(spec, &object.namespace)),
                _ => {}
            }
        }
        config
    }

    fn badges_of(&self, node: &Node) -> Badges {
        let own = ServiceRef {
            cluster: node.cluster.clone(),
            namespace: node.namespace.clone(),
            name: node.service.clone(),
        };
        let mut badges = Badges::default();
        if node.kind == NodeKind::Service {
            let routes =
                self.virtual_services.iter().find(|routes| routes.hosts.iter().any(|host| host.is(&own)));
            if let Some(routes) = routes {
                badges = routes.badges.clone();
                badges.has_vs = Some(AttachedRoutes { hostnames: routes.hostnames.clone() });
            }
        }
        badges.has_circuit_breaker = self.destination_rules.iter().any(|rule| match node.kind {
            NodeKind::Service => rule.host.is(&own) && rule.breaks_circuits,
            NodeKind::App | NodeKind::Workload => {
                node.dest_services.iter().any(|service| rule.host.is(service))
                    && (rule.breaks_circuits || rule.versions.contains(&node.version))
            }
            NodeKind::Unknown => false,
        });
        badges
    }
}

/// One for each node of the map, in its order.
pub(crate) fn badges(map: &TrafficMap, config: &MeshConfig) -> Vec<Badges> {
    map.nodes.iter().map(|node| config.badges_of(node)).collect()
}

fn list(json: &Value) -> &[Value] {
    json.as_array().map_or(&[], Vec::as_slice)
}

fn virtual_service(spec: &Value, namespace: &str) -> VirtualService {
    let hostnames: Vec<String> =
        list(&spec["hosts"]).iter().filter_map(Value::as_str).map(str::to_string).collect();
    let http = list(&spec["http"]);
    let any = |has: fn(&Value) -> bool| http.iter().any(has);
    VirtualService {
        hosts: hostnames.iter().map(|host| Host::parse(host, namespace)).collect(),
        hostnames,
        badges: Badges {
            has_fault_injection: any(|route| route["fault"].is_object()),
            has_mirroring: any(|route| route["mirror"].is_object() || !list(&route["mirrors"]).is_empty()),
            has_request_routing: any(|route| !list(&route["match"]).is_empty()),
            has_request_timeout: any(|route| route["timeout"].is_string()),
            has_traffic_shifting: any(|route| list(&route["route"]).len() > 1),
            has_tcp_traffic_shifting: list(&spec["tcp"]).iter().any(|route| list(&route["route"]).len() > 1),
            ..Badges::default()
        },
    }
}

fn destination_rule(spec: &Value, namespace: &str) -> DestinationRule {
    let breaks_circuits =
        |policy: &Value| policy["connectionPool"].is_object() || policy["outlierDetection"].is_object();
    let versions = list(&spec["subsets"])
        .iter()
        .filter(|subset| breaks_circuits(&subset["trafficPolicy"]))
        .filter_map(|subset| subset["labels"]["version"].as_str())
        .map(str::to_string)
        .collect();
    DestinationRule {
        host: Host::parse(spec["host"].as_str().unwrap_or(""), namespace),
        breaks_circuits: breaks_circuits(&spec["trafficPolicy"]),
        versions,
    }
}
