//! Metrics of Pharos itself at `/metrics`: OpenMetrics 1.0, or Prometheus' older text where the client asks for nothing
//! newer.

use std::{sync::Arc, time::Instant};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use pharos_collector::Collector;
use pharos_query::{NotifierCounts as Counted, Rules};
use pharos_storage::Storage;
use prometheus_client::{
    collector::Collector as Measure,
    encoding::{DescriptorEncoder, EncodeMetric, text::encode},
    metrics::{
        counter::ConstCounter,
        family::Family,
        gauge::{ConstGauge, Gauge},
    },
    registry::{Registry, Unit},
};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics of the process. Cheap to clone.
#[derive(Clone)]
pub(crate) struct SelfMetrics(Arc<Registry>);

impl SelfMetrics {
    pub(crate) fn router(&self) -> Router {
        Router::new().route("/metrics", get(metrics)).with_state(self.0.clone())
    }

    /// In Prometheus' older text format.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to memory does not fail.
        let _ = encode(&mut text, &self.0);
        plain_text(&text)
    }
}

pub(crate) fn self_metrics(
    storage: Storage,
    collector: Collector,
    rules: Rules,
    started: Instant,
) -> SelfMetrics {
    let mut registry = Registry::with_prefix("pharos");
    let build = Family::<[(&str, &str); 1], Gauge>::default();
    build.get_or_create(&[("version", env!("CARGO_PKG_VERSION"))]).set(1);
    registry.register("build_info", "Version of this Pharos; always 1", build);
    registry.register_collector(Box::new(Figures { storage, collector, rules, started }));
    SelfMetrics(Arc::new(registry))
}

async fn metrics(State(registry): State<Arc<Registry>>, headers: HeaderMap) -> Response {
    let mut text = String::new();
    if encode(&mut text, &registry).is_err() {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let accepts = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    if accepts.contains("application/openmetrics-text") {
        ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response()
    } else {
        ([(header::CONTENT_TYPE, PLAIN_TEXT)], plain_text(&text)).into_response()
    }
}

/// The older format names a counter's family as its sample, with `_total`, and knows no units and no end mark.
fn plain_text(open_metrics: &str) -> String {
    let counters: Vec<&str> = open_metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .collect();
    let mut text = String::with_capacity(open_metrics.len());
    for line in open_metrics.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("EOF" | "UNIT"), ..) => continue,
            (Some("#"), Some(kind), Some(family), Some(rest)) if counters.contains(&family) => {
                text.push_str(&format!("# {kind} {family}_total {rest}\n"));
            }
            _ => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    text
}

/// Figures that are read when somebody asks, not kept.
struct Figures {
    storage: Storage,
    collector: Collector,
    rules: Rules,
    started: Instant,
}

impl std::fmt::Debug for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Figures")
    }
}

impl Measure for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let received = self.collector.counters();
        let by_protocol = |value: fn(&pharos_collector::Received) -> u64| {
            received.iter().map(move |received| ([("protocol", received.protocol.name())], value(received)))
        };
        counters(
            &mut encoder,
            "received_items",
            "Spans, records and samples that were stored",
            by_protocol(|r| r.items),
        )?;
        counters(&mut encoder, "rejected_items", "Items that were invalid", by_protocol(|r| r.rejected))?;
        counters(
            &mut encoder,
            "failed_requests",
            "Requests that were refused whole: unreadable, too large, or at a bad time",
            by_protocol(|r| r.failed_requests),
        )?;

        let rules = self.rules.counts();
        let by_outcome = |outcomes: Vec<(&'static str, u64)>| {
            outcomes.into_iter().map(|(outcome, count)| ([("outcome", outcome)], count))
        };
        counters(
            &mut encoder,
            "rule_evaluations",
            "Evaluations of recording and alerting rules",
            by_outcome(vec![
                ("success", rules.evaluations.saturating_sub(rules.failures)),
                ("failure", rules.failures),
            ]),
        )?;
        counters(
            &mut encoder,
            "alert_notifications",
            "Alerts that were to be pushed to an Alertmanager",
            by_outcome(vec![
                ("sent", rules.alerts.sent),
                ("failed", rules.alerts.failed),
                ("dropped", rules.alerts.dropped),
            ]),
        )?;

        let Counted { alertmanagers, queued, .. } = rules.alerts;
        gauge(&mut encoder, "alertmanagers", "Alertmanagers that are told of alerts", None, alertmanagers)?;
        gauge(&mut encoder, "alert_queue_length", "Alerts that wait to be pushed", None, queued)?;

        let stored = self.storage.stats();
        gauge(
            &mut encoder,
            "damaged_files",
            "Data files of which a read found since the start that they are not as they were written",
            None,
            stored.damaged_files,
        )?;
        if let Some(cache) = stored.read_cache {
            counters(
                &mut encoder,
                "read_cache_blocks",
                "Blocks of a bucket's data files that were read: from the local disk, or fetched",
                [("hit", cache.hits), ("miss", cache.misses)]
                    .into_iter()
                    .map(|(outcome, count)| ([("outcome", outcome)], count)),
            )?;
            gauge(
                &mut encoder,
                "read_cache_size",
                "Blocks of a bucket's data files on the local disk",
                Some(&Unit::Bytes),
                cache.bytes,
            )?;
        }
        let tables = stored.tables;
        let by_table = |value: fn(&pharos_storage::TableStats) -> u64| {
            tables.iter().map(move |table| ([("table", table.table.name())], value(table)))
        };
        gauges(&mut encoder, "table_rows", "Rows in memory and in files", None, by_table(|t| t.rows))?;
        gauges(&mut encoder, "table_files", "Data files", None, by_table(|t| t.files))?;
        gauges(
            &mut encoder,
            "table_size",
            "Size of the data files",
            Some(&Unit::Bytes),
            by_table(|t| t.file_bytes),
        )?;

        gauge(
            &mut encoder,
            "resident_memory",
            "Memory that the process holds",
            Some(&Unit::Bytes),
            resident_bytes(),
        )?;
        gauge(
            &mut encoder,
            "uptime",
            "Time since the start",
            Some(&Unit::Seconds),
            self.started.elapsed().as_secs(),
        )
    }
}

fn counters<'a, const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl Iterator<Item = ([(&'a str, &'a str); N], u64)>,
) -> Result<(), std::fmt::Error> {
    let none = ConstCounter::new(0u64);
    let mut family = encoder.encode_descriptor(name, help, None, none.metric_type())?;
    for (labels, value) in values {
        ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn gauges<'a, const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    values: impl Iterator<Item = ([(&'a str, &'a str); N], u64)>,
) -> Result<(), std::fmt::Error> {
    let none = ConstGauge::new(0i64);
    let mut family = encoder.encode_descriptor(name, help, unit, none.metric_type())?;
    for (labels, value) in values {
        ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

/// A family of one, without labels.
fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    value: u64,
) -> Result<(), std::fmt::Error> {
    let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
    gauge.encode(encoder.encode_descriptor(name, help, unit, gauge.metric_type())?)
}

/// 0 where the kernel does not tell.
pub(crate) fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * PAGE_BYTES
}

/// Of the platforms that Pharos is built for.
const PAGE_BYTES: u64 = 4_096;

#[cfg(test)]
mod tests {
    #[test]
    fn the_older_text_names_counters_by_their_sample() {
        let open = "# HELP a Help of a.\n# TYPE a counter\na_total{x=\"1\"} 3\n# HELP b_bytes B.\n# TYPE b_bytes gauge\n# UNIT b_bytes bytes\nb_bytes 1\n# EOF\n";
        let plain = "# HELP a_total Help of a.\n# TYPE a_total counter\na_total{x=\"1\"} 3\n# HELP b_bytes B.\n# TYPE b_bytes gauge\nb_bytes 1\n";
        assert_eq!(super::plain_text(open), plain);
    }
}
