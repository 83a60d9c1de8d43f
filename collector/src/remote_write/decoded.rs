//! What both versions of a request come to.

use pharos_model::{
    Exemplar, HistogramSample, Labels, MetricMetadata, ResetHint, Sample, TimeSeries, buckets_of_spans,
    counts_of_deltas,
};
use pharos_proto::prometheus::remote_write_v1::{BucketSpan, Histogram as NativeHistogram, histogram};
use prost::Message;

use super::wire::{Fields, Value};
use crate::{clock::check_sample, intake::Normalised};

/// What of a request was stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) samples: usize,
    pub(super) histograms: usize,
    pub(super) exemplars: usize,
}

/// Series of a request, with what of it they hold.
#[derive(Default)]
pub(super) struct Decoded {
    pub(super) series: Normalised<TimeSeries>,
    pub(super) written: Written,
    pub(super) families: Vec<MetricMetadata>,
}

/// A series whose labels are not known yet. Native histograms are still as they were sent, which both versions do alike.
pub(super) struct Sent<'a> {
    pub(super) samples: Vec<Sample>,
    pub(super) histograms: Vec<&'a [u8]>,
    pub(super) exemplars: Vec<Exemplar>,
}

impl Decoded {
    /// Adds a series. What it must not hold is counted as rejected. Fails when the bytes of a histogram are none.
    pub(super) fn add(
        &mut self,
        labels: Result<Labels, String>,
        sent: Sent<'_>,
        latest_ms: i64,
    ) -> Result<(), String> {
        let Sent { mut samples, histograms: sent_histograms, mut exemplars } = sent;
        let rejected = &mut self.series.rejected;
        let labels = match labels {
            Ok(labels) => labels,
            Err(fault) => {
                rejected.add(samples.len() + sent_histograms.len(), || fault);
                return Ok(());
            }
        };
        samples.retain(|sample| {
            let checked = check_sample(&labels, sample.time_ms, latest_ms);
            checked.map_err(|fault| rejected.add(1, || fault)).is_ok()
        });
        let mut histograms = Vec::with_capacity(sent_histograms.len());
        for sent in sent_histograms {
            let sent = NativeHistogram::decode(sent).map_err(|error| error.to_string())?;
            match check_sample(&labels, sent.timestamp, latest_ms).and_then(|()| native(&sent)) {
                Ok(sample) => histograms.push(sample),
                Err(fault) => rejected.add(1, || format!("series {labels}: {fault}")),
            }
        }
        // A bad exemplar never fails a request.
        exemplars.retain(|exemplar| exemplar.time_ms <= latest_ms);
        self.written.samples += samples.len();
        self.written.histograms += histograms.len();
        self.written.exemplars += exemplars.len();
        if !samples.is_empty() || !histograms.is_empty() || !exemplars.is_empty() {
            self.series.rows.push(TimeSeries { labels, samples, histograms, exemplars, metadata: None });
        }
        Ok(())
    }
}

/// The fields that both versions' samples have.
pub(super) fn decode_sample(message: &[u8]) -> Result<Sample, String> {
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

/// A native histogram as it is stored.
fn native(sent: &NativeHistogram) -> Result<HistogramSample, String> {
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
