//! Recording and alerting rules of a running Pharos, Debian's Alertmanager that hears of the alerts, and promtool's
//! opinion of the rules that the engine's own tests are made of.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use nix::{sys::signal::Signal, unistd::Pid};
use serde_json::Value;

use crate::backend::{Pharos, binary, eventually, free_address, get_json};

/// Debian's `prometheus-alertmanager`.
struct Alertmanager {
    process: Child,
    address: String,
    _folder: tempfile::TempDir,
}

impl Alertmanager {
    fn start() -> Result<Alertmanager> {
        let folder = tempfile::tempdir()?;
        let address = free_address()?;
        let config = folder.path().join("alertmanager.yml");
        std::fs::write(&config, "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n")?;
        let process = Command::new("prometheus-alertmanager")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .args(["--cluster.listen-address=", "--log.level=warn"])
            .spawn()
            .context(
                "prometheus-alertmanager does not start (Debian: apt-get install prometheus-alertmanager)",
            )?;
        Ok(Alertmanager { process, address, _folder: folder })
    }

    async fn alerts(&self) -> Result<Vec<Value>> {
        let alerts = get_json(&format!("http://{}/api/v2/alerts", self.address)).await?;
        Ok(alerts.as_array().context("a list")?.clone())
    }
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

const RULES: &str = r#"
groups:
  - name: own
    interval: 1s
    rules:
      - {record: "pharos:up", expr: "vector(1)", labels: {team: mesh}}
      - alert: AlwaysFiring
        expr: pharos:up > 0
        labels: {severity: page, replica: "1"}
        annotations: {summary: "{{ $labels.team }} of {{ $externalLabels.cluster }} has {{ $value }}"}
"#;

async fn reload_by_signal(pharos: &Pharos) -> Result<()> {
    nix::sys::signal::kill(Pid::from_raw(i32::try_from(pharos.pid())?), Signal::SIGHUP)?;
    Ok(())
}

#[tokio::test]
async fn rules_are_recorded_alerts_reach_alertmanager_and_a_reload_changes_both() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let alertmanager = Alertmanager::start()?;
    let rules = folder.path().join("own.rules.yml");
    std::fs::write(&rules, RULES)?;
    let config = folder.path().join("pharos.yml");
    std::fs::write(
        &config,
        "external_url: http://pharos.example\n\
         global: {evaluation_interval: 1s, external_labels: {cluster: east}}\n\
         rule_files: ['*.rules.yml']\n\
         alerting:\n  \
           alert_relabel_configs: [{regex: replica, action: labeldrop}]\n  \
           alertmanagers: [{file_sd_configs: [{files: [managers.json]}]}]\n",
    )?;
    std::fs::write(
        folder.path().join("managers.json"),
        serde_json::json!([{ "targets": [alertmanager.address] }]).to_string(),
    )?;
    let config = config.display().to_string();
    let data = folder.path().join("data");
    let pharos = Pharos::serve(&data, &["--config", &config])?;

    let alert = eventually("the alert at Alertmanager", async || {
        alertmanager.alerts().await?.into_iter().next().context("no alert yet")
    })
    .await?;
    assert_eq!(alert["annotations"]["summary"], "mesh of east has 1", "{alert}");
    assert_eq!(alert["labels"]["cluster"], "east", "{alert}");
    assert_eq!(alert["labels"]["alertname"], "AlwaysFiring", "{alert}");
    ensure!(alert["labels"].get("replica").is_none(), "relabelling drops it: {alert}");
    let managers = get_json(&pharos.url("prometheus", "/api/v1/alertmanagers")).await?;
    let url = format!("http://{}/api/v2/alerts", alertmanager.address);
    assert_eq!(managers["data"]["activeAlertmanagers"], serde_json::json!([{ "url": url }]));
    assert_eq!(
        alert["generatorURL"], "http://pharos.example/graph?g0.expr=pharos%3Aup+%3E+0&g0.tab=1",
        "{alert}"
    );
    let url = pharos.url("prometheus", "/api/v1/query?query=ALERTS%7Balertstate%3D%22firing%22%7D");
    eventually("the series of the alert", async || {
        let answer = get_json(&url).await?;
        ensure!(answer["data"]["result"][0]["metric"]["severity"] == "page", "{answer}");
        Ok(())
    })
    .await?;

    // A wrong file changes nothing, and the answer says what is wrong.
    std::fs::write(&rules, RULES.replace("pharos:up > 0", "sum("))?;
    let reload = reqwest::Client::new().post(pharos.url("prometheus", "/-/reload")).send().await?;
    assert_eq!(reload.status(), 500);
    let said = reload.text().await?;
    ensure!(said.contains("own.rules.yml:8") && said.contains("AlwaysFiring"), "{said}");
    let runtime = get_json(&pharos.url("prometheus", "/api/v1/status/runtimeinfo")).await?;
    assert_eq!(runtime["data"]["reloadConfigSuccess"], false);
    let listed = get_json(&pharos.url("prometheus", "/api/v1/rules?type=alert")).await?;
    assert_eq!(listed["data"]["groups"][0]["rules"][0]["query"], "pharos:up > 0");

    // A good one is in force after SIGHUP: the alert is resolved, which Alertmanager hears.
    std::fs::write(&rules, RULES.replace("pharos:up > 0", "pharos:up > 5"))?;
    reload_by_signal(&pharos).await?;
    eventually("the alert's end", async || {
        let alerts = alertmanager.alerts().await?;
        ensure!(alerts.is_empty(), "{alerts:?}");
        let answer = get_json(&url).await?;
        ensure!(answer["data"]["result"].as_array().is_some_and(Vec::is_empty), "{answer}");
        Ok(())
    })
    .await?;
    pharos.interrupt()?;
    Ok(())
}

#[test]
fn promtool_agrees_with_the_test_files_of_the_rule_engine() -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../query/src/rules/testdata");
    for test in ["recording_test.yaml", "alerting_test.yaml"] {
        let output = Command::new("promtool")
            .current_dir(&folder)
            .args(["test", "rules", test])
            .stdin(Stdio::null())
            .output()
            .context("promtool does not start (Debian: apt-get install prometheus)")?;
        let said = [output.stdout, output.stderr].concat();
        ensure!(output.status.success(), "{test}: {}", String::from_utf8_lossy(&said));
    }
    Ok(())
}

#[test]
fn the_command_line_checks_rule_files() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (good, bad) = (folder.path().join("good.yml"), folder.path().join("bad.yml"));
    std::fs::write(&good, RULES)?;
    std::fs::write(&bad, "groups:\n- name: g\n  rules:\n  - {record: a, expr: 'sum('}\n  - {expr: up}\n")?;
    let check = |files: &[&Path]| -> Result<(bool, String)> {
        let output = Command::new(binary("pharos")).args(["check", "rules"]).args(files).output()?;
        Ok((output.status.success(), String::from_utf8(output.stdout)?))
    };
    let (is_good, said) = check(&[&good])?;
    ensure!(is_good && said.contains("2 rules found"), "{said}");
    let (is_good, said) = check(&[&good, &bad])?;
    ensure!(!is_good && said.contains("bad.yml:4: group \"g\", rule 1, \"a\""), "{said}");
    ensure!(said.contains("rule 2: one of 'record' or 'alert' must be set"), "{said}");
    Ok(())
}
