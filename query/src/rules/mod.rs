//! Recording and alerting rules from Prometheus' rule files.
//!
//! [`Rules`] reads the files, evaluates each group on its own schedule, stores what the rules give beside the samples
//! that were sent, and pushes alerts to Alertmanagers. Reading is all or nothing: a fault in any file leaves what
//! runs as it is.

mod alert;
mod file;
mod group;
mod notify;
mod queries;
mod rule;
mod template;
#[cfg(test)]
mod tests;

pub use file::RuleError;
pub use notify::{Alertmanager, Alertmanagers, NotifierCounts};

pub(crate) use alert::Alert;
pub(crate) use file::RuleKind;
pub(crate) use group::Group;
pub(crate) use rule::{Rule, RuleState};
pub(crate) use template::function_names as template_functions;

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use parking_lot::RwLock;
use pharos_model::{Labels, UnixNanos};
use pharos_promql::Features;
use pharos_storage::Storage;
use tokio::{sync::Mutex, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::EngineConfig;
use file::{matching_files, read_groups};
use group::{Tools, end_series};
use queries::Queries;
use rule::Shared;

/// What a configuration says of rules and alerts.
#[derive(Clone, Debug)]
pub struct RuleSettings {
    /// Paths, whose last part may hold `*`.
    pub files: Vec<PathBuf>,
    /// Where relative paths start.
    pub base: PathBuf,
    /// Of groups that name none.
    pub evaluation_interval: Duration,
    pub query_offset: Duration,
    /// For templates, and on alerts that are pushed.
    pub external_labels: Labels,
    /// Where a browser finds this server; links in alerts begin with it.
    pub external_url: String,
}

impl Default for RuleSettings {
    fn default() -> RuleSettings {
        RuleSettings {
            files: Vec::new(),
            base: PathBuf::new(),
            evaluation_interval: Duration::from_secs(60),
            query_offset: Duration::ZERO,
            external_labels: Labels::empty(),
            external_url: String::new(),
        }
    }
}

/// What the rules did since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuleCounts {
    pub evaluations: u64,
    pub failures: u64,
    pub alerts: NotifierCounts,
}

/// The rules that run. A handle: clones share everything.
#[derive(Clone)]
pub struct Rules(Arc<Inner>);

struct Inner {
    tools: Tools,
    groups: RwLock<Vec<Arc<Group>>>,
    /// Held while a configuration is put in force.
    running: Mutex<Running>,
}

#[derive(Default)]
struct Running {
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
    notifier: Option<(CancellationToken, JoinHandle<()>)>,
    has_begun: bool,
}

impl Rules {
    pub(crate) fn new(storage: Storage, config: &EngineConfig) -> Rules {
        let queries = Queries::new(storage.clone(), config);
        let tools = Tools::new(storage, queries);
        Rules(Arc::new(Inner { tools, groups: RwLock::default(), running: Mutex::default() }))
    }

    /// Puts a configuration in force. Groups that it still has keep their state; series of rules that are gone end.
    ///
    /// # Errors
    /// All faults of all files. What ran before runs on.
    pub async fn apply(&self, settings: &RuleSettings) -> Result<(), Vec<RuleError>> {
        let groups = load(settings, &self.0.tools.queries.features)?;
        let mut running = self.0.running.lock().await;
        self.stop_groups(&mut running).await;
        self.replace_groups(groups, !running.has_begun).await;
        running.has_begun = true;
        running.stop = CancellationToken::new();
        for group in self.groups() {
            let run = group.run(self.0.tools.clone(), running.stop.clone());
            running.tasks.push(tokio::spawn(run));
        }
        running.notifier.get_or_insert_with(|| {
            let stop = CancellationToken::new();
            let task = tokio::spawn(self.0.tools.notifier.clone().run(stop.clone()));
            (stop, task)
        });
        Ok(())
    }

    /// Ends all evaluation and sending. Alerts' state stays in the storage.
    pub async fn stop(&self) {
        let mut running = self.0.running.lock().await;
        self.stop_groups(&mut running).await;
        if let Some((stop, task)) = running.notifier.take() {
            stop.cancel();
            let _ = task.await;
        }
    }

    /// What was evaluated and pushed since the start.
    pub fn counts(&self) -> RuleCounts {
        let Tools { evaluations, failures, notifier, .. } = &self.0.tools;
        RuleCounts {
            evaluations: evaluations.load(Ordering::Relaxed),
            failures: failures.load(Ordering::Relaxed),
            alerts: notifier.counts(),
        }
    }

    pub(crate) fn groups(&self) -> Vec<Arc<Group>> {
        self.0.groups.read().clone()
    }

    /// Says who is told of alerts; nobody is before.
    pub fn set_alertmanagers(&self, alertmanagers: impl Alertmanagers + 'static) {
        self.0.tools.notifier.set_alertmanagers(Arc::new(alertmanagers));
    }

    pub(crate) fn alertmanagers(&self) -> Arc<dyn Alertmanagers> {
        self.0.tools.notifier.alertmanagers()
    }

    async fn stop_groups(&self, running: &mut Running) {
        running.stop.cancel();
        for task in running.tasks.drain(..) {
            let _ = task.await;
        }
    }

    /// The groups run no more while this goes on.
    async fn replace_groups(&self, groups: Vec<Arc<Group>>, is_first: bool) {
        let mut earlier = self.groups();
        for group in &groups {
            let same =
                |known: &Arc<Group>| known.spec.file == group.spec.file && known.spec.name == group.spec.name;
            match earlier.iter().position(same) {
                Some(at) => group.adopt(&earlier.remove(at)),
                // Only at a start may the storage know more than we do.
                None if !is_first => group.begin_fresh(),
                None => {}
            }
        }
        let ended: BTreeSet<Labels> = earlier.iter().flat_map(|group| group.written()).collect();
        end_series(&self.0.tools.storage, ended, UnixNanos::now().millis()).await;
        *self.0.groups.write() = groups;
    }
}

/// Reads all files; returns how many rules are in them, or all that is wrong. Experimental parts of PromQL count as
/// good: whether they are switched on is the server's business.
pub fn check_rule_files(files: &[PathBuf]) -> Result<usize, Vec<RuleError>> {
    let settings = RuleSettings { files: files.to_vec(), ..RuleSettings::default() };
    let groups = load(&settings, &Features::ALL)?;
    Ok(groups.iter().map(|group| group.rules.len()).sum())
}

fn load(settings: &RuleSettings, features: &Features) -> Result<Vec<Arc<Group>>, Vec<RuleError>> {
    let shared = Arc::new(Shared {
        external_labels: settings.external_labels.clone(),
        external_url: settings.external_url.trim_end_matches('/').to_string(),
    });
    let files = matching_files(&settings.files, &settings.base).map_err(|error| vec![error])?;
    let (mut groups, mut errors) = (Vec::new(), Vec::new());
    for file in files {
        match read_groups(&file, features) {
            Ok(specs) => groups.extend(specs.into_iter().map(|spec| {
                let (interval, offset) = (settings.evaluation_interval, settings.query_offset);
                Arc::new(Group::new(spec, interval, offset, shared.clone()))
            })),
            Err(faults) => errors.extend(faults),
        }
    }
    if errors.is_empty() { Ok(groups) } else { Err(errors) }
}
