//! Prometheus' protobuf exposition: `io.prometheus.client.MetricFamily` messages, each after its length.
//!
//! Series are told of by the text that the text formats would have for them, so that all that follows is the same.

use std::fmt::Write;

use pharos_model::{BucketSpan, MetricKind, NativeHistogram, ResetHint, buckets_of_spans, counts_of_deltas};
use pharos_proto::prometheus::exposition::{
    Exemplar, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};
use prost::Message;

use super::{
    Entry, HistogramForms, openmetrics_float,
    text::{ExemplarText, ParseError, SampleLine, SampleValue},
};

/// All families of a body.
pub(crate) fn families(mut body: &[u8]) -> Result<Vec<MetricFamily>, ParseError> {
    let mut families = Vec::new();
    while !body.is_empty() {
        let number = families.len() + 1;
        let family = MetricFamily::decode_length_delimited(&mut body);
        families.push(family.map_err(|error| ParseError {
            place: format!("metric family {number}"),
            message: error.to_string(),
        })?);
    }
    Ok(families)
}

pub(crate) fn parse<'a>(
    families: &'a [MetricFamily],
    forms: HistogramForms,
    mut each: impl FnMut(Entry<'a, '_>) -> Result<(), String>,
) -> Result<(), ParseError> {
    for family in families {
        let fault =
            |message: String| ParseError { place: format!("metric family {:?}", family.name), message };
        if family.name.is_empty() {
            return Err(fault("a metric family has no name".into()));
        }
        let kind = match family.r#type() {
            MetricType::Counter => MetricKind::Counter,
            MetricType::Gauge => MetricKind::Gauge,
            MetricType::Summary => MetricKind::Summary,
            MetricType::Untyped => MetricKind::Unknown,
            MetricType::Histogram => MetricKind::Histogram,
            MetricType::GaugeHistogram => MetricKind::GaugeHistogram,
        };
        each(Entry::Help { family: &family.name, text: &family.help }).map_err(fault)?;
        each(Entry::Type { family: &family.name, kind }).map_err(fault)?;
        if !family.unit.is_empty() {
            each(Entry::Unit { family: &family.name, unit: &family.unit }).map_err(fault)?;
        }
        let mut writer = Writer { family, forms, series: String::new(), each: &mut each };
        for metric in &family.metric {
            writer.metric(metric).map_err(fault)?;
        }
    }
    Ok(())
}

struct Writer<'f, 'e, F> {
    family: &'f MetricFamily,
    forms: HistogramForms,
    /// The text of the series at hand.
    series: String,
    each: &'e mut F,
}

impl<'a, F: FnMut(Entry<'a, '_>) -> Result<(), String>> Writer<'_, '_, F> {
    fn metric(&mut self, metric: &Metric) -> Result<(), String> {
        let missing = || format!("a metric has no value of its type {}", self.family.r#type().as_str_name());
        match self.family.r#type() {
            MetricType::Counter => {
                let counter = metric.counter.as_ref().ok_or_else(missing)?;
                self.float("", None, metric, counter.value, counter.exemplar.as_slice())
            }
            MetricType::Gauge => {
                let gauge = metric.gauge.as_ref().ok_or_else(missing)?;
                self.float("", None, metric, gauge.value, &[])
            }
            MetricType::Untyped => {
                let untyped = metric.untyped.as_ref().ok_or_else(missing)?;
                self.float("", None, metric, untyped.value, &[])
            }
            MetricType::Summary => {
                let summary = metric.summary.as_ref().ok_or_else(missing)?;
                self.float("_count", None, metric, summary.sample_count as f64, &[])?;
                self.float("_sum", None, metric, summary.sample_sum, &[])?;
                for quantile in &summary.quantile {
                    let label = ("quantile", quantile.quantile);
                    self.float("", Some(label), metric, quantile.value, &[])?;
                }
                Ok(())
            }
            MetricType::Histogram | MetricType::GaugeHistogram => {
                let histogram = metric.histogram.as_ref().ok_or_else(missing)?;
                let native = self.forms.native && is_native(histogram);
                if native {
                    self.native(metric, histogram)?;
                }
                // A native histogram has no buckets of the other form unless both are kept.
                let has_classic = !native || (self.forms.always_classic && !histogram.bucket.is_empty());
                if has_classic { self.classic(metric, histogram) } else { Ok(()) }
            }
        }
    }

    fn classic(&mut self, metric: &Metric, histogram: &Histogram) -> Result<(), String> {
        let count = float_or(histogram.sample_count_float, histogram.sample_count);
        self.float("_count", None, metric, count, &[])?;
        self.float("_sum", None, metric, histogram.sample_sum, &[])?;
        let mut has_infinite = false;
        for bucket in &histogram.bucket {
            has_infinite |= bucket.upper_bound == f64::INFINITY;
            let value = float_or(bucket.cumulative_count_float, bucket.cumulative_count);
            let label = ("le", bucket.upper_bound);
            self.float("_bucket", Some(label), metric, value, bucket.exemplar.as_slice())?;
        }
        if !has_infinite {
            self.float("_bucket", Some(("le", f64::INFINITY)), metric, count, &[])?;
        }
        Ok(())
    }

    fn native(&mut self, metric: &Metric, histogram: &Histogram) -> Result<(), String> {
        let value = native(histogram, self.family.r#type() == MetricType::GaugeHistogram)?;
        let of_buckets = histogram.bucket.iter().filter_map(|bucket| bucket.exemplar.as_ref());
        let exemplars: Vec<Exemplar> = match histogram.exemplars.is_empty() {
            true => of_buckets.cloned().collect(),
            false => histogram.exemplars.clone(),
        };
        // Prometheus: one without a time cannot be told from the last scrape's.
        let timed: Vec<Exemplar> =
            exemplars.into_iter().filter(|exemplar| exemplar.timestamp.is_some()).collect();
        self.sample("", None, metric, SampleValue::Histogram(Box::new(value)), &timed)
    }

    fn float(
        &mut self,
        suffix: &str,
        label: Option<(&str, f64)>,
        metric: &Metric,
        value: f64,
        exemplars: &[Exemplar],
    ) -> Result<(), String> {
        self.sample(suffix, label, metric, SampleValue::Float(value), exemplars)
    }

    fn sample(
        &mut self,
        suffix: &str,
        label: Option<(&str, f64)>,
        metric: &Metric,
        value: SampleValue,
        exemplars: &[Exemplar],
    ) -> Result<(), String> {
        self.series.clear();
        self.series.push('{');
        write_quoted(&mut self.series, [self.family.name.as_str(), suffix]);
        write_labels(&mut self.series, &metric.label, true);
        if let Some((name, bound)) = label {
            let _ = write!(self.series, ",{name}=\"{}\"", openmetrics_float(bound));
        }
        self.series.push('}');
        let labels: Vec<String> = exemplars
            .iter()
            .map(|exemplar| {
                let mut text = String::from("{");
                write_labels(&mut text, &exemplar.label, false);
                text.push('}');
                text
            })
            .collect();
        let exemplars = labels.iter().zip(exemplars).map(|(labels, exemplar)| ExemplarText {
            labels,
            value: exemplar.value,
            time_ms: exemplar.timestamp.map(ms_of),
        });
        (self.each)(Entry::Sample(SampleLine {
            series: &self.series,
            value,
            time_ms: Some(metric.timestamp_ms).filter(|time_ms| *time_ms != 0),
            start_ms: start_of(metric),
            exemplars: exemplars.collect(),
        }))
    }
}

/// Only what counts has a start.
fn start_of(metric: &Metric) -> Option<i64> {
    let of_counter = metric.counter.as_ref().and_then(|counter| counter.created_timestamp);
    let of_summary = metric.summary.as_ref().and_then(|summary| summary.created_timestamp);
    let of_histogram = metric.histogram.as_ref().and_then(|histogram| histogram.created_timestamp);
    of_counter.or(of_summary).or(of_histogram).map(ms_of)
}

fn ms_of(time: prost_types::Timestamp) -> i64 {
    time.seconds.saturating_mul(1_000).saturating_add(i64::from(time.nanos) / 1_000_000)
}

/// `"name"="value"` pairs, each quoted, as series may have any UTF-8.
fn write_labels(text: &mut String, labels: &[LabelPair], follows: bool) {
    for (index, label) in labels.iter().enumerate() {
        if follows || index > 0 {
            text.push(',');
        }
        write_quoted(text, [label.name.as_str()]);
        text.push('=');
        write_quoted(text, [label.value.as_str()]);
    }
}

fn write_quoted<'t>(text: &mut String, parts: impl IntoIterator<Item = &'t str>) {
    text.push('"');
    for ch in parts.into_iter().flat_map(str::chars) {
        match ch {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
    text.push('"');
}

fn float_or(float: f64, whole: u64) -> f64 {
    if float > 0.0 { float } else { whole as f64 }
}

/// An empty native histogram tells of itself by its zero threshold, or by an empty span.
fn is_native(histogram: &Histogram) -> bool {
    !histogram.positive_span.is_empty()
        || !histogram.negative_span.is_empty()
        || histogram.zero_threshold > 0.0
        || histogram.zero_count > 0
        || histogram.zero_count_float > 0.0
}

fn native(histogram: &Histogram, gauge: bool) -> Result<NativeHistogram, String> {
    let is_float = histogram.sample_count_float > 0.0 || histogram.zero_count_float > 0.0;
    let side =
        |spans: &[pharos_proto::prometheus::exposition::BucketSpan], deltas: &[i64], counts: &[f64]| {
            let spans = spans.iter().map(|span| BucketSpan { offset: span.offset, length: span.length });
            match is_float {
                true => buckets_of_spans(spans, counts.iter().copied()),
                false => buckets_of_spans(spans, counts_of_deltas(deltas.iter().copied())),
            }
            .map_err(|error| error.to_string())
        };
    let value = NativeHistogram {
        schema: histogram.schema,
        reset_hint: if gauge { ResetHint::Gauge } else { ResetHint::Unknown },
        zero_threshold: histogram.zero_threshold,
        zero_count: float_or(histogram.zero_count_float, histogram.zero_count),
        count: float_or(histogram.sample_count_float, histogram.sample_count),
        sum: histogram.sample_sum,
        positive: side(&histogram.positive_span, &histogram.positive_delta, &histogram.positive_count)?,
        negative: side(&histogram.negative_span, &histogram.negative_delta, &histogram.negative_count)?,
        custom_bounds: Vec::new(),
    };
    value.checked(!is_float).map_err(|error| error.to_string())
}
