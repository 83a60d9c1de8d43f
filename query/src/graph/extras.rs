//! What our own graph API tells beyond Kiali's: exact counts, quantiles, and both reporters' views.

use std::collections::{BTreeMap, BTreeSet};

use pharos_model::Reporter;
use serde::Serialize;

use super::{
    conversations::{Conversations, Counts},
    flows::LatencySum,
    traffic::{Protocol, TrafficEdge, TrafficMap},
};

/// Beside the elements of the graph.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GraphExtras {
    /// Every namespace with traffic in the window.
    pub namespaces: BTreeSet<String>,
    pub oldest_data_unix_s: Option<i64>,
    /// Why there is nothing to draw; `null` if there is.
    pub empty: Option<Empty>,
}

#[derive(Debug, Serialize)]
pub struct Empty {
    pub reason: String,
    pub hint: String,
}

/// Beside the traffic of an edge. Counts are those of the window; the client's view counts where there is one.
#[derive(Debug, Default, Serialize)]
pub struct EdgeExtras {
    pub requests: u64,
    /// 5xx, no response, or a gRPC status other than 0.
    pub errors: u64,
    /// Requests per second, as in the edge's traffic: extended to the window's borders, where a count is not.
    pub rate: f64,
    #[serde(rename = "p50Ms")]
    pub p50_ms: Option<f64>,
    #[serde(rename = "p95Ms")]
    pub p95_ms: Option<f64>,
    #[serde(rename = "p99Ms")]
    pub p99_ms: Option<f64>,
    pub codes: BTreeMap<String, u64>,
    pub flags: BTreeMap<String, u64>,
    pub reporters: BTreeMap<&'static str, ReporterCounts>,
}

#[derive(Debug, Serialize)]
pub struct ReporterCounts {
    pub requests: u64,
    pub errors: u64,
}

/// The client waits for the whole of it: injected faults, retries and the network are only in its view.
const VIEWS: [Reporter; 3] = [Reporter::Source, Reporter::Waypoint, Reporter::Destination];

/// One for each edge of the map, in its order.
pub(crate) fn edge_extras(map: &TrafficMap, conversations: &Conversations) -> Vec<EdgeExtras> {
    map.edges.iter().map(|edge| of_edge(edge, conversations)).collect()
}

fn of_edge(edge: &TrafficEdge, conversations: &Conversations) -> EdgeExtras {
    let mut shown = Counts::default();
    let mut by_reporter: BTreeMap<&'static str, Counts> = BTreeMap::new();
    let mut latency = LatencySum::default();
    for conversation in &edge.conversations {
        let mut first = None;
        for view in VIEWS {
            let counts = conversations.counts(*conversation, view);
            if counts.requests > 0.0 {
                by_reporter.entry(view.name()).or_default().merge(&counts);
                first.get_or_insert(counts);
            }
        }
        if let Some(counts) = first {
            shown.merge(&counts);
        }
        conversations.add_latency_of_first(*conversation, &VIEWS, &mut latency);
    }
    let whole = |count: f64| count.round().max(0.0) as u64;
    let all_whole =
        |counts: BTreeMap<String, f64>| counts.into_iter().map(|(key, n)| (key, whole(n))).collect();
    // A tenth of a microsecond is more than any clock here can tell.
    let quantile = |q| latency.quantile_ms(q).map(|ms| (ms * 1e4).round() / 1e4);
    EdgeExtras {
        requests: whole(shown.requests),
        errors: whole(shown.errors),
        rate: if edge.protocol == Protocol::Tcp { 0.0 } else { (edge.rates.total * 1e6).round() / 1e6 },
        p50_ms: quantile(0.5),
        p95_ms: quantile(0.95),
        p99_ms: quantile(0.99),
        codes: all_whole(shown.codes),
        flags: all_whole(shown.flags),
        reporters: by_reporter
            .into_iter()
            .map(|(name, counts)| {
                (name, ReporterCounts { requests: whole(counts.requests), errors: whole(counts.errors) })
            })
            .collect(),
    }
}
