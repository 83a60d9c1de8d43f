//! The `pharos` binary: command line, settings, wiring, the embedded web UI, metrics of Pharos itself, shutdown.
//!
//! Its face is [`main`]. This is the only place where the collector's receivers and the query's APIs meet: they are
//! given one store and bound to sockets here. It holds no logic of a domain: what can be tested without wiring
//! belongs to another crate.

mod backend;
mod cli;
mod demo;
mod import;
mod listener;
mod mesh_config;
mod process;
mod prometheus_config;
mod self_metrics;
mod settings;
mod storage_tools;
mod web_ui;

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::Context;
use clap::Parser;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::{
    backend::Sockets,
    cli::{Cli, Command, Serve},
    settings::{Config, Settings},
};

/// Runs the command line that the process was started with. Exit codes: 0 done, 1 failed, 2 wrong usage.
pub fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Serve(serve) => with_runtime(async move |stop| run_backend(&serve, stop).await),
        Command::Import(cli::Import::Tsdb { folder, serve }) => {
            with_runtime(async move |stop| import::tsdb(&folder, config_of(&serve)?, stop).await)
        }
        Command::Storage(command) => with_runtime(async move |_| storage_tools::run(command).await),
        Command::Check(cli::Check::Rules { files }) => check_rules(&files),
        Command::Demo(demo) => with_runtime(async move |stop| demo::run(demo, stop).await),
        // Asks for a single thread and must be first to start one.
        Command::DemoProcess { arguments } => pharos_demo::process_main(arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "pharos: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Prints a line for the person, or the program, that started Pharos. A reader that went away is no reason to stop.
macro_rules! say {
    ($($argument:tt)*) => {{
        use std::io::Write as _;
        let mut stdout = std::io::stdout().lock();
        let _ = writeln!(stdout, $($argument)*).and_then(|()| stdout.flush());
    }};
}
pub(crate) use say;

fn with_runtime(run: impl AsyncFnOnce(CancellationToken) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let filter = EnvFilter::builder().with_env_var("PHAROS_LOG").try_from_env();
    tracing_subscriber::fmt()
        .with_env_filter(filter.unwrap_or_else(|_| EnvFilter::new("warn,pharos=info")))
        .with_writer(std::io::stderr)
        .init();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let stop = CancellationToken::new();
        tokio::spawn(cancel_on_signal(stop.clone())?);
        run(stop).await
    })
}

/// SIGINT and SIGTERM ask for an orderly end.
fn cancel_on_signal(stop: CancellationToken) -> anyhow::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        stop.cancel();
    })
}

async fn run_backend(serve: &Serve, stop: CancellationToken) -> anyhow::Result<()> {
    let config = config_of(serve)?;
    let serve = serve.clone();
    let reread = Arc::new(move || config_of(&serve));
    let backend = Sockets::bind(&config.listen).await?.start(config, reread).await?;
    backend.say_ready();
    stop.cancelled().await;
    backend.stop().await
}

/// Says of each file whether its rules are good.
fn check_rules(files: &[PathBuf]) -> anyhow::Result<()> {
    let mut faults = 0;
    for file in files {
        match pharos_query::check_rule_files(std::slice::from_ref(file)) {
            Ok(count) => say!("{}: {count} rules found", file.display()),
            Err(errors) => {
                faults += errors.len();
                errors.iter().for_each(|error| say!("{error}"));
            }
        }
    }
    anyhow::ensure!(faults == 0, "{faults} faults");
    Ok(())
}

fn config_of(serve: &Serve) -> anyhow::Result<Config> {
    let file = serve.config.as_deref().map(Settings::read).transpose()?.unwrap_or_default();
    let base_dir = serve.config.as_deref().and_then(Path::parent).map(Path::to_path_buf).unwrap_or_default();
    serve.settings.clone().or(file).resolve(base_dir).context("in the settings")
}
