//! The HTTP APIs, one router a port.

use axum::{
    Router,
    http::{Method, header},
    middleware,
};
use tower_http::cors::{Any, CorsLayer};

use crate::{Engine, graph, gzip, logs, prometheus, sql, status, traces};

/// Everything that the UI's port serves but the UI's files: the graph as Kiali and as we have it, Jaeger,
/// Prometheus, access logs, SQL, status.
pub fn ui_router(engine: Engine) -> Router {
    let router = Router::new()
        .merge(graph::api::router())
        .merge(traces::api::router())
        .merge(prometheus::api::router())
        .merge(logs::api::router())
        .merge(sql::api::router())
        .merge(status::router())
        .with_state(engine);
    with_layers(router)
}

/// Prometheus' query API, status, health and federation. No remote write and no `/metrics`.
pub fn prometheus_router(engine: Engine) -> Router {
    with_layers(prometheus::api::router().merge(prometheus::api::root_router()).with_state(engine))
}

/// Jaeger's query API: legacy and v3.
pub fn jaeger_router(engine: Engine) -> Router {
    with_layers(traces::api::router().with_state(engine))
}

/// Read-only answers that any page may ask for, as with Prometheus and Jaeger.
fn with_layers(router: Router) -> Router {
    let cors = CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::GET, Method::POST, Method::OPTIONS])
        .allow_headers([header::ACCEPT, header::AUTHORIZATION, header::CONTENT_TYPE, header::ORIGIN])
        .expose_headers([header::DATE]);
    router.layer(middleware::from_fn(gzip::compress)).layer(cors)
}
