//! To the upstream and back: endpoint, tries, timeouts.

use crate::body::{RequestBody, Upload};
use crate::cluster::{ClusterState, Member};
use crate::headers;
use crate::peer::Peer;
use crate::plan::{Plan, To};
use crate::pool::{Addresses, Endpoint, Failure, Lease, SendError, Wire};
use crate::record::{Record, Role};
use crate::reply::LocalReply;
use http::header::{COOKIE, HOST};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, Version, response};
use hyper::body::Incoming;
use pharos_mesh::{HeaderRules, PoolLimits, RetryPolicy, UpstreamProtocol};
use pharos_model::ResponseFlag;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// The upstream's response.
pub(crate) struct Answer {
    pub(crate) head: response::Parts,
    pub(crate) body: Incoming,
    pub(crate) lease: Lease,
    pub(crate) deadline: Option<Instant>,
    pub(crate) response_changes: Option<Arc<HeaderRules>>,
    pub(crate) cookie: Option<HeaderValue>,
}

/// Sends the request until an answer is to be passed on or no try is left.
pub(crate) async fn forward(
    record: &mut Record,
    mut plan: Plan,
    mut head: Parts,
    body: Incoming,
) -> Result<Answer, LocalReply> {
    start_upstream_span(record, &mut head.headers);
    let (upload, copies) = Upload::new(body, &record.request_body, record.grpc, plan.mirrors.len());
    for (cluster, copy) in plan.mirrors.drain(..).zip(copies) {
        mirror(record, &cluster, &head, copy);
    }
    if plan.announce {
        record.shared().exchange.announce(&mut head.headers);
    }
    match plan.timeout {
        None => tries(record, &plan, &head, &upload).await,
        Some(limit) => {
            let (progress, started) = (record.request_body.clone(), record.started);
            let expired = async {
                let end = progress.ended_at().await;
                sleep_until(end + limit).await;
            };
            tokio::select! {
                answer = tries(record, &plan, &head, &upload) => answer.map(|answer| Answer {
                    deadline: progress.ended_after().map(|after| started + after + limit),
                    ..answer
                }),
                () = expired => Err(LocalReply::timeout("response_timeout")),
            }
        }
    }
}

/// A gateway has two spans: its clients' request and its own.
fn start_upstream_span(record: &mut Record, fields: &mut HeaderMap) {
    if record.role == Role::Gateway
        && let Some(context) = record.trace
    {
        let child = context.child();
        child.inject(fields, &record.shared().tracing.inject);
        record.upstream_trace = Some((child, record.elapsed()));
    }
}

async fn tries(
    record: &mut Record,
    plan: &Plan,
    head: &Parts,
    upload: &Upload,
) -> Result<Answer, LocalReply> {
    let default_limits = PoolLimits::default();
    let mut tried: Vec<Arc<str>> = Vec::new();
    let allowed = plan.retries.as_ref().map_or(0, |policy| policy.attempts);
    loop {
        let (endpoint, limits, peer) = match &plan.to {
            To::Nowhere => return Err(LocalReply::no_cluster()),
            To::Address(endpoint) => (endpoint, &default_limits, None),
            To::Cluster(cluster) => {
                let avoid = plan.retries.as_ref().is_some_and(|p| p.avoid_previous_hosts);
                let avoided = if avoid { tried.as_slice() } else { &[] };
                match cluster.pick(plan.hash, avoided) {
                    None => return Err(LocalReply::no_healthy_upstream()),
                    Some(Member { endpoint, peer }) => (endpoint, &cluster.config.pool, Some(peer)),
                }
            }
        };
        record.attempts += 1;
        note_endpoint(record, endpoint, peer);
        let request = upstream_request(record, plan, head, upload)?;
        let sent_at = record.elapsed();
        record.marks.first_upstream_tx.get_or_insert(sent_at);
        let per_try = plan.retries.as_ref().and_then(|policy| policy.per_try_timeout);
        let outcome = send(endpoint, plan.wire, limits, request, per_try).await;

        let retry = plan.retries.as_ref().filter(|policy| retriable(policy, &outcome));
        if let Some(policy) = retry {
            if record.attempts <= allowed && upload.can_replay() {
                tried.push(endpoint.address().clone());
                // The response that is thrown away takes its connection along, unless it has ended.
                drop(outcome);
                sleep(backoff(policy, record.attempts)).await;
                continue;
            }
            if allowed > 0 && record.attempts > allowed {
                record.flags.insert(ResponseFlag::UpstreamRetryLimitExceeded);
            }
        }
        return match outcome {
            Ok((response, lease, addresses)) => {
                record.upstream_address = addresses.remote.or(record.upstream_address);
                record.upstream_local_address = addresses.local;
                record.marks.first_upstream_rx = Some(record.elapsed());
                let (mut parts, body) = response.into_parts();
                let ms = record.elapsed().saturating_sub(sent_at).as_millis();
                let ms = u64::try_from(ms).unwrap_or(u64::MAX);
                parts.headers.insert(headers::SERVICE_TIME, HeaderValue::from(ms));
                Ok(Answer {
                    head: parts,
                    body,
                    lease,
                    deadline: None,
                    response_changes: plan.response_changes.clone(),
                    cookie: plan.cookie.clone(),
                })
            }
            Err(TryError::TimedOut) => Err(LocalReply::timeout("upstream_per_try_timeout")),
            Err(TryError::Failed(error)) => Err(failed(record, &error)),
        };
    }
}

fn note_endpoint(record: &mut Record, endpoint: &Endpoint, peer: Option<&Arc<Peer>>) {
    record.upstream_address = endpoint.address().parse().ok();
    if let Some(peer) = peer {
        // Until the other proxy tells itself who it is.
        record.peer = Some(peer.clone());
    }
}

/// A response with the right to read it, or why there is none.
type Outcome = Result<(Response<Incoming>, Lease, Addresses), TryError>;

enum TryError {
    Failed(SendError),
    TimedOut,
}

async fn send(
    endpoint: &Arc<Endpoint>,
    wire: Wire,
    limits: &PoolLimits,
    request: Request<RequestBody>,
    per_try: Option<Duration>,
) -> Outcome {
    let sending = endpoint.send(wire, limits, request);
    let result = match per_try {
        None => sending.await,
        Some(limit) => timeout(limit, sending).await.map_err(|_| TryError::TimedOut)?,
    };
    result.map_err(TryError::Failed)
}

fn retriable(policy: &RetryPolicy, outcome: &Outcome) -> bool {
    let on = &policy.on;
    // No response counts as a server error to those who retry such.
    let no_response = on.any_5xx || on.gateway_error || on.reset;
    match outcome {
        Ok((response, ..)) => {
            let grpc = response.headers().get("grpc-status").and_then(|s| s.to_str().ok()?.parse().ok());
            policy.retries_response(response.status().as_u16(), grpc)
        }
        Err(TryError::TimedOut) => no_response,
        Err(TryError::Failed(error)) => {
            no_response
                || match error.failure {
                    Failure::Connect | Failure::ConnectTimeout | Failure::Dns => {
                        on.connect_failure || on.reset_before_request
                    }
                    Failure::Refused => on.refused_stream,
                    Failure::Terminated | Failure::Reset | Failure::Protocol => false,
                }
        }
    }
}

/// Fully jittered, doubling with each try up to ten times the base.
fn backoff(policy: &RetryPolicy, attempt: u32) -> Duration {
    let doubled = policy.backoff.saturating_mul(1 << attempt.saturating_sub(1).min(10));
    let ceiling = doubled.min(policy.backoff.saturating_mul(10));
    ceiling.mul_f64(rand::random::<f64>())
}

fn failed(record: &mut Record, error: &SendError) -> LocalReply {
    let reason = error.reason.replace(' ', "_");
    let (flag, word, words) = match error.failure {
        Failure::Connect => {
            record.failure_reason = reason.clone();
            (
                ResponseFlag::UpstreamConnectionFailure,
                format!("remote_connection_failure|{reason}"),
                format!("remote connection failure, transport failure reason: {}", error.reason),
            )
        }
        Failure::ConnectTimeout => {
            record.failure_reason = reason;
            (
                ResponseFlag::UpstreamConnectionFailure,
                "connection_timeout".to_owned(),
                "connection timeout".to_owned(),
            )
        }
        Failure::Dns => {
            record.failure_reason = reason;
            (
                ResponseFlag::DnsResolutionFailed,
                "dns_resolution_failure".to_owned(),
                "DNS resolution failure".to_owned(),
            )
        }
        Failure::Terminated => (
            ResponseFlag::UpstreamConnectionTermination,
            "connection_termination".to_owned(),
            "connection termination".to_owned(),
        ),
        Failure::Reset => {
            (ResponseFlag::UpstreamRemoteReset, "remote_reset".to_owned(), "remote reset".to_owned())
        }
        Failure::Refused => (
            ResponseFlag::UpstreamRemoteReset,
            "remote_refused_stream_reset".to_owned(),
            "remote refused stream reset".to_owned(),
        ),
        Failure::Protocol => {
            (ResponseFlag::UpstreamProtocolError, "protocol_error".to_owned(), "protocol error".to_owned())
        }
    };
    let status = match error.failure {
        Failure::Protocol => StatusCode::BAD_GATEWAY,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    LocalReply::new(status, format!("upstream_reset_before_response_started{{{word}}}"))
        .flag(flag)
        .text(format!("upstream connect error or disconnect/reset before headers. reset reason: {words}"))
}

/// The request for one try.
fn upstream_request(
    record: &Record,
    plan: &Plan,
    head: &Parts,
    upload: &Upload,
) -> Result<Request<RequestBody>, LocalReply> {
    let mut request = build(plan.wire, head, upload.body())?;
    if record.role != Role::Inbound {
        request.headers_mut().insert(headers::ATTEMPT_COUNT, HeaderValue::from(record.attempts));
    }
    Ok(request)
}

/// HTTP/1 wants the path and a Host header, HTTP/2 an absolute URI in their place.
fn build(wire: Wire, head: &Parts, body: RequestBody) -> Result<Request<RequestBody>, LocalReply> {
    let mut fields = head.headers.clone();
    let path = head.uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
    let bad = |_| LocalReply::bad_request("invalid_authority");
    let (uri, version) = match wire {
        Wire::Http1 => {
            join_cookies(&mut fields);
            let mut parts = http::uri::Parts::default();
            parts.path_and_query = Some(path);
            (Uri::from_parts(parts), Version::HTTP_11)
        }
        Wire::Http2 => {
            let host = fields.remove(HOST).unwrap_or(HeaderValue::from_static(""));
            let mut parts = http::uri::Parts::default();
            parts.scheme = Some(http::uri::Scheme::HTTP);
            parts.authority = host.as_bytes().try_into().ok();
            parts.path_and_query = Some(path);
            (Uri::from_parts(parts), Version::HTTP_2)
        }
    };
    let mut request = Request::new(body);
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = uri.map_err(bad)?;
    *request.version_mut() = version;
    *request.headers_mut() = fields;
    Ok(request)
}

/// HTTP/2 may cut the Cookie header into crumbs; HTTP/1 allows one line.
fn join_cookies(fields: &mut HeaderMap) {
    if fields.get_all(COOKIE).iter().nth(1).is_some() {
        let crumbs: Vec<&[u8]> = fields.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
        if let Ok(joined) = HeaderValue::try_from(crumbs.join(&b"; "[..])) {
            fields.insert(COOKIE, joined);
        }
    }
}

/// Sends a copy and forgets it. It is marked as not to be traced, as in Envoy.
fn mirror(record: &Record, cluster: &Arc<ClusterState>, head: &Parts, copy: RequestBody) {
    let Some(member) = cluster.pick(None, &[]).cloned() else { return };
    let wire = match cluster.config.upstream {
        UpstreamProtocol::Http2 => Wire::Http2,
        UpstreamProtocol::Http1 | UpstreamProtocol::SameAsClient => Wire::Http1,
    };
    let mut head = head.clone();
    if let Some(context) = record.trace {
        let unsampled = crate::trace::Context { sampled: false, debug: false, ..context.child() };
        unsampled.inject(&mut head.headers, &record.shared().tracing.inject);
    }
    if !cluster.config.service.external {
        record.shared().exchange.announce(&mut head.headers);
    }
    let Ok(request) = build(wire, &head, copy) else { return };
    let cluster = cluster.clone();
    tokio::spawn(async move {
        /// The longest that a copy nobody waits for may take.
        const LIMIT: Duration = Duration::from_secs(15);
        let sending = async {
            let (response, lease, _) =
                member.endpoint.send(wire, &cluster.config.pool, request).await.ok()?;
            let mut body = response.into_body();
            while let Some(Ok(_)) = http_body_util::BodyExt::frame(&mut body).await {}
            lease.give_back();
            Some(())
        };
        let _ = timeout(LIMIT, sending).await;
    });
}
