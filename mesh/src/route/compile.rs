//! From the rules of a VirtualService to routes, for one listener port of one proxy.

use super::{
    AbortStatus, Action, FaultPolicy, Forward, HeaderChanges, HeaderRules, Matcher, Mirror, PathRewrite,
    RedirectPort, Redirection, RetryPolicy, Route, Share, Target, WeightedTarget, delegate, grpc_status_code,
};
use crate::cluster::{Cluster, cluster_name};
use crate::host;
use crate::istio::{
    Delay, Destination, DirectResponse, Fault, HeaderOperations, Headers, HttpMatch, HttpRoute, Redirect,
    StringMatch, VirtualService,
};
use crate::mesh::{Mesh, Named, Service};
use crate::{Cors, Labels};
use http::{HeaderName, HeaderValue};
use indexmap::IndexMap;
use std::sync::Arc;

/// The name under which a proxy is addressed by `gateways`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GatewayName<'a> {
    Mesh,
    /// `namespace`, `name`.
    Gateway(&'a str, &'a str),
}

impl GatewayName<'_> {
    /// True when `written` in an object of `namespace` means this one.
    pub(crate) fn is(&self, written: &str, namespace: &str) -> bool {
        match self {
            Self::Mesh => written == "mesh",
            Self::Gateway(own_namespace, name) => match written.split_once('/') {
                Some((ns, n)) => ns == *own_namespace && n == *name,
                None => written == *name && namespace == *own_namespace,
            },
        }
    }
}

/// For whom routes are compiled.
pub(crate) struct Viewer<'a> {
    pub(crate) mesh: &'a Mesh,
    pub(crate) clusters: &'a IndexMap<Arc<str>, Arc<Cluster>>,
    pub(crate) namespace: &'a str,
    pub(crate) labels: &'a Labels,
    pub(crate) gateway: GatewayName<'a>,
    /// Port of the listener.
    pub(crate) port: u16,
}

/// The route of a service without a VirtualService.
pub(crate) fn default_route(viewer: &Viewer<'_>, service: &Service) -> Route {
    let name: Arc<str> = cluster_name(viewer.port, "", &service.host).into();
    let target = viewer.clusters.get(&name).map_or(Target::Missing(name), |c| Target::Known(c.clone()));
    let operation = format!("{}:{}/*", service.host, viewer.port);
    Route {
        name: "default".into(),
        operation_header: HeaderValue::try_from(operation.as_str()).ok(),
        operation: operation.into(),
        virtual_service: None,
        matcher: Matcher::default(),
        fault: FaultPolicy::default(),
        cors: None,
        headers: HeaderRules::default(),
        action: Action::Forward(Forward {
            targets: vec![WeightedTarget { weight: 1, target, headers: Arc::default(), authority: None }],
            total_weight: 1,
            path: None,
            authority: None,
            timeout: None,
            retries: Some(Arc::new(RetryPolicy::istio_default())),
            mirrors: Vec::new(),
        }),
    }
}

/// The routes of a VirtualService, in order, up to and with the first that fits everything.
pub(crate) fn routes_of(viewer: &Viewer<'_>, service: &Named<VirtualService>) -> Vec<Arc<Route>> {
    let mut routes = Vec::new();
    for rule in &service.spec.http {
        match &rule.delegate {
            None => add_rule(viewer, service, service, rule, &mut routes),
            Some(wanted) => {
                let namespace =
                    if wanted.namespace.is_empty() { &service.namespace } else { &wanted.namespace };
                let found = viewer.mesh.virtual_services.iter().find(|v| {
                    v.name == wanted.name
                        && v.namespace == *namespace
                        && v.spec.hosts.is_empty()
                        && host::exported(&v.spec.export_to, &v.namespace, &service.namespace)
                });
                if let Some(inner) = found {
                    for rule in delegate::merge(rule, &inner.spec.http) {
                        add_rule(viewer, service, inner, &rule, &mut routes);
                    }
                }
            }
        }
        if routes.last().is_some_and(|route: &Arc<Route>| route.matcher.is_catch_all()) {
            break;
        }
    }
    routes
}

/// Adds a route for each match entry that concerns this proxy. `owner` is where the rule is written;
/// its namespace resolves short hosts.
fn add_rule(
    viewer: &Viewer<'_>,
    root: &Named<VirtualService>,
    owner: &Named<VirtualService>,
    rule: &HttpRoute,
    routes: &mut Vec<Arc<Route>>,
) {
    let everything = [HttpMatch::default()];
    let entries = if rule.matches.is_empty() { &everything[..] } else { &rule.matches };
    for entry in entries.iter().filter(|entry| concerns(viewer, root, entry)) {
        let Some(matcher) = Matcher::compile(entry) else { continue };
        let name = match (rule.name.is_empty(), entry.name.is_empty()) {
            (_, true) => rule.name.clone(),
            (_, false) => format!("{}.{}", rule.name, entry.name),
        };
        let Some(action) = action(viewer, owner, rule, entry) else { continue };
        let operation = operation(viewer, root, &action, &matcher);
        let catch_all = matcher.is_catch_all();
        routes.push(Arc::new(Route {
            name: name.into(),
            operation_header: HeaderValue::try_from(operation.as_str()).ok(),
            operation: operation.into(),
            virtual_service: Some(format!("{}/{}", owner.namespace, owner.name).into()),
            matcher,
            fault: rule.fault.as_ref().map(fault_policy).unwrap_or_default(),
            cors: rule.cors_policy.as_ref().map(|policy| Arc::new(Cors::new(policy))),
            headers: rule.headers.as_ref().map(header_rules).unwrap_or_default(),
            action,
        }));
        if catch_all {
            return;
        }
    }
}

/// The static part of a match entry: gateways, source labels and namespace, port. An entry that names
/// gateways is not asked for the source.
fn concerns(viewer: &Viewer<'_>, root: &Named<VirtualService>, entry: &HttpMatch) -> bool {
    let source = if entry.gateways.is_empty() {
        entry.source_labels.iter().all(|(key, value)| viewer.labels.get(key) == Some(value))
            && (entry.source_namespace.is_empty() || entry.source_namespace == viewer.namespace)
    } else {
        entry.gateways.iter().any(|written| viewer.gateway.is(written, &root.namespace))
    };
    source && entry.port.is_none_or(|port| port == viewer.port)
}

fn action(
    viewer: &Viewer<'_>,
    owner: &Named<VirtualService>,
    rule: &HttpRoute,
    entry: &HttpMatch,
) -> Option<Action> {
    if let Some(redirect) = &rule.redirect {
        return redirection(redirect, entry).map(Action::Redirect);
    }
    if let Some(DirectResponse { status, body }) = &rule.direct_response {
        let body = body.as_ref().map(|body| match (&body.string, &body.bytes) {
            (Some(text), _) => text.clone().into_bytes(),
            (None, Some(encoded)) => decode_base64(encoded).unwrap_or_default(),
            (None, None) => Vec::new(),
        });
        return Some(Action::DirectResponse { status: *status, body: body.unwrap_or_default() });
    }
    forward(viewer, owner, rule, entry).map(Action::Forward)
}

fn forward(
    viewer: &Viewer<'_>,
    owner: &Named<VirtualService>,
    rule: &HttpRoute,
    entry: &HttpMatch,
) -> Option<Forward> {
    let single = rule.route.len() == 1;
    let targets: Vec<WeightedTarget> = rule
        .route
        .iter()
        .filter(|destination| single || destination.weight > 0)
        .map(|destination| WeightedTarget {
            weight: if single { 1 } else { destination.weight },
            target: target(viewer, &owner.namespace, &destination.destination),
            headers: Arc::new(destination.headers.as_ref().map(header_rules).unwrap_or_default()),
            authority: destination.headers.as_ref().and_then(host_header),
        })
        .collect();
    if targets.is_empty() {
        return None;
    }
    let rewrite = rule.rewrite.as_ref();
    let rewritten_authority =
        rewrite.filter(|r| !r.authority.is_empty()).and_then(|r| HeaderValue::try_from(&r.authority).ok());
    let retries = match &rule.retries {
        None => Some(RetryPolicy::istio_default()),
        Some(retries) if retries.attempts == 0 => None,
        Some(retries) => Some(RetryPolicy::parse(
            retries.attempts,
            &retries.retry_on,
            retries.per_try_timeout.map(|t| t.0),
            retries.backoff.map(|b| b.0),
            retries.retry_ignore_previous_hosts,
        )),
    };
    Some(Forward {
        total_weight: targets.iter().map(|t| t.weight).sum(),
        targets,
        path: rewrite.and_then(|rewrite| match &rewrite.uri_regex_rewrite {
            Some(regex) => Some(PathRewrite::Regex {
                pattern: regex::Regex::new(&regex.pattern).ok()?,
                substitution: rust_substitution(&regex.rewrite),
            }),
            None if rewrite.uri.is_empty() => None,
            None => Some(path_rewrite(entry, &rewrite.uri)),
        }),
        authority: rewritten_authority.or_else(|| rule.headers.as_ref().and_then(host_header)),
        timeout: rule.timeout.map(|timeout| timeout.0).filter(|timeout| !timeout.is_zero()),
        retries: retries.map(Arc::new),
        mirrors: mirrors(viewer, &owner.namespace, rule),
    })
}

fn mirrors(viewer: &Viewer<'_>, namespace: &str, rule: &HttpRoute) -> Vec<Mirror> {
    let share = |percent: Option<f64>| percent.map_or(Share::ALL, Share::from_percent);
    let single = rule.mirror.iter().map(|destination| {
        let percent = rule.mirror_percentage.map(|p| p.value).or(rule.mirror_percent.map(f64::from));
        (destination, share(percent))
    });
    let several = rule.mirrors.iter().map(|m| (&m.destination, share(m.percentage.map(|p| p.value))));
    single
        .chain(several)
        .filter(|(_, share)| *share != Share(0))
        .map(|(destination, share)| Mirror { target: target(viewer, namespace, destination), share })
        .collect()
}

/// The cluster of a destination. Without a port it is the service's only one, or the listener's.
fn target(viewer: &Viewer<'_>, namespace: &str, destination: &Destination) -> Target {
    let host = host::resolve(&destination.host, namespace, &viewer.mesh.settings.domain);
    let service = viewer.mesh.services.get(host.as_str());
    let port = match (destination.port, service.map(|s| s.ports.as_slice())) {
        (Some(port), _) => port.number,
        (None, Some([only])) => only.number,
        (None, _) => viewer.port,
    };
    let name: Arc<str> = cluster_name(port, &destination.subset, &host).into();
    viewer.clusters.get(&name).map_or(Target::Missing(name), |cluster| Target::Known(cluster.clone()))
}

/// Istio names the span after the destination, or after the VirtualService when there are several.
fn operation(
    viewer: &Viewer<'_>,
    root: &Named<VirtualService>,
    action: &Action,
    matcher: &Matcher,
) -> String {
    let path = matcher.path.operation();
    match action {
        Action::Forward(Forward { targets, .. }) if targets.len() == 1 => {
            let (host, port) = match targets.first().map(|t| &t.target) {
                Some(Target::Known(cluster)) => (&*cluster.service.host, cluster.port),
                Some(Target::Missing(name)) => (name.rsplit('|').next().unwrap_or_default(), viewer.port),
                None => (root.name.as_str(), viewer.port),
            };
            format!("{host}:{port}{path}")
        }
        _ => format!("{}:{}{path}", root.name, viewer.port),
    }
}

fn path_rewrite(entry: &HttpMatch, replacement: &str) -> PathRewrite {
    match &entry.uri {
        Some(StringMatch::Prefix(prefix)) => {
            PathRewrite::Prefix { matched_len: prefix.len(), replacement: replacement.to_owned() }
        }
        Some(StringMatch::Exact(_) | StringMatch::Regex(_)) => PathRewrite::Whole(replacement.to_owned()),
        Some(StringMatch::Present) | None => {
            PathRewrite::Prefix { matched_len: 1, replacement: replacement.to_owned() }
        }
    }
}

fn redirection(redirect: &Redirect, entry: &HttpMatch) -> Option<Redirection> {
    let status = redirect.redirect_code.unwrap_or(301);
    if !matches!(status, 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let text = |value: &String| Some(value.clone()).filter(|v| !v.is_empty());
    let path = if !redirect.prefix_rewrite.is_empty() {
        Some(path_rewrite(entry, &redirect.prefix_rewrite))
    } else {
        text(&redirect.uri).map(PathRewrite::Whole)
    };
    let port = match (redirect.port, redirect.derive_port.as_deref()) {
        (Some(port), _) => RedirectPort::Fixed(port),
        (None, Some("FROM_PROTOCOL_DEFAULT")) => RedirectPort::SchemeDefault,
        (None, Some("FROM_REQUEST_PORT")) => RedirectPort::Request,
        (None, _) => RedirectPort::Unchanged,
    };
    Some(Redirection {
        status,
        scheme: text(&redirect.scheme),
        authority: text(&redirect.authority),
        port,
        path,
    })
}

/// RE2 writes groups as `\1`, our regex crate as `${1}`; a literal `$` has to be doubled.
fn rust_substitution(re2: &str) -> String {
    let mut out = String::with_capacity(re2.len());
    let mut chars = re2.chars();
    while let Some(c) = chars.next() {
        match c {
            '$' => out.push_str("$$"),
            '\\' => match chars.next() {
                Some(digit) if digit.is_ascii_digit() => out.push_str(&format!("${{{digit}}}")),
                Some(other) => out.push(other),
                None => out.push('\\'),
            },
            c => out.push(c),
        }
    }
    out
}

/// Without a percentage a fault never happens, as in Istio.
fn fault_policy(fault: &Fault) -> FaultPolicy {
    let delay = fault.delay.as_ref().and_then(|Delay { percent, percentage, fixed_delay, .. }| {
        let percent = percentage.map(|p| p.value).or(percent.map(f64::from)).unwrap_or(0.0);
        Some((fixed_delay.as_ref()?.0, Share::from_percent(percent)))
    });
    let abort = fault.abort.as_ref().and_then(|abort| {
        let status = match (abort.http_status, &abort.grpc_status) {
            (Some(status), _) => AbortStatus::Http(status),
            (None, Some(status)) => AbortStatus::Grpc(grpc_status_code(status)?),
            (None, None) => return None,
        };
        Some((status, Share::from_percent(abort.percentage.map_or(0.0, |p| p.value))))
    });
    FaultPolicy { delay, abort }
}

fn header_rules(headers: &Headers) -> HeaderRules {
    HeaderRules { request: changes(&headers.request), response: changes(&headers.response) }
}

/// Pseudo headers and Host cannot be touched here; Host is set through [`host_header`].
fn changes(operations: &HeaderOperations) -> HeaderChanges {
    let name = |text: &str| HeaderName::try_from(text).ok().filter(|name| *name != http::header::HOST);
    let pairs = |map: &std::collections::BTreeMap<String, String>| {
        map.iter()
            .filter_map(|(key, value)| Some((name(key)?, HeaderValue::try_from(value.as_str()).ok()?)))
            .collect()
    };
    HeaderChanges {
        remove: operations.remove.iter().filter_map(|key| name(key)).collect(),
        set: pairs(&operations.set),
        add: pairs(&operations.add),
    }
}

/// The authority that `headers.request.set` asks for.
fn host_header(headers: &Headers) -> Option<HeaderValue> {
    headers.request.set.iter().find_map(|(key, value)| {
        let host = key.eq_ignore_ascii_case("host") || key == ":authority";
        host.then(|| HeaderValue::try_from(value.as_str()).ok())?
    })
}

/// Standard base64 with or without padding.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    Some(out)
}
