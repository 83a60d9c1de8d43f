//! Clusters: a service port, or a subset of it, with its endpoints and the DestinationRule's policy.

use crate::host;
use crate::istio::{ConsistentHash, LoadBalancer, OutlierDetection, SimpleLb, TrafficPolicy};
use crate::mesh::{Mesh, Named, Service, WorkloadIdentity};
use crate::{DestinationRule, Labels};
use indexmap::IndexMap;
use std::sync::Arc;
use std::time::Duration;

/// Where requests of a route go.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    /// `outbound|<port>|<subset>|<host>`.
    pub name: Arc<str>,
    pub service: Arc<Service>,
    pub port: u16,
    /// Empty for the whole service.
    pub subset: Arc<str>,
    pub endpoints: Vec<Endpoint>,
    pub upstream: UpstreamProtocol,
    pub balance: Balance,
    pub pool: PoolLimits,
    pub outlier: Option<Outlier>,
}

/// One address that serves a cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct Endpoint {
    /// `host:port`; the host may be a DNS name.
    pub address: Arc<str>,
    pub workload: Arc<WorkloadIdentity>,
}

/// The HTTP version of upstream connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamProtocol {
    Http1,
    /// With prior knowledge, as Envoy does in clear text.
    Http2,
    /// What the client used.
    SameAsClient,
}

/// How an endpoint is chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Balance {
    /// The less busy of two picked at random.
    LeastRequest,
    RoundRobin,
    Random,
    Hash(HashKey),
}

/// What of a request is hashed, so that equal values reach the same endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashKey {
    Header(http::HeaderName),
    /// `ttl` set: the proxy issues the cookie when it is missing; zero makes a session cookie.
    Cookie {
        name: String,
        path: String,
        ttl: Option<Duration>,
    },
    SourceIp,
    QueryParameter(String),
}

/// Limits of the connection pool. Zero and absent are the default, as in Istio.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolLimits {
    pub max_connections: u32,
    pub max_pending_requests: u32,
    pub max_requests: u32,
    pub max_retries: u32,
    /// 0 = no limit.
    pub max_requests_per_connection: u32,
    pub connect_timeout: Duration,
    pub idle_timeout: Duration,
}

impl Default for PoolLimits {
    fn default() -> Self {
        Self {
            max_connections: u32::MAX,
            max_pending_requests: u32::MAX,
            max_requests: u32::MAX,
            max_retries: u32::MAX,
            max_requests_per_connection: 0,
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(3600),
        }
    }
}

/// When an endpoint is taken out for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outlier {
    /// 0 = off.
    pub consecutive_5xx: u32,
    /// 0 = off.
    pub consecutive_gateway_errors: u32,
    pub interval: Duration,
    pub base_ejection_time: Duration,
    pub max_ejection_percent: u32,
}

/// Name of the cluster of a service port; `subset` may be empty.
pub(crate) fn cluster_name(port: u16, subset: &str, host: &str) -> String {
    format!("outbound|{port}|{subset}|{host}")
}

/// Every cluster of the given services, as a proxy in `namespace` sees them, by name.
pub(crate) fn clusters<'m>(
    mesh: &'m Mesh,
    services: impl Iterator<Item = &'m Arc<Service>>,
    namespace: &str,
) -> IndexMap<Arc<str>, Arc<Cluster>> {
    let mut clusters = IndexMap::new();
    for service in services {
        let rule = rule_for(mesh, service, namespace);
        for (index, port) in service.http_ports() {
            let mut add = |subset: &str, labels: &Labels, policy: Policy<'_>| {
                let name: Arc<str> = cluster_name(port.number, subset, &service.host).into();
                let endpoints = service
                    .endpoints
                    .iter()
                    .filter(|e| labels.iter().all(|(k, v)| e.workload.labels.get(k) == Some(v)))
                    .filter_map(|e| {
                        let address = e.addresses.get(index)?.clone()?;
                        Some(Endpoint { address, workload: e.workload.clone() })
                    });
                let cluster = Cluster {
                    name: name.clone(),
                    service: service.clone(),
                    port: port.number,
                    subset: subset.into(),
                    endpoints: endpoints.collect(),
                    upstream: policy.upstream(port.protocol.is_http2()),
                    balance: policy.load_balancer.map_or(Balance::LeastRequest, balance),
                    pool: policy.pool_limits(),
                    outlier: policy.outlier.map(outlier),
                };
                clusters.insert(name, Arc::new(cluster));
            };
            let top = rule.as_ref().and_then(|rule| rule.traffic_policy.as_ref());
            add("", &Labels::new(), Policy::new(top, None, port.number));
            for subset in rule.iter().flat_map(|rule| &rule.subsets) {
                let policy = Policy::new(top, subset.traffic_policy.as_ref(), port.number);
                add(&subset.name, &subset.labels, policy);
            }
        }
    }
    clusters
}

/// The DestinationRule that holds for a service: from the client's namespace, else the service's, else
/// the root's; there the most specific host. Rules of one host in one namespace join their subsets.
fn rule_for(mesh: &Mesh, service: &Service, client_namespace: &str) -> Option<DestinationRule> {
    let host_of = |rule: &Named<DestinationRule>| {
        host::resolve(&rule.spec.host, &rule.namespace, &mesh.settings.domain)
    };
    for namespace in [client_namespace, &*service.namespace, &mesh.settings.root_namespace] {
        let mut candidates: Vec<_> = mesh
            .destination_rules
            .iter()
            .filter(|rule| {
                rule.namespace == namespace
                    && host::exported(&rule.spec.export_to, &rule.namespace, client_namespace)
                    && host::covers(&host_of(rule), &service.host)
            })
            .collect();
        candidates.sort_by_key(|rule| std::cmp::Reverse(host::specificity(&host_of(rule))));
        let Some((first, rest)) = candidates.split_first() else { continue };
        let mut merged = DestinationRule::clone(&first.spec);
        for other in rest.iter().filter(|other| host_of(other) == host_of(first)) {
            for subset in &other.spec.subsets {
                if merged.subsets.iter().all(|known| known.name != subset.name) {
                    merged.subsets.push(subset.clone());
                }
            }
            if merged.traffic_policy.is_none() {
                merged.traffic_policy.clone_from(&other.spec.traffic_policy);
            }
        }
        return Some(merged);
    }
    None
}

/// The blocks of a traffic policy that hold for one port. Settings of the port replace everything
/// above them; otherwise a subset overrides the rule block by block.
#[derive(Clone, Copy)]
struct Policy<'a> {
    load_balancer: Option<&'a LoadBalancer>,
    pool: Option<&'a crate::ConnectionPool>,
    outlier: Option<&'a OutlierDetection>,
}

impl<'a> Policy<'a> {
    fn new(top: Option<&'a TrafficPolicy>, subset: Option<&'a TrafficPolicy>, port: u16) -> Self {
        for policy in [subset, top].into_iter().flatten() {
            let of_port =
                policy.port_level_settings.iter().find(|s| s.port.is_some_and(|p| p.number == port));
            if let Some(settings) = of_port {
                return Self {
                    load_balancer: settings.load_balancer.as_ref(),
                    pool: settings.connection_pool.as_ref(),
                    outlier: settings.outlier_detection.as_ref(),
                };
            }
        }
        let levels = [subset, top];
        Self {
            load_balancer: levels.iter().flatten().find_map(|p| p.load_balancer.as_ref()),
            pool: levels.iter().flatten().find_map(|p| p.connection_pool.as_ref()),
            outlier: levels.iter().flatten().find_map(|p| p.outlier_detection.as_ref()),
        }
    }

    fn upstream(&self, http2_port: bool) -> UpstreamProtocol {
        let http = self.pool.and_then(|pool| pool.http.as_ref());
        let upgrade = http.and_then(|http| http.h2_upgrade_policy.as_deref()) == Some("UPGRADE");
        if http2_port || upgrade {
            UpstreamProtocol::Http2
        } else if http.is_some_and(|http| http.use_client_protocol) {
            UpstreamProtocol::SameAsClient
        } else {
            UpstreamProtocol::Http1
        }
    }

    fn pool_limits(&self) -> PoolLimits {
        let mut limits = PoolLimits::default();
        let set = |limit: &mut u32, value: Option<u32>| {
            if let Some(value) = value.filter(|v| *v > 0) {
                *limit = value;
            }
        };
        if let Some(tcp) = self.pool.and_then(|pool| pool.tcp.as_ref()) {
            set(&mut limits.max_connections, tcp.max_connections);
            if let Some(timeout) = tcp.connect_timeout.filter(|t| !t.0.is_zero()) {
                limits.connect_timeout = timeout.0;
            }
        }
        if let Some(http) = self.pool.and_then(|pool| pool.http.as_ref()) {
            set(&mut limits.max_pending_requests, http.http1_max_pending_requests);
            set(&mut limits.max_requests, http.http2_max_requests);
            set(&mut limits.max_retries, http.max_retries);
            set(&mut limits.max_requests_per_connection, http.max_requests_per_connection);
            if let Some(timeout) = http.idle_timeout.filter(|t| !t.0.is_zero()) {
                limits.idle_timeout = timeout.0;
            }
        }
        limits
    }
}

fn balance(policy: &LoadBalancer) -> Balance {
    if let Some(key) = policy.consistent_hash.as_ref().and_then(hash_key) {
        return Balance::Hash(key);
    }
    match policy.simple {
        Some(SimpleLb::RoundRobin) => Balance::RoundRobin,
        // Passthrough asks for the original destination, which an explicit proxy does not know.
        Some(SimpleLb::Random | SimpleLb::Passthrough) => Balance::Random,
        Some(SimpleLb::LeastRequest | SimpleLb::Unspecified) | None => Balance::LeastRequest,
    }
}

fn hash_key(hash: &ConsistentHash) -> Option<HashKey> {
    if let Some(name) = &hash.http_header_name {
        return http::HeaderName::try_from(name.as_str()).ok().map(HashKey::Header);
    }
    if let Some(cookie) = &hash.http_cookie {
        let ttl = cookie.ttl.map(|ttl| ttl.0);
        return Some(HashKey::Cookie { name: cookie.name.clone(), path: cookie.path.clone(), ttl });
    }
    if let Some(name) = &hash.http_query_parameter_name {
        return Some(HashKey::QueryParameter(name.clone()));
    }
    hash.use_source_ip.then_some(HashKey::SourceIp)
}

fn outlier(detection: &OutlierDetection) -> Outlier {
    let or = |value: Option<crate::DurationText>, default: u64| {
        value.map(|d| d.0).filter(|d| !d.is_zero()).unwrap_or(Duration::from_secs(default))
    };
    Outlier {
        consecutive_5xx: detection.consecutive_5xx_errors.unwrap_or(5),
        consecutive_gateway_errors: detection.consecutive_gateway_errors.unwrap_or(0),
        interval: or(detection.interval, 10),
        base_ejection_time: or(detection.base_ejection_time, 30),
        max_ejection_percent: detection.max_ejection_percent.filter(|p| *p > 0).unwrap_or(10),
    }
}
