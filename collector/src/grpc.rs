//! What is common to the gRPC services: which of tonic's own answers to a message that it could not read are put
//! right, and what is counted.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::{Next, from_fn_with_state},
    response::Response,
};
use http::HeaderValue;
use tonic::{Code, service::Routes};

use crate::{counters::Protocol, intake::Intake};

const STATUS: &str = "grpc-status";
const MESSAGE: &str = "grpc-message";

pub(crate) fn with_answers(routes: Routes, intake: Arc<Intake>) -> Routes {
    Routes::from(routes.into_axum_router().layer(from_fn_with_state(intake, answer)))
}

/// An answer without messages has its status among the headers: every error of ours, and every error of a message
/// that never reached a service.
async fn answer(State(intake): State<Arc<Intake>>, request: Request, next: Next) -> Response {
    let is_als = request.uri().path().starts_with("/envoy.");
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let Ok(code) = text(STATUS).parse().map(Code::from_i32) else { return response };
    if code == Code::Ok {
        return response;
    }
    intake.counters.failed(if is_als { Protocol::Als } else { Protocol::OtlpGrpc });
    let message = text(MESSAGE);
    let unreadable = message.contains("decode%20Protobuf") || message.contains("Error%20decompressing");
    let right = match code {
        // A message that is too large: OTLP's clients would send it again and again.
        Code::OutOfRange => Code::ResourceExhausted,
        // The sender's fault, not ours.
        Code::Internal if unreadable => Code::InvalidArgument,
        other => other,
    };
    headers.insert(STATUS, HeaderValue::from(right as i32));
    response
}
