//! `GET /api/namespaces/graph`, the node graphs, `/api/namespaces`, and our own `/api/v1/graph`.

use std::collections::BTreeSet;

use axum::{
    Json, Router,
    extract::{Path, RawQuery, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use futures::TryStreamExt;
use pharos_model::{EDGE_BUCKET_NS, TimeRange, UnixNanos};
use pharos_storage::{Scan, StorageError, Table, mesh_objects_of};
use serde_json::json;

use super::{
    Empty, Flavour, FlowSums, GraphDocument, GraphOptions, MeshConfig, Scope, graph, options::Appender,
};
use crate::{
    Engine,
    params::{ParamError, Params},
    problem::Problem,
};

pub(crate) fn router() -> Router<Engine> {
    Router::new()
        .route("/api/namespaces", get(namespaces))
        .route("/api/namespaces/graph", get(namespaces_graph))
        .route("/api/namespaces/{namespace}/workloads/{workload}/graph", get(workload_graph))
        .route("/api/namespaces/{namespace}/applications/{app}/graph", get(app_graph))
        .route("/api/namespaces/{namespace}/applications/{app}/versions/{version}/graph", get(version_graph))
        .route("/api/namespaces/{namespace}/services/{service}/graph", get(service_graph))
        .route("/api/v1/graph", get(own_graph))
}

/// Kiali's form of an error.
struct KialiError(StatusCode, String);

impl IntoResponse for KialiError {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "error": self.1, "detail": "" }))).into_response()
    }
}

impl From<ParamError> for KialiError {
    fn from(error: ParamError) -> KialiError {
        KialiError(StatusCode::BAD_REQUEST, error.to_string())
    }
}

impl From<StorageError> for KialiError {
    fn from(error: StorageError) -> KialiError {
        KialiError(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }
}

type KialiResult = Result<Json<GraphDocument>, KialiError>;

fn now_s() -> i64 {
    UnixNanos::now().millis() / 1_000
}

async fn answer(engine: &Engine, query: Option<String>, scope: Scope) -> KialiResult {
    let options = GraphOptions::parse(&Params::parse(query.as_deref().unwrap_or("")), scope, now_s())?;
    Ok(Json(draw(engine, options, Flavour::Kiali).await?))
}

async fn draw(
    engine: &Engine,
    options: GraphOptions,
    flavour: Flavour,
) -> Result<GraphDocument, StorageError> {
    let mut sums = FlowSums::new(options.window());
    sums.add(engine.storage().edges_joined(range(&options)).await?);
    let inventory = engine.inventory();
    let config = if options.wants(Appender::Istio) {
        config_at(engine, &options).await?
    } else {
        MeshConfig::default()
    };
    let drawn =
        tokio::task::spawn_blocking(move || graph(sums, &options, &inventory, &config, flavour)).await;
    drawn.map_err(|_| StorageError::Closed)
}

/// The configuration as it was at the end of the window.
async fn config_at(engine: &Engine, options: &GraphOptions) -> Result<MeshConfig, StorageError> {
    let end = UnixNanos::from_millis(options.window().end_ms);
    // A window that ends now ends in the middle of a second whose changes count.
    let at = end.plus_nanos(999_999_999);
    let range = TimeRange::new(UnixNanos::MIN, at.plus_nanos(1));
    let mut batches = engine.storage().snapshot(Table::MeshConfig, range)?.read(&Scan::new(range)).await?;
    let mut objects = Vec::new();
    while let Some(batch) = batches.try_next().await? {
        objects.extend(mesh_objects_of(&batch)?);
    }
    Ok(MeshConfig::at(objects, at))
}

/// Rows of every bucket that touches the window, whose end belongs to it.
fn range(options: &GraphOptions) -> TimeRange {
    let window = options.window();
    TimeRange::new(
        UnixNanos::from_millis(window.start_ms).floor_to(EDGE_BUCKET_NS),
        UnixNanos::from_millis(window.end_ms.saturating_add(1)),
    )
}

async fn namespaces_graph(State(engine): State<Engine>, RawQuery(query): RawQuery) -> KialiResult {
    answer(&engine, query, Scope::Namespaces).await
}

async fn workload_graph(
    State(engine): State<Engine>,
    Path((namespace, workload)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> KialiResult {
    answer(&engine, query, Scope::Workload { namespace, workload }).await
}

async fn app_graph(
    State(engine): State<Engine>,
    Path((namespace, app)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> KialiResult {
    answer(&engine, query, Scope::App { namespace, app, version: None }).await
}

async fn version_graph(
    State(engine): State<Engine>,
    Path((namespace, app, version)): Path<(String, String, String)>,
    RawQuery(query): RawQuery,
) -> KialiResult {
    answer(&engine, query, Scope::App { namespace, app, version: Some(version) }).await
}

async fn service_graph(
    State(engine): State<Engine>,
    Path((namespace, service)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> KialiResult {
    answer(&engine, query, Scope::Service { namespace, service }).await
}

/// Kiali's parameters; without `namespaces` all that have data are drawn.
async fn own_graph(
    State(engine): State<Engine>,
    RawQuery(query): RawQuery,
) -> Result<Json<GraphDocument>, Problem> {
    let params = Params::parse(query.as_deref().unwrap_or(""));
    let scope = if params.text("namespaces").is_some() { Scope::Namespaces } else { Scope::Everything };
    let options = GraphOptions::parse(&params, scope, now_s())?;
    let (requested, duration_s, is_past) =
        (options.namespaces.clone(), options.duration_s, params.text("queryTime").is_some());
    let mut document = draw(&engine, options, Flavour::Pharos).await?;
    let is_empty = document.elements.nodes.is_empty();
    if let Some(extras) = &mut document.pharos {
        let oldest = oldest_data(&engine);
        extras.oldest_data_unix_s = oldest.map(|time| time.millis() / 1_000);
        if is_empty {
            extras.empty = Some(why_empty(oldest, &requested, &extras.namespaces, duration_s, is_past));
        }
    }
    Ok(Json(document))
}

/// The first moment of which a graph could tell.
fn oldest_data(engine: &Engine) -> Option<UnixNanos> {
    let sources = [Table::Samples, Table::AccessLogs, Table::Spans, Table::Edges];
    let tables = engine.storage().stats().tables;
    tables.iter().filter(|stats| sources.contains(&stats.table)).filter_map(|stats| stats.oldest).min()
}

fn why_empty(
    oldest: Option<UnixNanos>,
    requested: &BTreeSet<String>,
    with_traffic: &BTreeSet<String>,
    duration_s: i64,
    is_past: bool,
) -> Empty {
    let list = |names: &BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>().join(", ");
    if oldest.is_none() {
        return Empty {
            reason: "Nothing has been received yet.".into(),
            hint: "Send istio_* metrics by remote write or scrape, Envoy access logs by ALS, or spans by OTLP or Zipkin."
                .into(),
        };
    }
    if !with_traffic.is_empty() {
        return Empty {
            reason: format!("No traffic of {} in this window.", list(requested)),
            hint: format!("There is traffic in {}.", list(with_traffic)),
        };
    }
    Empty {
        reason: format!("No request was seen in the {duration_s} s that were asked for."),
        hint: if is_past {
            "Choose a later time or a longer window.".into()
        } else {
            "Choose a longer window, or check that the mesh has traffic and that its telemetry arrives."
                .into()
        },
    }
}

/// Namespaces of any series.
fn known_namespaces(engine: &Engine) -> Result<BTreeSet<String>, StorageError> {
    let mut names = BTreeSet::new();
    for label in
        ["source_workload_namespace", "destination_workload_namespace", "destination_service_namespace"]
    {
        names.extend(engine.storage().label_values(label, &[], TimeRange::ALL));
    }
    names.retain(|name| super::traffic::is_known(name));
    Ok(names)
}

/// Kiali's list of namespaces, as far as telemetry tells of them.
async fn namespaces(State(engine): State<Engine>) -> Result<Response, KialiError> {
    let mut names = known_namespaces(&engine)?;
    let now = UnixNanos::now();
    let recent = TimeRange::new(now.plus_nanos(-600_000_000_000), now);
    for edge in engine.storage().edges_joined(recent).await? {
        for peer in [edge.key.source, edge.key.destination] {
            if super::traffic::is_known(&peer.namespace) {
                names.insert(peer.namespace);
            }
        }
    }
    let list: Vec<_> = names
        .into_iter()
        .map(|name| json!({ "name": name, "cluster": "", "isAmbient": false, "isControlPlane": name == "istio-system" }))
        .collect();
    Ok(Json(list).into_response())
}
