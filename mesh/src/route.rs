//! Routes as plain data: what a request has to look like, and what is done with it.

mod compile;
mod delegate;
mod matcher;

pub(crate) use compile::{GatewayName, Viewer, default_route, routes_of};
pub(crate) use matcher::compile_regex;
pub use matcher::{HeaderCondition, Matcher, PathMatch, RequestView, ValueMatch};

use crate::cluster::Cluster;
use crate::cors::Cors;
use std::sync::Arc;
use std::time::Duration;

/// One entry of a virtual host. The first whose matcher accepts a request decides.
#[derive(Debug, Clone)]
pub struct Route {
    /// The VirtualService's `name`, `name.matchname`, empty for an unnamed one; `default` where the
    /// service has none.
    pub name: Arc<str>,
    /// Name of the client span, `<host>:<port><path>`.
    pub operation: Arc<str>,
    /// The same as a header, for the proxy at the other end.
    pub operation_header: Option<http::HeaderValue>,
    /// `namespace/name` of the VirtualService it comes from.
    pub virtual_service: Option<Arc<str>>,
    pub matcher: Matcher,
    pub fault: FaultPolicy,
    pub cors: Option<Arc<Cors>>,
    pub headers: HeaderRules,
    pub action: Action,
}

#[derive(Debug, Clone)]
pub enum Action {
    Forward(Forward),
    Redirect(Redirection),
    DirectResponse { status: u16, body: Vec<u8> },
}

#[derive(Debug, Clone)]
pub struct Forward {
    /// At least one; those with weight 0 are left out.
    pub targets: Vec<WeightedTarget>,
    pub total_weight: u32,
    pub path: Option<PathRewrite>,
    /// New Host header.
    pub authority: Option<http::HeaderValue>,
    /// From the request's end to the response's end; `None` is no limit, Istio's default.
    pub timeout: Option<Duration>,
    pub retries: Option<Arc<RetryPolicy>>,
    pub mirrors: Vec<Mirror>,
}

#[derive(Debug, Clone)]
pub struct WeightedTarget {
    pub weight: u32,
    pub target: Target,
    pub headers: Arc<HeaderRules>,
    pub authority: Option<http::HeaderValue>,
}

/// A cluster, or the name of one that does not exist (a subset without a DestinationRule, …).
#[derive(Debug, Clone)]
pub enum Target {
    Known(Arc<Cluster>),
    Missing(Arc<str>),
}

#[derive(Debug, Clone)]
pub struct Mirror {
    pub target: Target,
    pub share: Share,
}

/// A probability in millionths, Envoy's precision for faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Share(pub u32);

impl Share {
    pub const ALL: Self = Self(1_000_000);

    pub(crate) fn from_percent(percent: f64) -> Self {
        // A float to integer cast saturates, so that no percentage can leave the range.
        Self((percent * 10_000.0).round().clamp(0.0, 1e6) as u32)
    }

    /// True when a `draw` from 0 to 999 999 falls into the share.
    pub fn contains(self, draw: u32) -> bool {
        draw < self.0
    }
}

#[derive(Debug, Clone, Default)]
pub struct FaultPolicy {
    pub delay: Option<(Duration, Share)>,
    pub abort: Option<(AbortStatus, Share)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AbortStatus {
    Http(u16),
    Grpc(u16),
}

/// Changes to the headers of requests and responses. Applied in this order: remove, set, add.
#[derive(Debug, Clone, Default)]
pub struct HeaderRules {
    pub request: HeaderChanges,
    pub response: HeaderChanges,
}

#[derive(Debug, Clone, Default)]
pub struct HeaderChanges {
    pub remove: Vec<http::HeaderName>,
    pub set: Vec<(http::HeaderName, http::HeaderValue)>,
    pub add: Vec<(http::HeaderName, http::HeaderValue)>,
}

impl HeaderChanges {
    pub fn apply(&self, headers: &mut http::HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name.clone(), value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name.clone(), value.clone());
        }
    }
}

/// How the path sent upstream comes about. The query is kept.
#[derive(Debug, Clone)]
pub enum PathRewrite {
    /// The first `matched_len` bytes are replaced.
    Prefix {
        matched_len: usize,
        replacement: String,
    },
    Whole(String),
    Regex {
        pattern: regex::Regex,
        substitution: String,
    },
}

impl PathRewrite {
    /// The new path for `path`, which has no query.
    pub fn apply(&self, path: &str) -> String {
        match self {
            Self::Prefix { matched_len, replacement } => {
                format!("{replacement}{}", path.get(*matched_len..).unwrap_or_default())
            }
            Self::Whole(replacement) => replacement.clone(),
            Self::Regex { pattern, substitution } => {
                pattern.replace_all(path, substitution.as_str()).into_owned()
            }
        }
    }
}

#[derive(Debug, Clone)]
pub struct Redirection {
    pub status: u16,
    /// `http` or `https`; the request's when absent.
    pub scheme: Option<String>,
    /// The request's authority when absent.
    pub authority: Option<String>,
    pub port: RedirectPort,
    pub path: Option<PathRewrite>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedirectPort {
    /// Whatever stands in the authority.
    Unchanged,
    Fixed(u16),
    /// None: the scheme's own.
    SchemeDefault,
    /// That of the listener.
    Request,
}

impl Redirection {
    /// The Location for a request to `path_and_query` with this scheme and authority on `listener_port`.
    pub fn location(
        &self,
        scheme: &str,
        authority: &str,
        listener_port: u16,
        path_and_query: &str,
    ) -> String {
        let new_scheme = self.scheme.as_deref().unwrap_or(scheme);
        let host = self.authority.as_deref().unwrap_or(authority);
        let default_port = |scheme: &str| if scheme == "https" { 443 } else { 80 };
        let (host, own_port) = split_port(host);
        let port = match self.port {
            RedirectPort::Unchanged => {
                // The port that was the old scheme's default means nothing under the new one.
                if self.authority.is_none() && new_scheme != scheme && own_port == Some(default_port(scheme))
                {
                    None
                } else {
                    own_port
                }
            }
            RedirectPort::Fixed(port) => Some(port).filter(|port| *port != default_port(new_scheme)),
            RedirectPort::SchemeDefault => None,
            RedirectPort::Request => Some(listener_port).filter(|port| *port != default_port(new_scheme)),
        };
        let (path, query) = match path_and_query.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path_and_query, None),
        };
        let path = self.path.as_ref().map_or_else(|| path.to_owned(), |rewrite| rewrite.apply(path));
        let mut location = format!("{new_scheme}://{host}");
        if let Some(port) = port {
            location.push_str(&format!(":{port}"));
        }
        location.push_str(&path);
        if let Some(query) = query.filter(|_| !path.contains('?')) {
            location.push('?');
            location.push_str(query);
        }
        location
    }
}

fn split_port(authority: &str) -> (&str, Option<u16>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => match port.parse() {
            Ok(port) => (host, Some(port)),
            Err(_) => (authority, None),
        },
        _ => (authority, None),
    }
}

/// When and how often a request is sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Retries after the first try.
    pub attempts: u32,
    pub on: RetryOn,
    /// For `retriable-status-codes`.
    pub status_codes: Vec<u16>,
    pub per_try_timeout: Option<Duration>,
    /// Base of the jittered exponential back-off, which ends at ten times this.
    pub backoff: Duration,
    /// Prefer an endpoint that has not been tried for this request.
    pub avoid_previous_hosts: bool,
}

/// Envoy's retry conditions, those with an effect here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RetryOn {
    pub any_5xx: bool,
    pub gateway_error: bool,
    pub reset: bool,
    pub reset_before_request: bool,
    pub connect_failure: bool,
    pub refused_stream: bool,
    pub retriable_4xx: bool,
    pub status_codes: bool,
    pub rate_limited: bool,
    /// gRPC statuses, one bit per code.
    pub grpc: u32,
}

impl RetryPolicy {
    const DEFAULT_ON: &'static str =
        "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes";

    /// Istio's own policy, for routes that set none.
    pub fn istio_default() -> Self {
        Self::parse(2, "", None, None, None)
    }

    /// Istio's own policy for what arrives for an app: only requests of which nothing was sent.
    pub fn inbound_default() -> Self {
        Self::parse(2, "reset-before-request", None, None, None)
    }

    pub(crate) fn parse(
        attempts: u32,
        retry_on: &str,
        per_try_timeout: Option<Duration>,
        backoff: Option<Duration>,
        avoid_previous_hosts: Option<bool>,
    ) -> Self {
        let retry_on = if retry_on.trim().is_empty() { Self::DEFAULT_ON } else { retry_on };
        let mut on = RetryOn::default();
        let mut status_codes = Vec::new();
        for condition in retry_on.split(',').map(str::trim) {
            match condition {
                "5xx" => on.any_5xx = true,
                "gateway-error" => on.gateway_error = true,
                "reset" => on.reset = true,
                "reset-before-request" => on.reset_before_request = true,
                "connect-failure" => on.connect_failure = true,
                "refused-stream" => on.refused_stream = true,
                "retriable-4xx" => on.retriable_4xx = true,
                "retriable-status-codes" => on.status_codes = true,
                "envoy-ratelimited" => on.rate_limited = true,
                "cancelled" => on.grpc |= 1 << 1,
                "deadline-exceeded" => on.grpc |= 1 << 4,
                "resource-exhausted" => on.grpc |= 1 << 8,
                "internal" => on.grpc |= 1 << 13,
                "unavailable" => on.grpc |= 1 << 14,
                other => {
                    if let Ok(code) = other.parse() {
                        on.status_codes = true;
                        status_codes.push(code);
                    }
                }
            }
        }
        Self {
            attempts,
            on,
            status_codes,
            per_try_timeout: per_try_timeout.filter(|t| !t.is_zero()),
            backoff: backoff.filter(|b| !b.is_zero()).unwrap_or(Duration::from_millis(25)),
            avoid_previous_hosts: avoid_previous_hosts.unwrap_or(true),
        }
    }

    /// True when a response with this status, and this gRPC status if it has one, is to be retried.
    pub fn retries_response(&self, status: u16, grpc_status: Option<u32>) -> bool {
        let on = &self.on;
        on.any_5xx && (500..600).contains(&status)
            || on.gateway_error && matches!(status, 502..=504)
            || on.retriable_4xx && status == 409
            || on.status_codes && self.status_codes.contains(&status)
            || on.rate_limited && status == 429
            || grpc_status.is_some_and(|code| code < 32 && on.grpc & (1 << code) != 0)
    }
}

/// The number of a gRPC status given by name or number.
pub(crate) fn grpc_status_code(status: &str) -> Option<u16> {
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    let by_name = NAMES.iter().position(|name| name.eq_ignore_ascii_case(status));
    let code = by_name.or_else(|| status.parse().ok().filter(|code| *code < NAMES.len()))?;
    u16::try_from(code).ok()
}
