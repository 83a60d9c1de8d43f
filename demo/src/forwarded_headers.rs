//! The headers that Bookinfo's services copy from the request they answer to the requests they make.

use http::{HeaderMap, HeaderName};

/// Bookinfo's list. The single `b3` header is not on it, so a sidecar that writes nothing else loses the trace.
pub(crate) const FORWARDED: [&str; 19] = [
    "x-request-id",
    "x-ot-span-context",
    "x-datadog-trace-id",
    "x-datadog-parent-id",
    "x-datadog-sampling-priority",
    "traceparent",
    "tracestate",
    "x-cloud-trace-context",
    "grpc-trace-bin",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
    "end-user",
    "user-agent",
    "cookie",
    "authorization",
    "jwt",
];

/// The part of `received` that goes along with every request made on its behalf, all values of a name kept.
pub(crate) fn forwarded(received: &HeaderMap) -> HeaderMap {
    let mut copied = HeaderMap::with_capacity(FORWARDED.len());
    for name in FORWARDED {
        for value in received.get_all(name) {
            copied.append(HeaderName::from_static(name), value.clone());
        }
    }
    copied
}
