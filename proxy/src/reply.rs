//! Answers that the proxy gives itself. Each names its status, its text, Envoy's flag and details, in
//! one place, so that response, metrics and logs agree.

use crate::body::ResponseBody;
use crate::record::Record;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use pharos_model::ResponseFlag;
use std::borrow::Cow;

#[derive(Debug)]
pub(crate) struct LocalReply {
    pub(crate) status: StatusCode,
    pub(crate) text: Bytes,
    pub(crate) details: Cow<'static, str>,
    pub(crate) flags: smallvec::SmallVec<[ResponseFlag; 2]>,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// For a gRPC client; derived from the status when absent.
    pub(crate) grpc_status: Option<u16>,
}

impl LocalReply {
    pub(crate) fn new(status: StatusCode, details: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            text: Bytes::new(),
            details: details.into(),
            flags: smallvec::SmallVec::new(),
            headers: Vec::new(),
            grpc_status: None,
        }
    }

    pub(crate) fn text(mut self, text: impl Into<Bytes>) -> Self {
        self.text = text.into();
        self
    }

    pub(crate) fn flag(mut self, flag: ResponseFlag) -> Self {
        self.flags.push(flag);
        self
    }

    pub(crate) fn bad_request(details: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, details).flag(ResponseFlag::DownstreamProtocolError)
    }

    pub(crate) fn no_route() -> Self {
        Self::new(StatusCode::NOT_FOUND, "route_not_found").flag(ResponseFlag::NoRouteFound)
    }

    pub(crate) fn no_cluster() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "cluster_not_found").flag(ResponseFlag::NoClusterFound)
    }

    pub(crate) fn no_healthy_upstream() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "no_healthy_upstream")
            .flag(ResponseFlag::NoHealthyUpstream)
            .text("no healthy upstream")
    }

    pub(crate) fn timeout(details: &'static str) -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, details)
            .flag(ResponseFlag::UpstreamRequestTimeout)
            .text("upstream request timeout")
    }

    /// To `location`, or 400 when that cannot stand in a header.
    pub(crate) fn redirect(status: u16, location: &str) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::MOVED_PERMANENTLY);
        match HeaderValue::try_from(location) {
            Ok(location) => {
                let mut reply = Self::new(status, "direct_response");
                reply.headers.push((LOCATION, location));
                reply
            }
            Err(_) => Self::bad_request("bad_redirect_location"),
        }
    }

    /// The response to the client, noted in the record. A gRPC client gets its own form of an error:
    /// HTTP 200 with the status among the headers.
    pub(crate) fn send(self, mut record: Box<Record>) -> Response<ResponseBody> {
        for flag in &self.flags {
            record.flags.insert(*flag);
        }
        record.details = self.details;
        let mut headers = HeaderMap::with_capacity(8);
        let (mut status, mut text) = (self.status, self.text);
        let redirect = status.is_redirection();
        if record.grpc && !redirect && (self.grpc_status.is_some() || !status.is_success()) {
            let code = self.grpc_status.unwrap_or_else(|| grpc_of_http(status));
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            headers.insert("grpc-status", HeaderValue::from(code));
            if let Ok(message) = HeaderValue::try_from(percent_encode(&text)) {
                headers.insert("grpc-message", message);
            }
            (status, text) = (StatusCode::OK, Bytes::new());
        } else if !text.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        }
        for (name, value) in self.headers {
            headers.insert(name, value);
        }
        super::request::finish_response_headers(&record, &mut headers);
        record.respond(status, &headers);
        record.response_body_bytes = text.len() as u64;
        let mut response = Response::new(ResponseBody::local(text, record));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}

/// gRPC's own mapping, with 503 and its kin as Unavailable.
fn grpc_of_http(status: StatusCode) -> u16 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// As gRPC asks for messages: everything but printable ASCII, and the percent sign itself.
fn percent_encode(text: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text {
        match byte {
            b'%' => out.push_str("%25"),
            0x20..=0x7e => out.push(char::from(*byte)),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}
