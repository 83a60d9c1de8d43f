//! Headers that end at a proxy or are made by it.

use http::header::{CONNECTION, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::net::IpAddr;

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(crate) const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(crate) const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(crate) const ATTEMPT_COUNT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");
pub(crate) const SERVICE_TIME: HeaderName = HeaderName::from_static("x-envoy-upstream-service-time");
pub(crate) const DECORATOR: HeaderName = HeaderName::from_static("x-envoy-decorator-operation");
pub(crate) const ORIGINAL_PATH: HeaderName = HeaderName::from_static("x-envoy-original-path");
pub(crate) const EXPECTED_TIMEOUT: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");
pub(crate) const FORCE_TRACE: HeaderName = HeaderName::from_static("x-envoy-force-trace");
pub(crate) const INTERNAL: HeaderName = HeaderName::from_static("x-envoy-internal");
pub(crate) const DOWNSTREAM_CLUSTER: HeaderName =
    HeaderName::from_static("x-envoy-downstream-service-cluster");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Headers that only a proxy of the mesh may set; taken off what comes from outside.
const FROM_INSIDE_ONLY: [&str; 18] = [
    "x-envoy-decorator-operation",
    "x-envoy-downstream-service-cluster",
    "x-envoy-downstream-service-node",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-external-address",
    "x-envoy-force-trace",
    "x-envoy-internal",
    "x-envoy-ip-tags",
    "x-envoy-max-retries",
    "x-envoy-original-dst-host",
    "x-envoy-original-path",
    "x-envoy-retry-grpc-on",
    "x-envoy-retry-on",
    "x-envoy-upstream-alt-stat-name",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-upstream-rq-timeout-alt-response",
    "x-envoy-upstream-rq-timeout-ms",
    "x-forwarded-client-cert",
];

/// Names that a `Connection` header cannot take away from the next hop.
const KEPT: [&str; 6] =
    ["host", "authorization", "x-forwarded-for", "x-forwarded-proto", "x-request-id", "content-length"];

/// Removes what concerns one connection only. `te: trailers` stays: gRPC needs it.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| HeaderName::try_from(name.trim()).ok())
            .filter(|name| !KEPT.contains(&name.as_str()) && *name != TE)
            .collect();
        for name in named {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    for name in [KEEP_ALIVE, PROXY_CONNECTION, TRANSFER_ENCODING, UPGRADE, HTTP2_SETTINGS] {
        headers.remove(name);
    }
    if headers.get(TE).is_some_and(|te| te != "trailers") {
        let trailers =
            headers.get_all(TE).iter().filter_map(|te| te.to_str().ok()).any(|te| te.contains("trailers"));
        headers.remove(TE);
        if trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
    }
}

/// At the edge: nobody outside speaks for the mesh. Private clients count as inside, as in Envoy.
pub(crate) fn sanitize_at_edge(headers: &mut HeaderMap, client: IpAddr) {
    for name in [crate::peer::METADATA, crate::peer::METADATA_ID, DECORATOR, ORIGINAL_PATH] {
        headers.remove(name);
    }
    if is_private(client) {
        headers.insert(INTERNAL, HeaderValue::from_static("true"));
        return;
    }
    for name in FROM_INSIDE_ONLY {
        headers.remove(name);
    }
    headers.remove(REQUEST_ID);
}

fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local(),
    }
}

/// Appends the client to `x-forwarded-for`, on one line, which is returned.
pub(crate) fn append_forwarded_for(headers: &mut HeaderMap, client: IpAddr) -> String {
    let before: Vec<&[u8]> = headers.get_all(FORWARDED_FOR).iter().map(HeaderValue::as_bytes).collect();
    let mut joined = before.join(&b","[..]);
    if !joined.is_empty() {
        joined.push(b',');
    }
    joined.extend_from_slice(client.to_string().as_bytes());
    let line = String::from_utf8_lossy(&joined).into_owned();
    if let Ok(value) = HeaderValue::try_from(joined) {
        headers.insert(FORWARDED_FOR, value);
    }
    line
}

/// The request's id: the one it has, or a new UUID whose 15th character tells the trace decision.
pub(crate) fn ensure_request_id(headers: &mut HeaderMap) -> String {
    if let Some(id) = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok()).filter(|id| !id.is_empty()) {
        return id.to_owned();
    }
    let id = uuid::Uuid::new_v4().to_string();
    if let Ok(value) = HeaderValue::try_from(id.as_str()) {
        headers.insert(REQUEST_ID, value);
    }
    id
}

/// What the id says of tracing: Envoy writes `9` for sampled, `a` for forced, `b` for the client's wish
/// where a version-4 UUID has a `4`.
pub(crate) fn traced_by_id(request_id: &str) -> bool {
    request_id.len() == 36 && matches!(request_id.as_bytes().get(14), Some(b'9' | b'a' | b'b'))
}

/// Marks a fresh id as sampled.
pub(crate) fn mark_traced(request_id: &mut String) {
    if request_id.len() == 36 && request_id.as_bytes().get(14) == Some(&b'4') {
        request_id.replace_range(14..15, "9");
    }
}

/// Ten-thousandths, the same for everybody who sees this id: proxies agree without talking.
pub(crate) fn sampling_bucket(request_id: &str) -> u32 {
    match request_id.get(..8).and_then(|head| u32::from_str_radix(head, 16).ok()) {
        Some(number) if request_id.len() == 36 => number % 10_000,
        _ => rand::random_range(0..10_000),
    }
}

/// Bytes of a header block as it stands on an HTTP/1 wire, without the start line. HTTP/2 compresses
/// its blocks; the same measure is used for it, as nobody can compare compressed sizes.
pub(crate) fn wire_bytes(headers: &HeaderMap) -> u64 {
    headers.iter().map(|(name, value)| (name.as_str().len() + value.len() + 4) as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn hop_by_hop_headers_end_here() {
        for (before, after) in [
            (&[("connection", "close"), ("a", "1")][..], &[("a", "1")][..]),
            (&[("connection", "x-secret, close"), ("x-secret", "1")][..], &[][..]),
            (&[("connection", "x-request-id"), ("x-request-id", "7")][..], &[("x-request-id", "7")][..]),
            (&[("connection", "host"), ("host", "h")][..], &[("host", "h")][..]),
            (&[("keep-alive", "5"), ("upgrade", "h2c"), ("http2-settings", "x")][..], &[][..]),
            (&[("te", "trailers")][..], &[("te", "trailers")][..]),
            (&[("te", "gzip, trailers")][..], &[("te", "trailers")][..]),
            (&[("te", "gzip")][..], &[][..]),
            (&[("transfer-encoding", "chunked")][..], &[][..]),
        ] {
            let mut headers = map(before);
            strip_hop_by_hop(&mut headers);
            assert_eq!(headers, map(after), "{before:?}");
        }
    }

    #[test]
    fn the_edge_believes_nobody_from_outside() {
        let pairs = &[
            ("x-envoy-internal", "true"),
            ("x-envoy-peer-metadata", "x"),
            ("x-request-id", "1"),
            ("a", "1"),
        ];
        let mut from_outside = map(pairs);
        sanitize_at_edge(&mut from_outside, "203.0.113.5".parse().unwrap());
        assert_eq!(from_outside, map(&[("a", "1")]));
        let mut from_inside = map(pairs);
        sanitize_at_edge(&mut from_inside, "10.1.1.1".parse().unwrap());
        assert_eq!(from_inside, map(&[("x-envoy-internal", "true"), ("x-request-id", "1"), ("a", "1")]));
    }

    #[test]
    fn the_client_is_appended_on_one_line() {
        let mut headers = map(&[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "2.2.2.2")]);
        append_forwarded_for(&mut headers, "3.3.3.3".parse().unwrap());
        assert_eq!(headers, map(&[("x-forwarded-for", "1.1.1.1,2.2.2.2,3.3.3.3")]));
    }

    #[test]
    fn request_ids_tell_the_trace_decision() {
        let mut headers = HeaderMap::new();
        let mut id = ensure_request_id(&mut headers);
        assert_eq!(headers.get(REQUEST_ID).unwrap(), id.as_str());
        assert_eq!(ensure_request_id(&mut headers), id, "an id that is there stays");
        assert!(!traced_by_id(&id));
        mark_traced(&mut id);
        assert!(traced_by_id(&id));
        assert_eq!(sampling_bucket(&id), sampling_bucket(&id));
        assert!(!traced_by_id("short"));
    }
}
