//! Echo servers and proxies on loopback.

use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderMap, Request, Response, StatusCode, Version};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use parking_lot::Mutex;
use pharos_proxy::{Config, Proxy};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpSocket};

/// How an echo server behaves. Of sequences the last entry repeats.
#[derive(Debug, Clone)]
pub(crate) struct Behaviour {
    pub(crate) statuses: Vec<u16>,
    pub(crate) delays: Vec<Duration>,
    pub(crate) headers: Vec<(String, String)>,
    /// Sent after the body.
    pub(crate) trailers: Vec<(String, String)>,
    pub(crate) refuse: bool,
    pub(crate) accept_then_close: bool,
    /// Announce this many bytes, send half of them and cut the connection.
    pub(crate) cut_body: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            statuses: vec![200],
            delays: vec![Duration::ZERO],
            headers: Vec::new(),
            trailers: Vec::new(),
            refuse: false,
            accept_then_close: false,
            cut_body: false,
        }
    }
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) authority: String,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let lines: Vec<_> =
            self.headers.get_all(name).iter().map(|v| v.to_str().unwrap().to_owned()).collect();
        if lines.is_empty() { None } else { Some(lines.join(",")) }
    }
}

/// How long anything may take before a test gives up on it: generous, since a CI machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// An echo server: answers, and remembers what it was asked. Ends when dropped.
pub(crate) struct Backend {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    state: Arc<State>,
    answering: Answering,
}

/// Who holds the address, so that nobody else is given it meanwhile.
enum Answering {
    Accepts(tokio::task::JoinHandle<()>),
    /// A socket that does not listen refuses.
    Refuses {
        _socket: TcpSocket,
    },
}

struct State {
    behaviour: Behaviour,
    seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
}

impl Backend {
    pub(crate) async fn start(name: &str, behaviour: Behaviour) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        let refuse = behaviour.refuse;
        let state = Arc::new(State { behaviour, seen: Mutex::default(), connections: AtomicUsize::new(0) });
        let answering = if refuse {
            Answering::Refuses { _socket: socket }
        } else {
            let listener = socket.listen(1_024).unwrap();
            Answering::Accepts(tokio::spawn(accept(name.to_owned(), listener, state.clone())))
        };
        Self { name: name.to_owned(), address, state, answering }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn closes_at_once(&self) -> bool {
        self.state.behaviour.accept_then_close
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        if let Answering::Accepts(task) = &self.answering {
            task.abort();
        }
    }
}

async fn accept(name: String, socket: TcpListener, state: Arc<State>) {
    loop {
        let (stream, _) = socket.accept().await.unwrap();
        state.connections.fetch_add(1, Ordering::SeqCst);
        if state.behaviour.accept_then_close {
            drop(stream);
            continue;
        }
        let (name, state) = (name.clone(), state.clone());
        let service = service_fn(move |request| echo(name.clone(), state.clone(), request));
        tokio::spawn(async move {
            let _ = auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

type EchoBody = http_body_util::combinators::UnsyncBoxBody<Bytes, std::io::Error>;

async fn echo(
    name: String,
    state: Arc<State>,
    request: Request<Incoming>,
) -> Result<Response<EchoBody>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let authority = match head.uri.authority() {
        Some(authority) => authority.to_string(),
        None => head.headers.get("host").map_or("", |h| h.to_str().unwrap()).to_owned(),
    };
    let path = head.uri.path_and_query().unwrap().to_string();
    let number = {
        let mut seen = state.seen.lock();
        let (version, headers) = (head.version, head.headers);
        seen.push(Seen { path, authority, version, headers, body: body.clone() });
        seen.len() - 1
    };
    let behaviour = &state.behaviour;
    let pick = |len: usize| number.min(len - 1);
    tokio::time::sleep(behaviour.delays[pick(behaviour.delays.len())]).await;
    let mut response = Response::builder()
        .status(StatusCode::from_u16(behaviour.statuses[pick(behaviour.statuses.len())]).unwrap())
        .header("x-endpoint", name);
    for (name, value) in &behaviour.headers {
        response = response.header(name, value);
    }
    let mut frames = Vec::new();
    if behaviour.cut_body {
        response = response.header("content-length", 10);
        frames.push(Ok(Frame::data(Bytes::from_static(b"12345"))));
        frames.push(Err(std::io::Error::other("cut")));
    } else if !body.is_empty() {
        frames.push(Ok(Frame::data(body)));
    }
    if !behaviour.trailers.is_empty() {
        let pairs = behaviour.trailers.iter();
        let trailers = pairs.map(|(k, v)| (k.parse::<http::HeaderName>().unwrap(), v.parse().unwrap()));
        frames.push(Ok(Frame::trailers(trailers.collect())));
    }
    // What comes before a cut is given time to leave.
    let frames = futures::stream::iter(frames).then(|frame| async move {
        if frame.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        frame
    });
    Ok(response.body(StreamBody::new(frames).boxed_unsync()).unwrap())
}

/// Files of a mesh and the proxies that read them.
pub(crate) struct World {
    dir: TempDir,
}

impl World {
    /// `registry` and `istio` are YAML.
    pub(crate) fn new(registry: &str, istio: &str) -> Self {
        let dir = TempDir::new().unwrap();
        std::fs::create_dir(dir.path().join("istio")).unwrap();
        std::fs::write(dir.path().join("registry.yaml"), registry).unwrap();
        let world = Self { dir };
        world.write_istio(istio);
        world
    }

    /// The bookinfo registry with these backends as endpoints: a name is `<app>-<version>`, and all of
    /// one app are one service on port 9080 named http, or grpc for apps that start so.
    pub(crate) fn bookinfo(backends: &[&Backend], istio: &str) -> Self {
        Self::new(&Self::registry_of(backends.iter().map(|b| (b.name.as_str(), b.address))), istio)
    }

    pub(crate) fn registry_of<'a>(endpoints: impl Iterator<Item = (&'a str, SocketAddr)>) -> String {
        let mut services = std::collections::BTreeMap::<&str, Vec<serde_json::Value>>::new();
        for (name, address) in endpoints {
            let (app, version) = name.split_once('-').unwrap();
            services.entry(app).or_default().push(serde_json::json!({
                "address": address.to_string(),
                "workload": name,
                "labels": { "app": app, "version": version },
            }));
        }
        let services: Vec<_> = services
            .into_iter()
            .map(|(app, endpoints)| {
                let protocol = if app.starts_with("grpc") { "GRPC" } else { "HTTP" };
                serde_json::json!({
                    "name": app,
                    "namespace": "bookinfo",
                    "ports": [{ "number": 9080, "name": "main", "protocol": protocol }],
                    "endpoints": endpoints,
                })
            })
            .collect();
        serde_json::json!({ "services": services }).to_string()
    }

    pub(crate) fn write_istio(&self, istio: &str) {
        std::fs::write(self.dir.path().join("istio/config.yaml"), istio).unwrap();
    }

    /// Starts a proxy; `settings` lacks `admin` and `mesh`, and its ports are 0.
    pub(crate) async fn proxy(&self, settings: &str) -> Proxy {
        let dir = self.dir.path().display();
        let whole = format!(
            "{settings}\nadmin: {{ listen: \"127.0.0.1:0\" }}\nmesh: {{ configDir: {dir}/istio, registry: {dir}/registry.yaml }}\n"
        );
        Proxy::start(Config::parse("test", &whole).unwrap()).await.unwrap()
    }

    /// The sidecar of productpage-v1 with an outbound listener.
    pub(crate) async fn client_sidecar(&self, telemetry: &str) -> Proxy {
        self.proxy(&format!(
            "node: {{ workload: productpage-v1, namespace: bookinfo, labels: {{ app: productpage, version: v1 }} }}
outbound: [{{ listen: \"127.0.0.1:0\" }}]
telemetry: {telemetry}"
        ))
        .await
    }
}

/// A mesh where productpage's sidecar sends to the given backends directly.
pub(crate) async fn outbound(backends: &[&Backend], istio: &str) -> (World, Proxy, SocketAddr) {
    let world = World::bookinfo(backends, istio);
    let proxy = world.client_sidecar("{}").await;
    let address = proxy.addresses().outbound[0];
    (world, proxy, address)
}

/// A VirtualService for a host with these http rules.
pub(crate) fn virtual_service(host: &str, http: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{ name: {host}, namespace: bookinfo }}
spec:
  hosts: [{host}]
  http: {http}
"
    )
}
