//! What the query APIs ask of the process: its listeners, its scrape targets, its configuration and to read that anew.

use std::{net::SocketAddr, sync::Arc};

use futures::future::BoxFuture;
use parking_lot::Mutex;
use pharos_collector::{Alertmanagers, Collector, ScrapeConfig};
use pharos_model::{Labels, UnixNanos};
use pharos_query::{
    ActiveTarget, Configuration, DroppedTarget, Host, RelabelStep, Rules, Scrape, ScrapeTargets,
    ServerStatus, TargetMetadata,
};

use crate::{prometheus_config, self_metrics::SelfMetrics, settings::Config};

/// Reads the configuration again, from where it was read first.
pub(crate) type Reread = Arc<dyn Fn() -> anyhow::Result<Config> + Send + Sync>;

/// The process as the APIs see it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Process(Arc<Inner>);

struct Inner {
    listeners: Vec<(&'static str, SocketAddr)>,
    collector: Collector,
    rules: Rules,
    alertmanagers: Alertmanagers,
    metrics: SelfMetrics,
    reread: Reread,
    loaded: Mutex<Configuration>,
}

impl Process {
    pub(crate) fn new(
        listeners: Vec<(&'static str, SocketAddr)>,
        collector: Collector,
        rules: Rules,
        metrics: SelfMetrics,
        reread: Reread,
    ) -> Process {
        let alertmanagers = Alertmanagers::default();
        rules.set_alertmanagers(ToldOfAlerts(alertmanagers.clone()));
        let loaded = Mutex::default();
        Process(Arc::new(Inner { listeners, collector, rules, alertmanagers, metrics, reread, loaded }))
    }

    /// Puts the parts of a configuration in force that may change while Pharos runs: what is scraped, OTLP, rules and
    /// alerting. All of it or nothing.
    pub(crate) async fn apply(&self, config: &Config) -> anyhow::Result<()> {
        let applied = self.apply_parts(config).await;
        let mut loaded = self.0.loaded.lock();
        loaded.reload_succeeded = Some(applied.is_ok());
        if applied.is_ok() {
            self.0.alertmanagers.apply(&config.alerting);
            loaded.yaml = Some(config.prometheus_yaml.clone());
            loaded.loaded_at = Some(UnixNanos::now());
            loaded.external_labels = config.rules.external_labels.clone();
        } else {
            loaded.failed_at = Some(UnixNanos::now());
        }
        applied
    }

    async fn apply_parts(&self, config: &Config) -> anyhow::Result<()> {
        let scrape = match &config.scrape_yaml {
            Some(yaml) => ScrapeConfig::parse(yaml, &config.base_dir)?,
            None => ScrapeConfig::default(),
        };
        self.0.rules.apply(&config.rules).await.map_err(|errors| {
            let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
            anyhow::anyhow!("{}", errors.join("\n"))
        })?;
        self.0.collector.reconfigure(scrape);
        Ok(())
    }

    /// What is wrong leaves everything as it was.
    pub(crate) async fn reload(&self) -> anyhow::Result<()> {
        let config = match (self.0.reread)() {
            Ok(config) => config,
            Err(error) => {
                let mut loaded = self.0.loaded.lock();
                loaded.reload_succeeded = Some(false);
                loaded.failed_at = Some(UnixNanos::now());
                return Err(error);
            }
        };
        self.apply(&config).await?;
        tracing::info!("the configuration is read again");
        Ok(())
    }
}

impl Host for Process {
    fn status(&self) -> ServerStatus {
        let listener = |(name, address): &(&'static str, SocketAddr)| pharos_query::Listener {
            name: (*name).to_string(),
            address: address.to_string(),
        };
        let received = |received: pharos_collector::Received| pharos_query::Received {
            protocol: received.protocol.name().to_string(),
            items: received.items,
            rejected: received.rejected,
            last_unix_ms: received.last_unix_ms,
        };
        ServerStatus {
            listeners: self.0.listeners.iter().map(listener).collect(),
            received: self.0.collector.counters().into_iter().map(received).collect(),
        }
    }

    fn scrape_targets(&self) -> ScrapeTargets {
        let active: Vec<ActiveTarget> = self.0.collector.targets().into_iter().map(active_target).collect();
        let pools = self.0.collector.scrape_config().job_names().map(str::to_string).collect();
        let all = self.0.collector.dropped_targets();
        let dropped_counts = all.iter().map(|of_job| (of_job.job.clone(), of_job.count)).collect();
        let dropped = all.into_iter().flat_map(|of_job| {
            let target =
                move |discovered_labels| DroppedTarget { discovered_labels, scrape_pool: of_job.job.clone() };
            of_job.discovered_labels.into_iter().map(target)
        });
        ScrapeTargets { active, dropped: dropped.collect(), dropped_counts, pools }
    }

    fn target_metadata(&self) -> Vec<TargetMetadata> {
        let of_target = |(target, families): (pharos_collector::TargetStatus, _)| TargetMetadata {
            labels: target.labels,
            families,
        };
        self.0.collector.target_metadata().into_iter().map(of_target).collect()
    }

    fn scrape_config(&self, pool: &str) -> Option<String> {
        self.0.collector.scrape_config().document(pool).map(prometheus_config::shown_job)
    }

    fn relabel_steps(&self, pool: &str, labels: Labels) -> Option<Vec<RelabelStep>> {
        let steps = self.0.collector.scrape_config().relabel_steps(pool, labels)?;
        let step = |step: pharos_collector::RelabelStep| RelabelStep {
            rule: step.rule,
            output: step.output,
            keep: step.keep,
        };
        Some(steps.into_iter().map(step).collect())
    }

    fn own_metrics(&self) -> String {
        self.0.metrics.text()
    }

    fn configuration(&self) -> Configuration {
        self.0.loaded.lock().clone()
    }

    fn reload(&self) -> BoxFuture<'static, Result<(), String>> {
        let process = self.clone();
        Box::pin(async move { process.reload().await.map_err(|error| format!("{error:#}")) })
    }
}

/// The collector's Alertmanagers as rules know them.
struct ToldOfAlerts(Alertmanagers);

struct ToldOf(pharos_collector::Alertmanager);

impl pharos_query::Alertmanagers for ToldOfAlerts {
    fn active(&self) -> Vec<Arc<dyn pharos_query::Alertmanager>> {
        self.0.active().into_iter().map(|known| Arc::new(ToldOf(known)) as _).collect()
    }

    fn dropped_urls(&self) -> Vec<String> {
        self.0.dropped_urls()
    }

    fn relabel(&self, labels: Labels) -> Option<Labels> {
        self.0.relabel(labels)
    }
}

impl pharos_query::Alertmanager for ToldOf {
    fn url(&self) -> &str {
        self.0.url()
    }

    fn relabel(&self, labels: Labels) -> Option<Labels> {
        self.0.relabel(labels)
    }

    fn push(&self, alerts: Vec<u8>) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(self.0.push(alerts))
    }
}

fn active_target(target: pharos_collector::TargetStatus) -> ActiveTarget {
    ActiveTarget {
        discovered_labels: target.discovered_labels,
        labels: target.labels,
        scrape_pool: target.job,
        global_url: target.global_url,
        scrape_url: target.url,
        interval: target.interval,
        timeout: target.timeout,
        last_scrape: target.last_scrape.map(|last| Scrape {
            time_ms: last.unix_ms,
            took: last.duration,
            error: last.error,
        }),
    }
}
