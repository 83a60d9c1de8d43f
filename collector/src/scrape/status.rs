//! How targets do: what `/api/v1/targets` tells.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use pharos_model::{Labels, MetricMetadata};

use super::{config::Job, target::Target};

/// A target that is scraped.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetStatus {
    /// The name of its scrape configuration, which relabelling may have changed in the label `job`.
    pub job: String,
    pub url: String,
    /// The URL as other machines reach it: with this machine's name instead of a loopback address.
    pub global_url: String,
    pub labels: Labels,
    /// As they were before relabelling.
    pub discovered_labels: Labels,
    pub interval: Duration,
    pub timeout: Duration,
    /// `None` until it has been scraped, while its health is unknown.
    pub last_scrape: Option<LastScrape>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct LastScrape {
    pub unix_ms: i64,
    pub duration: Duration,
    /// Why it failed; `None` when the target is up.
    pub error: Option<String>,
}

/// What relabelling dropped of a job's targets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DroppedTargets {
    pub job: String,
    pub count: usize,
    /// Of at most `keep_dropped_targets` of them.
    pub discovered_labels: Vec<Labels>,
}

/// What is scraped now, and what is not.
#[derive(Clone, Default)]
pub(crate) struct Statuses(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    active: BTreeMap<TargetKey, TargetStatus>,
    metadata: HashMap<TargetKey, Arc<Vec<MetricMetadata>>>,
    dropped: BTreeMap<String, DroppedTargets>,
}

/// Job, URL, labels.
type TargetKey = (String, String, Labels);

impl Statuses {
    pub(crate) fn active(&self) -> Vec<TargetStatus> {
        self.0.lock().active.values().cloned().collect()
    }

    pub(crate) fn dropped(&self) -> Vec<DroppedTargets> {
        self.0.lock().dropped.values().cloned().collect()
    }

    pub(crate) fn metadata(&self) -> Vec<(TargetStatus, Arc<Vec<MetricMetadata>>)> {
        let state = self.0.lock();
        let known = state.active.iter();
        known.filter_map(|(key, status)| Some((status.clone(), state.metadata.get(key)?.clone()))).collect()
    }

    pub(super) fn add(&self, job: &Job, target: &Target) {
        let status = TargetStatus {
            job: job.name.clone(),
            url: target.url.clone(),
            global_url: global_url(&target.url),
            labels: target.labels.clone(),
            discovered_labels: target.discovered.clone(),
            interval: target.interval,
            timeout: target.timeout,
            last_scrape: None,
        };
        self.0.lock().active.insert(key(job, target), status);
    }

    pub(super) fn scraped(&self, job: &Job, target: &Target, last: LastScrape) {
        if let Some(status) = self.0.lock().active.get_mut(&key(job, target)) {
            status.last_scrape = Some(last);
        }
    }

    pub(super) fn told(&self, job: &Job, target: &Target, metadata: Vec<MetricMetadata>) {
        self.0.lock().metadata.insert(key(job, target), Arc::new(metadata));
    }

    pub(super) fn remove(&self, job: &Job, target: &Target) {
        let mut state = self.0.lock();
        state.active.remove(&key(job, target));
        state.metadata.remove(&key(job, target));
    }

    pub(super) fn drop_of(&self, dropped: DroppedTargets) {
        self.0.lock().dropped.insert(dropped.job.clone(), dropped);
    }

    pub(super) fn remove_job(&self, name: &str) {
        self.0.lock().dropped.remove(name);
    }

    /// Whether something that is scraped now gives its series these labels.
    pub(super) fn has_labels(&self, labels: &Labels) -> bool {
        self.0.lock().active.values().any(|status| status.labels == *labels)
    }
}

fn key(job: &Job, target: &Target) -> TargetKey {
    (job.name.clone(), target.url.clone(), target.labels.clone())
}

fn global_url(url: &str) -> String {
    let Ok(mut parsed) = reqwest::Url::parse(url) else { return url.to_string() };
    let host = parsed.host_str().unwrap_or_default().trim_matches(['[', ']']);
    if !matches!(host, "localhost" | "127.0.0.1" | "::1") {
        return url.to_string();
    }
    let own = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match parsed.set_host(Some(own.trim())) {
        Ok(()) if !own.trim().is_empty() => parsed.to_string(),
        _ => url.to_string(),
    }
}
