//! Flows put together by who talks to whom, so that an edge finds everything that is known about it: both
//! reporters' counts, codes, flags, distribution of durations, bytes, security.
//!
//! Counters, access logs and spans tell of the same requests, so one origin is chosen for each question and the
//! origins are never added up.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use pharos_model::{EdgeKey, EdgeMeasure, EdgeOrigin, Latency, Reporter};

use super::{
    flows::{Flow, LatencySum},
    traffic::is_known,
};

/// Two ends, the service between them and the protocol.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ConversationKey {
    source: [String; 5],
    destination: [String; 5],
    service: [String; 2],
    protocol: String,
    is_ztunnel: bool,
}

impl ConversationKey {
    fn of(flow: &Flow) -> ConversationKey {
        let EdgeKey { source, destination, .. } = &flow.key;
        let end = |peer: &pharos_model::Peer| {
            [
                &peer.cluster,
                &peer.namespace,
                &peer.workload,
                &peer.canonical_service,
                &peer.canonical_revision,
            ]
            .map(String::clone)
        };
        ConversationKey {
            source: end(source),
            destination: end(destination),
            service: [&flow.key.destination_service_namespace, &flow.key.destination_service_name]
                .map(String::clone),
            protocol: if flow.is_tcp() {
                "tcp".into()
            } else if flow.key.request_protocol.is_empty() {
                // Istio's message counters carry no protocol; they count gRPC only.
                "grpc".into()
            } else {
                flow.key.request_protocol.clone()
            },
            is_ztunnel: flow.is_ztunnel(),
        }
    }
}

/// What one reporter counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) requests: f64,
    pub(crate) errors: f64,
    pub(crate) codes: BTreeMap<String, f64>,
    /// Each flag on its own: a request with `DI,FI` counts for both.
    pub(crate) flags: BTreeMap<String, f64>,
}

impl Counts {
    fn add(&mut self, flow: &Flow) {
        let requests = flow.increase(EdgeMeasure::Requests);
        if requests <= 0.0 {
            return;
        }
        self.requests += requests;
        if flow.is_error() {
            self.errors += requests;
        }
        let code = match flow.key.grpc_status.as_str() {
            "" => flow.key.response_code.as_str(),
            status if flow.key.response_code.starts_with('2') => status,
            _ => flow.key.response_code.as_str(),
        };
        // As in Kiali's responses, `-` is no response.
        let code = if matches!(flow.key.response_code.as_str(), "" | "0") { "-" } else { code };
        *self.codes.entry(code.to_string()).or_default() += requests;
        for flag in flow.key.response_flags.split(',').filter(|flag| !matches!(*flag, "" | "-")) {
            *self.flags.entry(flag.to_string()).or_default() += requests;
        }
    }

    pub(crate) fn merge(&mut self, other: &Counts) {
        self.requests += other.requests;
        self.errors += other.errors;
        for (code, requests) in &other.codes {
            *self.codes.entry(code.clone()).or_default() += requests;
        }
        for (flag, requests) in &other.flags {
            *self.flags.entry(flag.clone()).or_default() += requests;
        }
    }
}

#[derive(Debug, Default)]
struct Conversation {
    flows: Vec<usize>,
}

#[derive(Debug, Default)]
pub(crate) struct Conversations {
    flows: Vec<Flow>,
    all: Vec<Conversation>,
}

impl Conversations {
    pub(crate) fn new(mut flows: Vec<Flow>) -> Conversations {
        drop_spans_of_told_services(&mut flows);
        let mut all: Vec<Conversation> = Vec::new();
        let mut places: HashMap<ConversationKey, usize> = HashMap::new();
        for (index, flow) in flows.iter().enumerate() {
            let place = *places.entry(ConversationKey::of(flow)).or_insert(all.len());
            if place == all.len() {
                all.push(Conversation::default());
            }
            if let Some(conversation) = all.get_mut(place) {
                conversation.flows.push(index);
            }
        }
        Conversations { flows, all }
    }

    fn flows_of(&self, conversation: usize) -> impl Iterator<Item = &Flow> {
        let indexes = self.all.get(conversation).map_or(&[][..], |conversation| &conversation.flows);
        indexes.iter().filter_map(|index| self.flows.get(*index))
    }

    /// The flows that rates are taken from, each with its conversation. Counters first, since they are what a
    /// Prometheus would answer from; access logs where no counter has a rate; spans where there is neither.
    pub(crate) fn flows_for_rates(&self) -> impl Iterator<Item = (usize, &Flow)> {
        (0..self.all.len()).flat_map(move |conversation| {
            let origin = self
                .flows_of(conversation)
                .filter(|flow| EdgeMeasure::ALL.iter().any(|measure| flow.rate(*measure).is_some()))
                .map(|flow| flow.key.origin)
                .min();
            self.flows_of(conversation)
                .filter(move |flow| Some(flow.key.origin) == origin)
                .map(move |flow| (conversation, flow))
        })
    }

    /// What `reporter` counted in the window: as the counters say or as the access logs say, whichever saw more.
    /// A counter misses what came before its first sample, a log misses what was sampled away or lost; neither
    /// counts a request twice.
    pub(crate) fn counts(&self, conversation: usize, reporter: Reporter) -> Counts {
        let mut by_origin: BTreeMap<EdgeOrigin, Counts> = BTreeMap::new();
        for flow in self.flows_of(conversation).filter(|flow| flow.key.reporter == reporter) {
            by_origin.entry(flow.key.origin).or_default().add(flow);
        }
        let most = by_origin.into_values().reduce(|a, b| if b.requests > a.requests { b } else { a });
        most.unwrap_or_default()
    }

    /// How long requests took, in the first of `views` that tells it.
    pub(crate) fn add_latency_of_first(&self, conversation: usize, views: &[Reporter], sum: &mut LatencySum) {
        let timed = |view: Reporter| {
            self.flows_of(conversation)
                .filter(move |flow| flow.key.reporter == view && flow.latency != Latency::None)
        };
        let Some(view) = views.iter().copied().find(|view| timed(*view).next().is_some()) else { return };
        let has_logs = timed(view).any(|flow| flow.key.origin == EdgeOrigin::AccessLog);
        // Access logs and spans time the same requests.
        timed(view)
            .filter(|flow| !(has_logs && flow.key.origin == EdgeOrigin::Span))
            .for_each(|flow| sum.add(&flow.latency));
    }

    /// Rate of a measure in the view of `reporter`, from the most preferred origin that has one.
    pub(crate) fn rate(&self, conversation: usize, reporter: Reporter, measure: EdgeMeasure) -> Option<f64> {
        let mut by_origin: BTreeMap<EdgeOrigin, f64> = BTreeMap::new();
        for flow in self.flows_of(conversation).filter(|flow| flow.key.reporter == reporter) {
            if let Some(rate) = flow.rate(measure) {
                *by_origin.entry(flow.key.origin).or_default() += rate;
            }
        }
        by_origin.into_values().next()
    }

    /// Rates with and without mutual TLS, and the principals of both ends, as the server's side tells them: the
    /// client's proxy does not know.
    pub(crate) fn security(&self, conversation: usize) -> Security {
        let mut security = Security::default();
        let told_by_server = |flow: &&Flow| {
            is_known(&flow.key.security_policy)
                && (flow.key.reporter != Reporter::Source || flow.is_ztunnel())
        };
        let origin = self
            .flows_of(conversation)
            .filter(told_by_server)
            .filter(|flow| Security::weight(flow) > 0.0)
            .map(|flow| flow.key.origin)
            .min();
        for flow in
            self.flows_of(conversation).filter(told_by_server).filter(|f| Some(f.key.origin) == origin)
        {
            let weight = Security::weight(flow);
            security.all += weight;
            if flow.key.security_policy == "mutual_tls" {
                security.mutual_tls += weight;
            }
            for (principal, seen) in [
                (&flow.key.source.principal, &mut security.source_principal),
                (&flow.key.destination.principal, &mut security.destination_principal),
            ] {
                if seen.is_empty() && is_known(principal) {
                    seen.clone_from(principal);
                }
            }
        }
        security
    }

    /// Namespaces with traffic through ztunnel or a waypoint.
    pub(crate) fn ambient_namespaces(&self) -> BTreeSet<String> {
        self.flows
            .iter()
            .filter(|flow| flow.is_ztunnel() || flow.key.reporter == Reporter::Waypoint)
            .map(|flow| flow.key.destination.namespace.clone())
            .filter(|namespace| is_known(namespace))
            .collect()
    }

    /// Every namespace that any end of any flow is in.
    pub(crate) fn namespaces(&self) -> BTreeSet<String> {
        self.flows
            .iter()
            .flat_map(|flow| [&flow.key.source.namespace, &flow.key.destination.namespace])
            .filter(|namespace| is_known(namespace))
            .cloned()
            .collect()
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Security {
    pub(crate) all: f64,
    pub(crate) mutual_tls: f64,
    pub(crate) source_principal: String,
    pub(crate) destination_principal: String,
}

impl Security {
    /// Requests where there are any, else bytes: one conversation has one protocol, so units never mix.
    fn weight(flow: &Flow) -> f64 {
        let rate = |measure| flow.rate(measure).unwrap_or(0.0);
        if flow.is_tcp() {
            rate(EdgeMeasure::TcpReceivedBytes) + rate(EdgeMeasure::TcpSentBytes)
        } else {
            rate(EdgeMeasure::Requests)
        }
    }
}

/// A span names its two ends by service, where counters and logs name them by workload, so the two can't be matched
/// edge by edge. Spans therefore speak only for services of which nothing else does.
fn drop_spans_of_told_services(flows: &mut Vec<Flow>) {
    let own = |flow: &Flow| {
        let peer = match flow.key.reporter {
            Reporter::Source => &flow.key.source,
            Reporter::Destination | Reporter::Waypoint => &flow.key.destination,
        };
        (peer.namespace.clone(), peer.canonical_service.clone())
    };
    let told: HashSet<(String, String)> = flows
        .iter()
        .filter(|flow| flow.key.origin != EdgeOrigin::Span)
        .flat_map(|flow| {
            [&flow.key.source, &flow.key.destination]
                .map(|peer| (peer.namespace.clone(), peer.canonical_service.clone()))
        })
        .collect();
    flows.retain(|flow| flow.key.origin != EdgeOrigin::Span || !told.contains(&own(flow)));
}
