//! Routes of Prometheus' API. Queries are taken by GET and as a posted form.

use axum::{
    Router,
    extract::{DefaultBodyLimit, Path, RawQuery, State},
    response::Response,
    routing::get,
};
use serde_json::json;

use super::{
    exemplars::exemplars,
    federate, labels, query,
    respond::{ApiError, Notes, success},
    status,
};
use crate::{Engine, params::Params};

/// Of a posted form.
const MAX_FORM_BYTES: usize = 1 << 20;

type ApiResult = Result<Response, ApiError>;

pub(crate) fn router() -> Router<Engine> {
    Router::new()
        .route("/api/v1/query", get(instant).post(instant))
        .route("/api/v1/query_range", get(range).post(range))
        .route("/api/v1/query_exemplars", get(query_exemplars).post(query_exemplars))
        .route("/api/v1/series", get(series).post(series))
        .route("/api/v1/labels", get(label_names).post(label_names))
        .route("/api/v1/label/{name}/values", get(label_values))
        .route("/api/v1/metadata", get(metadata))
        .route("/api/v1/rules", get(async || success(json!({ "groups": [] }), &Notes::default())))
        .route("/api/v1/alerts", get(async || success(json!({ "alerts": [] }), &Notes::default())))
        .route(
            "/api/v1/status/buildinfo",
            get(async |State(engine): State<Engine>| status::build_info(&engine)),
        )
        .route("/api/v1/status/config", get(async |State(engine): State<Engine>| status::config(&engine)))
        .route("/api/v1/status/flags", get(async |State(engine): State<Engine>| status::flags(&engine)))
        .route(
            "/api/v1/status/runtimeinfo",
            get(async |State(engine): State<Engine>| status::runtime_info(&engine)),
        )
        .route("/api/v1/status/tsdb", get(tsdb))
        .layer(DefaultBodyLimit::max(MAX_FORM_BYTES))
}

/// What lies outside of `/api/v1`, on Prometheus' own port alone.
pub(crate) fn root_router() -> Router<Engine> {
    Router::new()
        .route("/federate", get(federate_text))
        .route("/-/healthy", get(async || "Pharos is healthy.\n"))
        .route("/-/ready", get(async || "Pharos is ready.\n"))
}

fn params(query: RawQuery, body: &str) -> Params {
    Params::parse_form(body, query.0.as_deref())
}

async fn instant(State(engine): State<Engine>, query: RawQuery, body: String) -> ApiResult {
    query::instant(&engine, &params(query, &body)).await
}

async fn range(State(engine): State<Engine>, query: RawQuery, body: String) -> ApiResult {
    query::range(&engine, &params(query, &body)).await
}

async fn query_exemplars(State(engine): State<Engine>, query: RawQuery, body: String) -> ApiResult {
    exemplars(&engine, &params(query, &body)).await
}

/// Work on the index, which takes a while when it is large.
async fn blocking(work: impl FnOnce() -> ApiResult + Send + 'static) -> ApiResult {
    tokio::task::spawn_blocking(work).await.map_err(|_| ApiError::internal("the query broke off"))?
}

async fn series(State(engine): State<Engine>, query: RawQuery, body: String) -> ApiResult {
    blocking(move || labels::series(&engine, &params(query, &body))).await
}

async fn label_names(State(engine): State<Engine>, query: RawQuery, body: String) -> ApiResult {
    blocking(move || labels::names(&engine, &params(query, &body))).await
}

async fn label_values(State(engine): State<Engine>, Path(name): Path<String>, query: RawQuery) -> ApiResult {
    blocking(move || labels::values(&engine, &name, &params(query, ""))).await
}

async fn metadata(State(engine): State<Engine>, query: RawQuery) -> ApiResult {
    labels::metadata(&engine, &params(query, ""))
}

async fn tsdb(State(engine): State<Engine>, query: RawQuery) -> ApiResult {
    blocking(move || status::tsdb(&engine, &params(query, ""))).await
}

async fn federate_text(State(engine): State<Engine>, query: RawQuery) -> ApiResult {
    federate::federate(&engine, &params(query, "")).await
}
