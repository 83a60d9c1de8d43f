//! Access-log rows as JSON, and reading them newest first.

use futures::TryStreamExt;
use pharos_model::{AccessLog, TimeRange, TraceId, UnixNanos};
use pharos_storage::{Scan, ScanValue, Storage, StorageError, Table, access_logs_of};
use serde::Serialize;

use super::filter::{Filter, FilterRow, Key};

impl FilterRow for AccessLog {
    fn texts(&self, key: Key) -> [&str; 2] {
        match key {
            Key::Service => [&self.destination_service, ""],
            Key::Source => [&self.source.workload, ""],
            Key::Destination => [&self.destination.workload, ""],
            Key::Namespace => [&self.source.namespace, &self.destination.namespace],
            Key::Method => [&self.method, ""],
            Key::Path => [&self.path, &self.original_path],
            Key::Host => [&self.authority, ""],
            Key::Reporter => [self.reporter.name(), ""],
            Key::Request => [&self.request_id, ""],
            Key::Route => [&self.route_name, ""],
            Key::Cluster => [&self.upstream_cluster, ""],
            Key::Version => [&self.source.version, &self.destination.version],
            Key::Status | Key::Flag | Key::Duration | Key::Trace => ["", ""],
        }
    }

    fn status(&self) -> u16 {
        self.response_code
    }

    fn duration_us(&self) -> i64 {
        self.duration_us
    }

    fn has_flag(&self, is_it: &dyn Fn(&str) -> bool) -> bool {
        self.response_flags.iter().any(is_it)
    }

    fn trace_id(&self) -> Option<TraceId> {
        self.trace_id
    }

    fn free_text(&self) -> [&str; 3] {
        [&self.path, &self.authority, &self.user_agent]
    }
}

/// A row of the API. Absent text is empty, absent ids too.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AccessLogRow {
    time_unix_us: i64,
    duration_us: i64,
    reporter: &'static str,
    source_cluster: String,
    source_workload: String,
    source_namespace: String,
    source_app: String,
    source_version: String,
    source_principal: String,
    destination_cluster: String,
    destination_workload: String,
    destination_namespace: String,
    destination_app: String,
    destination_version: String,
    destination_principal: String,
    destination_service: String,
    destination_service_name: String,
    destination_service_namespace: String,
    request_protocol: String,
    protocol: String,
    method: String,
    scheme: String,
    authority: String,
    path: String,
    original_path: String,
    response_code: u16,
    grpc_status: Option<u16>,
    response_flags: String,
    response_code_details: String,
    connection_termination_details: String,
    upstream_transport_failure_reason: String,
    request_bytes: i64,
    response_bytes: i64,
    upstream_attempts: i64,
    route_name: String,
    upstream_cluster: String,
    upstream_host: String,
    downstream_remote_address: String,
    requested_server_name: String,
    user_agent: String,
    request_id: String,
    trace_id: String,
    span_id: String,
    security_policy: String,
    tls_version: String,
    node_id: String,
}

impl From<AccessLog> for AccessLogRow {
    fn from(log: AccessLog) -> AccessLogRow {
        AccessLogRow {
            time_unix_us: log.time.micros(),
            duration_us: log.duration_us,
            reporter: log.reporter.name(),
            source_cluster: log.source.cluster,
            source_workload: log.source.workload,
            source_namespace: log.source.namespace,
            source_app: log.source.canonical_service,
            source_version: log.source.canonical_revision,
            source_principal: log.source.principal,
            destination_cluster: log.destination.cluster,
            destination_workload: log.destination.workload,
            destination_namespace: log.destination.namespace,
            destination_app: log.destination.canonical_service,
            destination_version: log.destination.canonical_revision,
            destination_principal: log.destination.principal,
            destination_service: log.destination_service,
            destination_service_name: log.destination_service_name,
            destination_service_namespace: log.destination_service_namespace,
            request_protocol: log.request_protocol,
            protocol: log.http_version,
            method: log.method,
            scheme: log.scheme,
            authority: log.authority,
            path: log.path,
            original_path: log.original_path,
            response_code: log.response_code,
            grpc_status: log.grpc_status,
            response_flags: log.response_flags.to_string(),
            response_code_details: log.response_code_details,
            connection_termination_details: log.connection_termination_details,
            upstream_transport_failure_reason: log.upstream_transport_failure_reason,
            request_bytes: log.request_bytes,
            response_bytes: log.response_bytes,
            upstream_attempts: log.upstream_attempts,
            route_name: log.route_name,
            upstream_cluster: log.upstream_cluster,
            upstream_host: log.upstream_host,
            downstream_remote_address: log.downstream_remote_address,
            requested_server_name: log.requested_server_name,
            user_agent: log.user_agent,
            request_id: log.request_id,
            trace_id: log.trace_id.map(|id| id.to_string()).unwrap_or_default(),
            span_id: log.span_id.map(|id| id.to_string()).unwrap_or_default(),
            security_policy: log.security_policy,
            tls_version: log.tls_version,
            node_id: log.node_id,
        }
    }
}

/// Where a page ended: the last row's time and how many rows of that nanosecond were given before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) time: UnixNanos,
    pub(crate) given: usize,
}

impl Cursor {
    pub(crate) fn parse(text: &str) -> Option<Cursor> {
        /// No clock puts more requests into a nanosecond.
        const MAX_GIVEN: usize = 1_000_000;
        let (time, given) = text.split_once('-')?;
        let cursor = Cursor { time: UnixNanos(time.parse().ok()?), given: given.parse().ok()? };
        (cursor.given <= MAX_GIVEN).then_some(cursor)
    }

    pub(crate) fn to_text(self) -> String {
        format!("{}-{}", self.time.0, self.given)
    }
}

#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) rows: Vec<AccessLog>,
    pub(crate) next: Option<Cursor>,
    pub(crate) scanned_rows: u64,
}

/// How much of the past one step of a page looks at, at first; each further step looks at four times as much. A busy
/// mesh fills a page in seconds.
const FIRST_STEP_NS: i64 = 2_000_000_000;

/// The newest matching rows of `range` that come after `before`, newest first. The past is read in growing steps,
/// so that a page of recent rows reads recent files only.
pub(crate) async fn page(
    storage: &Storage,
    filter: &Filter,
    range: TimeRange,
    before: Option<Cursor>,
    limit: usize,
) -> Result<Page, StorageError> {
    let mut end = match before {
        // The nanosecond of the cursor may hold rows that were not given yet.
        Some(cursor) => cursor.time.plus_nanos(1).min(range.end),
        None => range.end,
    };
    let snapshot = storage.snapshot(Table::AccessLogs, TimeRange::new(range.start, end))?;
    let newest = snapshot.files.iter().map(|file| file.max_time).max();
    let oldest = snapshot.files.iter().map(|file| file.min_time).min();
    let start = match oldest {
        Some(oldest) if !snapshot.has_head() => range.start.max(oldest),
        _ => range.start,
    };
    if !snapshot.has_head()
        && let Some(newest) = newest
    {
        end = end.min(newest.plus_nanos(1));
    }
    let mut page = Page { rows: Vec::new(), next: None, scanned_rows: 0 };
    let mut to_skip = before.map_or(0, |cursor| cursor.given);
    let mut step_ns = FIRST_STEP_NS;
    // A lookup by id is narrowed by the files' bloom filters, not by time.
    let is_lookup = filter.only_trace().is_some();
    while end > start {
        let from = if is_lookup { start } else { end.plus_nanos(-step_ns).max(start) };
        let mut scan = Scan::new(TimeRange::new(from, end));
        if let Some(trace) = filter.only_trace() {
            scan = scan.equal("trace_id", ScanValue::Bytes(trace.0.to_vec()));
        }
        let mut batches = snapshot.read(&scan).await?;
        let mut found: Vec<AccessLog> = Vec::new();
        // Rows that the page can need: what it still lacks, what was given before, and one to know that there is more.
        let needed = limit + to_skip + 1 - page.rows.len();
        while let Some(batch) = batches.try_next().await? {
            page.scanned_rows += batch.num_rows() as u64;
            found.extend(access_logs_of(&batch)?.into_iter().filter(|log| filter.accepts(log)));
            if found.len() > 2 * needed {
                found.sort_by(newest_first);
                found.truncate(needed);
            }
        }
        found.sort_by(newest_first);
        for log in found {
            if before.is_some_and(|cursor| cursor.time == log.time) && to_skip > 0 {
                to_skip -= 1;
                continue;
            }
            if page.rows.len() == limit {
                page.next = cursor_after(&page.rows, before);
                return Ok(page);
            }
            page.rows.push(log);
        }
        end = from;
        step_ns = step_ns.saturating_mul(4);
    }
    Ok(page)
}

/// A total order, so that pages neither repeat nor leave out a row.
fn newest_first(a: &AccessLog, b: &AccessLog) -> std::cmp::Ordering {
    let order = |log: &AccessLog| (log.time, log.duration_us, log.reporter, log.span_id);
    order(b).cmp(&order(a)).then_with(|| (&b.request_id, &b.path).cmp(&(&a.request_id, &a.path)))
}

fn cursor_after(rows: &[AccessLog], before: Option<Cursor>) -> Option<Cursor> {
    let time = rows.last()?.time;
    let here = rows.iter().rev().take_while(|row| row.time == time).count();
    let earlier = before.filter(|cursor| cursor.time == time).map_or(0, |cursor| cursor.given);
    Some(Cursor { time, given: here + earlier })
}
