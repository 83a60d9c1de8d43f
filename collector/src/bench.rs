//! A collector over a store in a folder of its own, and what it stored.

use std::{path::PathBuf, sync::Arc};

use axum::{Router, body::Body};
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use pharos_model::{AccessLog, LogRecord, Span, TimeSeries, is_stale};
use pharos_storage::{Batch, Storage, StorageConfig};
use tokio::sync::broadcast::Receiver;
use tower::ServiceExt;

use crate::{Collector, CollectorConfig, Limits, Protocol, Received};

pub(crate) struct Bench {
    pub(crate) collector: Collector,
    rows: Receiver<Arc<Batch>>,
    _folder: tempfile::TempDir,
}

#[derive(Default)]
pub(crate) struct Stored {
    pub(crate) spans: Vec<Span>,
    pub(crate) access_logs: Vec<AccessLog>,
    pub(crate) logs: Vec<LogRecord>,
    pub(crate) series: Vec<TimeSeries>,
}

pub(crate) type Headers<'a> = &'a [(&'a str, &'a str)];

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl Bench {
    pub(crate) async fn new() -> Bench {
        Bench::with(CollectorConfig::default()).await
    }

    pub(crate) async fn limited(limits: Limits) -> Bench {
        Bench::with(CollectorConfig { limits, ..CollectorConfig::default() }).await
    }

    pub(crate) async fn with(config: CollectorConfig) -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let storage = Storage::open(StorageConfig { retention: None, ..StorageConfig::new(folder.path()) })
            .await
            .unwrap();
        let rows = storage.subscribe();
        Bench { collector: Collector::new(config, storage), rows, _folder: folder }
    }

    /// All that was stored since the last call; an answered request is among it.
    pub(crate) fn stored(&mut self) -> Stored {
        let mut stored = Stored::default();
        while let Ok(batch) = self.rows.try_recv() {
            stored.add(&batch);
        }
        stored
    }

    /// Waits for something to be stored.
    pub(crate) async fn next_stored(&mut self) -> Stored {
        let mut stored = Stored::default();
        stored.add(&self.rows.recv().await.unwrap());
        stored
    }

    pub(crate) fn received(&self, protocol: Protocol) -> Received {
        self.collector.counters().into_iter().find(|received| received.protocol == protocol).unwrap()
    }
}

impl Stored {
    fn add(&mut self, batch: &Batch) {
        match batch.clone() {
            Batch::Spans(rows) => self.spans.extend(rows),
            Batch::AccessLogs(rows) => self.access_logs.extend(rows),
            Batch::Logs(rows) => self.logs.extend(rows),
            Batch::Samples(rows) => self.series.extend(rows),
            Batch::MeshConfig(_) => {}
        }
    }

    /// One line for each sample, sorted: `name{label="value"} value @time_ms`.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for series in &self.series {
            for sample in &series.samples {
                let value = if is_stale(sample.value) { "stale".into() } else { sample.value.to_string() };
                lines.push(format!("{} {value} @{}", series.labels, sample.time_ms));
            }
            for sample in &series.histograms {
                lines.push(format!("{} {} @{}", series.labels, sample.histogram, sample.time_ms));
            }
        }
        lines.sort();
        lines
    }
}

pub(crate) async fn post(router: Router, path: &str, headers: Headers<'_>, body: impl Into<Bytes>) -> Answer {
    let mut request = Request::post(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = router.oneshot(request.body(Body::from(body.into())).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    Answer { status: parts.status, headers: parts.headers, body: body.collect().await.unwrap().to_bytes() }
}

/// A folder of test data by others, if it is there: it is not part of the repository.
pub(crate) fn conformance(folder: &str) -> Option<PathBuf> {
    let root = std::env::var_os("CONFORMANCE_DIR").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/conformance"),
        PathBuf::from,
    );
    let folder = root.join(folder);
    if !folder.is_dir() {
        eprintln!("absent: {}", folder.display());
        return None;
    }
    Some(folder)
}
