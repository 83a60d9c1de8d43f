use pharos_model::{Exemplar, MetricKind, MetricMetadata};
use pharos_proto::prometheus::remote_write_v1::{
    Exemplar as SentExemplar, MetricMetadata as SentMetadata, metric_metadata::MetricType,
};
use prost::Message;
use xxhash_rust::xxh3::xxh3_128;

use super::{
    check_labels,
    decoded::{Decoded, Sent, decode_sample},
    known::KnownLabels,
    wire::{Fields, Value},
};
use crate::fault::Fault;

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
                let told = SentMetadata::decode(metadata).map_err(|error| malformed(error.to_string()))?;
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

/// Of a sample with a value and a time of our days.
const SAMPLE_BYTES: usize = 18;

/// Adds the series to what is decoded. Fails when the bytes are no `TimeSeries`.
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
    let mut samples = Vec::new();
    let (mut exemplars, mut histograms) = (Vec::new(), Vec::new());
    let mut others = false;
    while let Some(field) = fields.next()? {
        match field {
            (1, Value::Bytes(_)) if others => in_one_place = false,
            (1, Value::Bytes(_)) => {
                form = series.get(..series.len() - fields.rest().len()).unwrap_or_default();
            }
            (2, Value::Bytes(sample)) => {
                if samples.is_empty() {
                    samples.reserve_exact(1 + fields.rest().len() / SAMPLE_BYTES);
                }
                samples.push(decode_sample(sample)?);
            }
            (3, Value::Bytes(exemplar)) => exemplars.push(decode_exemplar(exemplar)?),
            (4, Value::Bytes(histogram)) => histograms.push(histogram),
            _ => {}
        }
        others |= field.0 != 1;
    }
    let labels = match in_one_place {
        true => known.get_or_check(xxh3_128(form), || check_labels(label_pairs(series)?.into_iter())),
        false => label_pairs(series).and_then(|pairs| check_labels(pairs.into_iter())),
    };
    decoded.add(labels, Sent { samples, histograms, exemplars }, latest_ms)
}

fn decode_exemplar(message: &[u8]) -> Result<Exemplar, String> {
    let sent = SentExemplar::decode(message).map_err(|error| error.to_string())?;
    Ok(Exemplar {
        labels: sent.labels.into_iter().map(|label| (label.name, label.value)).collect(),
        time_ms: sent.timestamp,
        value: sent.value,
    })
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
