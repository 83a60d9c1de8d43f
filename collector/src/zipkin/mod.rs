//! Zipkin v2: `POST /api/v2/spans`, JSON or protobuf, as Zipkin's own server takes it.

mod json;
mod proto;
mod span;

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{DefaultBodyLimit, State},
    response::{IntoResponse, Response},
    routing::post,
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use pharos_model::{Span, UnixNanos};
use pharos_storage::Batch;

use crate::{body, counters::Protocol, fault::Fault, intake::Intake};

pub(crate) fn router(intake: Arc<Intake>) -> Router {
    Router::new().route("/api/v2/spans", post(spans)).layer(DefaultBodyLimit::disable()).with_state(intake)
}

/// Zipkin answers 202 without a body, and errors as plain text.
async fn spans(State(intake): State<Arc<Intake>>, headers: HeaderMap, body: Body) -> Response {
    match take(&intake, &headers, body).await {
        Ok(()) => StatusCode::ACCEPTED.into_response(),
        Err(fault) => {
            intake.counters.failed(Protocol::Zipkin);
            let mut response = (fault.http_status(), format!("{fault}\n")).into_response();
            if let Some(seconds) = fault.retry_after_s() {
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            }
            response
        }
    }
}

async fn take(intake: &Intake, headers: &HeaderMap, body: Body) -> Result<(), Fault> {
    let payload = body::read(headers, body, &intake.limits, &intake.budget).await?;
    let content_type =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let spans = decode(content_type, &payload.bytes, UnixNanos::now())?;
    let items = spans.len();
    intake.append(Protocol::Zipkin, Batch::Spans(spans), items).await.map(drop)
}

pub(crate) fn decode(content_type: &str, bytes: &[u8], now: UnixNanos) -> Result<Vec<Span>, Fault> {
    let media = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let sent = match media.as_str() {
        "application/x-thrift" => {
            return Err(Fault::UnsupportedMedia(
                "Zipkin v1 in Thrift is not supported; send v2 in JSON or protobuf".into(),
            ));
        }
        _ if bytes.iter().all(u8::is_ascii_whitespace) => Vec::new(),
        "application/x-protobuf" => proto::decode(bytes)?,
        _ => json::decode(bytes)?,
    };
    span::normalise(sent, now).map_err(Fault::Malformed)
}

#[cfg(test)]
mod tests;
