//! What Grafana's Prometheus data source asks, as its plugin asks it: "Save & test", the query builder and Explore.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::backend::{Pharos, eventually, get_json};

/// A histogram and a counter with an exemplar, sent to the path where Prometheus takes OTLP.
async fn send_metrics(pharos: &Pharos, now_s: u64) -> Result<()> {
    let time = (now_s * 1_000_000_000).to_string();
    let attributes = json!([{ "key": "app", "value": { "stringValue": "shop" } }]);
    let body = json!({ "resourceMetrics": [{
        "resource": { "attributes": [{ "key": "service.name", "value": { "stringValue": "shop" } }] },
        "scopeMetrics": [{ "metrics": [{
            "name": "orders",
            "description": "Orders that were placed.",
            "sum": {
                "aggregationTemporality": 2,
                "isMonotonic": true,
                "dataPoints": [{
                    "attributes": attributes, "timeUnixNano": time, "asInt": "7",
                    "exemplars": [{ "timeUnixNano": time, "asInt": "1", "traceId": "0102030405060708090a0b0c0d0e0f10" }],
                }],
            },
        }] }],
    }] });
    let url = pharos.url("prometheus", "/api/v1/otlp/v1/metrics");
    let answer = reqwest::Client::new().post(url).json(&body).send().await?;
    ensure!(answer.status().is_success(), "{}", answer.text().await?);
    Ok(())
}

#[tokio::test]
async fn every_call_of_the_data_source_is_answered() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let pharos = Pharos::serve(folder.path(), &[])?;
    let now_s = crate::backend::unix_s()?;
    send_metrics(&pharos, now_s).await?;
    let client = reqwest::Client::new();
    let post = async |path: &str, form: &[(&str, &str)]| -> Result<Value> {
        let answer = client.post(pharos.url("prometheus", path)).form(form).send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        ensure!(status.is_success(), "POST {path}: {status}: {text}");
        Ok(serde_json::from_str::<Value>(&text)?["data"].take())
    };
    let get = async |path: &str| -> Result<Value> {
        Ok(get_json(&pharos.url("prometheus", path)).await?["data"].take())
    };
    let (start, end) = ((now_s - 3_600).to_string(), (now_s + 60).to_string());
    let window = [("start", start.as_str()), ("end", end.as_str())];

    // Save & test: an arithmetic query, and which product and version answers.
    let health = post("/api/v1/query", &[("query", "1+1"), ("time", &end)]).await?;
    assert_eq!(health["result"][1], "2");
    let build = get("/api/v1/status/buildinfo").await?;
    let major: u32 =
        build["version"].as_str().context("a version")?.split('.').next().context("a major")?.parse()?;
    ensure!(major >= 3 && build.get("application").is_none() && build.get("features").is_none(), "{build}");
    assert_eq!(get("/api/v1/rules").await?, json!({ "groups": [] }));

    // The query builder.
    eventually("the metric's name", async || {
        let names =
            get(&format!("/api/v1/label/__name__/values?start={start}&end={end}&limit=40000")).await?;
        ensure!(names.as_array().is_some_and(|names| names.contains(&"orders_total".into())), "{names}");
        Ok(())
    })
    .await?;
    let selector = ("match[]", "{__name__=\"orders_total\"}");
    let labels = post("/api/v1/labels", &[window[0], window[1], selector, ("limit", "40000")]).await?;
    ensure!(labels.as_array().is_some_and(|labels| labels.contains(&"app".into())), "{labels}");
    let values = format!("/api/v1/label/app/values?start={start}&end={end}&match%5B%5D=orders_total");
    assert_eq!(get(&values).await?, json!(["shop"]));
    let series = post("/api/v1/series", &[window[0], window[1], selector]).await?;
    assert_eq!(series[0]["app"], "shop", "{series}");
    let metadata = get("/api/v1/metadata?limit=40000").await?;
    assert_eq!(
        metadata["orders"][0]["help"].as_str().or(metadata["orders_total"][0]["help"].as_str()),
        Some("Orders that were placed."),
        "{metadata}"
    );

    // Explore: a range, an instant, exemplars, and a query that is formatted.
    let range = [("query", "orders_total"), window[0], window[1], ("step", "15")];
    let found = post("/api/v1/query_range", &range).await?;
    assert_eq!(found["result"][0]["values"][0][1], "7", "{found}");
    let found = post("/api/v1/query", &[("query", "orders_total"), ("time", &end)]).await?;
    assert_eq!(found["result"][0]["metric"]["app"], "shop", "{found}");
    let exemplars =
        post("/api/v1/query_exemplars", &[("query", "orders_total"), window[0], window[1]]).await?;
    assert_eq!(
        exemplars[0]["exemplars"][0]["labels"]["trace_id"], "0102030405060708090a0b0c0d0e0f10",
        "{exemplars}"
    );
    assert_eq!(post("/api/v1/format_query", &[("query", "sum(up)by(app)")]).await?, "sum by (app) (up)");

    // A browser asks first when Grafana lets it ask by itself.
    let preflight = client
        .request(reqwest::Method::OPTIONS, pharos.url("prometheus", "/api/v1/query"))
        .header("origin", "http://grafana.example")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "content-type")
        .send()
        .await?;
    let allowed = |name: &str| {
        preflight.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("").to_ascii_lowercase()
    };
    ensure!(preflight.status().is_success(), "{}", preflight.status());
    ensure!(matches!(allowed("access-control-allow-origin").as_str(), "*" | "http://grafana.example"));
    ensure!(allowed("access-control-allow-headers").contains("content-type"));
    Ok(())
}
