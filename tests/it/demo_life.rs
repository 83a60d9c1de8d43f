//! The demo as something that a person plays with: what is edited takes effect, and nothing outlives it.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use crate::backend::{PATIENCE, Pharos, eventually, get_json, processes_with};

/// A network of its own, so that a demo that somebody is looking at goes on.
const NETWORK: &str = "127.0.78";
const REVIEWS_V1: u8 = 31;
const REVIEWS_V3: u8 = 33;

/// Requests that the workload at this last octet got so far.
async fn received(host: u8) -> Result<u64> {
    let report = get_json(&format!("http://{NETWORK}.{host}:9081/truth")).await?;
    let received = report["received"].as_array().context("no counts")?;
    Ok(received.iter().filter_map(|counted| counted["count"].as_u64()).sum())
}

fn copy_istio_files(to: &Path) -> Result<()> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/demo");
    for entry in std::fs::read_dir(repository)? {
        let entry = entry?;
        std::fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

#[tokio::test]
async fn an_edit_changes_the_traffic_and_kill_9_leaves_nobody_behind() -> Result<()> {
    let (data, mesh) = (tempfile::tempdir()?, tempfile::tempdir()?);
    copy_istio_files(mesh.path())?;
    let mesh_dir = mesh.path().to_str().context("a path")?;
    let arguments = ["--network", NETWORK, "--rps", "60", "--mesh-dir", mesh_dir];
    let pharos = Pharos::demo(data.path(), &arguments)?;
    eventually("traffic to reviews v1", async || {
        ensure!(received(REVIEWS_V1).await? > 20, "too few requests");
        Ok(())
    })
    .await?;

    let file = mesh.path().join("reviews.yaml");
    let all_to_v3 = std::fs::read_to_string(&file)?
        .replace("weight: 80", "weight: 0")
        .replace("subset: v3 }\n          weight: 10", "subset: v3 }\n          weight: 90");
    std::fs::write(&file, all_to_v3)?;
    eventually("traffic that passes reviews v1 by", async || {
        let (v1, v3) = (received(REVIEWS_V1).await?, received(REVIEWS_V3).await?);
        eventually("more traffic to reviews v3", async || {
            ensure!(received(REVIEWS_V3).await? > v3 + 50, "too few requests");
            Ok(())
        })
        .await?;
        ensure!(received(REVIEWS_V1).await? == v1, "reviews v1 gets requests though its weight is 0");
        Ok(())
    })
    .await?;

    let run_dir = data.path().to_str().context("a path")?;
    let running = processes_with(run_dir)?;
    ensure!(running.len() == 15, "supervisor, 7 proxies, 6 workloads and the load: {running:?}");
    pharos.kill()?;
    let until = Instant::now() + PATIENCE;
    while !processes_with(run_dir)?.is_empty() {
        ensure!(Instant::now() < until, "{:?} outlive the supervisor", processes_with(run_dir)?);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}
