//! Prometheus' configuration of scraping, with its defaults and its checks.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use pharos_model::{Labels, PromDuration};
use serde::{Deserialize, Deserializer, de::Error};

use super::{
    discovery::{self, DiscoveryConfig, TargetGroup},
    http_config::{HttpConfig, with_http_keys},
    protocol::{Escaping, Protocol, Validation},
    relabel::{Relabel, RelabelStep, relabel_steps},
};
use crate::otlp::OtlpConfig;

/// The part of Prometheus' configuration that says what comes in: `global`, `scrape_configs` and `otlp`.
#[derive(Clone, Debug, Default)]
pub struct ScrapeConfig {
    pub(super) jobs: Vec<Job>,
    pub(crate) otlp: OtlpConfig,
    /// Each job as it was written, by its name.
    documents: Arc<BTreeMap<String, serde_json::Value>>,
}

/// A scrape configuration cannot be used; the message says what is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("scrape configuration: {0}")]
pub struct ScrapeConfigError(String);

impl ScrapeConfig {
    /// Reads YAML (or JSON) with the keys `global`, `scrape_configs`, `scrape_config_files` and `otlp`. Relative paths
    /// in it are relative to `base`.
    pub fn parse(yaml: &str, base: &Path) -> Result<ScrapeConfig, ScrapeConfigError> {
        let mut file: ConfigFile = from_yaml(yaml).map_err(ScrapeConfigError)?;
        let mut documents = BTreeMap::new();
        keep_documents(yaml, &mut documents);
        file.global.check().map_err(|fault| ScrapeConfigError(format!("global: {fault}")))?;
        for pattern in &file.scrape_config_files {
            for path in discovery::matching_files(&base.join(pattern)) {
                let fault = |fault: String| ScrapeConfigError(format!("{}: {fault}", path.display()));
                let text = std::fs::read_to_string(&path).map_err(|error| fault(error.to_string()))?;
                keep_documents(&text, &mut documents);
                file.scrape_configs
                    .extend(from_yaml::<ScrapeConfigFile>(&text).map_err(fault)?.scrape_configs);
            }
        }
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
        file.otlp.check().map_err(|fault| ScrapeConfigError(format!("otlp: {fault}")))?;
        Ok(ScrapeConfig { jobs, otlp: file.otlp, documents: Arc::new(documents) })
    }

    /// The job of this name as it was written, secrets among it.
    pub fn document(&self, job: &str) -> Option<&serde_json::Value> {
        self.documents.get(job)
    }

    /// What each rule of the job's `relabel_configs` makes of a target's labels; `None` without such a job.
    pub fn relabel_steps(&self, job: &str, labels: Labels) -> Option<Vec<RelabelStep>> {
        let job = self.jobs.iter().find(|known| known.name == job)?;
        Some(relabel_steps(&job.relabel, labels))
    }

    /// The names of the jobs.
    pub fn job_names(&self) -> impl Iterator<Item = &str> {
        self.jobs.iter().map(|job| job.name.as_str())
    }

    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }
}

/// What was read with its types before is read once more as it stands.
fn keep_documents(yaml: &str, documents: &mut BTreeMap<String, serde_json::Value>) {
    let Ok(mut file) = serde_saphyr::from_str::<serde_json::Value>(yaml) else { return };
    let Some(serde_json::Value::Array(jobs)) = file.get_mut("scrape_configs").map(serde_json::Value::take)
    else {
        return;
    };
    for job in jobs {
        if let Some(name) = job.get("job_name").and_then(serde_json::Value::as_str) {
            documents.insert(name.to_string(), job);
        }
    }
}

/// Faults are named with their place in the document.
pub(super) fn from_yaml<T: serde::de::DeserializeOwned>(yaml: &str) -> Result<T, String> {
    let mut place = String::new();
    let read = serde_saphyr::with_deserializer_from_str(yaml, |deserializer| {
        serde_path_to_error::deserialize(deserializer).map_err(|error| {
            place = error.path().to_string();
            error.into_inner()
        })
    });
    read.map_err(|error| match place.as_str() {
        "" | "." => error.to_string(),
        place => format!("{place}: {error}"),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    #[serde(default)]
    global: Global,
    #[serde(default)]
    scrape_configs: Vec<JobConfig>,
    #[serde(default)]
    scrape_config_files: Vec<PathBuf>,
    #[serde(default)]
    otlp: OtlpConfig,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScrapeConfigFile {
    #[serde(default)]
    scrape_configs: Vec<JobConfig>,
}

/// What does not concern scraping is taken, so that a whole `global` can be copied.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Global {
    scrape_interval: Option<PromDuration>,
    scrape_timeout: Option<PromDuration>,
    scrape_protocols: Option<Vec<Protocol>>,
    #[serde(rename = "evaluation_interval")]
    _evaluation_interval: serde::de::IgnoredAny,
    #[serde(rename = "rule_query_offset")]
    _rule_query_offset: serde::de::IgnoredAny,
    #[serde(rename = "query_log_file")]
    _query_log_file: serde::de::IgnoredAny,
    #[serde(rename = "external_labels")]
    _external_labels: serde::de::IgnoredAny,
    #[serde(rename = "runtime")]
    _runtime: serde::de::IgnoredAny,
    #[serde(rename = "scrape_failure_log_file")]
    _scrape_failure_log_file: serde::de::IgnoredAny,
    scrape_native_histograms: Option<bool>,
    convert_classic_histograms_to_nhcb: Option<bool>,
    always_scrape_classic_histograms: Option<bool>,
    extra_scrape_metrics: Option<bool>,
    metric_name_validation_scheme: Option<Validation>,
    metric_name_escaping_scheme: Option<Escaping>,
    body_size_limit: Size,
    sample_limit: usize,
    label_limit: usize,
    label_name_length_limit: usize,
    label_value_length_limit: usize,
    target_limit: usize,
    keep_dropped_targets: usize,
}

const DEFAULT_INTERVAL: Duration = Duration::from_secs(60);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// 0 stands for the default, as it does in Prometheus.
fn set(duration: Option<PromDuration>) -> Option<Duration> {
    duration.map(|duration| duration.0).filter(|duration| !duration.is_zero())
}

impl Global {
    fn interval(&self) -> Duration {
        set(self.scrape_interval).unwrap_or(DEFAULT_INTERVAL)
    }

    fn timeout(&self) -> Duration {
        set(self.scrape_timeout).unwrap_or(DEFAULT_TIMEOUT.min(self.interval()))
    }

    fn check(&self) -> Result<(), String> {
        if self.timeout() > self.interval() {
            return Err("scrape_timeout is longer than scrape_interval".into());
        }
        Ok(())
    }
}

with_http_keys! {
    struct JobConfig {
        job_name: String,
        scrape_interval: Option<PromDuration>,
        scrape_timeout: Option<PromDuration>,
        scrape_protocols: Option<Vec<Protocol>>,
        fallback_scrape_protocol: Option<Protocol>,
        scrape_native_histograms: Option<bool>,
        /// As Prometheus 2 called the next one.
        scrape_classic_histograms: Option<bool>,
        always_scrape_classic_histograms: Option<bool>,
        convert_classic_histograms_to_nhcb: Option<bool>,
        native_histogram_bucket_limit: Option<usize>,
        native_histogram_min_bucket_factor: Option<f64>,
        extra_scrape_metrics: Option<bool>,
        metric_name_validation_scheme: Option<Validation>,
        metric_name_escaping_scheme: Option<Escaping>,
        #[serde(rename = "scrape_failure_log_file")]
        _scrape_failure_log_file: Option<serde::de::IgnoredAny>,
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
        #[serde(default = "yes")]
        enable_compression: bool,
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
        metric_relabel_configs: Vec<Relabel>,
        body_size_limit: Option<Size>,
        sample_limit: Option<usize>,
        label_limit: Option<usize>,
        label_name_length_limit: Option<usize>,
        label_value_length_limit: Option<usize>,
        target_limit: Option<usize>,
        keep_dropped_targets: Option<usize>,
    }
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
    Https,
}

impl Scheme {
    pub(super) fn name(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

/// A job with every default filled in. A limit of 0 is none.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Job {
    pub(super) name: String,
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
    pub(super) metrics_path: String,
    pub(super) scheme: Scheme,
    pub(super) params: BTreeMap<String, Vec<String>>,
    pub(super) http: HttpConfig,
    pub(super) compression: bool,
    /// What is asked for, most wanted first.
    pub(super) protocols: Vec<Protocol>,
    /// Nobody said which.
    pub(super) protocols_are_default: bool,
    pub(super) fallback_protocol: Option<Protocol>,
    pub(super) validation: Validation,
    pub(super) escaping: Escaping,
    pub(super) histograms: Histograms,
    pub(super) extra_metrics: bool,
    pub(super) honor_labels: bool,
    pub(super) honor_timestamps: bool,
    pub(super) track_timestamps_staleness: bool,
    pub(super) static_groups: Vec<TargetGroup>,
    pub(super) discovery: Vec<DiscoveryConfig>,
    pub(super) relabel: Vec<Relabel>,
    pub(super) metric_relabel: Vec<Relabel>,
    pub(super) target_limit: usize,
    pub(super) keep_dropped_targets: usize,
    pub(super) limits: SeriesLimits,
}

/// Which of a histogram's forms are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Histograms {
    pub(super) native: bool,
    /// Also where there is a native form of it.
    pub(super) always_classic: bool,
    /// Classic ones as native ones with their bounds.
    pub(super) classic_to_custom: bool,
    /// 0 is none.
    pub(super) bucket_limit: usize,
    /// By which bounds grow at least.
    pub(super) min_bucket_factor: f64,
}

/// Per scrape; a breach fails the whole scrape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    fn resolve(mut self, global: &Global, base: &Path) -> Result<Job, String> {
        let interval = set(self.scrape_interval).unwrap_or_else(|| global.interval());
        let timeout = set(self.scrape_timeout).unwrap_or_else(|| global.timeout().min(interval));
        if timeout > interval {
            return Err("scrape_timeout is longer than scrape_interval".into());
        }
        for rule in self.relabel_configs.iter().chain(&self.metric_relabel_configs) {
            rule.check()?;
        }
        if self.job_name.is_empty() {
            return Err("job_name is empty".into());
        }
        let native = self.scrape_native_histograms.or(global.scrape_native_histograms).unwrap_or(false);
        let asked = self.scrape_protocols.take().or_else(|| global.scrape_protocols.clone());
        if let Some(protocols) = &asked {
            if protocols.is_empty() {
                return Err("scrape_protocols is empty".into());
            }
            if let Some(twice) =
                protocols.iter().enumerate().find(|(at, one)| protocols.iter().take(*at).any(|p| p == *one))
            {
                return Err(format!("scrape_protocols has {} twice", twice.1.name()));
            }
        }
        let validation =
            self.metric_name_validation_scheme.or(global.metric_name_validation_scheme).unwrap_or_default();
        let escaping = match self.metric_name_escaping_scheme.or(global.metric_name_escaping_scheme) {
            Some(Escaping::AllowUtf8) if validation == Validation::Legacy => {
                return Err("metric_name_escaping_scheme allow-utf-8 needs the validation scheme utf8".into());
            }
            Some(escaping) => escaping,
            None if validation == Validation::Legacy => Escaping::Underscores,
            None => Escaping::AllowUtf8,
        };
        let body_bytes = match self.body_size_limit.as_ref().unwrap_or(&global.body_size_limit).0 {
            0 => MAX_BODY_BYTES,
            limit => limit.min(MAX_BODY_BYTES),
        };
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
        Ok(Job {
            name: self.job_name,
            interval,
            timeout,
            metrics_path: self.metrics_path,
            scheme: self.scheme,
            params: self.params,
            http,
            compression: self.enable_compression,
            protocols_are_default: asked.is_none(),
            protocols: asked.unwrap_or_else(|| Protocol::defaults(native)),
            fallback_protocol: self.fallback_scrape_protocol,
            validation,
            escaping,
            histograms: Histograms {
                native,
                always_classic: self
                    .always_scrape_classic_histograms
                    .or(self.scrape_classic_histograms)
                    .or(global.always_scrape_classic_histograms)
                    .unwrap_or(false),
                classic_to_custom: self
                    .convert_classic_histograms_to_nhcb
                    .or(global.convert_classic_histograms_to_nhcb)
                    .unwrap_or(false),
                bucket_limit: self.native_histogram_bucket_limit.unwrap_or(0),
                min_bucket_factor: self.native_histogram_min_bucket_factor.unwrap_or(0.0),
            },
            extra_metrics: self.extra_scrape_metrics.or(global.extra_scrape_metrics).unwrap_or(false),
            honor_labels: self.honor_labels,
            honor_timestamps: self.honor_timestamps,
            track_timestamps_staleness: self.track_timestamps_staleness,
            static_groups: self.static_configs.into_iter().map(TargetGroup::from).collect(),
            discovery: found,
            relabel: self.relabel_configs,
            metric_relabel: self.metric_relabel_configs,
            target_limit: self.target_limit.unwrap_or(global.target_limit),
            keep_dropped_targets: self.keep_dropped_targets.unwrap_or(global.keep_dropped_targets),
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

/// A size as Prometheus writes it, units of 1024: `10MB`, `1.5GiB`; 0 is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Size(usize);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Size, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits = text.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let (number, unit) = text.split_at(digits);
        let power = match unit.trim_end_matches("iB").trim_end_matches('B') {
            "" => Some(0),
            "K" => Some(1),
            "M" => Some(2),
            "G" => Some(3),
            "T" => Some(4),
            "P" => Some(5),
            "E" => Some(6),
            _ => None,
        };
        let size = power.and_then(|power| Some(number.parse::<f64>().ok()? * 1024f64.powi(power)));
        // Beyond the limit that always holds, the exact number does not matter.
        size.map(|size| Size(size.min(1e18) as usize))
            .ok_or_else(|| D::Error::custom(format!("{text:?} is no size such as 10MB")))
    }
}
