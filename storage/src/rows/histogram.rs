//! Native histograms. Their buckets are one binary column a side: a byte that says how the counts are written, the
//! number of buckets, then for each its index, as the distance to the one before, and its count. Whole counts are
//! written as the difference to the count before, others as they are. Numbers are LEB128, signed ones zigzag.

use std::{borrow::Cow, sync::Arc};

use pharos_model::{HistogramSample, NativeHistogram, ResetHint, SeriesId};

use crate::columns::{Cell, Column, Kind, Row, field};

/// A row of the table `histograms`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct HistogramRow {
    pub(crate) metric: Arc<str>,
    pub(crate) series: SeriesId,
    pub(crate) time_ms: i64,
    pub(crate) histogram: Arc<NativeHistogram>,
}

impl HistogramRow {
    pub(crate) fn new(metric: Arc<str>, series: SeriesId, sample: HistogramSample) -> HistogramRow {
        HistogramRow { metric, series, time_ms: sample.time_ms, histogram: Arc::new(sample.histogram) }
    }

    fn write(&mut self) -> &mut NativeHistogram {
        Arc::make_mut(&mut self.histogram)
    }
}

const MICROS_PER_MS: i64 = 1_000;

macro_rules! double {
    ($name:ident) => {
        Column {
            name: stringify!($name),
            kind: Kind::Double,
            get: |row| Cell::Double(row.histogram.$name),
            set: |row, cell| row.write().$name = cell.as_f64(),
        }
    };
}

macro_rules! buckets {
    ($name:ident) => {
        Column {
            name: stringify!($name),
            kind: Kind::Bytes,
            get: |row| match row.histogram.$name.is_empty() {
                true => Cell::Null,
                false => Cell::Bytes(Cow::Owned(encode_buckets(&row.histogram.$name))),
            },
            set: |row, cell| row.write().$name = decode_buckets(cell.as_bytes()).unwrap_or_default(),
        }
    };
}

impl Row for HistogramRow {
    const COLUMNS: &'static [Column<HistogramRow>] = &[
        Column {
            name: "time",
            kind: Kind::Time,
            get: |row| Cell::Time(row.time_ms.saturating_mul(MICROS_PER_MS)),
            set: |row, cell| row.time_ms = cell.as_i64().div_euclid(MICROS_PER_MS),
        },
        field!(symbol "metric", metric),
        Column {
            name: "series",
            kind: Kind::Int64,
            get: |row| Cell::Int64(row.series.to_i64()),
            set: |row, cell| row.series = SeriesId::from_i64(cell.as_i64()),
        },
        double!(count),
        double!(sum),
        Column {
            name: "schema",
            kind: Kind::Int32,
            get: |row| Cell::Int32(row.histogram.schema),
            set: |row, cell| row.write().schema = i32::try_from(cell.as_i64()).unwrap_or_default(),
        },
        double!(zero_threshold),
        double!(zero_count),
        Column {
            name: "reset_hint",
            kind: Kind::Symbol,
            get: |row| Cell::text(row.histogram.reset_hint.name()),
            set: |row, cell| row.write().reset_hint = ResetHint::from_name(cell.as_text()),
        },
        buckets!(positive),
        buckets!(negative),
        // Little-endian doubles.
        Column {
            name: "custom_bounds",
            kind: Kind::Bytes,
            get: |row| match row.histogram.custom_bounds.is_empty() {
                true => Cell::Null,
                false => Cell::Bytes(Cow::Owned(
                    row.histogram.custom_bounds.iter().flat_map(|bound| bound.to_le_bytes()).collect(),
                )),
            },
            set: |row, cell| {
                let (bounds, _) = cell.as_bytes().as_chunks();
                row.write().custom_bounds = bounds.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect();
            },
        },
    ];

    fn blank() -> HistogramRow {
        HistogramRow {
            metric: Arc::from(""),
            series: SeriesId(0),
            time_ms: 0,
            histogram: Arc::new(NativeHistogram::default()),
        }
    }
}

const WHOLE_COUNTS: u8 = 1;
const FLOAT_COUNTS: u8 = 2;

/// Larger whole numbers are not exact as floats.
const MAX_WHOLE: f64 = (1u64 << 53) as f64;

fn encode_buckets(buckets: &[(i32, f64)]) -> Vec<u8> {
    let whole = buckets.iter().all(|(_, count)| count.fract() == 0.0 && (0.0..=MAX_WHOLE).contains(count));
    let mut out = vec![if whole { WHOLE_COUNTS } else { FLOAT_COUNTS }];
    write_varint(&mut out, buckets.len() as u64);
    let (mut index_before, mut count_before) = (0i64, 0i64);
    for (index, count) in buckets {
        write_varint(&mut out, zigzag(i64::from(*index) - index_before));
        index_before = i64::from(*index);
        if whole {
            write_varint(&mut out, zigzag(*count as i64 - count_before));
            count_before = *count as i64;
        } else {
            out.extend_from_slice(&count.to_le_bytes());
        }
    }
    out
}

/// `None` for bytes that [`encode_buckets`] does not write.
fn decode_buckets(bytes: &[u8]) -> Option<Vec<(i32, f64)>> {
    let (kind, mut rest) = bytes.split_first()?;
    let buckets = usize::try_from(read_varint(&mut rest)?).ok()?;
    let mut out = Vec::with_capacity(buckets.min(rest.len()));
    let (mut index, mut whole) = (0i64, 0i64);
    for _ in 0..buckets {
        index = index.checked_add(unzigzag(read_varint(&mut rest)?))?;
        let count = match *kind {
            WHOLE_COUNTS => {
                whole = whole.checked_add(unzigzag(read_varint(&mut rest)?))?;
                whole as f64
            }
            FLOAT_COUNTS => {
                let (count, after) = rest.split_first_chunk()?;
                rest = after;
                f64::from_le_bytes(*count)
            }
            _ => return None,
        };
        out.push((i32::try_from(index).ok()?, count));
    }
    Some(out)
}

fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

fn write_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_come_back_as_they_were() {
        for buckets in [
            vec![(0, 1.0)],
            vec![(-700, 3.0), (-1, 1.0), (5, 9_007_199_254_740_992.0), (2_000_000_000, 1.0)],
            vec![(i32::MIN, 0.25), (i32::MAX, 1e300)],
        ] {
            assert_eq!(decode_buckets(&encode_buckets(&buckets)), Some(buckets));
        }
        // Bytes of anything else are no buckets, whatever they say of their number.
        for bytes in [&[][..], &[9, 1, 0], &[1, 0xff, 0xff, 0xff, 0xff, 0x0f, 0], &[2, 1, 0, 1]] {
            assert_eq!(decode_buckets(bytes), None, "{bytes:?}");
        }
    }
}
