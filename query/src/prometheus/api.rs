//! Routes of Prometheus' API. Queries are taken by GET and as a posted form.

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, State, rejection::PathRejection},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get, post},
};

use super::{
    exemplars::exemplars, features, form::Form, labels, notifications, openapi, parse_query, query,
    remote_read, respond::ApiError, rules, scrape_pools, self_metrics, status, targets,
};
use crate::{Engine, params::Params};

/// Of a posted form, as in Go's HTTP server.
const MAX_FORM_BYTES: usize = 10 << 20;

type ApiResult = Result<Response, ApiError>;

pub(crate) fn router() -> Router<Engine> {
    let below =
        |router: Router<Engine>, (path, answers): Route| router.route(&format!("/api/v1{path}"), answers);
    let routes = routes().into_iter().chain(switched_off_routes());
    routes.fold(Router::new(), below).layer(DefaultBodyLimit::max(MAX_FORM_BYTES))
}

type Route = (&'static str, MethodRouter<Engine>);

/// What lies below `/api/v1`. `openapi/` describes all of it.
pub(crate) fn routes() -> Vec<Route> {
    vec![
        ("/query", get(instant).post(instant)),
        ("/query_range", get(range).post(range)),
        ("/query_exemplars", get(query_exemplars).post(query_exemplars)),
        ("/series", get(series).post(series)),
        ("/labels", get(label_names).post(label_names)),
        ("/label/{name}/values", get(label_values)),
        ("/metadata", of_index(labels::metadata)),
        ("/format_query", get(format_query).post(format_query)),
        ("/parse_query", get(parse_query).post(parse_query)),
        ("/targets", of_index(targets::targets)),
        ("/targets/metadata", of_index(targets::metadata)),
        ("/targets/relabel_steps", of_index(scrape_pools::relabel_steps)),
        ("/scrape_pools", of_index(scrape_pools::list)),
        ("/scrape_pools/config", of_index(scrape_pools::config)),
        ("/rules", of_index(rules::rules)),
        ("/alerts", of_index(rules::alerts)),
        ("/alertmanagers", of_index(rules::alertmanagers)),
        ("/features", of_index(features::features)),
        ("/notifications", of_index(notifications::current)),
        ("/notifications/live", get(notifications::live)),
        ("/openapi.yaml", get(openapi::document)),
        ("/read", post(read)),
        ("/status/buildinfo", of_index(status::build_info)),
        ("/status/config", of_index(status::config)),
        ("/status/flags", of_index(status::flags)),
        ("/status/runtimeinfo", of_index(status::runtime_info)),
        ("/status/self_metrics", of_index(self_metrics::self_metrics)),
        ("/status/tsdb", of_index(status::tsdb)),
        ("/status/tsdb/blocks", of_index(status::blocks)),
        ("/status/walreplay", of_index(status::wal_replay)),
    ]
}

/// As in a Prometheus that was started without `--web.enable-admin-api` and without its feature `search-api`.
pub(crate) fn switched_off_routes() -> [Route; 6] {
    let no_admin = async || ApiError::unavailable("admin APIs disabled");
    let no_search = async || ApiError::unavailable("search API disabled");
    let admin = || post(no_admin).put(no_admin);
    let search = || get(no_search).post(no_search);
    [
        ("/admin/tsdb/delete_series", admin()),
        ("/admin/tsdb/clean_tombstones", admin()),
        ("/admin/tsdb/snapshot", admin()),
        ("/search/metric_names", search()),
        ("/search/label_names", search()),
        ("/search/label_values", search()),
    ]
}

/// What lies outside of `/api/v1`, on Prometheus' own port alone.
pub(crate) fn root_router() -> Router<Engine> {
    Router::new()
        .route("/federate", get(federate))
        .route("/version", get(async |State(engine): State<Engine>| status::version(&engine)))
        .route("/-/healthy", get(async || "Pharos is healthy.\n"))
        .route("/-/ready", get(async || "Pharos is ready.\n"))
        .route("/-/reload", post(reload).put(reload).get(posted_only))
        .route("/-/quit", post(no_quit).put(no_quit).get(posted_only))
}

async fn posted_only() -> Response {
    (StatusCode::METHOD_NOT_ALLOWED, "Only POST or PUT requests allowed").into_response()
}

/// Whoever started Pharos stops it, with a signal.
async fn no_quit() -> Response {
    (StatusCode::FORBIDDEN, "Pharos is not stopped over HTTP.").into_response()
}

/// A GET whose answer is read from memory, which takes a while when there is much of it.
fn of_index(answer: fn(&Engine, &Params) -> ApiResult) -> MethodRouter<Engine> {
    get(async move |State(engine): State<Engine>, Form(params): Form| {
        blocking(move || answer(&engine, &params)).await
    })
}

async fn blocking(work: impl FnOnce() -> ApiResult + Send + 'static) -> ApiResult {
    tokio::task::spawn_blocking(work).await.map_err(|_| ApiError::internal("the query broke off"))?
}

async fn instant(State(engine): State<Engine>, Form(params): Form) -> ApiResult {
    query::instant(&engine, &params).await
}

async fn range(State(engine): State<Engine>, Form(params): Form) -> ApiResult {
    query::range(&engine, &params).await
}

async fn query_exemplars(State(engine): State<Engine>, Form(params): Form) -> ApiResult {
    exemplars(&engine, &params).await
}

async fn series(State(engine): State<Engine>, Form(params): Form) -> ApiResult {
    blocking(move || labels::series(&engine, &params)).await
}

async fn label_names(State(engine): State<Engine>, Form(params): Form) -> ApiResult {
    blocking(move || labels::names(&engine, &params)).await
}

async fn label_values(
    State(engine): State<Engine>,
    name: Result<Path<String>, PathRejection>,
    Form(params): Form,
) -> ApiResult {
    let Path(name) = name.map_err(|_| ApiError::bad_data("invalid label name: it is no UTF-8"))?;
    blocking(move || labels::values(&engine, &name, &params)).await
}

async fn read(State(engine): State<Engine>, body: Bytes) -> Response {
    remote_read::read(&engine, &body).await
}

async fn format_query(State(engine): State<Engine>, Form(params): Form) -> ApiResult {
    parse_query::format(&params, engine.config().promql_features)
}

async fn parse_query(State(engine): State<Engine>, Form(params): Form) -> ApiResult {
    parse_query::parse(&params, engine.config().promql_features)
}

async fn reload(State(engine): State<Engine>) -> Response {
    match engine.host().reload().await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("failed to reload config: {error}\n")).into_response()
        }
    }
}

async fn federate(State(engine): State<Engine>, headers: HeaderMap, Form(params): Form) -> Response {
    let answer = super::federate::federate(&engine, &params, &headers).await;
    answer.unwrap_or_else(ApiError::into_plain_text)
}
