//! From discovered labels to what is scraped: Prometheus' `PopulateLabels`.

use std::{
    collections::{BTreeMap, HashSet},
    hash::{Hash, Hasher},
    time::Duration,
};

use pharos_model::{Labels, PromDuration};

use super::{
    config::Job,
    discovery::{ADDRESS, TargetGroup},
    relabel::relabel,
};

/// What is scraped: a URL, how often, and the labels that its series get.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Target {
    pub(super) url: String,
    /// Without those that begin with `__`.
    pub(super) labels: Labels,
    /// As they were before relabelling.
    pub(super) discovered: Labels,
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
}

/// What became of a job's groups.
#[derive(Debug, Default)]
pub(super) struct Targets {
    pub(super) active: Vec<Target>,
    /// The labels of those that relabelling dropped.
    pub(super) dropped: Vec<Labels>,
    pub(super) dropped_count: usize,
    /// Those that cannot be scraped.
    pub(super) faults: Vec<String>,
}

/// A target that cannot be scraped costs only itself.
pub(super) fn targets_of<'a>(job: &Job, groups: impl IntoIterator<Item = &'a TargetGroup>) -> Targets {
    let mut targets = Targets::default();
    let mut known: HashSet<(String, Labels)> = HashSet::new();
    for group in groups {
        for own in &group.targets {
            let discovered = discovered_labels(job, own, &group.labels);
            match target(job, &discovered) {
                Ok(Some(target)) => {
                    if known.insert((target.url.clone(), target.labels.clone())) {
                        targets.active.push(target);
                    }
                }
                Ok(None) => {
                    targets.dropped_count += 1;
                    if job.keep_dropped_targets == 0 || targets.dropped.len() < job.keep_dropped_targets {
                        targets.dropped.push(discovered);
                    }
                }
                Err(fault) => targets.faults.push(format!(
                    "target {}: {fault}",
                    own.get(ADDRESS).map(String::as_str).unwrap_or_default()
                )),
            }
        }
    }
    targets
}

fn discovered_labels(job: &Job, own: &BTreeMap<String, String>, group: &BTreeMap<String, String>) -> Labels {
    let mut labels =
        Labels::from_pairs(group.iter().chain(own).map(|(name, value)| (name.as_str(), value.as_str())));
    let mut default = |name: &str, value: &str| {
        if !labels.contains(name) {
            labels.set(name, value);
        }
    };
    default("job", &job.name);
    default("__scheme__", job.scheme.name());
    default("__metrics_path__", &job.metrics_path);
    default("__scrape_interval__", &PromDuration(job.interval).to_string());
    default("__scrape_timeout__", &PromDuration(job.timeout).to_string());
    for (name, values) in &job.params {
        if let Some(first) = values.first() {
            default(&format!("__param_{name}"), first);
        }
    }
    labels
}

/// `None` for a target that relabelling drops.
fn target(job: &Job, discovered: &Labels) -> Result<Option<Target>, String> {
    let mut labels = discovered.clone();
    if !relabel(&job.relabel, &mut labels) {
        return Ok(None);
    }
    let address = labels.get(ADDRESS).to_string();
    if address.is_empty() {
        return Err("no address".into());
    }
    if address.contains('/') {
        return Err(format!("{address:?} is not a valid hostname"));
    }
    let duration = |name: &str| -> Result<Duration, String> {
        let text = labels.get(name);
        let duration: PromDuration = text.parse().map_err(|error| format!("{name} {text:?}: {error}"))?;
        if duration.0.is_zero() { Err(format!("{name} cannot be 0")) } else { Ok(duration.0) }
    };
    let interval = duration("__scrape_interval__")?;
    let timeout = duration("__scrape_timeout__")?;
    if timeout > interval {
        return Err(format!(
            "scrape timeout cannot be greater than scrape interval ({:?} > {:?})",
            labels.get("__scrape_timeout__"),
            labels.get("__scrape_interval__")
        ));
    }
    let scheme = labels.get("__scheme__");
    if !matches!(scheme, "http" | "https") {
        return Err(format!("scheme {scheme:?} is not http or https"));
    }
    let url = url(job, &labels).map_err(|error| format!("{address:?} makes no URL: {error}"))?;
    if !labels.contains("instance") {
        labels.set("instance", address);
    }
    let labels = labels.iter().filter(|(name, _)| !name.starts_with("__")).collect();
    Ok(Some(Target { url, labels, discovered: discovered.clone(), interval, timeout }))
}

fn url(job: &Job, labels: &Labels) -> Result<String, String> {
    let start = format!("{}://{}", labels.get("__scheme__"), labels.get(ADDRESS));
    let mut url = reqwest::Url::parse(&start).map_err(|error| error.to_string())?;
    url.set_path(labels.get("__metrics_path__"));
    // The label holds a parameter's first value; the others come from the configuration.
    let mut params: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, values) in &job.params {
        params.insert(name, values.iter().map(String::as_str).collect());
    }
    for (name, value) in
        labels.iter().filter_map(|(name, value)| Some((name.strip_prefix("__param_")?, value)))
    {
        let values = params.entry(name).or_default();
        match values.first_mut() {
            Some(first) => *first = value,
            None => values.push(value),
        }
    }
    let mut pairs =
        params.iter().flat_map(|(name, values)| values.iter().map(move |value| (*name, *value))).peekable();
    if pairs.peek().is_some() {
        url.query_pairs_mut().extend_pairs(pairs);
    }
    Ok(url.to_string())
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
