//! Alerts on their way to Alertmanagers: API v2, `POST /api/v2/alerts`.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use parking_lot::{Mutex, RwLock};
use pharos_model::Labels;
use serde::Serialize;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{
    alert::{Alert, AlertState},
    rule::Shared,
    template::url_query_escape,
};
use crate::prometheus::rfc3339;

/// Alerts that wait; the oldest go when there are more.
const QUEUE_CAPACITY: usize = 10_000;
/// Alerts in one request.
const BATCH: usize = 256;
/// How long alerts that wait are still sent after the end of all rules.
const DRAIN: Duration = Duration::from_secs(5);

/// Who is told of alerts: found, and reached, by the server.
pub trait Alertmanagers: Send + Sync {
    fn active(&self) -> Vec<Arc<dyn Alertmanager>>;

    /// The URLs of those that were found but are not told.
    fn dropped_urls(&self) -> Vec<String>;

    /// An alert's labels, external ones among them, as all are to see them; `None` when nobody is.
    fn relabel(&self, labels: Labels) -> Option<Labels>;
}

/// One of them.
pub trait Alertmanager: Send + Sync {
    /// Where alerts are posted to.
    fn url(&self) -> &str;

    /// An alert's labels as this one is to see them; `None` when it is not to see the alert.
    fn relabel(&self, labels: Labels) -> Option<Labels>;

    /// Posts a JSON list of alerts; the error says why they were not taken.
    fn push(&self, alerts: Vec<u8>) -> BoxFuture<'_, Result<(), String>>;
}

struct Nobody;

impl Alertmanagers for Nobody {
    fn active(&self) -> Vec<Arc<dyn Alertmanager>> {
        Vec::new()
    }

    fn dropped_urls(&self) -> Vec<String> {
        Vec::new()
    }

    fn relabel(&self, labels: Labels) -> Option<Labels> {
        Some(labels)
    }
}

/// An alert as Alertmanager takes it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Outgoing {
    labels: Labels,
    annotations: BTreeMap<String, String>,
    starts_at: String,
    ends_at: String,
    #[serde(rename = "generatorURL")]
    generator_url: String,
}

impl Outgoing {
    /// An alert that nobody repeats ends by itself at `valid_until_ms`.
    pub(crate) fn new(
        mut labels: Labels,
        alert: Alert,
        valid_until_ms: i64,
        query: &str,
        shared: &Shared,
    ) -> Outgoing {
        for (name, value) in shared.external_labels.iter() {
            if !labels.contains(name) {
                labels.set(name, value);
            }
        }
        let ends_at_ms = match (alert.state, alert.resolved_at_ms) {
            (AlertState::Inactive, Some(resolved_ms)) => resolved_ms,
            _ => valid_until_ms,
        };
        Outgoing {
            labels,
            annotations: alert.annotations,
            starts_at: rfc3339(alert.active_at_ms),
            ends_at: rfc3339(ends_at_ms),
            generator_url: format!(
                "{}/graph?g0.expr={}&g0.tab=1",
                shared.external_url,
                url_query_escape(query)
            ),
        }
    }
}

/// What became of alerts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NotifierCounts {
    /// For each Alertmanager that took them.
    pub sent: u64,
    /// For each Alertmanager that did not.
    pub failed: u64,
    /// Nobody took them: there were too many that waited, or all Alertmanagers failed.
    pub dropped: u64,
    /// That wait now.
    pub queued: u64,
    /// Alertmanagers that there are now.
    pub alertmanagers: u64,
}

/// Sends alerts in the background. A handle: clones share everything.
#[derive(Clone)]
pub(crate) struct Notifier(Arc<Inner>);

struct Inner {
    alertmanagers: RwLock<Arc<dyn Alertmanagers>>,
    queue: Mutex<VecDeque<Outgoing>>,
    arrived: Notify,
    sent: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
}

impl Default for Notifier {
    fn default() -> Notifier {
        Notifier(Arc::new(Inner {
            alertmanagers: RwLock::new(Arc::new(Nobody)),
            queue: Mutex::default(),
            arrived: Notify::default(),
            sent: AtomicU64::default(),
            failed: AtomicU64::default(),
            dropped: AtomicU64::default(),
        }))
    }
}

impl Notifier {
    pub(crate) fn set_alertmanagers(&self, alertmanagers: Arc<dyn Alertmanagers>) {
        *self.0.alertmanagers.write() = alertmanagers;
    }

    pub(crate) fn alertmanagers(&self) -> Arc<dyn Alertmanagers> {
        self.0.alertmanagers.read().clone()
    }

    pub(crate) fn counts(&self) -> NotifierCounts {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        NotifierCounts {
            sent: count(&self.0.sent),
            failed: count(&self.0.failed),
            dropped: count(&self.0.dropped),
            queued: self.0.queue.lock().len() as u64,
            alertmanagers: self.alertmanagers().active().len() as u64,
        }
    }

    /// Queues the alerts; without an Alertmanager there is nobody to tell.
    pub(crate) fn send(&self, alerts: impl Iterator<Item = Outgoing>) {
        let alertmanagers = self.alertmanagers();
        if alertmanagers.active().is_empty() {
            return;
        }
        let relabelled = alerts.filter_map(|alert| {
            let labels = alertmanagers.relabel(alert.labels)?;
            Some(Outgoing { labels, ..alert })
        });
        let mut queue = self.0.queue.lock();
        queue.extend(relabelled);
        let too_many = queue.len().saturating_sub(QUEUE_CAPACITY);
        queue.drain(..too_many);
        self.0.dropped.fetch_add(too_many as u64, Ordering::Relaxed);
        if !queue.is_empty() {
            self.0.arrived.notify_one();
        }
    }

    /// Sends until `stop`, and then for a while what still waits.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let until_stopped = async {
            loop {
                self.0.arrived.notified().await;
                self.send_queued().await;
            }
        };
        tokio::select! {
            () = until_stopped => {}
            () = stop.cancelled() => {}
        }
        let _ = tokio::time::timeout(DRAIN, self.send_queued()).await;
    }

    async fn send_queued(&self) {
        loop {
            let batch: Vec<Outgoing> = {
                let mut queue = self.0.queue.lock();
                let count = queue.len().min(BATCH);
                queue.drain(..count).collect()
            };
            if batch.is_empty() {
                return;
            }
            self.push(&batch).await;
        }
    }

    /// To every Alertmanager at once. One that fails hears of the alerts when they are sent again.
    async fn push(&self, batch: &[Outgoing]) {
        let alertmanagers = self.alertmanagers().active();
        let posts = alertmanagers.iter().map(async |alertmanager| {
            let (places, for_it): (Vec<usize>, Vec<Outgoing>) = batch
                .iter()
                .enumerate()
                .filter_map(|(place, alert)| {
                    let labels = alertmanager.relabel(alert.labels.clone())?;
                    Some((place, Outgoing { labels, ..alert.clone() }))
                })
                .unzip();
            if for_it.is_empty() {
                return (places, true);
            }
            let pushed = match serde_json::to_vec(&for_it) {
                Ok(body) => alertmanager.push(body).await,
                Err(error) => Err(error.to_string()),
            };
            let counter = if pushed.is_ok() { &self.0.sent } else { &self.0.failed };
            counter.fetch_add(for_it.len() as u64, Ordering::Relaxed);
            if let Err(error) = &pushed {
                tracing::warn!(alertmanager = alertmanager.url(), error, "alerts are not delivered");
            }
            (places, pushed.is_ok())
        });
        let (mut taken, mut missed) = (BTreeSet::new(), BTreeSet::new());
        for (places, is_taken) in futures::future::join_all(posts).await {
            if is_taken { taken.extend(places) } else { missed.extend(places) }
        }
        let dropped = missed.difference(&taken).count();
        self.0.dropped.fetch_add(dropped as u64, Ordering::Relaxed);
    }
}
