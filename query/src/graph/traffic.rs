//! The traffic map: nodes, edges and their rates, built up sample by sample. Rules: reference of Kiali's graph §2.3.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::options::GraphType;

pub(crate) const UNKNOWN: &str = "unknown";
pub(crate) const PASSTHROUGH_CLUSTER: &str = "PassthroughCluster";
pub(crate) const BLACK_HOLE_CLUSTER: &str = "BlackHoleCluster";

/// Neither absent nor `unknown`.
pub(crate) fn is_known(text: &str) -> bool {
    !text.is_empty() && text != UNKNOWN
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Protocol {
    Grpc,
    Http,
    Tcp,
}

impl Protocol {
    pub(crate) const ALL: [Protocol; 3] = [Protocol::Grpc, Protocol::Http, Protocol::Tcp];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Protocol::Grpc => "grpc",
            Protocol::Http => "http",
            Protocol::Tcp => "tcp",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NodeKind {
    App,
    Service,
    Unknown,
    Workload,
}

impl NodeKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            NodeKind::App => "app",
            NodeKind::Service => "service",
            NodeKind::Unknown => "unknown",
            NodeKind::Workload => "workload",
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ServiceRef {
    pub(crate) cluster: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// One end of a sample, before it is a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct End {
    pub(crate) cluster: String,
    pub(crate) service_namespace: String,
    pub(crate) service: String,
    pub(crate) namespace: String,
    pub(crate) workload: String,
    pub(crate) app: String,
    pub(crate) version: String,
}

impl End {
    /// The node that stands for this end: its kind and its internal id.
    fn identify(&self, graph_type: GraphType) -> (NodeKind, String) {
        let End { cluster, workload, app, version, service, .. } = self;
        let namespace = self.node_namespace();
        if workload == UNKNOWN && app == UNKNOWN && service.is_empty() {
            return (NodeKind::Unknown, format!("{cluster}_unknown_source"));
        }
        if workload == UNKNOWN && app == UNKNOWN && service == UNKNOWN {
            return (NodeKind::Service, format!("svc_{cluster}_{namespace}_unknown"));
        }
        let by_app = matches!(graph_type, GraphType::App | GraphType::VersionedApp);
        if by_app && is_known(app) {
            let id = match graph_type {
                GraphType::VersionedApp if is_known(workload) => {
                    format!("vapp_{cluster}_{namespace}_{workload}")
                }
                GraphType::VersionedApp if is_known(version) => {
                    format!("vapp_{cluster}_{namespace}_{app}_{version}")
                }
                _ => format!("app_{cluster}_{namespace}_{app}"),
            };
            return (NodeKind::App, id);
        }
        if is_known(workload) {
            (NodeKind::Workload, format!("wl_{cluster}_{namespace}_{workload}"))
        } else if is_known(service) {
            (NodeKind::Service, format!("svc_{cluster}_{namespace}_{service}"))
        } else if is_known(app) {
            // A workload graph of spans, which name a service but no workload.
            (NodeKind::App, format!("app_{cluster}_{namespace}_{app}"))
        } else {
            (NodeKind::Unknown, format!("{cluster}_unknown_source"))
        }
    }

    /// The workload's namespace, or the service's where that is unknown.
    pub(crate) fn node_namespace(&self) -> &str {
        if is_known(&self.namespace) { &self.namespace } else { &self.service_namespace }
    }

    pub(crate) fn is_service_node(&self, graph_type: GraphType) -> bool {
        self.identify(graph_type).0 == NodeKind::Service
    }
}

/// Totals of a node, by protocol.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct NodeRates {
    pub(crate) incoming: f64,
    pub(crate) in_3xx: f64,
    pub(crate) in_4xx: f64,
    /// 5xx, or gRPC errors.
    pub(crate) in_err: f64,
    pub(crate) in_no_response: f64,
    pub(crate) outgoing: f64,
}

/// Totals of an edge.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct EdgeRates {
    pub(crate) total: f64,
    pub(crate) c3xx: f64,
    pub(crate) c4xx: f64,
    pub(crate) err: f64,
    pub(crate) no_response: f64,
}

/// Rates of one response code, by flags and by host that was asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct CodeRates {
    pub(crate) total: f64,
    pub(crate) flags: BTreeMap<String, f64>,
    pub(crate) hosts: BTreeMap<String, f64>,
}

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) id: String,
    pub(crate) kind: NodeKind,
    pub(crate) cluster: String,
    pub(crate) namespace: String,
    pub(crate) workload: String,
    pub(crate) app: String,
    pub(crate) version: String,
    pub(crate) service: String,
    pub(crate) dest_services: BTreeSet<ServiceRef>,
    pub(crate) rates: BTreeMap<Protocol, NodeRates>,
    pub(crate) is_injected: bool,
    pub(crate) is_root: bool,
    pub(crate) is_outside: bool,
    pub(crate) is_inaccessible: bool,
    pub(crate) is_waypoint: bool,
}

impl Node {
    fn new(end: &End, kind: NodeKind, id: String, graph_type: GraphType) -> Node {
        let mut node = Node {
            id,
            kind,
            cluster: end.cluster.clone(),
            namespace: end.node_namespace().to_string(),
            workload: String::new(),
            app: String::new(),
            version: String::new(),
            service: String::new(),
            dest_services: BTreeSet::new(),
            rates: BTreeMap::new(),
            is_injected: false,
            is_root: false,
            is_outside: false,
            is_inaccessible: false,
            is_waypoint: false,
        };
        let known = |text: &str| if is_known(text) { text.to_string() } else { String::new() };
        match kind {
            NodeKind::Unknown => {
                node.namespace = UNKNOWN.into();
                node.workload = UNKNOWN.into();
                node.app = UNKNOWN.into();
                node.version = UNKNOWN.into();
            }
            NodeKind::Service => node.service = end.service.clone(),
            NodeKind::Workload => {
                node.workload = end.workload.clone();
                node.app = known(&end.app);
                node.version = known(&end.version);
            }
            NodeKind::App => {
                node.app = end.app.clone();
                if graph_type == GraphType::VersionedApp {
                    node.workload = known(&end.workload);
                    node.version = end.version.clone();
                }
            }
        }
        node
    }

    /// Node for traffic that leaves the mesh, or is refused to.
    pub(crate) fn is_egress_cluster(&self) -> bool {
        self.kind == NodeKind::Service
            && matches!(self.service.as_str(), PASSTHROUGH_CLUSTER | BLACK_HOLE_CLUSTER)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct TrafficEdge {
    pub(crate) source: usize,
    pub(crate) target: usize,
    pub(crate) protocol: Protocol,
    pub(crate) rates: EdgeRates,
    pub(crate) codes: BTreeMap<String, CodeRates>,
    /// What has been counted, so that two reports of the same requests count once.
    seen: HashSet<u64>,
    /// Conversations whose flows made this edge.
    pub(crate) conversations: BTreeSet<usize>,
    pub(crate) mtls_percent: Option<f64>,
    pub(crate) source_principal: String,
    pub(crate) destination_principal: String,
    pub(crate) response_time_ms: Option<f64>,
    pub(crate) throughput: Option<f64>,
    pub(crate) health: Option<&'static str>,
}

impl TrafficEdge {
    fn new(source: usize, target: usize, protocol: Protocol) -> TrafficEdge {
        TrafficEdge {
            source,
            target,
            protocol,
            rates: EdgeRates::default(),
            codes: BTreeMap::new(),
            seen: HashSet::new(),
            conversations: BTreeSet::new(),
            mtls_percent: None,
            source_principal: String::new(),
            destination_principal: String::new(),
            response_time_ms: None,
            throughput: None,
            health: None,
        }
    }
}

/// One sample of a query: a rate with its code, flags and host.
#[derive(Clone, Debug)]
pub(crate) struct Sample<'a> {
    pub(crate) source: &'a End,
    pub(crate) target: &'a End,
    pub(crate) protocol: Protocol,
    pub(crate) rate: f64,
    /// Response code or gRPC status; `-` for no response, and for what has no responses.
    pub(crate) code: &'a str,
    pub(crate) flags: &'a str,
    pub(crate) host: &'a str,
    /// Whether `code` tells of a response, so that `-` means that there was none.
    pub(crate) has_responses: bool,
    pub(crate) inject_service: bool,
    pub(crate) conversation: usize,
    /// Equal for two reports of the same requests between the same two ends.
    pub(crate) fingerprint: u64,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct TrafficMap {
    pub(crate) nodes: Vec<Node>,
    pub(crate) edges: Vec<TrafficEdge>,
    by_id: HashMap<String, usize>,
    by_ends: HashMap<(usize, usize, Protocol), usize>,
}

impl TrafficMap {
    pub(crate) fn node_index(&self, id: &str) -> Option<usize> {
        self.by_id.get(id).copied()
    }

    /// Adds the sample, unless another report of the same requests was there before.
    pub(crate) fn add(&mut self, sample: &Sample<'_>, graph_type: GraphType) {
        let source = self.node(sample.source, graph_type);
        let target = self.node(sample.target, graph_type);
        let service = ServiceRef {
            cluster: sample.target.cluster.clone(),
            namespace: sample.target.service_namespace.clone(),
            name: sample.target.service.clone(),
        };
        let reached_by_service = is_known(&service.name);
        if reached_by_service && let Some(node) = self.nodes.get_mut(target) {
            node.dest_services.insert(service.clone());
        }
        if !sample.inject_service {
            self.add_leg(source, target, sample);
            return;
        }
        let end = End {
            cluster: sample.target.cluster.clone(),
            service_namespace: sample.target.service_namespace.clone(),
            service: sample.target.service.clone(),
            ..End::default()
        };
        let middle = self.node(&end, graph_type);
        if let Some(node) = self.nodes.get_mut(middle) {
            node.is_injected = true;
            node.dest_services.insert(service);
        }
        if self.add_leg(source, middle, sample) {
            self.add_leg(middle, target, sample);
        }
    }

    fn node(&mut self, end: &End, graph_type: GraphType) -> usize {
        let (kind, id) = end.identify(graph_type);
        if let Some(index) = self.by_id.get(&id) {
            return *index;
        }
        let node = Node::new(end, kind, id, graph_type);
        self.insert_node(node)
    }

    pub(crate) fn insert_node(&mut self, node: Node) -> usize {
        let index = self.nodes.len();
        self.by_id.insert(node.id.clone(), index);
        self.nodes.push(node);
        index
    }

    pub(crate) fn edge(&mut self, source: usize, target: usize, protocol: Protocol) -> usize {
        let next = self.edges.len();
        let index = *self.by_ends.entry((source, target, protocol)).or_insert(next);
        if index == next {
            self.edges.push(TrafficEdge::new(source, target, protocol));
        }
        index
    }

    pub(crate) fn has_edge(&self, source: usize, target: usize, protocol: Protocol) -> bool {
        self.by_ends.contains_key(&(source, target, protocol))
    }

    fn add_leg(&mut self, source: usize, target: usize, sample: &Sample<'_>) -> bool {
        let index = self.edge(source, target, sample.protocol);
        let Some(edge) = self.edges.get_mut(index) else { return false };
        edge.conversations.insert(sample.conversation);
        if !edge.seen.insert(sample.fingerprint) {
            return false;
        }
        if sample.rate == 0.0 {
            return true;
        }
        let class = CodeClass::of(sample);
        edge.rates.total += sample.rate;
        class.add_to(&mut edge.rates, sample.rate);
        let code = edge.codes.entry(sample.code.to_string()).or_default();
        code.total += sample.rate;
        if !sample.flags.is_empty() {
            *code.flags.entry(sample.flags.to_string()).or_default() += sample.rate;
        }
        if !sample.host.is_empty() {
            *code.hosts.entry(sample.host.to_string()).or_default() += sample.rate;
        }
        if let Some(node) = self.nodes.get_mut(source) {
            node.rates.entry(sample.protocol).or_default().outgoing += sample.rate;
        }
        if let Some(node) = self.nodes.get_mut(target) {
            let rates = node.rates.entry(sample.protocol).or_default();
            rates.incoming += sample.rate;
            match class {
                CodeClass::Fine => {}
                CodeClass::C3xx => rates.in_3xx += sample.rate,
                CodeClass::C4xx => rates.in_4xx += sample.rate,
                CodeClass::Error => rates.in_err += sample.rate,
                CodeClass::NoResponse => rates.in_no_response += sample.rate,
            }
        }
        true
    }

    /// Takes in the map of another namespace. A node that both have is told by the map of its own namespace; the
    /// other's edges are added to it where it has none of the same ends and protocol. `requested` are the
    /// namespaces that have a map: a node of any other has no map that knows its whole total.
    pub(crate) fn merge(&mut self, namespace: &str, other: TrafficMap, requested: &BTreeSet<String>) {
        let mut places = Vec::with_capacity(other.nodes.len());
        // Nodes whose totals now come from `other`.
        let mut taken: HashSet<usize> = HashSet::new();
        for node in other.nodes {
            let Some(index) = self.node_index(&node.id) else {
                let index = self.insert_node(node);
                taken.insert(index);
                places.push(index);
                continue;
            };
            places.push(index);
            let Some(mine) = self.nodes.get_mut(index) else { continue };
            mine.dest_services.extend(node.dest_services.iter().cloned());
            mine.is_injected |= node.is_injected;
            if node.namespace == namespace {
                mine.rates = node.rates;
                taken.insert(index);
            }
        }
        // Edges of `self` that start at a node whose totals do not know them yet.
        let mut uncounted: HashSet<usize> = (0..self.edges.len())
            .filter(|index| self.edges.get(*index).is_some_and(|e| taken.contains(&e.source)))
            .collect();
        for mut edge in other.edges {
            let (Some(source), Some(target)) = (places.get(edge.source), places.get(edge.target)) else {
                continue;
            };
            (edge.source, edge.target) = (*source, *target);
            let known = self.has_edge(edge.source, edge.target, edge.protocol);
            let index = self.edge(edge.source, edge.target, edge.protocol);
            let Some(mine) = self.edges.get_mut(index) else { continue };
            edge.conversations.extend(mine.conversations.iter().copied());
            if known && !taken.contains(&edge.source) {
                mine.conversations = edge.conversations;
                continue;
            }
            uncounted.remove(&index);
            *mine = edge;
            if !known && !taken.contains(&mine.source) {
                uncounted.insert(index);
            }
            let target_is_foreign =
                self.nodes.get(*target).is_some_and(|node| !requested.contains(&node.namespace));
            if !known && target_is_foreign && !taken.contains(target) {
                self.add_incoming(index);
            }
        }
        for index in uncounted {
            let Some(edge) = self.edges.get(index) else { continue };
            if let Some(node) = self.nodes.get_mut(edge.source) {
                node.rates.entry(edge.protocol).or_default().outgoing += edge.rates.total;
            }
        }
    }

    fn add_incoming(&mut self, edge: usize) {
        let Some(edge) = self.edges.get(edge) else { return };
        if let Some(node) = self.nodes.get_mut(edge.target) {
            let (sums, rates) = (node.rates.entry(edge.protocol).or_default(), &edge.rates);
            sums.incoming += rates.total;
            sums.in_3xx += rates.c3xx;
            sums.in_4xx += rates.c4xx;
            sums.in_err += rates.err;
            sums.in_no_response += rates.no_response;
        }
    }

    /// Keeps the nodes for which `keep` is true, and the edges between them.
    pub(crate) fn retain(&mut self, keep: &[bool]) {
        let kept = |index: usize| keep.get(index).copied().unwrap_or(false);
        let mut renumbered = vec![usize::MAX; self.nodes.len()];
        let mut nodes = Vec::new();
        for (index, node) in std::mem::take(&mut self.nodes).into_iter().enumerate() {
            if kept(index) {
                if let Some(slot) = renumbered.get_mut(index) {
                    *slot = nodes.len();
                }
                nodes.push(node);
            }
        }
        self.nodes = nodes;
        self.edges.retain(|edge| kept(edge.source) && kept(edge.target));
        for edge in &mut self.edges {
            edge.source = renumbered.get(edge.source).copied().unwrap_or(0);
            edge.target = renumbered.get(edge.target).copied().unwrap_or(0);
        }
        self.by_id = self.nodes.iter().enumerate().map(|(index, node)| (node.id.clone(), index)).collect();
        self.by_ends = self
            .edges
            .iter()
            .enumerate()
            .map(|(index, edge)| ((edge.source, edge.target, edge.protocol), index))
            .collect();
    }
}

#[derive(Clone, Copy)]
enum CodeClass {
    Fine,
    C3xx,
    C4xx,
    Error,
    NoResponse,
}

impl CodeClass {
    fn of(sample: &Sample<'_>) -> CodeClass {
        if !sample.has_responses {
            return CodeClass::Fine;
        }
        // A gRPC answer with an HTTP code never reached the gRPC layer, so it is judged as HTTP.
        let as_http = sample.protocol == Protocol::Http || sample.code.len() == 3;
        match (sample.code.as_bytes().first(), as_http) {
            (Some(b'-'), _) => CodeClass::NoResponse,
            (Some(b'3'), true) if sample.protocol == Protocol::Http => CodeClass::C3xx,
            (Some(b'4'), true) if sample.protocol == Protocol::Http => CodeClass::C4xx,
            (Some(b'4' | b'5'), true) => CodeClass::Error,
            (Some(_), false) if sample.code != "0" => CodeClass::Error,
            _ => CodeClass::Fine,
        }
    }

    fn add_to(self, rates: &mut EdgeRates, rate: f64) {
        match self {
            CodeClass::Fine => {}
            CodeClass::C3xx => rates.c3xx += rate,
            CodeClass::C4xx => rates.c4xx += rate,
            CodeClass::Error => rates.err += rate,
            CodeClass::NoResponse => rates.no_response += rate,
        }
    }
}
