//! What is added to a finished traffic map: response times, throughput, security, outsiders, roots.

use std::collections::BTreeSet;

use pharos_model::{EdgeMeasure, Reporter};

use super::{
    conversations::Conversations,
    flows::LatencySum,
    inventory::Inventory,
    options::{AmbientTraffic, GraphOptions, ResponseTime, ThroughputType},
    traffic::{NodeKind, Protocol, TrafficMap, UNKNOWN},
};

/// The server's view first, as Kiali has it; the client's where the server tells nothing.
const VIEWS: [Reporter; 3] = [Reporter::Destination, Reporter::Waypoint, Reporter::Source];

/// Kiali gives an edge the quantile of whichever sample comes first, and none to the leg before an injected service
/// node; merged distributions give every edge its own.
pub(crate) fn response_time(map: &mut TrafficMap, conversations: &Conversations, options: &GraphOptions) {
    let quantile = match options.response_time {
        ResponseTime::Average => None,
        ResponseTime::P50 => Some(0.5),
        ResponseTime::P95 => Some(0.95),
        ResponseTime::P99 => Some(0.99),
    };
    for edge in map.edges.iter_mut().filter(|edge| edge.protocol != Protocol::Tcp) {
        edge.response_time_ms = match quantile {
            Some(quantile) => {
                let mut sum = LatencySum::default();
                for conversation in &edge.conversations {
                    conversations.add_latency_of_first(*conversation, &VIEWS, &mut sum);
                }
                sum.quantile_ms(quantile)
            }
            None => {
                let sum = |measure| {
                    edge.conversations
                        .iter()
                        .filter_map(|conversation| first_rate(conversations, *conversation, measure))
                        .sum::<f64>()
                };
                let requests = sum(EdgeMeasure::Requests);
                (requests > 0.0).then(|| sum(EdgeMeasure::DurationMs) / requests)
            }
        }
        .filter(|ms| *ms > 0.0);
    }
}

/// Bytes per second of HTTP bodies and headers.
pub(crate) fn throughput(map: &mut TrafficMap, conversations: &Conversations, options: &GraphOptions) {
    let measure = match options.throughput {
        ThroughputType::Request => EdgeMeasure::RequestBytes,
        ThroughputType::Response => EdgeMeasure::ResponseBytes,
    };
    for edge in map.edges.iter_mut().filter(|edge| edge.protocol == Protocol::Http) {
        let rates = edge
            .conversations
            .iter()
            .filter_map(|conversation| first_rate(conversations, *conversation, measure));
        edge.throughput = rates.reduce(|a, b| a + b).filter(|rate| *rate > 0.0);
    }
}

fn first_rate(conversations: &Conversations, conversation: usize, measure: EdgeMeasure) -> Option<f64> {
    VIEWS.iter().find_map(|view| conversations.rate(conversation, *view, measure))
}

/// The share of mutual TLS, summed over all callers of an edge, and the principals of both ends.
pub(crate) fn security_policy(map: &mut TrafficMap, conversations: &Conversations) {
    for edge in &mut map.edges {
        let (mut all, mut mutual_tls) = (0.0, 0.0);
        for conversation in &edge.conversations {
            let security = conversations.security(*conversation);
            all += security.all;
            mutual_tls += security.mutual_tls;
            if edge.source_principal.is_empty() {
                edge.source_principal = security.source_principal;
            }
            if edge.destination_principal.is_empty() {
                edge.destination_principal = security.destination_principal;
            }
        }
        edge.mtls_percent = (all > 0.0).then(|| mutual_tls / all * 100.0).filter(|percent| *percent > 0.0);
    }
}

/// Waypoints, where the inventory knows them: never joined by app, and hidden if asked.
pub(crate) fn waypoints(map: &mut TrafficMap, inventory: &Inventory, options: &GraphOptions) {
    if options.ambient == AmbientTraffic::None {
        return;
    }
    for node in &mut map.nodes {
        if node.kind != NodeKind::Service
            && inventory.is_waypoint(&node.cluster, &node.namespace, &node.workload)
        {
            node.is_waypoint = true;
            node.kind = NodeKind::Workload;
        }
    }
    if !options.waypoints {
        let mut keep: Vec<bool> = map.nodes.iter().map(|node| !node.is_waypoint).collect();
        let had_edges: BTreeSet<usize> =
            map.edges.iter().flat_map(|edge| [edge.source, edge.target]).collect();
        let kept = |keep: &[bool], index: usize| keep.get(index).copied().unwrap_or(false);
        let has_edges: BTreeSet<usize> = map
            .edges
            .iter()
            .filter(|edge| kept(&keep, edge.source) && kept(&keep, edge.target))
            .flat_map(|edge| [edge.source, edge.target])
            .collect();
        for orphan in had_edges.difference(&has_edges) {
            if let Some(slot) = keep.get_mut(*orphan) {
                *slot = false;
            }
        }
        map.retain(&keep);
    }
}

/// Nodes outside of the requested namespaces, and those that the viewer can't open.
pub(crate) fn outsiders(map: &mut TrafficMap, inventory: &Inventory, options: &GraphOptions) {
    for node in &mut map.nodes {
        node.is_outside = node.namespace != UNKNOWN && !options.namespaces.contains(&node.namespace);
        node.is_inaccessible = node.kind == NodeKind::Unknown
            || (node.kind == NodeKind::Service && node.namespace == UNKNOWN)
            || node.is_egress_cluster()
            || !inventory.is_visible(&node.cluster, &node.namespace);
    }
}

/// Nodes that only call.
pub(crate) fn roots(map: &mut TrafficMap) {
    let sources: BTreeSet<usize> = map.edges.iter().map(|edge| edge.source).collect();
    let targets: BTreeSet<usize> = map.edges.iter().map(|edge| edge.target).collect();
    for root in sources.difference(&targets) {
        if let Some(node) = map.nodes.get_mut(*root) {
            node.is_root = true;
        }
    }
}
