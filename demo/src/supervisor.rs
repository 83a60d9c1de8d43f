//! The supervisor: starts the mesh, says what is up, tells of deaths, stops everything.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::children::{Children, Exit, Start};
use crate::process::PROCESS_SUBCOMMAND;
use crate::run_dir::RunDir;
use crate::topology::{
    DemoNetwork, GATEWAY_HOST, GATEWAY_NAME, LOAD_GENERATOR_HOST, LOAD_GENERATOR_NAME, WORKLOADS, port,
};

/// How long all processes may take to come up.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Pause between two looks at a health endpoint.
const HEALTH_POLL: Duration = Duration::from_millis(20);
/// Whoever does not answer by then is asked again.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);
/// How long addresses may take to become free before the start.
const RELEASE_PATIENCE: Duration = Duration::from_secs(1);
/// How long a process may take to stop before it is killed.
const STOP_PATIENCE: Duration = Duration::from_millis(1_500);

/// What a demo is to be.
#[derive(Clone, Debug)]
pub struct DemoConfig {
    /// The `pharos` binary, which is started again for each workload and for the load generator.
    pub pharos_binary: PathBuf,
    /// The `pharos-proxy` binary.
    pub proxy_binary: PathBuf,
    /// Where settings and logs of the run go; created when missing, files of an earlier run replaced.
    pub run_dir: PathBuf,
    /// Folder of Istio YAML that the proxies watch. Without it: `deploy/demo` of the working directory when it is
    /// there, else a copy of our own in the run directory.
    pub istio_config_dir: Option<PathBuf>,
    /// The loopback network of the mesh.
    pub network: DemoNetwork,
    /// Where the ingress gateway listens; default port 8080 of its own address in the network.
    pub gateway: Option<SocketAddr>,
    /// What the load generator sends, 0 to [`crate::MAX_REQUESTS_PER_SECOND`].
    pub requests_per_second: f64,
    /// Where the proxies report to.
    pub backend: BackendAddresses,
}

/// The receivers that the proxies report to.
#[derive(Clone, Copy, Debug)]
pub struct BackendAddresses {
    /// OTLP and access-log service, gRPC.
    pub grpc: SocketAddr,
    /// Zipkin v2 over HTTP.
    pub zipkin: SocketAddr,
}

impl DemoConfig {
    pub(crate) fn gateway_address(&self) -> SocketAddr {
        self.gateway.unwrap_or_else(|| self.network.socket(GATEWAY_HOST, port::GATEWAY))
    }
}

/// News from the demo; `Display` gives the line that a person reads.
#[derive(Debug)]
pub enum Progress {
    /// A process, or a workload with its sidecar, answers its health check.
    Up { name: String, address: SocketAddr, detail: String },
    /// All is up and load flows.
    Ready { product_page: String, istio_config_dir: PathBuf },
    /// A process ended that nobody stopped. It is not started again.
    Died { name: String, status: String, last_words: String },
    /// Everything was stopped.
    Stopped,
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Up { name, address, detail } => write!(f, "{name:<22} {address:<20} {detail}"),
            Self::Ready { product_page, istio_config_dir } => {
                write!(f, "mesh is up: {product_page}, edit {} to change it", istio_config_dir.display())
            }
            Self::Died { name, status, last_words } => {
                write!(f, "{name} died ({status}) and stays down")?;
                if last_words.is_empty() { Ok(()) } else { write!(f, ": {last_words}") }
            }
            Self::Stopped => f.write_str("mesh is stopped"),
        }
    }
}

/// A demo whose files are written and whose processes are not started yet.
#[derive(Debug)]
pub struct Demo {
    config: DemoConfig,
    run_dir: RunDir,
}

impl Demo {
    /// Writes the settings of all processes.
    ///
    /// # Errors
    /// When a binary or the Istio folder is missing, the rate is out of range, or a file cannot be written.
    pub fn prepare(config: DemoConfig) -> anyhow::Result<Self> {
        for binary in [&config.pharos_binary, &config.proxy_binary] {
            if !binary.is_file() {
                bail!("{} is missing: `make build` makes it", binary.display());
            }
        }
        crate::load::valid_rate(config.requests_per_second).map_err(anyhow::Error::msg)?;
        let run_dir = RunDir::write(&config)?;
        Ok(Self { config, run_dir })
    }

    /// The `file_sd` document that lists every proxy, to be scraped every [`crate::SCRAPE_INTERVAL_S`] seconds.
    pub fn scrape_targets(&self) -> PathBuf {
        self.run_dir.scrape_targets()
    }

    /// The Istio configuration that the proxies watch.
    pub fn istio_config_dir(&self) -> &Path {
        self.run_dir.istio()
    }

    /// Starts everything, reports to `report`, and returns after `shutdown` when everything is stopped.
    ///
    /// The receivers of [`BackendAddresses`] should be up before and stay up until this returns, so that the
    /// proxies' last spans and log records find them.
    ///
    /// # Errors
    /// When an address is taken or a process does not come up; whatever had been started is stopped then.
    pub async fn run(
        self,
        report: impl FnMut(Progress) + Send + 'static,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let (done, outcome) = oneshot::channel();
        // Were this future dropped, the thread would still stop its children.
        let stop = shutdown.child_token();
        let _stop_when_dropped = stop.clone().drop_guard();
        // The children ask the kernel to be killed when the *thread* that started them ends, so that one must live
        // as long as they do; a worker of the caller's runtime makes no such promise.
        std::thread::Builder::new().name("demo-supervisor".to_owned()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let result = match runtime {
                Ok(runtime) => runtime.block_on(supervise(self, report, stop)),
                Err(fault) => Err(fault.into()),
            };
            // Nobody listens when the caller was dropped.
            let _ = done.send(result);
        })?;
        outcome.await.map_err(|_| anyhow!("the supervisor's thread ended early"))?
    }
}

async fn supervise(
    demo: Demo,
    mut report: impl FnMut(Progress),
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let mut children = Children::default();
    let result = tokio::select! {
        result = start_and_watch(&demo, &mut children, &mut report) => result,
        () = shutdown.cancelled() => Ok(()),
    };
    // First the load, so that what is under way still finds everybody; then the rest at once.
    children.stop(Some(&[LOAD_GENERATOR_NAME]), Duration::from_millis(600)).await;
    children.stop(None, STOP_PATIENCE).await;
    report(Progress::Stopped);
    result
}

async fn start_and_watch(
    demo: &Demo,
    children: &mut Children,
    report: &mut impl FnMut(Progress),
) -> anyhow::Result<()> {
    let Demo { config, run_dir } = demo;
    require_free_addresses(config).await?;
    let network = config.network;
    let sidecar = |name: &str| format!("{name}-sidecar");

    let start = |children: &mut Children, name: &str, role: &str, files: &[&Path]| {
        let mut command = Command::new(&config.pharos_binary);
        command.arg(PROCESS_SUBCOMMAND).arg(std::process::id().to_string()).arg(role).args(files);
        // What they say goes to files.
        command.env("NO_COLOR", "1");
        children.start(Start { name, command, log: run_dir.log(name) })
    };
    start(children, GATEWAY_NAME, "proxy", &[&config.proxy_binary, &run_dir.proxy(GATEWAY_NAME)])?;
    for workload in &WORKLOADS {
        start(children, workload.name, "workload", &[&run_dir.workload(workload.name)])?;
        let files = [config.proxy_binary.as_path(), &run_dir.proxy(workload.name)];
        start(children, &sidecar(workload.name), "proxy", &files)?;
    }
    let deadline = Instant::now() + START_TIMEOUT;
    let proxy_ready = |host| (network.socket(host, port::PROXY_ADMIN), "/healthz/ready");
    let admin_ready = |host| (network.socket(host, port::ADMIN), "/healthz");

    wait_until_up(children, GATEWAY_NAME, &[proxy_ready(GATEWAY_HOST)], deadline).await?;
    report(Progress::Up {
        name: GATEWAY_NAME.to_owned(),
        address: config.gateway_address(),
        detail: "ingress gateway".to_owned(),
    });
    for workload in &WORKLOADS {
        let ready = [admin_ready(workload.host), proxy_ready(workload.host)];
        wait_until_up(children, workload.name, &ready, deadline).await?;
        report(Progress::Up {
            name: workload.name.to_owned(),
            address: network.socket(workload.host, port::APPLICATION),
            detail: "workload and sidecar".to_owned(),
        });
    }
    start(children, LOAD_GENERATOR_NAME, "load", &[&run_dir.load()])?;
    wait_until_up(children, LOAD_GENERATOR_NAME, &[admin_ready(LOAD_GENERATOR_HOST)], deadline).await?;
    report(Progress::Up {
        name: LOAD_GENERATOR_NAME.to_owned(),
        address: network.socket(LOAD_GENERATOR_HOST, port::ADMIN),
        detail: format!("{} requests a second", config.requests_per_second),
    });
    report(Progress::Ready {
        product_page: format!("http://{}/productpage", config.gateway_address()),
        istio_config_dir: run_dir.istio().to_owned(),
    });
    loop {
        let Exit { name, status, last_words } = children.next_exit().await;
        report(Progress::Died { name, status, last_words });
    }
}

/// Two demos on one network would answer each other's requests; say so before anything is started.
async fn require_free_addresses(config: &DemoConfig) -> anyhow::Result<()> {
    let network = config.network;
    let mut addresses = vec![
        config.gateway_address(),
        network.socket(GATEWAY_HOST, port::PROXY_ADMIN),
        network.socket(LOAD_GENERATOR_HOST, port::ADMIN),
    ];
    let ports = [port::APPLICATION, port::ADMIN, port::OUTBOUND, port::INBOUND, port::PROXY_ADMIN];
    for workload in &WORKLOADS {
        addresses.extend(ports.map(|port| network.socket(workload.host, port)));
    }
    // The kernel may still be taking down the children of a demo that was killed a moment ago.
    let patience = Instant::now() + RELEASE_PATIENCE;
    for address in addresses {
        while let Err(fault) = std::net::TcpListener::bind(address) {
            if Instant::now() > patience {
                return Err(fault).with_context(|| {
                    format!(
                        "cannot listen on {address}; is another demo running on {network}? Give this one another network"
                    )
                });
            }
            sleep(HEALTH_POLL).await;
        }
    }
    Ok(())
}

/// Waits until every endpoint answers 200, or a child dies, or the deadline passes.
async fn wait_until_up(
    children: &mut Children,
    name: &str,
    endpoints: &[(SocketAddr, &str)],
    deadline: Instant,
) -> anyhow::Result<()> {
    for (address, path) in endpoints {
        let healthy = async {
            while !is_healthy(*address, path).await {
                sleep(HEALTH_POLL).await;
            }
        };
        tokio::select! {
            () = healthy => {}
            exit = children.next_exit() => {
                bail!("{} ended while the mesh came up ({}): {}", exit.name, exit.status, exit.last_words);
            }
            () = tokio::time::sleep_until(deadline) => {
                bail!("{name}: http://{address}{path} is not healthy after {} s", START_TIMEOUT.as_secs());
            }
        }
    }
    Ok(())
}

/// True when `GET path` is answered with 200.
async fn is_healthy(address: SocketAddr, path: &str) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut head = [0; 12];
        stream.read_exact(&mut head).await?;
        std::io::Result::Ok(head.starts_with(b"HTTP/1.") && head.ends_with(b" 200"))
    };
    matches!(tokio::time::timeout(HEALTH_TIMEOUT, ask).await, Ok(Ok(true)))
}

#[cfg(test)]
mod tests;
