//! `/rules`, `/alerts`, `/alertmanagers`, `/targets` and what else tells of the server's own work.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use parking_lot::Mutex;
use pharos_model::Labels;
use serde_json::{Value, json};

use super::{Bench, query_string, recent_minute_s};
use crate::{
    ActiveTarget, Alertmanager, Alertmanagers, Configuration, DroppedTarget, Host, RuleSettings, Scrape,
    ScrapeTargets,
};

const RULES: &str = r#"
groups:
  - name: first
    interval: 30s
    rules:
      - {record: "m:sum", expr: "sum(m)", labels: {team: mesh}}
      - alert: High
        expr: m > 1
        for: 1m
        labels: {severity: page}
        annotations: {summary: "{{ $value }}"}
  - name: second
    limit: 5
    rules: [{alert: Other, expr: "absent(m)"}]
"#;

async fn with_rules() -> (Bench, tempfile::TempDir, String) {
    let bench = Bench::new().await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("rules.yml");
    std::fs::write(&file, RULES).expect("written");
    let settings = RuleSettings { files: vec![file.clone()], ..RuleSettings::default() };
    bench.engine.rules().apply(&settings).await.expect("good rules");
    (bench, folder, file.display().to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_are_listed_filtered_and_paged() {
    let (bench, _folder, file) = with_rules().await;
    let data = async |query: &str| bench.get(&format!("/api/v1/rules{query}")).await.1["data"].clone();
    let all = data("").await;
    assert_eq!(
        all["groups"][0]["rules"][0],
        json!({
            "name": "m:sum", "query": "sum(m)", "labels": { "team": "mesh" }, "type": "recording",
            "health": "unknown", "evaluationTime": 0.0, "lastEvaluation": "0001-01-01T00:00:00Z",
        })
    );
    assert_eq!(
        all["groups"][0]["rules"][1],
        json!({
            "name": "High", "query": "m > 1", "state": "inactive", "duration": 60.0, "keepFiringFor": 0.0,
            "labels": { "severity": "page" }, "annotations": { "summary": "{{ $value }}" }, "alerts": [],
            "type": "alerting", "health": "unknown", "evaluationTime": 0.0,
            "lastEvaluation": "0001-01-01T00:00:00Z",
        })
    );
    let second = &all["groups"][1];
    assert_eq!(
        (&second["name"], &second["file"], &second["interval"], &second["limit"]),
        (&json!("second"), &json!(file), &json!(60.0), &json!(5))
    );
    let names = async |query: &str| -> Vec<String> {
        let data = data(query).await;
        let groups = data["groups"].as_array().cloned().unwrap_or_default();
        let rules = groups.iter().flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default());
        rules.map(|rule| rule["name"].as_str().unwrap_or("").to_string()).collect()
    };
    for (query, want) in [
        ("?type=alert", vec!["High", "Other"]),
        ("?type=record", vec!["m:sum"]),
        ("?rule_name[]=High&rule_name[]=Other", vec!["High", "Other"]),
        ("?rule_group[]=second", vec!["Other"]),
        ("?file[]=elsewhere", vec![]),
        ("?match[]=%7Bseverity%3D%22page%22%7D", vec!["High"]),
    ] {
        assert_eq!(names(query).await, want, "{query}");
    }
    let page = data("?group_limit=1").await;
    assert_eq!(page["groups"].as_array().map(Vec::len), Some(1));
    let token = page["groupNextToken"].as_str().expect("a token").to_string();
    let next = data(&format!("?group_limit=1&group_next_token={token}")).await;
    assert_eq!((&next["groups"][0]["name"], &next["groupNextToken"]), (&json!("second"), &Value::Null));
    for query in [
        "?type=all",
        "?group_limit=0",
        "?group_next_token=x",
        "?group_limit=1&group_next_token=x",
        "?match[]=%7B",
    ] {
        let (status, body) = bench.get(&format!("/api/v1/rules{query}")).await;
        assert_eq!((status.as_u16(), &body["errorType"]), (400, &json!("bad_data")), "{query}: {body}");
    }
    let managers = bench.get("/api/v1/alertmanagers").await.1["data"].clone();
    assert_eq!(managers, json!({ "activeAlertmanagers": [], "droppedAlertmanagers": [] }));
    assert_eq!(bench.get("/api/v1/alerts").await.1["data"], json!({ "alerts": [] }));
}

/// On the real clock: the group's first evaluation comes within its interval of a second.
#[tokio::test(flavor = "multi_thread")]
async fn groups_run_by_themselves_and_alerts_are_shown() {
    let bench = Bench::new().await;
    let now_s = recent_minute_s() + 60;
    let labels = Labels::from_pairs([("__name__", "m"), ("x", "1")]);
    bench.append_counter(labels, [now_s - 1, now_s + 30].into_iter(), |_| 5.0).await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("rules.yml");
    std::fs::write(
        &file,
        "groups: [{name: g, interval: 100ms, rules: [{record: r, expr: m * 2}, {alert: High, expr: m > 1}]}]",
    )
    .expect("written");
    let settings = RuleSettings { files: vec![file], ..RuleSettings::default() };
    bench.engine.rules().apply(&settings).await.expect("good rules");
    let mut changes = bench.storage.subscribe();
    let recorded = async {
        loop {
            changes.recv().await.expect("the storage lives");
            let alerts = bench.get("/api/v1/alerts").await.1["data"]["alerts"].clone();
            let stored = bench.get("/api/v1/query?query=r%20or%20ALERTS").await.1["data"]["result"].clone();
            let names: BTreeSet<_> = stored
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|series| series["metric"]["__name__"].as_str().map(str::to_string))
                .collect();
            if names.len() == 2 {
                return alerts;
            }
        }
    };
    let alerts = tokio::time::timeout(Duration::from_secs(60), recorded).await.expect("evaluated");
    assert_eq!(
        (&alerts[0]["labels"], &alerts[0]["state"], &alerts[0]["value"]),
        (&json!({ "alertname": "High", "x": "1" }), &json!("firing"), &json!("5e+00"))
    );
    bench.engine.rules().stop().await;
}

/// Two Alertmanagers, of which the one sees alerts of severity `page` alone, and the other fails.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<(String, Value)>>>);

struct Manager {
    told: Told,
    url: &'static str,
}

impl Alertmanagers for Told {
    fn active(&self) -> Vec<Arc<dyn Alertmanager>> {
        ["pages", "fails"].map(|url| Arc::new(Manager { told: self.clone(), url }) as _).into()
    }

    fn dropped_urls(&self) -> Vec<String> {
        vec!["dropped".into()]
    }

    /// Without the replica, and nothing of the severity `debug`.
    fn relabel(&self, mut labels: Labels) -> Option<Labels> {
        labels.remove("replica");
        (labels.get("severity") != "debug").then_some(labels)
    }
}

impl Alertmanager for Manager {
    fn url(&self) -> &str {
        self.url
    }

    fn relabel(&self, labels: Labels) -> Option<Labels> {
        (self.url == "fails" || labels.get("severity") == "page").then_some(labels)
    }

    fn push(&self, alerts: Vec<u8>) -> BoxFuture<'_, Result<(), String>> {
        let alerts = serde_json::from_slice(&alerts).expect("JSON");
        self.told.0.lock().push((self.url.to_string(), alerts));
        Box::pin(async move { if self.url == "fails" { Err("no".into()) } else { Ok(()) } })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_alertmanager_is_told_what_is_for_it_and_all_is_counted() {
    let bench = Bench::new().await;
    let told = Told::default();
    bench.engine.rules().set_alertmanagers(told.clone());
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("rules.yml");
    let rule = |name: &str, severity: &str| {
        format!("{{alert: {name}, expr: vector(1), labels: {{severity: {severity}, replica: r1}}}}")
    };
    let rules = [rule("Page", "page"), rule("Info", "info"), rule("Debug", "debug")].join(", ");
    std::fs::write(&file, format!("groups: [{{name: g, interval: 100ms, rules: [{rules}]}}]"))
        .expect("written");
    let external_labels = Labels::from_pairs([("cluster", "east")]);
    let settings = RuleSettings { files: vec![file], external_labels, ..RuleSettings::default() };
    bench.engine.rules().apply(&settings).await.expect("good rules");
    let counted = async {
        loop {
            let counts = bench.engine.rules().counts().alerts;
            if counts.sent > 0 && counts.failed > 1 && counts.dropped > 0 {
                return counts;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let counts = tokio::time::timeout(Duration::from_secs(60), counted).await.expect("told");
    // Only the failing one wants `Info`: nobody took it.
    assert_eq!((counts.sent, counts.failed, counts.dropped, counts.alertmanagers), (1, 2, 1, 2));
    let managers = bench.get("/api/v1/alertmanagers").await.1["data"].clone();
    assert_eq!(
        managers,
        json!({
            "activeAlertmanagers": [{ "url": "pages" }, { "url": "fails" }],
            "droppedAlertmanagers": [{ "url": "dropped" }],
        })
    );
    bench.engine.rules().stop().await;
    let mut seen: Vec<(String, Value)> = Vec::new();
    for (url, alerts) in told.0.lock().iter() {
        for alert in alerts.as_array().expect("a list") {
            seen.push((url.clone(), alert["labels"].clone()));
        }
    }
    let labels =
        |name: &str, severity: &str| json!({ "alertname": name, "cluster": "east", "severity": severity });
    for (url, labels) in [
        ("pages", labels("Page", "page")),
        ("fails", labels("Page", "page")),
        ("fails", labels("Info", "info")),
    ] {
        assert!(seen.contains(&(url.to_string(), labels.clone())), "{url} {labels}: {seen:?}");
    }
    assert_eq!(seen.len(), 3, "{seen:?}");
}

struct Scraper;

impl Host for Scraper {
    fn scrape_targets(&self) -> ScrapeTargets {
        let target = |job: &str, last_scrape| ActiveTarget {
            discovered_labels: Labels::from_pairs([("__address__", "a:1")]),
            labels: Labels::from_pairs([("job", job), ("instance", "a:1")]),
            scrape_pool: job.into(),
            scrape_url: "http://a:1/metrics".into(),
            global_url: "http://a:1/metrics".into(),
            interval: Duration::from_secs(15),
            timeout: Duration::from_secs(10),
            last_scrape,
        };
        let scrape = |error: Option<&str>| {
            Some(Scrape {
                time_ms: 1_500,
                took: Duration::from_millis(250),
                error: error.map(str::to_string),
            })
        };
        ScrapeTargets {
            active: vec![target("a", scrape(None)), target("b", scrape(Some("refused"))), target("c", None)],
            dropped: vec![DroppedTarget { discovered_labels: Labels::empty(), scrape_pool: "b".into() }],
            dropped_counts: [("b".to_string(), 1)].into(),
            pools: vec!["b".into(), "a".into(), "c".into()],
        }
    }

    fn configuration(&self) -> Configuration {
        Configuration {
            yaml: Some("global: {}\n".into()),
            reload_succeeded: Some(false),
            loaded_at: None,
            failed_at: None,
            external_labels: Labels::from_pairs([("cluster", "east")]),
        }
    }

    fn reload(&self) -> BoxFuture<'static, Result<(), String>> {
        Box::pin(async { Err("line 3 is wrong".to_string()) })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_process_is_told_of_as_prometheus_does() {
    let bench = Bench::new().await;
    bench.engine.set_host(Scraper);
    let data = async |uri: &str| bench.get(uri).await.1["data"].clone();
    let targets = data("/api/v1/targets").await;
    let health: Vec<&Value> =
        targets["activeTargets"].as_array().expect("a list").iter().map(|target| &target["health"]).collect();
    assert_eq!(health, [&json!("up"), &json!("down"), &json!("unknown")]);
    assert_eq!(
        targets["activeTargets"][1],
        json!({
            "discoveredLabels": { "__address__": "a:1" }, "labels": { "instance": "a:1", "job": "b" },
            "scrapePool": "b", "scrapeUrl": "http://a:1/metrics", "globalUrl": "http://a:1/metrics",
            "lastError": "refused", "lastScrape": "1970-01-01T00:00:01.5Z", "lastScrapeDuration": 0.25,
            "health": "down", "scrapeInterval": "15s", "scrapeTimeout": "10s",
        })
    );
    assert_eq!(targets["droppedTargetCounts"], json!({ "b": 1 }));
    for (query, active, dropped) in [
        ("state=active", 3, 0),
        ("state=dropped", 0, 1),
        ("state=any&scrapePool=a", 1, 0),
        ("scrapePool=b", 1, 1),
    ] {
        let targets = data(&format!("/api/v1/targets?{query}")).await;
        let count = |name: &str| targets[name].as_array().map_or(0, Vec::len);
        assert_eq!((count("activeTargets"), count("droppedTargets")), (active, dropped), "{query}");
    }
    assert_eq!(data("/api/v1/scrape_pools").await, json!({ "scrapePools": ["a", "b", "c"] }));
    assert_eq!(data("/api/v1/status/config").await["yaml"], "global: {}\n");
    assert_eq!(data("/api/v1/status/runtimeinfo").await["reloadConfigSuccess"], false);
    assert_eq!(data("/api/v1/status/walreplay").await, json!({ "min": 0, "max": 0, "current": 0 }));
    assert_eq!(data("/api/v1/features").await["promql_functions"]["rate"], true);
    let (status, text) = bench.post("/-/reload", "text/plain", "").await;
    assert_eq!((status.as_u16(), text), (500, json!("failed to reload config: line 3 is wrong\n")));
    for path in ["delete_series", "clean_tombstones", "snapshot"] {
        let (_, body) = bench.post(&format!("/api/v1/admin/tsdb/{path}"), "text/plain", "").await;
        assert_eq!(
            (&body["errorType"], &body["error"]),
            (&json!("unavailable"), &json!("admin APIs disabled"))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_are_formatted_and_parsed() {
    let bench = Bench::new().await;
    let data = async |path: &str, query: &str| {
        let (_, body) = bench.get(&format!("/api/v1/{path}?{}", query_string([("query", query)]))).await;
        assert_eq!(body["status"], "success", "{body}");
        body["data"].clone()
    };
    assert_eq!(data("format_query", "sum(  up )by(job)").await, "sum by (job) (up)");
    let selector = |kind: &str, more: Value| {
        let mut node = json!({
            "type": kind, "name": "up", "matchers": [{ "name": "__name__", "value": "up", "type": "=" }],
            "anchored": false, "smoothed": false, "offset": 0, "timestamp": null, "startOrEnd": null,
        });
        node.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        node
    };
    let cases = [
        ("1.5", json!({ "type": "numberLiteral", "val": "1.5" })),
        ("\"a\"", json!({ "type": "stringLiteral", "val": "a" })),
        ("up offset -5m", selector("vectorSelector", json!({ "offset": -300_000 }))),
        ("up[1h] @ 5", selector("matrixSelector", json!({ "range": 3_600_000, "timestamp": 5_000 }))),
        ("up @ end()", selector("vectorSelector", json!({ "startOrEnd": "end" }))),
        (
            "-(up)",
            json!({
                "type": "unaryExpr", "op": "-",
                "expr": { "type": "parenExpr", "expr": selector("vectorSelector", json!({})) },
            }),
        ),
        (
            "topk by (a) (2, up)",
            json!({
                "type": "aggregation", "op": "topk", "expr": selector("vectorSelector", json!({})),
                "param": { "type": "numberLiteral", "val": "2" }, "grouping": ["a"], "without": false,
            }),
        ),
        (
            "up + on (a) group_left (b) up",
            json!({
                "type": "binaryExpr", "op": "+", "bool": false,
                "lhs": selector("vectorSelector", json!({})), "rhs": selector("vectorSelector", json!({})),
                "matching": {
                    "card": "many-to-one", "labels": ["a"], "on": true, "include": ["b"],
                    "fillValues": { "lhs": null, "rhs": null },
                },
            }),
        ),
        (
            "up > bool 1",
            json!({
                "type": "binaryExpr", "op": ">", "bool": true, "matching": null,
                "lhs": selector("vectorSelector", json!({})), "rhs": { "type": "numberLiteral", "val": "1" },
            }),
        ),
        (
            "round(up)",
            json!({
                "type": "call",
                "func": { "name": "round", "argTypes": ["vector", "scalar"], "variadic": 1, "returnType": "vector" },
                "args": [selector("vectorSelector", json!({}))],
            }),
        ),
        (
            "up[10m:30s] offset 1m",
            json!({
                "type": "subquery", "expr": selector("vectorSelector", json!({})), "range": 600_000, "step": 30_000,
                "offset": 60_000, "timestamp": null, "startOrEnd": null,
            }),
        ),
    ];
    for (query, want) in cases {
        assert_eq!(data("parse_query", query).await, want, "{query}");
    }
    let (status, body) =
        bench.post("/api/v1/parse_query", "application/x-www-form-urlencoded", "query=sum(").await;
    assert_eq!((status.as_u16(), &body["errorType"]), (400, &json!("bad_data")));
}

#[tokio::test(flavor = "multi_thread")]
async fn label_names_outside_of_ascii_are_found_and_federated() {
    let bench = Bench::new().await;
    bench.engine.set_host(Scraper);
    let now_s = recent_minute_s();
    let labels =
        Labels::from_pairs([("__name__", "http.requests"), ("http.status", "200"), ("cluster", "west")]);
    bench.append_counter(labels, std::iter::once(now_s), |_| 1.0).await;
    let (_, body) = bench.get("/api/v1/label/U__http_2e_status/values").await;
    assert_eq!(body["data"], json!(["200"]));
    let request = axum::http::Request::get("/federate?match[]=%7B%22http.requests%22%7D")
        .body(axum::body::Body::empty())
        .expect("a request");
    let (_, text) = bench.text(request).await;
    assert_eq!(
        text,
        format!(
            "# TYPE \"http.requests\" untyped\n\
             {{\"http.requests\",cluster=\"west\",\"http.status\"=\"200\",instance=\"\"}} 1 {}\n",
            now_s * 1_000
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn experimental_parts_of_the_language_have_a_switch() {
    let off = Bench::new().await;
    let config =
        crate::EngineConfig { promql_features: crate::PromqlFeatures::ALL, ..crate::EngineConfig::default() };
    let on = Bench::with_config(config).await;
    for query in ["limitk(1, vector(1))", "mad_over_time(up[5m])"] {
        for path in ["query", "parse_query", "format_query", "query_exemplars"] {
            let uri = format!("/api/v1/{path}?{}", query_string([("query", query)]));
            assert_eq!(off.get(&uri).await.0, 400, "{uri}");
            assert_eq!(on.get(&uri).await.0, 200, "{uri}");
        }
    }
    let features = on.get("/api/v1/features").await.1["data"].clone();
    assert_eq!(features["promql_functions"]["mad_over_time"], true);
    let features = off.get("/api/v1/features").await.1["data"].clone();
    assert_eq!(features["promql_functions"]["mad_over_time"], false);
}
