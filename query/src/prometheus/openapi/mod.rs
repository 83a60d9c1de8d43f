//! `/api/v1/openapi.yaml`: what is served below `/api/v1`, described for generators of clients.

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};

use super::{form::Form, respond::ApiError};
use crate::Engine;

/// Written for OpenAPI 3.1 with nothing in it that 3.2 has changed.
const DOCUMENT: &str = concat!(include_str!("paths.yaml"), include_str!("components.yaml"));

pub(crate) async fn document(State(engine): State<Engine>, Form(params): Form) -> Result<Response, ApiError> {
    let openapi = match params.text("openapi_version") {
        Some("3.2" | "3.2.0") => "3.2.0",
        // Prometheus' default, also for versions that nobody knows.
        _ => "3.1.0",
    };
    let document = DOCUMENT.replacen("openapi: 3.1.0", &format!("openapi: {openapi}"), 1).replacen(
        "version: 0.0.0",
        &format!("version: {}", engine.config().version),
        1,
    );
    let headers = [
        (header::CONTENT_TYPE, "application/yaml; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache, no-store, must-revalidate"),
    ];
    Ok((headers, document).into_response())
}
