//! Prometheus' chunks of native histograms with float counts: what they have in common once, then times, counts and
//! sums as what changed. Source: its `tsdb/docs/format/chunks.md` and `tsdb/chunkenc`.

use std::{collections::BTreeSet, sync::Arc};

use pharos_model::{NativeHistogram, ResetHint, spans_of_buckets};

use super::xor::{Bits, push_value};

/// As Prometheus cuts its own chunks.
const MAX_SAMPLES: usize = 120;

/// What readers are told of the first histogram of a chunk; of the others they take it that no counter was reset.
const COUNTER_RESET: u8 = 0b1000_0000;
const NO_COUNTER_RESET: u8 = 0b0100_0000;
const GAUGE: u8 = 0b1100_0000;

/// Histograms that fit one chunk, by their times.
type Run<'h> = &'h [(i64, Arc<NativeHistogram>)];

/// A chunk and the times of its first and last histogram.
pub(super) struct Chunk {
    pub(super) first_ms: i64,
    pub(super) last_ms: i64,
    pub(super) data: Vec<u8>,
}

/// All of a series in as many chunks as it takes.
pub(super) fn encode_all(histograms: Run<'_>) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    let (mut rest, mut before) = (histograms, None);
    while let [(first_ms, first), ..] = rest {
        let length = run_length(rest);
        let (run, after) = rest.split_at(length);
        let flags = match first.reset_hint {
            ResetHint::Gauge => GAUGE,
            ResetHint::Reset => COUNTER_RESET,
            ResetHint::NotReset => NO_COUNTER_RESET,
            ResetHint::Unknown => match before {
                Some(before) if is_reset(before, first) => COUNTER_RESET,
                _ => 0,
            },
        };
        let last_ms = run.last().map_or(*first_ms, |(last_ms, _)| *last_ms);
        chunks.push(Chunk { first_ms: *first_ms, last_ms, data: encode(run, flags) });
        before = run.last().map(|(_, last)| &**last);
        rest = after;
    }
    chunks
}

/// How many of the histograms one chunk takes: of one layout, with counters that rise.
fn run_length(histograms: Run<'_>) -> usize {
    let fits = |pair: &[(i64, Arc<NativeHistogram>)]| {
        let [(_, earlier), (_, later)] = pair else { return false };
        // The end of a series has no buckets, and nothing follows it.
        !earlier.is_stale()
            && (later.is_stale() || (has_layout_of(earlier, later) && !is_cut(earlier, later)))
    };
    1 + histograms.windows(2).take(MAX_SAMPLES - 1).take_while(|pair| fits(pair)).count()
}

fn has_layout_of(a: &NativeHistogram, b: &NativeHistogram) -> bool {
    a.schema == b.schema
        && a.zero_threshold == b.zero_threshold
        && a.custom_bounds == b.custom_bounds
        && (a.reset_hint == ResetHint::Gauge) == (b.reset_hint == ResetHint::Gauge)
}

/// Whether the later one must be the first of a chunk.
fn is_cut(earlier: &NativeHistogram, later: &NativeHistogram) -> bool {
    match later.reset_hint {
        ResetHint::Gauge => false,
        ResetHint::Reset => true,
        ResetHint::Unknown | ResetHint::NotReset => is_reset(earlier, later),
    }
}

fn is_reset(earlier: &NativeHistogram, later: &NativeHistogram) -> bool {
    let falls = |earlier: &[(i32, f64)], later: &[(i32, f64)]| {
        let mut later = later.iter().peekable();
        earlier.iter().any(|(index, count)| {
            while later.next_if(|(known, _)| known < index).is_some() {}
            later.peek().is_none_or(|(known, now)| known != index || now < count)
        })
    };
    later.count < earlier.count
        || later.zero_count < earlier.zero_count
        || falls(&earlier.positive, &later.positive)
        || falls(&earlier.negative, &later.negative)
}

fn encode(run: Run<'_>, flags: u8) -> Vec<u8> {
    let count = u16::try_from(run.len()).unwrap_or(u16::MAX);
    let mut bits = Bits::after(&[&count.to_be_bytes()[..], &[flags]].concat());
    let Some((_, first)) = run.first() else { return bits.into_bytes() };
    let indexes = |side: fn(&NativeHistogram) -> &[(i32, f64)]| -> Vec<i32> {
        let all: BTreeSet<i32> = run.iter().flat_map(|(_, one)| side(one)).map(|(index, _)| *index).collect();
        all.into_iter().collect()
    };
    let (positive, negative) = (indexes(|one| &one.positive), indexes(|one| &one.negative));
    push_zero_threshold(&mut bits, first.zero_threshold);
    push_int(&mut bits, first.schema.into());
    push_spans(&mut bits, &positive);
    push_spans(&mut bits, &negative);
    if first.schema == NativeHistogram::CUSTOM_SCHEMA {
        push_uint(&mut bits, first.custom_bounds.len() as u64);
        first.custom_bounds.iter().for_each(|bound| push_bound(&mut bits, *bound));
    }
    let (mut time, mut step) = (0i64, 0i64);
    let mut floats = vec![Changing::default(); 3 + positive.len() + negative.len()];
    for (number, (time_ms, histogram)) in run.iter().enumerate() {
        let next_step = time_ms.wrapping_sub(time);
        match number {
            0 => push_int(&mut bits, *time_ms),
            // Of the second, the step itself; of the others, how it changes.
            _ => push_int(&mut bits, next_step.wrapping_sub(step)),
        }
        step = if number == 0 { 0 } else { next_step };
        time = *time_ms;
        let stale = histogram.is_stale();
        let own = [histogram.count, histogram.zero_count, histogram.sum];
        let of_buckets =
            counts_at(&positive, &histogram.positive).chain(counts_at(&negative, &histogram.negative));
        let values = own.into_iter().chain(of_buckets.take(if stale { 0 } else { usize::MAX }));
        for (float, value) in floats.iter_mut().zip(values) {
            float.push(&mut bits, value, number == 0);
        }
    }
    bits.into_bytes()
}

/// The counts of all these buckets, of which a histogram has some.
fn counts_at<'h>(indexes: &'h [i32], buckets: &'h [(i32, f64)]) -> impl Iterator<Item = f64> + 'h {
    let mut buckets = buckets.iter().peekable();
    indexes
        .iter()
        .map(move |index| buckets.next_if(|(known, _)| known == index).map_or(0.0, |(_, count)| *count))
}

/// A float, and how it was written the last time.
#[derive(Clone, Copy, Default)]
struct Changing {
    bits: u64,
    window: Option<(u32, u32)>,
}

impl Changing {
    fn push(&mut self, out: &mut Bits, value: f64, is_first: bool) {
        let value = value.to_bits();
        match is_first {
            true => out.push(value, 64),
            false => push_value(out, self.bits ^ value, &mut self.window),
        }
        self.bits = value;
    }
}

/// The usual thresholds, powers of two, take one byte.
fn push_zero_threshold(bits: &mut Bits, threshold: f64) {
    let exponent = (threshold.to_bits() >> 52) as i64 - 1_023;
    let is_power = threshold > 0.0 && threshold.to_bits() & ((1 << 52) - 1) == 0;
    match () {
        () if threshold == 0.0 => bits.push(0, 8),
        () if is_power && (-243..=10).contains(&exponent) => bits.push((exponent + 244) as u64, 8),
        () => {
            bits.push(255, 8);
            bits.push(threshold.to_bits(), 64);
        }
    }
}

fn push_spans(bits: &mut Bits, indexes: &[i32]) {
    let buckets: Vec<(i32, f64)> = indexes.iter().map(|index| (*index, 0.0)).collect();
    let spans = spans_of_buckets(&buckets);
    push_uint(bits, spans.len() as u64);
    for span in spans {
        push_uint(bits, span.length.into());
        push_int(bits, span.offset.into());
    }
}

/// Whole thousandths are short.
fn push_bound(bits: &mut Bits, bound: f64) {
    let thousandths = (bound * 1_000.0).round();
    if (0.0..=33_554_430.0).contains(&thousandths) && thousandths / 1_000.0 == bound {
        push_uint(bits, thousandths as u64 + 1);
    } else {
        bits.push(0, 1);
        bits.push(bound.to_bits(), 64);
    }
}

/// As many bits as fit, after as many ones as there are smaller sizes.
const SIZES: [u32; 9] = [0, 3, 6, 9, 12, 18, 25, 56, 64];

fn push_sized(bits: &mut Bits, value: u64, fits: impl Fn(u32) -> bool) {
    let at = SIZES.iter().position(|size| *size == 64 || fits(*size)).unwrap_or(SIZES.len() - 1);
    match at {
        8 => bits.push(0xff, 8),
        // Ones, and a zero at their end.
        ones => bits.push((1 << (ones + 1)) - 2, ones as u32 + 1),
    }
    bits.push(value, SIZES.get(at).copied().unwrap_or(64));
}

fn push_uint(bits: &mut Bits, value: u64) {
    push_sized(bits, value, |size| value >> size == 0);
}

fn push_int(bits: &mut Bits, value: i64) {
    // The range of `n` bits lies one to the right of two's complement.
    push_sized(bits, value as u64, |size| match size {
        0 => value == 0,
        size => (-((1i64 << (size - 1)) - 1)..=1 << (size - 1)).contains(&value),
    });
}
