//! A running Pharos whose configuration file changes what is scraped.

use anyhow::{Result, ensure};
use nix::{sys::signal::Signal, unistd::Pid};

use crate::backend::{Pharos, eventually, get_json};

/// The jobs that have targets.
async fn jobs(pharos: &Pharos) -> Result<Vec<String>> {
    let targets = get_json(&pharos.url("prometheus", "/api/v1/targets?state=active")).await?;
    let active = targets["data"]["activeTargets"].as_array().cloned().unwrap_or_default();
    Ok(active.iter().filter_map(|target| Some(target["scrapePool"].as_str()?.to_string())).collect())
}

async fn until_jobs(pharos: &Pharos, expected: &[&str]) -> Result<()> {
    eventually("the jobs of the configuration", async || {
        let jobs = jobs(pharos).await?;
        ensure!(jobs == expected, "{jobs:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn changed_scrape_configs_are_applied_and_wrong_ones_refused() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("pharos.yml");
    let job = |name: &str| format!("{{job_name: {name}, static_configs: [{{targets: ['127.0.0.1:9']}}]}}");
    let write = |jobs: &str| std::fs::write(&config, format!("scrape_configs: [{jobs}]\n"));
    write(&job("first"))?;
    let file = config.display().to_string();
    let pharos = Pharos::serve(&folder.path().join("data"), &["--config", &file])?;
    until_jobs(&pharos, &["first"]).await?;

    let reload = || reqwest::Client::new().post(pharos.url("prometheus", "/-/reload")).send();
    write(&format!("{}, {}", job("first"), job("second")))?;
    assert_eq!(reload().await?.status(), 200);
    until_jobs(&pharos, &["first", "second"]).await?;

    write(&format!("{}, {{job_name: third, scrape_interval: soon}}", job("first")))?;
    let refused = reload().await?;
    assert_eq!(refused.status(), 500);
    let said = refused.text().await?;
    ensure!(said.contains("scrape_configs[1].scrape_interval") && said.contains("soon"), "{said}");
    let runtime = get_json(&pharos.url("prometheus", "/api/v1/status/runtimeinfo")).await?;
    assert_eq!(runtime["data"]["reloadConfigSuccess"], false);
    assert_eq!(jobs(&pharos).await?, ["first", "second"]);

    write(&job("third"))?;
    nix::sys::signal::kill(Pid::from_raw(i32::try_from(pharos.pid())?), Signal::SIGHUP)?;
    until_jobs(&pharos, &["third"]).await?;
    pharos.interrupt()?;
    Ok(())
}
