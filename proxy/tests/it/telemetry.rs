//! What the proxies tell of a request, from both ends.

use crate::http_client::{get, request, send};
use crate::receivers::{SpanRow, access_logs, access_logs_into, otlp, zipkin};
use crate::world::{Backend, Behaviour, World};
use pharos_proxy::Proxy;
use std::net::SocketAddr;

const TRACE: &str = "463ac35c9f6413ad48485a3953bb6124";
const SPAN: &str = "a2fb4a1d1a96d312";

/// productpage's sidecar, reviews' sidecar and the reviews app.
struct Pair {
    app: Backend,
    client: Proxy,
    server: Proxy,
}

async fn pair(client_telemetry: &str, server_telemetry: &str) -> Pair {
    let app = Backend::start("reviews-v1", Behaviour::default()).await;
    let server = World::new("services: []", "")
        .proxy(&format!(
            "node: {{ workload: reviews-v1, namespace: bookinfo, labels: {{ app: reviews, version: v1 }} }}
inbound: [{{ listen: \"127.0.0.1:0\", app: \"{}\", service: reviews.bookinfo.svc.cluster.local, port: 9080 }}]
telemetry: {server_telemetry}",
            app.address
        ))
        .await;
    let registry = World::registry_of([("reviews-v1", server.addresses().inbound[0])].into_iter());
    let client = World::new(&registry, "").client_sidecar(client_telemetry).await;
    Pair { app, client, server }
}

impl Pair {
    fn at(&self) -> SocketAddr {
        self.client.addresses().outbound[0]
    }
}

#[tokio::test]
async fn both_reporters_know_both_ends() {
    let pair = pair("{}", "{}").await;
    for _ in 0..3 {
        let answer = send(pair.at(), get("reviews:9080", "/reviews/0")).await.unwrap();
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("x-envoy-peer-metadata"), None, "the client app sees nothing of it");
        assert!(answer.header("x-envoy-upstream-service-time").is_some());
    }
    for (proxy, reporter, policy) in
        [(&pair.client, "source", "unknown"), (&pair.server, "destination", "none")]
    {
        let answer = send(proxy.addresses().admin, get("localhost", "/stats/prometheus")).await.unwrap();
        assert!(answer.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
        let text = String::from_utf8(answer.body.to_vec()).unwrap();
        let line = text.lines().find(|l| l.starts_with("istio_requests_total{")).unwrap();
        let expected = format!(
            "istio_requests_total{{reporter=\"{reporter}\",source_workload=\"productpage-v1\",\
             source_canonical_service=\"productpage\",source_canonical_revision=\"v1\",\
             source_workload_namespace=\"bookinfo\",source_principal=\"unknown\",source_app=\"productpage\",\
             source_version=\"v1\",source_cluster=\"Kubernetes\",destination_workload=\"reviews-v1\",\
             destination_workload_namespace=\"bookinfo\",destination_principal=\"unknown\",\
             destination_app=\"reviews\",destination_version=\"v1\",\
             destination_service=\"reviews.bookinfo.svc.cluster.local\",\
             destination_canonical_service=\"reviews\",destination_canonical_revision=\"v1\",\
             destination_service_name=\"reviews\",destination_service_namespace=\"bookinfo\",\
             destination_cluster=\"Kubernetes\",request_protocol=\"http\",response_code=\"200\",\
             grpc_response_status=\"\",response_flags=\"-\",connection_security_policy=\"{policy}\"}} 3"
        );
        assert_eq!(line, expected);
    }
    let open = request(
        "GET",
        "localhost",
        "/stats/prometheus",
        &[("accept", "application/openmetrics-text;version=1.0.0")],
    );
    let answer = send(pair.client.addresses().admin, open).await.unwrap();
    assert!(answer.header("content-type").unwrap().starts_with("application/openmetrics-text"));
    assert!(answer.body.ends_with(b"# EOF\n"));
    for name in ["x-envoy-peer-metadata", "x-envoy-peer-metadata-id", "x-envoy-decorator-operation"] {
        assert_eq!(pair.app.seen()[0].header(name), None, "the server app must not see {name}");
    }
}

#[tokio::test]
async fn an_access_log_row_tells_the_whole_request() {
    let (logs_at, logs, _task) = access_logs("127.0.0.1:0".parse().unwrap()).await;
    let settings = format!("{{ accessLog: {{ address: \"http://{logs_at}\" }} }}");
    let pair = pair(&settings, &settings).await;
    let b3 = format!("{TRACE}-{SPAN}-1");
    let headers =
        [("x-request-id", "row-1"), ("user-agent", "tester"), ("referer", "http://r/"), ("b3", b3.as_str())];
    let mut post = request("POST", "reviews:9080", "/reviews/0?a=b", &headers);
    *post.body_mut() = crate::http_client::full("12345");
    send(pair.at(), post).await.unwrap();
    let rows = logs.wait_for("both rows", |rows| rows.len() == 2).await;
    for (reporter, cluster, node, peer_key, peer_workload) in [
        (
            "source",
            "outbound|9080||reviews.bookinfo.svc.cluster.local",
            "productpage-v1",
            "upstream_peer",
            "reviews-v1",
        ),
        ("destination", "inbound|9080||", "reviews-v1", "downstream_peer", "productpage-v1"),
    ] {
        let row = rows.iter().find(|row| row.tag("reporter") == reporter).unwrap();
        assert_eq!(row.log_name, "http_envoy_accesslog");
        assert!(row.node.id.starts_with("sidecar~127.0.0.1~"), "{}", row.node.id);
        let metadata = row.node.metadata.as_ref().unwrap();
        assert!(format!("{metadata:?}").contains(node), "{metadata:?}");
        let common = row.entry.common_properties.as_ref().unwrap();
        let request = row.entry.request.as_ref().unwrap();
        let response = row.entry.response.as_ref().unwrap();
        assert_eq!((row.cluster(), row.route_name()), (cluster, "default"));
        assert_eq!((request.request_id.as_str(), request.path.as_str()), ("row-1", "/reviews/0?a=b"));
        assert_eq!((request.user_agent.as_str(), request.referer.as_str()), ("tester", "http://r/"));
        assert_eq!(request.authority, "reviews:9080");
        assert_eq!((request.request_body_bytes, response.response_body_bytes), (5, 5));
        assert!(common.downstream_wire_bytes_received > 5 && common.downstream_wire_bytes_sent > 5);
        assert_eq!(row.tag("trace_id"), TRACE);
        assert_eq!(row.tag("destination_service"), "reviews.bookinfo.svc.cluster.local");
        assert!(common.duration.is_some() && common.time_to_first_upstream_rx_byte.is_some());
        assert!(common.time_to_last_rx_byte.is_some() && common.upstream_remote_address.is_some());
        let peer = &common.filter_state_objects[peer_key];
        assert!(String::from_utf8_lossy(&peer.value).contains(peer_workload));
    }
}

#[tokio::test]
async fn logs_outlive_a_receiver_that_goes_away() {
    // On an address of its own, where nobody else is given the port meanwhile.
    let (at, inbox, task) = access_logs("127.0.66.1:0".parse().unwrap()).await;
    let pair = pair(&format!("{{ accessLog: {{ address: \"http://{at}\" }} }}"), "{}").await;
    let id = |n: usize| format!("r{n}");
    send(pair.at(), request("GET", "reviews:9080", "/", &[("x-request-id", &id(0))])).await.unwrap();
    inbox.wait_for("the first row", |rows| rows.len() == 1).await;
    task.abort();
    let _ = task.await;
    for n in 1..=20 {
        send(pair.at(), request("GET", "reviews:9080", "/", &[("x-request-id", &id(n))])).await.unwrap();
    }
    let (_, _task) = access_logs_into(at, inbox.clone()).await;
    send(pair.at(), request("GET", "reviews:9080", "/", &[("x-request-id", &id(21))])).await.unwrap();
    inbox.wait_for("the last row", |rows| rows.iter().any(|row| row.request_id() == id(21))).await;
}

#[tokio::test]
async fn what_is_queued_is_sent_before_the_end() {
    let (at, inbox, _task) = access_logs("127.0.0.1:0".parse().unwrap()).await;
    let pair = pair(&format!("{{ accessLog: {{ address: \"http://{at}\" }} }}"), "{}").await;
    for _ in 0..10 {
        send(pair.at(), get("reviews:9080", "/")).await.unwrap();
    }
    pair.client.stop().await;
    inbox.wait_for("all rows", |rows| rows.len() == 10).await;
}

/// Client over OTLP, server over Zipkin: one trace whichever header family starts it.
async fn spans_of(headers: &[(&str, &str)]) -> (Pair, Vec<SpanRow>) {
    let (otlp_at, otlp_spans) = otlp().await;
    let (zipkin_at, zipkin_spans) = zipkin().await;
    let pair = pair(
        &format!("{{ tracing: {{ otlp: {{ address: \"http://{otlp_at}\" }} }} }}"),
        &format!("{{ tracing: {{ zipkin: {{ url: \"http://{zipkin_at}/api/v2/spans\" }} }} }}"),
    )
    .await;
    let answer = send(pair.at(), request("GET", "reviews:9080", "/reviews/0", headers)).await.unwrap();
    assert_eq!(answer.status, 200);
    let mut spans = otlp_spans.wait_for("the client's span", |spans| spans.len() == 1).await;
    spans.extend(zipkin_spans.wait_for("the server's span", |spans| spans.len() == 1).await);
    (pair, spans)
}

#[tokio::test]
async fn a_trace_holds_every_hop_over_both_exporters_and_families() {
    let single = format!("{TRACE}-{SPAN}-1");
    let parent = format!("00-{TRACE}-{SPAN}-01");
    for headers in [
        vec![("b3", single.as_str())],
        vec![("x-b3-traceid", TRACE), ("x-b3-spanid", SPAN), ("x-b3-sampled", "1")],
        vec![("traceparent", parent.as_str())],
        vec![],
    ] {
        let (pair, spans) = spans_of(&headers).await;
        let [client, server] = spans.as_slice() else { panic!("{spans:?}") };
        assert_eq!((client.kind, server.kind), ("CLIENT", "SERVER"));
        assert_eq!(
            (client.service.as_str(), server.service.as_str()),
            ("productpage.bookinfo", "reviews.bookinfo")
        );
        assert_eq!(client.trace_id, server.trace_id, "{headers:?}");
        assert_eq!(server.parent, client.span_id, "the server's span is below the client's");
        if headers.is_empty() {
            assert!(client.parent.is_empty() || client.parent == "0000000000000000", "{client:?}");
        } else {
            assert_eq!((client.trace_id.as_str(), client.parent.as_str()), (TRACE, SPAN), "{headers:?}");
        }
        assert_eq!(client.name, "reviews.bookinfo.svc.cluster.local:9080/*");
        assert_eq!(server.name, client.name, "the client's proxy names the operation");
        let app = &pair.app.seen()[0];
        let id = app.header("x-request-id").unwrap();
        for span in &spans {
            for (key, value) in [
                ("component", "proxy"),
                ("http.method", "GET"),
                ("http.status_code", "200"),
                ("http.protocol", "HTTP/1.1"),
                ("http.url", "http://reviews:9080/reviews/0"),
                ("response_flags", "-"),
                ("istio.namespace", "bookinfo"),
                ("istio.cluster_id", "Kubernetes"),
                ("guid:x-request-id", id.as_str()),
            ] {
                assert_eq!(span.tags.get(key).map(String::as_str), Some(value), "{key} of {span:?}");
            }
            assert!(span.tags["node_id"].starts_with("sidecar~"));
        }
        assert_eq!(client.tags["upstream_cluster"], "outbound|9080||reviews.bookinfo.svc.cluster.local");
        // The app gets the context of its own sidecar's span, in both families.
        assert_eq!(app.header("x-b3-spanid").as_deref(), Some(server.span_id.as_str()));
        assert_eq!(app.header("x-b3-parentspanid").as_deref(), Some(client.span_id.as_str()));
        assert_eq!(app.header("traceparent"), Some(format!("00-{}-{}-01", server.trace_id, server.span_id)));
    }
}

#[tokio::test]
async fn a_decision_not_to_trace_is_kept_and_a_broken_context_left_alone() {
    let (otlp_at, spans) = otlp().await;
    let pair = pair(&format!("{{ tracing: {{ otlp: {{ address: \"http://{otlp_at}\" }} }} }}"), "{}").await;
    let unsampled = format!("{TRACE}-{SPAN}-0");
    for headers in [[("b3", unsampled.as_str())], [("b3", "broken")], [("x-b3-sampled", "0")]] {
        send(pair.at(), request("GET", "reviews:9080", "/", &headers)).await.unwrap();
    }
    // One that is sampled comes last: what is not there by then does not come.
    send(pair.at(), request("GET", "reviews:9080", "/", &[("x-request-id", "last")])).await.unwrap();
    let spans = spans.wait_for("the sampled span", |spans| !spans.is_empty()).await;
    assert_eq!(spans.len(), 1, "{spans:?}");
    assert_eq!(spans[0].tags["guid:x-request-id"], "last");
    let seen = pair.app.seen();
    assert_eq!(seen[0].header("x-b3-sampled").as_deref(), Some("0"));
    assert_eq!(seen[1].header("b3").as_deref(), Some("broken"));
    assert_eq!(seen[1].header("x-b3-traceid"), None);
}

#[tokio::test]
async fn sampling_is_a_share_of_new_traces() {
    let (otlp_at, spans) = otlp().await;
    let none = pair(
        &format!("{{ tracing: {{ otlp: {{ address: \"http://{otlp_at}\" }}, samplingPercent: 0 }} }}"),
        "{}",
    )
    .await;
    for _ in 0..20 {
        send(none.at(), get("reviews:9080", "/")).await.unwrap();
    }
    let forced = request("GET", "reviews:9080", "/", &[("x-b3-flags", "1"), ("x-request-id", "forced")]);
    send(none.at(), forced).await.unwrap();
    let spans = spans.wait_for("the forced span", |spans| !spans.is_empty()).await;
    assert_eq!(spans.iter().map(|s| s.tags["guid:x-request-id"].as_str()).collect::<Vec<_>>(), ["forced"]);
    assert!(none.app.seen()[..20].iter().all(|s| s.header("x-b3-sampled").as_deref() == Some("0")));
}
