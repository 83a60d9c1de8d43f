use std::borrow::Cow;

use pharos_model::{AccessLog, ResponseFlags, UnixNanos};
use serde_json::Value;

/// A line is no access log in one of the formats that are known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an Envoy access-log line: {0}")]
pub struct ParseLineError(pub(crate) String);

/// Fields of a line under the keys of Istio's default JSON format, in the order of its text format.
pub(super) type Fields<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

/// The fields of Istio's default text format (since 1.9) behind the start time and the request, in order.
const ISTIO_FIELDS: [&str; 20] = [
    "response_code",
    "response_flags",
    "response_code_details",
    "connection_termination_details",
    "upstream_transport_failure_reason",
    "bytes_received",
    "bytes_sent",
    "duration",
    "upstream_service_time",
    "x_forwarded_for",
    "user_agent",
    "request_id",
    "authority",
    "upstream_host",
    "upstream_cluster",
    "upstream_local_address",
    "downstream_local_address",
    "downstream_remote_address",
    "requested_server_name",
    "route_name",
];

/// Of Envoy's own default format.
const ENVOY_FIELDS: [&str; 11] = [
    "response_code",
    "response_flags",
    "bytes_received",
    "bytes_sent",
    "duration",
    "upstream_service_time",
    "x_forwarded_for",
    "user_agent",
    "request_id",
    "authority",
    "upstream_host",
];

/// Reads one line of Istio's default text format, Envoy's default text format, or JSON with Istio's default keys.
/// The line does not say which workload's proxy wrote it: reporter and both ends are left as they are by default.
pub fn parse_line(line: &str) -> Result<AccessLog, ParseLineError> {
    let line = line.trim();
    if line.starts_with('{') {
        let json: Value = serde_json::from_str(line).map_err(|error| ParseLineError(error.to_string()))?;
        let Value::Object(object) = json else { return Err(ParseLineError("no JSON object".into())) };
        let fields =
            object.into_iter().map(|(key, value)| (Cow::Owned(key), Cow::Owned(json_text(value)))).collect();
        return access_log_of_fields(&fields);
    }
    access_log_of_fields(&text_fields(line)?)
}

pub(super) fn json_text(value: Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text,
        other => other.to_string(),
    }
}

fn text_fields(line: &str) -> Result<Fields<'_>, ParseLineError> {
    let wrong = |what: &str| ParseLineError(what.to_string());
    let rest = line.strip_prefix('[').ok_or_else(|| wrong("it does not start with [<time>]"))?;
    let (time, rest) = rest.split_once("] ").ok_or_else(|| wrong("it does not start with [<time>]"))?;
    let mut tokens = Tokens(rest);
    let Some(Token { text: request, quoted: true }) = tokens.next() else {
        return Err(wrong("no quoted request follows the time"));
    };
    let (method, rest) = request.split_once(' ').ok_or_else(|| wrong("the request has no path"))?;
    let (path, protocol) = rest.rsplit_once(' ').ok_or_else(|| wrong("the request has no protocol"))?;
    let tokens: Vec<Token<'_>> = tokens.collect();
    // The third token behind the request is the details in Istio's format, a number of bytes in Envoy's.
    let istio = tokens.get(4).is_some_and(|token| token.quoted);
    let names = if istio { ISTIO_FIELDS.as_slice() } else { ENVOY_FIELDS.as_slice() };
    if tokens.len() < names.len() {
        return Err(ParseLineError(format!(
            "{} fields follow the request instead of {}",
            tokens.len(),
            names.len()
        )));
    }
    let head = [("start_time", time), ("method", method), ("path", path), ("protocol", protocol)];
    let tail = names.iter().zip(&tokens).map(|(name, token)| (*name, token.text));
    Ok(head.into_iter().chain(tail).map(|(name, text)| (Cow::Borrowed(name), Cow::Borrowed(text))).collect())
}

struct Token<'a> {
    text: &'a str,
    quoted: bool,
}

/// Words and quoted texts. Envoy escapes nothing: a quote ends a text only before a space or the line's end.
struct Tokens<'a>(&'a str);

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        let rest = self.0.trim_start_matches(' ');
        if rest.is_empty() {
            return None;
        }
        if let Some(inner) = rest.strip_prefix('"') {
            let (text, after) = match inner.split_once("\" ") {
                Some(split) => split,
                None => (inner.strip_suffix('"').unwrap_or(inner), ""),
            };
            self.0 = after;
            return Some(Token { text, quoted: true });
        }
        let (text, after) = rest.split_once(' ').unwrap_or((rest, ""));
        self.0 = after;
        Some(Token { text, quoted: false })
    }
}

/// `-` and the empty text mean that Envoy had no value.
pub(super) fn access_log_of_fields(fields: &Fields<'_>) -> Result<AccessLog, ParseLineError> {
    let get = |name: &str| {
        let found = fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_ref());
        found.filter(|value| *value != "-").unwrap_or_default()
    };
    let text = |name: &str| get(name).to_string();
    let number = |name: &str| match get(name) {
        "" => Ok(0),
        value => {
            value.parse::<i64>().map_err(|_| ParseLineError(format!("{name} {value:?} is no whole number")))
        }
    };
    let start = get("start_time");
    let time = parse_time(start)
        .ok_or_else(|| ParseLineError(format!("start_time {start:?} is no RFC 3339 time")))?;
    let code = number("response_code")?;
    let response_code =
        u16::try_from(code).map_err(|_| ParseLineError(format!("response_code {code} is none")))?;
    let protocol = text("protocol");
    let is_tcp = protocol.is_empty() && get("method").is_empty();
    let content_is_grpc =
        get("content_type").starts_with("application/grpc") || !get("grpc_status").is_empty();
    Ok(AccessLog {
        time,
        duration_us: number("duration")?.saturating_mul(1_000),
        request_protocol: if is_tcp {
            "tcp"
        } else if content_is_grpc {
            "grpc"
        } else {
            "http"
        }
        .into(),
        http_version: protocol,
        method: text("method"),
        authority: text("authority"),
        path: text("path"),
        response_code,
        grpc_status: get("grpc_status").parse().ok(),
        response_flags: ResponseFlags::parse(get("response_flags")),
        response_code_details: text("response_code_details"),
        connection_termination_details: text("connection_termination_details"),
        upstream_transport_failure_reason: text("upstream_transport_failure_reason"),
        request_bytes: number("bytes_received")?,
        response_bytes: number("bytes_sent")?,
        time_to_first_upstream_rx_us: number("upstream_service_time")?.saturating_mul(1_000),
        route_name: text("route_name"),
        upstream_cluster: text("upstream_cluster"),
        upstream_host: text("upstream_host"),
        upstream_local_address: text("upstream_local_address"),
        downstream_local_address: text("downstream_local_address"),
        downstream_remote_address: text("downstream_remote_address"),
        requested_server_name: text("requested_server_name"),
        forwarded_for: text("x_forwarded_for"),
        user_agent: text("user_agent"),
        request_id: text("request_id"),
        ..AccessLog::default()
    })
}

/// The keys that [`access_log_of_fields`] reads.
pub(super) fn is_known_field(name: &str) -> bool {
    ISTIO_FIELDS.contains(&name)
        || matches!(name, "start_time" | "method" | "path" | "protocol" | "grpc_status" | "content_type")
}

pub(super) fn parse_time(text: &str) -> Option<UnixNanos> {
    let time: jiff::Timestamp = text.parse().ok()?;
    i64::try_from(time.as_nanosecond()).ok().map(UnixNanos)
}
