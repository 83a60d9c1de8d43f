//! One request over loopback, straight and through a sidecar, on connections that are kept. The
//! difference is what the sidecar costs. Allocations are counted as well: `cargo bench -p pharos-proxy`
//! prints them first.

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use pharos_proxy::{Config, Proxy};
use std::alloc::{GlobalAlloc, Layout, System};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static ALLOCATED_BYTES: AtomicU64 = AtomicU64::new(0);

#[allow(unsafe_code)]
// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        ALLOCATED_BYTES.fetch_add(layout.size() as u64, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A server that answers 1 KiB.
async fn server() -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = socket.local_addr().expect("an address");
    tokio::spawn(async move {
        let body = Bytes::from(vec![b'x'; 1024]);
        loop {
            let Ok((stream, _)) = socket.accept().await else { continue };
            let body = body.clone();
            let service = service_fn(move |_: Request<Incoming>| {
                let response = Response::new(Full::new(body.clone()));
                async { Ok::<_, Infallible>(response) }
            });
            let serving = hyper::server::conn::http1::Builder::new();
            tokio::spawn(serving.serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}

async fn connect(to: SocketAddr) -> SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(to).await.expect("a listener");
    stream.set_nodelay(true).expect("a socket option");
    let (sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("a connection");
    tokio::spawn(connection);
    sender
}

async fn exchange(sender: &mut SendRequest<Full<Bytes>>) {
    let request = Request::builder()
        .uri("/reviews/0")
        .header("host", "reviews:9080")
        .header("user-agent", "bench")
        .header("end-user", "jason")
        .body(Full::new(Bytes::new()))
        .expect("a request");
    sender.ready().await.expect("an open connection");
    let response = sender.send_request(request).await.expect("an answer");
    assert!(response.status().is_success());
    response.into_body().collect().await.expect("a body");
}

async fn sidecar(upstream: SocketAddr, dir: &std::path::Path) -> Proxy {
    let istio = dir.join("istio");
    std::fs::create_dir(&istio).expect("a folder");
    let registry = serde_json::json!({ "services": [{
        "name": "reviews",
        "namespace": "bookinfo",
        "ports": [{ "number": 9080, "name": "http" }],
        "endpoints": [{ "address": upstream.to_string(), "workload": "reviews-v1",
                        "labels": { "app": "reviews", "version": "v1" } }],
    }]});
    let rules = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: reviews, namespace: bookinfo }
spec:
  hosts: [reviews]
  http:
    - match: [{ headers: { end-user: { exact: nobody } } }]
      directResponse: { status: 418 }
    - route: [{ destination: { host: reviews } }]
";
    std::fs::write(dir.join("registry.yaml"), registry.to_string()).expect("a file");
    std::fs::write(istio.join("reviews.yaml"), rules).expect("a file");
    let settings = format!(
        "node: {{ workload: productpage-v1, namespace: bookinfo, labels: {{ app: productpage }} }}
outbound: [{{ listen: \"127.0.0.1:0\" }}]
admin: {{ listen: \"127.0.0.1:0\" }}
mesh: {{ configDir: {}, registry: {} }}",
        istio.display(),
        dir.join("registry.yaml").display()
    );
    Proxy::start(Config::parse("bench", &settings).expect("settings")).await.expect("a proxy")
}

fn allocations(runtime: &Runtime, name: &str, sender: &mut SendRequest<Full<Bytes>>) {
    const REQUESTS: u64 = 1000;
    runtime.block_on(async {
        for _ in 0..REQUESTS {
            exchange(sender).await;
        }
    });
    let before = (ALLOCATIONS.load(Ordering::Relaxed), ALLOCATED_BYTES.load(Ordering::Relaxed));
    runtime.block_on(async {
        for _ in 0..REQUESTS {
            exchange(sender).await;
        }
    });
    let count = (ALLOCATIONS.load(Ordering::Relaxed) - before.0) / REQUESTS;
    let bytes = (ALLOCATED_BYTES.load(Ordering::Relaxed) - before.1) / REQUESTS;
    eprintln!("{name}: {count} allocations, {bytes} bytes per request (client and server included)");
}

fn requests(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let dir = tempfile::TempDir::new().expect("a folder");
    let (mut straight, mut proxied) = runtime.block_on(async {
        let upstream = server().await;
        let proxy = sidecar(upstream, dir.path()).await;
        (connect(upstream).await, connect(proxy.addresses().outbound[0]).await)
    });
    allocations(&runtime, "straight", &mut straight);
    allocations(&runtime, "through a sidecar", &mut proxied);
    criterion.bench_function("straight", |b| b.iter(|| runtime.block_on(exchange(&mut straight))));
    criterion.bench_function("through a sidecar", |b| b.iter(|| runtime.block_on(exchange(&mut proxied))));
}

criterion_group!(benches, requests);
criterion_main!(benches);
