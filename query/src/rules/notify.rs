//! Alerts on their way to Alertmanagers: API v2, `POST /api/v2/alerts`.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use pharos_model::{Labels, PromDuration};
use serde::{Deserialize, Serialize};
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

/// Prometheus' `alerting`, as far as it is supported: `alertmanagers` with `static_configs`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlertingConfig {
    #[serde(default)]
    alertmanagers: Vec<AlertmanagerConfig>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AlertmanagerConfig {
    #[serde(default)]
    scheme: Scheme,
    #[serde(default)]
    path_prefix: String,
    timeout: Option<PromDuration>,
    #[serde(default)]
    api_version: ApiVersion,
    basic_auth: Option<BasicAuth>,
    authorization: Option<Authorization>,
    #[serde(default)]
    static_configs: Vec<StaticConfig>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Scheme {
    #[default]
    Http,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ApiVersion {
    #[default]
    V2,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StaticConfig {
    targets: Vec<String>,
    #[serde(default)]
    #[expect(
        dead_code,
        reason = "part of the format; labels of an Alertmanager matter to relabelling alone"
    )]
    labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BasicAuth {
    username: String,
    #[serde(default)]
    password: String,
    password_file: Option<std::path::PathBuf>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Authorization {
    #[serde(default = "bearer")]
    r#type: String,
    #[serde(default)]
    credentials: String,
    credentials_file: Option<std::path::PathBuf>,
}

fn bearer() -> String {
    "Bearer".into()
}

/// Where alerts go.
#[derive(Clone, Debug)]
pub(crate) struct Alertmanager {
    pub(crate) url: String,
    timeout: Duration,
    authorization: Option<String>,
}

impl AlertingConfig {
    /// The Alertmanagers. Fails when a file with a secret cannot be read, or an address makes no URL.
    pub(crate) fn resolve(&self, base: &std::path::Path) -> Result<Vec<Alertmanager>, String> {
        let mut found = Vec::new();
        let secret = |inline: &str, file: &Option<std::path::PathBuf>| match file {
            None => Ok(inline.to_string()),
            Some(file) => {
                let path = base.join(file);
                let text = std::fs::read_to_string(&path);
                text.map(|text| text.trim().to_string())
                    .map_err(|error| format!("alerting: {}: {error}", path.display()))
            }
        };
        for config in &self.alertmanagers {
            let Scheme::Http = config.scheme;
            let ApiVersion::V2 = config.api_version;
            let authorization = match (&config.basic_auth, &config.authorization) {
                (Some(_), Some(_)) => {
                    return Err("alerting: at most one of basic_auth and authorization must be set".into());
                }
                (Some(basic), None) => {
                    use base64::Engine as _;
                    let password = secret(&basic.password, &basic.password_file)?;
                    let pair = format!("{}:{password}", basic.username);
                    Some(format!("Basic {}", base64::prelude::BASE64_STANDARD.encode(pair)))
                }
                (None, Some(header)) => {
                    let credentials = secret(&header.credentials, &header.credentials_file)?;
                    Some(format!("{} {credentials}", header.r#type))
                }
                (None, None) => None,
            };
            let prefix = config.path_prefix.trim_matches('/');
            let prefix = if prefix.is_empty() { String::new() } else { format!("/{prefix}") };
            for target in config.static_configs.iter().flat_map(|group| &group.targets) {
                let url = format!("http://{target}{prefix}/api/v2/alerts");
                if url.parse::<axum::http::Uri>().is_err() || target.contains('/') {
                    return Err(format!("alerting: {target:?} is no host:port"));
                }
                found.push(Alertmanager {
                    url,
                    timeout: config.timeout.map_or(Duration::from_secs(10), |timeout| timeout.0),
                    authorization: authorization.clone(),
                });
            }
        }
        Ok(found)
    }
}

/// An alert as Alertmanager takes it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Outgoing {
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    starts_at: String,
    ends_at: String,
    #[serde(rename = "generatorURL")]
    generator_url: String,
}

impl Outgoing {
    /// An alert that nobody repeats ends by itself at `valid_until_ms`.
    pub(crate) fn new(
        labels: Labels,
        alert: Alert,
        valid_until_ms: i64,
        query: &str,
        shared: &Shared,
    ) -> Outgoing {
        let mut own: BTreeMap<String, String> = labels.into();
        for (name, value) in shared.external_labels.iter() {
            own.entry(name.to_string()).or_insert_with(|| value.to_string());
        }
        let ends_at_ms = match (alert.state, alert.resolved_at_ms) {
            (AlertState::Inactive, Some(resolved_ms)) => resolved_ms,
            _ => valid_until_ms,
        };
        Outgoing {
            labels: own,
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
    pub sent: u64,
    pub failed: u64,
    pub dropped: u64,
}

/// Sends alerts in the background. A handle: clones share everything.
#[derive(Clone, Default)]
pub(crate) struct Notifier(Arc<Inner>);

#[derive(Default)]
struct Inner {
    alertmanagers: RwLock<Vec<Alertmanager>>,
    queue: Mutex<VecDeque<Outgoing>>,
    arrived: Notify,
    sent: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
}

impl Notifier {
    pub(crate) fn set_alertmanagers(&self, alertmanagers: Vec<Alertmanager>) {
        *self.0.alertmanagers.write() = alertmanagers;
    }

    pub(crate) fn alertmanagers(&self) -> Vec<Alertmanager> {
        self.0.alertmanagers.read().clone()
    }

    pub(crate) fn counts(&self) -> NotifierCounts {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        NotifierCounts {
            sent: count(&self.0.sent),
            failed: count(&self.0.failed),
            dropped: count(&self.0.dropped),
        }
    }

    /// Queues the alerts; without an Alertmanager there is nobody to tell.
    pub(crate) fn send(&self, alerts: impl Iterator<Item = Outgoing>) {
        if self.0.alertmanagers.read().is_empty() {
            return;
        }
        let mut queue = self.0.queue.lock();
        queue.extend(alerts);
        let too_many = queue.len().saturating_sub(QUEUE_CAPACITY);
        queue.drain(..too_many);
        self.0.dropped.fetch_add(too_many as u64, Ordering::Relaxed);
        if !queue.is_empty() {
            self.0.arrived.notify_one();
        }
    }

    /// Sends until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let client = reqwest::Client::new();
        loop {
            tokio::select! {
                () = self.0.arrived.notified() => {}
                () = stop.cancelled() => return,
            }
            loop {
                let batch: Vec<Outgoing> = {
                    let mut queue = self.0.queue.lock();
                    let count = queue.len().min(BATCH);
                    queue.drain(..count).collect()
                };
                if batch.is_empty() {
                    break;
                }
                tokio::select! {
                    () = self.push(&client, &batch) => {}
                    () = stop.cancelled() => return,
                }
            }
        }
    }

    /// To every Alertmanager at once. One that fails hears of the alerts when they are sent again.
    async fn push(&self, client: &reqwest::Client, batch: &[Outgoing]) {
        let alertmanagers = self.alertmanagers();
        let posts = alertmanagers.iter().map(async |alertmanager| {
            let mut request = client.post(&alertmanager.url).timeout(alertmanager.timeout).json(batch);
            if let Some(authorization) = &alertmanager.authorization {
                request = request.header("authorization", authorization);
            }
            let outcome = match request.send().await {
                Ok(answer) if answer.status().is_success() => Ok(()),
                Ok(answer) => Err(answer.status().to_string()),
                Err(error) => Err(error.to_string()),
            };
            let (counter, count) = match &outcome {
                Ok(()) => (&self.0.sent, batch.len()),
                Err(_) => (&self.0.failed, batch.len()),
            };
            counter.fetch_add(count as u64, Ordering::Relaxed);
            if let Err(error) = outcome {
                tracing::warn!(alertmanager = alertmanager.url, error, "alerts are not delivered");
            }
        });
        futures::future::join_all(posts).await;
    }
}
