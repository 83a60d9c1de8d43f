//! Settings, each defined once: its flag, its environment variable, its key in the YAML file and its meaning.
//! What the command line says wins over the environment, the environment over the file, the file over the default.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use clap::Args;
use pharos_collector::AlertingConfig;
use pharos_model::PromDuration;
use pharos_query::{PromqlFeatures, RuleSettings};
use serde::Deserialize;

use crate::prometheus_config::{self, rule_settings};

/// What a person may set. `None` is "not said here".
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// Folder for the tables and the write-ahead log; made if it is missing [default: ./pharos-data]
    #[arg(long, value_name = "DIR", env = "PHAROS_DATA_DIR")]
    data_dir: Option<PathBuf>,

    /// Where the tables are, if not in the data folder: s3://bucket/prefix, gs://bucket/prefix, az://container/prefix
    /// or file:///folder. Credentials come from the environment (AWS_*, GOOGLE_*, AZURE_*)
    #[arg(long, value_name = "URL", env = "PHAROS_TABLES_URL", help_heading = "Storage")]
    tables_url: Option<String>,

    /// Web UI, graph, traces, SQL, everything of Pharos' own [default: 127.0.0.1:20001]
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "PHAROS_LISTEN_UI",
        help_heading = "Listeners (port 0 takes a free one)"
    )]
    listen_ui: Option<SocketAddr>,

    /// Prometheus API, remote write, /federate and Pharos' own /metrics [default: 127.0.0.1:9090]
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "PHAROS_LISTEN_PROMETHEUS",
        help_heading = "Listeners (port 0 takes a free one)"
    )]
    listen_prometheus: Option<SocketAddr>,

    /// OTLP and Envoy's access-log service over gRPC [default: 127.0.0.1:4317]
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "PHAROS_LISTEN_OTLP_GRPC",
        help_heading = "Listeners (port 0 takes a free one)"
    )]
    listen_otlp_grpc: Option<SocketAddr>,

    /// OTLP over HTTP, protobuf and JSON [default: 127.0.0.1:4318]
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "PHAROS_LISTEN_OTLP_HTTP",
        help_heading = "Listeners (port 0 takes a free one)"
    )]
    listen_otlp_http: Option<SocketAddr>,

    /// Zipkin v2 spans [default: 127.0.0.1:9411]
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "PHAROS_LISTEN_ZIPKIN",
        help_heading = "Listeners (port 0 takes a free one)"
    )]
    listen_zipkin: Option<SocketAddr>,

    /// Jaeger's query API [default: 127.0.0.1:16686]
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "PHAROS_LISTEN_JAEGER",
        help_heading = "Listeners (port 0 takes a free one)"
    )]
    listen_jaeger: Option<SocketAddr>,

    /// How long rows are kept, such as 12h or 30d; 0 keeps them for ever [default: 15d]
    #[arg(long, value_name = "DURATION", env = "PHAROS_RETENTION", help_heading = "Storage")]
    retention: Option<PromDuration>,

    /// When a write counts as done: fsync (on disk), interval (within a second) or none [default: fsync]
    #[arg(long, value_name = "WHEN", env = "PHAROS_DURABILITY", help_heading = "Storage")]
    durability: Option<Durability>,

    /// Memory for rows that are not in files yet, such as 64MiB; past it writers are told to come later [default: 64MiB]
    #[arg(long, value_name = "BYTES", env = "PHAROS_HEAD_BYTES", value_parser = parse_bytes, help_heading = "Storage")]
    #[serde(default, deserialize_with = "deserialize_bytes")]
    head_bytes: Option<u64>,

    /// Local disk, in the data folder, for what is read of tables in a bucket, so that it is not fetched again; 0 is
    /// none [default: 1GiB]
    #[arg(long, value_name = "BYTES", env = "PHAROS_READ_CACHE_BYTES", value_parser = parse_bytes, help_heading = "Storage")]
    #[serde(default, deserialize_with = "deserialize_bytes")]
    read_cache_bytes: Option<u64>,

    /// Memory for samples of the newest files, compressed, for queries and to recognise what is sent again
    /// [default: 64MiB]
    #[arg(long, value_name = "BYTES", env = "PHAROS_RECENT_SAMPLES_BYTES", value_parser = parse_bytes, help_heading = "Storage")]
    #[serde(default, deserialize_with = "deserialize_bytes")]
    recent_samples_bytes: Option<u64>,

    /// Most series in the index; samples of further ones are refused, and named in the answer [default: 2000000]
    #[arg(long, value_name = "N", env = "PHAROS_MAX_SERIES", help_heading = "Limits of metrics")]
    max_series: Option<usize>,

    /// Most labels of a series [default: 128]
    #[arg(long, value_name = "N", env = "PHAROS_MAX_LABELS", help_heading = "Limits of metrics")]
    max_labels: Option<usize>,

    /// Longest name of a label [default: 1024]
    #[arg(
        long,
        value_name = "BYTES",
        env = "PHAROS_MAX_LABEL_NAME_BYTES",
        help_heading = "Limits of metrics"
    )]
    max_label_name_bytes: Option<usize>,

    /// Longest value of a label [default: 8192]
    #[arg(
        long,
        value_name = "BYTES",
        env = "PHAROS_MAX_LABEL_VALUE_BYTES",
        help_heading = "Limits of metrics"
    )]
    max_label_value_bytes: Option<usize>,

    /// Experimental parts, by Prometheus' names and with commas between them
    #[arg(
        long,
        value_name = "FEATURES",
        env = "PHAROS_ENABLE_FEATURE",
        value_delimiter = ',',
        help_heading = "Rules and alerts"
    )]
    enable_feature: Option<Vec<Feature>>,

    /// Folder of Istio YAML whose objects are kept by time in the table mesh_config; followed while Pharos runs
    #[arg(long, value_name = "DIR", env = "PHAROS_MESH_CONFIG_DIR", help_heading = "Mesh")]
    mesh_config_dir: Option<PathBuf>,

    /// Where a browser finds the Prometheus API; links in alerts begin with it [default: http:// and the address of
    /// --listen-prometheus]
    #[arg(long, value_name = "URL", env = "PHAROS_EXTERNAL_URL", help_heading = "Rules and alerts")]
    external_url: Option<String>,

    /// Prometheus' own `global`, `scrape_configs`, `scrape_config_files`, `otlp`, `rule_files` and `alerting`; only in
    /// the file.
    #[arg(skip)]
    global: Option<serde_json::Value>,
    #[arg(skip)]
    scrape_configs: Option<serde_json::Value>,
    #[arg(skip)]
    scrape_config_files: Option<serde_json::Value>,
    #[arg(skip)]
    otlp: Option<serde_json::Value>,
    #[arg(skip)]
    rule_files: Option<Vec<PathBuf>>,
    #[arg(skip)]
    alerting: Option<serde_json::Value>,
}

/// What Prometheus has behind a switch of this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Feature {
    PromqlExperimentalFunctions,
    PromqlExtendedRangeSelectors,
    PromqlBinopFillModifiers,
    PromqlDelayedNameRemoval,
    StStorage,
    CreatedTimestampZeroIngestion,
}

fn promql_features(enabled: &[Feature]) -> PromqlFeatures {
    let is_on = |feature| enabled.contains(&feature);
    PromqlFeatures {
        experimental_functions: is_on(Feature::PromqlExperimentalFunctions),
        extended_selectors: is_on(Feature::PromqlExtendedRangeSelectors),
        fill_modifiers: is_on(Feature::PromqlBinopFillModifiers),
        delayed_name_removal: is_on(Feature::PromqlDelayedNameRemoval),
        start_timestamps: is_on(Feature::StStorage),
    }
}

/// When a write counts as done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Durability {
    #[default]
    Fsync,
    Interval,
    None,
}

/// Settings with every default filled in: what the backend runs by.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) data_dir: PathBuf,
    /// `None` has them in `data_dir`.
    pub(crate) tables_url: Option<String>,
    pub(crate) listen: Listen,
    pub(crate) retention: Option<Duration>,
    pub(crate) durability: Durability,
    pub(crate) head_bytes: u64,
    pub(crate) read_cache_bytes: u64,
    /// `None` stands for the storage's own default, as in all limits here.
    pub(crate) recent_samples_bytes: Option<u64>,
    pub(crate) series_limits: SeriesLimits,
    /// Istio YAML to keep by time; `None` keeps none.
    pub(crate) mesh_config_dir: Option<PathBuf>,
    /// Relative paths of the configuration file start here.
    pub(crate) base_dir: PathBuf,
    /// Prometheus' YAML with `global` and `scrape_configs`; `None` scrapes nothing.
    pub(crate) scrape_yaml: Option<String>,
    /// Files with rules, and how they are evaluated.
    pub(crate) rules: RuleSettings,
    /// Who is told of alerts.
    pub(crate) alerting: AlertingConfig,
    /// What `/api/v1/status/config` shows: the parts of the configuration that are Prometheus' own, without secrets.
    pub(crate) prometheus_yaml: String,
    pub(crate) promql_features: PromqlFeatures,
    /// Whether a counter gets a zero at its start.
    pub(crate) start_time_zeros: bool,
}

/// What a sender of metrics may make of series.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SeriesLimits {
    pub(crate) series: Option<usize>,
    pub(crate) labels: Option<usize>,
    pub(crate) label_name_bytes: Option<usize>,
    pub(crate) label_value_bytes: Option<usize>,
}

/// Where each listener is to bind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listen {
    pub(crate) ui: SocketAddr,
    pub(crate) prometheus: SocketAddr,
    pub(crate) otlp_grpc: SocketAddr,
    pub(crate) otlp_http: SocketAddr,
    pub(crate) zipkin: SocketAddr,
    pub(crate) jaeger: SocketAddr,
}

impl Settings {
    /// Only where the data is.
    pub(crate) fn of_place(data_dir: Option<PathBuf>, tables_url: Option<String>) -> Settings {
        Settings { data_dir, tables_url, ..Settings::default() }
    }

    /// Reads the YAML file `path`; relative paths in it start at its folder.
    ///
    /// # Errors
    /// The file cannot be read, or has a wrong key or value: the message names file, line and column.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Settings> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut settings = Settings::parse(&text).with_context(|| format!("in {}", path.display()))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        for path in [&mut settings.data_dir, &mut settings.mesh_config_dir].into_iter().flatten() {
            *path = folder.join(&*path);
        }
        Ok(settings)
    }

    fn parse(yaml: &str) -> anyhow::Result<Settings> {
        if yaml.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
            return Ok(Settings::default());
        }
        serde_saphyr::from_str(yaml).map_err(|error| anyhow::anyhow!("{error}"))
    }

    /// `self` where it says something, `weaker` elsewhere.
    #[must_use]
    pub(crate) fn or(self, weaker: Settings) -> Settings {
        Settings {
            data_dir: self.data_dir.or(weaker.data_dir),
            tables_url: self.tables_url.or(weaker.tables_url),
            listen_ui: self.listen_ui.or(weaker.listen_ui),
            listen_prometheus: self.listen_prometheus.or(weaker.listen_prometheus),
            listen_otlp_grpc: self.listen_otlp_grpc.or(weaker.listen_otlp_grpc),
            listen_otlp_http: self.listen_otlp_http.or(weaker.listen_otlp_http),
            listen_zipkin: self.listen_zipkin.or(weaker.listen_zipkin),
            listen_jaeger: self.listen_jaeger.or(weaker.listen_jaeger),
            retention: self.retention.or(weaker.retention),
            durability: self.durability.or(weaker.durability),
            head_bytes: self.head_bytes.or(weaker.head_bytes),
            read_cache_bytes: self.read_cache_bytes.or(weaker.read_cache_bytes),
            recent_samples_bytes: self.recent_samples_bytes.or(weaker.recent_samples_bytes),
            max_series: self.max_series.or(weaker.max_series),
            max_labels: self.max_labels.or(weaker.max_labels),
            max_label_name_bytes: self.max_label_name_bytes.or(weaker.max_label_name_bytes),
            max_label_value_bytes: self.max_label_value_bytes.or(weaker.max_label_value_bytes),
            mesh_config_dir: self.mesh_config_dir.or(weaker.mesh_config_dir),
            global: self.global.or(weaker.global),
            scrape_configs: self.scrape_configs.or(weaker.scrape_configs),
            scrape_config_files: self.scrape_config_files.or(weaker.scrape_config_files),
            otlp: self.otlp.or(weaker.otlp),
            rule_files: self.rule_files.or(weaker.rule_files),
            alerting: self.alerting.or(weaker.alerting),
            external_url: self.external_url.or(weaker.external_url),
            enable_feature: self.enable_feature.or(weaker.enable_feature),
        }
    }

    /// Fills in the defaults.
    ///
    /// # Errors
    /// A value makes no sense.
    pub(crate) fn resolve(self, base_dir: PathBuf) -> anyhow::Result<Config> {
        let loopback =
            |set: Option<SocketAddr>, port| set.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], port)));
        let head_bytes = self.head_bytes.unwrap_or(64 << 20);
        if head_bytes < 1 << 20 {
            bail!("head_bytes is {head_bytes}: at least 1MiB is needed");
        }
        for (name, limit) in [
            ("max_series", self.max_series),
            ("max_labels", self.max_labels),
            ("max_label_name_bytes", self.max_label_name_bytes),
            ("max_label_value_bytes", self.max_label_value_bytes),
        ] {
            if limit == Some(0) {
                bail!("{name} is 0: nothing could be stored");
            }
        }
        let enabled = self.enable_feature.as_deref().unwrap_or_default();
        let listen_prometheus = loopback(self.listen_prometheus, 9090);
        let rules = rule_settings(
            self.global.as_ref(),
            self.rule_files.as_deref().unwrap_or_default(),
            self.external_url.unwrap_or_else(|| format!("http://{listen_prometheus}")),
            &base_dir,
        )?;
        let alerting = prometheus_config::alerting(self.alerting.as_ref(), &base_dir)?;
        let prometheus_yaml = prometheus_config::shown(
            self.global.as_ref(),
            self.alerting.as_ref(),
            self.rule_files.as_deref(),
            self.scrape_configs.as_ref(),
        );
        let of_scraping = [
            ("global", self.global),
            ("scrape_configs", self.scrape_configs),
            ("scrape_config_files", self.scrape_config_files),
            ("otlp", self.otlp),
        ];
        let mut of_scraping: serde_json::Map<String, serde_json::Value> = of_scraping
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_string(), value.filter(|value| !value.is_null())?)))
            .collect();
        if !of_scraping.is_empty() {
            of_scraping.entry("global").or_insert_with(|| serde_json::json!({}));
            of_scraping.entry("scrape_configs").or_insert_with(|| serde_json::json!([]));
        }
        // JSON is YAML; the collector reads Prometheus' own format.
        let scrape_yaml =
            (!of_scraping.is_empty()).then(|| serde_json::Value::Object(of_scraping).to_string());
        Ok(Config {
            data_dir: self.data_dir.unwrap_or_else(|| "pharos-data".into()),
            tables_url: self.tables_url,
            listen: Listen {
                ui: loopback(self.listen_ui, 20001),
                prometheus: listen_prometheus,
                otlp_grpc: loopback(self.listen_otlp_grpc, 4317),
                otlp_http: loopback(self.listen_otlp_http, 4318),
                zipkin: loopback(self.listen_zipkin, 9411),
                jaeger: loopback(self.listen_jaeger, 16686),
            },
            retention: match self.retention {
                None => Some(Duration::from_secs(15 * 86_400)),
                Some(PromDuration(Duration::ZERO)) => None,
                Some(PromDuration(retention)) => Some(retention),
            },
            durability: self.durability.unwrap_or_default(),
            head_bytes,
            read_cache_bytes: self.read_cache_bytes.unwrap_or(1 << 30),
            recent_samples_bytes: self.recent_samples_bytes,
            series_limits: SeriesLimits {
                series: self.max_series,
                labels: self.max_labels,
                label_name_bytes: self.max_label_name_bytes,
                label_value_bytes: self.max_label_value_bytes,
            },
            mesh_config_dir: self.mesh_config_dir,
            base_dir,
            scrape_yaml,
            rules,
            alerting,
            prometheus_yaml,
            promql_features: promql_features(enabled),
            start_time_zeros: enabled.contains(&Feature::CreatedTimestampZeroIngestion),
        })
    }
}

/// A whole number of bytes, or of `KiB`, `MiB`, `GiB`, `KB`, `MB`, `GB`.
fn parse_bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no size such as 64MiB");
    let digits = text.find(|ch: char| !ch.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let factor: u64 = match unit {
        "" | "B" => 1,
        "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(wrong()),
    };
    number.checked_mul(factor).ok_or_else(wrong)
}

fn deserialize_bytes<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_bytes(&text).map(Some).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stronger_source_wins_and_the_rest_has_defaults() {
        let file =
            Settings::parse("listen_ui: 127.0.0.1:1\nretention: 2d\nhead_bytes: 8MiB\ndurability: none")
                .unwrap();
        let flags = Settings { listen_ui: Some("127.0.0.1:2".parse().unwrap()), ..Settings::default() };
        let config = flags.or(file).resolve(PathBuf::new()).unwrap();
        assert_eq!(config.listen.ui.port(), 2);
        assert_eq!(config.listen.prometheus.to_string(), "127.0.0.1:9090");
        assert_eq!(config.retention, Some(Duration::from_secs(172_800)));
        assert_eq!((config.head_bytes, config.durability), (8 << 20, Durability::None));
        assert_eq!(config.data_dir, PathBuf::from("pharos-data"));
    }

    #[test]
    fn a_wrong_key_or_value_is_named_with_its_place() {
        for (yaml, words) in [
            ("data_dir: /x\nlisten_u: 127.0.0.1:1", ["listen_u", "line 2"]),
            ("retention: 3 fortnights", ["3 fortnights", "line 1"]),
            ("enable_feature: [promql-magic]", ["promql-magic", "line 1"]),
            ("max_series: many", ["many", "line 1"]),
            ("head_bytes: lots", ["lots", "line 1"]),
            ("\nlisten_ui: nowhere", ["listen_ui", "line 2"]),
        ] {
            let error = format!("{:#}", Settings::parse(yaml).unwrap_err());
            for word in words {
                assert!(error.contains(word), "{yaml:?} gave {error:?}, which does not say {word:?}");
            }
        }
        assert!(Settings::parse("# nothing\n").is_ok());
    }

    #[test]
    fn limits_reach_the_storage() {
        let config = |yaml: &str| Settings::parse(yaml).unwrap().resolve(PathBuf::from("/x"));
        let yaml = "max_series: 7\nmax_labels: 8\nmax_label_name_bytes: 9\nmax_label_value_bytes: 10\nrecent_samples_bytes: 1MiB";
        let set = crate::backend::storage_config(&config(yaml).unwrap());
        assert_eq!((set.max_series, set.max_labels, set.max_label_name_bytes), (7, 8, 9));
        assert_eq!((set.max_label_value_bytes, set.recent_samples_bytes), (10, 1 << 20));
        let unset = crate::backend::storage_config(&config("").unwrap());
        // As the help says.
        assert_eq!((unset.max_series, unset.max_labels, unset.max_label_name_bytes), (2_000_000, 128, 1_024));
        assert_eq!((unset.max_label_value_bytes, unset.recent_samples_bytes), (8_192, 64 << 20));
        let error = config("max_labels: 0").unwrap_err().to_string();
        assert!(error.contains("max_labels is 0"), "{error}");
    }

    #[test]
    fn prometheus_scrape_configuration_is_handed_on_whole() {
        let yaml = "global: {scrape_interval: 5s}\nscrape_configs: [{job_name: mesh, static_configs: [{targets: [a:1]}]}]";
        let scrape = Settings::parse(yaml).unwrap().resolve(PathBuf::new()).unwrap().scrape_yaml.unwrap();
        assert!(
            scrape.contains(r#""job_name":"mesh""#) && scrape.contains(r#""scrape_interval":"5s""#),
            "{scrape}"
        );
    }
}
