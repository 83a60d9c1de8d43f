use pharos_model::{
    Exemplar, HistogramSample, MetricKind, MetricMetadata, ResetHint, Sample, TimeSeries, buckets_of_spans,
    counts_of_deltas,
};
use pharos_proto::prometheus::remote_write_v1::{
    BucketSpan, Histogram as NativeHistogram, WriteRequest, histogram, metric_metadata::MetricType,
};
use prost::Message;

use super::{Decoded, check_labels};
use crate::{clock::check_sample, fault::Fault};

pub(super) fn decode(bytes: &[u8], latest_ms: i64) -> Result<Decoded, Fault> {
    let request = WriteRequest::decode(bytes)
        .map_err(|error| Fault::Malformed(format!("the body is not a protobuf WriteRequest: {error}")))?;
    let families = request
        .metadata
        .into_iter()
        .map(|told| MetricMetadata {
            kind: kind_of(told.r#type()),
            family: told.metric_family_name,
            help: told.help,
            unit: told.unit,
        })
        .collect();
    let mut decoded = Decoded { families, ..Decoded::default() };
    for series in request.timeseries {
        let pairs = series.labels.iter().map(|label| (label.name.as_str(), label.value.as_str()));
        let labels = match check_labels(pairs) {
            Ok(labels) => labels,
            Err(fault) => {
                decoded.series.rejected.add(series.samples.len() + series.histograms.len(), || fault);
                continue;
            }
        };
        let mut samples = Vec::with_capacity(series.samples.len());
        for sample in series.samples {
            match check_sample(&labels, sample.timestamp, latest_ms) {
                Ok(()) => samples.push(Sample { time_ms: sample.timestamp, value: sample.value }),
                Err(fault) => decoded.series.rejected.add(1, || fault),
            }
        }
        let exemplars: Vec<Exemplar> = series
            .exemplars
            .into_iter()
            .map(|exemplar| Exemplar {
                labels: exemplar.labels.into_iter().map(|label| (label.name, label.value)).collect(),
                time_ms: exemplar.timestamp,
                value: exemplar.value,
            })
            .filter(|exemplar| exemplar.time_ms <= latest_ms)
            .collect();
        let mut histograms = Vec::with_capacity(series.histograms.len());
        for sent in series.histograms {
            match check_sample(&labels, sent.timestamp, latest_ms).and_then(|()| native(&sent)) {
                Ok(sample) => histograms.push(sample),
                Err(fault) => decoded.series.rejected.add(1, || format!("series {labels}: {fault}")),
            }
        }
        decoded.written.samples += samples.len();
        decoded.written.histograms += histograms.len();
        decoded.written.exemplars += exemplars.len();
        if !samples.is_empty() || !histograms.is_empty() || !exemplars.is_empty() {
            decoded.series.rows.push(TimeSeries { labels, samples, histograms, exemplars, metadata: None });
        }
    }
    Ok(decoded)
}

fn kind_of(kind: MetricType) -> MetricKind {
    match kind {
        MetricType::Unknown => MetricKind::Unknown,
        MetricType::Counter => MetricKind::Counter,
        MetricType::Gauge => MetricKind::Gauge,
        MetricType::Histogram => MetricKind::Histogram,
        MetricType::Gaugehistogram => MetricKind::GaugeHistogram,
        MetricType::Summary => MetricKind::Summary,
        MetricType::Info => MetricKind::Info,
        MetricType::Stateset => MetricKind::StateSet,
    }
}

/// A native histogram as it is stored.
pub(super) fn native(sent: &NativeHistogram) -> Result<HistogramSample, String> {
    let (count, integer) = match sent.count {
        Some(histogram::Count::CountInt(count)) => (count as f64, true),
        Some(histogram::Count::CountFloat(count)) => (count, false),
        None => (0.0, true),
    };
    let zero_count = match sent.zero_count {
        Some(histogram::ZeroCount::ZeroCountInt(count)) => count as f64,
        Some(histogram::ZeroCount::ZeroCountFloat(count)) => count,
        None => 0.0,
    };
    let side = |spans: &[BucketSpan], deltas: &[i64], counts: &[f64]| {
        let spans =
            spans.iter().map(|span| pharos_model::BucketSpan { offset: span.offset, length: span.length });
        match integer {
            true => buckets_of_spans(spans, counts_of_deltas(deltas.iter().copied())),
            false => buckets_of_spans(spans, counts.iter().copied()),
        }
        .map_err(|error| error.to_string())
    };
    let histogram = pharos_model::NativeHistogram {
        schema: sent.schema,
        reset_hint: match sent.reset_hint() {
            histogram::ResetHint::Unknown => ResetHint::Unknown,
            histogram::ResetHint::Yes => ResetHint::Reset,
            histogram::ResetHint::No => ResetHint::NotReset,
            histogram::ResetHint::Gauge => ResetHint::Gauge,
        },
        zero_threshold: sent.zero_threshold,
        zero_count,
        count,
        sum: sent.sum,
        positive: side(&sent.positive_spans, &sent.positive_deltas, &sent.positive_counts)?,
        negative: side(&sent.negative_spans, &sent.negative_deltas, &sent.negative_counts)?,
        custom_bounds: sent.custom_values.clone(),
    };
    let histogram = histogram.checked(integer).map_err(|error| error.to_string())?;
    Ok(HistogramSample { time_ms: sent.timestamp, histogram })
}
