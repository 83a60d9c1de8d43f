use pharos_model::{AccessLog, Labels, Peer, Reporter, ResponseFlags, Sample, TimeSeries, UnixNanos};
use pharos_storage::Batch;
use serde_json::{Value, json};

use super::{Bench, conformance_folder, json_files, query_string, recent_minute_s};
use crate::graph::tests::{counters_of, expected, inventory_of, sorted, text};

/// The golden graphs through storage and HTTP: ids, order and strings are equal.
#[tokio::test(flavor = "multi_thread")]
async fn goldens_through_the_storage() {
    let Some(folder) = conformance_folder("kiali-graph") else { return };
    for (name, case) in json_files(&folder) {
        let bench = Bench::new().await;
        let now_s = recent_minute_s();
        let series = counters_of(&case, now_s).into_iter().map(|(labels, rate, from_s)| TimeSeries {
            labels,
            samples: (from_s..=now_s)
                .step_by(15)
                .map(|t| Sample { time_ms: t * 1_000, value: rate * (t - from_s) as f64 })
                .collect(),
            ..TimeSeries::default()
        });
        bench.append(Batch::Samples(series.collect())).await;
        bench.engine.set_inventory(inventory_of(&case));
        let params = case["request"]["params"].as_object().expect("params");
        let now_text = now_s.to_string();
        let query = query_string(
            params
                .iter()
                .map(|(key, value)| (key.as_str(), value.as_str().unwrap_or("")))
                .filter(|(key, _)| *key != "queryTime")
                .chain([("queryTime", now_text.as_str())]),
        );
        let (status, got) = bench.get(&format!("{}?{query}", text(&case["request"], "path"))).await;
        assert_eq!(status, 200, "{name}: {got}");
        assert_eq!(got["timestamp"], now_s, "{name}");
        assert_eq!(sorted(&got["elements"]), sorted(&expected(&case)), "{name}");
    }
}

#[tokio::test]
async fn a_bad_parameter_is_refused_in_kialis_form() {
    let bench = Bench::new().await;
    let (status, body) = bench.get("/api/namespaces/graph?namespaces=a&graphType=mesh").await;
    assert_eq!(status, 400);
    assert!(text(&body, "error").contains("graphType"), "{body}");
    let (status, body) = bench.get("/api/v1/graph?duration=soon").await;
    assert_eq!((status.as_u16(), text(&body, "title")), (400, "Bad Request"));
    assert!(text(&body, "detail").contains("duration"), "{body}");
}

#[tokio::test]
async fn an_empty_graph_says_why() {
    let bench = Bench::new().await;
    let (status, body) = bench.get("/api/v1/graph").await;
    assert_eq!(status, 200);
    assert_eq!(body["elements"], json!({ "nodes": [], "edges": [] }));
    assert_eq!(body["pharos"]["empty"]["reason"], "Nothing has been received yet.");
}

fn peer(workload: &str) -> Peer {
    let app = workload.split('-').next().unwrap_or("").to_string();
    Peer {
        cluster: "c".into(),
        namespace: "bookinfo".into(),
        workload: workload.into(),
        canonical_service: app.clone(),
        canonical_revision: "v1".into(),
        app,
        version: "v1".into(),
        principal: format!("spiffe://c/{workload}"),
    }
}

fn log(at_s: i64, reporter: Reporter, status: u16, flags: &str, duration_ms: i64) -> AccessLog {
    AccessLog {
        time: UnixNanos::from_millis(at_s * 1_000),
        duration_us: duration_ms * 1_000,
        reporter,
        source: peer("reviews-v1"),
        destination: peer("ratings-v1"),
        destination_service: "ratings.bookinfo.svc.cluster.local".into(),
        destination_service_name: "ratings".into(),
        destination_service_namespace: "bookinfo".into(),
        request_protocol: "http".into(),
        method: "GET".into(),
        path: "/ratings/0".into(),
        response_code: status,
        response_flags: ResponseFlags::parse(flags),
        request_bytes: 100,
        response_bytes: 300,
        security_policy: if reporter == Reporter::Destination {
            "mutual_tls".into()
        } else {
            "unknown".into()
        },
        request_id: format!("{at_s}-{status}-{}", reporter.name()),
        ..AccessLog::default()
    }
}

fn counter(reporter: &str, code: &str) -> Labels {
    let end = |side: &str, workload: &str| {
        [
            (format!("{side}_workload"), workload.to_string()),
            (format!("{side}_workload_namespace"), "bookinfo".to_string()),
            (format!("{side}_canonical_service"), workload.split('-').next().unwrap_or("").to_string()),
            (format!("{side}_canonical_revision"), "v1".to_string()),
            (format!("{side}_cluster"), "c".to_string()),
        ]
    };
    let rest = [
        ("__name__", "istio_requests_total"),
        ("reporter", reporter),
        ("destination_service", "ratings.bookinfo.svc.cluster.local"),
        ("destination_service_name", "ratings"),
        ("destination_service_namespace", "bookinfo"),
        ("request_protocol", "http"),
        ("response_code", code),
        ("response_flags", "-"),
    ];
    let rest = rest.map(|(name, value)| (name.to_string(), value.to_string()));
    Labels::from_pairs(
        end("source", "reviews-v1").into_iter().chain(end("destination", "ratings-v1")).chain(rest),
    )
}

/// Counters give Kiali's rates; access logs give exact counts, flags and quantiles; nothing is counted twice.
#[tokio::test(flavor = "multi_thread")]
async fn counters_and_access_logs_of_the_same_requests_are_not_added() {
    let bench = Bench::new().await;
    let now_s = recent_minute_s();
    // One request a second, seen by both proxies; every tenth was aborted at the client, which the server never saw.
    let mut logs = Vec::new();
    for t in now_s - 600..now_s {
        if t % 10 == 0 {
            logs.push(log(t, Reporter::Source, 500, "FI", 2));
        } else {
            logs.push(log(t, Reporter::Source, 200, "-", 40));
            logs.push(log(t, Reporter::Destination, 200, "-", 30));
        }
    }
    bench.append(Batch::AccessLogs(logs)).await;
    for (reporter, code, rate) in
        [("source", "200", 0.9), ("source", "500", 0.1), ("destination", "200", 0.9)]
    {
        let from_s = now_s - 660;
        bench
            .append_counter(counter(reporter, code), (from_s..=now_s).step_by(15), |t| {
                rate * (t - from_s) as f64
            })
            .await;
    }
    let query =
        format!("namespaces=bookinfo&graphType=versionedApp&injectServiceNodes=true&queryTime={now_s}");
    let (status, body) = bench.get(&format!("/api/v1/graph?{query}")).await;
    assert_eq!(status, 200, "{body}");
    let nodes = body["elements"]["nodes"].as_array().expect("nodes");
    let kinds: Vec<&str> = nodes.iter().map(|node| text(&node["data"], "nodeType")).collect();
    assert_eq!(kinds, ["service", "app", "app"], "{nodes:#?}");
    let edges = body["elements"]["edges"].as_array().expect("edges");
    assert_eq!(edges.len(), 2);
    for edge in edges {
        let edge = &edge["data"];
        assert_eq!(edge["traffic"]["rates"]["http"], "1.00", "{edge}");
        assert_eq!(edge["traffic"]["rates"]["http5xx"], "0.10", "{edge}");
        assert_eq!(edge["isMTLS"], "100", "{edge}");
        assert_eq!(edge["destPrincipal"], "spiffe://c/ratings-v1", "{edge}");
        assert_eq!(edge["responseTime"], "30", "the server's view: {edge}");
        assert_eq!(edge["healthStatus"], "Failure", "{edge}");
        let extras = &edge["pharos"];
        assert_eq!(extras["requests"], 600, "{extras}");
        assert_eq!(extras["errors"], 60, "{extras}");
        assert_eq!(extras["codes"], json!({ "200": 540, "500": 60 }));
        assert_eq!(extras["flags"], json!({ "FI": 60 }));
        assert_eq!(extras["reporters"]["source"], json!({ "requests": 600, "errors": 60 }));
        assert_eq!(extras["reporters"]["destination"], json!({ "requests": 540, "errors": 0 }));
        let p50 = extras["p50Ms"].as_f64().expect("a number");
        assert!((p50 - 40.0).abs() <= 0.4, "the client's view: {p50}");
    }
    assert_eq!(body["pharos"]["namespaces"], json!(["bookinfo"]));
    assert_eq!(body["pharos"]["empty"], Value::Null);
}

/// Access logs alone draw the same graph.
#[tokio::test(flavor = "multi_thread")]
async fn access_logs_alone_make_a_graph() {
    let bench = Bench::new().await;
    let now_s = recent_minute_s();
    let logs = (now_s - 60..now_s).map(|t| log(t, Reporter::Source, 200, "-", 10)).collect();
    bench.append(Batch::AccessLogs(logs)).await;
    let (_, body) = bench.get(&format!("/api/v1/graph?duration=60s&queryTime={now_s}")).await;
    let edges = body["elements"]["edges"].as_array().expect("edges");
    assert_eq!(edges.len(), 1, "{body}");
    assert_eq!(edges[0]["data"]["traffic"]["rates"]["http"], "1.00");
    let (_, body) = bench.get("/api/namespaces").await;
    assert_eq!(body.as_array().map(Vec::len), Some(1), "{body}");
}

/// Badges tell of the configuration that was in force at the end of the window.
#[tokio::test(flavor = "multi_thread")]
async fn badges_show_the_configuration_of_the_time() {
    let bench = Bench::new().await;
    let now_s = recent_minute_s();
    let logs = (now_s - 300..now_s).map(|t| log(t, Reporter::Source, 200, "-", 10)).collect();
    bench.append(Batch::AccessLogs(logs)).await;
    let object = |at_s: i64, kind: &str, spec: Value| pharos_model::MeshObject {
        time: UnixNanos::from_seconds(at_s),
        cluster: "c".into(),
        kind: kind.into(),
        namespace: "bookinfo".into(),
        name: "ratings".into(),
        deleted: false,
        json: json!({ "kind": kind, "spec": spec }).to_string(),
    };
    let route = json!({ "destination": { "host": "ratings" } });
    bench
        .append(Batch::MeshConfig(vec![
            object(
                now_s - 200,
                "VirtualService",
                json!({ "hosts": ["ratings"], "http": [{ "fault": { "abort": {} }, "timeout": "1s", "route": [route] }] }),
            ),
            object(
                now_s - 60,
                "VirtualService",
                json!({ "hosts": ["ratings.bookinfo.svc.cluster.local"], "http": [{ "match": [{}], "route": [route, route] }] }),
            ),
            object(
                now_s - 200,
                "DestinationRule",
                json!({ "host": "ratings", "subsets": [{ "labels": { "version": "v1" }, "trafficPolicy": { "outlierDetection": {} } }] }),
            ),
        ]))
        .await;
    let badges = async |at_s: i64, appenders: &str| {
        let query =
            format!("namespaces=bookinfo&injectServiceNodes=true&duration=60s&queryTime={at_s}{appenders}");
        let (_, body) = bench.get(&format!("/api/namespaces/graph?{query}")).await;
        let nodes = body["elements"]["nodes"].as_array().expect("nodes").clone();
        let all: Vec<String> = nodes
            .iter()
            .flat_map(|node| {
                let name = text(&node["data"], "nodeType").to_string();
                let data = node["data"].as_object().expect("data").clone();
                data.into_iter()
                    .filter(|(key, _)| key.starts_with("has"))
                    .map(move |(key, _)| format!("{name} {key}"))
            })
            .collect();
        all
    };
    assert_eq!(
        badges(now_s - 100, "").await,
        ["service hasFaultInjection", "service hasRequestTimeout", "service hasVS", "workload hasCB"]
    );
    assert_eq!(
        badges(now_s, "").await,
        ["service hasRequestRouting", "service hasTrafficShifting", "service hasVS", "workload hasCB"]
    );
    assert_eq!(badges(now_s - 240, "").await, [""; 0], "before there was any");
    assert_eq!(badges(now_s, "&appenders=health").await, [""; 0]);
}
