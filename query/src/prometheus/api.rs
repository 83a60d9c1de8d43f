//! Routes of Prometheus' API. Queries are taken by GET and as a posted form.

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, RawQuery, State, rejection::PathRejection},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::json;

use super::{
    exemplars::exemplars,
    features, labels, parse_query, query, remote_read,
    respond::{ApiError, Notes, success},
    rules, status, targets,
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
        .route("/api/v1/format_query", get(format_query).post(format_query))
        .route("/api/v1/parse_query", get(parse_query).post(parse_query))
        .route("/api/v1/targets", get(targets))
        .route("/api/v1/targets/metadata", get(targets_metadata))
        .route("/api/v1/scrape_pools", get(scrape_pools))
        .route("/api/v1/rules", get(list_rules))
        .route("/api/v1/alerts", get(async |State(engine): State<Engine>| rules::alerts(&engine)))
        .route(
            "/api/v1/alertmanagers",
            get(async |State(engine): State<Engine>| rules::alertmanagers(&engine)),
        )
        .route(
            "/api/v1/features",
            get(async |State(engine): State<Engine>| features::features(engine.config().promql_features)),
        )
        .route("/api/v1/notifications", get(async || success(json!([]), &Notes::default())))
        .merge(admin_router())
        .route("/api/v1/read", post(read))
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
        .route("/api/v1/status/walreplay", get(async || status::wal_replay()))
        .layer(DefaultBodyLimit::max(MAX_FORM_BYTES))
}

/// As in a Prometheus that was started without `--web.enable-admin-api`.
fn admin_router() -> Router<Engine> {
    let disabled = async || ApiError::unavailable("admin APIs disabled");
    let methods = || post(disabled).put(disabled);
    Router::new()
        .route("/api/v1/admin/tsdb/delete_series", methods())
        .route("/api/v1/admin/tsdb/clean_tombstones", methods())
        .route("/api/v1/admin/tsdb/snapshot", methods())
}

/// What lies outside of `/api/v1`, on Prometheus' own port alone.
pub(crate) fn root_router() -> Router<Engine> {
    Router::new()
        .route("/federate", get(federate))
        .route("/-/healthy", get(async || "Pharos is healthy.\n"))
        .route("/-/ready", get(async || "Pharos is ready.\n"))
        .route("/-/reload", post(reload).put(reload))
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

async fn label_values(
    State(engine): State<Engine>,
    name: Result<Path<String>, PathRejection>,
    query: RawQuery,
) -> ApiResult {
    let Path(name) = name.map_err(|_| ApiError::bad_data("invalid label name: it is no UTF-8"))?;
    blocking(move || labels::values(&engine, &name, &params(query, ""))).await
}

async fn metadata(State(engine): State<Engine>, query: RawQuery) -> ApiResult {
    labels::metadata(&engine, &params(query, ""))
}

async fn read(State(engine): State<Engine>, body: Bytes) -> Response {
    remote_read::read(&engine, &body).await
}

async fn format_query(State(engine): State<Engine>, query: RawQuery, body: String) -> ApiResult {
    parse_query::format(&params(query, &body), engine.config().promql_features)
}

async fn parse_query(State(engine): State<Engine>, query: RawQuery, body: String) -> ApiResult {
    parse_query::parse(&params(query, &body), engine.config().promql_features)
}

async fn targets(State(engine): State<Engine>, query: RawQuery) -> Response {
    targets::targets(&engine, &params(query, ""))
}

async fn targets_metadata(State(engine): State<Engine>, query: RawQuery) -> ApiResult {
    blocking(move || targets::metadata(&engine, &params(query, ""))).await
}

async fn scrape_pools(State(engine): State<Engine>) -> Response {
    targets::scrape_pools(&engine)
}

async fn list_rules(State(engine): State<Engine>, query: RawQuery) -> ApiResult {
    rules::rules(&engine, &params(query, ""))
}

async fn reload(State(engine): State<Engine>) -> Response {
    match engine.host().reload().await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("failed to reload config: {error}\n")).into_response()
        }
    }
}

async fn tsdb(State(engine): State<Engine>, query: RawQuery) -> ApiResult {
    blocking(move || status::tsdb(&engine, &params(query, ""))).await
}

async fn federate(State(engine): State<Engine>, headers: HeaderMap, query: RawQuery) -> ApiResult {
    super::federate::federate(&engine, &params(query, ""), &headers).await
}
