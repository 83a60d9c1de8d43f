//! The proxy's own listener: `/stats/prometheus` for scrapers, `/healthz/ready` for probes. Read-only.

use crate::state::Shared;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(crate) async fn run(shared: Arc<Shared>, socket: TcpListener, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = stop.cancelled() => return,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let (shared, stop) = (shared.clone(), stop.clone());
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let response = answer(&shared, &stop, &request);
                async { Ok::<_, Infallible>(response) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(60))
                .max_buf_size(16 * 1024)
                .serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                result = connection => if let Err(error) = result {
                    tracing::debug!(%error, "an admin connection ended");
                },
                () = stop.cancelled() => {}
            }
        });
    }
}

fn answer(shared: &Shared, stop: &CancellationToken, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let plain = |status: StatusCode, text: &str| {
        let mut response = Response::new(Full::from(text.to_owned()));
        *response.status_mut() = status;
        response
    };
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
    }
    match request.uri().path() {
        "/stats/prometheus" => {
            let accept = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok());
            let open = accept.is_some_and(|accept| accept.contains("application/openmetrics-text"));
            let metrics = &shared.telemetry.metrics;
            let (text, kind) = if open {
                (metrics.open_metrics(), OPEN_METRICS)
            } else {
                (metrics.prometheus_text(), PROMETHEUS_TEXT)
            };
            match text {
                Ok(text) => {
                    let mut response = Response::new(Full::from(text));
                    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
                    response
                }
                Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "metrics could not be written\n"),
            }
        }
        "/healthz/ready" if stop.is_cancelled() => plain(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        "/healthz/ready" => plain(StatusCode::OK, "ready\n"),
        _ => plain(StatusCode::NOT_FOUND, "there are /stats/prometheus and /healthz/ready\n"),
    }
}
