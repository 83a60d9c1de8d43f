//! Scraping of targets, configured and done as Prometheus does it.

mod config;
mod discovery;
mod http_client;
mod http_config;
mod protocol;
mod relabel;
mod series;
mod status;
mod target;
mod target_loop;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

pub(crate) use self::status::Statuses;
use self::{
    config::Job,
    discovery::{DiscoveryConfig, Found, TargetGroup, Teller},
    http_client::HttpClient,
    target::{Target, targets_of},
    target_loop::TargetLoop,
};
pub use self::{
    config::{ScrapeConfig, ScrapeConfigError},
    status::{DroppedTargets, LastScrape, TargetStatus},
};
use crate::intake::Intake;

/// News of discovery that waits for the scraper.
const FOUND_AT_ONCE: usize = 256;

/// Many groups often change together.
const SETTLE: Duration = Duration::from_millis(200);

/// Scrapes until `shutdown`. Every target has a task of its own: what happens to one delays no other.
pub(crate) async fn run(
    config: ScrapeConfig,
    intake: Arc<Intake>,
    statuses: Statuses,
    shutdown: CancellationToken,
) {
    let (found, mut news) = mpsc::channel(FOUND_AT_ONCE);
    let mut discoveries = JoinSet::new();
    let mut loops = JoinSet::new();
    let mut jobs: Vec<RunningJob> = Vec::new();
    for (number, job) in config.jobs.into_iter().enumerate() {
        for (mechanism, discovery) in job.discovery.iter().cloned().enumerate() {
            let teller = Teller { job: number, mechanism, job_name: job.name.clone(), found: found.clone() };
            discoveries.spawn(DiscoveryConfig::run(discovery, teller));
        }
        let mut job = RunningJob::new(job);
        job.update(&intake, &statuses, &shutdown, &mut loops);
        jobs.push(job);
    }
    loop {
        let first = tokio::select! {
            () = shutdown.cancelled() => break,
            // We hold a sender: there is always more to come.
            first = news.recv() => first,
        };
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep(SETTLE) => {}
        }
        let mut changed = vec![false; jobs.len()];
        let mut next = first;
        while let Some(found) = next {
            if let (Some(job), Some(changed)) = (jobs.get_mut(found.job), changed.get_mut(found.job)) {
                *changed |= job.take(found);
            }
            next = news.try_recv().ok();
        }
        for (job, _) in jobs.iter_mut().zip(changed).filter(|(_, changed)| *changed) {
            job.update(&intake, &statuses, &shutdown, &mut loops);
        }
        while loops.try_join_next().is_some() {}
    }
    discoveries.abort_all();
    while loops.join_next().await.is_some() {}
}

struct RunningJob {
    job: Arc<Job>,
    /// By mechanism and its own name for the place.
    groups: BTreeMap<(usize, String), Vec<TargetGroup>>,
    running: Vec<(Target, CancellationToken)>,
    /// For all targets, unless each needs its own.
    client: Arc<HttpClient>,
    /// How many there are; the loops look at it before each scrape.
    target_count: Arc<AtomicUsize>,
    /// Said once, not at every change.
    last_faults: Vec<String>,
}

impl RunningJob {
    fn new(job: Job) -> RunningJob {
        RunningJob {
            client: Arc::new(HttpClient::new(job.http.clone())),
            job: Arc::new(job),
            groups: BTreeMap::new(),
            running: Vec::new(),
            target_count: Arc::default(),
            last_faults: Vec::new(),
        }
    }

    /// Whether anything changed.
    fn take(&mut self, found: Found) -> bool {
        if found.groups.is_empty() {
            return self.groups.remove(&found.source).is_some();
        }
        if self.groups.get(&found.source) == Some(&found.groups) {
            return false;
        }
        self.groups.insert(found.source, found.groups);
        true
    }

    /// Starts the loops of new targets and ends those of targets that are gone.
    fn update(
        &mut self,
        intake: &Arc<Intake>,
        statuses: &Statuses,
        shutdown: &CancellationToken,
        loops: &mut JoinSet<()>,
    ) {
        let found =
            targets_of(&self.job, self.job.static_groups.iter().chain(self.groups.values().flatten()));
        statuses.drop_of(DroppedTargets {
            job: self.job.name.clone(),
            count: found.dropped_count,
            discovered_labels: found.dropped,
        });
        self.target_count.store(found.active.len(), Ordering::Relaxed);
        let wanted: std::collections::HashSet<&Target> = found.active.iter().collect();
        self.running.retain(|(target, gone)| {
            let stays = wanted.contains(target);
            if !stays {
                statuses.remove(&self.job, target);
                gone.cancel();
            }
            stays
        });
        let known: std::collections::HashSet<Target> =
            self.running.iter().map(|(target, _)| target.clone()).collect();
        for target in found.active.into_iter().filter(|target| !known.contains(target)) {
            let gone = CancellationToken::new();
            statuses.add(&self.job, &target);
            let client = match HttpClient::is_per_server(&self.job.http) {
                true => Arc::new(HttpClient::new(self.job.http.clone())),
                false => self.client.clone(),
            };
            let target_loop = TargetLoop::new(
                self.job.clone(),
                target.clone(),
                client,
                self.target_count.clone(),
                intake.clone(),
                statuses.clone(),
            );
            loops.spawn(target_loop.run(gone.clone(), shutdown.clone()));
            self.running.push((target, gone));
        }
        if found.faults != self.last_faults {
            for fault in &found.faults {
                tracing::warn!(job = self.job.name, "{fault}");
            }
            self.last_faults = found.faults;
        }
    }
}

/// An error with its causes: reqwest's own text leaves out the one that tells.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests;
