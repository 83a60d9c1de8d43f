use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::RwLock;
use pharos_model::UnixNanos;
use pharos_promql::Features;
use pharos_storage::Storage;
use tokio::sync::Semaphore;

use crate::{graph::Inventory, host::Host, rules::Rules, sql::SqlEngine};

/// What queries may take, and what the server tells of itself. `EngineConfig::default()` has Prometheus' limits.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    pub version: String,
    /// Told by `/api/v1/status/config`, where Kiali reads its shortest window.
    pub scrape_interval: Duration,
    /// Told by `/api/v1/status/runtimeinfo`, where Kiali reads its longest window.
    pub retention: Option<Duration>,
    /// Told by `/api/v1/status/flags`.
    pub flags: BTreeMap<String, String>,
    /// Parts of the language beyond the stable ones.
    pub promql_features: Features,
    pub promql_timeout: Duration,
    pub promql_lookback: Duration,
    /// PromQL queries that run at once; further ones wait for their turn.
    pub promql_concurrency: usize,
    pub promql_max_samples: usize,
    /// Remote reads that are answered at once; further ones wait for their turn.
    pub remote_read_concurrency: usize,
    /// Series that one selector may match.
    pub promql_max_series: usize,
    pub sql_timeout: Duration,
    /// Rows of an answer. One that would have more is broken off.
    pub sql_max_rows: usize,
    pub sql_memory_bytes: usize,
    /// SQL queries that run at once.
    pub sql_concurrency: usize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        EngineConfig {
            version: env!("CARGO_PKG_VERSION").to_string(),
            scrape_interval: Duration::from_secs(15),
            retention: None,
            flags: BTreeMap::new(),
            promql_features: Features::default(),
            promql_timeout: Duration::from_secs(120),
            promql_lookback: Duration::from_secs(300),
            promql_concurrency: 20,
            promql_max_samples: 50_000_000,
            remote_read_concurrency: 10,
            promql_max_series: 1_000_000,
            sql_timeout: Duration::from_secs(60),
            sql_max_rows: 100_000_000,
            sql_memory_bytes: 128 << 20,
            sql_concurrency: 4,
        }
    }
}

struct NoHost;

impl Host for NoHost {}

/// Answers queries over one storage. A handle: clones share everything.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    storage: Storage,
    config: EngineConfig,
    started: (Instant, UnixNanos),
    inventory: RwLock<Arc<Inventory>>,
    host: RwLock<Arc<dyn Host>>,
    rules: Rules,
    promql_permits: Arc<Semaphore>,
    remote_read_permits: Arc<Semaphore>,
    sql: SqlEngine,
}

impl Engine {
    pub fn new(storage: Storage, config: EngineConfig) -> Engine {
        Engine(Arc::new(Inner {
            started: (Instant::now(), UnixNanos::now()),
            inventory: RwLock::default(),
            host: RwLock::new(Arc::new(NoHost)),
            rules: Rules::new(storage.clone(), &config),
            promql_permits: Arc::new(Semaphore::new(config.promql_concurrency.max(1))),
            remote_read_permits: Arc::new(Semaphore::new(config.remote_read_concurrency.max(1))),
            sql: SqlEngine::new(storage.clone(), &config),
            storage,
            config,
        }))
    }

    /// Lets the server tell of itself.
    pub fn set_host(&self, host: impl Host + 'static) {
        *self.0.host.write() = Arc::new(host);
    }

    /// Recording and alerting rules; none run before a configuration is applied.
    pub fn rules(&self) -> &Rules {
        &self.0.rules
    }

    /// Kubernetes' view, which telemetry lacks.
    pub fn set_inventory(&self, inventory: Inventory) {
        *self.0.inventory.write() = Arc::new(inventory);
    }

    pub(crate) fn storage(&self) -> &Storage {
        &self.0.storage
    }

    pub(crate) fn config(&self) -> &EngineConfig {
        &self.0.config
    }

    pub(crate) fn sql(&self) -> &SqlEngine {
        &self.0.sql
    }

    pub(crate) fn inventory(&self) -> Arc<Inventory> {
        self.0.inventory.read().clone()
    }

    pub(crate) fn host(&self) -> Arc<dyn Host> {
        self.0.host.read().clone()
    }

    pub(crate) fn uptime(&self) -> Duration {
        self.0.started.0.elapsed()
    }

    pub(crate) fn started(&self) -> UnixNanos {
        self.0.started.1
    }

    pub(crate) fn promql_permits(&self) -> Arc<Semaphore> {
        self.0.promql_permits.clone()
    }

    pub(crate) fn remote_read_permits(&self) -> Arc<Semaphore> {
        self.0.remote_read_permits.clone()
    }
}

/// Tells blocking work that nobody waits for it any more: set when dropped, as axum does with the handler of a
/// client that went away.
#[derive(Default)]
pub(crate) struct CancelOnDrop(Arc<AtomicBool>);

impl CancelOnDrop {
    pub(crate) fn flag(&self) -> Arc<AtomicBool> {
        self.0.clone()
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
