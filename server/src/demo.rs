//! `pharos demo`: the backend, and beside it the mesh whose telemetry it takes.

use std::{path::Path, sync::Arc};

use anyhow::Context;
use pharos_demo::{BackendAddresses, Demo, DemoConfig, Progress};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::{backend::Sockets, cli, say, settings::Config};

pub(crate) async fn run(arguments: cli::Demo, stop: CancellationToken) -> anyhow::Result<()> {
    let mut config = crate::config_of(&arguments.serve)?;
    let pharos_binary = std::env::current_exe().context("cannot tell where this binary is")?;
    let sockets = Sockets::bind(&config.listen).await?;
    let demo = Demo::prepare(DemoConfig {
        proxy_binary: arguments.proxy.unwrap_or_else(|| pharos_binary.with_file_name("pharos-proxy")),
        pharos_binary,
        run_dir: config.data_dir.join("demo"),
        istio_config_dir: arguments.mesh_dir,
        network: arguments.network,
        gateway: None,
        requests_per_second: arguments.rps,
        backend: BackendAddresses { grpc: sockets.otlp_grpc.address, zipkin: sockets.zipkin.address },
    })?;
    config.scrape_yaml = Some(with_mesh(config.scrape_yaml.as_deref(), &demo.scrape_targets())?);
    config.mesh_config_dir = Some(demo.istio_config_dir().to_path_buf());
    let (serve, started_with) = (arguments.serve.clone(), config.clone());
    // The demo's own parts stay as they are.
    let reread = Arc::new(move || {
        let config = crate::config_of(&serve)?;
        Ok(Config { rules: config.rules, prometheus_yaml: config.prometheus_yaml, ..started_with.clone() })
    });
    let backend = sockets.start(config, reread).await?;

    let (ready, is_ready) = oneshot::channel();
    let mut ready = Some(ready);
    let report = move |progress: Progress| {
        say!("{progress}");
        if let Progress::Ready { .. } = progress
            && let Some(ready) = ready.take()
        {
            let _ = ready.send(());
        }
    };
    let mesh = tokio::spawn(demo.run(report, stop));
    // The channel closes without a word when the mesh does not come up; why is what `mesh` returns.
    if is_ready.await.is_ok() {
        backend.say_ready();
    }
    let outcome = mesh.await.context("the demo's supervisor failed")?;
    // Last, so that it takes the mesh's last spans and records.
    backend.stop().await?;
    outcome
}

/// The user's scrape configuration with the demo's proxies added.
fn with_mesh(scrape_yaml: Option<&str>, targets: &Path) -> anyhow::Result<String> {
    let mut config: serde_json::Value = match scrape_yaml {
        Some(json) => serde_json::from_str(json)?,
        None => serde_json::json!({"global": {}, "scrape_configs": []}),
    };
    let mesh = serde_json::json!({
        "job_name": "demo-mesh",
        "scrape_interval": format!("{}s", pharos_demo::SCRAPE_INTERVAL_S),
        "scrape_timeout": format!("{}s", pharos_demo::SCRAPE_INTERVAL_S - 1),
        "file_sd_configs": [{"files": [targets]}],
    });
    config["scrape_configs"].as_array_mut().context("scrape_configs is no list")?.push(mesh);
    Ok(config.to_string())
}
