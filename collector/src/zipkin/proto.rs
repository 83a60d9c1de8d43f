use std::net::{Ipv4Addr, Ipv6Addr};

use pharos_proto::zipkin::{Endpoint as ProtoEndpoint, ListOfSpans, Span as ProtoSpan, span::Kind};
use prost::Message;

use super::span::{Endpoint, ZipkinSpan};
use crate::fault::Fault;

pub(super) fn decode(bytes: &[u8]) -> Result<Vec<ZipkinSpan>, Fault> {
    let list = ListOfSpans::decode(bytes)
        .map_err(|error| Fault::Malformed(format!("the body is not a protobuf ListOfSpans: {error}")))?;
    let read = |(index, span)| read(span).map_err(|fault| Fault::Malformed(format!("span {index}: {fault}")));
    list.spans.into_iter().enumerate().map(read).collect()
}

fn read(span: ProtoSpan) -> Result<ZipkinSpan, String> {
    let kind = match span.kind() {
        Kind::SpanKindUnspecified => "",
        Kind::Client => "CLIENT",
        Kind::Server => "SERVER",
        Kind::Producer => "PRODUCER",
        Kind::Consumer => "CONSUMER",
    };
    if !matches!(span.trace_id.len(), 8 | 16) {
        return Err(format!("trace_id has {} bytes instead of 8 or 16", span.trace_id.len()));
    }
    let id = |name: &str, bytes: &[u8]| match bytes.len() {
        8 => Ok(hex::encode(bytes)),
        other => Err(format!("{name} has {other} bytes instead of 8")),
    };
    let mut tags: Vec<(String, String)> = span.tags.into_iter().collect();
    tags.sort();
    Ok(ZipkinSpan {
        trace_id: hex::encode(&span.trace_id),
        id: id("id", &span.id)?,
        parent_id: if span.parent_id.is_empty() { String::new() } else { id("parent_id", &span.parent_id)? },
        kind: kind.into(),
        name: span.name,
        timestamp_us: span.timestamp,
        duration_us: span.duration,
        local: endpoint(span.local_endpoint)?,
        remote: endpoint(span.remote_endpoint)?,
        annotations: span.annotations.into_iter().map(|a| (a.timestamp, a.value)).collect(),
        tags,
        shared: span.shared,
        debug: span.debug,
    })
}

fn endpoint(endpoint: Option<ProtoEndpoint>) -> Result<Endpoint, String> {
    let Some(endpoint) = endpoint else { return Ok(Endpoint::default()) };
    let ipv4 = match <[u8; 4]>::try_from(endpoint.ipv4.as_slice()) {
        Ok(bytes) => Ipv4Addr::from(bytes).to_string(),
        Err(_) if endpoint.ipv4.is_empty() => String::new(),
        Err(_) => return Err(format!("ipv4 has {} bytes instead of 4", endpoint.ipv4.len())),
    };
    let ipv6 = match <[u8; 16]>::try_from(endpoint.ipv6.as_slice()) {
        Ok(bytes) => Ipv6Addr::from(bytes).to_string(),
        Err(_) if endpoint.ipv6.is_empty() => String::new(),
        Err(_) => return Err(format!("ipv6 has {} bytes instead of 16", endpoint.ipv6.len())),
    };
    let port = u16::try_from(endpoint.port).map_err(|_| format!("{} is no port", endpoint.port))?;
    Ok(Endpoint { service_name: endpoint.service_name, ipv4, ipv6, port })
}
