//! Edges: who called whom, in buckets of ten seconds, and the rules that derive them from counters, access logs and
//! spans. Rows of different origin tell of the same requests and are never added together.

use crate::{
    AccessLog, Labels, Latency, Peer, Reporter, Sample, SeriesId, Span, SpanKind, UnixNanos, is_stale,
};

/// Width of an edge's time bucket.
pub const EDGE_BUCKET_NS: i64 = 10_000_000_000;

/// What an edge row was derived from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EdgeOrigin {
    Metrics,
    AccessLog,
    Span,
}

impl EdgeOrigin {
    pub fn name(self) -> &'static str {
        match self {
            EdgeOrigin::Metrics => "metrics",
            EdgeOrigin::AccessLog => "access_log",
            EdgeOrigin::Span => "span",
        }
    }

    pub fn from_name(name: &str) -> Option<EdgeOrigin> {
        [EdgeOrigin::Metrics, EdgeOrigin::AccessLog, EdgeOrigin::Span].into_iter().find(|o| o.name() == name)
    }
}

/// What an edge row counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EdgeMeasure {
    Requests,
    /// Sum of milliseconds; the row carries the distribution beside it.
    DurationMs,
    /// Wire bytes from client to server.
    RequestBytes,
    ResponseBytes,
    RequestMessages,
    ResponseMessages,
    /// Istio counts from the proxy's view: sent is the response direction.
    TcpSentBytes,
    TcpReceivedBytes,
    TcpOpened,
    TcpClosed,
}

impl EdgeMeasure {
    pub const ALL: [EdgeMeasure; 10] = [
        EdgeMeasure::Requests,
        EdgeMeasure::DurationMs,
        EdgeMeasure::RequestBytes,
        EdgeMeasure::ResponseBytes,
        EdgeMeasure::RequestMessages,
        EdgeMeasure::ResponseMessages,
        EdgeMeasure::TcpSentBytes,
        EdgeMeasure::TcpReceivedBytes,
        EdgeMeasure::TcpOpened,
        EdgeMeasure::TcpClosed,
    ];

    pub fn name(self) -> &'static str {
        match self {
            EdgeMeasure::Requests => "requests",
            EdgeMeasure::DurationMs => "duration_ms",
            EdgeMeasure::RequestBytes => "request_bytes",
            EdgeMeasure::ResponseBytes => "response_bytes",
            EdgeMeasure::RequestMessages => "request_messages",
            EdgeMeasure::ResponseMessages => "response_messages",
            EdgeMeasure::TcpSentBytes => "tcp_sent_bytes",
            EdgeMeasure::TcpReceivedBytes => "tcp_received_bytes",
            EdgeMeasure::TcpOpened => "tcp_opened",
            EdgeMeasure::TcpClosed => "tcp_closed",
        }
    }

    pub fn from_name(name: &str) -> Option<EdgeMeasure> {
        EdgeMeasure::ALL.into_iter().find(|measure| measure.name() == name)
    }

    /// The measure of one of Istio's standard metrics, and whether the series is a bucket of its histogram. The
    /// `_count` series and the buckets of byte histograms tell nothing that the others do not.
    fn of_metric(name: &str) -> Option<(EdgeMeasure, bool)> {
        Some(match name {
            "istio_requests_total" => (EdgeMeasure::Requests, false),
            "istio_request_duration_milliseconds_sum" => (EdgeMeasure::DurationMs, false),
            // Native histograms, which have no series for their parts.
            "istio_request_duration_milliseconds" => (EdgeMeasure::DurationMs, false),
            "istio_request_bytes" => (EdgeMeasure::RequestBytes, false),
            "istio_response_bytes" => (EdgeMeasure::ResponseBytes, false),
            "istio_request_duration_milliseconds_bucket" => (EdgeMeasure::DurationMs, true),
            "istio_request_bytes_sum" => (EdgeMeasure::RequestBytes, false),
            "istio_response_bytes_sum" => (EdgeMeasure::ResponseBytes, false),
            "istio_request_messages_total" => (EdgeMeasure::RequestMessages, false),
            "istio_response_messages_total" => (EdgeMeasure::ResponseMessages, false),
            "istio_tcp_sent_bytes_total" => (EdgeMeasure::TcpSentBytes, false),
            "istio_tcp_received_bytes_total" => (EdgeMeasure::TcpReceivedBytes, false),
            "istio_tcp_connections_opened_total" => (EdgeMeasure::TcpOpened, false),
            "istio_tcp_connections_closed_total" => (EdgeMeasure::TcpClosed, false),
            _ => return None,
        })
    }
}

/// The metrics whose series [`edge_of_series`] knows.
pub const EDGE_METRICS: [&str; 14] = [
    "istio_requests_total",
    "istio_request_duration_milliseconds_sum",
    "istio_request_duration_milliseconds_bucket",
    "istio_request_bytes_sum",
    "istio_response_bytes_sum",
    "istio_request_messages_total",
    "istio_response_messages_total",
    "istio_tcp_sent_bytes_total",
    "istio_tcp_received_bytes_total",
    "istio_tcp_connections_opened_total",
    "istio_tcp_connections_closed_total",
    "istio_request_duration_milliseconds",
    "istio_request_bytes",
    "istio_response_bytes",
];

/// What tells one edge row from another within a bucket. Text is empty where the source has no such field; labels
/// of metrics are kept as they are, so `unknown` stays `unknown`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EdgeKey {
    pub origin: EdgeOrigin,
    pub reporter: Reporter,
    pub source: Peer,
    pub destination: Peer,
    /// The host that was asked for.
    pub destination_service: String,
    pub destination_service_name: String,
    pub destination_service_namespace: String,
    /// `http`, `grpc` or `tcp`; empty on Istio's message counters, which carry no such label.
    pub request_protocol: String,
    /// Decimal; `0` when no response was sent; empty on TCP.
    pub response_code: String,
    /// Decimal; empty for anything but gRPC.
    pub grpc_status: String,
    /// Short flags joined by commas, `-` if none.
    pub response_flags: String,
    pub security_policy: String,
    /// The scrape label `app`: `ztunnel` marks the lower layer of ambient traffic.
    pub scrape_app: String,
    /// For counters: the identity of the series, without its name and bucket bound, so that the counters of two
    /// pods are never joined. 0 for other origins.
    pub series: SeriesId,
}

/// A counter over a stretch of time. Of an origin that counts single rows, `increase` is their number (or sum), the
/// two values are 0, and joining adds up.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CounterPart {
    pub first_ms: i64,
    pub first: f64,
    pub last_ms: i64,
    pub last: f64,
    /// Reset-corrected, from `first` to `last`.
    pub increase: f64,
    pub samples: i64,
}

impl CounterPart {
    pub fn of(sample: Sample) -> CounterPart {
        CounterPart {
            first_ms: sample.time_ms,
            first: sample.value,
            last_ms: sample.time_ms,
            last: sample.value,
            increase: 0.0,
            samples: 1,
        }
    }

    /// Rows that are counted one by one.
    pub fn of_rows(time: UnixNanos, rows: i64, sum: f64) -> CounterPart {
        CounterPart {
            first_ms: time.millis(),
            last_ms: time.millis(),
            increase: sum,
            samples: rows,
            first: 0.0,
            last: 0.0,
        }
    }

    /// Adds the part that follows in time, with the step between the two; a value that fell was reset to 0 before.
    pub fn join(&mut self, next: &CounterPart) {
        if self.samples == 0 {
            *self = *next;
            return;
        }
        let step = if next.first >= self.last { next.first - self.last } else { next.first };
        self.increase += next.increase + step;
        self.first_ms = self.first_ms.min(next.first_ms);
        self.last_ms = self.last_ms.max(next.last_ms);
        self.last = next.last;
        self.samples += next.samples;
    }
}

/// One row of the table `edges`.
#[derive(Clone, Debug, PartialEq)]
pub struct Edge {
    /// Start of the bucket.
    pub bucket: UnixNanos,
    pub key: EdgeKey,
    pub measure: EdgeMeasure,
    pub counter: CounterPart,
    /// Only on [`EdgeMeasure::DurationMs`].
    pub latency: Latency,
}

/// What a series of one of Istio's standard metrics (istio.io "Istio Standard Metrics") contributes to: the edge's
/// key, what it counts, and the bucket bound if it is a histogram's bucket. `None` for any other series.
///
/// A row is made per bucket, key and measure by joining the [`CounterPart`]s of its samples (staleness markers left
/// out); the buckets of one histogram share a key and together make the row's latency.
pub fn edge_of_series(labels: &Labels) -> Option<(EdgeKey, EdgeMeasure, Option<f64>)> {
    let (measure, is_bucket) = EdgeMeasure::of_metric(labels.metric_name())?;
    let bound = if is_bucket { Some(parse_bound(labels.get("le"))?) } else { None };
    let text = |name: &str| labels.get(name).to_string();
    let peer = |end: &str| {
        let text = |field: &str| labels.get(&format!("{end}_{field}")).to_string();
        Peer {
            cluster: text("cluster"),
            namespace: text("workload_namespace"),
            workload: text("workload"),
            app: text("app"),
            version: text("version"),
            canonical_service: text("canonical_service"),
            canonical_revision: text("canonical_revision"),
            principal: text("principal"),
        }
    };
    let key = EdgeKey {
        origin: EdgeOrigin::Metrics,
        reporter: Reporter::from_name(labels.get("reporter"))?,
        source: peer("source"),
        destination: peer("destination"),
        destination_service: text("destination_service"),
        destination_service_name: text("destination_service_name"),
        destination_service_namespace: text("destination_service_namespace"),
        request_protocol: text("request_protocol"),
        response_code: text("response_code"),
        grpc_status: text("grpc_response_status"),
        response_flags: text("response_flags"),
        security_policy: text("connection_security_policy"),
        scrape_app: text("app"),
        series: labels.series_id_without(&[crate::METRIC_NAME, "le"]),
    };
    Some((key, measure, bound))
}

fn parse_bound(le: &str) -> Option<f64> {
    le.parse().ok().filter(|bound: &f64| !bound.is_nan())
}

/// Whether a sample counts for an edge.
pub fn counts_for_edges(sample: &Sample) -> bool {
    !is_stale(sample.value) && !sample.value.is_nan()
}

/// The numbers of an access-log record that its edge adds up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccessLogNumbers {
    pub time: UnixNanos,
    pub duration_us: i64,
    pub request_bytes: i64,
    pub response_bytes: i64,
    pub request_wire_bytes: i64,
    pub response_wire_bytes: i64,
}

impl AccessLogNumbers {
    pub fn of(log: &AccessLog) -> AccessLogNumbers {
        AccessLogNumbers {
            time: log.time,
            duration_us: log.duration_us,
            request_bytes: log.request_bytes,
            response_bytes: log.response_bytes,
            request_wire_bytes: log.request_wire_bytes,
            response_wire_bytes: log.response_wire_bytes,
        }
    }

    /// A request is counted when it ends, as Istio's counters do.
    pub fn end(&self) -> UnixNanos {
        self.time.plus_nanos(self.duration_us.saturating_mul(1_000))
    }

    /// What the record adds to which measure.
    pub fn measures(&self, is_tcp: bool) -> impl Iterator<Item = (EdgeMeasure, f64)> {
        let bytes = |wire: i64, body: i64| if wire > 0 { wire } else { body } as f64;
        let request_bytes = bytes(self.request_wire_bytes, self.request_bytes);
        let response_bytes = bytes(self.response_wire_bytes, self.response_bytes);
        let measures = match is_tcp {
            false => [
                Some((EdgeMeasure::Requests, 1.0)),
                Some((EdgeMeasure::DurationMs, self.duration_us as f64 / 1_000.0)),
                Some((EdgeMeasure::RequestBytes, request_bytes)),
                Some((EdgeMeasure::ResponseBytes, response_bytes)),
            ],
            true => [
                Some((EdgeMeasure::TcpClosed, 1.0)),
                Some((EdgeMeasure::TcpReceivedBytes, request_bytes)),
                Some((EdgeMeasure::TcpSentBytes, response_bytes)),
                None,
            ],
        };
        measures.into_iter().flatten()
    }
}

/// The key of an access-log record's edge.
pub fn edge_of_access_log(log: &AccessLog) -> EdgeKey {
    let is_tcp = log.request_protocol == "tcp";
    EdgeKey {
        origin: EdgeOrigin::AccessLog,
        reporter: log.reporter,
        source: log.source.clone(),
        destination: log.destination.clone(),
        destination_service: log.destination_service.clone(),
        destination_service_name: log.destination_service_name.clone(),
        destination_service_namespace: log.destination_service_namespace.clone(),
        request_protocol: log.request_protocol.clone(),
        response_code: if is_tcp { String::new() } else { log.response_code.to_string() },
        grpc_status: log.grpc_status.map(|status| status.to_string()).unwrap_or_default(),
        response_flags: log.response_flags.to_string(),
        security_policy: log.security_policy.clone(),
        scrape_app: String::new(),
        series: SeriesId(0),
    }
}

/// The attributes, of a span or its resource, that [`edge_of_span`] looks at.
pub const EDGE_ATTRIBUTES: [&str; 23] = [
    "upstream_cluster.name",
    "upstream_cluster",
    "peer.service",
    "server.address",
    "net.peer.name",
    "istio.source_canonical_service",
    "istio.source_workload",
    "downstream_cluster",
    "rpc.grpc.status_code",
    "grpc.status_code",
    "http.response.status_code",
    "http.status_code",
    "error",
    "response_flags",
    "istio.canonical_service",
    "istio.canonical_revision",
    "service.version",
    "istio.namespace",
    "k8s.namespace.name",
    "service.namespace",
    "istio.cluster_id",
    "k8s.cluster.name",
    "k8s.deployment.name",
];

/// The key of a span's edge: client spans tell of the called service by Envoy's `upstream_cluster`, or by
/// `peer.service` or `server.address`; server spans of their caller, if they name it. Other spans make no edge. It
/// depends on the span's kind, service and status and on [`EDGE_ATTRIBUTES`]. A span is counted when it ends, once and
/// with its duration.
pub fn edge_of_span(span: &Span) -> Option<EdgeKey> {
    let own = peer_of_service(span);
    let text = |keys: &[&str]| {
        span.attributes
            .first_of(keys)
            .map(|value| value.to_text())
            .filter(|text| text != "-")
            .unwrap_or_default()
    };
    let unknown = |service: &str| Peer {
        cluster: "unknown".into(),
        namespace: "unknown".into(),
        workload: "unknown".into(),
        app: "unknown".into(),
        version: "unknown".into(),
        canonical_service: if service.is_empty() { "unknown".into() } else { service.into() },
        canonical_revision: "latest".into(),
        principal: "unknown".into(),
    };
    let (reporter, source, destination, host) = match span.kind {
        SpanKind::Client | SpanKind::Producer => {
            let host = match span.upstream_cluster().and_then(host_of_cluster) {
                Some(host) => host.to_string(),
                None => text(&["peer.service", "server.address", "net.peer.name"]),
            };
            if host.is_empty() {
                return None;
            }
            let mut destination = unknown(service_name(&host));
            destination.namespace = service_namespace(&host).unwrap_or("unknown").to_string();
            (Reporter::Source, own, destination, host)
        }
        SpanKind::Server | SpanKind::Consumer => {
            let caller =
                text(&["istio.source_canonical_service", "istio.source_workload", "downstream_cluster"]);
            let host = text(&["server.address"]);
            let host = if host.is_empty() { span.service.to_string() } else { host };
            (Reporter::Destination, unknown(&caller), own, host)
        }
        SpanKind::Unspecified | SpanKind::Internal => return None,
    };
    let grpc_status = text(&["rpc.grpc.status_code", "grpc.status_code"]);
    Some(EdgeKey {
        origin: EdgeOrigin::Span,
        reporter,
        source,
        destination_service_name: service_name(&host).to_string(),
        destination_service_namespace: service_namespace(&host).unwrap_or(&destination.namespace).to_string(),
        destination,
        destination_service: host,
        request_protocol: if grpc_status.is_empty() { "http".into() } else { "grpc".into() },
        response_code: match span.http_status() {
            0 if span.is_error() => "0".into(),
            0 => "200".into(),
            code => code.to_string(),
        },
        grpc_status,
        response_flags: span.response_flags().unwrap_or("-").to_string(),
        security_policy: "unknown".into(),
        scrape_app: String::new(),
        series: SeriesId(0),
    })
}

/// Istio names a proxy's service `<canonical service>.<namespace>`; other SDKs name theirs as they like.
fn peer_of_service(span: &Span) -> Peer {
    let attribute = |keys: &[&str]| {
        let found = span.attributes.first_of(keys).or_else(|| span.resource.first_of(keys));
        found.map(|value| value.to_text()).filter(|text| !text.is_empty())
    };
    let (name, namespace) = match span.service.split_once('.') {
        Some((name, namespace)) => (name, namespace.split('.').next()),
        None => (&*span.service, None),
    };
    let service = attribute(&["istio.canonical_service"]).unwrap_or_else(|| name.to_string());
    let revision =
        attribute(&["istio.canonical_revision", "service.version"]).unwrap_or_else(|| "latest".into());
    let namespace = attribute(&["istio.namespace", "k8s.namespace.name", "service.namespace"])
        .or_else(|| namespace.map(str::to_string))
        .unwrap_or_else(|| "unknown".into());
    Peer {
        cluster: attribute(&["istio.cluster_id", "k8s.cluster.name"]).unwrap_or_else(|| "unknown".into()),
        namespace,
        workload: attribute(&["k8s.deployment.name"]).unwrap_or_else(|| "unknown".into()),
        app: service.clone(),
        version: revision.clone(),
        canonical_service: service,
        canonical_revision: revision,
        principal: "unknown".into(),
    }
}

/// `outbound|<port>|<subset>|<host>`
fn host_of_cluster(cluster: &str) -> Option<&str> {
    let mut parts = cluster.split('|');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some("outbound"), Some(_), Some(_), Some(host)) if !host.is_empty() => Some(host),
        _ => None,
    }
}

/// `reviews` of `reviews.bookinfo.svc.cluster.local` and of `reviews`; any other host whole.
fn service_name(host: &str) -> &str {
    match host.split_once('.') {
        Some((name, rest)) if rest.contains(".svc.") || rest.ends_with(".svc") => name,
        _ => host,
    }
}

fn service_namespace(host: &str) -> Option<&str> {
    let mut parts = host.split('.');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(_), Some(namespace), Some("svc")) => Some(namespace),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_of_edges_has_a_measure() {
        assert!(EDGE_METRICS.iter().all(|name| EdgeMeasure::of_metric(name).is_some()));
    }

    #[test]
    fn joining_parts_of_a_counter_in_any_cut_gives_the_same_increase() {
        let values = [3.0, 5.0, 5.0, 1.0, 4.0, 9.0, 2.0];
        let samples: Vec<Sample> = values
            .iter()
            .enumerate()
            .map(|(i, value)| Sample { time_ms: i as i64 * 15_000, value: *value })
            .collect();
        let join = |samples: &[Sample]| {
            let mut part = CounterPart::default();
            samples.iter().for_each(|sample| part.join(&CounterPart::of(*sample)));
            part
        };
        let whole = join(&samples);
        assert_eq!(whole.increase, 2.0 + 0.0 + 1.0 + 3.0 + 5.0 + 2.0);
        for cut in 1..samples.len() {
            let mut left = join(&samples[..cut]);
            left.join(&join(&samples[cut..]));
            assert_eq!(left, whole, "cut at {cut}");
        }
    }

    #[test]
    fn the_series_of_one_histogram_share_a_key_and_pods_do_not() {
        let series = |name: &str, le: &str, pod: &str| {
            edge_of_series(&Labels::from_pairs([
                ("__name__", name),
                ("reporter", "source"),
                ("source_workload", "a"),
                ("le", le),
                ("pod", pod),
            ]))
        };
        let bucket = series("istio_request_duration_milliseconds_bucket", "0.5", "p1").unwrap();
        let infinite = series("istio_request_duration_milliseconds_bucket", "+Inf", "p1").unwrap();
        let sum = series("istio_request_duration_milliseconds_sum", "", "p1").unwrap();
        let other = series("istio_requests_total", "", "p2").unwrap();
        assert_eq!(
            (bucket.1, bucket.2, infinite.2),
            (EdgeMeasure::DurationMs, Some(0.5), Some(f64::INFINITY))
        );
        assert_eq!(bucket.0, sum.0);
        assert_ne!(bucket.0, other.0);
        assert_eq!(series("istio_requests_bytes_total", "", "p1"), None);
        assert_eq!(series("istio_request_duration_milliseconds_bucket", "much", "p1"), None);
    }

    #[test]
    fn a_client_span_of_envoy_names_the_called_service() {
        let mut span =
            Span { kind: SpanKind::Client, service: "productpage.bookinfo".into(), ..Span::default() };
        span.attributes.insert("upstream_cluster", "outbound|9080|v1|reviews.bookinfo.svc.cluster.local");
        span.attributes.insert("http.status_code", "503");
        let key = edge_of_span(&span).unwrap();
        assert_eq!(
            (key.source.canonical_service.as_str(), key.source.namespace.as_str()),
            ("productpage", "bookinfo")
        );
        assert_eq!(key.destination_service_name, "reviews");
        assert_eq!((key.destination.namespace.as_str(), key.response_code.as_str()), ("bookinfo", "503"));
        assert_eq!(edge_of_span(&Span { kind: SpanKind::Internal, ..span }), None);
    }
}
