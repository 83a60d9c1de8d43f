//! The programs that are compared, each in a process of its own on a free port with a folder of its own.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::{sys::signal::Signal, unistd::Pid};
use pharos_storage::{Storage, StorageConfig};

use crate::Options;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Program {
    Pharos,
    Prometheus,
    VictoriaMetrics,
}

impl Program {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Program::Pharos => "pharos",
            Program::Prometheus => "prometheus",
            Program::VictoriaMetrics => "victoria-metrics",
        }
    }
}

pub(crate) struct Peer {
    program: Program,
    process: Child,
    address: String,
    folder: PathBuf,
}

/// Long enough for Prometheus to read its log again.
const START_TIMEOUT: Duration = Duration::from_secs(300);

impl Peer {
    pub(crate) async fn start(program: Program, options: &Options, folder: &Path) -> Result<Peer> {
        let (process, address) = match program {
            Program::Pharos => pharos(options, folder)?,
            Program::Prometheus => prometheus(folder)?,
            Program::VictoriaMetrics => victoria_metrics(folder)?,
        };
        let mut peer = Peer { program, process, address, folder: folder.to_owned() };
        let began = Instant::now();
        // Prometheus listens while it reads its log, and answers 503 until it has.
        while !answers(&peer.url("/api/v1/query?query=1")).await {
            ensure!(began.elapsed() < START_TIMEOUT, "{} does not answer", program.name());
            if let Some(status) = peer.process.try_wait()? {
                bail!("{} ended: {status}", program.name());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(peer)
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Of all threads, in user and kernel.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id()))?;
        let (_, fields) = stat.rsplit_once(") ").context("no process name")?;
        let ticks: u64 =
            fields.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        // USER_HZ, which is 100 on every Linux that there is.
        Ok(Duration::from_millis(ticks * 10))
    }

    /// Waits until the program has done what a load left it to do, flushes and merges, which that load has cost and
    /// not the next one.
    pub(crate) async fn rest(&self) -> Result<()> {
        const LOOK: Duration = Duration::from_millis(500);
        for _ in 0..120 {
            let before = self.cpu()?;
            tokio::time::sleep(LOOK).await;
            if self.cpu()?.saturating_sub(before) < LOOK / 10 {
                break;
            }
        }
        Ok(())
    }

    /// `VmRSS` and the most that it was, in bytes.
    pub(crate) fn resident_bytes(&self) -> Result<(u64, u64)> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let field = |name: &str| -> Result<u64> {
            let line = status.lines().find(|line| line.starts_with(name)).context("no such field")?;
            Ok(line.split_whitespace().nth(1).context("no number")?.parse::<u64>()? << 10)
        };
        Ok((field("VmRSS:")?, field("VmHWM:")?))
    }

    /// Brings everything into its final files and counts their bytes.
    pub(crate) async fn disk_bytes(&mut self) -> Result<u64> {
        match self.program {
            Program::Prometheus => {
                // The head as a block, with its index.
                let client = reqwest::Client::new();
                client.post(self.url("/api/v1/admin/tsdb/snapshot")).send().await?.error_for_status()?;
                let snapshots = self.folder.join("snapshots");
                let bytes = folder_bytes(&snapshots)?;
                std::fs::remove_dir_all(snapshots)?;
                Ok(bytes)
            }
            Program::VictoriaMetrics => {
                for path in ["/internal/force_flush", "/internal/force_merge"] {
                    reqwest::get(self.url(path)).await?.error_for_status()?;
                }
                self.settled_bytes().await
            }
            Program::Pharos => {
                // An orderly end writes the head to files.
                self.end()?;
                // What a merge has replaced stays a quarter of an hour for programs that still read it.
                Ok(folder_bytes(&self.folder)? - replaced_bytes(&self.folder)?)
            }
        }
    }

    /// What becomes of `disk_bytes` in the course of a day, when enough files of one size have come together. The other
    /// two have merged theirs by then. The program must have ended.
    pub(crate) async fn merged_disk_bytes(&self, disk_bytes: u64) -> Result<u64> {
        if self.program != Program::Pharos {
            return Ok(disk_bytes);
        }
        let config = StorageConfig {
            compact_files: 2,
            retention: None,
            vacuum_after: Duration::ZERO,
            ..StorageConfig::new(&self.folder)
        };
        let storage = Storage::open(config).await?;
        storage.compact().await?;
        storage.close().await?;
        drop(storage);
        Ok(folder_bytes(&self.folder)? - replaced_bytes(&self.folder)?)
    }

    /// The folder's size once it does not change any more.
    async fn settled_bytes(&self) -> Result<u64> {
        let mut known = 0;
        loop {
            tokio::time::sleep(Duration::from_secs(3)).await;
            let bytes = folder_bytes(&self.folder)?;
            if bytes == known {
                return Ok(bytes);
            }
            known = bytes;
        }
    }

    /// An orderly end; a second time nothing happens.
    pub(crate) fn end(&mut self) -> Result<()> {
        if self.process.try_wait()?.is_some() {
            return Ok(());
        }
        nix::sys::signal::kill(Pid::from_raw(i32::try_from(self.process.id())?), Signal::SIGINT)?;
        self.process.wait()?;
        Ok(())
    }
}

async fn answers(url: &str) -> bool {
    reqwest::get(url).await.is_ok_and(|response| response.status().is_success())
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn folder_bytes(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        // A file may be gone since the folder was read.
        let Ok(metadata) = entry.metadata() else { continue };
        bytes += if metadata.is_dir() { folder_bytes(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}

/// Bytes of the files that tables' logs have removed and the disk still has.
fn replaced_bytes(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for table in std::fs::read_dir(folder)? {
        let table = table?.path();
        let Ok(log) = std::fs::read_dir(table.join("_delta_log")) else { continue };
        for entry in log {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            for line in std::fs::read_to_string(path)?.lines() {
                let action: serde_json::Value = serde_json::from_str(line)?;
                let removed = action["remove"]["path"].as_str().map(|path| table.join(path));
                bytes += removed.and_then(|path| path.metadata().ok()).map_or(0, |metadata| metadata.len());
            }
        }
    }
    Ok(bytes)
}

fn pharos(options: &Options, folder: &Path) -> Result<(Child, String)> {
    let listeners = ["ui", "prometheus", "otlp-grpc", "otlp-http", "zipkin", "jaeger"];
    let mut process = Command::new(&options.pharos)
        .arg("serve")
        .arg("--data-dir")
        .arg(folder)
        .args(listeners.map(|name| format!("--listen-{name}=127.0.0.1:0")))
        .args(&options.pharos_args)
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| {
            format!("{} does not start: cargo build --release --bins", options.pharos.display())
        })?;
    let mut lines = BufReader::new(process.stdout.take().context("a pipe")?).lines();
    let mut address = None;
    for line in lines.by_ref() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["listening", "prometheus", found, ..] => address = Some((*found).to_string()),
            ["ready", ..] => break,
            _ => {}
        }
    }
    // So that the pipe never fills.
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
    Ok((process, address.context("pharos ended before it was ready")?))
}

fn free_address() -> Result<String> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

fn prometheus(folder: &Path) -> Result<(Child, String)> {
    let address = free_address()?;
    let config = folder.join("prometheus.yml");
    std::fs::write(&config, "global: {scrape_interval: 15s}\n")?;
    let process = Command::new("prometheus")
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", folder.display()))
        .arg(format!("--web.listen-address={address}"))
        .args(["--web.enable-remote-write-receiver", "--web.enable-admin-api", "--log.level=error"])
        .spawn()
        .context("prometheus does not start (Debian: apt-get install prometheus)")?;
    Ok((process, address))
}

fn victoria_metrics(folder: &Path) -> Result<(Child, String)> {
    let address = free_address()?;
    let process = Command::new("victoria-metrics")
        .arg(format!("-storageDataPath={}", folder.display()))
        .arg(format!("-httpListenAddr={address}"))
        // Without these it does not show the newest half minute, and counts itself.
        .args([
            "-search.latencyOffset=0s",
            "-selfScrapeInterval=0",
            "-loggerLevel=ERROR",
            "-retentionPeriod=1",
        ])
        .spawn()
        .context("victoria-metrics does not start (Debian: apt-get install victoria-metrics)")?;
    Ok((process, address))
}
