use pharos_model::{AccessLog, ResponseFlag};
use pharos_proto::envoy::{
    config::core::v3::{Address, Node, RequestMethod, SocketAddress, address, socket_address::PortSpecifier},
    data::accesslog::v3::{
        AccessLogCommon, AccessLogType, ConnectionProperties, HttpAccessLogEntry, HttpRequestProperties,
        HttpResponseProperties, ResponseFlags, TcpAccessLogEntry, TlsProperties,
        http_access_log_entry::HttpVersion,
        tls_properties::{
            CertificateProperties, TlsVersion,
            certificate_properties::{SubjectAltName, subject_alt_name::San},
        },
    },
    service::accesslog::v3::{
        StreamAccessLogsMessage,
        access_log_service_client::AccessLogServiceClient,
        stream_access_logs_message::{HttpAccessLogEntries, Identifier, LogEntries, TcpAccessLogEntries},
    },
};
use prost::Message;
use prost_types::{Any, Duration, Struct, Timestamp, Value, value::Kind};

use crate::{Protocol, bench::Bench};

fn structure(pairs: &[(&str, &str)]) -> Struct {
    let text = |text: &str| Value { kind: Some(Kind::StringValue(text.into())) };
    Struct { fields: pairs.iter().map(|(key, value)| (key.to_string(), text(value))).collect() }
}

fn productpage() -> Identifier {
    let mut metadata = structure(&[
        ("WORKLOAD_NAME", "productpage-v1"),
        ("NAMESPACE", "bookinfo"),
        ("CLUSTER_ID", "Kubernetes"),
    ]);
    let labels = Kind::StructValue(structure(&[("app", "productpage"), ("version", "v1")]));
    metadata.fields.insert("LABELS".into(), Value { kind: Some(labels) });
    let node = Node {
        id: "sidecar~10.0.0.1~productpage-v1-0.bookinfo~bookinfo.svc.cluster.local".into(),
        cluster: "productpage.bookinfo".into(),
        metadata: Some(metadata),
        ..Node::default()
    };
    Identifier { node: Some(node), log_name: "http_envoy_accesslog".into() }
}

fn address(host: &str, port: u32) -> Option<Address> {
    let port_specifier = Some(PortSpecifier::PortValue(port));
    let socket = SocketAddress { address: host.into(), port_specifier, ..SocketAddress::default() };
    Some(Address { address: Some(address::Address::SocketAddress(socket)) })
}

fn millis(ms: i32) -> Option<Duration> {
    Some(Duration { seconds: 0, nanos: ms * 1_000_000 })
}

fn common() -> AccessLogCommon {
    AccessLogCommon {
        start_time: Some(Timestamp { seconds: 1_700_000_000, nanos: 123_456_789 }),
        duration: millis(12),
        upstream_cluster: "outbound|9080|v1|reviews.bookinfo.svc.cluster.local".into(),
        ..AccessLogCommon::default()
    }
}

fn http(common_properties: AccessLogCommon) -> HttpAccessLogEntry {
    HttpAccessLogEntry { common_properties: Some(common_properties), ..HttpAccessLogEntry::default() }
}

fn http_message(entries: Vec<HttpAccessLogEntry>) -> StreamAccessLogsMessage {
    let log_entries = Some(LogEntries::HttpLogs(HttpAccessLogEntries { log_entry: entries }));
    StreamAccessLogsMessage { identifier: Some(productpage()), log_entries }
}

async fn send(
    bench: &mut Bench,
    messages: Vec<StreamAccessLogsMessage>,
) -> Result<Vec<AccessLog>, tonic::Status> {
    let mut client = AccessLogServiceClient::new(bench.collector.grpc_routes());
    client.stream_access_logs(tokio_stream::iter(messages)).await?;
    Ok(bench.stored().access_logs)
}

/// One HTTP entry with everything set.
pub(crate) fn sample_message() -> StreamAccessLogsMessage {
    let peer = structure(&[
        ("workload", "reviews-v1"),
        ("namespace", "bookinfo"),
        ("service", "reviews"),
        ("app", "reviews"),
        ("version", "v1"),
    ]);
    let entry = HttpAccessLogEntry {
        common_properties: Some(AccessLogCommon {
            downstream_remote_address: address("10.0.0.1", 4242),
            downstream_local_address: address("2001:db8::1", 15001),
            upstream_remote_address: address("10.0.0.2", 9080),
            time_to_last_rx_byte: millis(1),
            time_to_first_upstream_tx_byte: millis(2),
            time_to_first_upstream_rx_byte: millis(3),
            time_to_last_upstream_rx_byte: millis(4),
            time_to_first_downstream_tx_byte: millis(5),
            upstream_request_attempt_count: 2,
            route_name: "split".into(),
            response_flags: Some(ResponseFlags {
                delay_injected: true,
                upstream_retry_limit_exceeded: true,
                ..ResponseFlags::default()
            }),
            filter_state_objects: [(
                "upstream_peer".to_string(),
                Any {
                    type_url: "type.googleapis.com/google.protobuf.Struct".into(),
                    value: peer.encode_to_vec(),
                },
            )]
            .into(),
            custom_tags: [("tenant".to_string(), "blue".to_string())].into(),
            downstream_wire_bytes_received: 1_000,
            ..common()
        }),
        protocol_version: HttpVersion::Http2.into(),
        request: Some(HttpRequestProperties {
            request_method: RequestMethod::Post.into(),
            scheme: "http".into(),
            authority: "reviews:9080".into(),
            path: "/rewritten".into(),
            original_path: "/reviews/0".into(),
            user_agent: "curl".into(),
            request_id: "r-1".into(),
            request_body_bytes: 10,
            request_headers: [
                (
                    "traceparent".to_string(),
                    "00-5b8efff798038103d269b633813fc60c-eee19b7ec3c1b174-01".to_string(),
                ),
                ("content-type".to_string(), "application/grpc+proto".to_string()),
            ]
            .into(),
            ..HttpRequestProperties::default()
        }),
        response: Some(HttpResponseProperties {
            response_code: Some(200),
            response_headers_bytes: 30,
            response_body_bytes: 20,
            response_code_details: "via_upstream".into(),
            response_trailers: [("grpc-status".to_string(), "14".to_string())].into(),
            ..HttpResponseProperties::default()
        }),
    };
    http_message(vec![entry])
}

#[tokio::test]
async fn an_outbound_request_keeps_every_field() {
    let mut bench = Bench::new().await;
    let logs = send(&mut bench, vec![sample_message()]).await.unwrap();
    let [log] = logs.as_slice() else { panic!("{logs:?}") };
    assert_eq!((log.time.0, log.duration_us), (1_700_000_000_123_456_789, 12_000));
    assert_eq!(log.reporter.name(), "source");
    assert_eq!(
        (log.source.workload.as_str(), log.source.app.as_str(), log.source.version.as_str()),
        ("productpage-v1", "productpage", "v1")
    );
    assert_eq!(
        (log.source.canonical_service.as_str(), log.source.cluster.as_str()),
        ("productpage", "Kubernetes")
    );
    assert_eq!(
        (log.destination.workload.as_str(), log.destination.canonical_service.as_str()),
        ("reviews-v1", "reviews")
    );
    assert_eq!(
        (log.destination.cluster.as_str(), log.destination.principal.as_str()),
        ("unknown", "unknown")
    );
    assert_eq!(log.destination_service, "reviews.bookinfo.svc.cluster.local");
    assert_eq!(
        (log.destination_service_name.as_str(), log.destination_service_namespace.as_str()),
        ("reviews", "bookinfo")
    );
    assert_eq!(
        (log.method.as_str(), log.path.as_str(), log.original_path.as_str()),
        ("POST", "/reviews/0", "/reviews/0")
    );
    assert_eq!(
        (log.http_version.as_str(), log.request_protocol.as_str(), log.grpc_status),
        ("HTTP/2", "grpc", Some(14))
    );
    assert_eq!((log.response_code, log.response_flags.to_string().as_str()), (200, "DI,URX"));
    assert_eq!(
        (log.request_bytes, log.response_bytes, log.request_wire_bytes, log.response_wire_bytes),
        (10, 20, 1_000, 50)
    );
    let times = [
        log.time_to_last_rx_us,
        log.time_to_first_upstream_tx_us,
        log.time_to_first_upstream_rx_us,
        log.time_to_last_upstream_rx_us,
        log.time_to_first_downstream_tx_us,
    ];
    assert_eq!(times, [1_000, 2_000, 3_000, 4_000, 5_000]);
    assert_eq!(
        (log.upstream_host.as_str(), log.downstream_local_address.as_str()),
        ("10.0.0.2:9080", "[2001:db8::1]:15001")
    );
    assert_eq!(
        (log.upstream_attempts, log.route_name.as_str(), log.user_agent.as_str()),
        (2, "split", "curl")
    );
    assert_eq!(log.trace_id.unwrap().to_string(), "5b8efff798038103d269b633813fc60c");
    assert_eq!(log.span_id.unwrap().to_string(), "eee19b7ec3c1b174");
    assert_eq!(log.attributes.text("tenant"), Some("blue"));
    let keys: Vec<&str> = log.attributes.iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["tenant", "http.request.header.content-type"], "what has a field is not kept twice");
    assert!(log.node_id.starts_with("sidecar~10.0.0.1~"));
    assert_eq!(bench.received(Protocol::Als).items, 1);
}

#[tokio::test]
async fn an_inbound_request_over_mutual_tls_names_its_client() {
    let certificate = |uri: &str| {
        let name = SubjectAltName { san: Some(San::Uri(uri.into())) };
        Some(CertificateProperties { subject_alt_name: vec![name], ..CertificateProperties::default() })
    };
    let entry = http(AccessLogCommon {
        upstream_cluster: "inbound|9080||".into(),
        tls_properties: Some(TlsProperties {
            tls_version: TlsVersion::TlSv13.into(),
            tls_sni_hostname: "outbound_.9080_._.productpage".into(),
            peer_certificate_properties: certificate("spiffe://cluster.local/ns/istio-system/sa/ingress"),
            local_certificate_properties: certificate("spiffe://cluster.local/ns/bookinfo/sa/productpage"),
            ..TlsProperties::default()
        }),
        ..common()
    });
    let logs = send(&mut Bench::new().await, vec![http_message(vec![entry])]).await.unwrap();
    let [log] = logs.as_slice() else { panic!("{logs:?}") };
    assert_eq!(
        (log.reporter.name(), log.security_policy.as_str(), log.tls_version.as_str()),
        ("destination", "mutual_tls", "TLSv1.3")
    );
    assert_eq!(log.source.principal, "spiffe://cluster.local/ns/istio-system/sa/ingress");
    assert_eq!((log.source.namespace.as_str(), log.source.workload.as_str()), ("istio-system", "unknown"));
    assert_eq!(log.destination.principal, "spiffe://cluster.local/ns/bookinfo/sa/productpage");
    assert_eq!(
        (log.destination.workload.as_str(), log.destination_service_name.as_str()),
        ("productpage-v1", "productpage")
    );
}

#[tokio::test]
async fn tags_under_istios_label_names_win() {
    let tags = [
        ("reporter", "destination"),
        ("source_workload", "gateway"),
        ("source_workload_namespace", "istio-system"),
        ("destination_service", "a.b.svc.cluster.local"),
        ("connection_security_policy", "mutual_tls"),
        ("grpc_response_status", "7"),
        ("trace_id", "463ac35c9f6413ad48485a3953bb6124"),
    ];
    let custom_tags = tags.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    let entry = http(AccessLogCommon { custom_tags, ..common() });
    let logs = send(&mut Bench::new().await, vec![http_message(vec![entry])]).await.unwrap();
    let log = &logs[0];
    assert_eq!(
        (log.reporter.name(), log.source.workload.as_str(), log.source.namespace.as_str()),
        ("destination", "gateway", "istio-system")
    );
    assert_eq!(
        (log.destination_service.as_str(), log.security_policy.as_str()),
        ("a.b.svc.cluster.local", "mutual_tls")
    );
    assert_eq!(
        (log.grpc_status, log.trace_id.unwrap().to_string().as_str()),
        (Some(7), "463ac35c9f6413ad48485a3953bb6124")
    );
}

#[tokio::test]
async fn a_request_that_is_told_of_several_times_counts_once() {
    let of_type = |kind: AccessLogType| http(AccessLogCommon { access_log_type: kind.into(), ..common() });
    let entries = vec![
        of_type(AccessLogType::DownstreamStart),
        of_type(AccessLogType::UpstreamEnd),
        http(AccessLogCommon { intermediate_log_entry: true, ..common() }),
        of_type(AccessLogType::DownstreamEnd),
    ];
    let logs = send(&mut Bench::new().await, vec![http_message(entries)]).await.unwrap();
    assert_eq!(logs.len(), 1);
}

#[tokio::test]
async fn tcp_connections() {
    let entry = TcpAccessLogEntry {
        common_properties: Some(AccessLogCommon {
            upstream_cluster: "outbound|27017||mongo.shop.svc.cluster.local".into(),
            response_flags: Some(ResponseFlags {
                upstream_connection_failure: true,
                ..ResponseFlags::default()
            }),
            ..common()
        }),
        connection_properties: Some(ConnectionProperties { received_bytes: 7, sent_bytes: 9 }),
    };
    let log_entries = Some(LogEntries::TcpLogs(TcpAccessLogEntries { log_entry: vec![entry] }));
    let message = StreamAccessLogsMessage { identifier: Some(productpage()), log_entries };
    let logs = send(&mut Bench::new().await, vec![message]).await.unwrap();
    let log = &logs[0];
    assert_eq!((log.request_protocol.as_str(), log.request_bytes, log.response_bytes), ("tcp", 7, 9));
    assert!(log.response_flags.contains(ResponseFlag::UpstreamConnectionFailure));
    assert_eq!(
        (log.destination_service_name.as_str(), log.destination_service_namespace.as_str()),
        ("mongo", "shop")
    );
    // Nobody told which workload it was, and the service's name does not say: as in Istio's labels.
    assert_eq!(
        (log.destination.workload.as_str(), log.destination.namespace.as_str()),
        ("unknown", "unknown")
    );
}

#[tokio::test]
async fn a_stream_starts_with_its_identifier_and_goes_on_past_bad_entries() {
    let mut bench = Bench::new().await;
    let anonymous = StreamAccessLogsMessage { identifier: None, ..http_message(vec![http(common())]) };
    let refused = send(&mut bench, vec![anonymous.clone()]).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    assert!(refused.message().contains("identifier"), "{refused}");

    let bad = vec![
        http(AccessLogCommon { start_time: None, ..common() }),
        HttpAccessLogEntry::default(),
        http(AccessLogCommon { start_time: Some(Timestamp { seconds: i64::MAX, nanos: 0 }), ..common() }),
        http(common()),
    ];
    let logs = send(&mut bench, vec![http_message(bad), anonymous]).await.unwrap();
    assert_eq!(logs.len(), 2, "the second message belongs to the same proxy");
    assert_eq!(logs[1].source.workload, "productpage-v1");
    assert_eq!(bench.received(Protocol::Als).rejected, 3);
}
