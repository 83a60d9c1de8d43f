//! Prometheus' exposition formats: text 0.0.4, OpenMetrics 1.0 and protobuf.
//!
//! The parsers hand out the text of a series and look into its labels only when asked to, so that a scraper that
//! knows a series already does not parse it again.

mod labels;
mod protobuf;
mod text;

pub(crate) use labels::{series_labels, unescape};
use pharos_proto::prometheus::exposition::MetricFamily;
use text::TextFormat;
pub(crate) use text::{Entry, ExemplarText, ParseError, SampleLine, SampleValue};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Text,
    OpenMetrics,
    Protobuf,
}

/// Which forms of a histogram are told of, where an exposition has both.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HistogramForms {
    pub(crate) native: bool,
    /// Beside the native one too.
    pub(crate) always_classic: bool,
}

/// A scraped body.
pub(crate) enum Body<'b> {
    Text(&'b str, TextFormat),
    Families(Vec<MetricFamily>),
}

impl<'b> Body<'b> {
    pub(crate) fn read(bytes: &'b [u8], format: Format) -> Result<Body<'b>, ParseError> {
        let format = match format {
            Format::Protobuf => return protobuf::families(bytes).map(Body::Families),
            Format::Text => TextFormat::Plain,
            Format::OpenMetrics => TextFormat::OpenMetrics,
        };
        let text = std::str::from_utf8(bytes).map_err(|error| ParseError {
            place: format!("byte {}", error.valid_up_to()),
            message: "the body is not UTF-8".into(),
        })?;
        Ok(Body::Text(text, format))
    }

    /// Hands out entry by entry, until one is not taken.
    pub(crate) fn parse<'a>(
        &'a self,
        forms: HistogramForms,
        each: impl FnMut(Entry<'a, '_>) -> Result<(), String>,
    ) -> Result<(), ParseError> {
        match self {
            Body::Text(text, format) => text::parse(text, *format, each),
            Body::Families(families) => protobuf::parse(families, forms, each),
        }
    }
}

/// As Prometheus 3 writes the values of `le` and `quantile`, whatever the exposition wrote: a float that looks like
/// one (Prometheus `model/labels`, `FormatOpenMetricsFloat`).
pub(crate) fn openmetrics_float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf".into() } else { "-Inf".into() };
    }
    let scientific = format!("{value:e}");
    let exponent: i32 =
        scientific.split_once('e').and_then(|(_, exponent)| exponent.parse().ok()).unwrap_or(0);
    // Go's shortest form: an exponent below -4 or from 6 on is written out.
    if value != 0.0 && !(-4..6).contains(&exponent) {
        let mantissa = scientific.split('e').next().unwrap_or_default();
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    let plain = value.to_string();
    if plain.contains('.') { plain } else { format!("{plain}.0") }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use self::tests::sample_families;
