//! Prometheus' exposition formats: text 0.0.4 and OpenMetrics 1.0.
//!
//! The parser hands out slices of the scraped text and looks into a series' labels only when asked to, so that a
//! scraper that knows a series already does not parse it again.

mod labels;
mod text;

pub(crate) use labels::{series_labels, unescape};
pub(crate) use text::{Entry, Format, SampleLine, parse};

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
