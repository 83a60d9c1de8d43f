//! The backend: one store, the collector's receivers that fill it, the query's APIs that read it.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::Context;
use pharos_collector::{Collector, CollectorConfig};
use pharos_query::{Engine, EngineConfig, Rules, api};
use pharos_storage::{Storage, StorageConfig};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    listener::Listener,
    mesh_config,
    process::{Process, Reread},
    say, self_metrics,
    settings::{Config, Durability, Listen},
    web_ui,
};

/// All sockets of the backend, bound but not served: a taken port is found before anything else is done, and a client
/// that is started meanwhile waits in the queue.
pub(crate) struct Sockets {
    pub(crate) ui: Listener,
    pub(crate) prometheus: Listener,
    pub(crate) otlp_grpc: Listener,
    pub(crate) otlp_http: Listener,
    pub(crate) zipkin: Listener,
    pub(crate) jaeger: Listener,
}

/// A running backend.
pub(crate) struct Backend {
    storage: Storage,
    rules: Rules,
    ui: SocketAddr,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Sockets {
    pub(crate) async fn bind(listen: &Listen) -> anyhow::Result<Sockets> {
        Ok(Sockets {
            ui: Listener::bind("ui", listen.ui).await?,
            prometheus: Listener::bind("prometheus", listen.prometheus).await?,
            otlp_grpc: Listener::bind("otlp-grpc", listen.otlp_grpc).await?,
            otlp_http: Listener::bind("otlp-http", listen.otlp_http).await?,
            zipkin: Listener::bind("zipkin", listen.zipkin).await?,
            jaeger: Listener::bind("jaeger", listen.jaeger).await?,
        })
    }

    /// Opens the store, replays what a crash left, and serves.
    pub(crate) async fn start(self, config: Config, reread: Reread) -> anyhow::Result<Backend> {
        let started = Instant::now();
        let storage = Storage::open(storage_config(&config))
            .await
            .with_context(|| format!("cannot open the data in {}", config.data_dir.display()))?;
        let collector_config =
            CollectorConfig { start_time_zeros: config.start_time_zeros, ..CollectorConfig::default() };
        let collector = Collector::new(collector_config, storage.clone());
        let engine = Engine::new(storage.clone(), engine_config(&config));
        let stop = CancellationToken::new();

        let Sockets { ui, prometheus, otlp_grpc, otlp_http, zipkin, jaeger } = self;
        let addresses =
            [&ui, &prometheus, &otlp_grpc, &otlp_http, &zipkin, &jaeger].map(|l| (l.name, l.address));
        let metrics =
            self_metrics::self_metrics(storage.clone(), collector.clone(), engine.rules().clone(), started);
        let process = Process::new(
            addresses.to_vec(),
            collector.clone(),
            engine.rules().clone(),
            metrics.clone(),
            reread,
        );
        engine.set_host(process.clone());
        process.apply(&config).await?;
        let rules = engine.rules().clone();
        let backend = Backend {
            ui: ui.address,
            storage: storage.clone(),
            rules,
            stop: stop.clone(),
            tasks: Vec::new(),
        };
        // Remote write too: a client that is told one address for Prometheus' API expects all of it there.
        let for_ui =
            api::ui_router(engine.clone()).merge(collector.remote_write_router()).merge(web_ui::router());
        let for_prometheus = api::prometheus_router(engine.clone())
            .merge(collector.remote_write_router())
            // Prometheus takes OTLP under a path of its own.
            .nest("/api/v1/otlp", collector.otlp_http_router())
            .merge(metrics.router());
        let scraper = collector.clone();
        let mut tasks = vec![
            ui.serve(for_ui, stop.clone()),
            prometheus.serve(for_prometheus, stop.clone()),
            otlp_grpc.serve(collector.grpc_routes().into_axum_router(), stop.clone()),
            otlp_http.serve(collector.otlp_http_router(), stop.clone()),
            zipkin.serve(collector.zipkin_router(), stop.clone()),
            jaeger.serve(api::jaeger_router(engine), stop.clone()),
            tokio::spawn({
                let stop = stop.clone();
                async move { scraper.run_scraper(stop).await }
            }),
        ];
        tasks.push(tokio::spawn(reload_on_hangup(process, stop.clone())?));
        if let Some(folder) = config.mesh_config_dir {
            tasks.push(tokio::spawn(mesh_config::follow(folder, backend.storage.clone(), stop)));
        }
        for (name, address) in addresses {
            say!("listening {name:<11} {address}");
        }
        Ok(Backend { tasks, ..backend })
    }
}

impl Backend {
    /// Says where to look; programs that start Pharos wait for this line.
    pub(crate) fn say_ready(&self) {
        say!("ready http://{}", self.ui);
    }

    /// Stops taking requests, ends those that are open, writes what is in memory to files.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.stop.cancel();
        self.rules.stop().await;
        for task in self.tasks {
            task.await?;
        }
        self.storage.close().await.context("cannot close the data")
    }
}

/// SIGHUP asks to read the configuration again; what is wrong with it is told and changes nothing.
fn reload_on_hangup(process: Process, stop: CancellationToken) -> anyhow::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(async move {
        loop {
            tokio::select! {
                _ = hangup.recv() => {}
                () = stop.cancelled() => return,
            }
            if let Err(error) = process.reload().await {
                tracing::error!("the configuration is not read again: {error:#}");
            }
        }
    })
}

pub(crate) fn storage_config(config: &Config) -> StorageConfig {
    let defaults = StorageConfig::new(&config.data_dir);
    let limits = config.series_limits;
    StorageConfig {
        durability: match config.durability {
            Durability::Fsync => pharos_storage::Durability::Fsync,
            Durability::Interval => pharos_storage::Durability::Interval(Duration::from_secs(1)),
            Durability::None => pharos_storage::Durability::None,
        },
        head_bytes: usize::try_from(config.head_bytes).unwrap_or(usize::MAX),
        recent_samples_bytes: config
            .recent_samples_bytes
            .map_or(defaults.recent_samples_bytes, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
        retention: config.retention,
        tables_url: config.tables_url.clone(),
        read_cache_bytes: config.read_cache_bytes,
        max_series: limits.series.unwrap_or(defaults.max_series),
        max_labels: limits.labels.unwrap_or(defaults.max_labels),
        max_label_name_bytes: limits.label_name_bytes.unwrap_or(defaults.max_label_name_bytes),
        max_label_value_bytes: limits.label_value_bytes.unwrap_or(defaults.max_label_value_bytes),
        ..defaults
    }
}

fn engine_config(config: &Config) -> EngineConfig {
    EngineConfig {
        version: env!("CARGO_PKG_VERSION").to_string(),
        promql_features: config.promql_features,
        retention: config.retention,
        flags: BTreeMap::from(
            [
                ("storage.tsdb.path", config.data_dir.display().to_string()),
                ("web.external-url", config.rules.external_url.clone()),
                ("web.listen-address", config.listen.prometheus.to_string()),
            ]
            .map(|(name, value)| (name.to_string(), value)),
        ),
        ..EngineConfig::default()
    }
}
