//! Upstream connections: one endpoint each, kept while they are good.
//!
//! HTTP/1 connections are used one request at a time, the most recently used first. Of HTTP/2 there is
//! one connection per endpoint, which carries all streams.

use crate::body::RequestBody;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use pharos_mesh::PoolLimits;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

/// Idle HTTP/1 connections that are kept per endpoint.
const MAX_IDLE: usize = 32;
/// A connection idle for longer is not used again: servers close such about then, our own after 60 s,
/// and a request that crosses the close on its way would be lost.
const MAX_IDLE_TIME: Duration = Duration::from_secs(30);
/// Longest response head that an upstream may send.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// The HTTP version of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    Http1,
    Http2,
}

/// One upstream address with its connections.
#[derive(Debug)]
pub(crate) struct Endpoint {
    address: Arc<str>,
    /// Requests under way.
    active: AtomicU32,
    idle: Mutex<Vec<Idle>>,
    http2: tokio::sync::Mutex<Option<Http2>>,
}

#[derive(Debug)]
struct Idle {
    connection: Http1,
    since: Instant,
}

#[derive(Debug)]
struct Http1 {
    sender: http1::SendRequest<RequestBody>,
    addresses: Addresses,
    requests: u32,
}

#[derive(Debug, Clone)]
struct Http2 {
    sender: http2::SendRequest<RequestBody>,
    addresses: Addresses,
}

/// Both ends of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Addresses {
    pub(crate) local: Option<SocketAddr>,
    pub(crate) remote: Option<SocketAddr>,
}

/// Why a request got no response.
#[derive(Debug)]
pub(crate) struct SendError {
    pub(crate) failure: Failure,
    /// For people; spaces become underscores where Envoy's format wants it.
    pub(crate) reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No connection came about.
    Connect,
    ConnectTimeout,
    Dns,
    /// The connection ended before a response.
    Terminated,
    /// The stream was reset.
    Reset,
    /// The stream was refused and not looked at: it can safely be sent again.
    Refused,
    /// What came back is not HTTP.
    Protocol,
}

/// The right to a connection while a response is read from it.
#[derive(Debug)]
pub(crate) struct Lease {
    endpoint: Arc<Endpoint>,
    connection: Option<Http1>,
    max_requests: u32,
    _active: ActiveRequest,
}

/// Counts a request as under way for as long as it lives.
#[derive(Debug)]
struct ActiveRequest(Arc<Endpoint>);

impl ActiveRequest {
    fn new(endpoint: &Arc<Endpoint>) -> Self {
        endpoint.active.fetch_add(1, Ordering::Relaxed);
        Self(endpoint.clone())
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Lease {
    /// The response was read to its end: the connection can be used again.
    pub(crate) fn give_back(mut self) {
        let Some(connection) = self.connection.take() else { return };
        if self.max_requests > 0 && connection.requests >= self.max_requests {
            return;
        }
        let mut idle = self.endpoint.idle.lock();
        if idle.len() < MAX_IDLE {
            idle.push(Idle { connection, since: Instant::now() });
        }
    }
}

impl Endpoint {
    pub(crate) fn new(address: Arc<str>) -> Arc<Self> {
        Arc::new(Self {
            address,
            active: AtomicU32::new(0),
            idle: Mutex::default(),
            http2: tokio::sync::Mutex::default(),
        })
    }

    pub(crate) fn address(&self) -> &Arc<str> {
        &self.address
    }

    pub(crate) fn active(&self) -> u32 {
        self.active.load(Ordering::Relaxed)
    }

    /// Sends a request and waits for the head of the response. An idle connection that turns out to be
    /// closed before anything was written is replaced without a word. Dropping the future gives the
    /// request up and closes an HTTP/1 connection.
    pub(crate) async fn send(
        self: &Arc<Self>,
        wire: Wire,
        limits: &PoolLimits,
        request: Request<RequestBody>,
    ) -> Result<(Response<Incoming>, Lease, Addresses), SendError> {
        let active = ActiveRequest::new(self);
        match wire {
            Wire::Http1 => self.send_http1(limits, request, active).await,
            Wire::Http2 => self.send_http2(limits, request, active).await,
        }
    }

    async fn send_http1(
        self: &Arc<Self>,
        limits: &PoolLimits,
        mut request: Request<RequestBody>,
        active: ActiveRequest,
    ) -> Result<(Response<Incoming>, Lease, Addresses), SendError> {
        loop {
            let (mut connection, reused) = match self.checkout(limits.idle_timeout).await {
                Some(connection) => (connection, true),
                None => (self.connect_http1(limits.connect_timeout).await?, false),
            };
            connection.requests += 1;
            let addresses = connection.addresses;
            match connection.sender.try_send_request(request).await {
                Ok(response) => {
                    let lease = Lease {
                        endpoint: self.clone(),
                        connection: Some(connection),
                        max_requests: limits.max_requests_per_connection,
                        _active: active,
                    };
                    return Ok((response, lease, addresses));
                }
                Err(mut error) => match error.take_message() {
                    Some(unsent) if reused => request = unsent,
                    _ => return Err(SendError::of(error.error())),
                },
            }
        }
    }

    async fn send_http2(
        self: &Arc<Self>,
        limits: &PoolLimits,
        mut request: Request<RequestBody>,
        active: ActiveRequest,
    ) -> Result<(Response<Incoming>, Lease, Addresses), SendError> {
        let mut reconnected = false;
        loop {
            let (mut connection, fresh) = self.http2_connection(limits.connect_timeout).await?;
            let addresses = connection.addresses;
            match connection.sender.try_send_request(request).await {
                Ok(response) => {
                    let lease =
                        Lease { endpoint: self.clone(), connection: None, max_requests: 0, _active: active };
                    return Ok((response, lease, addresses));
                }
                Err(mut error) => match error.take_message() {
                    Some(unsent) if !fresh && !reconnected => {
                        reconnected = true;
                        request = unsent;
                    }
                    _ => return Err(SendError::of(error.error())),
                },
            }
        }
    }

    /// The most recently used idle connection that is still open.
    async fn checkout(&self, idle_timeout: Duration) -> Option<Http1> {
        loop {
            let Idle { mut connection, since } = self.idle.lock().pop()?;
            // A connection whose response was just read becomes ready in a moment; a closed one fails.
            if since.elapsed() < idle_timeout.min(MAX_IDLE_TIME) && connection.sender.ready().await.is_ok() {
                return Some(connection);
            }
        }
    }

    async fn connect(&self, limit: Duration) -> Result<(TcpStream, Addresses), SendError> {
        let dial = async {
            let addresses = tokio::net::lookup_host(&*self.address)
                .await
                .map_err(|error| SendError { failure: Failure::Dns, reason: error.to_string() })?;
            let mut last = SendError { failure: Failure::Dns, reason: "no addresses".to_owned() };
            for address in addresses {
                match TcpStream::connect(address).await {
                    Ok(stream) => return Ok(stream),
                    Err(error) => {
                        let reason = format!("delayed connect error: {}", io_reason(&error));
                        last = SendError { failure: Failure::Connect, reason };
                    }
                }
            }
            Err(last)
        };
        let stream = timeout(limit, dial).await.map_err(|_| SendError {
            failure: Failure::ConnectTimeout,
            reason: "connection timeout".to_owned(),
        })??;
        // Small writes leave at once; a socket that refuses the option still works.
        let _ = stream.set_nodelay(true);
        let addresses = Addresses { local: stream.local_addr().ok(), remote: stream.peer_addr().ok() };
        Ok((stream, addresses))
    }

    async fn connect_http1(&self, limit: Duration) -> Result<Http1, SendError> {
        let (stream, addresses) = self.connect(limit).await?;
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEAD_BYTES)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| SendError::of(&error))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "an upstream connection ended");
            }
        });
        Ok(Http1 { sender, addresses, requests: 0 })
    }

    /// The shared connection, opened when there is none; true when it is a new one.
    async fn http2_connection(&self, limit: Duration) -> Result<(Http2, bool), SendError> {
        // The lock is held while connecting, so that a burst opens one connection and not many.
        let mut shared = self.http2.lock().await;
        if let Some(connection) = shared.as_ref().filter(|c| !c.sender.is_closed()) {
            return Ok((connection.clone(), false));
        }
        let (stream, addresses) = self.connect(limit).await?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(256 * 1024)
            .initial_connection_window_size(1024 * 1024)
            .max_header_list_size(MAX_HEAD_BYTES as u32)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| SendError::of(&error))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "an upstream HTTP/2 connection ended");
            }
        });
        let connection = Http2 { sender, addresses };
        *shared = Some(connection.clone());
        Ok((connection, true))
    }
}

/// The system's words without the number behind them.
fn io_reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

impl SendError {
    pub(crate) fn of(error: &hyper::Error) -> Self {
        let failure = match h2_reason(error) {
            Some(h2::Reason::REFUSED_STREAM) => Failure::Refused,
            Some(_) => Failure::Reset,
            None if error.is_parse() => Failure::Protocol,
            None => Failure::Terminated,
        };
        Self { failure, reason: error.to_string() }
    }
}

/// The code of an HTTP/2 reset, if that is what the error is.
fn h2_reason(error: &hyper::Error) -> Option<h2::Reason> {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(h2) = cause.downcast_ref::<h2::Error>() {
            return h2.is_reset().then(|| h2.reason()).flatten();
        }
        source = cause.source();
    }
    None
}
