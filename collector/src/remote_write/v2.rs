use pharos_model::{Exemplar, Labels, MetricKind, MetricMetadata, Sample, TimeSeries};
use pharos_proto::prometheus::{
    remote_write_v1 as v1_proto,
    remote_write_v2::{BucketSpan, Histogram, Request, histogram, metadata::MetricType},
};
use prost::Message;
use xxhash_rust::xxh3::xxh3_128;

use super::{Decoded, check_labels, known::KnownLabels, v1};
use crate::{clock::check_sample, fault::Fault};

pub(super) fn decode(bytes: &[u8], latest_ms: i64, known: &KnownLabels) -> Result<Decoded, Fault> {
    let request = Request::decode(bytes).map_err(|error| {
        Fault::Malformed(format!("the body is not a protobuf io.prometheus.write.v2.Request: {error}"))
    })?;
    if request.symbols.first().is_some_and(|first| !first.is_empty()) {
        return Err(Fault::Malformed("the first of the symbols is not the empty string".into()));
    }
    let symbols = Symbols::new(&request.symbols);
    let mut decoded = Decoded::default();
    for series in request.timeseries {
        let items = series.samples.len() + series.histograms.len();
        let labels = match symbols.labels(&series.labels_refs, known) {
            Ok(labels) => labels,
            Err(fault) => {
                decoded.series.rejected.add(items, || fault);
                continue;
            }
        };
        let metadata = series.metadata.map(|told| MetricMetadata {
            family: family_of(labels.metric_name(), told.r#type()).to_string(),
            kind: kind_of(told.r#type()),
            help: symbols.get(told.help_ref).unwrap_or_default().to_string(),
            unit: symbols.get(told.unit_ref).unwrap_or_default().to_string(),
        });
        let mut samples = Vec::with_capacity(series.samples.len());
        for sample in series.samples {
            match check_sample(&labels, sample.timestamp, latest_ms) {
                Ok(()) => samples.push(Sample { time_ms: sample.timestamp, value: sample.value }),
                Err(fault) => decoded.series.rejected.add(1, || fault),
            }
        }
        let mut exemplars = Vec::new();
        for exemplar in series.exemplars {
            // A bad exemplar never fails a request.
            let Ok(pairs) = symbols.pairs(&exemplar.labels_refs) else { continue };
            let (time_ms, value) = (exemplar.timestamp, exemplar.value);
            exemplars.push(Exemplar { labels: Labels::from_pairs(pairs), time_ms, value });
        }
        let mut histograms = Vec::with_capacity(series.histograms.len());
        for sent in series.histograms {
            let sent = as_v1(sent);
            match check_sample(&labels, sent.timestamp, latest_ms).and_then(|()| v1::native(&sent)) {
                Ok(sample) => histograms.push(sample),
                Err(fault) => decoded.series.rejected.add(1, || format!("series {labels}: {fault}")),
            }
        }
        decoded.written.histograms += histograms.len();
        decoded.written.samples += samples.len();
        decoded.written.exemplars += exemplars.len();
        if !samples.is_empty() || !histograms.is_empty() || !exemplars.is_empty() {
            decoded.series.rows.push(TimeSeries { labels, samples, histograms, exemplars, metadata });
        }
    }
    Ok(decoded)
}

struct Symbols<'a> {
    texts: &'a [String],
    /// Hashes of the texts, made once a request.
    hashes: Vec<u128>,
}

impl<'a> Symbols<'a> {
    fn new(texts: &'a [String]) -> Symbols<'a> {
        Symbols { texts, hashes: texts.iter().map(|text| xxh3_128(text.as_bytes())).collect() }
    }

    /// A label set that is known by the hashes of its texts, or else checked.
    fn labels(&self, refs: &[u32], known: &KnownLabels) -> Result<Labels, String> {
        let mut form = Vec::with_capacity(refs.len() * 16);
        for index in refs {
            // One that does not exist is found when the pairs are made.
            let hash = usize::try_from(*index).ok().and_then(|index| self.hashes.get(index));
            form.extend_from_slice(&hash.copied().unwrap_or(0).to_le_bytes());
        }
        known.get_or_check(xxh3_128(&form), || check_labels(self.pairs(refs)?.into_iter()))
    }

    fn get(&self, index: u32) -> Option<&'a str> {
        self.texts.get(usize::try_from(index).ok()?).map(String::as_str)
    }

    fn pairs(&self, refs: &[u32]) -> Result<Vec<(&'a str, &'a str)>, String> {
        if !refs.len().is_multiple_of(2) {
            return Err(format!("a series has {} label references, an odd number", refs.len()));
        }
        let symbol = |index: u32| {
            self.get(index).ok_or_else(|| {
                format!("symbol {index} of a label does not exist, there are {}", self.texts.len())
            })
        };
        refs.chunks_exact(2)
            .map(|pair| match pair {
                [name, value] => Ok((symbol(*name)?, symbol(*value)?)),
                _ => Err("a label without a value".into()),
            })
            .collect()
    }
}

/// Metadata belong to a family, whose series have suffixes.
fn family_of(name: &str, kind: MetricType) -> &str {
    let suffixes: &[&str] = match kind {
        MetricType::Histogram | MetricType::Gaugehistogram => &["_bucket", "_sum", "_count"],
        MetricType::Summary => &["_sum", "_count"],
        _ => &[],
    };
    suffixes.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name)
}

fn kind_of(kind: MetricType) -> MetricKind {
    match kind {
        MetricType::Unspecified => MetricKind::Unknown,
        MetricType::Counter => MetricKind::Counter,
        MetricType::Gauge => MetricKind::Gauge,
        MetricType::Histogram => MetricKind::Histogram,
        MetricType::Gaugehistogram => MetricKind::GaugeHistogram,
        MetricType::Summary => MetricKind::Summary,
        MetricType::Info => MetricKind::Info,
        MetricType::Stateset => MetricKind::StateSet,
    }
}

/// The two versions' native histograms differ in their types' names only.
fn as_v1(native: Histogram) -> v1_proto::Histogram {
    let spans = |spans: Vec<BucketSpan>| {
        spans
            .into_iter()
            .map(|span| v1_proto::BucketSpan { offset: span.offset, length: span.length })
            .collect()
    };
    v1_proto::Histogram {
        count: native.count.map(|count| match count {
            histogram::Count::CountInt(count) => v1_proto::histogram::Count::CountInt(count),
            histogram::Count::CountFloat(count) => v1_proto::histogram::Count::CountFloat(count),
        }),
        zero_count: native.zero_count.map(|count| match count {
            histogram::ZeroCount::ZeroCountInt(count) => v1_proto::histogram::ZeroCount::ZeroCountInt(count),
            histogram::ZeroCount::ZeroCountFloat(count) => {
                v1_proto::histogram::ZeroCount::ZeroCountFloat(count)
            }
        }),
        sum: native.sum,
        schema: native.schema,
        zero_threshold: native.zero_threshold,
        negative_spans: spans(native.negative_spans),
        negative_deltas: native.negative_deltas,
        negative_counts: native.negative_counts,
        positive_spans: spans(native.positive_spans),
        positive_deltas: native.positive_deltas,
        positive_counts: native.positive_counts,
        reset_hint: native.reset_hint,
        timestamp: native.timestamp,
        custom_values: native.custom_values,
    }
}
