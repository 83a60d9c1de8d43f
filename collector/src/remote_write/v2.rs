use hashbrown::{HashMap, HashSet};
use pharos_model::{Exemplar, Labels, MetricKind, MetricMetadata};
use pharos_proto::prometheus::remote_write_v2::metadata::MetricType;
use xxhash_rust::xxh3::xxh3_128;

use super::{
    check_labels,
    decoded::{Decoded, Sent, decode_sample},
    known::KnownLabels,
    wire::{Fields, Value},
};
use crate::{fault::Fault, start_time::StartTimes};

pub(super) fn decode(
    bytes: &[u8],
    latest_ms: i64,
    known: &KnownLabels,
    start_times: Option<&StartTimes>,
) -> Result<Decoded, Fault> {
    decode_request(bytes, latest_ms, known, start_times).map_err(|error| {
        Fault::Malformed(format!("the body is not a protobuf io.prometheus.write.v2.Request: {error}"))
    })
}

fn decode_request(
    bytes: &[u8],
    latest_ms: i64,
    known: &KnownLabels,
    start_times: Option<&StartTimes>,
) -> Result<Decoded, String> {
    let mut symbols = Symbols::default();
    let mut all_series = Vec::new();
    let mut fields = Fields::new(bytes);
    while let Some(field) = fields.next()? {
        match field {
            (4, Value::Bytes(symbol)) => symbols.add(symbol)?,
            // They may come before the symbols.
            (5, Value::Bytes(series)) => all_series.push(series),
            _ => {}
        }
    }
    if symbols.texts.first().is_some_and(|first| !first.is_empty()) {
        return Err("the first of the symbols is not the empty string".to_string());
    }
    let mut request =
        Request { symbols, known, latest_ms, start_times, told: HashSet::new(), decoded: Decoded::default() };
    for series in all_series {
        request.add_series(series)?;
    }
    Ok(request.decoded)
}

struct Request<'a> {
    symbols: Symbols<'a>,
    known: &'a KnownLabels,
    latest_ms: i64,
    start_times: Option<&'a StartTimes>,
    /// Metadata come with each series; those of a metric are taken once a request.
    told: HashSet<(usize, SentMetadata)>,
    decoded: Decoded,
}

impl Request<'_> {
    /// Adds the series to what is decoded. Fails when the bytes are no `TimeSeries`.
    fn add_series(&mut self, series: &[u8]) -> Result<(), String> {
        let mut refs = Vec::with_capacity(64);
        let mut samples = Vec::with_capacity(1);
        let (mut histograms, mut exemplars, mut metadata) = (Vec::new(), Vec::new(), None);
        let mut starts: HashMap<i64, i64> = HashMap::new();
        let mut fields = Fields::new(series);
        while let Some((number, value)) = fields.next()? {
            match (number, value) {
                (1, value) => add_refs(value, &mut refs)?,
                (2, Value::Bytes(sample)) => {
                    samples.push(decode_sample(sample)?);
                    if self.start_times.is_some() {
                        starts.extend(start_of(sample, SAMPLE_TIMES)?);
                    }
                }
                (3, Value::Bytes(histogram)) => {
                    histograms.push(histogram);
                    if self.start_times.is_some() {
                        starts.extend(start_of(histogram, HISTOGRAM_TIMES)?);
                    }
                }
                (4, Value::Bytes(exemplar)) => exemplars.push(exemplar),
                (5, Value::Bytes(message)) => metadata = Some(SentMetadata::decode(message)?),
                _ => {}
            }
        }
        let labels = self.symbols.labels(&refs, self.known);
        if let (Ok(labels), Some(metadata)) = (&labels, metadata) {
            self.learn(labels.metric_name(), metadata);
        }
        // Prometheus sends exemplars apart from the samples of their series.
        if samples.is_empty() && histograms.is_empty() && exemplars.is_empty() {
            let fault = match labels {
                Ok(labels) => format!("series {labels} has neither samples nor histograms nor exemplars"),
                Err(fault) => fault,
            };
            self.decoded.series.rejected.add(1, || fault);
            return Ok(());
        }
        let mut kept = Vec::with_capacity(exemplars.len());
        for exemplar in exemplars {
            // One whose labels do not exist is left out alone.
            kept.extend(self.symbols.exemplar(exemplar)?);
        }
        let row = self.decoded.series.rows.len();
        self.decoded.add(labels, Sent { samples, histograms, exemplars: kept }, self.latest_ms)?;
        if let Some(start_times) = self.start_times
            && let Some(row) = self.decoded.series.rows.get_mut(row)
        {
            start_times.add_zeros(row, |time_ms| starts.get(&time_ms).copied().unwrap_or(0));
        }
        Ok(())
    }

    fn learn(&mut self, name: &str, metadata: SentMetadata) {
        // Texts of labels are kept once, so that a name is where all of its series have it.
        if !self.told.insert((name.as_ptr() as usize, metadata)) {
            return;
        }
        let kind = MetricType::try_from(metadata.kind).unwrap_or_default();
        let text = |index| self.symbols.get(index).unwrap_or_default().to_string();
        let (help, unit) = (text(metadata.help), text(metadata.unit));
        // What goes along where the sender knows nothing, as with exemplars.
        if kind == MetricType::Unspecified && help.is_empty() && unit.is_empty() {
            return;
        }
        self.decoded.families.push(MetricMetadata {
            family: family_of(name, kind).to_string(),
            kind: kind_of(kind),
            help,
            unit,
        });
    }
}

/// The fields with the time of a sample or a histogram and with its start, both in milliseconds.
const SAMPLE_TIMES: (u32, u32) = (2, 3);
const HISTOGRAM_TIMES: (u32, u32) = (15, 17);

/// The time of a message and when what it tells of began, if it says so.
fn start_of(message: &[u8], (time_field, start_field): (u32, u32)) -> Result<Option<(i64, i64)>, String> {
    let (mut time_ms, mut start_ms) = (0, 0);
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next()? {
        match value {
            Value::Varint(value) if number == time_field => time_ms = value as i64,
            Value::Varint(value) if number == start_field => start_ms = value as i64,
            _ => {}
        }
    }
    Ok((start_ms != 0).then_some((time_ms, start_ms)))
}

/// A series' metadata, with texts by their number.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
struct SentMetadata {
    kind: i32,
    help: u32,
    unit: u32,
}

impl SentMetadata {
    fn decode(message: &[u8]) -> Result<SentMetadata, String> {
        let mut metadata = SentMetadata::default();
        let mut fields = Fields::new(message);
        while let Some(field) = fields.next()? {
            match field {
                (1, Value::Varint(kind)) => metadata.kind = kind as i32,
                (3, Value::Varint(index)) => metadata.help = index as u32,
                (4, Value::Varint(index)) => metadata.unit = index as u32,
                _ => {}
            }
        }
        Ok(metadata)
    }
}

/// Adds the numbers of a field, which come one by one or packed.
fn add_refs(value: Value<'_>, refs: &mut Vec<u32>) -> Result<(), String> {
    match value {
        Value::Varint(index) => refs.push(index as u32),
        Value::Bytes(packed) => {
            let mut packed = Fields::new(packed);
            while !packed.rest().is_empty() {
                refs.push(packed.varint()? as u32);
            }
        }
        _ => return Err("the references of a series' labels are no numbers".to_string()),
    }
    Ok(())
}

#[derive(Default)]
struct Symbols<'a> {
    texts: Vec<&'a str>,
    /// Hashes of the texts, made once a request.
    hashes: Vec<u128>,
}

impl<'a> Symbols<'a> {
    fn add(&mut self, text: &'a [u8]) -> Result<(), String> {
        self.hashes.push(xxh3_128(text));
        self.texts.push(str::from_utf8(text).map_err(|error| format!("a symbol is not UTF-8: {error}"))?);
        Ok(())
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

    /// `None` if its labels do not exist.
    fn exemplar(&self, message: &[u8]) -> Result<Option<Exemplar>, String> {
        let (mut refs, mut value, mut time_ms) = (Vec::new(), 0.0, 0);
        let mut fields = Fields::new(message);
        while let Some(field) = fields.next()? {
            match field {
                (1, field) => add_refs(field, &mut refs)?,
                (2, Value::Fixed64(bits)) => value = f64::from_bits(bits),
                (3, Value::Varint(millis)) => time_ms = millis as i64,
                _ => {}
            }
        }
        Ok(self.pairs(&refs).ok().map(|pairs| Exemplar { labels: Labels::from_pairs(pairs), time_ms, value }))
    }

    fn get(&self, index: u32) -> Option<&'a str> {
        self.texts.get(usize::try_from(index).ok()?).copied()
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
