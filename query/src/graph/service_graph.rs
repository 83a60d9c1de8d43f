//! The service graph: a workload graph with service nodes, of which only the services and the roots stay.

use std::collections::{BTreeMap, BTreeSet};

use super::traffic::{CodeRates, EdgeRates, NodeKind, Protocol, TrafficMap};

/// What two edges that became one sum up to.
#[derive(Default)]
struct Sum {
    rates: EdgeRates,
    codes: BTreeMap<String, CodeRates>,
    conversations: BTreeSet<usize>,
}

/// Replaces each way service → workload → service by an edge between the two services. A workload behind two
/// services gives both of them its traffic, since telemetry does not tell which of them caused it.
pub(crate) fn reduce(map: TrafficMap) -> TrafficMap {
    let is_service = |index: usize| map.nodes.get(index).is_some_and(|node| node.kind == NodeKind::Service);
    // Which services lead to a workload.
    let mut services_of: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    for edge in &map.edges {
        if is_service(edge.source) && !is_service(edge.target) {
            services_of.entry(edge.target).or_default().insert(edge.source);
        }
    }
    let mut sums: BTreeMap<(usize, usize, Protocol), Sum> = BTreeMap::new();
    for edge in map.edges.iter().filter(|edge| is_service(edge.target)) {
        let through = services_of.get(&edge.source);
        let sources: Vec<usize> = match through {
            Some(services) => services.iter().copied().collect(),
            // A root, or a service that calls by itself.
            None => vec![edge.source],
        };
        for source in sources {
            let sum = sums.entry((source, edge.target, edge.protocol)).or_default();
            sum.rates.total += edge.rates.total;
            sum.rates.c3xx += edge.rates.c3xx;
            sum.rates.c4xx += edge.rates.c4xx;
            sum.rates.err += edge.rates.err;
            sum.rates.no_response += edge.rates.no_response;
            sum.conversations.extend(&edge.conversations);
            for (code, rates) in &edge.codes {
                let into = sum.codes.entry(code.clone()).or_default();
                into.total += rates.total;
                for (flags, rate) in &rates.flags {
                    *into.flags.entry(flags.clone()).or_default() += rate;
                }
                for (host, rate) in &rates.hosts {
                    *into.hosts.entry(host.clone()).or_default() += rate;
                }
            }
        }
    }
    let mut reduced = TrafficMap::default();
    let mut places: BTreeMap<usize, usize> = BTreeMap::new();
    for (index, node) in map.nodes.iter().enumerate() {
        let is_end = sums.keys().any(|(source, target, _)| *source == index || *target == index);
        if node.kind != NodeKind::Service && !is_end {
            continue;
        }
        let mut node = node.clone();
        node.is_injected = false;
        node.rates = BTreeMap::new();
        places.insert(index, reduced.insert_node(node));
    }
    for ((source, target, protocol), sum) in sums {
        let (Some(source), Some(target)) = (places.get(&source), places.get(&target)) else { continue };
        let index = reduced.edge(*source, *target, protocol);
        let Some(edge) = reduced.edges.get_mut(index) else { continue };
        edge.codes = sum.codes;
        edge.conversations = sum.conversations;
        edge.rates = sum.rates;
        let rates = edge.rates.clone();
        if let Some(node) = reduced.nodes.get_mut(*source) {
            node.rates.entry(protocol).or_default().outgoing += rates.total;
        }
        if let Some(node) = reduced.nodes.get_mut(*target) {
            let into = node.rates.entry(protocol).or_default();
            into.incoming += rates.total;
            into.in_3xx += rates.c3xx;
            into.in_4xx += rates.c4xx;
            into.in_err += rates.err;
            into.in_no_response += rates.no_response;
        }
    }
    reduced
}
