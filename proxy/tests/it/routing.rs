//! Routes, faults, retries and timeouts by Istio's rules, over HTTP/1.

use crate::http_client::{full, get, request, send};
use crate::receivers::access_logs;
use crate::world::{Backend, Behaviour, World, outbound, virtual_service};
use std::time::Duration;

const SUBSETS: &str = "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: reviews, namespace: bookinfo }
spec:
  host: reviews
  subsets: [{ name: v1, labels: { version: v1 } }, { name: v2, labels: { version: v2 } }]
";

async fn two_versions() -> [Backend; 2] {
    [
        Backend::start("reviews-v1", Behaviour::default()).await,
        Backend::start("reviews-v2", Behaviour::default()).await,
    ]
}

#[tokio::test]
async fn weights_split_and_headers_route() {
    let [v1, v2] = two_versions().await;
    let rules = virtual_service(
        "reviews",
        "[{ match: [{ headers: { end-user: { exact: jason } } }],
            route: [{ destination: { host: reviews, subset: v2 } }] },
          { route: [{ destination: { host: reviews, subset: v1 }, weight: 80 },
                    { destination: { host: reviews, subset: v2 }, weight: 20 }] }]",
    );
    let (_world, _proxy, at) = outbound(&[&v1, &v2], &format!("{SUBSETS}---\n{rules}")).await;
    for _ in 0..10 {
        let jason = request("GET", "reviews:9080", "/", &[("end-user", "jason")]);
        assert_eq!(send(at, jason).await.unwrap().endpoint().unwrap(), "reviews-v2");
    }
    let jasons = v2.seen().len();
    for _ in 0..300 {
        assert_eq!(send(at, get("reviews:9080", "/")).await.unwrap().status, 200);
    }
    let share = (v2.seen().len() - jasons) as f64 / 300.0;
    // Five standard deviations around 0.2.
    assert!((share - 0.2).abs() < 0.116, "v2 got {share}");
}

#[tokio::test]
async fn what_cannot_be_routed_says_why() {
    let up = Backend::start("reviews-v1", Behaviour::default()).await;
    let down = Backend::start("ratings-v1", Behaviour { refuse: true, ..Behaviour::default() }).await;
    let closing =
        Backend::start("details-v1", Behaviour { accept_then_close: true, ..Behaviour::default() }).await;
    let cut = Backend::start("shop-v1", Behaviour { cut_body: true, ..Behaviour::default() }).await;
    let rules = virtual_service(
        "reviews",
        "[{ match: [{ uri: { prefix: /lost } }], route: [{ destination: { host: reviews, subset: v9 } }] },
          { match: [{ uri: { prefix: /abort } }], fault: { abort: { httpStatus: 418, percentage: { value: 100 } } },
            route: [{ destination: { host: reviews } }] },
          { match: [{ uri: { prefix: /ok } }], name: fine, route: [{ destination: { host: reviews } }] }]",
    );
    let world = World::bookinfo(&[&up, &down, &closing, &cut], &rules);
    let (logs_at, logs, _task) = access_logs("127.0.0.1:0".parse().unwrap()).await;
    let proxy = world.client_sidecar(&format!("{{ accessLog: {{ address: \"http://{logs_at}\" }} }}")).await;
    let at = proxy.addresses().outbound[0];
    let cases = [
        ("reviews:9080", "/ok", 200, "-", "via_upstream"),
        ("reviews:9080", "/none", 404, "NR", "route_not_found"),
        ("reviews:9080", "/lost", 503, "NC", "cluster_not_found"),
        ("reviews:9080", "/abort", 418, "FI", "fault_filter_abort"),
        (
            "ratings:9080",
            "/",
            503,
            "UF,URX",
            "upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_Connection_refused}",
        ),
        ("details:9080", "/", 503, "UC", "upstream_reset_before_response_started{connection_termination}"),
        ("shop:9080", "/", 200, "UC", "upstream_reset_after_response_started{connection_termination}"),
    ];
    for (number, (authority, path, status, flags, details)) in cases.iter().enumerate() {
        let id = format!("case-{number}");
        // A response that is cut in the middle reaches the client as an error.
        let answer = send(at, request("GET", authority, path, &[("x-request-id", &id)])).await;
        assert_eq!(answer.ok().map_or(200, |a| a.status), *status, "{authority}{path}");
        let rows = logs.wait_for(&id, |rows| rows.iter().any(|r| r.request_id() == id)).await;
        let row = rows.into_iter().find(|r| r.request_id() == id).unwrap();
        assert_eq!((row.flags().as_str(), row.details()), (*flags, *details), "{authority}{path}");
        assert_eq!(row.code(), u32::from(*status));
    }
}

#[tokio::test]
async fn a_client_that_goes_away_is_told_apart() {
    let slow = Behaviour { delays: vec![Duration::from_secs(30)], ..Behaviour::default() };
    let reviews = Backend::start("reviews-v1", slow).await;
    let world = World::bookinfo(&[&reviews], "");
    let (logs_at, logs, _task) = access_logs("127.0.0.1:0".parse().unwrap()).await;
    let proxy = world.client_sidecar(&format!("{{ accessLog: {{ address: \"http://{logs_at}\" }} }}")).await;
    let at = proxy.addresses().outbound[0];
    let waiting = tokio::spawn(send(at, request("GET", "reviews:9080", "/", &[("x-request-id", "gone")])));
    while reviews.seen().is_empty() {
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    waiting.abort();
    let rows = logs.wait_for("the row", |rows| !rows.is_empty()).await;
    assert_eq!((rows[0].flags().as_str(), rows[0].code()), ("DC", 0));
    assert_eq!(rows[0].details(), "downstream_remote_disconnect");
}

#[tokio::test]
async fn a_body_is_sent_again_with_the_retry() {
    let flaky = Behaviour { statuses: vec![503, 200], ..Behaviour::default() };
    let reviews = Backend::start("reviews-v1", flaky).await;
    let rules = virtual_service(
        "reviews",
        "[{ retries: { attempts: 2, retryOn: 5xx }, route: [{ destination: { host: reviews } }] }]",
    );
    let (_world, _proxy, at) = outbound(&[&reviews], &rules).await;
    let mut post = request("POST", "reviews:9080", "/", &[]);
    *post.body_mut() = full("payload");
    let answer = send(at, post).await.unwrap();
    assert_eq!((answer.status, answer.body.as_ref()), (200, &b"payload"[..]));
    let seen = reviews.seen();
    assert_eq!(seen.iter().map(|s| s.body.as_ref()).collect::<Vec<_>>(), [b"payload", b"payload"]);
    let attempts: Vec<_> = seen.iter().map(|s| s.header("x-envoy-attempt-count").unwrap()).collect();
    assert_eq!(attempts, ["1", "2"]);
}

#[tokio::test]
async fn a_body_too_long_to_keep_is_sent_once() {
    let failing = Behaviour { statuses: vec![503], ..Behaviour::default() };
    let reviews = Backend::start("reviews-v1", failing).await;
    let rules = virtual_service(
        "reviews",
        "[{ retries: { attempts: 2, retryOn: 5xx }, route: [{ destination: { host: reviews } }] }]",
    );
    let (_world, _proxy, at) = outbound(&[&reviews], &rules).await;
    let mut post = request("POST", "reviews:9080", "/", &[]);
    *post.body_mut() = full(vec![b'x'; 200_000]);
    assert_eq!(send(at, post).await.unwrap().status, 503);
    let seen = reviews.seen();
    assert_eq!((seen.len(), seen[0].body.len()), (1, 200_000));
}

#[tokio::test]
async fn a_timeout_ends_a_slow_answer() {
    let slow = Behaviour { delays: vec![Duration::from_secs(30)], ..Behaviour::default() };
    let reviews = Backend::start("reviews-v1", slow).await;
    let rules =
        virtual_service("reviews", "[{ timeout: 200ms, route: [{ destination: { host: reviews } }] }]");
    let (_world, _proxy, at) = outbound(&[&reviews], &rules).await;
    let answer = send(at, get("reviews:9080", "/")).await.unwrap();
    assert_eq!((answer.status, answer.body.as_ref()), (504, &b"upstream request timeout"[..]));
    let seen = reviews.seen();
    assert_eq!(seen[0].header("x-envoy-expected-rq-timeout-ms").as_deref(), Some("200"));
}

#[tokio::test]
async fn broken_requests_get_a_plain_400() {
    let reviews = Backend::start("reviews-v1", Behaviour::default()).await;
    let (_world, _proxy, at) = outbound(&[&reviews], "").await;
    for wire in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: reviews:9080\r\nhost: details:9080\r\n\r\n",
        "CONNECT reviews:9080 HTTP/1.1\r\nhost: reviews:9080\r\n\r\n",
        "nonsense\r\n\r\n",
    ] {
        assert!(raw(at, wire).await.starts_with("HTTP/1.1 400"), "{wire:?}");
    }
    let many: String = (0..101).map(|i| format!("a{i}: b\r\n")).collect();
    let wire = format!("GET / HTTP/1.1\r\nhost: reviews:9080\r\n{many}\r\n");
    assert!(raw(at, &wire).await.starts_with("HTTP/1.1 431"), "more than 100 fields");
    assert!(reviews.seen().is_empty());
    assert_eq!(send(at, get("reviews:9080", "/")).await.unwrap().status, 200, "and it goes on");
}

/// The first line of the answer to these bytes.
async fn raw(at: std::net::SocketAddr, wire: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(at).await.unwrap();
    stream.write_all(wire.as_bytes()).await.unwrap();
    let mut answer = vec![0; 256];
    let read = stream.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..read]).lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_gateway_serves_the_hosts_of_its_gateways() {
    let page = Backend::start("productpage-v1", Behaviour::default()).await;
    let config = "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: gw, namespace: bookinfo }
spec:
  selector: { istio: ingressgateway }
  servers: [{ port: { number: 80, name: http, protocol: HTTP }, hosts: ['*'] }]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: page, namespace: bookinfo }
spec:
  hosts: [bookinfo.example.com]
  gateways: [gw]
  http: [{ match: [{ uri: { exact: /productpage } }], route: [{ destination: { host: productpage } }] }]
";
    let world = World::bookinfo(&[&page], config);
    let proxy = world
        .proxy(
            "node: { workload: istio-ingressgateway, namespace: istio-system, labels: { istio: ingressgateway } }
gateway: [{ listen: \"127.0.0.1:0\", port: 80 }]",
        )
        .await;
    let at = proxy.addresses().gateway[0];
    for (authority, path, status) in [
        ("bookinfo.example.com", "/productpage", 200),
        ("bookinfo.example.com:80", "/productpage?u=1", 200),
        ("bookinfo.example.com", "/admin", 404),
        ("other.example.com", "/productpage", 404),
    ] {
        let answer = send(at, get(authority, path)).await.unwrap();
        assert_eq!(answer.status, status, "{authority}{path}");
        assert_eq!(answer.header("server").as_deref(), Some("pharos-proxy"));
        assert_eq!(answer.header("x-envoy-peer-metadata"), None, "clients see nothing of the mesh");
    }
    let seen = page.seen();
    assert_eq!(seen[0].header("x-forwarded-for").as_deref(), Some("127.0.0.1"));
    assert_eq!(seen[0].header("x-forwarded-proto").as_deref(), Some("http"));
    assert!(seen[0].header("x-request-id").is_some_and(|id| id.len() == 36));
}

#[tokio::test]
async fn hosts_outside_of_the_mesh_pass_unless_forbidden() {
    let outside = Backend::start("outside-v1", Behaviour::default()).await;
    let world = World::new("services: []", "");
    let authority = outside.address.to_string();
    let open = world.client_sidecar("{}").await;
    let answer = send(open.addresses().outbound[0], get(&authority, "/x")).await.unwrap();
    assert_eq!((answer.status, outside.seen()[0].path.as_str()), (200, "/x"));
    world.write_istio(
        "apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: { name: default, namespace: bookinfo }
spec: { outboundTrafficPolicy: { mode: REGISTRY_ONLY } }
",
    );
    let closed = world.client_sidecar("{}").await;
    let answer = send(closed.addresses().outbound[0], get(&authority, "/x")).await.unwrap();
    assert_eq!((answer.status, outside.seen().len()), (502, 1));
    let own = open.addresses().outbound[0];
    let looped = send(own, get(&own.to_string(), "/")).await.unwrap();
    assert_eq!(looped.status, 508, "a request to ourselves ends here");
}

#[tokio::test]
async fn a_mirror_gets_a_copy_with_its_body_and_cannot_hurt() {
    let v1 = Backend::start("reviews-v1", Behaviour::default()).await;
    let slow =
        Behaviour { statuses: vec![500], delays: vec![Duration::from_secs(30)], ..Behaviour::default() };
    let v2 = Backend::start("reviews-v2", slow).await;
    let rules = virtual_service(
        "reviews",
        "[{ route: [{ destination: { host: reviews, subset: v1 } }], mirror: { host: reviews, subset: v2 } }]",
    );
    let (_world, _proxy, at) = outbound(&[&v1, &v2], &format!("{SUBSETS}---\n{rules}")).await;
    let mut post = request("POST", "reviews:9080", "/", &[("x-request-id", "m")]);
    *post.body_mut() = full("payload");
    let answer = send(at, post).await.unwrap();
    assert_eq!((answer.status, answer.endpoint().as_deref()), (200, Some("reviews-v1")));
    while v2.seen().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let copy = &v2.seen()[0];
    assert_eq!((copy.body.as_ref(), copy.header("x-request-id").as_deref()), (&b"payload"[..], Some("m")));
    assert_eq!(copy.header("x-b3-sampled").as_deref(), Some("0"), "copies are not traced");
    assert_eq!(v1.seen()[0].header("x-b3-sampled").as_deref(), Some("1"));
}

#[tokio::test]
async fn a_browser_is_told_where_it_may_send_to() {
    let reviews = Backend::start("reviews-v1", Behaviour::default()).await;
    let rules = virtual_service(
        "reviews",
        "[{ corsPolicy: { allowOrigins: [{ exact: 'https://shop.test' }], allowMethods: [GET], maxAge: 1m },
            route: [{ destination: { host: reviews } }] }]",
    );
    let (_world, _proxy, at) = outbound(&[&reviews], &rules).await;
    let preflight = |origin| {
        let headers = [("origin", origin), ("access-control-request-method", "GET")];
        send(at, request("OPTIONS", "reviews:9080", "/", &headers))
    };
    let answer = preflight("https://shop.test").await.unwrap();
    assert_eq!(answer.header("access-control-allow-origin").as_deref(), Some("https://shop.test"));
    assert_eq!(answer.header("access-control-max-age").as_deref(), Some("60"));
    assert!(reviews.seen().is_empty(), "the proxy answers itself");
    let answer = preflight("https://evil.test").await.unwrap();
    assert_eq!(answer.header("access-control-allow-origin"), None);
    assert_eq!(reviews.seen().len(), 1, "others are the service's business");
}
