//! The graph as Kiali's JSON: ids, boxes, order and number formats (reference §1.3 and §1.4).

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{
    extras::{EdgeExtras, GraphExtras},
    health::{NodeHealth, RatesByCode},
    mesh_config::Badges,
    options::{BoxBy, GraphOptions},
    traffic::{CodeRates, EdgeRates, Node, NodeKind, NodeRates, Protocol, TrafficEdge, TrafficMap, UNKNOWN},
};

/// The answer of the graph endpoints.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GraphDocument {
    /// Unix seconds: the end of the window.
    pub timestamp: i64,
    /// Seconds.
    pub duration: i64,
    pub graph_type: &'static str,
    pub elements: Elements,
    /// Only in our own API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pharos: Option<GraphExtras>,
}

#[derive(Debug, Serialize)]
pub struct Elements {
    pub nodes: Vec<Wrapped<NodeData>>,
    pub edges: Vec<Wrapped<EdgeData>>,
}

#[derive(Debug, Serialize)]
pub struct Wrapped<T> {
    pub data: T,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeData {
    pub id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub parent: String,
    pub node_type: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cluster: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub workload: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub app: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub service: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dest_services: Vec<DestService>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub traffic: Vec<NodeTraffic>,
    /// `null` unless the health appender ran.
    pub health_data: Option<HealthData>,
    #[serde(flatten)]
    pub badges: Badges,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_box: Option<&'static str>,
    #[serde(skip_serializing_if = "is_false")]
    pub is_inaccessible: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub is_injected: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub is_outside: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub is_root: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub is_waypoint: bool,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

#[derive(Debug, Serialize)]
pub struct DestService {
    pub cluster: String,
    pub namespace: String,
    pub name: String,
}

type Rates = BTreeMap<String, String>;

#[derive(Debug, Serialize)]
pub struct NodeTraffic {
    pub protocol: &'static str,
    pub rates: Rates,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HealthData {
    pub requests: HealthRequests,
    pub status: HealthStatus,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HealthRequests {
    pub inbound: RatesByCode,
    pub outbound: RatesByCode,
    pub health_annotations: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HealthStatus {
    pub status: &'static str,
    pub error_ratio: f64,
    pub total_request_rate: f64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EdgeData {
    pub id: String,
    pub source: String,
    pub target: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dest_principal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_status: Option<&'static str>,
    #[serde(rename = "isMTLS", skip_serializing_if = "Option::is_none")]
    pub is_mtls: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_principal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throughput: Option<String>,
    pub traffic: EdgeTraffic,
    /// Only in our own API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pharos: Option<EdgeExtras>,
}

#[derive(Debug, Serialize)]
pub struct EdgeTraffic {
    pub protocol: &'static str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub rates: Rates,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub responses: BTreeMap<String, Responses>,
}

/// Percentages of the edge's whole rate.
#[derive(Debug, Serialize)]
pub struct Responses {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub flags: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub hosts: BTreeMap<String, String>,
}

/// Writes the map down. `healths` and `badges` are empty or as long as the map's nodes, `extras` as its edges.
pub(crate) fn document(
    map: &TrafficMap,
    options: &GraphOptions,
    healths: Vec<NodeHealth>,
    badges: Vec<Badges>,
    mut extras: Option<(GraphExtras, Vec<EdgeExtras>)>,
) -> GraphDocument {
    let ids: Vec<String> = map.nodes.iter().map(|node| hash(&node.id)).collect();
    let (mut healths, mut badges) = (healths.into_iter(), badges.into_iter());
    let mut nodes: Vec<NodeData> = map
        .nodes
        .iter()
        .zip(&ids)
        .map(|(node, id)| NodeData {
            badges: badges.next().unwrap_or_default(),
            ..node_data(node, id.clone(), healths.next())
        })
        .collect();
    let boxes = boxes(&mut nodes, options.box_by);
    nodes.extend(boxes);
    nodes.sort_by(|a, b| order(a).cmp(&order(b)));
    let id_of = |index: usize| ids.get(index).cloned().unwrap_or_default();
    let mut edge_extras = extras.as_mut().map(|(_, edges)| std::mem::take(edges).into_iter());
    let mut edges: Vec<EdgeData> = map
        .edges
        .iter()
        .map(|edge| {
            let outgoing = map
                .nodes
                .get(edge.source)
                .and_then(|node| node.rates.get(&edge.protocol))
                .map_or(0.0, |rates| rates.outgoing);
            let mut data = edge_data(edge, id_of(edge.source), id_of(edge.target), outgoing);
            data.pharos = edge_extras.as_mut().and_then(Iterator::next);
            data
        })
        .collect();
    edges.sort_by(|a, b| {
        (&a.source, &a.target, a.traffic.protocol).cmp(&(&b.source, &b.target, b.traffic.protocol))
    });
    GraphDocument {
        timestamp: options.query_time_s,
        duration: options.duration_s,
        graph_type: options.graph_type.name(),
        elements: Elements {
            nodes: nodes.into_iter().map(|data| Wrapped { data }).collect(),
            edges: edges.into_iter().map(|data| Wrapped { data }).collect(),
        },
        pharos: extras.map(|(graph, _)| graph),
    }
}

fn hash(id: &str) -> String {
    hex::encode(Sha256::digest(id.as_bytes()))
}

/// Boxes from the outermost in, then by identity.
fn order(node: &NodeData) -> (u8, &str, &str, &str, &str, &str, &str) {
    let rank = match node.is_box {
        Some("cluster") => 0,
        Some("namespace") => 1,
        Some(_) => 2,
        None => 3,
    };
    (rank, &node.cluster, &node.namespace, &node.app, &node.version, &node.service, &node.workload)
}

fn node_data(node: &Node, id: String, health: Option<NodeHealth>) -> NodeData {
    let traffic = Protocol::ALL
        .into_iter()
        .filter_map(|protocol| {
            let rates = node_rates(protocol, node.rates.get(&protocol)?);
            (!rates.is_empty()).then_some(NodeTraffic { protocol: protocol.name(), rates })
        })
        .collect();
    NodeData {
        id,
        node_type: node.kind.name(),
        cluster: node.cluster.clone(),
        namespace: node.namespace.clone(),
        workload: node.workload.clone(),
        app: node.app.clone(),
        version: node.version.clone(),
        service: node.service.clone(),
        dest_services: node
            .dest_services
            .iter()
            .map(|service| DestService {
                cluster: service.cluster.clone(),
                namespace: service.namespace.clone(),
                name: service.name.clone(),
            })
            .collect(),
        traffic,
        health_data: health.filter(|_| node.kind != NodeKind::Unknown).map(health_data),
        is_inaccessible: node.is_inaccessible,
        is_injected: node.is_injected,
        is_outside: node.is_outside,
        is_root: node.is_root,
        is_waypoint: node.is_waypoint,
        ..NodeData::default()
    }
}

fn health_data(health: NodeHealth) -> HealthData {
    HealthData {
        status: HealthStatus {
            status: health.status.name(),
            error_ratio: health.error_ratio,
            total_request_rate: health.total_request_rate,
        },
        requests: HealthRequests {
            inbound: health.inbound,
            outbound: health.outbound,
            health_annotations: BTreeMap::new(),
        },
    }
}

fn node_rates(protocol: Protocol, rates: &NodeRates) -> Rates {
    let prefix = protocol.name();
    match protocol {
        Protocol::Http => nonzero([
            (format!("{prefix}In"), rates.incoming),
            (format!("{prefix}In3xx"), rates.in_3xx),
            (format!("{prefix}In4xx"), rates.in_4xx),
            (format!("{prefix}In5xx"), rates.in_err),
            (format!("{prefix}InNoResponse"), rates.in_no_response),
            (format!("{prefix}Out"), rates.outgoing),
        ]),
        Protocol::Grpc => nonzero([
            (format!("{prefix}In"), rates.incoming),
            (format!("{prefix}InErr"), rates.in_err),
            (format!("{prefix}InNoResponse"), rates.in_no_response),
            (format!("{prefix}Out"), rates.outgoing),
        ]),
        Protocol::Tcp => {
            nonzero([(format!("{prefix}In"), rates.incoming), (format!("{prefix}Out"), rates.outgoing)])
        }
    }
}

fn edge_rates(protocol: Protocol, rates: &EdgeRates, outgoing: f64) -> Rates {
    let prefix = protocol.name();
    let mut out = match protocol {
        Protocol::Http => nonzero([
            ("http".into(), rates.total),
            ("http3xx".into(), rates.c3xx),
            ("http4xx".into(), rates.c4xx),
            ("http5xx".into(), rates.err),
            ("httpNoResponse".into(), rates.no_response),
        ]),
        Protocol::Grpc => nonzero([
            ("grpc".into(), rates.total),
            ("grpcErr".into(), rates.err),
            ("grpcNoResponse".into(), rates.no_response),
        ]),
        Protocol::Tcp => nonzero([("tcp".into(), rates.total)]),
    };
    if protocol != Protocol::Tcp && rates.total > 0.0 {
        let failed = rates.c4xx + rates.err + rates.no_response;
        if failed > 0.0 {
            out.insert(format!("{prefix}PercentErr"), percent_text(failed / rates.total * 100.0));
        }
        if outgoing > 0.0 {
            out.insert(format!("{prefix}PercentReq"), percent_text(rates.total / outgoing * 100.0));
        }
    }
    out
}

fn nonzero<const N: usize>(rates: [(String, f64); N]) -> Rates {
    rates.into_iter().filter(|(_, rate)| *rate > 0.0).map(|(name, rate)| (name, rate_text(rate))).collect()
}

/// At least two decimals; up to five, until a digit other than 0 shows.
fn rate_text(rate: f64) -> String {
    text_with_decimals(rate, 2)
}

fn percent_text(percent: f64) -> String {
    text_with_decimals(percent, 1)
}

fn text_with_decimals(value: f64, at_least: usize) -> String {
    let mut decimals = 0;
    let mut scaled = value;
    while scaled > 0.0 && scaled < 1.0 && decimals < 5 {
        scaled *= 10.0;
        decimals += 1;
    }
    format!("{value:.*}", decimals.max(at_least))
}

fn edge_data(edge: &TrafficEdge, source: String, target: String, outgoing: f64) -> EdgeData {
    let protocol = edge.protocol.name();
    let whole = |value: Option<f64>| value.map(|value| format!("{value:.0}"));
    let some = |text: &str| (!text.is_empty()).then(|| text.to_string());
    EdgeData {
        id: hash(&format!("{source}.{target}.{protocol}")),
        source,
        target,
        dest_principal: some(&edge.destination_principal),
        health_status: edge.health,
        is_mtls: whole(edge.mtls_percent),
        response_time: whole(edge.response_time_ms),
        source_principal: some(&edge.source_principal),
        throughput: whole(edge.throughput),
        traffic: EdgeTraffic {
            protocol,
            rates: edge_rates(edge.protocol, &edge.rates, outgoing),
            responses: edge
                .codes
                .iter()
                .map(|(code, rates)| (code.clone(), responses(rates, edge.rates.total)))
                .collect(),
        },
        pharos: None,
    }
}

fn responses(code: &CodeRates, total: f64) -> Responses {
    let shares = |rates: &BTreeMap<String, f64>| {
        rates.iter().map(|(key, rate)| (key.clone(), percent_text(rate / total * 100.0))).collect()
    };
    Responses { flags: shares(&code.flags), hosts: shares(&code.hosts) }
}

/// Boxes around nodes, and the nodes' parents: apps with more than one member; namespaces and clusters only where
/// there is more than one of them. `unknown` is never boxed.
fn boxes(nodes: &mut [NodeData], by: BoxBy) -> Vec<NodeData> {
    let mut boxes: Vec<NodeData> = Vec::new();
    if by.app {
        let made = box_up(nodes, "app", &|node| {
            (!node.app.is_empty() && node.app != UNKNOWN)
                .then(|| [node.cluster.clone(), node.namespace.clone(), node.app.clone()])
        });
        boxes.extend(made);
    }
    type GroupOf = fn(&NodeData) -> [String; 3];
    let outer: [(&'static str, bool, GroupOf); 2] = [
        ("namespace", by.namespace, |node| [node.cluster.clone(), node.namespace.clone(), String::new()]),
        ("cluster", by.cluster, |node| [node.cluster.clone(), String::new(), String::new()]),
    ];
    for (kind, wanted, group) in outer {
        if !wanted {
            continue;
        }
        let known = |node: &NodeData| match kind {
            "namespace" => node.namespace != UNKNOWN,
            _ => node.cluster != UNKNOWN,
        };
        let groups: BTreeSet<[String; 3]> = nodes.iter().filter(|node| known(node)).map(group).collect();
        if groups.len() < 2 {
            continue;
        }
        let mut all: Vec<NodeData> = std::mem::take(&mut boxes);
        let split = all.len();
        all.extend(nodes.iter_mut().map(std::mem::take));
        let made = box_up(&mut all, kind, &|node| known(node).then(|| group(node)));
        for (slot, node) in nodes.iter_mut().zip(all.drain(split..)) {
            *slot = node;
        }
        boxes = all;
        boxes.extend(made);
    }
    boxes
}

/// Puts the nodes that have no parent yet into one box a group.
fn box_up(
    nodes: &mut [NodeData],
    kind: &'static str,
    group_of: &dyn Fn(&NodeData) -> Option<[String; 3]>,
) -> Vec<NodeData> {
    let mut groups: BTreeMap<[String; 3], Vec<usize>> = BTreeMap::new();
    for (index, node) in nodes.iter().enumerate().filter(|(_, node)| node.parent.is_empty()) {
        if let Some(group) = group_of(node) {
            groups.entry(group).or_default().push(index);
        }
    }
    let mut boxes = Vec::new();
    for ([cluster, namespace, app], members) in groups {
        if members.len() < 2 {
            continue;
        }
        let parts: Vec<&str> = [&cluster, &namespace, &app]
            .into_iter()
            .map(String::as_str)
            .filter(|part| !part.is_empty())
            .collect();
        let id = hash(&format!("box_{}", parts.join("_")));
        for member in members {
            if let Some(node) = nodes.get_mut(member) {
                node.parent.clone_from(&id);
            }
        }
        boxes.push(NodeData {
            id,
            node_type: "box",
            cluster,
            namespace,
            app,
            is_box: Some(kind),
            ..NodeData::default()
        });
    }
    boxes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_kialis_decimals() {
        for (rate, text) in
            [(100.0, "100.00"), (0.5, "0.50"), (0.004, "0.004"), (0.000_01, "0.00001"), (1.005, "1.00")]
        {
            assert_eq!(rate_text(rate), text);
        }
        for (percent, text) in [(33.333, "33.3"), (100.0, "100.0"), (0.04, "0.04")] {
            assert_eq!(percent_text(percent), text);
        }
    }

    #[test]
    fn boxes_need_company() {
        let node = |namespace: &str, app: &str, version: &str| NodeData {
            cluster: "c".into(),
            namespace: namespace.into(),
            app: app.into(),
            version: version.into(),
            ..NodeData::default()
        };
        let all = BoxBy { app: true, cluster: true, namespace: true };
        let mut nodes = [node("a", "x", "1"), node("a", "x", "2"), node("b", "y", "1"), node("b", "z", "1")];
        let mut made = boxes(&mut nodes, all);
        made.sort_by(|a, b| order(a).cmp(&order(b)));
        let kinds: Vec<_> = made.iter().map(|b| (b.is_box, b.namespace.as_str(), b.app.as_str())).collect();
        // Namespace a holds the app box alone, so it gets none of its own; one cluster gets none either.
        assert_eq!(kinds, [(Some("namespace"), "b", ""), (Some("app"), "a", "x")]);
        assert_eq!(nodes[0].parent, nodes[1].parent);
        assert_eq!(nodes[2].parent, nodes[3].parent);
        assert_ne!(nodes[0].parent, nodes[2].parent);
    }
}
