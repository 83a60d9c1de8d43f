//! A small HTTP/1.1 and h2c server: what the workloads and their admin ports listen with.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// The longest request body that is taken; more is 413.
const MAX_BODY_BYTES: usize = 64 * 1024;
/// How long requests that are under way may take when the server stops.
const DRAIN: Duration = Duration::from_millis(500);

/// A request with its whole body.
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Asked {
    pub(crate) fn path(&self) -> &str {
        self.uri.path()
    }

    /// The header's value where it is there and readable as text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

pub(crate) type Answer = Response<Full<Bytes>>;

/// Something that answers requests.
pub(crate) trait Responder: Send + Sync + 'static {
    fn answer(&self, asked: Asked) -> impl Future<Output = Answer> + Send;
}

/// Serves `listener` until `stop`, then lets requests under way end for half a second.
pub(crate) async fn serve<R: Responder>(listener: TcpListener, responder: Arc<R>, stop: CancellationToken) {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(60));
    builder.http2().timer(TokioTimer::new());
    let in_flight = Arc::new(());
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            // Out of file descriptors or a connection gone before it was taken: neither ends the server.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        // Small answers in two writes would otherwise wait for the peer's delayed acknowledgement.
        let _ = stream.set_nodelay(true);
        let (responder, in_flight) = (Arc::clone(&responder), Arc::downgrade(&in_flight));
        let service = service_fn(move |request: Request<Incoming>| {
            let (responder, in_flight) = (Arc::clone(&responder), in_flight.upgrade());
            async move {
                let answer = take(responder.as_ref(), request).await;
                drop(in_flight);
                Ok::<_, Infallible>(answer)
            }
        });
        let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
        tokio::spawn(async move {
            // A peer that resets its connection is not our error.
            let _ = connection.await;
        });
    }
    let drained = async {
        while Arc::strong_count(&in_flight) > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let _ = tokio::time::timeout(DRAIN, drained).await;
}

async fn take<R: Responder>(responder: &R, request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    match Limited::new(body, MAX_BODY_BYTES).collect().await {
        Ok(body) => {
            let asked =
                Asked { method: head.method, uri: head.uri, headers: head.headers, body: body.to_bytes() };
            responder.answer(asked).await
        }
        Err(_) => text(StatusCode::PAYLOAD_TOO_LARGE, "the body is too long or broke off"),
    }
}

/// An answer with a body of this type.
pub(crate) fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

pub(crate) fn text(status: StatusCode, body: &'static str) -> Answer {
    answer(status, "text/plain; charset=utf-8", body)
}

pub(crate) fn json(status: StatusCode, body: &impl serde::Serialize) -> Answer {
    match serde_json::to_vec(body) {
        Ok(body) => answer(status, "application/json", body),
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the answer could not be written as JSON"),
    }
}
