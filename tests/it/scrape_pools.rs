//! What the API tells of scraping while Pharos scrapes itself.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::backend::{Pharos, eventually, get_json};

const CONFIG: &str = r#"
global: {scrape_interval: 1s}
scrape_configs:
  - job_name: self
    basic_auth: {username: u, password: s3cret}
    file_sd_configs: [{files: [targets.json]}]
    relabel_configs:
      - {source_labels: [__address__], regex: 'nobody:.*', action: drop}
      - {target_label: zone, replacement: east}
"#;

#[tokio::test]
async fn the_api_tells_of_targets_their_metadata_and_their_relabelling() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("pharos.yml");
    std::fs::write(&config, CONFIG)?;
    let pharos = Pharos::serve(&folder.path().join("data"), &["--config", &config.display().to_string()])?;
    // Its own address is known only now.
    let targets = json!([{ "targets": [pharos.address("prometheus"), "nobody:1"] }]);
    std::fs::write(folder.path().join("targets.json"), targets.to_string())?;
    let data = async |path: &str| -> Result<Value> {
        Ok(get_json(&pharos.url("prometheus", path)).await?["data"].take())
    };

    let metadata = eventually("what the target says of its metrics", async || {
        let metadata = data("/api/v1/targets/metadata?match_target=%7Bzone%3D%22east%22%7D").await?;
        ensure!(metadata.as_array().is_some_and(|list| !list.is_empty()), "{metadata}");
        Ok(metadata)
    })
    .await?;
    let build =
        metadata.as_array().into_iter().flatten().find(|entry| entry["metric"] == "pharos_build_info");
    let build = build.context("pharos_build_info")?;
    assert_eq!((&build["type"], &build["target"]["zone"]), (&json!("gauge"), &json!("east")), "{build}");
    let all = data("/api/v1/metadata?metric=pharos_build_info").await?;
    assert_eq!(all["pharos_build_info"][0]["type"], "gauge", "{all}");

    // On a busy machine a scrape may be late now and then.
    let targets = eventually("a good scrape", async || {
        let targets = data("/api/v1/targets?scrapePool=self").await?;
        ensure!(targets["activeTargets"][0]["health"] == "up", "{targets}");
        Ok(targets)
    })
    .await?;
    assert_eq!(targets["droppedTargetCounts"], json!({ "self": 1 }));
    assert_eq!(data("/api/v1/scrape_pools").await?, json!({ "scrapePools": ["self"] }));
    for path in ["/api/v1/scrape_pools/config?scrapePool=self", "/api/v1/status/config"] {
        let yaml = data(path).await?["yaml"].as_str().context("a text")?.to_string();
        ensure!(yaml.contains("job_name: self") && yaml.contains("<secret>"), "{path}: {yaml}");
        ensure!(!yaml.contains("s3cret"), "{path}: {yaml}");
    }
    for (address, kept) in [("nobody:1", [false, false]), ("somebody:1", [true, true])] {
        let labels = form_urlencoded(&json!({ "__address__": address }).to_string());
        let steps = data(&format!("/api/v1/targets/relabel_steps?scrapePool=self&labels={labels}")).await?;
        let steps = steps["steps"].as_array().context("steps")?.clone();
        assert_eq!(steps.iter().map(|step| step["keep"] == true).collect::<Vec<_>>(), kept);
        assert_eq!(steps[1]["rule"]["target_label"], "zone", "{steps:?}");
        let zone = if kept[1] { json!("east") } else { Value::Null };
        assert_eq!(steps[1]["output"]["zone"], zone, "{steps:?}");
    }
    pharos.interrupt()?;
    Ok(())
}

fn form_urlencoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
