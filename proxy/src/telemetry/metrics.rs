//! Istio's standard metrics, and the few of the proxy's own.

use hashbrown::{Equivalent, HashMap};
use parking_lot::RwLock;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabel, EncodeLabelSet, LabelSetEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Upper bounds for milliseconds and bytes alike: Envoy's default.
const BOUNDS: [u64; 19] = [
    // 0.5 is kept as the first bound: observations are whole numbers, so that it holds the zeros.
    0, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 300_000, 600_000, 1_800_000,
    3_600_000,
];
const BUCKETS: usize = BOUNDS.len() + 1;

/// Label sets that are kept. Peers name themselves, so that somebody could make up names for ever.
const MAX_SERIES: usize = 10_000;

/// Istio's label names in the order in which it writes them; the last five are for HTTP only.
const NAMES: [&str; 25] = [
    "reporter",
    "source_workload",
    "source_canonical_service",
    "source_canonical_revision",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_cluster",
    "destination_workload",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_service",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_service_name",
    "destination_service_namespace",
    "destination_cluster",
    "request_protocol",
    "response_code",
    "grpc_response_status",
    "response_flags",
    "connection_security_policy",
];
const PEER_LABELS: usize = 20;

/// Values for [`NAMES`], in that order.
#[derive(Debug)]
pub(crate) struct Labels<'a>(pub(crate) [&'a str; 25]);

#[derive(PartialEq, Eq)]
struct OwnedLabels([Box<str>; 25]);

impl Hash for Labels<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.iter().for_each(|value| value.hash(state));
    }
}

impl Hash for OwnedLabels {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.iter().for_each(|value| value.hash(state));
    }
}

impl Equivalent<OwnedLabels> for Labels<'_> {
    fn equivalent(&self, key: &OwnedLabels) -> bool {
        self.0.iter().zip(&key.0).all(|(a, b)| **a == **b)
    }
}

/// Values for all or the first of [`NAMES`].
struct First<'a>(&'a [Box<str>]);

impl EncodeLabelSet for First<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), fmt::Error> {
        for (name, value) in NAMES.iter().zip(self.0) {
            (*name, &**value).encode(encoder.encode_label())?;
        }
        Ok(())
    }
}

/// What one finished request adds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Observation {
    pub(crate) duration_ms: u64,
    pub(crate) request_bytes: u64,
    pub(crate) response_bytes: u64,
    /// gRPC messages from and to the client; `None` for plain HTTP.
    pub(crate) grpc_messages: Option<(u64, u64)>,
}

#[derive(Default)]
struct Series {
    requests: AtomicU64,
    duration_ms: Histogram,
    request_bytes: Histogram,
    response_bytes: Histogram,
    grpc: AtomicBool,
    request_messages: AtomicU64,
    response_messages: AtomicU64,
}

#[derive(Default)]
struct Histogram {
    sum: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
}

impl Histogram {
    fn observe(&self, value: u64) {
        self.sum.fetch_add(value, Ordering::Relaxed);
        if let Some(bucket) = self.buckets.get(BOUNDS.partition_point(|bound| *bound < value)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Bounds with the counts between them, their sum, and the number of all.
    fn read(&self) -> ([(f64, u64); BUCKETS], f64, u64) {
        let mut buckets = [(f64::INFINITY, 0); BUCKETS];
        let mut count = 0;
        for (i, (bucket, own)) in buckets.iter_mut().zip(&self.buckets).enumerate() {
            bucket.0 = match BOUNDS.get(i) {
                Some(0) => 0.5,
                Some(bound) => *bound as f64,
                None => f64::INFINITY,
            };
            bucket.1 = own.load(Ordering::Relaxed);
            count += bucket.1;
        }
        (buckets, self.sum.load(Ordering::Relaxed) as f64, count)
    }
}

#[derive(Default)]
struct IstioMetrics {
    series: RwLock<HashMap<OwnedLabels, Arc<Series>>>,
}

impl fmt::Debug for IstioMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IstioMetrics").field("series", &self.series.read().len()).finish()
    }
}

impl IstioMetrics {
    fn of(&self, labels: &Labels<'_>) -> Option<Arc<Series>> {
        if let Some(series) = self.series.read().get(labels) {
            return Some(series.clone());
        }
        let mut all = self.series.write();
        if all.len() >= MAX_SERIES {
            return None;
        }
        Some(all.entry(OwnedLabels(labels.0.map(Box::from))).or_default().clone())
    }
}

impl Collector for IstioMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let all = self.series.read();
        let mut requests =
            encoder.encode_descriptor("istio_requests", "Requests that ended", None, MetricType::Counter)?;
        for (labels, series) in all.iter() {
            let value = series.requests.load(Ordering::Relaxed);
            requests.encode_family(&First(&labels.0))?.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
        // Message counters have the peers' labels only: what the others tell apart is added up.
        let mut messages: HashMap<&[Box<str>], (u64, u64)> = HashMap::new();
        for (labels, series) in all.iter().filter(|(_, s)| s.grpc.load(Ordering::Relaxed)) {
            let (peers, _) = labels.0.split_at(PEER_LABELS);
            let sums = messages.entry(peers).or_default();
            sums.0 += series.request_messages.load(Ordering::Relaxed);
            sums.1 += series.response_messages.load(Ordering::Relaxed);
        }
        type Side = fn(&(u64, u64)) -> u64;
        let sides: [(&str, &str, Side); 2] = [
            ("istio_request_messages", "gRPC messages from clients", |m| m.0),
            ("istio_response_messages", "gRPC messages from servers", |m| m.1),
        ];
        for (name, help, side) in sides {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (peers, sums) in &messages {
                family
                    .encode_family(&First(peers))?
                    .encode_counter::<NoLabelSet, _, u64>(&side(sums), None)?;
            }
        }
        type Part = fn(&Series) -> &Histogram;
        let histograms: [(&str, &str, Part); 3] = [
            ("istio_request_duration_milliseconds", "Time from first byte in to last byte out", |s| {
                &s.duration_ms
            }),
            ("istio_request_bytes", "Request bytes from the client with headers and framing", |s| {
                &s.request_bytes
            }),
            ("istio_response_bytes", "Response bytes to the client with headers and framing", |s| {
                &s.response_bytes
            }),
        ];
        for (name, help, part) in histograms {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
            for (labels, series) in all.iter() {
                let (buckets, sum, count) = part(series).read();
                family
                    .encode_family(&First(&labels.0))?
                    .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
            }
        }
        Ok(())
    }
}

#[derive(Debug)]
pub(crate) struct Metrics {
    istio: Arc<IstioMetrics>,
    dropped: Family<[(&'static str, &'static str); 1], Counter>,
    /// Configurations that were refused, so that the one before stayed.
    pub(crate) config_rejected: Counter,
    /// Unix time of the configuration in force, in seconds.
    pub(crate) config_loaded_at_s: Gauge,
    registry: Registry,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::default();
        let istio = Arc::new(IstioMetrics::default());
        registry.register_collector(Box::new(istio.clone()));
        let build = Family::<[(&'static str, &'static str); 2], Gauge>::default();
        build.get_or_create(&[("component", "proxy"), ("tag", env!("CARGO_PKG_VERSION"))]).set(1);
        registry.register("istio_build", "Version of the component", build);
        let dropped = Family::default();
        registry.register(
            "pharos_proxy_telemetry_dropped",
            "Records that were not sent because their receiver was away or slow",
            dropped.clone(),
        );
        let config_rejected = Counter::default();
        registry.register(
            "pharos_proxy_config_rejected",
            "Configurations that were refused, so that the one before stayed in force",
            config_rejected.clone(),
        );
        let config_loaded_at_s = Gauge::default();
        registry.register(
            "pharos_proxy_config_loaded_timestamp_seconds",
            "When the configuration in force was loaded",
            config_loaded_at_s.clone(),
        );
        Self { istio, dropped, config_rejected, config_loaded_at_s, registry }
    }

    pub(crate) fn dropped(&self, signal: &'static str) -> Counter {
        self.dropped.get_or_create_owned(&[("signal", signal)])
    }

    pub(crate) fn config_loaded(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.config_loaded_at_s.set(i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
    }

    pub(crate) fn observe(&self, labels: &Labels<'_>, seen: Observation) {
        let Some(series) = self.istio.of(labels) else {
            self.dropped.get_or_create(&[("signal", "metric")]).inc();
            return;
        };
        series.requests.fetch_add(1, Ordering::Relaxed);
        series.duration_ms.observe(seen.duration_ms);
        series.request_bytes.observe(seen.request_bytes);
        series.response_bytes.observe(seen.response_bytes);
        if let Some((requests, responses)) = seen.grpc_messages {
            series.grpc.store(true, Ordering::Relaxed);
            series.request_messages.fetch_add(requests, Ordering::Relaxed);
            series.response_messages.fetch_add(responses, Ordering::Relaxed);
        }
    }

    /// OpenMetrics text.
    pub(crate) fn open_metrics(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }

    /// Prometheus' older text format 0.0.4, for scrapers that do not ask for OpenMetrics. It differs in
    /// what names a counter's family, and knows neither units nor an end mark.
    pub(crate) fn prometheus_text(&self) -> Result<String, fmt::Error> {
        let open = self.open_metrics()?;
        let mut text = String::with_capacity(open.len());
        let mut help = "";
        for line in open.lines() {
            if line.starts_with("# HELP ") {
                // Held back until the TYPE line says whether it is a counter.
                help = line;
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap_or((rest, "untyped"));
                let suffix = if kind == "counter" { "_total" } else { "" };
                let words = help.split_once(name).map_or("", |(_, words)| words);
                text.push_str(&format!("# HELP {name}{suffix}{words}\n# TYPE {name}{suffix} {kind}\n"));
            } else if !line.starts_with('#') {
                text.push_str(line);
                text.push('\n');
            }
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(code: &'static str) -> Labels<'static> {
        let mut values = ["x"; 25];
        values[0] = "source";
        values[21] = code;
        values[22] = "";
        Labels(values)
    }

    fn observed() -> Metrics {
        let metrics = Metrics::new();
        for (code, duration_ms) in [("200", 0), ("200", 1), ("200", 2), ("503", 4_000_000)] {
            let seen = Observation {
                duration_ms,
                request_bytes: 10,
                response_bytes: 20,
                grpc_messages: Some((1, 2)),
            };
            metrics.observe(&labels(code), seen);
        }
        metrics
    }

    #[test]
    fn a_request_is_counted_under_all_of_istios_labels() {
        let text = observed().open_metrics().unwrap();
        let line =
            text.lines().find(|l| l.starts_with("istio_requests_total") && l.contains("\"200\"")).unwrap();
        assert!(line.ends_with(" 3"), "{line}");
        for name in NAMES {
            assert!(line.contains(&format!("{name}=\"")), "{name} is missing in {line}");
        }
        assert!(text.contains("istio_build{component=\"proxy\",tag=\""), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    #[test]
    fn buckets_are_envoys_and_cumulative() {
        let text = observed().open_metrics().unwrap();
        let bucket = |le: &str| {
            let line = text.lines().find(|l| {
                l.starts_with("istio_request_duration_milliseconds_bucket")
                    && l.contains("response_code=\"200\"")
                    && l.contains(&format!("le=\"{le}\""))
            });
            line.unwrap_or_else(|| panic!("no bucket {le}")).rsplit(' ').next().unwrap().to_owned()
        };
        for (le, count) in [("0.5", "1"), ("1.0", "2"), ("5.0", "3"), ("3600000.0", "3"), ("+Inf", "3")] {
            assert_eq!(bucket(le), count, "{le}");
        }
    }

    #[test]
    fn message_counters_have_the_labels_of_the_peers_only() {
        let text = observed().open_metrics().unwrap();
        let lines: Vec<_> = text.lines().filter(|l| l.starts_with("istio_request_messages_total")).collect();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].ends_with(" 4") && !lines[0].contains("response_code"), "{lines:?}");
    }

    #[test]
    fn the_older_text_format_names_counters_in_full() {
        let text = observed().prometheus_text().unwrap();
        assert!(text.contains("# TYPE istio_requests_total counter\nistio_requests_total{"), "{text}");
        assert!(text.contains("# TYPE istio_request_bytes histogram\n"), "{text}");
        assert!(!text.contains("# EOF") && !text.contains("# UNIT"), "{text}");
    }

    #[test]
    fn made_up_names_cannot_fill_the_memory() {
        let metrics = Metrics::new();
        let seen = Observation { duration_ms: 1, request_bytes: 1, response_bytes: 1, grpc_messages: None };
        for i in 0..=MAX_SERIES {
            let name = i.to_string();
            let mut values = ["x"; 25];
            values[1] = &name;
            metrics.observe(&Labels(values), seen);
        }
        assert_eq!(metrics.istio.series.read().len(), MAX_SERIES);
        assert_eq!(metrics.dropped("metric").get(), 1);
    }
}
