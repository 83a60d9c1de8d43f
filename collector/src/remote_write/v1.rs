use pharos_model::{
    Exemplar, HistogramSample, MetricKind, MetricMetadata, ResetHint, Sample, TimeSeries, buckets_of_spans,
    counts_of_deltas,
};
use pharos_proto::prometheus::remote_write_v1::{
    BucketSpan, Exemplar as ToldExemplar, Histogram as NativeHistogram, MetricMetadata as ToldMetadata,
    histogram, metric_metadata::MetricType,
};
use prost::Message;
use xxhash_rust::xxh3::xxh3_128;

use super::{
    Decoded, check_labels,
    known::KnownLabels,
    wire::{Fields, Value},
};
use crate::{clock::check_sample, fault::Fault};

pub(super) fn decode(bytes: &[u8], latest_ms: i64, known: &KnownLabels) -> Result<Decoded, Fault> {
    let malformed =
        |error: String| Fault::Malformed(format!("the body is not a protobuf WriteRequest: {error}"));
    let mut decoded = Decoded::default();
    let mut fields = Fields::new(bytes);
    while let Some(field) = fields.next().map_err(malformed)? {
        match field {
            (1, Value::Bytes(series)) => {
                decode_series(series, latest_ms, known, &mut decoded).map_err(malformed)?;
            }
            (3, Value::Bytes(metadata)) => {
                let told = ToldMetadata::decode(metadata).map_err(|error| malformed(error.to_string()))?;
                decoded.families.push(MetricMetadata {
                    kind: kind_of(told.r#type()),
                    family: told.metric_family_name,
                    help: told.help,
                    unit: told.unit,
                });
            }
            _ => {}
        }
    }
    Ok(decoded)
}

/// Adds the series to what is decoded. Fails when the bytes are no `TimeSeries`; what a `TimeSeries` must not hold is
/// counted as rejected.
fn decode_series(
    series: &[u8],
    latest_ms: i64,
    known: &KnownLabels,
    decoded: &mut Decoded,
) -> Result<(), String> {
    let mut fields = Fields::new(series);
    // The labels come first with every sender there is; as long as they do, their bytes stand for them.
    let mut form: &[u8] = &[];
    let mut in_one_place = true;
    let mut samples = Vec::with_capacity(1);
    let mut exemplars: Vec<&[u8]> = Vec::new();
    let mut histograms: Vec<&[u8]> = Vec::new();
    let mut others = false;
    while let Some(field) = fields.next()? {
        match field {
            (1, Value::Bytes(_)) if others => in_one_place = false,
            (1, Value::Bytes(_)) => {
                form = series.get(..series.len() - fields.rest().len()).unwrap_or_default();
            }
            (2, Value::Bytes(sample)) => samples.push(decode_sample(sample)?),
            (3, Value::Bytes(exemplar)) => exemplars.push(exemplar),
            (4, Value::Bytes(histogram)) => histograms.push(histogram),
            _ => {}
        }
        others |= field.0 != 1;
    }
    let checked = match in_one_place {
        true => known.get_or_check(xxh3_128(form), || check_labels(label_pairs(series)?.into_iter())),
        false => label_pairs(series).and_then(|pairs| check_labels(pairs.into_iter())),
    };
    let labels = match checked {
        Ok(labels) => labels,
        Err(fault) => {
            decoded.series.rejected.add(samples.len() + histograms.len(), || fault);
            return Ok(());
        }
    };
    samples.retain(|sample: &Sample| {
        let checked = check_sample(&labels, sample.time_ms, latest_ms);
        checked.map_err(|fault| decoded.series.rejected.add(1, || fault)).is_ok()
    });
    let exemplars = exemplars
        .into_iter()
        .map(|exemplar| {
            let exemplar = ToldExemplar::decode(exemplar).map_err(|error| error.to_string())?;
            Ok(Exemplar {
                labels: exemplar.labels.into_iter().map(|label| (label.name, label.value)).collect(),
                time_ms: exemplar.timestamp,
                value: exemplar.value,
            })
        })
        .filter(|exemplar| exemplar.as_ref().is_ok_and(|exemplar| exemplar.time_ms <= latest_ms))
        .collect::<Result<Vec<Exemplar>, String>>()?;
    let mut stored_histograms = Vec::with_capacity(histograms.len());
    for sent in histograms {
        let sent = NativeHistogram::decode(sent).map_err(|error| error.to_string())?;
        match check_sample(&labels, sent.timestamp, latest_ms).and_then(|()| native(&sent)) {
            Ok(sample) => stored_histograms.push(sample),
            Err(fault) => decoded.series.rejected.add(1, || format!("series {labels}: {fault}")),
        }
    }
    let histograms = stored_histograms;
    decoded.written.samples += samples.len();
    decoded.written.histograms += histograms.len();
    decoded.written.exemplars += exemplars.len();
    if !samples.is_empty() || !histograms.is_empty() || !exemplars.is_empty() {
        decoded.series.rows.push(TimeSeries { labels, samples, histograms, exemplars, metadata: None });
    }
    Ok(())
}

fn decode_sample(message: &[u8]) -> Result<Sample, String> {
    let mut sample = Sample { time_ms: 0, value: 0.0 };
    let mut fields = Fields::new(message);
    while let Some(field) = fields.next()? {
        match field {
            (1, Value::Fixed64(bits)) => sample.value = f64::from_bits(bits),
            (2, Value::Varint(time_ms)) => sample.time_ms = time_ms as i64,
            _ => {}
        }
    }
    Ok(sample)
}

/// Names and values of a series' labels, in the order in which they were sent.
fn label_pairs(series: &[u8]) -> Result<Vec<(&str, &str)>, String> {
    let mut pairs = Vec::with_capacity(32);
    let mut fields = Fields::new(series);
    while let Some(field) = fields.next()? {
        let (1, Value::Bytes(label)) = field else { continue };
        let (mut name, mut value) = ("", "");
        let mut parts = Fields::new(label);
        while let Some(part) = parts.next()? {
            match part {
                (1, Value::Bytes(bytes)) => name = text(bytes)?,
                (2, Value::Bytes(bytes)) => value = text(bytes)?,
                _ => {}
            }
        }
        pairs.push((name, value));
    }
    Ok(pairs)
}

fn text(bytes: &[u8]) -> Result<&str, String> {
    str::from_utf8(bytes).map_err(|error| format!("a label is not UTF-8: {error}"))
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
