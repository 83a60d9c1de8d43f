use std::collections::HashMap;

use pharos_model::{AccessLog, Peer, ResponseFlag, ResponseFlags, SpanId, TraceId, UnixNanos, Value};
use pharos_proto::envoy::{
    config::core::v3::{Address, RequestMethod, address, socket_address::PortSpecifier},
    data::accesslog::v3::{
        AccessLogCommon, AccessLogType, HttpAccessLogEntry, ResponseFlags as EnvoyFlags, TcpAccessLogEntry,
        TlsProperties,
        http_access_log_entry::HttpVersion,
        response_flags::unauthorized::Reason,
        tls_properties::{CertificateProperties, TlsVersion, certificate_properties::subject_alt_name::San},
    },
    service::accesslog::v3::{StreamAccessLogsMessage, stream_access_logs_message::LogEntries},
};
use prost::Message;

use crate::{
    clock::record_time,
    envoy::{Naming, ProxyNode, apply_labels, peer_of_struct},
    intake::Normalised,
};

/// The finished requests and connections in a message. Entries that Envoy sends while a stream still runs say
/// nothing that the last one does not, and would count a request twice.
pub(crate) fn access_logs(node: &ProxyNode, message: &StreamAccessLogsMessage) -> Normalised<AccessLog> {
    let mut out = Normalised::default();
    match &message.log_entries {
        Some(LogEntries::HttpLogs(entries)) => {
            for entry in entries.log_entry.iter().filter(|entry| is_final(entry.common_properties.as_ref())) {
                match http(node, entry) {
                    Ok(log) => out.rows.push(log),
                    Err(fault) => out.rejected.add(1, || fault),
                }
            }
        }
        Some(LogEntries::TcpLogs(entries)) => {
            for entry in entries.log_entry.iter().filter(|entry| is_final(entry.common_properties.as_ref())) {
                match tcp(node, entry) {
                    Ok(log) => out.rows.push(log),
                    Err(fault) => out.rejected.add(1, || fault),
                }
            }
        }
        None => {}
    }
    out
}

fn is_final(common: Option<&AccessLogCommon>) -> bool {
    common.is_none_or(|common| {
        let ended = matches!(
            common.access_log_type(),
            AccessLogType::NotSet
                | AccessLogType::DownstreamEnd
                | AccessLogType::TcpConnectionEnd
                | AccessLogType::UdpSessionEnd
        );
        ended && !common.intermediate_log_entry
    })
}

fn http(node: &ProxyNode, entry: &HttpAccessLogEntry) -> Result<AccessLog, String> {
    let common = entry.common_properties.as_ref().ok_or("an HTTP entry has no common_properties")?;
    let mut log = of_common(common)?;
    log.http_version = match entry.protocol_version() {
        HttpVersion::ProtocolUnspecified => "",
        HttpVersion::Http10 => "HTTP/1.0",
        HttpVersion::Http11 => "HTTP/1.1",
        HttpVersion::Http2 => "HTTP/2",
        HttpVersion::Http3 => "HTTP/3",
    }
    .into();
    let request = entry.request.clone().unwrap_or_default();
    let response = entry.response.clone().unwrap_or_default();
    log.method = match request.request_method() {
        RequestMethod::MethodUnspecified => String::new(),
        method => method.as_str_name().to_string(),
    };
    log.scheme = request.scheme;
    log.authority = request.authority;
    // As in the text format: what the client asked for, before any rewrite.
    (log.path, log.original_path) = match request.original_path {
        original if original.is_empty() || original == request.path => (request.path, String::new()),
        original => (original.clone(), original),
    };
    log.user_agent = request.user_agent;
    log.referer = request.referer;
    log.forwarded_for = request.forwarded_for;
    log.request_id = request.request_id;
    log.request_bytes = bytes(request.request_body_bytes);
    log.response_bytes = bytes(response.response_body_bytes);
    let framed = |wire: u64, headers: u64, body: u64| {
        if wire > 0 { bytes(wire) } else { bytes(headers.saturating_add(body)) }
    };
    log.request_wire_bytes = framed(
        common.downstream_wire_bytes_received,
        request.request_headers_bytes,
        request.request_body_bytes,
    );
    log.response_wire_bytes = framed(
        common.downstream_wire_bytes_sent,
        response.response_headers_bytes,
        response.response_body_bytes,
    );
    log.response_code = response.response_code.and_then(|code| u16::try_from(code).ok()).unwrap_or_default();
    log.response_code_details = response.response_code_details;

    let header =
        |maps: &[&HashMap<String, String>], name: &str| maps.iter().find_map(|map| map.get(name).cloned());
    let replies = [&response.response_trailers, &response.response_headers];
    log.grpc_status = header(&replies, "grpc-status").and_then(|status| status.parse().ok());
    let content_type = header(&[&request.request_headers, &response.response_headers], "content-type");
    let is_grpc =
        log.grpc_status.is_some() || content_type.is_some_and(|value| value.starts_with("application/grpc"));
    log.request_protocol = if is_grpc { "grpc" } else { "http" }.into();
    (log.trace_id, log.span_id) = trace_of(&request.request_headers, &common.custom_tags);
    name(node, common, &mut log);
    for (prefix, headers) in [
        ("http.request.header.", request.request_headers),
        ("http.response.header.", response.response_headers),
        ("http.response.trailer.", response.response_trailers),
    ] {
        let mut headers: Vec<(String, String)> =
            headers.into_iter().filter(|(key, _)| !HEADERS_WITH_A_FIELD.contains(&key.as_str())).collect();
        headers.sort();
        headers.into_iter().for_each(|(key, value)| log.attributes.insert(format!("{prefix}{key}"), value));
    }
    Ok(log)
}

/// Logged headers that became fields of their own.
const HEADERS_WITH_A_FIELD: [&str; 5] = ["grpc-status", "traceparent", "b3", "x-b3-traceid", "x-b3-spanid"];

/// Tags likewise.
const TAGS_WITH_A_FIELD: [&str; 4] = ["trace_id", "traceId", "span_id", "spanId"];

fn tcp(node: &ProxyNode, entry: &TcpAccessLogEntry) -> Result<AccessLog, String> {
    let common = entry.common_properties.as_ref().ok_or("a TCP entry has no common_properties")?;
    let mut log = of_common(common)?;
    let connection = entry.connection_properties.unwrap_or_default();
    log.request_protocol = "tcp".into();
    log.request_bytes = bytes(connection.received_bytes);
    log.response_bytes = bytes(connection.sent_bytes);
    log.request_wire_bytes = bytes(common.downstream_wire_bytes_received.max(connection.received_bytes));
    log.response_wire_bytes = bytes(common.downstream_wire_bytes_sent.max(connection.sent_bytes));
    name(node, common, &mut log);
    Ok(log)
}

fn of_common(common: &AccessLogCommon) -> Result<AccessLog, String> {
    let start = common.start_time.as_ref().ok_or("an entry has no start_time")?;
    let time = start
        .seconds
        .checked_mul(1_000_000_000)
        .and_then(|nanos| nanos.checked_add(i64::from(start.nanos)))
        .and_then(|nanos| u64::try_from(nanos).ok())
        .ok_or("an entry's start_time lies outside of 1970 to 2262")?;
    let time =
        record_time(time, UnixNanos::now()).map_err(|fault| format!("an entry's start_time {fault}"))?;
    let duration_us = match &common.duration {
        Some(duration) => micros(Some(duration)),
        None => micros(common.time_to_last_downstream_tx_byte.as_ref()),
    };
    let tls = common.tls_properties.as_ref();
    Ok(AccessLog {
        time,
        duration_us,
        response_flags: common.response_flags.as_ref().map(flags).unwrap_or_default(),
        connection_termination_details: common.connection_termination_details.clone(),
        upstream_transport_failure_reason: common.upstream_transport_failure_reason.clone(),
        time_to_last_rx_us: micros(common.time_to_last_rx_byte.as_ref()),
        time_to_first_upstream_tx_us: micros(common.time_to_first_upstream_tx_byte.as_ref()),
        time_to_first_upstream_rx_us: micros(common.time_to_first_upstream_rx_byte.as_ref()),
        time_to_last_upstream_rx_us: micros(common.time_to_last_upstream_rx_byte.as_ref()),
        time_to_first_downstream_tx_us: micros(common.time_to_first_downstream_tx_byte.as_ref()),
        upstream_attempts: i64::from(common.upstream_request_attempt_count),
        route_name: common.route_name.clone(),
        upstream_cluster: common.upstream_cluster.clone(),
        upstream_host: address(common.upstream_remote_address.as_ref()),
        upstream_local_address: address(common.upstream_local_address.as_ref()),
        downstream_local_address: address(common.downstream_local_address.as_ref()),
        downstream_remote_address: address(common.downstream_remote_address.as_ref()),
        requested_server_name: tls.map(|tls| tls.tls_sni_hostname.clone()).unwrap_or_default(),
        tls_version: tls.map(tls_version).unwrap_or_default().into(),
        ..AccessLog::default()
    })
}

fn name(node: &ProxyNode, common: &AccessLogCommon, log: &mut AccessLog) {
    let tls = common.tls_properties.as_ref();
    let spiffe = |certificate: Option<&CertificateProperties>| {
        certificate?.subject_alt_name.iter().find_map(|name| match &name.san {
            Some(San::Uri(uri)) => Some(uri.clone()),
            _ => None,
        })
    };
    Naming {
        node,
        upstream_peer: peer(common, "upstream_peer"),
        downstream_peer: peer(common, "downstream_peer"),
        client_principal: tls.and_then(|tls| spiffe(tls.peer_certificate_properties.as_ref())),
        own_principal: tls.and_then(|tls| spiffe(tls.local_certificate_properties.as_ref())),
    }
    .complete(log);
    let mut tags: Vec<(String, String)> = common.custom_tags.clone().into_iter().collect();
    tags.retain(|(key, _)| !TAGS_WITH_A_FIELD.contains(&key.as_str()));
    tags.sort();
    log.attributes = apply_labels(log, tags.into_iter().map(|(key, value)| (key, Value::String(value))));
    if !common.stream_id.is_empty() && common.stream_id != log.request_id {
        log.attributes.insert("stream_id", common.stream_id.as_str());
    }
}

/// The other end as metadata exchange put it into the filter state: a struct, since Istio 1.24 under plain names.
fn peer(common: &AccessLogCommon, name: &str) -> Option<Peer> {
    let state = &common.filter_state_objects;
    let any = state.get(name).or_else(|| state.get(&format!("wasm.{name}")))?;
    if !any.type_url.ends_with("google.protobuf.Struct") {
        return None;
    }
    let peer = peer_of_struct(&prost_types::Struct::decode(any.value.as_slice()).ok()?);
    (peer != Peer::default()).then_some(peer)
}

/// Ids from the trace headers that were logged, or from tags that were configured (`%TRACE_ID%`).
fn trace_of(
    headers: &HashMap<String, String>,
    tags: &HashMap<String, String>,
) -> (Option<TraceId>, Option<SpanId>) {
    let parse = |trace: &str, span: &str| {
        let trace = trace.parse::<TraceId>().ok().filter(|id| !id.is_zero());
        (trace, span.parse::<SpanId>().ok().filter(|id| trace.is_some() && !id.is_zero()))
    };
    let get = |map: &HashMap<String, String>, key: &str| map.get(key).cloned().unwrap_or_default();
    let tag = |keys: [&str; 2]| keys.iter().find_map(|key| tags.get(*key).cloned()).unwrap_or_default();
    let parent = get(headers, "traceparent");
    let mut parts = parent.split('-').skip(1);
    let b3 = get(headers, "b3");
    let mut b3_parts = b3.split('-');
    [
        parse(&tag(["trace_id", "traceId"]), &tag(["span_id", "spanId"])),
        parse(parts.next().unwrap_or_default(), parts.next().unwrap_or_default()),
        parse(
            b3_parts.next().filter(|id| id.len() >= 16).unwrap_or_default(),
            b3_parts.next().unwrap_or_default(),
        ),
        parse(&get(headers, "x-b3-traceid"), &get(headers, "x-b3-spanid")),
    ]
    .into_iter()
    .find(|(trace, _)| trace.is_some())
    .unwrap_or_default()
}

fn flags(flags: &EnvoyFlags) -> ResponseFlags {
    use ResponseFlag as F;
    let unauthorized = flags
        .unauthorized_details
        .as_ref()
        .is_some_and(|details| details.reason() == Reason::ExternalService);
    [
        (flags.failed_local_healthcheck, F::FailedLocalHealthCheck),
        (flags.no_healthy_upstream, F::NoHealthyUpstream),
        (flags.upstream_request_timeout, F::UpstreamRequestTimeout),
        (flags.local_reset, F::LocalReset),
        (flags.upstream_remote_reset, F::UpstreamRemoteReset),
        (flags.upstream_connection_failure, F::UpstreamConnectionFailure),
        (flags.upstream_connection_termination, F::UpstreamConnectionTermination),
        (flags.upstream_overflow, F::UpstreamOverflow),
        (flags.no_route_found, F::NoRouteFound),
        (flags.delay_injected, F::DelayInjected),
        (flags.fault_injected, F::FaultInjected),
        (flags.rate_limited, F::RateLimited),
        (unauthorized, F::UnauthorizedExternalService),
        (flags.rate_limit_service_error, F::RateLimitServiceError),
        (flags.downstream_connection_termination, F::DownstreamConnectionTermination),
        (flags.upstream_retry_limit_exceeded, F::UpstreamRetryLimitExceeded),
        (flags.stream_idle_timeout, F::StreamIdleTimeout),
        (flags.invalid_envoy_request_headers, F::InvalidEnvoyRequestHeaders),
        (flags.downstream_protocol_error, F::DownstreamProtocolError),
        (flags.upstream_max_stream_duration_reached, F::UpstreamMaxStreamDurationReached),
        (flags.response_from_cache_filter, F::ResponseFromCacheFilter),
        (flags.no_filter_config_found, F::NoFilterConfigFound),
        (flags.duration_timeout, F::DurationTimeout),
        (flags.upstream_protocol_error, F::UpstreamProtocolError),
        (flags.no_cluster_found, F::NoClusterFound),
        (flags.overload_manager, F::OverloadManagerTerminated),
        (flags.dns_resolution_failure, F::DnsResolutionFailed),
        (flags.downstream_remote_reset, F::DownstreamRemoteReset),
    ]
    .into_iter()
    .filter_map(|(set, flag)| set.then_some(flag))
    .collect()
}

fn tls_version(tls: &TlsProperties) -> &'static str {
    match tls.tls_version() {
        TlsVersion::VersionUnspecified => "",
        TlsVersion::TlSv1 => "TLSv1",
        TlsVersion::TlSv11 => "TLSv1.1",
        TlsVersion::TlSv12 => "TLSv1.2",
        TlsVersion::TlSv13 => "TLSv1.3",
    }
}

fn address(address: Option<&Address>) -> String {
    match address.and_then(|address| address.address.as_ref()) {
        Some(address::Address::SocketAddress(socket)) => {
            let host = if socket.address.contains(':') {
                format!("[{}]", socket.address)
            } else {
                socket.address.clone()
            };
            match &socket.port_specifier {
                Some(PortSpecifier::PortValue(port)) => format!("{host}:{port}"),
                Some(PortSpecifier::NamedPort(port)) => format!("{host}:{port}"),
                None => host,
            }
        }
        Some(address::Address::Pipe(pipe)) => pipe.path.clone(),
        Some(address::Address::EnvoyInternalAddress(internal)) => format!("envoy://{}", internal.endpoint_id),
        None => String::new(),
    }
}

fn micros(duration: Option<&prost_types::Duration>) -> i64 {
    duration.map_or(0, |duration| {
        let micros =
            duration.seconds.saturating_mul(1_000_000).saturating_add(i64::from(duration.nanos) / 1_000);
        // A clock that was set back in the middle of a request.
        micros.max(0)
    })
}

fn bytes(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
