use std::{
    collections::BTreeMap,
    hash::{Hash, Hasher},
    time::Duration,
};

use pharos_model::{Labels, PromDuration};

use super::{
    config::{Job, TargetGroup},
    relabel::relabel,
};

/// What is scraped: a URL, how often, and the labels that its series get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) url: String,
    /// Without those that begin with `__`.
    pub(super) labels: Labels,
    /// As they were before relabelling.
    pub(super) discovered: Labels,
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
}

/// The targets of a job's groups after relabelling; a target that no longer has an address is dropped.
pub(super) fn targets_of(job: &Job, groups: &[TargetGroup]) -> Result<Vec<Target>, String> {
    let mut targets: Vec<Target> = Vec::new();
    for group in groups {
        for address in &group.targets {
            if let Some(target) = target(job, address, &group.labels)?
                && !targets.iter().any(|known| known.url == target.url && known.labels == target.labels)
            {
                targets.push(target);
            }
        }
    }
    if job.target_limit > 0 && targets.len() > job.target_limit {
        return Err(format!("{} targets are more than target_limit {}", targets.len(), job.target_limit));
    }
    Ok(targets)
}

fn target(job: &Job, address: &str, group: &BTreeMap<String, String>) -> Result<Option<Target>, String> {
    let mut labels = Labels::from_pairs(group.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let mut default = |name: &str, value: &str| {
        if !labels.contains(name) {
            labels.set(name, value);
        }
    };
    default("job", &job.name);
    default("__scheme__", "http");
    default("__metrics_path__", &job.metrics_path);
    default("__scrape_interval__", &milliseconds(job.interval));
    default("__scrape_timeout__", &milliseconds(job.timeout));
    for (name, values) in &job.params {
        if let Some(first) = values.first() {
            default(&format!("__param_{name}"), first);
        }
    }
    labels.set("__address__", address);
    let discovered = labels.clone();
    if !relabel(&job.relabel, &mut labels) || labels.get("__address__").is_empty() {
        return Ok(None);
    }
    let wrong = |what: &str, value: &str| format!("target {address}: {what} is {value:?}");
    let duration = |name: &str| {
        let value = labels.get(name);
        match value.parse() {
            Ok(PromDuration(duration)) if !duration.is_zero() => Ok(duration),
            _ => Err(wrong(name, value)),
        }
    };
    let interval = duration("__scrape_interval__")?;
    let timeout = duration("__scrape_timeout__")?.min(interval);
    let scheme = labels.get("__scheme__");
    if scheme != "http" {
        return Err(wrong("__scheme__", scheme));
    }
    let url = url(job, &labels).ok_or_else(|| wrong("__address__", labels.get("__address__")))?;
    if !labels.contains("instance") {
        let address = labels.get("__address__").to_string();
        labels.set("instance", address);
    }
    let labels = labels.iter().filter(|(name, _)| !name.starts_with("__")).collect();
    Ok(Some(Target { url, labels, discovered, interval, timeout }))
}

fn url(job: &Job, labels: &Labels) -> Option<String> {
    let path = labels.get("__metrics_path__");
    let slash = if path.starts_with('/') { "" } else { "/" };
    let mut url = reqwest::Url::parse(&format!("http://{}{slash}{path}", labels.get("__address__"))).ok()?;
    let from_labels: Vec<(&str, &str)> =
        labels.iter().filter_map(|(name, value)| Some((name.strip_prefix("__param_")?, value))).collect();
    // The label holds a parameter's first value; the others come from the configuration.
    let others = job
        .params
        .iter()
        .flat_map(|(name, values)| values.iter().skip(1).map(move |v| (name.as_str(), v.as_str())));
    let pairs: Vec<(&str, &str)> = from_labels.into_iter().chain(others).collect();
    if !pairs.is_empty() {
        url.query_pairs_mut().extend_pairs(pairs);
    }
    Some(url.to_string())
}

fn milliseconds(duration: Duration) -> String {
    match duration.as_millis() {
        ms if ms.is_multiple_of(1_000) => format!("{}s", ms / 1_000),
        ms => format!("{ms}ms"),
    }
}

impl Target {
    /// Where in its interval a target is scraped: spread by what it is, the same after each restart.
    pub(super) fn offset(&self) -> Duration {
        let mut hasher = std::hash::DefaultHasher::new();
        self.url.hash(&mut hasher);
        self.labels.hash(&mut hasher);
        let interval_ms = u64::try_from(self.interval.as_millis()).unwrap_or(u64::MAX).max(1);
        Duration::from_millis(hasher.finish() % interval_ms)
    }
}
