//! The description of Prometheus' API and the routes say the same.

use std::collections::{BTreeMap, BTreeSet};

use axum::{
    body::Body,
    http::{Method, Request, StatusCode},
};
use serde_json::Value;
use tower::ServiceExt;

use super::Bench;
use crate::{api, prometheus::api as routes};

/// What takes samples belongs to the collector.
const OF_OTHERS: [&str; 2] = ["/otlp/v1/metrics", "/write"];

async fn document(bench: &Bench, asked: &str) -> Value {
    let (status, body) = bench.get(&format!("/api/v1/openapi.yaml{asked}")).await;
    assert_eq!(status, 200);
    serde_saphyr::from_str(body.as_str().expect("a text")).expect("YAML")
}

#[tokio::test(flavor = "multi_thread")]
async fn it_describes_what_is_served_and_nothing_else() {
    let bench = Bench::new().await;
    let document = document(&bench, "").await;
    let paths: BTreeMap<&str, &Value> = document["paths"]
        .as_object()
        .expect("paths")
        .iter()
        .map(|(path, item)| (path.as_str(), item))
        .collect();
    let routed = routes::routes().into_iter().chain(routes::switched_off_routes()).map(|(path, _)| path);
    let expected: BTreeSet<&str> = routed.chain(OF_OTHERS).collect();
    assert_eq!(paths.keys().copied().collect::<BTreeSet<_>>(), expected);
    for (path, item) in paths.into_iter().filter(|(path, _)| !OF_OTHERS.contains(path)) {
        for method in [Method::GET, Method::POST, Method::PUT, Method::DELETE] {
            let uri = format!("/api/v1{}", path.replace("{name}", "job"));
            let request = Request::builder().method(&method).uri(&uri).body(Body::empty());
            let router = api::prometheus_router(bench.engine.clone());
            let answer = router.oneshot(request.expect("a request")).await.expect("an answer");
            let is_described = item.get(method.as_str().to_lowercase()).is_some();
            assert_ne!(answer.status(), StatusCode::NOT_FOUND, "{method} {uri}");
            assert_eq!(answer.status() != StatusCode::METHOD_NOT_ALLOWED, is_described, "{method} {uri}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_reference_leads_somewhere_and_operations_have_names_of_their_own() {
    let bench = Bench::new().await;
    let document = document(&bench, "").await;
    let mut operations = BTreeSet::new();
    let mut unread = vec![&document];
    while let Some(value) = unread.pop() {
        if let Some(target) = value.get("$ref").and_then(Value::as_str) {
            let pointer = target.strip_prefix('#').expect("a place in the document");
            assert!(document.pointer(pointer).is_some(), "{target}");
        }
        if let Some(operation) = value.get("operationId").and_then(Value::as_str) {
            assert!(operations.insert(operation), "{operation} twice");
        }
        match value {
            Value::Array(items) => unread.extend(items),
            Value::Object(fields) => unread.extend(fields.values()),
            _ => {}
        }
    }
    assert!(operations.contains("query-range"), "{operations:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_comes_in_two_versions() {
    let bench = Bench::new().await;
    for (asked, version) in [
        ("", "3.1.0"),
        ("?openapi_version=3.2", "3.2.0"),
        ("?openapi_version=3.2.0", "3.2.0"),
        ("?openapi_version=4", "3.1.0"),
    ] {
        let document = document(&bench, asked).await;
        assert_eq!(document["openapi"], version, "{asked}");
        assert_eq!(document["info"]["version"], bench.engine.config().version, "{asked}");
    }
}
