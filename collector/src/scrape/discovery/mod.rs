//! Where targets come from: each mechanism tells its groups of targets whenever they change.

mod dns;
mod file;
mod http;
#[cfg(feature = "kubernetes_sd")]
mod kubernetes;

use std::{collections::BTreeMap, path::Path};

#[cfg(test)]
pub(super) use self::dns::tests as name_server;
#[cfg(feature = "kubernetes_sd")]
pub(super) use self::kubernetes::{KubernetesSd, KubernetesSdConfig};
pub(super) use self::{
    dns::{DnsSd, DnsSdConfig},
    file::{FileSd, FileSdConfig, matching_files},
    http::{HttpSd, HttpSdConfig},
};
use serde::Deserialize;
use tokio::sync::mpsc;

/// Targets that share labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TargetGroup {
    /// Each with `__address__` and what else tells it from the others.
    pub(super) targets: Vec<BTreeMap<String, String>>,
    pub(super) labels: BTreeMap<String, String>,
}

/// A group as configurations, files and HTTP answers write it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StaticConfig {
    #[serde(default)]
    targets: Vec<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

pub(super) const ADDRESS: &str = "__address__";

impl From<StaticConfig> for TargetGroup {
    fn from(config: StaticConfig) -> TargetGroup {
        let target = |address| BTreeMap::from([(ADDRESS.to_string(), address)]);
        TargetGroup { targets: config.targets.into_iter().map(target).collect(), labels: config.labels }
    }
}

/// A mechanism of a job, but for the static one, which never changes.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum DiscoveryConfig {
    File(FileSd),
    Http(Box<HttpSd>),
    Dns(DnsSd),
    #[cfg(feature = "kubernetes_sd")]
    Kubernetes(Box<KubernetesSd>),
}

/// The groups of one source, which replace those that it told of before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The job's number, which no other gets after it.
    pub(super) job: usize,
    /// Index of the mechanism among the job's, and its own name for the place: a file, a URL, a DNS name.
    pub(super) source: (usize, String),
    pub(super) groups: Vec<TargetGroup>,
}

/// To where a mechanism tells what it found.
#[derive(Clone)]
pub(super) struct Teller {
    pub(super) job: usize,
    pub(super) mechanism: usize,
    pub(super) job_name: String,
    pub(super) found: mpsc::Sender<Found>,
}

impl Teller {
    pub(super) async fn tell(&self, source: impl Into<String>, groups: Vec<TargetGroup>) {
        let found = Found { job: self.job, source: (self.mechanism, source.into()), groups };
        // Nobody listens any more when scraping ends, which ends this too.
        let _ = self.found.send(found).await;
    }

    /// What was found before stays until there is something better.
    fn fault(&self, last: &mut Option<String>, fault: Option<String>) {
        if *last != fault {
            if let Some(fault) = &fault {
                tracing::warn!(job = self.job_name, "service discovery: {fault}");
            }
            *last = fault;
        }
    }
}

impl DiscoveryConfig {
    /// For ever: the caller drops it.
    pub(super) async fn run(self, teller: Teller) {
        match self {
            DiscoveryConfig::File(config) => config.run(teller).await,
            DiscoveryConfig::Http(config) => config.run(teller).await,
            DiscoveryConfig::Dns(config) => config.run(teller).await,
            #[cfg(feature = "kubernetes_sd")]
            DiscoveryConfig::Kubernetes(config) => config.run(teller).await,
        }
    }
}

/// Beyond this a list of targets is no list of targets.
const MAX_LIST_BYTES: usize = 64 << 20;

fn path_text(path: &Path) -> String {
    path.display().to_string()
}
