use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use pharos_model::PromDuration;
use serde::{Deserialize, Deserializer, de::Error};

use super::relabel::Relabel;

/// The part of Prometheus' configuration that says what to scrape: `global` and `scrape_configs`.
#[derive(Clone, Debug, Default)]
pub struct ScrapeConfig {
    pub(super) jobs: Vec<Job>,
}

/// A scrape configuration cannot be used; the message says what is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("scrape configuration: {0}")]
pub struct ScrapeConfigError(String);

impl ScrapeConfig {
    /// Reads YAML (or JSON) with the keys `global` and `scrape_configs`. Relative paths in `file_sd_configs` are
    /// relative to `base`.
    pub fn parse(yaml: &str, base: &std::path::Path) -> Result<ScrapeConfig, ScrapeConfigError> {
        let file: ConfigFile =
            serde_saphyr::from_str(yaml).map_err(|error| ScrapeConfigError(error.to_string()))?;
        let mut jobs = Vec::with_capacity(file.scrape_configs.len());
        for config in file.scrape_configs {
            let name = config.job_name.clone();
            let job = config.resolve(&file.global, base);
            let job = job.map_err(|fault| ScrapeConfigError(format!("job {name:?}: {fault}")))?;
            if jobs.iter().any(|known: &Job| known.name == job.name) {
                return Err(ScrapeConfigError(format!("job {name:?} occurs twice")));
            }
            jobs.push(job);
        }
        Ok(ScrapeConfig { jobs })
    }

    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    #[serde(default)]
    global: Global,
    #[serde(default)]
    scrape_configs: Vec<JobConfig>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Global {
    scrape_interval: PromDuration,
    scrape_timeout: Option<PromDuration>,
    #[serde(rename = "evaluation_interval")]
    _evaluation_interval: serde::de::IgnoredAny,
    #[serde(rename = "rule_query_offset")]
    _rule_query_offset: serde::de::IgnoredAny,
    #[serde(rename = "external_labels")]
    _external_labels: serde::de::IgnoredAny,
    body_size_limit: Size,
    sample_limit: usize,
    label_limit: usize,
    label_name_length_limit: usize,
    label_value_length_limit: usize,
    target_limit: usize,
}

impl Default for Global {
    fn default() -> Global {
        Global {
            scrape_interval: PromDuration(Duration::from_secs(60)),
            scrape_timeout: None,
            _evaluation_interval: serde::de::IgnoredAny,
            _rule_query_offset: serde::de::IgnoredAny,
            _external_labels: serde::de::IgnoredAny,
            body_size_limit: Size(0),
            sample_limit: 0,
            label_limit: 0,
            label_name_length_limit: 0,
            label_value_length_limit: 0,
            target_limit: 0,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JobConfig {
    job_name: String,
    scrape_interval: Option<PromDuration>,
    scrape_timeout: Option<PromDuration>,
    #[serde(default = "default_path")]
    metrics_path: String,
    #[serde(default)]
    scheme: Scheme,
    #[serde(default)]
    params: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    honor_labels: bool,
    #[serde(default = "yes")]
    honor_timestamps: bool,
    #[serde(default)]
    track_timestamps_staleness: bool,
    #[serde(default)]
    static_configs: Vec<TargetGroup>,
    #[serde(default)]
    file_sd_configs: Vec<FileSdConfig>,
    #[serde(default)]
    relabel_configs: Vec<Relabel>,
    #[serde(default)]
    metric_relabel_configs: Vec<Relabel>,
    body_size_limit: Option<Size>,
    sample_limit: Option<usize>,
    label_limit: Option<usize>,
    label_name_length_limit: Option<usize>,
    label_value_length_limit: Option<usize>,
    target_limit: Option<usize>,
}

fn default_path() -> String {
    "/metrics".into()
}

fn yes() -> bool {
    true
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Scheme {
    #[default]
    Http,
}

/// Targets that share labels: an entry of `static_configs`, or of a file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TargetGroup {
    pub(super) targets: Vec<String>,
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileSdConfig {
    files: Vec<PathBuf>,
    /// Taken for compatibility: files are looked at every few seconds anyway.
    #[serde(default)]
    #[expect(dead_code, reason = "part of the format")]
    refresh_interval: Option<PromDuration>,
}

/// A job with every default filled in. A limit of 0 is none.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) name: String,
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
    pub(super) metrics_path: String,
    pub(super) params: BTreeMap<String, Vec<String>>,
    pub(super) honor_labels: bool,
    pub(super) honor_timestamps: bool,
    pub(super) track_timestamps_staleness: bool,
    pub(super) static_groups: Vec<TargetGroup>,
    /// May hold `*` in the last part of the path.
    pub(super) files: Vec<PathBuf>,
    pub(super) relabel: Vec<Relabel>,
    pub(super) metric_relabel: Vec<Relabel>,
    pub(super) target_limit: usize,
    pub(super) limits: SeriesLimits,
}

/// Per scrape; a breach fails the whole scrape.
#[derive(Clone, Copy, Debug)]
pub(super) struct SeriesLimits {
    pub(super) body_bytes: usize,
    pub(super) samples: usize,
    pub(super) labels: usize,
    pub(super) label_name_bytes: usize,
    pub(super) label_value_bytes: usize,
}

/// A scrape's body is never read further than this, whatever the configuration says.
const MAX_BODY_BYTES: usize = 256 << 20;

impl JobConfig {
    fn resolve(self, global: &Global, base: &std::path::Path) -> Result<Job, String> {
        let interval = self.scrape_interval.unwrap_or(global.scrape_interval).0;
        if interval.is_zero() {
            return Err("scrape_interval is 0".into());
        }
        let Scheme::Http = self.scheme;
        let default_timeout = Duration::from_secs(10).min(interval);
        let timeout = match self.scrape_timeout.or(global.scrape_timeout) {
            Some(PromDuration(timeout)) if timeout > interval && self.scrape_timeout.is_some() => {
                return Err("scrape_timeout is longer than scrape_interval".into());
            }
            Some(PromDuration(timeout)) => timeout.min(interval),
            None => default_timeout,
        };
        for rule in self.relabel_configs.iter().chain(&self.metric_relabel_configs) {
            rule.check()?;
        }
        if self.job_name.is_empty() {
            return Err("job_name is empty".into());
        }
        let body_bytes = match self.body_size_limit.as_ref().unwrap_or(&global.body_size_limit).0 {
            0 => MAX_BODY_BYTES,
            limit => limit.min(MAX_BODY_BYTES),
        };
        Ok(Job {
            name: self.job_name,
            interval,
            timeout,
            metrics_path: self.metrics_path,
            params: self.params,
            honor_labels: self.honor_labels,
            honor_timestamps: self.honor_timestamps,
            track_timestamps_staleness: self.track_timestamps_staleness,
            static_groups: self.static_configs,
            files: self
                .file_sd_configs
                .into_iter()
                .flat_map(|sd| sd.files)
                .map(|file| base.join(file))
                .collect(),
            relabel: self.relabel_configs,
            metric_relabel: self.metric_relabel_configs,
            target_limit: self.target_limit.unwrap_or(global.target_limit),
            limits: SeriesLimits {
                body_bytes,
                samples: self.sample_limit.unwrap_or(global.sample_limit),
                labels: self.label_limit.unwrap_or(global.label_limit),
                label_name_bytes: self.label_name_length_limit.unwrap_or(global.label_name_length_limit),
                label_value_bytes: self.label_value_length_limit.unwrap_or(global.label_value_length_limit),
            },
        })
    }
}

/// A size as Prometheus writes it, units of 1024: `10MB`, `1GiB`; 0 is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Size(usize);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Size, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let shift = match unit.trim_end_matches("iB").trim_end_matches('B') {
            "" => Some(0),
            "K" => Some(10),
            "M" => Some(20),
            "G" => Some(30),
            _ => None,
        };
        let size = shift.and_then(|shift| number.parse::<usize>().ok()?.checked_mul(1 << shift));
        size.map(Size).ok_or_else(|| D::Error::custom(format!("{text:?} is no size such as 10MB")))
    }
}
