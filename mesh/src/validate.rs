//! What Istio's own validation refuses in the kinds that we interpret, as far as a wrong value would
//! change what a proxy does. Each rule yields the field's path and a sentence.

use crate::istio::{
    DestinationRule, Fault, Gateway, HttpRoute, Percent, ServiceEntry, StringMatch, TrafficPolicy,
    VirtualService,
};
use crate::object::Spec;

type Faults = Vec<(String, String)>;

pub(crate) fn faults(spec: &Spec) -> Faults {
    let mut faults = Vec::new();
    match spec {
        Spec::VirtualService(spec) => virtual_service(spec, &mut faults),
        Spec::DestinationRule(spec) => destination_rule(spec, &mut faults),
        Spec::Gateway(spec) => gateway(spec, &mut faults),
        Spec::ServiceEntry(spec) => service_entry(spec, &mut faults),
        Spec::Sidecar(_) | Spec::Other | Spec::Invalid => {}
    }
    faults
}

fn fault(faults: &mut Faults, field: impl Into<String>, message: impl Into<String>) {
    faults.push((field.into(), message.into()));
}

fn virtual_service(spec: &VirtualService, faults: &mut Faults) {
    if spec.http.is_empty() && spec.tls.is_empty() && spec.tcp.is_empty() {
        fault(faults, "spec.http", "http, tcp or tls must be provided");
    }
    for (i, host) in spec.hosts.iter().enumerate() {
        if let Some(message) = bad_host(host) {
            fault(faults, format!("spec.hosts[{i}]"), message);
        }
    }
    for (i, route) in spec.http.iter().enumerate() {
        http_route(route, spec.hosts.is_empty(), &format!("spec.http[{i}]"), faults);
    }
}

fn http_route(route: &HttpRoute, delegated: bool, at: &str, faults: &mut Faults) {
    let actions = [
        ("route", !route.route.is_empty()),
        ("redirect", route.redirect.is_some()),
        ("directResponse", route.direct_response.is_some()),
        ("delegate", route.delegate.is_some()),
    ];
    let set: Vec<&str> = actions.iter().filter(|(_, set)| *set).map(|(name, _)| *name).collect();
    match set.as_slice() {
        [] => fault(faults, at, "HTTP route, redirect, directResponse or delegate must be set"),
        [_] => {}
        several => fault(faults, at, format!("HTTP route cannot contain both {}", several.join(" and "))),
    }
    if delegated && route.delegate.is_some() {
        fault(faults, format!("{at}.delegate"), "a VirtualService without hosts cannot delegate further");
    }
    if route.redirect.is_some() || route.direct_response.is_some() {
        if route.fault.is_some() {
            fault(faults, format!("{at}.fault"), "cannot be combined with redirect or directResponse");
        }
        if route.rewrite.is_some() {
            fault(faults, format!("{at}.rewrite"), "cannot be combined with redirect or directResponse");
        }
    }
    if let Some(code) = route.redirect.as_ref().and_then(|r| r.redirect_code)
        && !matches!(code, 301 | 302 | 303 | 307 | 308)
    {
        fault(faults, format!("{at}.redirect.redirectCode"), format!("{code} is not a redirect status"));
    }
    if let Some(direct) = &route.direct_response {
        if !(200..=599).contains(&direct.status) {
            fault(
                faults,
                format!("{at}.directResponse.status"),
                format!("{} is not from 200 to 599", direct.status),
            );
        }
        if let Some(body) = &direct.body
            && body.string.is_some() == body.bytes.is_some()
        {
            fault(faults, format!("{at}.directResponse.body"), "give string or bytes");
        }
    }
    if route.mirror.is_some() && !route.mirrors.is_empty() {
        fault(faults, format!("{at}.mirrors"), "cannot be combined with mirror");
    }
    percentage(route.mirror_percentage, &format!("{at}.mirrorPercentage"), faults);
    for (i, mirror) in route.mirrors.iter().enumerate() {
        percentage(mirror.percentage, &format!("{at}.mirrors[{i}].percentage"), faults);
    }
    if let Some(policy) = &route.fault {
        fault_policy(policy, &format!("{at}.fault"), faults);
    }
    let total: u64 = route.route.iter().map(|d| u64::from(d.weight)).sum();
    if route.route.len() > 1 && total == 0 {
        fault(faults, format!("{at}.route"), "the weights of several destinations cannot all be 0");
    }
    if total > u64::from(u32::MAX) {
        fault(faults, format!("{at}.route"), "the sum of the weights is too large");
    }
    for (i, destination) in route.route.iter().enumerate() {
        if destination.destination.host.is_empty() {
            fault(faults, format!("{at}.route[{i}].destination.host"), "must not be empty");
        }
    }
    for (i, matched) in route.matches.iter().enumerate() {
        let at = format!("{at}.match[{i}]");
        let single = [
            ("uri", &matched.uri),
            ("scheme", &matched.scheme),
            ("method", &matched.method),
            ("authority", &matched.authority),
        ];
        for (name, value) in single {
            if let Some(StringMatch::Regex(pattern)) = value {
                regex(pattern, &format!("{at}.{name}.regex"), faults);
            }
        }
        for (block, values) in [
            ("headers", &matched.headers),
            ("withoutHeaders", &matched.without_headers),
            ("queryParams", &matched.query_params),
        ] {
            for (key, value) in values {
                if let StringMatch::Regex(pattern) = value {
                    regex(pattern, &format!("{at}.{block}.{key}.regex"), faults);
                }
            }
        }
    }
    if let Some(rewrite) = route.rewrite.as_ref().and_then(|r| r.uri_regex_rewrite.as_ref()) {
        regex(&rewrite.pattern, &format!("{at}.rewrite.uriRegexRewrite.match"), faults);
    }
}

fn fault_policy(policy: &Fault, at: &str, faults: &mut Faults) {
    if let Some(delay) = &policy.delay {
        percentage(delay.percentage, &format!("{at}.delay.percentage"), faults);
        if delay.exponential_delay.is_some() {
            fault(faults, format!("{at}.delay.exponentialDelay"), "is not supported");
        }
        if delay.percent.is_some_and(|p| p > 100) {
            fault(faults, format!("{at}.delay.percent"), "must be from 0 to 100");
        }
    }
    if let Some(abort) = &policy.abort {
        percentage(abort.percentage, &format!("{at}.abort.percentage"), faults);
        if abort.http2_error.is_some() {
            fault(faults, format!("{at}.abort.http2Error"), "is not supported");
        }
        match (&abort.http_status, &abort.grpc_status) {
            (Some(status), None) if !(200..=599).contains(status) => {
                fault(faults, format!("{at}.abort.httpStatus"), format!("{status} is not from 200 to 599"));
            }
            (None, Some(status)) if crate::route::grpc_status_code(status).is_none() => {
                fault(faults, format!("{at}.abort.grpcStatus"), format!("`{status}` is not a gRPC status"));
            }
            (Some(_), None) | (None, Some(_)) => {}
            _ => fault(faults, format!("{at}.abort"), "give httpStatus or grpcStatus"),
        }
    }
}

fn percentage(percent: Option<Percent>, at: &str, faults: &mut Faults) {
    if percent.is_some_and(|p| !(0.0..=100.0).contains(&p.value)) {
        fault(faults, at, "must be from 0 to 100");
    }
}

fn regex(pattern: &str, at: &str, faults: &mut Faults) {
    if let Err(error) = crate::route::compile_regex(pattern) {
        fault(faults, at, error);
    }
}

fn destination_rule(spec: &DestinationRule, faults: &mut Faults) {
    if spec.host.is_empty() {
        fault(faults, "spec.host", "must not be empty");
    }
    if let Some(policy) = &spec.traffic_policy {
        traffic_policy(policy, "spec.trafficPolicy", faults);
    }
    for (i, subset) in spec.subsets.iter().enumerate() {
        if subset.name.is_empty() {
            fault(faults, format!("spec.subsets[{i}].name"), "must not be empty");
        }
        if let Some(policy) = &subset.traffic_policy {
            traffic_policy(policy, &format!("spec.subsets[{i}].trafficPolicy"), faults);
        }
    }
}

fn traffic_policy(policy: &TrafficPolicy, at: &str, faults: &mut Faults) {
    if let Some(warmup) = policy.load_balancer.as_ref().and_then(|lb| lb.warmup) {
        let at = format!("{at}.loadBalancer.warmup");
        if warmup.minimum_percent.is_some_and(|percent| !(0.0..=100.0).contains(&percent)) {
            fault(faults, format!("{at}.minimumPercent"), "must be from 0 to 100");
        }
        if warmup.aggression.is_some_and(|aggression| aggression < 1.0) {
            fault(faults, format!("{at}.aggression"), "must be at least 1");
        }
    }
}

fn gateway(spec: &Gateway, faults: &mut Faults) {
    if spec.servers.is_empty() {
        fault(faults, "spec.servers", "must not be empty");
    }
    for (i, server) in spec.servers.iter().enumerate() {
        if server.hosts.is_empty() {
            fault(faults, format!("spec.servers[{i}].hosts"), "must not be empty");
        }
    }
}

fn service_entry(spec: &ServiceEntry, faults: &mut Faults) {
    let resolution = spec.resolution.as_deref().unwrap_or("NONE");
    if spec.hosts.is_empty() {
        fault(faults, "spec.hosts", "must not be empty");
    }
    for (i, host) in spec.hosts.iter().enumerate() {
        if host == "*" {
            fault(faults, format!("spec.hosts[{i}]"), "hostname cannot be wildcard");
        }
    }
    if let Some(selector) = &spec.workload_selector {
        if !spec.endpoints.is_empty() {
            fault(faults, "spec.endpoints", "only one of workloadSelector or endpoints can be set");
        }
        if selector.labels.values().any(|value| value.contains('*')) {
            fault(faults, "spec.workloadSelector.labels", "wildcard is not supported in selector");
        }
    }
    for (i, address) in spec.addresses.iter().enumerate() {
        if address.contains('/') && !matches!(resolution, "NONE" | "STATIC") {
            let message = "CIDR addresses are allowed only for NONE/STATIC resolution types";
            fault(faults, format!("spec.addresses[{i}]"), message);
        }
    }
    for (i, port) in spec.ports.iter().enumerate() {
        let before = || spec.ports.iter().take(i);
        if before().any(|other| other.name == port.name) {
            fault(faults, format!("spec.ports[{i}].name"), format!("`{}` is there twice", port.name));
        }
        if before().any(|other| other.number == port.number) {
            fault(faults, format!("spec.ports[{i}].number"), "port number cannot be duplicated");
        }
        if port.number == 0 || port.target_port == Some(0) {
            fault(faults, format!("spec.ports[{i}]"), "port must be between 1-65535");
        }
    }
    match resolution {
        "NONE" if !spec.endpoints.is_empty() => {
            fault(faults, "spec.endpoints", "NONE mode cannot set endpoints");
        }
        "DNS_ROUND_ROBIN" if spec.endpoints.len() > 1 => {
            fault(faults, "spec.endpoints", "DNS_ROUND_ROBIN mode cannot have multiple endpoints");
        }
        "NONE" | "STATIC" | "DNS" | "DNS_ROUND_ROBIN" | "DYNAMIC_DNS" => {}
        other => fault(faults, "spec.resolution", format!("`{other}` is not a resolution")),
    }
}

/// Istio's rule for hosts of a VirtualService: `*`, `*.suffix`, or labels of letters, digits, - and _.
fn bad_host(host: &str) -> Option<String> {
    let rest = if host == "*" { "" } else { host.strip_prefix("*.").unwrap_or(host) };
    if host == "*" {
        return None;
    }
    if rest.parse::<std::net::IpAddr>().is_ok() {
        return None;
    }
    let good = rest.len() <= 255
        && rest.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        });
    (!good).then(|| format!("`{host}` is not a host name, and a wildcard may only stand as the first label"))
}
