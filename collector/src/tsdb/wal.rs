//! The write-ahead log of a TSDB (`tsdb/docs/format/wal.md`): what is in no block yet.
//!
//! It is in `wal`, a checkpoint of what was cut off there, and in `wbl` for samples that came out of order. Chunks of
//! the head that are mapped into memory (`chunks_head`) hold nothing that is not in it.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use pharos_model::{
    BucketSpan, HistogramSample, Labels, NativeHistogram, ResetHint, Sample, TimeSeries, buckets_of_spans,
    counts_of_deltas,
};

use super::{
    BATCH_WEIGHT, HISTOGRAM_WEIGHT, Part, Sender, TsdbError,
    file::{BlockFile, Cursor},
};

const PAGE_BYTES: u64 = 32 << 10;
const HEADER_BYTES: u64 = 7;

/// Far beyond what Prometheus writes at once.
const MAX_RECORD_BYTES: usize = 256 << 20;

/// How a record is compressed.
const SNAPPY: u8 = 0x08;
const ZSTD: u8 = 0x10;

/// The folders with segments, in the order in which they are to be read.
pub(super) fn folders(tsdb: &Path) -> Vec<PathBuf> {
    let checkpoint = entries(&tsdb.join("wal"))
        .into_iter()
        .filter_map(|(name, path)| Some((name.strip_prefix("checkpoint.")?.parse::<u64>().ok()?, path)))
        .max();
    let mut folders: Vec<PathBuf> = checkpoint.map(|(_, path)| path).into_iter().collect();
    folders.extend([tsdb.join("wal"), tsdb.join("wbl")].into_iter().filter(|folder| folder.is_dir()));
    folders
}

fn entries(folder: &Path) -> Vec<(String, PathBuf)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path()))).collect()
}

/// The segments of a folder, the oldest first.
fn segments(folder: &Path) -> Vec<PathBuf> {
    let numbered = entries(folder).into_iter();
    let mut numbered: Vec<(u64, PathBuf)> =
        numbered.filter_map(|(name, path)| Some((name.parse().ok()?, path))).collect();
    numbered.sort();
    numbered.into_iter().map(|(_, path)| path).collect()
}

/// What series are called, and what of them was deleted.
#[derive(Default)]
struct Known {
    labels: HashMap<u64, Labels>,
    /// Both ends inclusive.
    deleted: HashMap<u64, Vec<(i64, i64)>>,
}

/// Sends all samples from `from_ms` on, with the number of series.
pub(super) fn read(tsdb: &Path, from_ms: i64, sender: &Sender) -> Result<(), TsdbError> {
    let folders = folders(tsdb);
    let mut known = Known::default();
    // Deletions concern what was written before them.
    for folder in &folders {
        records(folder, |record| known.take(record).map(|()| true))?;
    }
    let series = u32::try_from(known.labels.len()).unwrap_or(u32::MAX);
    let mut batch = Batch { known: &known, from_ms, rows: HashMap::new(), values: 0, weight: 0 };
    for folder in &folders {
        let mut listening = true;
        records(folder, |record| {
            batch.take(record)?;
            if batch.weight >= BATCH_WEIGHT {
                listening = sender.blocking_send((series, batch.part(0))).is_ok();
            }
            Ok(listening)
        })?;
        if !listening {
            return Ok(());
        }
    }
    // The receiver is gone only when it has failed already.
    let _ = sender.blocking_send((series, batch.part(series)));
    Ok(())
}

/// Hands out the records of a folder's segments until one is enough. The last segment may end in the middle of one:
/// the process was killed while it wrote.
fn records(folder: &Path, mut each: impl FnMut(&[u8]) -> Result<bool, String>) -> Result<(), TsdbError> {
    let segments = segments(folder);
    let count = segments.len();
    for (number, path) in segments.iter().enumerate() {
        let mut segment = Segment { file: BlockFile::open(path)?, at: 0 };
        loop {
            let start = segment.at;
            let record = match segment.record() {
                Ok(Some(record)) => record,
                Ok(None) => break,
                Err(_) if number + 1 == count => break,
                Err(error) => return Err(error),
            };
            let more = each(&record).map_err(|message| segment.file.wrong(start, message))?;
            if !more {
                return Ok(());
            }
        }
    }
    Ok(())
}

struct Segment {
    file: BlockFile,
    at: u64,
}

impl Segment {
    /// A record is in parts that no page's end cuts.
    fn record(&mut self) -> Result<Option<Vec<u8>>, TsdbError> {
        let mut record = Vec::new();
        loop {
            if self.at >= self.file.length() {
                return match record.is_empty() {
                    true => Ok(None),
                    false => Err(self.file.wrong(self.at, "the last record is cut off".into())),
                };
            }
            let left = PAGE_BYTES - self.at % PAGE_BYTES;
            let flags = *self.file.read(self.at, 1)?.first().unwrap_or(&0);
            let kind = flags & 0x07;
            if kind == 0 {
                // The rest of the page is empty.
                self.at += left;
                continue;
            }
            let start = self.at;
            let header = self.file.read(start, HEADER_BYTES)?;
            let mut header = Cursor::new(header.get(1..).unwrap_or_default());
            let length = u64::from(header.be16().unwrap_or(0));
            let sum = header.be32().unwrap_or(0);
            if HEADER_BYTES + length > left || kind > 4 {
                return Err(self
                    .file
                    .wrong(start, format!("no part of a record (kind {kind}, {length} bytes)")));
            }
            let data = self.file.read(start + HEADER_BYTES, length)?;
            if crc32c::crc32c(data) != sum {
                return Err(self.file.wrong(start, "a wrong checksum: the file is damaged".into()));
            }
            record.extend_from_slice(data);
            self.at = start + HEADER_BYTES + length;
            if record.len() > MAX_RECORD_BYTES {
                return Err(self
                    .file
                    .wrong(start, format!("a record of more than {MAX_RECORD_BYTES} bytes")));
            }
            // Whole, or the last part of it.
            if matches!(kind, 1 | 4) {
                return unpacked(record, flags).map(Some).map_err(|fault| self.file.wrong(start, fault));
            }
        }
    }
}

fn unpacked(record: Vec<u8>, flags: u8) -> Result<Vec<u8>, String> {
    if flags & SNAPPY != 0 {
        let length = snap::raw::decompress_len(&record).map_err(|error| error.to_string())?;
        if length > MAX_RECORD_BYTES {
            return Err(format!("a record of {length} bytes"));
        }
        snap::raw::Decoder::new().decompress_vec(&record).map_err(|error| error.to_string())
    } else if flags & ZSTD != 0 {
        zstd::bulk::decompress(&record, MAX_RECORD_BYTES).map_err(|error| error.to_string())
    } else {
        Ok(record)
    }
}

impl Known {
    fn take(&mut self, record: &[u8]) -> Result<(), String> {
        let mut cursor = Cursor::new(record);
        match cursor.byte()? {
            1 => {
                while cursor.left() > 0 {
                    let reference = cursor.be64()?;
                    let count = cursor.uvarint()?;
                    let mut pairs = Vec::new();
                    for _ in 0..count {
                        let mut text =
                            || cursor.uvarint_bytes().map(|text| String::from_utf8_lossy(text).into_owned());
                        pairs.push((text()?, text()?));
                    }
                    self.labels.insert(reference, Labels::from_pairs(pairs));
                }
            }
            3 => {
                while cursor.left() > 0 {
                    let (reference, stretch) = (cursor.be64()?, (cursor.varint()?, cursor.varint()?));
                    self.deleted.entry(reference).or_default().push(stretch);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Samples of many records, by series.
struct Batch<'k> {
    known: &'k Known,
    from_ms: i64,
    rows: HashMap<u64, TimeSeries>,
    values: usize,
    weight: usize,
}

impl Batch<'_> {
    fn take(&mut self, record: &[u8]) -> Result<(), String> {
        let mut cursor = Cursor::new(record);
        let kind = cursor.byte()?;
        match kind {
            2 | 7..=10 => {}
            11..=13 => {
                return Err(format!(
                    "records of type {kind} (Prometheus' experimental st-storage) are not supported"
                ));
            }
            // Series, deletions, exemplars, metadata and marks.
            _ => return Ok(()),
        }
        if cursor.left() == 0 {
            return Ok(());
        }
        let (first, first_ms) = (cursor.be64()?, cursor.be64()? as i64);
        while cursor.left() > 0 {
            let reference = first.wrapping_add_signed(cursor.varint()?);
            let time_ms = first_ms.wrapping_add(cursor.varint()?);
            match kind {
                2 => {
                    let value = f64::from_bits(cursor.be64()?);
                    if let Some(row) = self.row(reference, time_ms, 1) {
                        row.samples.push(Sample { time_ms, value });
                    }
                }
                _ => {
                    let histogram = histogram(&mut cursor, matches!(kind, 8 | 10))?;
                    if let Some(row) = self.row(reference, time_ms, HISTOGRAM_WEIGHT) {
                        row.histograms.push(HistogramSample { time_ms, histogram });
                    }
                }
            }
        }
        Ok(())
    }

    /// Where a sample goes, if it is one that is to be kept. One of a series that the log does not name belonged to
    /// what a checkpoint has left out.
    fn row(&mut self, reference: u64, time_ms: i64, weight: usize) -> Option<&mut TimeSeries> {
        let labels = self.known.labels.get(&reference)?;
        let deleted = self.known.deleted.get(&reference).map(Vec::as_slice).unwrap_or_default();
        if time_ms < self.from_ms || deleted.iter().any(|(first, last)| (*first..=*last).contains(&time_ms)) {
            return None;
        }
        self.values += 1;
        self.weight += weight;
        let new = || TimeSeries { labels: labels.clone(), ..TimeSeries::default() };
        Some(self.rows.entry(reference).or_insert_with(new))
    }

    fn part(&mut self, series_done: u32) -> Part {
        let series = std::mem::take(&mut self.rows).into_values().collect();
        let (values, weight) = (std::mem::take(&mut self.values), std::mem::take(&mut self.weight));
        Part { series, values, weight, series_done }
    }
}

/// `tsdb/record`, `DecodeHistogram` and `DecodeFloatHistogram`.
fn histogram(cursor: &mut Cursor<'_>, float: bool) -> Result<NativeHistogram, String> {
    let reset_hint = match cursor.byte()? {
        1 => ResetHint::Reset,
        2 => ResetHint::NotReset,
        3 => ResetHint::Gauge,
        _ => ResetHint::Unknown,
    };
    let schema = i32::try_from(cursor.varint()?).map_err(|_| "a schema out of range".to_string())?;
    let zero_threshold = f64::from_bits(cursor.be64()?);
    let mut number = || match float {
        true => cursor.be64().map(f64::from_bits),
        false => cursor.uvarint().map(|count| count as f64),
    };
    let (zero_count, count) = (number()?, number()?);
    let sum = f64::from_bits(cursor.be64()?);
    let (positive_spans, negative_spans) = (spans(cursor)?, spans(cursor)?);
    let mut side = |spans: Vec<BucketSpan>| -> Result<Vec<(i32, f64)>, String> {
        let count = list_length(cursor)?;
        let buckets = match float {
            true => {
                let counts = (0..count).map(|_| cursor.be64().map(f64::from_bits));
                buckets_of_spans(spans, counts.collect::<Result<Vec<_>, _>>()?)
            }
            false => {
                let deltas = (0..count).map(|_| cursor.varint()).collect::<Result<Vec<_>, _>>()?;
                buckets_of_spans(spans, counts_of_deltas(deltas))
            }
        };
        buckets.map_err(|error| error.to_string())
    };
    let (positive, negative) = (side(positive_spans)?, side(negative_spans)?);
    let mut custom_bounds = Vec::new();
    if schema == NativeHistogram::CUSTOM_SCHEMA {
        for _ in 0..list_length(cursor)? {
            custom_bounds.push(f64::from_bits(cursor.be64()?));
        }
    }
    let histogram = NativeHistogram {
        schema,
        reset_hint,
        zero_threshold,
        zero_count,
        count,
        sum,
        positive,
        negative,
        custom_bounds,
    };
    histogram.checked(false).map_err(|error| error.to_string())
}

fn spans(cursor: &mut Cursor<'_>) -> Result<Vec<BucketSpan>, String> {
    let mut spans = Vec::new();
    for _ in 0..list_length(cursor)? {
        let offset = i32::try_from(cursor.varint()?).map_err(|_| "an offset out of range".to_string())?;
        let length = u32::try_from(cursor.uvarint()?).map_err(|_| "a length out of range".to_string())?;
        spans.push(BucketSpan { offset, length });
    }
    Ok(spans)
}

/// Every entry takes a byte at least.
fn list_length(cursor: &mut Cursor<'_>) -> Result<usize, String> {
    let length = usize::try_from(cursor.uvarint()?).unwrap_or(usize::MAX);
    match length <= cursor.left() {
        true => Ok(length),
        false => Err(format!("a list of {length} entries in {} bytes", cursor.left())),
    }
}
