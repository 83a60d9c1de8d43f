//! What Prometheus' API tells of the server around the engine: targets, scrape configurations, notifications, status.

use std::sync::Arc;

use axum::{
    body::Body,
    http::{Method, Request, header},
};
use http_body_util::BodyExt;
use pharos_model::{Labels, MetricKind, MetricMetadata, UnixNanos};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::Bench;
use crate::{Configuration, Host, RelabelStep, ScrapeTargets, TargetMetadata, api};

/// A server with two targets of one scrape configuration, whose last reload failed.
struct Server;

impl Host for Server {
    fn scrape_targets(&self) -> ScrapeTargets {
        let dropped_counts = [("mesh".to_string(), 3)].into();
        ScrapeTargets { pools: vec!["mesh".into()], dropped_counts, ..ScrapeTargets::default() }
    }

    fn target_metadata(&self) -> Vec<TargetMetadata> {
        let family = |family: &str, help: &str| MetricMetadata {
            family: family.into(),
            kind: MetricKind::Counter,
            help: help.into(),
            unit: String::new(),
        };
        let target = |instance: &str, families: Vec<MetricMetadata>| TargetMetadata {
            labels: Labels::from_pairs([("instance", instance)]),
            families: Arc::new(families),
        };
        vec![
            target("a", vec![family("errors", "Errors."), family("requests", "Requests.")]),
            target("b", vec![family("requests", "All requests.")]),
        ]
    }

    fn scrape_config(&self, pool: &str) -> Option<String> {
        (pool == "mesh").then(|| "job_name: mesh\n".to_string())
    }

    fn relabel_steps(&self, pool: &str, labels: Labels) -> Option<Vec<RelabelStep>> {
        let rule = json!({ "action": "keep" });
        (pool == "mesh").then(|| vec![RelabelStep { rule, output: labels, keep: true }])
    }

    fn own_metrics(&self) -> String {
        "# HELP up Help.\n# TYPE up gauge\nup 1\n# HELP down Help.\n# TYPE down gauge\ndown 1\n".into()
    }

    fn configuration(&self) -> Configuration {
        Configuration {
            reload_succeeded: Some(false),
            failed_at: Some(UnixNanos::from_millis(1_000)),
            ..Configuration::default()
        }
    }
}

async fn bench() -> Bench {
    let bench = Bench::new().await;
    bench.engine.set_host(Server);
    bench
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_tells_of_itself() {
    let bench = bench().await;
    let counter = |help: &str| json!({ "type": "counter", "help": help, "unit": "" });
    let of_target = |instance: &str, metric: Option<&str>, help: &str| {
        let mut entry =
            json!({ "target": { "instance": instance }, "type": "counter", "help": help, "unit": "" });
        if let Some(metric) = metric {
            entry["metric"] = metric.into();
        }
        entry
    };
    let steps = json!([{ "rule": { "action": "keep" }, "output": { "a": "1" }, "keep": true }]);
    for (uri, data) in [
        (
            "/api/v1/metadata",
            json!({ "errors": [counter("Errors.")], "requests": [counter("All requests."), counter("Requests.")] }),
        ),
        ("/api/v1/metadata?limit=1", json!({ "errors": [counter("Errors.")] })),
        ("/api/v1/metadata?limit=0", json!({})),
        (
            "/api/v1/metadata?metric=requests&limit_per_metric=1&limit=-1",
            json!({ "requests": [counter("Requests.")] }),
        ),
        (
            "/api/v1/targets/metadata",
            json!([
                of_target("a", Some("errors"), "Errors."),
                of_target("a", Some("requests"), "Requests."),
                of_target("b", Some("requests"), "All requests."),
            ]),
        ),
        (
            "/api/v1/targets/metadata?metric=requests&match_target=%7Binstance%3D%22b%22%7D",
            json!([of_target("b", None, "All requests.")]),
        ),
        ("/api/v1/targets/metadata?metric=requests&limit=1", json!([of_target("a", None, "Requests.")])),
        ("/api/v1/targets/metadata?metric=unknown", json!([])),
        ("/api/v1/scrape_pools", json!({ "scrapePools": ["mesh"] })),
        ("/api/v1/scrape_pools/config?scrapePool=mesh", json!({ "yaml": "job_name: mesh\n" })),
        (
            "/api/v1/targets/relabel_steps?scrapePool=mesh&labels=%7B%22a%22%3A%221%22%7D",
            json!({ "steps": steps }),
        ),
        (
            "/api/v1/targets?state=active",
            json!({ "activeTargets": [], "droppedTargets": [], "droppedTargetCounts": null }),
        ),
        (
            "/api/v1/targets?state=dropped",
            json!({ "activeTargets": [], "droppedTargets": [], "droppedTargetCounts": { "mesh": 3 } }),
        ),
        (
            "/api/v1/notifications",
            json!([{ "text": "Configuration reload has failed.", "date": "1970-01-01T00:00:01Z", "active": true }]),
        ),
        (
            "/api/v1/status/self_metrics?metric_name_pattern=u.",
            json!([{
                "name": "up", "help": "Help.", "type": "GAUGE",
                "metric": [{ "label": [], "gauge": { "value": 1.0 } }],
            }]),
        ),
        ("/api/v1/status/tsdb/blocks", json!({ "blocks": [] })),
        ("/api/v1/status/walreplay", json!({ "min": 0, "max": 0, "current": 0 })),
        // All of time the wrong way round is none of it.
        ("/api/v1/labels?start=5&end=1", json!([])),
        ("/api/v1/series?match[]=up&start=-292273086-05-16T16:47:06Z&end=5", json!([])),
    ] {
        let (status, body) = bench.get(uri).await;
        assert_eq!((status.as_u16(), &body["data"]), (200, &data), "{uri}: {body}");
    }
    let (_, flags) = bench.get("/api/v1/status/flags").await;
    assert_eq!(flags["data"]["query.timeout"], "2m", "{flags}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_parameters_are_named_as_prometheus_does() {
    let bench = bench().await;
    for (uri, status, kind, message) in [
        ("/api/v1/metadata?limit=x", 400, "bad_data", "limit must be a number"),
        ("/api/v1/metadata?limit_per_metric=x", 400, "bad_data", "limit_per_metric must be a number"),
        ("/api/v1/targets/metadata?match_target=%7B", 400, "bad_data", "invalid parameter \"match_target\""),
        ("/api/v1/scrape_pools/config", 400, "bad_data", "no scrapePool parameter provided"),
        ("/api/v1/scrape_pools/config?scrapePool=none", 400, "bad_data", "error retrieving scrape config"),
        ("/api/v1/targets/relabel_steps?scrapePool=mesh", 400, "bad_data", "no labels parameter provided"),
        ("/api/v1/targets/relabel_steps?scrapePool=mesh&labels=%7B", 400, "bad_data", "error parsing labels"),
        ("/api/v1/status/self_metrics?metric_name_pattern=(", 400, "bad_data", "invalid metric_name_pattern"),
        ("/api/v1/status/tsdb?limit=0", 400, "bad_data", "limit must be a positive number"),
        ("/api/v1/status/tsdb?limit=10001", 400, "bad_data", "limit must not exceed 10000"),
        ("/api/v1/rules?type=other", 400, "bad_data", "not supported value \"other\""),
        ("/api/v1/rules?group_limit=0", 400, "bad_data", "group_limit needs to be greater than 0"),
        ("/api/v1/rules?group_limit=x", 400, "bad_data", "group_limit needs to be a valid number"),
        (
            "/api/v1/rules?group_next_token=a",
            400,
            "bad_data",
            "invalid parameter \"group_next_token\": group_limit needs to be present",
        ),
        ("/api/v1/rules?group_next_token=a&group_limit=1", 400, "bad_data", "invalid group_next_token 'a'"),
        ("/api/v1/query_exemplars?query=up&start=5&end=1", 400, "bad_data", "must not be before start"),
        ("/api/v1/search/metric_names", 500, "unavailable", "search API disabled"),
    ] {
        let (got, body) = bench.get(uri).await;
        assert_eq!(
            (got.as_u16(), &body["status"], &body["errorType"]),
            (status, &json!("error"), &json!(kind)),
            "{uri}: {body}"
        );
        assert!(body["error"].as_str().unwrap_or("").contains(message), "{uri}: {body}");
    }
    let (_, body) = bench.get("/api/v1/query?query=1&stats=yes").await;
    assert!(body["warnings"][0].as_str().unwrap_or("").contains("\"yes\""), "{body}");
    let (_, body) = bench.get("/api/v1/query?query=1&stats=all").await;
    assert!(body["data"]["stats"]["timings"].is_object() && body.get("warnings").is_none(), "{body}");
    // A form that is too long is an error in the API's own form.
    let (status, body) =
        bench.post("/api/v1/query", "application/x-www-form-urlencoded", vec![b'a'; 11 << 20]).await;
    assert_eq!((status.as_u16(), &body["errorType"]), (400, &json!("bad_data")), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_others_may_ask_and_listen() {
    let bench = bench().await;
    let router = api::prometheus_router(bench.engine.clone());
    let ask = async |request: Request<Body>| router.clone().oneshot(request).await.expect("infallible");
    let preflight = Request::builder()
        .method(Method::OPTIONS)
        .uri("/api/v1/query")
        .header(header::ORIGIN, "http://elsewhere")
        .header(header::ACCESS_CONTROL_REQUEST_METHOD, "GET");
    let answer = ask(preflight.body(Body::empty()).expect("a request")).await;
    assert!(answer.status().is_success());
    assert_eq!(answer.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*");
    for (method, uri, status) in [
        (Method::HEAD, "/-/healthy", 200),
        (Method::HEAD, "/-/ready", 200),
        (Method::GET, "/version", 200),
        (Method::GET, "/-/reload", 405),
        (Method::GET, "/-/quit", 405),
        (Method::POST, "/-/quit", 403),
    ] {
        let request = Request::builder().method(&method).uri(uri).body(Body::empty()).expect("a request");
        assert_eq!(ask(request).await.status().as_u16(), status, "{method} {uri}");
    }
    let request = Request::get("/api/v1/notifications/live").body(Body::empty()).expect("a request");
    let answer = ask(request).await;
    assert_eq!(answer.headers()[header::CONTENT_TYPE], "text/event-stream");
    let mut body = answer.into_body();
    let frame = body.frame().await.expect("an event").expect("readable").into_data().expect("data");
    let event = String::from_utf8_lossy(&frame).trim().strip_prefix("data: ").map(str::to_string);
    let event: Value = serde_json::from_str(&event.unwrap_or_default()).expect("JSON");
    assert_eq!(
        (&event["text"], &event["active"]),
        (&json!("Configuration reload has failed."), &json!(true))
    );
}
