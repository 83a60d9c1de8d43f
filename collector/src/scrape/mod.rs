//! Scraping of configured targets, as Prometheus does it.

mod config;
mod relabel;
mod series;
mod target;
mod target_loop;

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use pharos_model::Labels;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use self::config::{ScrapeConfig, ScrapeConfigError};
use self::{
    config::{Job, TargetGroup},
    target::{Target, targets_of},
    target_loop::TargetLoop,
};
use crate::intake::Intake;

/// How often files with targets are looked at.
const FILE_CHECK: Duration = Duration::from_secs(2);

/// How a target does, for `/api/v1/targets`.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetStatus {
    pub job: String,
    pub url: String,
    pub labels: Labels,
    /// As they were before relabelling.
    pub discovered_labels: Labels,
    pub interval: Duration,
    pub timeout: Duration,
    pub last_scrape: Option<LastScrape>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct LastScrape {
    pub unix_ms: i64,
    pub duration: Duration,
    /// Why it failed; `None` when the target is up.
    pub error: Option<String>,
}

/// The targets that are scraped now, with how they do.
#[derive(Clone, Default)]
pub(crate) struct Targets(Arc<Mutex<BTreeMap<TargetKey, TargetStatus>>>);

/// Job, URL, labels.
type TargetKey = (String, String, Labels);

impl Targets {
    pub(crate) fn snapshot(&self) -> Vec<TargetStatus> {
        self.0.lock().values().cloned().collect()
    }

    fn add(&self, job: &Job, target: &Target) {
        let status = TargetStatus {
            job: job.name.clone(),
            url: target.url.clone(),
            labels: target.labels.clone(),
            discovered_labels: target.discovered.clone(),
            interval: target.interval,
            timeout: target.timeout,
            last_scrape: None,
        };
        self.0.lock().insert(key(job, target), status);
    }

    fn scraped(&self, job: &Job, target: &Target, last: LastScrape) {
        if let Some(status) = self.0.lock().get_mut(&key(job, target)) {
            status.last_scrape = Some(last);
        }
    }

    fn remove(&self, job: &Job, target: &Target) {
        self.0.lock().remove(&key(job, target));
    }
}

fn key(job: &Job, target: &Target) -> TargetKey {
    (job.name.clone(), target.url.clone(), target.labels.clone())
}

/// Scrapes until `shutdown`. Every target has a task of its own: what happens to one delays no other.
pub(crate) async fn run(
    config: ScrapeConfig,
    intake: Arc<Intake>,
    targets: Targets,
    shutdown: CancellationToken,
) {
    let client =
        match reqwest::Client::builder().user_agent(concat!("Pharos/", env!("CARGO_PKG_VERSION"))).build() {
            Ok(client) => client,
            Err(error) => {
                tracing::error!("no scraping: the HTTP client could not be made: {error}");
                return;
            }
        };
    let mut jobs: Vec<RunningJob> = config.jobs.into_iter().map(RunningJob::new).collect();
    let mut loops = JoinSet::new();
    loop {
        for job in &mut jobs {
            job.update(&client, &intake, &targets, &shutdown, &mut loops);
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep(FILE_CHECK) => {}
        }
        while loops.try_join_next().is_some() {}
    }
    while loops.join_next().await.is_some() {}
}

struct RunningJob {
    job: Arc<Job>,
    /// The last good content of each file.
    files: HashMap<PathBuf, Vec<TargetGroup>>,
    running: Vec<(Target, CancellationToken)>,
    /// Said once, not at every look.
    last_fault: Option<String>,
}

impl RunningJob {
    fn new(job: Job) -> RunningJob {
        RunningJob { job: Arc::new(job), files: HashMap::new(), running: Vec::new(), last_fault: None }
    }

    /// Starts the loops of new targets and ends those of targets that are gone.
    fn update(
        &mut self,
        client: &reqwest::Client,
        intake: &Arc<Intake>,
        targets: &Targets,
        shutdown: &CancellationToken,
        loops: &mut JoinSet<()>,
    ) {
        let mut groups = self.job.static_groups.clone();
        let mut fault = self.read_files();
        groups.extend(self.files.values().flatten().cloned());
        match targets_of(&self.job, &groups) {
            Ok(wanted) => {
                self.running.retain(|(target, gone)| {
                    let stays = wanted.contains(target);
                    if !stays {
                        targets.remove(&self.job, target);
                        gone.cancel();
                    }
                    stays
                });
                for target in wanted {
                    if self.running.iter().any(|(known, _)| *known == target) {
                        continue;
                    }
                    let gone = CancellationToken::new();
                    targets.add(&self.job, &target);
                    let target_loop = TargetLoop::new(
                        self.job.clone(),
                        target.clone(),
                        client.clone(),
                        intake.clone(),
                        targets.clone(),
                    );
                    loops.spawn(target_loop.run(gone.clone(), shutdown.clone()));
                    self.running.push((target, gone));
                }
            }
            Err(message) => fault = Some(message),
        }
        if fault != self.last_fault {
            if let Some(fault) = &fault {
                tracing::warn!(job = self.job.name, "targets: {fault}");
            }
            self.last_fault = fault;
        }
    }

    /// A file that cannot be read keeps what it said before; one that is gone says nothing any more.
    fn read_files(&mut self) -> Option<String> {
        let mut fault = None;
        let paths: Vec<PathBuf> = self.job.files.iter().flat_map(|pattern| expand(pattern)).collect();
        self.files.retain(|path, _| paths.contains(path));
        for path in paths {
            match read_groups(&path) {
                Ok(groups) => drop(self.files.insert(path, groups)),
                Err(error) => fault = Some(format!("{}: {error}", path.display())),
            }
        }
        fault
    }
}

fn read_groups(path: &Path) -> Result<Vec<TargetGroup>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    serde_saphyr::from_str(&text).map_err(|error| error.to_string())
}

/// Existing files that `pattern` names; `*` may stand in its last part, as in Prometheus.
fn expand(pattern: &Path) -> Vec<PathBuf> {
    let name = pattern.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let Some((front, back)) = name.split_once('*') else {
        return if pattern.exists() { vec![pattern.to_path_buf()] } else { Vec::new() };
    };
    let folder = pattern.parent().unwrap_or(Path::new("."));
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.len() >= front.len() + back.len() && name.starts_with(front) && name.ends_with(back)
        })
        .map(|entry| entry.path())
        .collect();
    files.sort();
    files
}

#[cfg(test)]
mod tests;
