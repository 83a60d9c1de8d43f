//! What only the whole process knows, lent to the query APIs by the server.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use pharos_model::{Labels, MetricMetadata, UnixNanos};
use serde::Serialize;

/// The process around the engine. Everything has a default, so that an engine can do without one.
pub trait Host: Send + Sync {
    /// For `/api/v1/status`.
    fn status(&self) -> ServerStatus {
        ServerStatus::default()
    }

    /// For `/api/v1/targets` and what belongs to it.
    fn scrape_targets(&self) -> ScrapeTargets {
        ScrapeTargets::default()
    }

    /// What scraped targets say of their metrics.
    fn target_metadata(&self) -> Vec<TargetMetadata> {
        Vec::new()
    }

    /// The scrape configuration of this name as YAML, with defaults and without secrets.
    fn scrape_config(&self, _pool: &str) -> Option<String> {
        None
    }

    /// What each relabelling rule of the scrape configuration of this name makes of a target's labels.
    fn relabel_steps(&self, _pool: &str, _labels: Labels) -> Option<Vec<RelabelStep>> {
        None
    }

    /// The metrics of the process itself, counters and gauges, in Prometheus' text format.
    fn own_metrics(&self) -> String {
        String::new()
    }

    /// For `/api/v1/status/config` and `runtimeinfo`.
    fn configuration(&self) -> Configuration {
        Configuration::default()
    }

    /// Reads the configuration anew; the error says what is wrong with it. `POST /-/reload` waits for it.
    fn reload(&self) -> BoxFuture<'static, Result<(), String>> {
        Box::pin(async { Err("this server has no configuration to read again".to_string()) })
    }
}

/// What the server adds to `/api/v1/status`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ServerStatus {
    pub listeners: Vec<Listener>,
    pub received: Vec<Received>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Listener {
    pub name: String,
    pub address: String,
}

/// Items that came in by one protocol.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Received {
    pub protocol: String,
    pub items: u64,
    pub rejected: u64,
    pub last_unix_ms: Option<i64>,
}

/// The configuration in force.
#[derive(Clone, Debug, Default)]
pub struct Configuration {
    /// In Prometheus' form, secrets left out; `None` where there is no file.
    pub yaml: Option<String>,
    /// Whether the last attempt to read it succeeded; `None` before the first.
    pub reload_succeeded: Option<bool>,
    pub loaded_at: Option<UnixNanos>,
    /// When the last attempt failed.
    pub failed_at: Option<UnixNanos>,
    /// Put on what `/federate` gives.
    pub external_labels: Labels,
}

/// What is scraped, and what was found but is not.
#[derive(Clone, Debug, Default)]
pub struct ScrapeTargets {
    pub active: Vec<ActiveTarget>,
    pub dropped: Vec<DroppedTarget>,
    /// By scrape pool; the dropped targets themselves may be too many to keep.
    pub dropped_counts: BTreeMap<String, usize>,
    pub pools: Vec<String>,
}

/// A target that is scraped.
#[derive(Clone, Debug)]
pub struct ActiveTarget {
    /// Before relabelling.
    pub discovered_labels: Labels,
    pub labels: Labels,
    /// The name of its scrape configuration.
    pub scrape_pool: String,
    pub scrape_url: String,
    /// The URL as other machines reach it.
    pub global_url: String,
    pub interval: Duration,
    pub timeout: Duration,
    pub last_scrape: Option<Scrape>,
}

#[derive(Clone, Debug)]
pub struct Scrape {
    pub time_ms: i64,
    pub took: Duration,
    /// Why it failed; `None` when the target is up.
    pub error: Option<String>,
}

/// What one target says of its metrics.
#[derive(Clone, Debug)]
pub struct TargetMetadata {
    /// Of the target, after relabelling.
    pub labels: Labels,
    pub families: Arc<Vec<MetricMetadata>>,
}

/// One rule of a scrape configuration, and what is left of a target after it and those before it.
#[derive(Clone, Debug)]
pub struct RelabelStep {
    /// With the configuration's keys.
    pub rule: serde_json::Value,
    /// Empty once a rule dropped the target.
    pub output: Labels,
    pub keep: bool,
}

/// A target that relabelling dropped.
#[derive(Clone, Debug)]
pub struct DroppedTarget {
    pub discovered_labels: Labels,
    pub scrape_pool: String,
}
