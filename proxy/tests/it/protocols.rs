//! HTTP/2 and gRPC through both sidecars; streaming; keep-alive; the end of a process.

use crate::http_client::{full, get, request, send, send_h2};
use crate::world::{Backend, Behaviour, PATIENCE, World, outbound, virtual_service};
use bytes::Bytes;
use http::Version;
use http_body_util::{BodyExt, StreamBody};
use std::time::Duration;

/// A gRPC server as far as HTTP is concerned: echoes, and ends with trailers.
fn grpc_server(status: &str) -> Behaviour {
    Behaviour {
        headers: vec![("content-type".to_owned(), "application/grpc".to_owned())],
        trailers: vec![("grpc-status".to_owned(), status.to_owned()), ("x-end".to_owned(), "1".to_owned())],
        ..Behaviour::default()
    }
}

fn grpc_message(text: &str) -> Bytes {
    let mut message = vec![0];
    message.extend_from_slice(&(text.len() as u32).to_be_bytes());
    message.extend_from_slice(text.as_bytes());
    message.into()
}

#[tokio::test]
async fn grpc_passes_both_sidecars_with_its_trailers() {
    let app = Backend::start("grpc-v1", grpc_server("0")).await;
    let world = World::bookinfo(&[], "");
    let server = world
        .proxy(&format!(
            "node: {{ workload: grpc-v1, namespace: bookinfo, labels: {{ app: grpc, version: v1 }} }}
inbound: [{{ listen: \"127.0.0.1:0\", app: \"{}\", port: 9080 }}]",
            app.address
        ))
        .await;
    let inbound = server.addresses().inbound[0];
    let registry = World::registry_of([("grpc-v1", inbound)].into_iter());
    let world = World::new(&registry, "");
    let client = world.client_sidecar("{}").await;

    let headers = [("content-type", "application/grpc"), ("te", "trailers")];
    let mut call = request("POST", "grpc:9080", "/pkg.Greeter/Hello", &headers);
    *call.body_mut() = full(grpc_message("hello"));
    let answer = send_h2(client.addresses().outbound[0], call).await.unwrap();
    assert_eq!((answer.status, answer.body.clone()), (200, grpc_message("hello")));
    let trailers = answer.trailers.expect("trailers");
    assert_eq!(
        (&trailers["grpc-status"], &trailers["x-end"]),
        (&"0".parse().unwrap(), &"1".parse().unwrap())
    );
    let seen = &app.seen()[0];
    assert_eq!((seen.version, seen.authority.as_str()), (Version::HTTP_2, "grpc:9080"));
    assert_eq!(seen.header("te").as_deref(), Some("trailers"));

    let stats = |proxy: &pharos_proxy::Proxy| get_stats(proxy.addresses().admin);
    for (proxy, reporter) in [(&client, "source"), (&server, "destination")] {
        let text = stats(proxy).await;
        let line = text.lines().find(|l| l.starts_with("istio_requests_total{")).unwrap();
        assert!(line.contains("request_protocol=\"grpc\""), "{line}");
        assert!(line.contains("grpc_response_status=\"0\""), "{line}");
        assert!(line.contains(&format!("reporter=\"{reporter}\"")), "{line}");
        for messages in ["istio_request_messages_total{", "istio_response_messages_total{"] {
            let line = text.lines().find(|l| l.starts_with(messages)).unwrap();
            assert!(line.ends_with(" 1"), "{line}");
        }
    }
}

async fn get_stats(admin: std::net::SocketAddr) -> String {
    let answer = send(admin, get("localhost", "/stats/prometheus")).await.unwrap();
    String::from_utf8(answer.body.to_vec()).unwrap()
}

#[tokio::test]
async fn a_grpc_client_gets_errors_in_its_own_form() {
    let app = Backend::start("grpc-v1", Behaviour { refuse: true, ..Behaviour::default() }).await;
    let (_world, proxy, at) = outbound(
        &[&app],
        &virtual_service("grpc", "[{ retries: { attempts: 0 }, route: [{ destination: { host: grpc } }] }]"),
    )
    .await;
    let call = request("POST", "grpc:9080", "/pkg.Greeter/Hello", &[("content-type", "application/grpc")]);
    let answer = send_h2(at, call).await.unwrap();
    assert_eq!((answer.status, answer.header("grpc-status").as_deref()), (200, Some("14")));
    assert!(answer.header("grpc-message").unwrap().contains("upstream connect error"));
    let text = get_stats(proxy.addresses().admin).await;
    let line = text.lines().find(|l| l.starts_with("istio_requests_total{")).unwrap();
    assert!(line.contains("grpc_response_status=\"14\"") && line.contains("response_flags=\"UF\""), "{line}");
}

#[tokio::test]
async fn http2_clients_reach_http1_services_and_share_a_connection() {
    let reviews = Backend::start("reviews-v1", Behaviour::default()).await;
    let (_world, _proxy, at) = outbound(&[&reviews], "").await;
    for _ in 0..5 {
        let mut call = request("POST", "reviews:9080", "/x?y=1", &[("cookie", "a=1"), ("cookie", "b=2")]);
        *call.body_mut() = full("body");
        let answer = send_h2(at, call).await.unwrap();
        assert_eq!((answer.status, answer.body.as_ref()), (200, &b"body"[..]));
    }
    let seen = reviews.seen();
    assert_eq!((seen[0].version, seen[0].path.as_str()), (Version::HTTP_11, "/x?y=1"));
    assert_eq!(seen[0].authority, "reviews:9080");
    assert_eq!(seen[0].headers.get_all("cookie").iter().collect::<Vec<_>>(), ["a=1; b=2"]);
    assert_eq!(reviews.connections(), 1, "the upstream connection is kept");
}

#[tokio::test]
async fn an_authority_is_rewritten_for_either_version() {
    let reviews = Backend::start("reviews-v1", Behaviour::default()).await;
    let rules = virtual_service(
        "reviews",
        "[{ rewrite: { authority: inner.test, uri: /new }, route: [{ destination: { host: reviews } }] }]",
    );
    let (_world, _proxy, at) = outbound(&[&reviews], &rules).await;
    send(at, get("reviews:9080", "/x?q=1")).await.unwrap();
    send_h2(at, get("reviews:9080", "/x?q=1")).await.unwrap();
    let mut absolute = get("other:1", "/x?q=1");
    *absolute.uri_mut() = "http://reviews:9080/x?q=1".parse().unwrap();
    send(at, absolute).await.unwrap();
    for seen in reviews.seen() {
        assert_eq!((seen.authority.as_str(), seen.path.as_str()), ("inner.test", "/newx?q=1"));
    }
    assert_eq!(reviews.seen().len(), 3);
}

#[tokio::test]
async fn an_upstream_that_closed_its_idle_connection_is_dialled_again() {
    // The connection is closed after each answer, without saying so before.
    let closing = Behaviour { headers: vec![("connection".into(), "close".into())], ..Behaviour::default() };
    let reviews = Backend::start("reviews-v1", closing).await;
    let (_world, _proxy, at) = outbound(&[&reviews], "").await;
    for _ in 0..5 {
        assert_eq!(send(at, get("reviews:9080", "/")).await.unwrap().status, 200);
    }
    assert_eq!(reviews.connections(), 5);
}

#[tokio::test]
async fn bodies_stream_in_both_directions() {
    let app = Backend::start("grpc-v1", grpc_server("0")).await;
    let (_world, _proxy, at) = outbound(&[&app], "").await;
    let pieces = (0..200)
        .map(|_| Ok::<_, std::convert::Infallible>(http_body::Frame::data(Bytes::from(vec![7; 10_000]))));
    let mut call = request("POST", "grpc:9080", "/pkg.S/Upload", &[("content-type", "application/grpc")]);
    *call.body_mut() = StreamBody::new(tokio_stream::iter(pieces)).boxed();
    let answer = send_h2(at, call).await.unwrap();
    assert_eq!(answer.body.len(), 2_000_000);
    assert_eq!(app.seen()[0].body.len(), 2_000_000);
}

#[tokio::test]
async fn clients_that_stay_connected_do_not_hold_up_the_end() {
    let reviews = Backend::start("reviews-v1", Behaviour::default()).await;
    let (_world, proxy, at) = outbound(&[&reviews], "").await;
    assert_eq!(send(at, get("reviews:9080", "/")).await.unwrap().status, 200);
    let _idle = tokio::net::TcpStream::connect(at).await.unwrap();
    let admin = proxy.addresses().admin;
    tokio::time::timeout(PATIENCE, proxy.stop()).await.expect("the end");
    assert!(tokio::net::TcpStream::connect(at).await.is_err(), "nobody listens any more");
    assert!(tokio::net::TcpStream::connect(admin).await.is_err());
}

#[tokio::test]
async fn a_request_under_way_may_finish_when_the_process_ends() {
    let slow = Behaviour { delays: vec![Duration::from_millis(50)], ..Behaviour::default() };
    let reviews = Backend::start("reviews-v1", slow).await;
    let (_world, proxy, at) = outbound(&[&reviews], "").await;
    let under_way = tokio::spawn(send(at, get("reviews:9080", "/")));
    while reviews.seen().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    proxy.stop().await;
    assert_eq!(under_way.await.unwrap().unwrap().status, 200);
}
