//! `pharos-proxy --config FILE`: one sidecar or gateway.

use anyhow::Context;
use clap::Parser;
use pharos_proxy::{Config, Proxy};
use std::path::PathBuf;
use tokio::signal::unix::{SignalKind, signal};

/// The data plane of Pharos: a sidecar or gateway that routes HTTP by Istio's configuration and tells
/// everything it saw as Istio metrics, Envoy access logs and spans.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Settings of this proxy (YAML)
    #[arg(long, env = "PHAROS_PROXY_CONFIG", value_name = "FILE")]
    config: PathBuf,
    /// Check the settings and the mesh configuration they point to, then end
    #[arg(long)]
    check: bool,
    /// What to log: a level, or directives such as `pharos_proxy=debug`
    #[arg(long, env = "PHAROS_PROXY_LOG", default_value = "info", value_name = "FILTER")]
    log: String,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::try_new(&arguments.log).context("--log")?)
        .with_writer(std::io::stderr)
        .init();
    let config = Config::load(&arguments.config)?;
    if arguments.check {
        pharos_proxy::check(&config)?;
        return Ok(());
    }
    // One thread: a sidecar has one app to serve, and a second arena would cost more than it brings.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let proxy = Proxy::start(config).await?;
        tracing::info!(addresses = ?proxy.addresses(), "serving");
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("draining");
        proxy.stop().await;
        Ok(())
    })
}
