//! `GET /api/v1/status`: what this process is, listens on, has received and holds.

use axum::{Json, Router, extract::State, routing::get};
use serde::Serialize;

use crate::{Engine, Listener, Received, ServerStatus};

pub(crate) fn router() -> Router<Engine> {
    Router::new().route("/api/v1/status", get(status))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    version: String,
    uptime_s: f64,
    listeners: Vec<Listener>,
    received: Vec<Received>,
    tables: Vec<TableStatus>,
    /// Resident; 0 where the system does not tell.
    memory_bytes: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TableStatus {
    name: &'static str,
    rows: u64,
    bytes: u64,
    files: u64,
    oldest_unix_ms: Option<i64>,
    newest_unix_ms: Option<i64>,
}

async fn status(State(engine): State<Engine>) -> Json<Status> {
    let ServerStatus { listeners, received } = engine.host().status();
    let tables = engine.storage().stats().tables.into_iter().map(|table| TableStatus {
        name: table.table.name(),
        rows: table.rows,
        bytes: table.file_bytes,
        files: table.files,
        oldest_unix_ms: table.oldest.map(|time| time.millis()),
        newest_unix_ms: table.newest.map(|time| time.millis()),
    });
    Json(Status {
        version: engine.config().version.clone(),
        uptime_s: (engine.uptime().as_secs_f64() * 1e3).round() / 1e3,
        listeners,
        received,
        tables: tables.collect(),
        memory_bytes: resident_bytes().unwrap_or(0),
    })
}

/// From Linux' `/proc/self/status`, which counts in kB whatever the page size.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kb| kb * 1_024)
}
