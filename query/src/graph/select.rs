//! Which flows a graph is made of, and in which order: what Kiali asks Prometheus for (reference §2.1 and §2.2),
//! answered from the flows in memory. The order matters, since of two reports of the same requests the first wins.

use std::{
    collections::{BTreeSet, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
};

use pharos_model::{EdgeMeasure, Peer, Reporter};

use super::{
    conversations::Conversations,
    options::{AmbientTraffic, GraphOptions, GrpcRate, HttpRate, Scope, TcpRate},
    traffic::{End, PASSTHROUGH_CLUSTER, Protocol, Sample, TrafficMap, UNKNOWN, is_known},
};

/// Flows that differ in nothing the graph shows, with one rate a reporter.
#[derive(Debug)]
struct Group {
    key: GroupKey,
    conversation: usize,
    /// By reporter; `None` where it reports nothing.
    rates: [Option<f64>; 3],
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct GroupKey {
    source: End,
    target: End,
    host: String,
    protocol: Protocol,
    code: String,
    flags: String,
    is_ztunnel: bool,
}

/// One kind of rate: requests, messages of one direction, bytes of one direction.
struct Family {
    measure: EdgeMeasure,
    groups: Vec<Group>,
}

/// A set of reporters, as in a query's `reporter=~"waypoint|source"`.
type Reporters = [bool; 3];

fn reporters(first: Reporter, ambient: AmbientTraffic) -> Reporters {
    let waypoint = matches!(ambient, AmbientTraffic::Total | AmbientTraffic::Waypoint);
    [first == Reporter::Source, first == Reporter::Destination, waypoint]
}

/// Builds the traffic map that `options` ask for.
pub(crate) fn traffic_map(conversations: &Conversations, options: &GraphOptions) -> TrafficMap {
    let families = families(conversations, options);
    let queries = Queries { options, families: &families, ambient: conversations.ambient_namespaces() };
    match &options.scope {
        Scope::Everything | Scope::Namespaces => {
            let mut whole = TrafficMap::default();
            for namespace in &options.namespaces {
                whole.merge(namespace, queries.namespace(namespace), &options.namespaces);
            }
            whole
        }
        _ => queries.node(),
    }
}

/// The measures that the options want, in the order in which Kiali asks for them.
fn families(conversations: &Conversations, options: &GraphOptions) -> Vec<Family> {
    let mut measures = Vec::new();
    if options.http == HttpRate::Requests || options.grpc == GrpcRate::Requests {
        measures.push(EdgeMeasure::Requests);
    }
    if matches!(options.grpc, GrpcRate::Sent | GrpcRate::Total) {
        measures.push(EdgeMeasure::RequestMessages);
    }
    if matches!(options.grpc, GrpcRate::Received | GrpcRate::Total) {
        measures.push(EdgeMeasure::ResponseMessages);
    }
    // What the client sent is what the proxy received.
    if matches!(options.tcp, TcpRate::Sent | TcpRate::Total) {
        measures.push(EdgeMeasure::TcpReceivedBytes);
    }
    if matches!(options.tcp, TcpRate::Received | TcpRate::Total) {
        measures.push(EdgeMeasure::TcpSentBytes);
    }
    measures.into_iter().map(|measure| family(conversations, options, measure)).collect()
}

fn family(conversations: &Conversations, options: &GraphOptions, measure: EdgeMeasure) -> Family {
    let mut groups: Vec<Group> = Vec::new();
    let mut places: HashMap<GroupKey, usize> = HashMap::new();
    for (conversation, flow) in conversations.flows_for_rates() {
        let Some(rate) = flow.rate(measure) else { continue };
        let Some(protocol) = protocol(measure, &flow.key.request_protocol, options) else { continue };
        let Some((source, target)) = ends(&flow.key) else { continue };
        let (code, flags) = match protocol {
            Protocol::Tcp => ("-", flow.key.response_flags.as_str()),
            _ if measure != EdgeMeasure::Requests => ("-", ""),
            _ => (
                code(protocol, &flow.key.response_code, &flow.key.grpc_status),
                flow.key.response_flags.as_str(),
            ),
        };
        let key = GroupKey {
            source,
            target,
            host: flow.key.destination_service.clone(),
            protocol,
            code: code.to_string(),
            flags: flags.to_string(),
            is_ztunnel: flow.is_ztunnel(),
        };
        let index = match places.get(&key) {
            Some(index) => *index,
            None => {
                places.insert(key.clone(), groups.len());
                groups.push(Group { key, conversation, rates: [None; 3] });
                groups.len() - 1
            }
        };
        let slot = groups.get_mut(index).and_then(|group| group.rates.get_mut(flow.key.reporter as usize));
        if let Some(slot) = slot {
            *slot.get_or_insert(0.0) += rate;
        }
    }
    Family { measure, groups }
}

fn protocol(measure: EdgeMeasure, label: &str, options: &GraphOptions) -> Option<Protocol> {
    match measure {
        EdgeMeasure::Requests if label == "grpc" => {
            (options.grpc == GrpcRate::Requests).then_some(Protocol::Grpc)
        }
        EdgeMeasure::Requests => (options.http == HttpRate::Requests).then_some(Protocol::Http),
        EdgeMeasure::RequestMessages | EdgeMeasure::ResponseMessages => Some(Protocol::Grpc),
        _ => Some(Protocol::Tcp),
    }
}

/// `-` where there was no response. gRPC's own status counts unless HTTP already failed.
fn code<'a>(protocol: Protocol, response_code: &'a str, grpc_status: &'a str) -> &'a str {
    if matches!(response_code, "" | "0") {
        return "-";
    }
    let http_failed = response_code.starts_with('4') || response_code.starts_with('5');
    if protocol == Protocol::Grpc && !http_failed && !grpc_status.is_empty() {
        grpc_status
    } else {
        response_code
    }
}

/// Both ends of a flow as graph ends, or `None` for telemetry that is too broken to draw (reference §2.3, 1 to 3).
fn ends(key: &pharos_model::EdgeKey) -> Option<(End, End)> {
    let end = |peer: &Peer| End {
        cluster: if peer.cluster.is_empty() { UNKNOWN.into() } else { peer.cluster.clone() },
        namespace: peer.namespace.clone(),
        workload: peer.workload.clone(),
        app: peer.canonical_service.clone(),
        version: peer.canonical_revision.clone(),
        ..End::default()
    };
    let source = end(&key.source);
    let mut target = end(&key.destination);
    target.service_namespace = key.destination_service_namespace.clone();
    target.service = key.destination_service_name.clone();
    let required = [
        &source.namespace,
        &source.workload,
        &source.app,
        &source.version,
        &target.service_namespace,
        &key.destination_service,
        &target.service,
        &target.namespace,
        &target.workload,
        &target.app,
        &target.version,
    ];
    if required.iter().any(|label| label.is_empty()) {
        return None;
    }
    let cluster_is_unknown = |peer: &Peer| peer.cluster == UNKNOWN;
    if is_known(&source.namespace)
        && ((!is_known(&source.workload) && !is_known(&source.app)) || cluster_is_unknown(&key.source))
    {
        return None;
    }
    let is_bare_address = key.destination_service == target.service
        && target.service.split(':').next().is_some_and(|host| host.parse::<std::net::Ipv4Addr>().is_ok());
    if !is_known(&target.workload) && is_bare_address {
        return None;
    }
    if target.cluster == UNKNOWN && is_known(&target.service_namespace) {
        if is_known(&source.cluster) {
            target.cluster = source.cluster.clone();
        } else if cluster_is_unknown(&key.destination) && is_known(&target.workload) {
            return None;
        }
    }
    Some((source, target))
}

struct Queries<'a> {
    options: &'a GraphOptions,
    families: &'a [Family],
    ambient: BTreeSet<String>,
}

impl Queries<'_> {
    fn namespace(&self, namespace: &str) -> TrafficMap {
        let mut map = TrafficMap::default();
        let from_outside = |key: &GroupKey| key.source.namespace != namespace;
        for family in self.families {
            let is_tcp = family.is_tcp();
            self.ask(&mut map, family, Reporter::Source, |key| {
                from_outside(key)
                    && key.target.workload == UNKNOWN
                    && key.target.namespace == UNKNOWN
                    && host_is_in(&key.host, namespace)
            });
            if !is_tcp && self.ambient.contains(namespace) && self.options.ambient != AmbientTraffic::None {
                self.run(&mut map, family, [true, false, false], |key| {
                    from_outside(key) && key.target.namespace == namespace
                });
            }
            self.ask(&mut map, family, Reporter::Destination, |key| key.target.namespace == namespace);
            self.ask(&mut map, family, Reporter::Source, |key| key.source.namespace == namespace);
        }
        map
    }

    /// One node with its direct callers and the targets it calls.
    fn node(&self) -> TrafficMap {
        let mut map = TrafficMap::default();
        let cluster_fits =
            |end: &End| !is_known(&self.options.cluster) || end.cluster == self.options.cluster;
        for family in self.families {
            match &self.options.scope {
                Scope::Everything | Scope::Namespaces => {}
                Scope::Workload { namespace, workload } => {
                    let is_it = |end: &End| {
                        end.namespace == *namespace && end.workload == *workload && cluster_fits(end)
                    };
                    self.node_queries(&mut map, family, namespace, is_it);
                }
                Scope::App { namespace, app, version } => {
                    let is_it = |end: &End| {
                        end.namespace == *namespace
                            && end.app == *app
                            && version.as_ref().is_none_or(|version| end.version == *version)
                            && cluster_fits(end)
                    };
                    self.node_queries(&mut map, family, namespace, is_it);
                }
                Scope::Service { namespace, service } => {
                    let is_it = |key: &GroupKey| {
                        key.target.service_namespace == *namespace
                            && key.target.service == *service
                            && cluster_fits(&key.target)
                    };
                    self.ask(&mut map, family, Reporter::Source, |key| {
                        is_it(key) && key.target.workload == UNKNOWN
                    });
                    self.ask(&mut map, family, Reporter::Destination, is_it);
                }
            }
        }
        map
    }

    fn node_queries(
        &self,
        map: &mut TrafficMap,
        family: &Family,
        namespace: &str,
        is_it: impl Fn(&End) -> bool,
    ) {
        let mut inbound = reporters(Reporter::Destination, self.options.ambient);
        if self.ambient.contains(namespace) {
            inbound = [true, true, inbound[2]];
        }
        self.run(map, family, inbound, |key| is_it(&key.target));
        self.ask(map, family, Reporter::Source, |key| is_it(&key.source));
    }

    fn ask(
        &self,
        map: &mut TrafficMap,
        family: &Family,
        first: Reporter,
        chosen: impl Fn(&GroupKey) -> bool,
    ) {
        self.run(map, family, reporters(first, self.options.ambient), chosen);
    }

    /// One query: the chosen groups' rates, summed over the reporters.
    fn run(
        &self,
        map: &mut TrafficMap,
        family: &Family,
        reporters: Reporters,
        chosen: impl Fn(&GroupKey) -> bool,
    ) {
        let no_ztunnel = matches!(self.options.ambient, AmbientTraffic::None | AmbientTraffic::Waypoint);
        for group in &family.groups {
            let rates = group.rates.iter().zip(reporters).filter(|(_, wanted)| *wanted);
            let Some(rate) = rates.filter_map(|(rate, _)| *rate).reduce(|a, b| a + b) else { continue };
            let is_idle = rate <= 0.0;
            if (is_idle && !self.options.include_idle_edges)
                || (no_ztunnel && group.key.is_ztunnel)
                || !chosen(&group.key)
            {
                continue;
            }
            let graph_type = self.options.node_type();
            let GroupKey { source, target, host, protocol, code, flags, .. } = &group.key;
            let inject_service = self.options.inject_service_nodes
                && is_known(&target.service)
                && target.service != PASSTHROUGH_CLUSTER
                && !target.is_service_node(graph_type);
            let sample = Sample {
                source,
                target,
                protocol: *protocol,
                // As `round(…, 0.001)`.
                rate: (rate.max(0.0) * 1_000.0 + 0.5).floor() / 1_000.0,
                code,
                flags,
                host,
                has_responses: family.measure == EdgeMeasure::Requests,
                inject_service,
                conversation: group.conversation,
                fingerprint: fingerprint(family.measure, &group.key),
            };
            map.add(&sample, graph_type);
        }
    }
}

impl Family {
    fn is_tcp(&self) -> bool {
        matches!(self.measure, EdgeMeasure::TcpReceivedBytes | EdgeMeasure::TcpSentBytes)
    }
}

/// `reviews.bookinfo.svc.cluster.local` is in `bookinfo`.
fn host_is_in(host: &str, namespace: &str) -> bool {
    let mut labels = host.split('.');
    labels.next().is_some_and(|first| !first.is_empty())
        && labels.by_ref().any(|label| label == namespace)
        && labels.next().is_some()
}

fn fingerprint(measure: EdgeMeasure, key: &GroupKey) -> u64 {
    let mut hasher = DefaultHasher::new();
    (measure as usize, &key.source, &key.target, &key.host, &key.code, &key.flags).hash(&mut hasher);
    hasher.finish()
}
