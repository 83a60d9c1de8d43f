//! Traces by id and spans by attribute, among as many spans as a server keeps.

use std::{fs, path::Path};

use pharos_model::{Span, TimeRange, TraceId};
use pharos_storage::{Scan, ScanValue, Storage, Table};

use crate::{
    measure::{line, make_cold, median, time_scan},
    merge::merged,
    mesh::{Mesh, tag_name},
    parts::{BATCH, quiet},
};

pub(crate) async fn search(dir: &Path, spans: usize) -> anyhow::Result<()> {
    const QUERIES: usize = 20;
    let dir = merged(dir, spans).await?;
    let million = spans as f64 / 1e6;
    let traces = some_traces(&dir, spans, QUERIES)?;
    let of_trace =
        |id: &TraceId| Scan::new(TimeRange::ALL).equal("trace_id", ScanValue::Bytes(id.0.to_vec()));
    let storage = Storage::open(quiet(&dir)).await?;
    let stats = storage.stats();
    let files = stats.tables.iter().find(|table| table.table == Table::Spans).map_or(0, |table| table.files);
    let (mut first, mut times) = (None, Vec::new());
    for id in &traces {
        make_cold(&dir)?;
        let (found, ms) = time_scan(&storage, Table::Spans, &of_trace(id)).await?;
        anyhow::ensure!(found == 10, "a trace has {found} spans");
        first.get_or_insert(ms);
        times.push(ms);
    }
    line(&format!("trace by id, {million:.1} M spans in {files} cold files"), median(times), "ms", "20");
    line("trace by id, the first after the start", first.unwrap_or(f64::NAN), "ms", "");

    let searches = [
        ("a tag in most spans, rare value", "http.status_code", "404"),
        ("a tag in most spans, a value that nobody sent", "guid:x-request-id", "none"),
        ("a tag in few spans", &*tag_name(21), "v-1"),
        ("a tag that nobody sent", "app.none", "1"),
    ];
    for (what, key, value) in searches {
        let scan = Scan::new(TimeRange::ALL)
            .equal(format!("attributes.{key}"), ScanValue::Text(value.to_string()))
            .newest_first()
            .limit(20);
        let mut times = Vec::new();
        let mut found = 0;
        for _ in 0..5 {
            make_cold(&dir)?;
            let (rows, ms) = time_scan(&storage, Table::Spans, &scan).await?;
            found = rows;
            times.push(ms);
        }
        line(&format!("newest 20 by {what} ({found})"), median(times), "ms", "100");
    }
    storage.close().await?;
    Ok(())
}

/// Ids of traces all over the time, by making the same rows again; kept beside the files for the next run.
fn some_traces(dir: &Path, spans: usize, count: usize) -> anyhow::Result<Vec<TraceId>> {
    let known = dir.join("traces");
    if let Ok(ids) = fs::read(&known) {
        return Ok(ids.as_chunks::<16>().0.iter().map(|id| TraceId(*id)).collect());
    }
    let mut mesh = Mesh::new();
    let batches = spans / BATCH;
    let every = (batches / count).max(1);
    let mut traces = Vec::new();
    for batch in 0..batches {
        let spans: Vec<Span> = mesh.spans(BATCH);
        if batch % every == 0 {
            traces.extend(spans.first().map(|span| span.trace_id));
        }
    }
    traces.truncate(count);
    fs::write(known, traces.iter().flat_map(|id| id.0).collect::<Vec<u8>>())?;
    Ok(traces)
}
