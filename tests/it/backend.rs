//! A Pharos as a user starts it: the real binary in a process of its own, on free ports, with a data folder that
//! outlives it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader},
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU8, Ordering},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::{sys::signal::Signal, unistd::Pid};
use serde_json::Value;

/// How long anything may take before a test gives up on it: generous, since a CI machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The folder with the binaries of this build. `cargo test` alone builds no binaries of other packages.
pub(crate) fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("own path");
    let path = test.parent().and_then(Path::parent).expect("a target folder").join(name);
    assert!(
        path.exists(),
        "{} is missing: `make test` or `cargo test --workspace` builds it",
        path.display()
    );
    path
}

pub(crate) struct Pharos {
    process: Child,
    /// Listener name → address.
    addresses: BTreeMap<String, String>,
    /// What it prints after it is ready; kept so that the pipe never fills.
    _output: std::thread::JoinHandle<()>,
}

impl Pharos {
    /// `pharos serve` on free ports.
    pub(crate) fn serve(data_dir: &Path, extra: &[&str]) -> Result<Pharos> {
        let mut command = Command::new(binary("pharos"));
        command.arg("serve").arg("--data-dir").arg(data_dir).args(FREE_PORTS).args(extra);
        Pharos::start(command)
    }

    /// `pharos serve` with these environment variables.
    pub(crate) fn serve_with(
        data_dir: &Path,
        extra: &[&str],
        environment: &[(&str, String)],
    ) -> Result<Pharos> {
        let mut command = Command::new(binary("pharos"));
        command.arg("serve").arg("--data-dir").arg(data_dir).args(FREE_PORTS).args(extra);
        command.envs(environment.iter().map(|(name, value)| (*name, value)));
        Pharos::start(command)
    }

    /// `pharos demo` on free ports.
    pub(crate) fn demo(data_dir: &Path, extra: &[&str]) -> Result<Pharos> {
        let mut command = Command::new(binary("pharos"));
        command.arg("demo").arg("--data-dir").arg(data_dir).args(FREE_PORTS).args(extra);
        Pharos::start(command)
    }

    fn start(mut command: Command) -> Result<Pharos> {
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn()?;
        let mut lines = BufReader::new(process.stdout.take().context("a pipe")?).lines();
        let mut addresses = BTreeMap::new();
        loop {
            let line = match lines.next() {
                Some(line) => line?,
                None => bail!("pharos ended before it was ready: {}", process.wait()?),
            };
            let mut words = line.split_whitespace();
            match words.next() {
                Some("listening") => {
                    if let (Some(name), Some(address)) = (words.next(), words.next()) {
                        addresses.insert(name.to_string(), address.to_string());
                    }
                }
                Some("ready") => break,
                _ => {}
            }
        }
        let output = std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Ok(Pharos { process, addresses, _output: output })
    }

    pub(crate) fn address(&self, listener: &str) -> &str {
        self.addresses
            .get(listener)
            .unwrap_or_else(|| panic!("no listener {listener} in {:?}", self.addresses))
    }

    pub(crate) fn url(&self, listener: &str, path: &str) -> String {
        format!("http://{}{path}", self.address(listener))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// As `kill -9`: nothing is flushed.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }

    /// As Ctrl-C: must end by itself, and with success.
    pub(crate) fn interrupt(mut self) -> Result<()> {
        nix::sys::signal::kill(Pid::from_raw(i32::try_from(self.process.id())?), Signal::SIGINT)?;
        let until = Instant::now() + PATIENCE;
        let status = loop {
            match self.process.try_wait()? {
                Some(status) => break status,
                None => ensure!(Instant::now() < until, "Ctrl-C does not end it"),
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        ensure!(status.success(), "ended with {status}");
        Ok(())
    }
}

const FREE_PORTS: &[&str] = &[
    "--listen-ui=127.0.0.1:0",
    "--listen-prometheus=127.0.0.1:0",
    "--listen-otlp-grpc=127.0.0.1:0",
    "--listen-otlp-http=127.0.0.1:0",
    "--listen-zipkin=127.0.0.1:0",
    "--listen-jaeger=127.0.0.1:0",
];

/// An address for a server that cannot say which port it took. Ports of the other tests are of other addresses, so that
/// this one is free until the server has started.
pub(crate) fn free_address() -> Result<String> {
    static LAST: AtomicU8 = AtomicU8::new(1);
    let own = Ipv4Addr::new(127, 0, 66, LAST.fetch_add(1, Ordering::Relaxed));
    Ok(TcpListener::bind((own, 0))?.local_addr()?.to_string())
}

/// Processes with this word in their command line.
pub(crate) fn processes_with(word: &str) -> Result<BTreeSet<u32>> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // A process may be gone by now, or a zombie, which has no command line.
        let Ok(line) = std::fs::read(format!("/proc/{pid}/cmdline")) else { continue };
        if String::from_utf8_lossy(&line).contains(word) {
            found.insert(pid);
        }
    }
    Ok(found)
}

/// A test that fails in the middle leaves no process behind.
impl Drop for Pharos {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Resident memory that a process wrote itself, in bytes. Its code counts as well where users run it, but that of a
/// debug build is many times larger.
pub(crate) fn resident_anonymous_bytes(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).context("no RssAnon")?;
    let kib: u64 = line.split_whitespace().nth(1).context("no number")?.parse()?;
    Ok(kib << 10)
}

pub(crate) async fn get_json(url: &str) -> Result<Value> {
    let response = reqwest::get(url).await?;
    let status = response.status();
    let text = response.text().await?;
    if !status.is_success() {
        bail!("GET {url}: {status}: {text}");
    }
    serde_json::from_str(&text).with_context(|| format!("GET {url}: {text}"))
}

/// Rows of a SQL query.
pub(crate) async fn sql(pharos: &Pharos, query: &str) -> Result<Vec<Vec<Value>>> {
    let response = reqwest::Client::new()
        .post(pharos.url("ui", "/api/v1/sql"))
        .json(&serde_json::json!({ "query": query }))
        .send()
        .await?;
    let (status, text) = (response.status(), response.text().await?);
    if !status.is_success() {
        bail!("{query}: {status}: {text}");
    }
    let mut answer: Value = serde_json::from_str(&text)?;
    serde_json::from_value(answer["rows"].take()).with_context(|| format!("no rows in {text}"))
}

/// The single number that a SQL query gives.
pub(crate) async fn sql_count(pharos: &Pharos, query: &str) -> Result<i64> {
    let rows = sql(pharos, query).await?;
    rows.first()
        .and_then(|row| row.first())
        .and_then(Value::as_i64)
        .with_context(|| format!("{query}: {rows:?}"))
}

/// Asks again and again until `check` finds what it wants; its last complaint is the error.
pub(crate) async fn eventually<T, F: Future<Output = Result<T>>>(
    what: &str,
    mut check: impl FnMut() -> F,
) -> Result<T> {
    let until = Instant::now() + PATIENCE;
    loop {
        match check().await {
            Ok(found) => return Ok(found),
            Err(error) if Instant::now() > until => {
                return Err(anyhow!("waited in vain for {what}: {error:#}"));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// The second that has begun.
pub(crate) fn unix_s() -> Result<u64> {
    Ok(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs())
}

/// Waits until every counter has been scraped after `unix_s`: a window that starts then has a first value of each.
pub(crate) async fn scraped_after(pharos: &Pharos, unix_s: u64) -> Result<()> {
    let query = [("query", "min(timestamp(istio_requests_total))")];
    let url = pharos.url("prometheus", "/api/v1/query");
    eventually("a scrape of every counter", async || {
        let answer: Value = reqwest::Client::new().post(&url).form(&query).send().await?.json().await?;
        let oldest = answer["data"]["result"][0]["value"][1].as_str().with_context(|| answer.to_string())?;
        ensure!(oldest.parse::<f64>()? > unix_s as f64, "the oldest value is of {oldest}");
        Ok(())
    })
    .await
}
