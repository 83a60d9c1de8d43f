//! Debian's Prometheus as a process of its own.

use std::process::{Child, Command};

use anyhow::{Context, Result};

use crate::backend::free_address;

pub(crate) struct Prometheus {
    process: Child,
    pub(crate) address: String,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    /// With this configuration file and these further flags.
    pub(crate) fn start(config: &str, flags: &[&str]) -> Result<Prometheus> {
        let folder = tempfile::tempdir()?;
        let address = free_address()?;
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, config)?;
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .args(["--log.level=warn"])
            .args(flags)
            .spawn()
            .context("prometheus does not start (Debian: apt-get install prometheus)")?;
        Ok(Prometheus { process, address, _folder: folder })
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
