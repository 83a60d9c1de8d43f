//! What all listeners of a proxy share, and the configuration in force. The files are looked at twice
//! a second; a change that can be read takes its place in one step, one that cannot is logged and
//! changes nothing.

use crate::cluster::{ClusterState, Endpoints};
use crate::config::{Config, MeshPaths, OutboundTrafficPolicy, TracingConfig};
use crate::node::Node;
use crate::peer::{self, Peer};
use crate::pool::Endpoint;
use crate::telemetry::Telemetry;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use pharos_mesh::{ConfigError, Mesh, MeshSettings, Parsed, ProxyWorkload, Registry, RouteTable, yaml_files};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio_util::sync::CancellationToken;

/// How often the files are looked at.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);
/// Hosts outside of the mesh whose connections are kept.
const MAX_PASSTHROUGH: usize = 64;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) node: Arc<Node>,
    pub(crate) telemetry: Telemetry,
    pub(crate) tracing: TracingConfig,
    pub(crate) exchange: peer::Exchange,
    pub(crate) unknown_peer: Arc<Peer>,
    /// Our own addresses: a request is never sent to them.
    pub(crate) own_addresses: Vec<SocketAddr>,
    pub(crate) snapshot: ArcSwap<Snapshot>,
    endpoints: Mutex<Endpoints>,
    passthrough: Mutex<HashMap<String, Arc<Endpoint>>>,
}

/// A configuration, ready to route.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) table: RouteTable,
    pub(crate) clusters: HashMap<Arc<str>, Arc<ClusterState>>,
}

/// Why a configuration was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{first}{}", if *more > 0 { format!(" (and {more} more)") } else { String::new() })]
    Config { first: Box<ConfigError>, more: usize },
}

impl Shared {
    pub(crate) fn new(
        node: Arc<Node>,
        telemetry: Telemetry,
        tracing: TracingConfig,
        own_addresses: Vec<SocketAddr>,
    ) -> Self {
        Self {
            exchange: peer::Exchange::new(&node.peer, &node.id),
            unknown_peer: Arc::new(Peer::unknown()),
            node,
            telemetry,
            tracing,
            own_addresses,
            snapshot: ArcSwap::default(),
            endpoints: Mutex::default(),
            passthrough: Mutex::default(),
        }
    }

    /// Reads the files and puts them in force.
    pub(crate) fn load(&self, paths: &MeshPaths) -> Result<(), ReloadError> {
        let mesh = read_mesh(paths)?;
        let workload = ProxyWorkload { namespace: &self.node.namespace, labels: &self.node.labels };
        let table = if self.node.gateway {
            RouteTable::for_gateway(&mesh, workload)
        } else {
            RouteTable::for_sidecar(&mesh, workload)
        };
        let mut endpoints = self.endpoints.lock();
        let clusters = table
            .clusters()
            .map(|cluster| {
                (cluster.name.clone(), Arc::new(ClusterState::new(cluster.clone(), &mut endpoints)))
            })
            .collect();
        self.snapshot.store(Arc::new(Snapshot { table, clusters }));
        endpoints.prune();
        self.telemetry.metrics.config_loaded();
        Ok(())
    }

    /// Follows the files until `stop`.
    pub(crate) async fn watch(self: Arc<Self>, paths: MeshPaths, stop: CancellationToken) {
        let mut seen = fingerprint(&paths);
        let mut ticks = tokio::time::interval(WATCH_INTERVAL);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stop.cancelled() => return,
            }
            let now = fingerprint(&paths);
            if now == seen {
                continue;
            }
            match self.load(&paths) {
                Ok(()) => tracing::info!("configuration reloaded"),
                Err(error) => {
                    self.telemetry.metrics.config_rejected.inc();
                    tracing::error!(%error, "configuration refused, the one before stays in force");
                }
            }
            seen = now;
        }
    }

    /// The endpoint of a host outside of the mesh.
    pub(crate) fn passthrough(&self, address: String) -> Arc<Endpoint> {
        let mut known = self.passthrough.lock();
        if known.len() >= MAX_PASSTHROUGH && !known.contains_key(&address) {
            known.clear();
        }
        known.entry(address).or_insert_with_key(|address| Endpoint::new(address.as_str().into())).clone()
    }
}

/// Reads what a proxy with these settings would route by, and throws it away.
///
/// # Errors
/// The first fault in the mesh's configuration, and how many more there are.
pub fn check(config: &Config) -> Result<(), ReloadError> {
    read_mesh(&config.mesh).map(drop)
}

/// All or nothing: a mesh with a faulty object in it is not taken.
fn read_mesh(paths: &MeshPaths) -> Result<Mesh, ReloadError> {
    let read = |path: &PathBuf| {
        let path = path.clone();
        move |source| ReloadError::Read { path, source }
    };
    let text = std::fs::read_to_string(&paths.registry).map_err(read(&paths.registry))?;
    let registry = Registry::parse(&paths.registry.display().to_string(), &text)
        .map_err(|error| ReloadError::Config { first: Box::new(error), more: 0 })?;
    let parsed = Parsed::read_dir(&paths.config_dir).map_err(read(&paths.config_dir))?;
    let mut errors = parsed.errors.into_iter();
    if let Some(first) = errors.next() {
        return Err(ReloadError::Config { first: Box::new(first), more: errors.len() });
    }
    let settings = MeshSettings {
        domain: paths.domain.clone(),
        root_namespace: paths.root_namespace.clone(),
        allow_any: paths.outbound_traffic_policy == OutboundTrafficPolicy::AllowAny,
    };
    Ok(Mesh::new(settings, &parsed.objects, &registry))
}

/// Changes when a file comes, goes or is written.
type Fingerprint = Vec<(PathBuf, Option<(SystemTime, u64)>)>;

fn fingerprint(paths: &MeshPaths) -> Fingerprint {
    let mut files = yaml_files(&paths.config_dir).unwrap_or_default();
    files.push(paths.registry.clone());
    files
        .into_iter()
        .map(|path| {
            let state = std::fs::metadata(&path).and_then(|m| Ok((m.modified()?, m.len()))).ok();
            (path, state)
        })
        .collect()
}
