//! Programs that others wrote, unmodified, against a running Pharos: OpenTelemetry's Python SDK from PyPI, and
//! Debian's Prometheus.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use parking_lot::Mutex;
use serde_json::Value;

use crate::{
    backend::{Pharos, eventually, get_json, sql_count},
    prometheus::Prometheus,
};

/// A Python with the packages, made once for a target folder.
pub(crate) fn python_with(name: &str, packages: &[&str]) -> Result<PathBuf> {
    /// Several tests want the same one.
    static MAKING: Mutex<()> = Mutex::new(());
    let _making = MAKING.lock();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let python = folder.join("bin/python");
    let complete = folder.join("complete");
    if !complete.exists() {
        let made = Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder).status()?;
        ensure!(made.success(), "python3 -m venv failed (Debian: apt-get install python3-venv)");
        let installed = Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
            .args(packages)
            .status()?;
        ensure!(installed.success(), "pip could not install {packages:?}");
        std::fs::write(complete, "")?;
    }
    Ok(python)
}

#[tokio::test]
async fn opentelemetry_python_sdk_sends_traces_logs_and_metrics_over_both_transports() -> Result<()> {
    let python = python_with(
        "otel-sdk",
        &[
            "opentelemetry-sdk",
            "opentelemetry-exporter-otlp-proto-grpc",
            "opentelemetry-exporter-otlp-proto-http",
        ],
    )?;
    let folder = tempfile::tempdir()?;
    let pharos = Pharos::serve(folder.path(), &[])?;
    for (protocol, listener) in [("grpc", "otlp-grpc"), ("http", "otlp-http")] {
        let output = Command::new(&python)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/it/otel_sdk.py"))
            .args([protocol, &pharos.url(listener, "")])
            .stderr(Stdio::inherit())
            .output()?;
        ensure!(output.status.success(), "the SDK's script failed over {protocol}");
        let trace_id = String::from_utf8(output.stdout)?.trim().to_string();

        let trace = get_json(&pharos.url("jaeger", &format!("/api/traces/{trace_id}"))).await?;
        let spans = trace["data"][0]["spans"].as_array().context("no spans")?;
        let mut names: Vec<_> = spans.iter().filter_map(|span| span["operationName"].as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["charge", "checkout"]);
        assert_eq!(trace["data"][0]["processes"]["p1"]["serviceName"], format!("sdk-{protocol}"));

        let logged = format!(
            "select count(*) from logs where service = 'sdk-{protocol}' and body like '%card declined%'"
        );
        assert_eq!(sql_count(&pharos, &logged).await?, 1);

        let query = format!("/api/v1/query?query=sdk_orders_total{{protocol=\"{protocol}\"}}");
        let answer = get_json(&pharos.url("prometheus", &query)).await?;
        assert_eq!(answer["data"]["result"][0]["value"][1], "7", "{answer}");
    }
    Ok(())
}

/// A Prometheus that scrapes Pharos in both ways and writes what it has to it.
fn prometheus_beside(pharos: &Pharos) -> Result<Prometheus> {
    let target = pharos.address("prometheus");
    let config = format!(
        r#"
global: {{scrape_interval: 1s}}
scrape_configs:
  - job_name: pharos
    static_configs: [{{targets: ["{target}"]}}]
  - job_name: federate
    metrics_path: /federate
    honor_labels: true
    params: {{"match[]": ['{{__name__=~"up|prometheus_.*"}}']}}
    static_configs: [{{targets: ["{target}"]}}]
remote_write:
  - url: http://{target}/api/v1/write
    queue_config: {{batch_send_deadline: 200ms}}
"#
    );
    Prometheus::start(&config, &[])
}

#[tokio::test]
async fn debian_prometheus_scrapes_us_federates_and_writes_to_us() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let pharos = Pharos::serve(folder.path(), &[])?;
    let prometheus = prometheus_beside(&pharos)?;

    eventually("both targets up in Prometheus", async || {
        let targets = get_json(&format!("http://{}/api/v1/targets", prometheus.address)).await?;
        for target in targets["data"]["activeTargets"].as_array().context("no targets")? {
            ensure!(target["health"] == "up", "{target}");
        }
        Ok(())
    })
    .await?;

    eventually("what Prometheus wrote", async || {
        let answer = get_json(&pharos.url("prometheus", "/api/v1/query?query=up")).await?;
        let result = answer["data"]["result"].as_array().context("no result")?;
        let jobs: Vec<&Value> = result.iter().map(|series| &series["metric"]["job"]).collect();
        ensure!(
            jobs.contains(&&Value::from("pharos")) && jobs.contains(&&Value::from("federate")),
            "{answer}"
        );
        ensure!(result.iter().all(|series| series["value"][1] == "1"), "{answer}");
        Ok(())
    })
    .await?;

    // Federated back into Prometheus: it now has by /federate what it wrote itself before.
    eventually("federated samples in Prometheus", async || {
        let query = "count(scrape_samples_scraped{job=\"federate\"} > 0)".replace(' ', "%20");
        let answer = get_json(&format!("http://{}/api/v1/query?query={query}", prometheus.address)).await?;
        ensure!(answer["data"]["result"][0]["value"][1] == "1", "{answer}");
        Ok(())
    })
    .await?;

    check_metrics(&reqwest::get(pharos.url("prometheus", "/metrics")).await?.text().await?)
}

/// `promtool check metrics` finds nothing to say.
fn check_metrics(text: &str) -> Result<()> {
    use std::io::Write;
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    promtool.stdin.take().context("a pipe")?.write_all(text.as_bytes())?;
    let output = promtool.wait_with_output()?;
    let said = [output.stdout, output.stderr].concat();
    ensure!(output.status.success() && said.is_empty(), "promtool says: {}", String::from_utf8_lossy(&said));
    Ok(())
}
