//! Listeners: they accept connections, serve HTTP/1 and HTTP/2 on the same port, and drain when the
//! process is to end.
//!
//! Limits on what a client can send: a request head of 60 KiB with at most 100 fields (431), 64
//! KiB of read buffer per HTTP/1 connection, 100 concurrent HTTP/2 streams, 256 KiB of unread body per
//! stream and 1 MiB per HTTP/2 connection, 60 s for an HTTP/1 head to arrive. A body may be of any
//! length: it is passed on as it comes.

use crate::config::AppProtocol;
use crate::pool::{Endpoint, Wire};
use crate::record::{Connection, Role};
use crate::request::serve;
use crate::state::Shared;
use http::Version;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use pharos_mesh::RetryPolicy;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const MAX_HEAD_BYTES: usize = 64 * 1024;
const MAX_HEADER_LIST_BYTES: u32 = 60 * 1024;
const MAX_FIELDS: usize = 100;
const MAX_STREAMS: u32 = 100;
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// After this a drain closes what is still open.
const DRAIN: Duration = Duration::from_secs(1);

/// One listening address and what stands behind it.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) shared: Arc<Shared>,
    pub(crate) role: Role,
    /// Service port of an outbound, server port of a gateway listener.
    pub(crate) port: Option<u16>,
    /// For inbound listeners.
    pub(crate) app: Option<App>,
}

/// The workload's own process.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) protocol: AppProtocol,
    /// `inbound|<port>||`
    pub(crate) cluster_name: Arc<str>,
    pub(crate) operation: Arc<str>,
    /// Host and short name.
    pub(crate) service: Option<(Arc<str>, Arc<str>)>,
    pub(crate) retries: Arc<RetryPolicy>,
}

impl App {
    pub(crate) fn wire(&self, client: Version) -> Wire {
        match self.protocol {
            AppProtocol::Http2 => Wire::Http2,
            AppProtocol::Auto if client == Version::HTTP_2 => Wire::Http2,
            AppProtocol::Auto | AppProtocol::Http1 => Wire::Http1,
        }
    }
}

/// Accepts until `stop`, then lets the requests under way end.
pub(crate) async fn run(listener: Arc<Listener>, socket: TcpListener, stop: CancellationToken) {
    let connections = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = stop.cancelled() => break,
        };
        let (stream, remote) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, or a client that was gone at once: the listener stays.
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Ok(local) = stream.local_addr() else { continue };
        let _ = stream.set_nodelay(true);
        let connection = Arc::new(Connection { local, remote });
        let listener = listener.clone();
        let service = service_fn(move |request| serve(listener.clone(), connection.clone(), request));
        let served = connections.watch(server().serve_connection(TokioIo::new(stream), service).into_owned());
        tokio::spawn(async move {
            if let Err(error) = served.await {
                tracing::debug!(%error, %remote, "a client connection ended");
            }
        });
    }
    drop(socket);
    if tokio::time::timeout(DRAIN, connections.shutdown()).await.is_err() {
        tracing::warn!("requests under way were cut off by the end of the drain");
    }
}

fn server() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_FIELDS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_LIST_BYTES)
        .initial_stream_window_size(256 * 1024)
        .initial_connection_window_size(1024 * 1024);
    builder
}
