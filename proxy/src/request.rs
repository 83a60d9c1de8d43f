//! The life of a request, from its head to the head of its answer.

use crate::body::{BoxError, ResponseBody};
use crate::forward::{self, Answer};
use crate::headers::{self, DECORATOR, REQUEST_ID};
use crate::listen::Listener;
use crate::plan::{self, Plan};
use crate::record::{Connection, Record, Role, Target as Destination};
use crate::reply::LocalReply;
use crate::state::Snapshot;
use crate::trace::{self, Context, Incoming as IncomingTrace};
use bytes::Bytes;
use http::header::{HOST, ORIGIN, SERVER, VARY};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use pharos_mesh::{AbortStatus, Action, Cors, Decision, FaultPolicy, Forward, RequestView, Route, Target};
use pharos_model::ResponseFlag;
use std::sync::Arc;

const OUR_NAME: HeaderValue = HeaderValue::from_static("pharos-proxy");

/// Answers one request. Whatever becomes of it is told exactly once, also when the client goes away and
/// this future is dropped.
pub(crate) async fn serve(
    listener: Arc<Listener>,
    connection: Arc<Connection>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, BoxError> {
    let (head, body) = request.into_parts();
    let mut record = Record::begin(&listener, &connection, &head);
    let mut context = Exchange { announced: false, route: None, cors: None };
    match handle(&listener, &mut record, &mut context, head, body).await {
        Ok(answer) => Ok(context.respond(record, answer)),
        Err(reply) => Ok(context.reply(record, reply)),
    }
}

/// What the way to the upstream leaves behind for the way back.
struct Exchange {
    /// The client is a proxy that told its name, and wants to know ours.
    announced: bool,
    route: Option<Arc<Route>>,
    cors: Option<(Arc<Cors>, HeaderValue)>,
}

async fn handle(
    listener: &Listener,
    record: &mut Box<Record>,
    exchange: &mut Exchange,
    mut head: Parts,
    body: Incoming,
) -> Result<Answer, LocalReply> {
    check(record, &head)?;
    name_host(record, &mut head);
    receive(listener, record, exchange, &mut head.headers);
    start_trace(record, &mut head.headers);
    let plan = match listener.role {
        Role::Inbound => inbound_plan(listener, record),
        Role::Outbound | Role::Gateway => {
            let snapshot = record.shared().snapshot.load_full();
            route(listener, &snapshot, record, exchange, &mut head).await?
        }
    };
    forward::forward(record, plan, head, body).await
}

/// What no route may see. hyper has refused what is not HTTP at all.
fn check(record: &Record, head: &Parts) -> Result<(), LocalReply> {
    if head.method == Method::CONNECT {
        return Err(LocalReply::bad_request("connect_rejected"));
    }
    if record.authority.is_empty() {
        return Err(LocalReply::bad_request("missing_host_header"));
    }
    if head.headers.get_all(HOST).iter().count() > 1 {
        return Err(LocalReply::bad_request("several_host_headers"));
    }
    Ok(())
}

/// HTTP/2 has the authority in the URI, and so has HTTP/1 in its absolute form, where it wins.
fn name_host(record: &Record, head: &mut Parts) {
    if head.uri.authority().is_some()
        && let Ok(authority) = HeaderValue::try_from(record.authority.as_str())
    {
        head.headers.insert(HOST, authority);
    }
}

/// Takes off what ends here and notes who sent it.
fn receive(listener: &Listener, record: &mut Record, exchange: &mut Exchange, fields: &mut HeaderMap) {
    headers::strip_hop_by_hop(fields);
    let client = record.connection.remote.ip();
    match listener.role {
        Role::Gateway => {
            headers::sanitize_at_edge(fields, client);
            record.forwarded_for = headers::append_forwarded_for(fields, client);
            fields.insert(headers::FORWARDED_PROTO, HeaderValue::from_static(record.scheme));
        }
        Role::Outbound => {
            // An app has no business in naming itself a proxy.
            record.shared().exchange.take(fields);
            fields.entry(headers::FORWARDED_PROTO).or_insert(HeaderValue::from_static(record.scheme));
        }
        Role::Inbound => {
            exchange.announced = fields.contains_key(crate::peer::METADATA_ID);
            record.peer = record.shared().exchange.take(fields);
            fields.entry(headers::FORWARDED_PROTO).or_insert(HeaderValue::from_static(record.scheme));
            // The client's proxy knows best what its request is called.
            let named = fields.remove(DECORATOR).and_then(|name| name.to_str().ok().map(Arc::from));
            if let Some(name) = named {
                record.span_name = name;
            }
        }
    }
}

/// Gives the request an id and a place in a trace.
fn start_trace(record: &mut Record, fields: &mut HeaderMap) {
    let had_id = fields.contains_key(REQUEST_ID);
    record.request_id = headers::ensure_request_id(fields);
    let shared = record.shared().clone();
    let tracing = &shared.tracing;
    let decide = |request_id: &str, fields: &HeaderMap| {
        headers::traced_by_id(request_id)
            || fields.contains_key(headers::FORCE_TRACE)
            || f64::from(headers::sampling_bucket(request_id)) < tracing.sampling_percent * 100.0
    };
    let context = match trace::extract(fields, &tracing.extract) {
        IncomingTrace::Broken => None,
        IncomingTrace::New { sampled, debug } => Some(Context {
            trace_id: trace::new_trace_id(),
            span_id: trace::new_span_id(),
            parent: None,
            sampled: sampled.unwrap_or_else(|| decide(&record.request_id, fields)),
            debug,
        }),
        IncomingTrace::Continue { trace_id, span_id, sampled, debug } => Some(Context {
            trace_id,
            span_id: trace::new_span_id(),
            parent: Some(span_id),
            sampled: sampled.unwrap_or_else(|| decide(&record.request_id, fields)),
            debug,
        }),
    };
    if let Some(context) = &context {
        if context.sampled && !had_id {
            headers::mark_traced(&mut record.request_id);
            if let Ok(id) = HeaderValue::try_from(record.request_id.as_str()) {
                fields.insert(REQUEST_ID, id);
            }
        }
        context.inject(fields, &tracing.inject);
    }
    record.trace = context;
}

/// To the app behind us.
fn inbound_plan(listener: &Listener, record: &mut Record) -> Plan {
    record.route_name = "default".into();
    let Some(app) = &listener.app else { return Plan::nowhere() };
    record.cluster_name = app.cluster_name.clone();
    record.target = Destination::Own(app.service.clone());
    if record.span_name.is_empty() {
        record.span_name = app.operation.clone();
    }
    Plan::to_app(app, record.version, record.grpc)
}

/// Finds the route and does what can be done without an upstream.
async fn route(
    listener: &Listener,
    snapshot: &Snapshot,
    record: &mut Record,
    exchange: &mut Exchange,
    head: &mut Parts,
) -> Result<Plan, LocalReply> {
    let (host, own_port) = pharos_mesh::split_authority(&record.authority);
    let port = listener.port.or(own_port).unwrap_or(80);
    let decision = {
        let (path, query) = match record.path.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (record.path.as_str(), None),
        };
        let view = RequestView {
            method: head.method.as_str(),
            scheme: record.scheme,
            authority: &record.authority,
            path,
            query,
            headers: &head.headers,
        };
        snapshot.table.decide(port, &host, &view)
    };
    let route = match decision {
        Decision::Route(route) => route.clone(),
        Decision::NoRoute => {
            record.span_name = record.authority.as_str().into();
            return Err(LocalReply::no_route());
        }
        Decision::RedirectToHttps => {
            record.span_name = record.authority.as_str().into();
            let location = format!("https://{host}{}", record.path);
            return Err(LocalReply::redirect(301, &location));
        }
        Decision::BlockAll => {
            record.route_name = "block_all".into();
            record.span_name = "block_all".into();
            record.target = Destination::BlackHole;
            return Err(LocalReply::new(StatusCode::BAD_GATEWAY, "direct_response"));
        }
        Decision::Passthrough => {
            record.route_name = "allow_any".into();
            record.span_name = "allow_any".into();
            record.cluster_name = "PassthroughCluster".into();
            record.target = Destination::Passthrough;
            let address = format!("{host}:{}", own_port.unwrap_or(port));
            let loops = address.parse().is_ok_and(|address| record.shared().own_addresses.contains(&address));
            if loops {
                return Err(LocalReply::new(StatusCode::LOOP_DETECTED, "loop_detected"));
            }
            return Ok(Plan::passthrough(record.shared().passthrough(address)));
        }
    };
    record.route_name = route.name.clone();
    record.span_name = route.operation.clone();
    exchange.route = Some(route.clone());
    let chosen = match &route.action {
        Action::Forward(forward) => {
            let chosen = plan::choose(forward);
            let name = match chosen.map(|target| &target.target) {
                Some(Target::Known(cluster)) => {
                    record.target = Destination::Service(cluster.service.clone());
                    cluster.name.clone()
                }
                Some(Target::Missing(name)) => name.clone(),
                None => "".into(),
            };
            record.cluster_name = name;
            chosen
        }
        Action::Redirect(_) | Action::DirectResponse { .. } => None,
    };
    inject_faults(record, &route.fault).await?;
    if let Some(cors) = &route.cors {
        apply_cors(exchange, cors, head)?;
    }
    match (&route.action, chosen) {
        (Action::Redirect(redirect), _) => {
            let location = redirect.location(record.scheme, &record.authority, port, &record.path);
            Err(LocalReply::redirect(redirect.status, &location))
        }
        (Action::DirectResponse { status, body }, _) => {
            let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            Err(LocalReply::new(status, "direct_response").text(Bytes::copy_from_slice(body)))
        }
        (Action::Forward(Forward { .. }), Some(target)) => plan::plan(record, snapshot, &route, target, head),
        (Action::Forward(_), None) => Err(LocalReply::no_cluster()),
    }
}

/// The delay first, then the abort; each by its own draw. Both come before the router, so that the
/// route's timeout does not cover the delay and no retry repeats them.
async fn inject_faults(record: &mut Record, fault: &FaultPolicy) -> Result<(), LocalReply> {
    let drawn = |share: pharos_mesh::Share| share.contains(rand::random_range(0..1_000_000));
    if let Some((delay, share)) = fault.delay
        && drawn(share)
    {
        record.flags.insert(ResponseFlag::DelayInjected);
        tokio::time::sleep(delay).await;
    }
    if let Some((status, share)) = fault.abort
        && drawn(share)
    {
        let (http, grpc) = match status {
            AbortStatus::Http(status) => {
                (StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), None)
            }
            AbortStatus::Grpc(status) => (StatusCode::OK, Some(status)),
        };
        let mut reply = LocalReply::new(http, "fault_filter_abort")
            .flag(ResponseFlag::FaultInjected)
            .text("fault filter abort");
        reply.grpc_status = grpc;
        return Err(reply);
    }
    Ok(())
}

/// Answers a preflight, and remembers the origin for the answer to any other request.
fn apply_cors(exchange: &mut Exchange, cors: &Arc<Cors>, head: &Parts) -> Result<(), LocalReply> {
    const REQUESTED_METHOD: &str = "access-control-request-method";
    let Some(origin) = head.headers.get(ORIGIN) else { return Ok(()) };
    let preflight = head.method == Method::OPTIONS && head.headers.contains_key(REQUESTED_METHOD);
    if !origin.to_str().is_ok_and(|origin| cors.allows(origin)) {
        return if preflight && !cors.forward_unmatched_preflights {
            Err(LocalReply::new(StatusCode::OK, "cors_response"))
        } else {
            Ok(())
        };
    }
    if preflight {
        let mut reply = LocalReply::new(StatusCode::OK, "cors_response");
        let optional = [
            ("access-control-allow-methods", &cors.allow_methods),
            ("access-control-allow-headers", &cors.allow_headers),
            ("access-control-max-age", &cors.max_age_s),
        ];
        let mut push = |name: &'static str, value: HeaderValue| {
            reply.headers.push((HeaderName::from_static(name), value));
        };
        for (name, value) in optional {
            if let Some(value) = value {
                push(name, value.clone());
            }
        }
        push("access-control-allow-origin", origin.clone());
        if cors.allow_credentials {
            push("access-control-allow-credentials", HeaderValue::from_static("true"));
        }
        return Err(reply);
    }
    exchange.cors = Some((cors.clone(), origin.clone()));
    Ok(())
}

impl Exchange {
    /// The upstream's answer, on its way to the client.
    fn respond(self, mut record: Box<Record>, answer: Answer) -> Response<ResponseBody> {
        let Answer { mut head, body, lease, deadline, response_changes, cookie } = answer;
        headers::strip_hop_by_hop(&mut head.headers);
        let announced = record.shared().exchange.take(&mut head.headers);
        if record.role != Role::Inbound {
            record.peer = announced.or(record.peer.take());
        }
        if let Some(route) = &self.route {
            route.headers.response.apply(&mut head.headers);
        }
        if let Some(target) = response_changes {
            target.response.apply(&mut head.headers);
        }
        if let Some(cookie) = cookie {
            head.headers.append(http::header::SET_COOKIE, cookie);
        }
        self.add_cors(&mut head.headers);
        if record.role == Role::Inbound && self.announced {
            record.shared().exchange.announce(&mut head.headers);
        }
        finish_response_headers(&record, &mut head.headers);
        record.details = "via_upstream".into();
        record.respond(head.status, &head.headers);
        let mut response = Response::new(ResponseBody::upstream(body, lease, record, deadline));
        *response.status_mut() = head.status;
        *response.headers_mut() = head.headers;
        response
    }

    /// An answer of our own.
    fn reply(self, record: Box<Record>, mut reply: LocalReply) -> Response<ResponseBody> {
        let mut added = HeaderMap::new();
        if let Some(route) = &self.route {
            route.headers.response.apply(&mut added);
        }
        self.add_cors(&mut added);
        if record.role == Role::Inbound && self.announced {
            record.shared().exchange.announce(&mut added);
        }
        reply.headers.extend(added.into_iter().filter_map(|(name, value)| Some((name?, value))));
        reply.send(record)
    }

    fn add_cors(&self, fields: &mut HeaderMap) {
        let Some((cors, origin)) = &self.cors else { return };
        fields.insert("access-control-allow-origin", origin.clone());
        fields.append(VARY, HeaderValue::from_static("Origin"));
        if let Some(exposed) = &cors.expose_headers {
            fields.insert("access-control-expose-headers", exposed.clone());
        }
        if cors.allow_credentials {
            fields.insert("access-control-allow-credentials", HeaderValue::from_static("true"));
        }
    }
}

/// The last touch on every response: a gateway speaks in its own name, a sidecar only where nobody did.
pub(crate) fn finish_response_headers(record: &Record, fields: &mut HeaderMap) {
    if record.role == Role::Gateway {
        fields.insert(SERVER, OUR_NAME);
    } else {
        fields.entry(SERVER).or_insert(OUR_NAME);
    }
}
