use pharos_model::{Exemplar, Labels, MetricKind, MetricMetadata, Sample, TimeSeries};
use pharos_proto::prometheus::remote_write_v1::{
    BucketSpan, Histogram as NativeHistogram, WriteRequest, histogram, metric_metadata::MetricType,
};
use prost::Message;

use super::{Decoded, check_labels};
use crate::{
    clock::check_sample,
    fault::Fault,
    histogram::{ExponentialSide, Histogram},
};

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
        for native in series.histograms {
            match check_sample(&labels, native.timestamp, latest_ms)
                .and_then(|()| classic(&native, &labels, None))
            {
                Ok(rows) => {
                    decoded.series.rows.extend(rows);
                    decoded.written.histograms += 1;
                }
                Err(fault) => decoded.series.rejected.add(1, || fault),
            }
        }
        decoded.written.samples += samples.len();
        decoded.written.exemplars += exemplars.len();
        if !samples.is_empty() || !exemplars.is_empty() {
            decoded.series.rows.push(TimeSeries { labels, samples, exemplars, metadata: None });
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

/// A native histogram's series in the classic form, which is the one that is stored.
pub(super) fn classic(
    native: &NativeHistogram,
    labels: &Labels,
    metadata: Option<&MetricMetadata>,
) -> Result<Vec<TimeSeries>, String> {
    let count = match native.count {
        Some(histogram::Count::CountInt(count)) => count as f64,
        Some(histogram::Count::CountFloat(count)) => count,
        None => 0.0,
    };
    let zero_count = match native.zero_count {
        Some(histogram::ZeroCount::ZeroCountInt(count)) => count as f64,
        Some(histogram::ZeroCount::ZeroCountFloat(count)) => count,
        None => 0.0,
    };
    let fault = |what: String| format!("series {labels}: {what}");
    let positive =
        side(&native.positive_spans, &native.positive_deltas, &native.positive_counts).map_err(fault)?;
    let negative =
        side(&native.negative_spans, &native.negative_deltas, &native.negative_counts).map_err(fault)?;
    let buckets = match native.schema {
        // Custom buckets: the counts belong to the bounds that are sent along.
        -53 => {
            let start = usize::try_from(positive.offset).unwrap_or(0);
            let bounds = native.custom_values.iter().copied().enumerate();
            let count_at =
                |index: usize| index.checked_sub(start).and_then(|i| positive.counts.get(i)).copied();
            bounds.map(|(index, bound)| (bound, count_at(index).unwrap_or(0.0))).collect()
        }
        // Schema n's bucket i ends at base^i, where OpenTelemetry's begins.
        schema @ -4..=8 => {
            let shifted =
                |side: ExponentialSide| ExponentialSide { offset: side.offset.saturating_sub(1), ..side };
            Histogram::of_exponential(
                schema,
                native.zero_threshold,
                zero_count,
                shifted(positive),
                shifted(negative),
            )
            .buckets
        }
        other => return Err(fault(format!("native histogram schema {other} is not known"))),
    };
    let histogram = Histogram { count, sum: Some(native.sum), buckets };
    let bounds = histogram.bounds();
    let family = labels.metric_name();
    let metadata = metadata.cloned().unwrap_or_else(|| MetricMetadata {
        family: family.to_string(),
        kind: MetricKind::Histogram,
        ..MetricMetadata::default()
    });
    let stale = pharos_model::is_stale(native.sum);
    let histogram = (!stale).then_some(&histogram);
    Ok(Histogram::series(histogram, &bounds, family, labels, native.timestamp, Vec::new(), &metadata))
}

/// Buckets of a side, gaps filled. Spans come from the network: their length is bounded.
fn side(spans: &[BucketSpan], deltas: &[i64], counts: &[f64]) -> Result<ExponentialSide, String> {
    const MAX_BUCKETS: usize = 10_000;
    let mut values: Box<dyn Iterator<Item = f64>> = if counts.is_empty() {
        Box::new(deltas.iter().scan(0i64, |count, delta| {
            *count = count.saturating_add(*delta);
            Some(*count as f64)
        }))
    } else {
        Box::new(counts.iter().copied())
    };
    let Some(first) = spans.first() else { return Ok(ExponentialSide::default()) };
    let mut out = Vec::new();
    for (index, span) in spans.iter().enumerate() {
        let gap = if index == 0 { 0 } else { span.offset };
        let gap = usize::try_from(gap).map_err(|_| "a native histogram's spans overlap".to_string())?;
        let length = usize::try_from(span.length).unwrap_or(usize::MAX);
        if out.len().saturating_add(gap).saturating_add(length) > MAX_BUCKETS {
            return Err(format!("a native histogram has more than {MAX_BUCKETS} buckets"));
        }
        out.resize(out.len() + gap, 0.0);
        for _ in 0..length {
            out.push(values.next().ok_or("a native histogram has fewer counts than its spans say")?);
        }
    }
    Ok(ExponentialSide { offset: first.offset, counts: out })
}
