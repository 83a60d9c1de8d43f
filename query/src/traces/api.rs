//! Jaeger's HTTP query API, legacy and v3, on one router. Reference: tracing anchors §1.

use std::collections::{BTreeMap, BTreeSet};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, RawQuery, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use jiff::Timestamp;
use pharos_model::{Span, TimeRange, TraceId, UnixNanos};
use pharos_storage::{StorageError, TraceSummary};
use serde_json::{Value as Json_, json};

use super::{
    duration::parse_go_duration_ns,
    ids::parse_trace_id,
    legacy::{Answer, AnswerError, LegacyTrace, legacy_trace},
    otlp_json::traces_data,
    search::{MAX_TRACES, TraceQuery, find_ids, find_summaries, operations, read_traces, services},
    transform::spans_of_otlp_json,
};
use crate::{
    Engine,
    params::{ParamError, Params},
};

const DEFAULT_LIMIT: usize = 100;

/// Of a document that is posted for display.
const MAX_TRANSFORM_BYTES: usize = 32 << 20;

pub(crate) fn router() -> Router<Engine> {
    Router::new()
        .route("/api/services", get(legacy_services))
        .route("/api/services/{service}/operations", get(legacy_service_operations))
        .route("/api/operations", get(legacy_operations))
        .route("/api/traces", get(legacy_search))
        .route("/api/traces/{id}", get(legacy_by_id))
        .route("/api/transform", post(transform).layer(DefaultBodyLimit::max(MAX_TRANSFORM_BYTES)))
        .route("/api/v3/services", get(v3_services))
        .route("/api/v3/operations", get(v3_operations))
        .route("/api/v3/traces", get(v3_search))
        .route("/api/v3/traces/{id}", get(v3_by_id))
        .route("/api/v3/trace-summaries", get(v3_summaries))
}

/// An error in the form of the legacy API.
struct LegacyError(StatusCode, String);

impl IntoResponse for LegacyError {
    fn into_response(self) -> Response {
        let error = AnswerError { code: self.0.as_u16(), msg: self.1, trace_id: None };
        let body = Answer { data: Json_::Null, total: 0, limit: 0, offset: 0, errors: Some(vec![error]) };
        (self.0, Json(body)).into_response()
    }
}

impl From<ParamError> for LegacyError {
    fn from(error: ParamError) -> LegacyError {
        LegacyError(StatusCode::BAD_REQUEST, error.to_string())
    }
}

impl From<StorageError> for LegacyError {
    fn from(error: StorageError) -> LegacyError {
        LegacyError(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }
}

/// An error in the form of the v3 API.
struct V3Error(StatusCode, String);

impl IntoResponse for V3Error {
    fn into_response(self) -> Response {
        let status = self.0.canonical_reason().unwrap_or_default();
        let error = json!({ "httpCode": self.0.as_u16(), "message": self.1, "httpStatus": status });
        (self.0, Json(json!({ "error": error }))).into_response()
    }
}

impl From<ParamError> for V3Error {
    fn from(error: ParamError) -> V3Error {
        V3Error(StatusCode::BAD_REQUEST, error.to_string())
    }
}

impl From<StorageError> for V3Error {
    fn from(error: StorageError) -> V3Error {
        V3Error(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }
}

async fn legacy_services(State(engine): State<Engine>) -> Result<Response, LegacyError> {
    Ok(Json(Answer::of(services(engine.storage()).await?.into_iter().collect())).into_response())
}

async fn legacy_service_operations(
    State(engine): State<Engine>,
    Path(service): Path<String>,
) -> Result<Response, LegacyError> {
    // Clients escape a name with a slash twice.
    let service = form_urlencoded::parse(format!("s={}", service.replace('+', "%2B")).as_bytes())
        .next()
        .map_or(service, |(_, unescaped)| unescaped.into_owned());
    let names: BTreeSet<String> =
        operations(engine.storage(), &service).await?.into_iter().map(|(name, _)| name).collect();
    Ok(Json(Answer::of(names.into_iter().collect())).into_response())
}

/// An unspecified kind is reported as `unspecified_as`.
async fn operation_list(
    engine: &Engine,
    params: &Params,
    unspecified_as: &str,
) -> Result<Result<Vec<Json_>, StorageError>, ParamError> {
    let service =
        params.text("service").ok_or_else(|| ParamError::new("service", "parameter is required"))?;
    let kind = params.first_of(&["spanKind", "span_kind"]);
    Ok(operations(engine.storage(), service).await.map(|found| {
        found
            .into_iter()
            .map(|(name, kind)| (name, if kind == "unspecified" { unspecified_as.to_string() } else { kind }))
            .filter(|(_, found)| kind.is_none_or(|kind| kind == found))
            .map(|(name, kind)| json!({ "name": name, "spanKind": kind }))
            .collect()
    }))
}

async fn legacy_operations(
    State(engine): State<Engine>,
    RawQuery(query): RawQuery,
) -> Result<Response, LegacyError> {
    let params = Params::parse(query.as_deref().unwrap_or(""));
    Ok(Json(Answer::of(operation_list(&engine, &params, "").await??)).into_response())
}

async fn legacy_search(
    State(engine): State<Engine>,
    RawQuery(query): RawQuery,
) -> Result<Response, LegacyError> {
    let params = Params::parse(query.as_deref().unwrap_or(""));
    let wanted: Vec<&str> = params.all("traceID").filter(|id| !id.is_empty()).collect();
    if !wanted.is_empty() {
        return by_ids(&engine, &wanted).await;
    }
    let query = legacy_query(&params, UnixNanos::now())?;
    let ids = find_ids(engine.storage(), &query).await?;
    let traces = read_traces(engine.storage(), &ids).await?;
    let data = traces.into_iter().map(|(id, spans)| legacy_trace(id, spans)).collect();
    Ok(Json(Answer::of(data)).into_response())
}

/// The traces of a list of ids; those that are unknown are told in `errors`.
async fn by_ids(engine: &Engine, wanted: &[&str]) -> Result<Response, LegacyError> {
    if wanted.len() > MAX_TRACES {
        return Err(ParamError::new("traceID", format!("more than {MAX_TRACES} ids")).into());
    }
    let mut ids = Vec::new();
    for text in wanted {
        ids.push(
            parse_trace_id(text)
                .ok_or_else(|| ParamError::new("traceID", format!("{text:?} is no trace id")))?,
        );
    }
    let mut errors = Vec::new();
    let mut data: Vec<LegacyTrace> = Vec::new();
    for (id, spans) in read_traces(engine.storage(), &ids).await? {
        if spans.is_empty() {
            errors.push(AnswerError {
                code: 404,
                msg: "trace not found".into(),
                trace_id: Some(id.short_hex()),
            });
        } else {
            data.push(legacy_trace(id, spans));
        }
    }
    let errors = (!errors.is_empty()).then_some(errors);
    Ok(Json(Answer { errors, ..Answer::of(data) }).into_response())
}

async fn one_trace(engine: &Engine, text: &str) -> Result<Option<(TraceId, Vec<Span>)>, ParamErrorOr> {
    let id = parse_trace_id(text)
        .ok_or_else(|| ParamError::new("trace id", format!("{text:?} is no trace id")))?;
    let found = read_traces(engine.storage(), &[id]).await?;
    Ok(found.into_iter().next().filter(|(_, spans)| !spans.is_empty()))
}

enum ParamErrorOr {
    Param(ParamError),
    Storage(StorageError),
}

impl From<ParamError> for ParamErrorOr {
    fn from(error: ParamError) -> Self {
        ParamErrorOr::Param(error)
    }
}

impl From<StorageError> for ParamErrorOr {
    fn from(error: StorageError) -> Self {
        ParamErrorOr::Storage(error)
    }
}

impl From<ParamErrorOr> for LegacyError {
    fn from(error: ParamErrorOr) -> Self {
        match error {
            ParamErrorOr::Param(error) => error.into(),
            ParamErrorOr::Storage(error) => error.into(),
        }
    }
}

impl From<ParamErrorOr> for V3Error {
    fn from(error: ParamErrorOr) -> Self {
        match error {
            ParamErrorOr::Param(error) => error.into(),
            ParamErrorOr::Storage(error) => error.into(),
        }
    }
}

async fn legacy_by_id(State(engine): State<Engine>, Path(id): Path<String>) -> Result<Response, LegacyError> {
    match one_trace(&engine, &id).await? {
        Some((id, spans)) => Ok(Json(Answer::of(vec![legacy_trace(id, spans)])).into_response()),
        None => Err(LegacyError(StatusCode::NOT_FOUND, "trace not found".into())),
    }
}

async fn transform(body: Bytes) -> Result<Response, LegacyError> {
    let bad = |message: String| LegacyError(StatusCode::BAD_REQUEST, message);
    let json: Json_ =
        serde_json::from_slice(&body).map_err(|error| bad(format!("the body is no JSON: {error}")))?;
    let mut traces: BTreeMap<TraceId, Vec<Span>> = BTreeMap::new();
    for span in spans_of_otlp_json(&json).map_err(bad)? {
        traces.entry(span.trace_id).or_default().push(span);
    }
    let data: Vec<LegacyTrace> = traces.into_iter().map(|(id, spans)| legacy_trace(id, spans)).collect();
    Ok(Json(Answer::of(data)).into_response())
}

async fn v3_services(State(engine): State<Engine>) -> Result<Response, V3Error> {
    Ok(Json(json!({ "services": services(engine.storage()).await? })).into_response())
}

async fn v3_operations(State(engine): State<Engine>, RawQuery(query): RawQuery) -> Result<Response, V3Error> {
    let params = Params::parse(query.as_deref().unwrap_or(""));
    let operations = operation_list(&engine, &params, "internal").await??;
    Ok(Json(json!({ "operations": operations })).into_response())
}

async fn v3_search(State(engine): State<Engine>, RawQuery(query): RawQuery) -> Result<Response, V3Error> {
    let query = v3_query(&Params::parse(query.as_deref().unwrap_or("")))?;
    let ids = find_ids(engine.storage(), &query).await?;
    let traces = read_traces(engine.storage(), &ids).await?;
    let spans: Vec<Span> = traces.into_iter().flat_map(|(_, spans)| spans).collect();
    v3_traces(spans)
}

async fn v3_by_id(State(engine): State<Engine>, Path(id): Path<String>) -> Result<Response, V3Error> {
    v3_traces(one_trace(&engine, &id).await?.map(|(_, spans)| spans).unwrap_or_default())
}

fn v3_traces(spans: Vec<Span>) -> Result<Response, V3Error> {
    if spans.is_empty() {
        return Err(V3Error(StatusCode::NOT_FOUND, "No traces found".into()));
    }
    Ok(Json(json!({ "result": traces_data(&spans) })).into_response())
}

async fn v3_summaries(State(engine): State<Engine>, RawQuery(query): RawQuery) -> Result<Response, V3Error> {
    let query = v3_query(&Params::parse(query.as_deref().unwrap_or("")))?;
    let summaries = find_summaries(engine.storage(), &query).await?;
    let summaries: Vec<Json_> = summaries.iter().map(summary_json).collect();
    Ok(Json(json!({ "summaries": summaries })).into_response())
}

fn summary_json(summary: &TraceSummary) -> Json_ {
    let services = summary.services.iter().map(|service| {
        json!({ "name": service.name, "spanCount": service.spans, "errorSpanCount": service.errors })
    });
    json!({
        "traceId": summary.trace_id.to_string(),
        "rootServiceName": summary.root_service,
        "rootOperationName": summary.root_name,
        "minStartTimeUnixNano": summary.start.0.to_string(),
        "maxEndTimeUnixNano": summary.end.0.to_string(),
        "spanCount": summary.spans,
        "errorSpanCount": summary.errors,
        "orphanSpanCount": summary.orphans,
        "services": services.collect::<Vec<_>>(),
    })
}

/// Times in microseconds; without any the last 24 hours are searched, since Grafana sends none.
fn legacy_query(params: &Params, now: UnixNanos) -> Result<TraceQuery, ParamError> {
    const DAY_NS: i64 = 86_400_000_000_000;
    let service =
        params.text("service").ok_or_else(|| ParamError::new("service", "parameter is required"))?;
    let end = params.i64("end")?.map_or(now, UnixNanos::from_micros);
    let start = params.i64("start")?.map_or(end.plus_nanos(-DAY_NS), UnixNanos::from_micros);
    let mut tags = BTreeMap::new();
    for tag in params.all("tag").filter(|tag| !tag.is_empty()) {
        let (key, value) = tag
            .split_once(':')
            .ok_or_else(|| ParamError::new("tag", format!("{tag:?} is not of the form key:value")))?;
        tags.insert(key.to_string(), value.to_string());
    }
    for text in params.all("tags").filter(|text| !text.is_empty()) {
        tags.extend(tag_map("tags", text)?);
    }
    let (min_duration_ns, max_duration_ns) = durations(params, ["minDuration"], ["maxDuration"])?;
    Ok(TraceQuery {
        service: Some(service.to_string()),
        operation: params.text("operation").filter(|operation| *operation != "all").map(str::to_string),
        // Microseconds are whole: the end's own microsecond belongs to the range.
        range: TimeRange::new(start, end.plus_nanos(1_000)),
        min_duration_ns,
        max_duration_ns,
        tags,
        limit: params.limit("limit", DEFAULT_LIMIT, usize::MAX)?.min(MAX_TRACES),
    })
}

fn v3_query(params: &Params) -> Result<TraceQuery, ParamError> {
    if params.text("query.filter").is_some() {
        return Err(ParamError::new("query.filter", "is not supported; use query.attributes"));
    }
    let start = v3_time(params, ["query.startTimeMin", "query.start_time_min"])?;
    let end = v3_time(params, ["query.startTimeMax", "query.start_time_max"])?;
    if start >= end {
        return Err(ParamError::new("query.startTimeMin", "must be before query.startTimeMax"));
    }
    let tags = match params.first_of(&["query.attributes"]) {
        Some(text) => tag_map("query.attributes", text)?,
        None => BTreeMap::new(),
    };
    let (min_duration_ns, max_duration_ns) = durations(
        params,
        ["query.durationMin", "query.duration_min"],
        ["query.durationMax", "query.duration_max"],
    )?;
    let depth = ["query.searchDepth", "query.search_depth", "query.numTraces", "query.num_traces"];
    let depth = depth.into_iter().find(|name| params.text(name).is_some()).unwrap_or("query.searchDepth");
    Ok(TraceQuery {
        service: params.first_of(&["query.serviceName", "query.service_name"]).map(str::to_string),
        operation: params.first_of(&["query.operationName", "query.operation_name"]).map(str::to_string),
        range: TimeRange::new(start, end.plus_nanos(1)),
        min_duration_ns,
        max_duration_ns,
        tags,
        limit: params.limit(depth, DEFAULT_LIMIT, usize::MAX)?.min(MAX_TRACES),
    })
}

fn v3_time(params: &Params, names: [&str; 2]) -> Result<UnixNanos, ParamError> {
    let text = params.first_of(&names).ok_or_else(|| ParamError::new(names[0], "parameter is required"))?;
    // Grafana sends `+02:00` unencoded, and a plus in a query string is a space.
    let time: Timestamp = text
        .replace(' ', "+")
        .parse()
        .map_err(|_| ParamError::new(names[0], format!("{text:?} is no RFC 3339 time")))?;
    Ok(UnixNanos(time.as_nanosecond().try_into().unwrap_or(i64::MAX)))
}

fn durations<const N: usize>(
    params: &Params,
    min: [&str; N],
    max: [&str; N],
) -> Result<(Option<i64>, Option<i64>), ParamError> {
    let read = |names: [&str; N]| {
        params
            .first_of(&names)
            .map(|text| {
                parse_go_duration_ns(text).ok_or_else(|| {
                    let name = names.first().copied().unwrap_or_default();
                    ParamError::new(name, format!("{text:?} is no duration such as 1.5s or 300us"))
                })
            })
            .transpose()
    };
    let (shortest, longest) = (read(min)?, read(max)?);
    if let (Some(shortest), Some(longest)) = (shortest, longest)
        && longest < shortest
    {
        return Err(ParamError::new(max.first().copied().unwrap_or_default(), "is shorter than the minimum"));
    }
    Ok((shortest.filter(|ns| *ns > 0), longest.filter(|ns| *ns > 0)))
}

/// A JSON object whose values are compared as text.
fn tag_map(name: &str, text: &str) -> Result<BTreeMap<String, String>, ParamError> {
    let tags: BTreeMap<String, Json_> = serde_json::from_str(text)
        .map_err(|error| ParamError::new(name, format!("{text:?} is no JSON object: {error}")))?;
    tags.into_iter()
        .map(|(key, value)| match value {
            Json_::String(text) => Ok((key, text)),
            Json_::Bool(_) | Json_::Number(_) => Ok((key, value.to_string())),
            _ => Err(ParamError::new(
                name,
                format!("the value of {key:?} is neither text, number nor boolean"),
            )),
        })
        .collect()
}
