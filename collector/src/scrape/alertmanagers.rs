//! `alerting` of Prometheus' configuration: Alertmanagers, which are found as targets are, and how alerts get there.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    time::Duration,
};

use http::{Method, header};
use parking_lot::{Mutex, RwLock};
use pharos_model::{Labels, PromDuration};
use serde::Deserialize;
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    FOUND_AT_ONCE, chain,
    config::{Scheme, from_yaml},
    discovery::{self, ADDRESS, DiscoveryConfig, Found, TargetGroup, Teller},
    http_client::HttpClient,
    http_config::with_http_keys,
    relabel::{Relabel, relabel},
};

const ALERTS_PATH: &str = "__alerts_path__";
const SCHEME: &str = "__scheme__";
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// Of what an Alertmanager says when it takes no alerts.
const MAX_REASON_CHARS: usize = 200;

/// `alerting` cannot be used; the message says what is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("alerting: {0}")]
pub struct AlertingConfigError(String);

/// Who is told of alerts, and what is done to alerts before.
#[derive(Clone, Debug, Default)]
pub struct AlertingConfig {
    /// What was read, to tell whether two are the same.
    text: String,
    alert_relabel: Vec<Relabel>,
    sets: Vec<SetConfig>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct AlertingYaml {
    alert_relabel_configs: Vec<Relabel>,
    alertmanagers: Vec<AlertmanagerYaml>,
}

with_http_keys! {
    struct AlertmanagerYaml {
        #[serde(default)]
        scheme: Scheme,
        #[serde(default)]
        path_prefix: String,
        timeout: Option<PromDuration>,
        #[serde(default, rename = "api_version")]
        _api_version: ApiVersion,
        #[serde(default)]
        static_configs: Vec<discovery::StaticConfig>,
        #[serde(default)]
        file_sd_configs: Vec<discovery::FileSdConfig>,
        #[serde(default)]
        http_sd_configs: Vec<discovery::HttpSdConfig>,
        #[serde(default)]
        dns_sd_configs: Vec<discovery::DnsSdConfig>,
        #[cfg(feature = "kubernetes_sd")]
        #[serde(default)]
        kubernetes_sd_configs: Vec<discovery::KubernetesSdConfig>,
        #[serde(default)]
        relabel_configs: Vec<Relabel>,
        #[serde(default)]
        alert_relabel_configs: Vec<Relabel>,
    }
}

/// The only one that Prometheus 3 and Alertmanager still have.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::scrape) enum ApiVersion {
    #[default]
    V2,
}

/// One entry of `alertmanagers`.
#[derive(Clone, Debug)]
struct SetConfig {
    scheme: Scheme,
    alerts_path: String,
    timeout: Duration,
    http: super::http_config::HttpConfig,
    static_groups: Vec<TargetGroup>,
    discovery: Vec<DiscoveryConfig>,
    relabel: Vec<Relabel>,
    alert_relabel: Vec<Relabel>,
}

impl AlertingConfig {
    /// Reads YAML (or JSON) with the keys of `alerting`. Relative paths in it are relative to `base`.
    pub fn parse(yaml: &str, base: &Path) -> Result<AlertingConfig, AlertingConfigError> {
        let yaml_config: AlertingYaml = from_yaml(yaml).map_err(AlertingConfigError)?;
        let checked = |rules: &[Relabel]| rules.iter().try_for_each(Relabel::check);
        checked(&yaml_config.alert_relabel_configs).map_err(AlertingConfigError)?;
        let mut sets = Vec::new();
        for (number, config) in yaml_config.alertmanagers.into_iter().enumerate() {
            let set = config.resolve(base);
            sets.push(set.map_err(|fault| AlertingConfigError(format!("alertmanagers[{number}]: {fault}")))?);
        }
        Ok(AlertingConfig { text: yaml.to_string(), alert_relabel: yaml_config.alert_relabel_configs, sets })
    }
}

impl AlertmanagerYaml {
    fn resolve(mut self, base: &Path) -> Result<SetConfig, String> {
        for rule in self.relabel_configs.iter().chain(&self.alert_relabel_configs) {
            rule.check()?;
        }
        let http = self.take_http(base)?;
        let mut found = Vec::new();
        for config in self.file_sd_configs {
            found.push(config.resolve(base)?);
        }
        for config in self.http_sd_configs {
            found.push(config.resolve(base)?);
        }
        for config in self.dns_sd_configs {
            found.push(config.resolve()?);
        }
        #[cfg(feature = "kubernetes_sd")]
        for config in self.kubernetes_sd_configs {
            found.push(config.resolve(base)?);
        }
        let prefix = self.path_prefix.trim_matches('/');
        let separator = if prefix.is_empty() { "" } else { "/" };
        let set = SetConfig {
            scheme: self.scheme,
            alerts_path: format!("{separator}{prefix}/api/v2/alerts"),
            timeout: self.timeout.map_or(DEFAULT_TIMEOUT, |timeout| timeout.0),
            http,
            static_groups: self.static_configs.into_iter().map(TargetGroup::from).collect(),
            discovery: found,
            relabel: self.relabel_configs,
            alert_relabel: self.alert_relabel_configs,
        };
        for target in set.static_groups.iter().flat_map(|group| &group.targets) {
            // Without relabelling, which may make anything of them, they must be addresses.
            if set.relabel.is_empty() {
                set.url_of(&set.labels_of(target, &BTreeMap::new()))?;
            }
        }
        Ok(set)
    }
}

impl SetConfig {
    fn labels_of(&self, own: &BTreeMap<String, String>, group: &BTreeMap<String, String>) -> Labels {
        let mut labels =
            Labels::from_pairs(group.iter().chain(own).map(|(name, value)| (name.as_str(), value.as_str())));
        labels.set(SCHEME, self.scheme.name());
        labels.set(ALERTS_PATH, &*self.alerts_path);
        labels
    }

    fn url_of(&self, labels: &Labels) -> Result<String, String> {
        let address = labels.get(ADDRESS);
        if address.is_empty() || address.contains('/') {
            return Err(format!("{address:?} is no host:port"));
        }
        let (scheme, path) = (labels.get(SCHEME), labels.get(ALERTS_PATH));
        let url = format!("{scheme}://{address}/{}", path.trim_start_matches('/'));
        match reqwest::Url::parse(&url) {
            Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(url.to_string()),
            Ok(_) => Err(format!("{url:?}: the scheme must be http or https")),
            Err(error) => Err(format!("{address:?} makes no URL: {error}")),
        }
    }

    /// The URLs of the Alertmanagers in these groups, and of those that relabelling drops.
    fn urls<'g>(
        &self,
        groups: impl Iterator<Item = &'g TargetGroup>,
    ) -> (BTreeSet<String>, BTreeSet<String>) {
        let (mut active, mut dropped) = (BTreeSet::new(), BTreeSet::new());
        for group in groups {
            for own in &group.targets {
                let found = self.labels_of(own, &group.labels);
                let mut labels = found.clone();
                let (kept, labels) = match relabel(&self.relabel, &mut labels) {
                    true => (&mut active, labels),
                    false => (&mut dropped, found),
                };
                match self.url_of(&labels) {
                    Ok(url) => _ = kept.insert(url),
                    Err(fault) => tracing::warn!("alertmanager: {fault}"),
                }
            }
        }
        (active, dropped)
    }
}

/// An entry of `alertmanagers` in force.
struct Set {
    config: SetConfig,
    client: HttpClient,
    /// By mechanism and its own name for the place.
    groups: Mutex<BTreeMap<(usize, String), Vec<TargetGroup>>>,
}

/// The Alertmanagers that there are now. A handle: clones share everything.
#[derive(Clone, Default)]
pub struct Alertmanagers(Arc<RwLock<InForce>>);

#[derive(Default)]
struct InForce {
    text: String,
    alert_relabel: Arc<Vec<Relabel>>,
    sets: Vec<Arc<Set>>,
    active: Vec<Alertmanager>,
    dropped: Vec<String>,
    /// Ends with this configuration.
    _discoveries: JoinSet<()>,
}

impl Alertmanagers {
    /// Puts a configuration in force; one that is in force already goes on. Discovery runs on the current runtime.
    pub fn apply(&self, config: &AlertingConfig) {
        if self.0.read().text == config.text {
            return;
        }
        let (found, news) = mpsc::channel(FOUND_AT_ONCE);
        let mut discoveries = JoinSet::new();
        let mut sets = Vec::new();
        for (number, config) in config.sets.iter().enumerate() {
            for (mechanism, discovery) in config.discovery.iter().cloned().enumerate() {
                let job_name = "alertmanagers".to_string();
                let teller = Teller { job: number, mechanism, job_name, found: found.clone() };
                discoveries.spawn(discovery.run(teller));
            }
            let client = HttpClient::new(config.http.clone());
            sets.push(Arc::new(Set { config: config.clone(), client, groups: Mutex::default() }));
        }
        discoveries.spawn(self.clone().follow(sets.clone(), news));
        let mut in_force = self.0.write();
        *in_force = InForce {
            text: config.text.clone(),
            alert_relabel: Arc::new(config.alert_relabel.clone()),
            sets,
            _discoveries: discoveries,
            ..InForce::default()
        };
        in_force.count();
    }

    async fn follow(self, sets: Vec<Arc<Set>>, mut news: mpsc::Receiver<Found>) {
        while let Some(Found { job, source, groups }) = news.recv().await {
            let Some(set) = sets.get(job) else { continue };
            set.groups.lock().insert(source, groups);
            let mut in_force = self.0.write();
            // Another configuration may have come while we waited.
            if in_force.sets.get(job).is_some_and(|current| Arc::ptr_eq(current, set)) {
                in_force.count();
            }
        }
    }

    pub fn active(&self) -> Vec<Alertmanager> {
        self.0.read().active.clone()
    }

    /// The URLs of those that relabelling drops.
    pub fn dropped_urls(&self) -> Vec<String> {
        self.0.read().dropped.clone()
    }

    /// An alert's labels after `alert_relabel_configs`; `None` when it is dropped, or nothing is left of it.
    pub fn relabel(&self, labels: Labels) -> Option<Labels> {
        let rules = self.0.read().alert_relabel.clone();
        relabelled(&rules, labels)
    }
}

fn relabelled(rules: &[Relabel], mut labels: Labels) -> Option<Labels> {
    (relabel(rules, &mut labels) && !labels.is_empty()).then_some(labels)
}

impl InForce {
    /// Each URL once in a set.
    fn count(&mut self) {
        let (mut all, mut all_dropped) = (Vec::new(), BTreeSet::new());
        for set in &self.sets {
            let groups = set.groups.lock();
            let (active, dropped) =
                set.config.urls(set.config.static_groups.iter().chain(groups.values().flatten()));
            all.extend(active.into_iter().map(|url| Alertmanager { url, set: set.clone() }));
            all_dropped.extend(dropped);
        }
        self.active = all;
        self.dropped = all_dropped.into_iter().collect();
    }
}

/// One Alertmanager.
#[derive(Clone)]
pub struct Alertmanager {
    url: String,
    set: Arc<Set>,
}

impl Alertmanager {
    /// Where alerts are posted to.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// An alert's labels as this one is to see them; `None` when it is not to see the alert.
    pub fn relabel(&self, labels: Labels) -> Option<Labels> {
        relabelled(&self.set.config.alert_relabel, labels)
    }

    /// Posts a JSON list of alerts.
    ///
    /// # Errors
    /// It can't be reached in time, or does not take them; the message says why.
    pub async fn push(&self, alerts: Vec<u8>) -> Result<(), String> {
        let request = self
            .set
            .client
            .authorized(Method::POST, &self.url)
            .await?
            .timeout(self.set.config.timeout)
            .header(header::CONTENT_TYPE, "application/json")
            .body(alerts);
        let answer = request.send().await.map_err(|error| chain(&error.without_url()))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let reason = answer.text().await.unwrap_or_default();
        let reason: String = reason.trim().chars().take(MAX_REASON_CHARS).collect();
        Err(format!("bad response status {status}: {reason}"))
    }
}

#[cfg(test)]
mod tests {
    use axum::{Router, extract::State, http::HeaderMap, routing::post};
    use serde_json::json;

    use super::*;

    fn config(json: &serde_json::Value, base: &Path) -> AlertingConfig {
        AlertingConfig::parse(&json.to_string(), base).expect("good")
    }

    #[test]
    fn a_wrong_configuration_is_named() {
        for (alerting, words) in [
            (json!({ "alertmanagers": [{ "scheme": "gopher" }] }), "gopher"),
            (json!({ "alertmanagers": [{ "api_version": "v1" }] }), "v1"),
            (json!({ "alertmanagers": [{ "consul_sd_configs": [] }] }), "consul_sd_configs"),
            (json!({ "alertmanagers": [{ "static_configs": [{ "targets": ["http://a"] }] }] }), "http://a"),
            (json!({ "alertmanagers": [{ "file_sd_configs": [{ "files": ["a.txt"] }] }] }), "a.txt"),
            (json!({ "alert_relabel_configs": [{ "action": "hashmod" }] }), "target_label"),
            (
                json!({ "alertmanagers": [{ "basic_auth": {}, "authorization": { "credentials": "s3cret" } }] }),
                "at most one of basic_auth, authorization",
            ),
        ] {
            let error =
                AlertingConfig::parse(&alerting.to_string(), Path::new("")).expect_err(words).to_string();
            assert!(error.starts_with("alerting: ") && error.contains(words), "{error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    #[tokio::test]
    async fn alertmanagers_are_found_and_relabelled() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("managers.json");
        std::fs::write(&file, r#"[{"targets": ["c:9093"], "labels": {"zone": "east"}}]"#).expect("written");
        let alerting = json!({
            "alert_relabel_configs": [{ "regex": "replica", "action": "labeldrop" }],
            "alertmanagers": [
                {
                    "path_prefix": "/am/",
                    "static_configs": [{ "targets": ["a:9093", "b:9093", "a:9093"] }],
                    "relabel_configs": [{ "source_labels": ["__address__"], "regex": "b.*", "action": "drop" }],
                    "alert_relabel_configs": [
                        { "source_labels": ["severity"], "regex": "page", "action": "keep" },
                    ],
                },
                { "scheme": "https", "file_sd_configs": [{ "files": ["managers.json"] }] },
            ],
        });
        let config = config(&alerting, folder.path());
        let managers = Alertmanagers::default();
        managers.apply(&config);
        let urls = || managers.active().iter().map(|one| one.url().to_string()).collect::<Vec<_>>();
        // The static ones are there at once.
        assert_eq!(urls(), ["http://a:9093/am/api/v2/alerts"]);
        assert_eq!(managers.dropped_urls(), ["http://b:9093/am/api/v2/alerts"]);
        let both = ["http://a:9093/am/api/v2/alerts", "https://c:9093/api/v2/alerts"];
        let found = async {
            while urls() != both {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), found).await.expect("the file is read");
        // The same again changes nothing, not even for a moment.
        managers.apply(&config);
        assert_eq!(urls(), both);
        let alert = |severity: &str| Labels::from_pairs([("severity", severity), ("replica", "1")]);
        let seen = managers.relabel(alert("page"));
        assert_eq!(seen, Some(Labels::from_pairs([("severity", "page")])));
        assert_eq!(managers.relabel(Labels::from_pairs([("replica", "1")])), None, "nothing is left of it");
        let active = managers.active();
        assert_eq!(active[0].relabel(alert("info")), None);
        assert_eq!(active[1].relabel(alert("info")), Some(alert("info")));
        managers.apply(&AlertingConfig::default());
        assert_eq!((urls().len(), managers.dropped_urls().len()), (0, 0));
    }

    #[tokio::test]
    async fn alerts_are_posted_with_credentials_and_refusals_are_told() {
        type Seen = Arc<Mutex<Vec<(String, String)>>>;
        async fn take(
            State(seen): State<Seen>,
            headers: HeaderMap,
            body: String,
        ) -> (http::StatusCode, String) {
            let header = headers.get("authorization").and_then(|value| value.to_str().ok());
            let refused = body.contains("bad");
            seen.lock().push((header.unwrap_or_default().to_string(), body));
            match refused {
                true => (http::StatusCode::BAD_REQUEST, "no alert\n".into()),
                false => (http::StatusCode::OK, String::new()),
            }
        }
        let seen = Seen::default();
        let router = Router::new().route("/api/v2/alerts", post(take)).with_state(seen.clone());
        let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = socket.local_addr().expect("an address").to_string();
        tokio::spawn(async move { axum::serve(socket, router).await });
        let alerting = json!({ "alertmanagers": [{
            "timeout": "60s",
            "basic_auth": { "username": "u", "password": "p" },
            "static_configs": [{ "targets": [address] }],
        }] });
        let managers = Alertmanagers::default();
        managers.apply(&config(&alerting, Path::new("")));
        let manager = managers.active().remove(0);
        assert_eq!(manager.push(b"[]".to_vec()).await, Ok(()));
        let refused = manager.push(b"[bad]".to_vec()).await.expect_err("refused");
        assert_eq!(refused, "bad response status 400 Bad Request: no alert");
        assert_eq!(seen.lock()[0], ("Basic dTpw".to_string(), "[]".to_string()));
    }
}
