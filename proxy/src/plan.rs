//! What a route asks for, decided before anything is sent: which cluster, with which head, how often and
//! for how long.

use crate::cluster::{ClusterState, hash_key};
use crate::headers;
use crate::listen::App;
use crate::pool::{Endpoint, Wire};
use crate::record::Record;
use crate::reply::LocalReply;
use crate::state::Snapshot;
use http::header::{COOKIE, HOST};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderValue, Uri, Version};
use pharos_mesh::{
    Action, Balance, Forward, HashKey, HeaderRules, RetryPolicy, Route, Target, UpstreamProtocol,
    WeightedTarget,
};
use std::sync::Arc;
use std::time::Duration;

/// How a request is to be forwarded.
pub(crate) struct Plan {
    pub(crate) to: To,
    pub(crate) wire: Wire,
    pub(crate) retries: Option<Arc<RetryPolicy>>,
    pub(crate) timeout: Option<Duration>,
    /// Tell the upstream who we are; not done for hosts outside of the mesh, nor for our own app.
    pub(crate) announce: bool,
    /// Changes of the chosen destination that are due on the way back.
    pub(crate) response_changes: Option<Arc<HeaderRules>>,
    pub(crate) hash: Option<u64>,
    /// For a client that has none yet.
    pub(crate) cookie: Option<HeaderValue>,
    pub(crate) mirrors: Vec<Arc<ClusterState>>,
}

pub(crate) enum To {
    Cluster(Arc<ClusterState>),
    /// One address that is not balanced.
    Address(Arc<Endpoint>),
    Nowhere,
}

impl Plan {
    fn new(to: To, wire: Wire) -> Self {
        Self {
            to,
            wire,
            retries: None,
            timeout: None,
            announce: false,
            response_changes: None,
            hash: None,
            cookie: None,
            mirrors: Vec::new(),
        }
    }

    pub(crate) fn nowhere() -> Self {
        Self::new(To::Nowhere, Wire::Http1)
    }

    pub(crate) fn passthrough(endpoint: Arc<Endpoint>) -> Self {
        Self::new(To::Address(endpoint), Wire::Http1)
    }

    pub(crate) fn to_app(app: &App, client: Version, grpc: bool) -> Self {
        let mut plan = Self::new(To::Address(app.endpoint.clone()), app.wire(client));
        // Istio retries inbound requests of which nothing was sent, and leaves gRPC to its clients.
        plan.retries = (!grpc).then(|| app.retries.clone());
        plan
    }
}

/// Draws one of a route's targets by weight.
pub(crate) fn choose(forward: &Forward) -> Option<&WeightedTarget> {
    if let [only] = forward.targets.as_slice() {
        return Some(only);
    }
    let mut draw = rand::random_range(0..forward.total_weight.max(1));
    forward.targets.iter().find(|target| match draw.checked_sub(target.weight) {
        Some(rest) => {
            draw = rest;
            false
        }
        None => true,
    })
}

/// What the route and its target ask for; changes the head accordingly.
pub(crate) fn plan(
    record: &mut Record,
    snapshot: &Snapshot,
    route: &Route,
    target: &WeightedTarget,
    head: &mut Parts,
) -> Result<Plan, LocalReply> {
    let Action::Forward(forward) = &route.action else { return Err(LocalReply::no_cluster()) };
    let state = |target: &Target| match target {
        Target::Known(cluster) => snapshot.clusters.get(&cluster.name).cloned(),
        Target::Missing(_) => None,
    };
    let Some(cluster) = state(&target.target) else { return Err(LocalReply::no_cluster()) };

    route.headers.request.apply(&mut head.headers);
    target.headers.request.apply(&mut head.headers);
    rewrite(record, forward, target, head)?;
    if let Some(operation) = &route.operation_header {
        head.headers.insert(headers::DECORATOR, operation.clone());
    }
    if let Some(timeout) = forward.timeout {
        let ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        head.headers.insert(headers::EXPECTED_TIMEOUT, HeaderValue::from(ms));
    }
    let wire = match cluster.config.upstream {
        UpstreamProtocol::Http1 => Wire::Http1,
        UpstreamProtocol::Http2 => Wire::Http2,
        UpstreamProtocol::SameAsClient if record.version == Version::HTTP_2 => Wire::Http2,
        UpstreamProtocol::SameAsClient => Wire::Http1,
    };
    let (hash, cookie) = hash_of(&cluster, record, head);
    let announce = !cluster.config.service.external;
    let mirrors = forward
        .mirrors
        .iter()
        .filter(|mirror| mirror.share.contains(rand::random_range(0..1_000_000)))
        .filter_map(|mirror| state(&mirror.target));
    let mirrors = mirrors.collect();
    Ok(Plan {
        retries: forward.retries.clone(),
        timeout: forward.timeout,
        announce,
        response_changes: Some(target.headers.clone()),
        hash,
        cookie,
        mirrors,
        ..Plan::new(To::Cluster(cluster), wire)
    })
}

/// Path and authority, as the route wants them. The path as it came is kept in a header.
fn rewrite(
    record: &mut Record,
    forward: &Forward,
    target: &WeightedTarget,
    head: &mut Parts,
) -> Result<(), LocalReply> {
    if let Some(rewrite) = &forward.path {
        let (path, query) = match record.path.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (record.path.as_str(), None),
        };
        let mut rewritten = rewrite.apply(path);
        if let Some(query) = query {
            rewritten.push('?');
            rewritten.push_str(query);
        }
        if rewritten != record.path {
            let bad = |_| LocalReply::bad_request("path_rewrite_failed");
            let original = HeaderValue::try_from(record.path.as_str())
                .map_err(|_| LocalReply::bad_request("path_rewrite_failed"))?;
            head.headers.insert(headers::ORIGINAL_PATH, original);
            let path: PathAndQuery = rewritten.parse().map_err(bad)?;
            let mut uri = std::mem::take(&mut head.uri).into_parts();
            uri.path_and_query = Some(path);
            // A URI with an authority needs a scheme as well; neither is used from here on.
            uri.scheme = None;
            uri.authority = None;
            head.uri = Uri::from_parts(uri).map_err(|_| LocalReply::bad_request("path_rewrite_failed"))?;
            record.upstream_path = Some(rewritten);
        }
    }
    if let Some(authority) = forward.authority.as_ref().or(target.authority.as_ref()) {
        head.headers.insert(HOST, authority.clone());
    }
    Ok(())
}

/// The key for consistent hashing, and a cookie to issue when the policy wants one and there is none.
fn hash_of(cluster: &ClusterState, record: &Record, head: &Parts) -> (Option<u64>, Option<HeaderValue>) {
    let Balance::Hash(key) = &cluster.config.balance else { return (None, None) };
    let of = |value: Option<&str>| value.map(|value| hash_key(value.as_bytes()));
    match key {
        HashKey::Header(name) => (head.headers.get(name).map(|value| hash_key(value.as_bytes())), None),
        HashKey::SourceIp => (of(Some(&record.connection.remote.ip().to_string())), None),
        HashKey::QueryParameter(name) => {
            let query = record.path.split_once('?').map_or("", |(_, query)| query);
            let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
            (of(pairs.find(|(key, _)| key == name).map(|(_, value)| value)), None)
        }
        HashKey::Cookie { name, path, ttl } => {
            let lines = head.headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
            let mut cookies = lines.flat_map(|line| line.split(';')).filter_map(|c| c.trim().split_once('='));
            if let Some((_, value)) = cookies.find(|(key, _)| key == name) {
                return (of(Some(value)), None);
            }
            let Some(ttl) = ttl else { return (None, None) };
            let value = format!("{:016x}", rand::random::<u64>());
            let mut cookie = format!("{name}=\"{value}\"");
            if !ttl.is_zero() {
                cookie.push_str(&format!("; Max-Age={}", ttl.as_secs()));
            }
            if !path.is_empty() {
                cookie.push_str(&format!("; Path={path}"));
            }
            cookie.push_str("; HttpOnly");
            (of(Some(&value)), HeaderValue::try_from(cookie).ok())
        }
    }
}
