//! `GET /api/v1/access-logs` and its live tail.

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    extract::{RawQuery, State},
    response::sse::{Event, KeepAlive, Sse},
    routing::get,
};
use futures::{Stream, StreamExt};
use pharos_model::{TimeRange, UnixNanos};
use pharos_storage::Batch;
use serde::Serialize;
use tokio_stream::wrappers::BroadcastStream;

use super::{
    access_logs::{AccessLogRow, Cursor, page},
    filter::Filter,
};
use crate::{
    Engine,
    params::{ParamError, Params},
    problem::Problem,
};

const DEFAULT_ROWS: usize = 200;
const MAX_ROWS: usize = 5_000;

/// Rows of one event of the tail; a batch with more matching rows is cut to its newest.
const MAX_TAIL_ROWS: usize = 500;

pub(crate) fn router() -> Router<Engine> {
    Router::new().route("/api/v1/access-logs", get(rows)).route("/api/v1/access-logs/tail", get(tail))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Rows {
    rows: Vec<AccessLogRow>,
    next_before: Option<String>,
    scanned_rows: u64,
    took_ms: f64,
}

fn filter_of(params: &Params) -> Result<Filter, Problem> {
    Filter::parse(params.get("filter").unwrap_or("")).map_err(Problem::bad_request)
}

/// Newest first; `start` and `end` in unix milliseconds, the end not included.
async fn rows(State(engine): State<Engine>, RawQuery(query): RawQuery) -> Result<Json<Rows>, Problem> {
    let began = Instant::now();
    let params = Params::parse(query.as_deref().unwrap_or(""));
    let filter = filter_of(&params)?;
    let start = params.i64("start")?.map_or(UnixNanos(0), UnixNanos::from_millis);
    let end = params.i64("end")?.map_or(UnixNanos::now().plus_nanos(1_000_000_000), UnixNanos::from_millis);
    let limit = params.limit("limit", DEFAULT_ROWS, MAX_ROWS)?;
    let before = params
        .text("before")
        .map(|text| {
            Cursor::parse(text).ok_or_else(|| ParamError::new("before", format!("{text:?} is no cursor")))
        })
        .transpose()?;
    let page = page(engine.storage(), &filter, TimeRange::new(start, end), before, limit).await?;
    Ok(Json(Rows {
        rows: page.rows.into_iter().map(AccessLogRow::from).collect(),
        next_before: page.next.map(Cursor::to_text),
        scanned_rows: page.scanned_rows,
        took_ms: (began.elapsed().as_secs_f64() * 1e6).round() / 1e3,
    }))
}

/// Rows as they are stored, oldest first within an event. A reader that falls behind loses rows and is told so by
/// an event `lost`.
async fn tail(
    State(engine): State<Engine>,
    RawQuery(query): RawQuery,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let filter = filter_of(&Params::parse(query.as_deref().unwrap_or("")))?;
    let batches = BroadcastStream::new(engine.storage().subscribe());
    let events = batches.filter_map(move |batch| {
        let event = match batch {
            Ok(batch) => rows_event(&batch, &filter),
            Err(_) => Some(Event::default().event("lost").data("[]")),
        };
        std::future::ready(event.map(Ok))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))))
}

fn rows_event(batch: &Arc<Batch>, filter: &Filter) -> Option<Event> {
    let Batch::AccessLogs(logs) = &**batch else { return None };
    let mut rows: Vec<_> = logs.iter().filter(|log| filter.accepts(*log)).collect();
    if rows.is_empty() {
        return None;
    }
    rows.sort_by_key(|log| log.time);
    let newest = rows.split_off(rows.len().saturating_sub(MAX_TAIL_ROWS));
    let rows: Vec<AccessLogRow> = newest.into_iter().cloned().map(AccessLogRow::from).collect();
    Event::default().event("rows").json_data(rows).ok()
}
