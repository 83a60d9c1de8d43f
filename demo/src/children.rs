//! Child processes: started, watched, and stopped in order.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

/// How much of the end of its log a dead process is quoted with.
const QUOTED_BYTES: u64 = 1_000;
/// A busy kernel takes a while to end a process.
const KILLED_WITHIN: Duration = Duration::from_secs(10);

/// A child that has ended.
#[derive(Debug)]
pub(crate) struct Exit {
    pub(crate) name: String,
    pub(crate) status: String,
    /// The last lines that it wrote.
    pub(crate) last_words: String,
}

/// A process to start.
pub(crate) struct Start<'a> {
    /// Unique among the children.
    pub(crate) name: &'a str,
    pub(crate) command: Command,
    /// Where its output goes; replaced when it is there.
    pub(crate) log: PathBuf,
}

struct Child {
    name: String,
    pid: Pid,
    log: PathBuf,
}

/// The children that run. Lives on one thread with a current-thread runtime: a child is reaped only while that
/// thread waits here, so a signal never goes to a process id that has passed to somebody else.
#[derive(Default)]
pub(crate) struct Children {
    running: Vec<Child>,
    waiting: JoinSet<(Pid, std::io::Result<ExitStatus>)>,
}

impl Children {
    /// Starts a process in a group of its own, so that a Ctrl-C on the terminal reaches the supervisor alone.
    pub(crate) fn start(&mut self, mut start: Start<'_>) -> anyhow::Result<()> {
        let log = std::fs::File::create(&start.log)
            .with_context(|| format!("cannot write {}", start.log.display()))?;
        let command = &mut start.command;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        let mut process = command.spawn().with_context(|| format!("cannot start {}", start.name))?;
        let pid = process.id().and_then(|pid| i32::try_from(pid).ok()).context("a process without an id")?;
        let pid = Pid::from_raw(pid);
        self.running.push(Child { name: start.name.to_owned(), pid, log: start.log });
        self.waiting.spawn(async move { (pid, process.wait().await) });
        Ok(())
    }

    /// Waits until a child ends. Never returns while there is none.
    pub(crate) async fn next_exit(&mut self) -> Exit {
        loop {
            match self.waiting.join_next().await {
                Some(Ok((pid, status))) => {
                    if let Some(exit) = self.reaped(pid, status) {
                        return exit;
                    }
                }
                Some(Err(_)) => {}
                None => std::future::pending().await,
            }
        }
    }

    fn reaped(&mut self, pid: Pid, status: std::io::Result<ExitStatus>) -> Option<Exit> {
        let place = self.running.iter().position(|child| child.pid == pid)?;
        let child = self.running.swap_remove(place);
        let status = status.map_or_else(|fault| fault.to_string(), |status| status.to_string());
        Some(Exit { name: child.name, status, last_words: last_words(&child.log) })
    }

    /// Stops the children with these names, or all of them: SIGTERM, and after `patience` SIGKILL.
    pub(crate) async fn stop(&mut self, names: Option<&[&str]>, patience: Duration) {
        let meant = |child: &Child| names.is_none_or(|names| names.contains(&child.name.as_str()));
        for (signal, wait) in [(Signal::SIGTERM, patience), (Signal::SIGKILL, KILLED_WITHIN)] {
            while let Some(Ok((pid, status))) = self.waiting.try_join_next() {
                self.reaped(pid, status);
            }
            for child in self.running.iter().filter(|child| meant(child)) {
                // It may have ended by itself just now: then there is nothing to stop.
                let _ = kill(child.pid, signal);
            }
            let deadline = Instant::now() + wait;
            while self.running.iter().any(meant) {
                match timeout_at(deadline, self.waiting.join_next()).await {
                    Ok(Some(Ok((pid, status)))) => drop(self.reaped(pid, status)),
                    Ok(Some(Err(_))) => {}
                    Ok(None) | Err(_) => break,
                }
            }
            if !self.running.iter().any(meant) {
                return;
            }
        }
    }
}

fn last_words(log: &Path) -> String {
    use std::io::{Read, Seek, SeekFrom};
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(QUOTED_BYTES)))?;
        let mut end = Vec::new();
        file.take(QUOTED_BYTES).read_to_end(&mut end)?;
        Ok(end)
    };
    read().map(|end| String::from_utf8_lossy(&end).trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
