//! Chunks: the samples of a series over a stretch of time (`tsdb/docs/format/chunks.md`, `tsdb/chunkenc`).

use pharos_model::{
    BucketSpan, HistogramSample, NativeHistogram, ResetHint, Sample, buckets_of_spans, is_stale,
};

use super::bits::{Bits, EndOfChunk, XorFloat};

/// What a chunk holds.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Decoded {
    pub(super) samples: Vec<Sample>,
    pub(super) histograms: Vec<HistogramSample>,
}

/// The data of a chunk by its encoding.
pub(super) fn decode(encoding: u8, data: &[u8]) -> Result<Decoded, String> {
    let (count, rest) = data.split_first_chunk().ok_or(EndOfChunk.to_string())?;
    let count = u16::from_be_bytes(*count);
    match encoding {
        1 => floats(count, rest).map(|samples| Decoded { samples, ..Decoded::default() }).map_err(text),
        2 | 3 => {
            let (flags, rest) = rest.split_first().ok_or(EndOfChunk.to_string())?;
            let gauge = flags & 0xc0 == 0xc0;
            let histograms = histograms(count, gauge, encoding == 3, rest)?;
            Ok(Decoded { histograms, ..Decoded::default() })
        }
        other => Err(format!("chunk encoding {other} is not known")),
    }
}

fn text(error: EndOfChunk) -> String {
    error.to_string()
}

fn floats(count: u16, data: &[u8]) -> Result<Vec<Sample>, EndOfChunk> {
    let mut bits = Bits::new(data);
    let mut samples = Vec::with_capacity(usize::from(count).min(data.len() * 8));
    let (mut time_ms, mut step) = (0i64, 0i64);
    let mut value = XorFloat::default();
    for number in 0..count {
        match number {
            0 => {
                time_ms = bits.varint()?;
                value = XorFloat::new(bits.float()?);
            }
            1 => step = bits.uvarint()? as i64,
            _ => {
                let mut ones = 0;
                while ones < 4 && bits.bit()? {
                    ones += 1;
                }
                let change = match ones {
                    0 => 0,
                    1 => bits.signed(14)?,
                    2 => bits.signed(17)?,
                    3 => bits.signed(20)?,
                    _ => bits.signed(64)?,
                };
                step = step.wrapping_add(change);
            }
        }
        if number > 0 {
            time_ms = time_ms.wrapping_add(step);
            value.read(&mut bits)?;
        }
        samples.push(Sample { time_ms, value: value.value });
    }
    Ok(samples)
}

/// What the histograms of a chunk have in common.
struct Layout {
    schema: i32,
    zero_threshold: f64,
    positive: Vec<BucketSpan>,
    negative: Vec<BucketSpan>,
    custom_bounds: Vec<f64>,
}

/// Of spans and of bounds; a chunk is small.
const MAX_PARTS: u64 = 100_000;

fn layout(bits: &mut Bits<'_>) -> Result<Layout, EndOfChunk> {
    let zero_threshold = match bits.bits(8)? {
        0 => 0.0,
        255 => bits.float()?,
        exponent => (exponent as f64 - 244.0).exp2(),
    };
    let schema = i32::try_from(bits.varbit_int()?).map_err(|_| EndOfChunk)?;
    let mut spans = || {
        let count = bits.varbit_uint()?;
        if count > MAX_PARTS {
            return Err(EndOfChunk);
        }
        (0..count)
            .map(|_| {
                let length = u32::try_from(bits.varbit_uint()?).map_err(|_| EndOfChunk)?;
                let offset = i32::try_from(bits.varbit_int()?).map_err(|_| EndOfChunk)?;
                Ok(BucketSpan { offset, length })
            })
            .collect::<Result<Vec<_>, _>>()
    };
    let (positive, negative) = (spans()?, spans()?);
    let mut custom_bounds = Vec::new();
    if schema == NativeHistogram::CUSTOM_SCHEMA {
        let count = bits.varbit_uint()?;
        if count > MAX_PARTS {
            return Err(EndOfChunk);
        }
        for _ in 0..count {
            custom_bounds.push(match bits.varbit_uint()? {
                0 => bits.float()?,
                thousandths => (thousandths - 1) as f64 / 1_000.0,
            });
        }
    }
    Ok(Layout { schema, zero_threshold, positive, negative, custom_bounds })
}

/// A number that is written by how its step changes.
#[derive(Clone, Copy, Default)]
struct Stepping {
    value: i64,
    step: i64,
}

impl Stepping {
    fn read(&mut self, number: u16, bits: &mut Bits<'_>) -> Result<(), EndOfChunk> {
        match number {
            0 => self.value = bits.varbit_int()?,
            1 => {
                self.step = bits.varbit_int()?;
                self.value = self.value.wrapping_add(self.step);
            }
            _ => {
                self.step = self.step.wrapping_add(bits.varbit_int()?);
                self.value = self.value.wrapping_add(self.step);
            }
        }
        Ok(())
    }
}

/// A count, whole or float.
#[derive(Clone, Copy)]
enum Count {
    Whole(Stepping),
    Float(XorFloat),
}

impl Count {
    fn new(float: bool) -> Count {
        if float { Count::Float(XorFloat::default()) } else { Count::Whole(Stepping::default()) }
    }

    /// `unsigned`: the first of a chunk is written without a sign.
    fn read(&mut self, number: u16, unsigned: bool, bits: &mut Bits<'_>) -> Result<(), EndOfChunk> {
        match self {
            Count::Whole(whole) if number == 0 && unsigned => whole.value = bits.varbit_uint()? as i64,
            Count::Whole(whole) => whole.read(number, bits)?,
            Count::Float(float) if number == 0 => *float = XorFloat::new(bits.float()?),
            Count::Float(float) => drop(float.read(bits)?),
        }
        Ok(())
    }

    fn value(self) -> f64 {
        match self {
            Count::Whole(whole) => whole.value as f64,
            Count::Float(float) => float.value,
        }
    }
}

fn histograms(count: u16, gauge: bool, float: bool, data: &[u8]) -> Result<Vec<HistogramSample>, String> {
    let mut bits = Bits::new(data);
    let mut out = Vec::with_capacity(usize::from(count).min(data.len() * 8));
    if count == 0 {
        return Ok(out);
    }
    let layout = layout(&mut bits).map_err(text)?;
    let buckets = |spans: &[BucketSpan]| spans.iter().map(|span| u64::from(span.length)).sum::<u64>();
    let (positives, negatives) = (buckets(&layout.positive), buckets(&layout.negative));
    if positives + negatives > MAX_PARTS {
        return Err(format!("{} buckets are more than {MAX_PARTS}", positives + negatives));
    }
    let mut time = Stepping::default();
    let (mut whole, mut zeros) = (Count::new(float), Count::new(float));
    let mut sum = XorFloat::default();
    let mut positive = vec![Count::new(float); positives as usize];
    let mut negative = vec![Count::new(float); negatives as usize];
    for number in 0..count {
        let mut read = || {
            time.read(number, &mut bits)?;
            whole.read(number, true, &mut bits)?;
            zeros.read(number, true, &mut bits)?;
            match number {
                0 => sum = XorFloat::new(bits.float()?),
                _ => drop(sum.read(&mut bits)?),
            }
            // The end of a series has no buckets.
            if number == 0 || !is_stale(sum.value) {
                for bucket in positive.iter_mut().chain(&mut negative) {
                    bucket.read(number, false, &mut bits)?;
                }
            }
            Ok(())
        };
        read().map_err(text)?;
        // Whole counts are kept as differences from bucket to bucket.
        let side = |spans: &[BucketSpan], counts: &[Count]| {
            let mut below = 0.0;
            let counts = counts.iter().map(|count| match count {
                Count::Float(float) => float.value,
                Count::Whole(difference) => {
                    below += difference.value as f64;
                    below
                }
            });
            buckets_of_spans(spans.iter().copied(), counts).map_err(|error| error.to_string())
        };
        let histogram = match is_stale(sum.value) {
            true => NativeHistogram::stale(),
            false => NativeHistogram {
                schema: layout.schema,
                reset_hint: match (gauge, number) {
                    (true, _) => ResetHint::Gauge,
                    (false, 0) => ResetHint::Unknown,
                    (false, _) => ResetHint::NotReset,
                },
                zero_threshold: layout.zero_threshold,
                zero_count: zeros.value(),
                count: whole.value(),
                sum: sum.value,
                positive: side(&layout.positive, &positive)?,
                negative: side(&layout.negative, &negative)?,
                custom_bounds: layout.custom_bounds.clone(),
            }
            .checked(false)
            .map_err(|error| error.to_string())?,
        };
        out.push(HistogramSample { time_ms: time.value, histogram });
    }
    Ok(out)
}
