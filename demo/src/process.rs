//! The processes that the demo is made of, seen from inside: what the `pharos` binary does when the supervisor
//! starts it again under [`PROCESS_SUBCOMMAND`].

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getppid};
use serde::de::DeserializeOwned;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::load::BoundLoad;
use crate::workload::BoundWorkload;

/// The hidden subcommand of `pharos` that stands before the arguments of [`process_main`].
pub const PROCESS_SUBCOMMAND: &str = "demo-process";

/// Runs one process of the demo until SIGTERM, or until the supervisor is gone.
///
/// `arguments` are what the supervisor wrote: its process id, then `workload FILE`, `load FILE`, or
/// `proxy BINARY FILE`, which becomes that program. Call it before any other thread or runtime is started.
///
/// # Errors
/// When the settings cannot be read or an address is taken, naming it.
pub fn process_main(arguments: impl IntoIterator<Item = OsString>) -> anyhow::Result<()> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let [supervisor, role, settings @ ..] = arguments.as_slice() else {
        bail!("{PROCESS_SUBCOMMAND} is started by `pharos demo`, not by hand");
    };
    die_with(supervisor.to_str().and_then(|pid| pid.parse().ok()).context("no supervisor's process id")?)?;
    match (role.to_str(), settings) {
        (Some("workload"), [file]) => {
            let settings = read(Path::new(file))?;
            serve(async |stop| {
                BoundWorkload::bind(settings).await?.run(stop).await;
                Ok(())
            })
        }
        (Some("load"), [file]) => {
            let settings = read(Path::new(file))?;
            serve(async |stop| {
                BoundLoad::bind(settings).await?.run(stop).await;
                Ok(())
            })
        }
        (Some("proxy"), [binary, file]) => {
            // The wish to die with the parent outlives exec.
            let failure = Command::new(binary).arg("--config").arg(file).exec();
            Err(failure).with_context(|| format!("cannot run {}", Path::new(binary).display()))
        }
        _ => bail!("no process of the demo is called {role:?}"),
    }
}

/// Asks the kernel to kill this process when the supervisor's thread is gone, however it went.
fn die_with(supervisor: i32) -> anyhow::Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    // It may have gone before the kernel was asked.
    if getppid() != Pid::from_raw(supervisor) {
        bail!("the supervisor is gone");
    }
    Ok(())
}

fn read<T: DeserializeOwned>(file: &Path) -> anyhow::Result<T> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_saphyr::from_str(&text).with_context(|| format!("{}", file.display()))
}

fn serve(run: impl AsyncFnOnce(CancellationToken) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let stop = CancellationToken::new();
        let mut terminate = signal(SignalKind::terminate())?;
        let stopping = stop.clone();
        tokio::spawn(async move {
            terminate.recv().await;
            stopping.cancel();
        });
        run(stop).await
    })
}
