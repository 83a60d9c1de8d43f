//! The routers over a real storage in a temporary folder.

mod access_logs;
mod graph;
mod openapi;
mod prometheus;
mod prometheus_server;
mod rules;
mod sql;
mod traces;

use std::path::{Path, PathBuf};

use axum::{
    Router,
    body::Body,
    http::{Request, StatusCode},
};
use http_body_util::BodyExt;
use pharos_model::{Labels, Sample, TimeSeries};
use pharos_storage::{Batch, Storage, StorageConfig};
use serde_json::Value;
use tower::ServiceExt;

use crate::{Engine, EngineConfig, api};

/// Test data of other projects, which is kept outside of the repository.
pub(crate) fn conformance_folder(name: &str) -> Option<PathBuf> {
    let beside_workspace = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/conformance");
    let root = std::env::var_os("CONFORMANCE_DIR").map_or_else(beside_workspace, PathBuf::from);
    let found = Some(root.join(name)).filter(|folder| folder.is_dir());
    if found.is_none() {
        eprintln!("conformance/{name}: absent, set CONFORMANCE_DIR");
    }
    found
}

/// JSON files of a folder, by name.
pub(crate) fn json_files(folder: &Path) -> Vec<(String, Value)> {
    let mut files: Vec<(String, Value)> = std::fs::read_dir(folder)
        .expect("readable")
        .map(|entry| entry.expect("entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            (name, serde_json::from_slice(&std::fs::read(&path).expect("readable")).expect("JSON"))
        })
        .collect();
    files.sort_by(|a, b| a.0.cmp(&b.0));
    files
}

struct Bench {
    folder: tempfile::TempDir,
    storage: Storage,
    engine: Engine,
}

impl Bench {
    async fn new() -> Bench {
        Bench::with_config(EngineConfig::default()).await
    }

    async fn with_config(config: EngineConfig) -> Bench {
        let folder = tempfile::tempdir().expect("a folder");
        let storage = Storage::open(StorageConfig { retention: None, ..StorageConfig::new(folder.path()) })
            .await
            .expect("opens");
        let engine = Engine::new(storage.clone(), config);
        Bench { folder, storage, engine }
    }

    async fn append(&self, batch: Batch) {
        self.storage.append(batch).await.expect("stored");
    }

    async fn append_counter(
        &self,
        labels: Labels,
        times_s: impl Iterator<Item = i64>,
        value_at: impl Fn(i64) -> f64,
    ) {
        let samples = times_s.map(|t| Sample { time_ms: t * 1_000, value: value_at(t) }).collect();
        self.append(Batch::Samples(vec![TimeSeries { labels, samples, ..TimeSeries::default() }])).await;
    }

    fn router(&self) -> Router {
        api::ui_router(self.engine.clone())
    }

    async fn text(&self, request: Request<Body>) -> (StatusCode, String) {
        let (status, body) = self.bytes(request).await;
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    async fn bytes(&self, request: Request<Body>) -> (StatusCode, Vec<u8>) {
        let router = match request.uri().path() {
            path if path == "/federate" || path.starts_with("/-/") => {
                api::prometheus_router(self.engine.clone())
            }
            _ => self.router(),
        };
        let response = router.oneshot(request).await.expect("infallible");
        let status = response.status();
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        (status, body.to_vec())
    }

    async fn get(&self, uri: &str) -> (StatusCode, Value) {
        let request = Request::get(uri).body(Body::empty()).expect("a request");
        let (status, text) = self.text(request).await;
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    async fn post(&self, uri: &str, content_type: &str, body: impl Into<Body>) -> (StatusCode, Value) {
        let request =
            Request::post(uri).header("content-type", content_type).body(body.into()).expect("a request");
        let (status, text) = self.text(request).await;
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }
}

fn query_string<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

/// Whole minutes in the near past, so that buckets and scrapes lie as they do in life.
fn recent_minute_s() -> i64 {
    pharos_model::UnixNanos::now().millis() / 60_000 * 60 - 60
}
