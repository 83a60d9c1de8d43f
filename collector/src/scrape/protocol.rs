//! Which exposition format is asked for, and which one came.

use serde::Deserialize;

use crate::exposition::Format;

/// A format with its version, by Prometheus' name for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) enum Protocol {
    PrometheusProto,
    #[serde(rename = "PrometheusText0.0.4")]
    PrometheusText0_0_4,
    #[serde(rename = "PrometheusText1.0.0")]
    PrometheusText1_0_0,
    #[serde(rename = "OpenMetricsText0.0.1")]
    OpenMetricsText0_0_1,
    #[serde(rename = "OpenMetricsText1.0.0")]
    OpenMetricsText1_0_0,
}

/// How names with characters beyond the classic ones are to be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Escaping {
    #[default]
    #[serde(rename = "allow-utf-8")]
    AllowUtf8,
    Underscores,
    Dots,
    Values,
}

/// Which names of metrics and labels are valid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Validation {
    #[default]
    Utf8,
    Legacy,
}

impl Protocol {
    /// Only protobuf carries native histograms.
    pub(super) fn defaults(native_histograms: bool) -> Vec<Protocol> {
        use Protocol::{
            OpenMetricsText0_0_1, OpenMetricsText1_0_0, PrometheusProto, PrometheusText0_0_4,
            PrometheusText1_0_0,
        };
        let text = [OpenMetricsText1_0_0, OpenMetricsText0_0_1, PrometheusText1_0_0, PrometheusText0_0_4];
        native_histograms.then_some(PrometheusProto).into_iter().chain(text).collect()
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Protocol::PrometheusProto => "PrometheusProto",
            Protocol::PrometheusText0_0_4 => "PrometheusText0.0.4",
            Protocol::PrometheusText1_0_0 => "PrometheusText1.0.0",
            Protocol::OpenMetricsText0_0_1 => "OpenMetricsText0.0.1",
            Protocol::OpenMetricsText1_0_0 => "OpenMetricsText1.0.0",
        }
    }

    fn media_type(self) -> &'static str {
        match self {
            Protocol::PrometheusProto => {
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
            }
            Protocol::PrometheusText0_0_4 => "text/plain;version=0.0.4",
            Protocol::PrometheusText1_0_0 => "text/plain;version=1.0.0",
            Protocol::OpenMetricsText0_0_1 => "application/openmetrics-text;version=0.0.1",
            Protocol::OpenMetricsText1_0_0 => "application/openmetrics-text;version=1.0.0",
        }
    }

    fn format(self) -> Format {
        match self {
            Protocol::PrometheusProto => Format::Protobuf,
            Protocol::PrometheusText0_0_4 | Protocol::PrometheusText1_0_0 => Format::Text,
            Protocol::OpenMetricsText0_0_1 | Protocol::OpenMetricsText1_0_0 => Format::OpenMetrics,
        }
    }
}

/// The header `Accept` as Prometheus 3 sends it.
pub(super) fn accept(protocols: &[Protocol], escaping: Escaping) -> String {
    let escaping = match escaping {
        Escaping::AllowUtf8 => "allow-utf-8",
        Escaping::Underscores => "underscores",
        Escaping::Dots => "dots",
        Escaping::Values => "values",
    };
    let mut header = String::new();
    // One more than there are protocols.
    let mut weight = 6;
    for protocol in protocols {
        header.push_str(protocol.media_type());
        if matches!(protocol, Protocol::PrometheusText1_0_0 | Protocol::OpenMetricsText1_0_0) {
            header.push_str(&format!(";escaping={escaping}"));
        }
        header.push_str(&format!(";q=0.{weight},"));
        weight -= 1;
    }
    header.push_str(&format!("*/*;q=0.{weight}"));
    header
}

/// What the answer's `Content-Type` says; Prometheus 3 takes none that is missing or unknown without a fallback.
pub(super) fn format_of(content_type: &str, fallback: Option<Protocol>) -> Result<Format, String> {
    let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let known = match media_type.as_str() {
        "application/openmetrics-text" => Some(Format::OpenMetrics),
        "application/vnd.google.protobuf" => Some(Format::Protobuf),
        "text/plain" => Some(Format::Text),
        _ => None,
    };
    known.or(fallback.map(Protocol::format)).ok_or_else(|| match content_type {
        "" => "the target sends no Content-Type, and the job has no fallback_scrape_protocol".to_string(),
        other => format!("the target sends Content-Type {other:?}, which is not known, and the job has no fallback_scrape_protocol"),
    })
}

impl Validation {
    /// Of a metric's name.
    pub(super) fn allows_metric(self, name: &str) -> bool {
        self == Validation::Utf8 || is_classic(name, true)
    }

    pub(super) fn allows_label(self, name: &str) -> bool {
        self == Validation::Utf8 || is_classic(name, false)
    }
}

fn is_classic(name: &str, colons: bool) -> bool {
    !name.starts_with(|ch: char| ch.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || (colons && b == b':'))
}
