//! Scraping of targets, configured and done as Prometheus does it.

mod alertmanagers;
mod config;
mod discovery;
mod http_client;
mod http_config;
mod oauth2;
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

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

pub(crate) use self::status::Statuses;
pub use self::{
    alertmanagers::{AlertingConfig, AlertingConfigError, Alertmanager, Alertmanagers},
    config::{ScrapeConfig, ScrapeConfigError},
    relabel::RelabelStep,
    status::{DroppedTargets, LastScrape, TargetStatus},
};
use self::{
    config::Job,
    discovery::{DiscoveryConfig, Found, TargetGroup, Teller},
    http_client::HttpClient,
    target::{Target, targets_of},
    target_loop::TargetLoop,
};
use crate::intake::Intake;

/// News of discovery that waits for the scraper.
const FOUND_AT_ONCE: usize = 256;

/// Many groups often change together.
const SETTLE: Duration = Duration::from_millis(200);

/// Scrapes until `shutdown`, by the newest configuration. Every target has a task of its own: what happens to one
/// delays no other.
pub(crate) async fn run(
    mut config: watch::Receiver<ScrapeConfig>,
    intake: Arc<Intake>,
    statuses: Statuses,
    shutdown: CancellationToken,
) {
    let (found, mut news) = mpsc::channel(FOUND_AT_ONCE);
    let mut scraper =
        Scraper { intake, statuses, shutdown, found, jobs: Vec::new(), jobs_ever: 0, loops: JoinSet::new() };
    let shutdown = scraper.shutdown.clone();
    let first = config.borrow_and_update().clone();
    scraper.apply(first);
    loop {
        let first = tokio::select! {
            () = shutdown.cancelled() => break,
            // Whoever may change it lives as long as this.
            Ok(()) = config.changed() => {
                let config = config.borrow_and_update().clone();
                scraper.apply(config);
                continue;
            }
            // We hold a sender: there is always more to come.
            first = news.recv() => first,
        };
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep(SETTLE) => {}
        }
        let mut changed = Vec::new();
        let mut next = first;
        while let Some(found) = next {
            let number = found.job;
            if scraper.job(number).is_some_and(|job| job.take(found)) {
                changed.push(number);
            }
            next = news.try_recv().ok();
        }
        scraper.update(&changed);
    }
    for job in &mut scraper.jobs {
        job.discoveries.abort_all();
    }
    while scraper.loops.join_next().await.is_some() {}
}

struct Scraper {
    intake: Arc<Intake>,
    statuses: Statuses,
    shutdown: CancellationToken,
    /// To which discovery tells.
    found: mpsc::Sender<Found>,
    jobs: Vec<RunningJob>,
    /// Jobs that there have been, by which they are numbered.
    jobs_ever: usize,
    loops: JoinSet<()>,
}

impl Scraper {
    /// Jobs that are as before go on undisturbed; what a job found goes on to hold while it is looked for in the same
    /// way; targets that are gone end.
    fn apply(&mut self, config: ScrapeConfig) {
        let mut before = std::mem::take(&mut self.jobs);
        for job in config.jobs {
            let known = before.iter().position(|known| known.job.name == job.name);
            let known = known.map(|at| before.swap_remove(at));
            let running = match known {
                Some(known) if *known.job == job => known,
                known => self.start(job, known),
            };
            self.jobs.push(running);
        }
        for mut job in before {
            job.end_targets(&self.statuses);
            self.statuses.remove_job(&job.job.name);
        }
        let numbers: Vec<usize> = self.jobs.iter().map(|job| job.number).collect();
        self.update(&numbers);
    }

    fn start(&mut self, job: Job, known: Option<RunningJob>) -> RunningJob {
        let mut running = RunningJob::new(job, self.jobs_ever);
        self.jobs_ever += 1;
        if let Some(mut known) = known {
            known.end_targets(&self.statuses);
            if known.job.discovery == running.job.discovery {
                running.number = known.number;
                running.discoveries = known.discoveries;
                running.groups = known.groups;
                return running;
            }
        }
        for (mechanism, discovery) in running.job.discovery.iter().cloned().enumerate() {
            let teller = Teller {
                job: running.number,
                mechanism,
                job_name: running.job.name.clone(),
                found: self.found.clone(),
            };
            running.discoveries.spawn(DiscoveryConfig::run(discovery, teller));
        }
        running
    }

    fn job(&mut self, number: usize) -> Option<&mut RunningJob> {
        self.jobs.iter_mut().find(|job| job.number == number)
    }

    fn update(&mut self, numbers: &[usize]) {
        for job in self.jobs.iter_mut().filter(|job| numbers.contains(&job.number)) {
            job.update(&self.intake, &self.statuses, &self.shutdown, &mut self.loops);
        }
        while self.loops.try_join_next().is_some() {}
    }
}

struct RunningJob {
    number: usize,
    job: Arc<Job>,
    /// They end with the job.
    discoveries: JoinSet<()>,
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
    fn new(job: Job, number: usize) -> RunningJob {
        RunningJob {
            number,
            client: Arc::new(HttpClient::new(job.http.clone())),
            job: Arc::new(job),
            discoveries: JoinSet::new(),
            groups: BTreeMap::new(),
            running: Vec::new(),
            target_count: Arc::default(),
            last_faults: Vec::new(),
        }
    }

    /// Those that no other job takes up end with staleness markers.
    fn end_targets(&mut self, statuses: &Statuses) {
        for (target, gone) in self.running.drain(..) {
            statuses.remove(&self.job, &target);
            gone.cancel();
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
#[cfg(test)]
mod wire_tests;

#[cfg(test)]
mod alertmanager_wire_tests;
