use pharos_model::{AccessLog, Reporter, UnixNanos};
use pharos_proto::envoy::config::core::v3::Node;
use prost_types::{Struct, Value, value::Kind};

use super::{
    naming::Naming,
    node::{ProxyKind, ProxyNode},
    parse_line,
};

const ISTIO: &str = r#"[2020-11-25T21:26:18.409Z] "GET /status/418 HTTP/1.1" 418 - via_upstream - "-" 0 135 4 3 "10.1.1.1,10.2.2.2" "curl/7.73.0-DEV" "84961386-6d84-929d-98bd-c5aee93b5c88" "httpbin:8000" "10.44.1.27:80" outbound|8000||httpbin.foo.svc.cluster.local 10.44.1.23:37652 10.0.45.184:8000 10.44.1.23:46520 - default"#;
const TCP: &str = r#"[2026-11-20T09:00:01.000Z] "- - -" 0 UF,URX - - "TLS error: closed" 12 345 60000 - "-" "-" "-" "-" "10.0.0.9:27017" outbound|27017||mongo.shop.svc.cluster.local 10.0.0.1:1 10.0.0.2:27017 10.0.0.3:2 - -"#;
const ENVOY: &str = r#"[2016-04-15T20:17:00.310Z] "POST /api/v1/locations HTTP/2" 204 - 154 0 226 100 "10.0.35.28" "nsq2http" "cc21d9b0-cf5c-432b-8c7e-98aeb7988cd2" "locations" "tcp://10.0.2.1:80""#;
const JSON: &str = r#"{"start_time":"2020-11-25T21:26:18.409Z","route_name":"default","method":"GET","path":"/a \"b\"","protocol":"HTTP/1.1","response_code":418,"response_flags":"-","response_code_details":"via_upstream","connection_termination_details":null,"bytes_received":0,"bytes_sent":"135","duration":4,"upstream_service_time":"3","x_forwarded_for":null,"user_agent":"curl","request_id":"r","authority":"httpbin:8000","upstream_host":"10.44.1.27:80","upstream_cluster":"outbound|8000||httpbin.foo.svc.cluster.local","extra":{"a":1}}"#;

#[test]
fn lines_in_the_known_formats() {
    let istio = parse_line(ISTIO).unwrap();
    assert_eq!(istio.time, UnixNanos(1_606_339_578_409_000_000));
    assert_eq!(
        (istio.method.as_str(), istio.path.as_str(), istio.http_version.as_str()),
        ("GET", "/status/418", "HTTP/1.1")
    );
    assert_eq!((istio.response_code, istio.response_flags.is_empty()), (418, true));
    assert_eq!(istio.response_code_details, "via_upstream");
    assert_eq!((istio.request_bytes, istio.response_bytes, istio.duration_us), (0, 135, 4_000));
    assert_eq!(istio.time_to_first_upstream_rx_us, 3_000);
    assert_eq!(
        (istio.forwarded_for.as_str(), istio.user_agent.as_str()),
        ("10.1.1.1,10.2.2.2", "curl/7.73.0-DEV")
    );
    assert_eq!(istio.request_id, "84961386-6d84-929d-98bd-c5aee93b5c88");
    assert_eq!((istio.authority.as_str(), istio.upstream_host.as_str()), ("httpbin:8000", "10.44.1.27:80"));
    assert_eq!(istio.upstream_cluster, "outbound|8000||httpbin.foo.svc.cluster.local");
    assert_eq!(
        (istio.downstream_local_address.as_str(), istio.route_name.as_str()),
        ("10.0.45.184:8000", "default")
    );
    assert_eq!((istio.requested_server_name.as_str(), istio.request_protocol.as_str()), ("", "http"));

    let tcp = parse_line(TCP).unwrap();
    assert_eq!((tcp.request_protocol.as_str(), tcp.response_code), ("tcp", 0));
    assert_eq!(tcp.response_flags.to_string(), "UF,URX");
    assert_eq!(tcp.upstream_transport_failure_reason, "TLS error: closed");
    assert_eq!((tcp.request_bytes, tcp.response_bytes), (12, 345));

    let envoy = parse_line(ENVOY).unwrap();
    assert_eq!((envoy.method.as_str(), envoy.http_version.as_str()), ("POST", "HTTP/2"));
    assert_eq!(
        (envoy.request_bytes, envoy.duration_us, envoy.upstream_host.as_str()),
        (154, 226_000, "tcp://10.0.2.1:80")
    );

    let json = parse_line(JSON).unwrap();
    assert_eq!((json.path.as_str(), json.response_code, json.response_bytes), ("/a \"b\"", 418, 135));
    assert_eq!(json.connection_termination_details, "");
    assert_eq!(json.duration_us, 4_000);
}

#[test]
fn other_lines_are_refused_with_a_reason() {
    for (line, words) in [
        ("", "does not start"),
        ("hello", "does not start"),
        ("[2020-11-25T21:26:18.409Z] nothing quoted", "no quoted request"),
        (r#"[2020-11-25T21:26:18.409Z] "GET""#, "no path"),
        (r#"[2020-11-25T21:26:18.409Z] "GET /" 200"#, "no protocol"),
        (r#"[2020-11-25T21:26:18.409Z] "GET / HTTP/1.1" 200 -"#, "2 fields follow"),
        (&ISTIO.replace("418 - via", "teapot - via"), "response_code"),
        (&ISTIO.replace("418 - via", "70000 - via"), "response_code"),
        (&ISTIO.replace("0 135 4 3", "0 135 x 3"), "duration"),
        (&ISTIO.replace("2020-11-25T21", "yesterday"), "start_time"),
        ("{", "EOF"),
        (r#"{"start_time": 5}"#, "start_time"),
    ] {
        let error = parse_line(line).unwrap_err().to_string();
        assert!(error.contains(words), "{line:?}: {error:?} does not say {words:?}");
    }
}

fn text(text: &str) -> Value {
    Value { kind: Some(Kind::StringValue(text.into())) }
}

fn structure(fields: &[(&str, &str)], labels: &[(&str, &str)]) -> Struct {
    let pairs =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(key, value)| (key.to_string(), text(value))).collect();
    let mut all = Struct { fields: pairs(fields) };
    if !labels.is_empty() {
        let labels = Kind::StructValue(Struct { fields: pairs(labels) });
        all.fields.insert("LABELS".into(), Value { kind: Some(labels) });
    }
    all
}

#[test]
fn a_proxy_is_known_by_its_metadata_or_else_by_its_names() {
    let node = |id: &str, cluster: &str, metadata: Option<Struct>| {
        ProxyNode::new(&Node { id: id.into(), cluster: cluster.into(), metadata, ..Node::default() })
    };
    let istio = node(
        "sidecar~10.0.0.1~reviews-v1-545db77b95-wjtrr.bookinfo~bookinfo.svc.cluster.local",
        "reviews.bookinfo",
        Some(structure(
            &[("WORKLOAD_NAME", "reviews-v1"), ("NAMESPACE", "bookinfo"), ("CLUSTER_ID", "Kubernetes")],
            &[
                ("app", "reviews"),
                ("version", "v1"),
                ("service.istio.io/canonical-name", "reviews-canonical"),
            ],
        )),
    );
    assert_eq!((istio.kind, istio.peer.workload.as_str()), (ProxyKind::Sidecar, "reviews-v1"));
    assert_eq!((istio.peer.app.as_str(), istio.peer.version.as_str()), ("reviews", "v1"));
    assert_eq!(
        (istio.peer.canonical_service.as_str(), istio.peer.canonical_revision.as_str()),
        ("reviews-canonical", "v1")
    );
    for (id, kind, workload, namespace) in [
        (
            "sidecar~1.2.3.4~reviews-v1-545db77b95-wjtrr.bookinfo~d",
            ProxyKind::Sidecar,
            "reviews-v1",
            "bookinfo",
        ),
        (
            "router~1.2.3.4~istio-ingressgateway-7d9c8b5f4-x2x4z.istio-system~d",
            ProxyKind::Gateway,
            "istio-ingressgateway",
            "istio-system",
        ),
        (
            "waypoint~1.2.3.4~waypoint-6f8d5f5b7c-abcde.shop~d",
            ProxyKind::Waypoint,
            "waypoint-6f8d5f5b7c-abcde",
            "shop",
        ),
        ("sidecar~1.2.3.4~mysql-0.db~d", ProxyKind::Sidecar, "mysql", "db"),
        ("test-id", ProxyKind::Sidecar, "", ""),
    ] {
        let named = node(id, "", None);
        assert_eq!(
            (named.kind, named.peer.workload.as_str(), named.peer.namespace.as_str()),
            (kind, workload, namespace),
            "{id}"
        );
    }
    let by_cluster = node("x", "details.bookinfo", None);
    assert_eq!(
        (by_cluster.peer.canonical_service.as_str(), by_cluster.peer.namespace.as_str()),
        ("details", "bookinfo")
    );
}

#[test]
fn both_ends_and_the_service_are_named_as_istio_names_them() {
    struct Case {
        cluster: &'static str,
        authority: &'static str,
        route: &'static str,
        local_address: &'static str,
        reporter: Reporter,
        service: &'static str,
        name: &'static str,
        namespace: &'static str,
    }
    let case = |cluster, authority, reporter, service, name, namespace| Case {
        cluster,
        authority,
        route: "default",
        local_address: "",
        reporter,
        service,
        name,
        namespace,
    };
    let reviews = "reviews.bookinfo.svc.cluster.local";
    let own = "productpage.bookinfo.svc.cluster.local";
    let (source, destination) = (Reporter::Source, Reporter::Destination);
    let cases = [
        case(
            "outbound|9080|v1|reviews.bookinfo.svc.cluster.local",
            "reviews:9080",
            source,
            reviews,
            "reviews",
            "bookinfo",
        ),
        case("outbound|443||api.example.com", "x", source, "api.example.com", "api.example.com", "unknown"),
        case(
            "PassthroughCluster",
            "api.example.com",
            source,
            "api.example.com",
            "PassthroughCluster",
            "unknown",
        ),
        case("BlackHoleCluster", "", source, "unknown", "BlackHoleCluster", "unknown"),
        case("inbound|9080||", "reviews:9080", destination, reviews, "reviews", "bookinfo"),
        case("inbound|9080||", "reviews.bookinfo", destination, reviews, "reviews", "bookinfo"),
        case("inbound|9080||", "reviews.bookinfo.svc", destination, reviews, "reviews", "bookinfo"),
        case("inbound|9080||", "shop.example.com", destination, own, "productpage", "bookinfo"),
        case("inbound|9080||", "10.0.0.1:9080", destination, own, "productpage", "bookinfo"),
        case(
            "InboundPassthroughCluster",
            "10.0.0.1:9080",
            destination,
            own,
            "InboundPassthroughCluster",
            "bookinfo",
        ),
        Case {
            route: "block_all",
            ..case("", "evil.example.com", source, "evil.example.com", "BlackHoleCluster", "unknown")
        },
        Case {
            local_address: "10.0.0.1:15006",
            ..case("", "reviews:9080", destination, reviews, "reviews", "bookinfo")
        },
        Case {
            local_address: "127.0.0.1:15001",
            ..case("", "reviews:9080", source, reviews, "reviews", "bookinfo")
        },
    ];
    let node = ProxyNode::from_names(
        "sidecar~1.1.1.1~productpage-v1-545db77b95-wjtrr.bookinfo~d",
        "productpage.bookinfo",
    );
    for case in cases {
        let mut log = AccessLog {
            upstream_cluster: case.cluster.into(),
            authority: case.authority.into(),
            route_name: case.route.into(),
            downstream_local_address: case.local_address.into(),
            ..AccessLog::default()
        };
        let naming = Naming {
            node: &node,
            upstream_peer: None,
            downstream_peer: None,
            client_principal: None,
            own_principal: None,
        };
        naming.complete(&mut log);
        let what = (case.cluster, case.authority);
        assert_eq!(log.reporter, case.reporter, "{what:?}");
        assert_eq!(log.destination_service, case.service, "{what:?}");
        assert_eq!(log.destination_service_name, case.name, "{what:?}");
        assert_eq!(log.destination_service_namespace, case.namespace, "{what:?}");
        let (own, other) = match log.reporter {
            Reporter::Source => (&log.source, &log.destination),
            _ => (&log.destination, &log.source),
        };
        assert_eq!(
            (own.workload.as_str(), other.workload.as_str()),
            ("productpage-v1", "unknown"),
            "{what:?}"
        );
        assert_eq!(other.canonical_revision, "latest");
        let security = if log.reporter == source { "unknown" } else { "none" };
        assert_eq!(log.security_policy, security);
    }
}
