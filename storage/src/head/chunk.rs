//! The samples of one series in few bytes, appended one by one.
//!
//! A token for each sample: how its time and value differ from what the samples before it lead to expect. A sample in
//! its interval whose value is whole and near the last costs one byte, and a run of samples that repeat the last one
//! costs two bytes in all.

/// Samples in ascending time, no time twice.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chunk {
    bytes: Vec<u8>,
    count: u32,
    /// Samples at the end that came in their interval and repeat the value: not yet in `bytes`.
    idle: u32,
    first_ms: i64,
    state: State,
}

/// What a writer knows after a sample.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    time_ms: i64,
    interval_ms: i64,
    value_bits: u64,
}

/// The low two bits of a token's first number.
const REGULAR: u64 = 0;
const IDLE: u64 = 1;
const OFF_TIME: u64 = 2;
const FLOAT: u64 = 3;

/// Whole numbers up to here are exact in a double.
const MAX_WHOLE: f64 = 9_007_199_254_740_992.0;

/// The number, if it is a whole one that a round trip through an integer keeps.
pub(crate) fn whole(value_bits: u64) -> Option<i64> {
    let value = f64::from_bits(value_bits);
    let number = value as i64;
    (value.abs() <= MAX_WHOLE && (number as f64).to_bits() == value_bits).then_some(number)
}

pub(crate) fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

pub(crate) fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

pub(crate) fn put_varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

#[inline]
pub(crate) fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    // Most numbers take one byte or two.
    match **bytes {
        [only, ref rest @ ..] if only < 0x80 => {
            *bytes = rest;
            Some(u64::from(only))
        }
        [low, high, ref rest @ ..] if high < 0x80 => {
            *bytes = rest;
            Some(u64::from(low & 0x7f) | u64::from(high) << 7)
        }
        _ => take_long_varint(bytes),
    }
}

fn take_long_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            return Some(number);
        }
    }
    None
}

impl Chunk {
    /// Of the first and the last sample, if there are any.
    pub(crate) fn times_ms(&self) -> Option<(i64, i64)> {
        (self.count > 0).then_some((self.first_ms, self.state.time_ms))
    }

    /// On the heap.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// `time_ms` must be later than that of any sample there is.
    pub(crate) fn push(&mut self, time_ms: i64, value: f64) {
        let State { time_ms: last_ms, interval_ms, value_bits: last_bits } = self.state;
        let bits = value.to_bits();
        let interval = time_ms.wrapping_sub(last_ms);
        let off_ms = interval.wrapping_sub(interval_ms);
        self.state = State { time_ms, interval_ms: interval, value_bits: bits };
        if self.count == 0 {
            self.first_ms = time_ms;
        }
        self.count += 1;
        if off_ms == 0 && bits == last_bits {
            self.idle += 1;
            return;
        }
        self.write_idle();
        match whole(bits) {
            Some(number) => {
                let step = zigzag(number - whole(last_bits).unwrap_or(0)) << 2;
                if off_ms == 0 {
                    put_varint(&mut self.bytes, step | REGULAR);
                } else {
                    put_varint(&mut self.bytes, step | OFF_TIME);
                    put_varint(&mut self.bytes, zigzag(off_ms));
                }
            }
            None => {
                let changed = bits ^ last_bits;
                let low_zeros = if changed == 0 { 0 } else { changed.trailing_zeros() / 8 };
                let length = 8 - changed.leading_zeros() / 8 - low_zeros.min(8 - changed.leading_zeros() / 8);
                let form = u64::from(low_zeros * 9 + length) << 1 | u64::from(off_ms != 0);
                put_varint(&mut self.bytes, form << 2 | FLOAT);
                if off_ms != 0 {
                    put_varint(&mut self.bytes, zigzag(off_ms));
                }
                let kept = (changed >> (low_zeros * 8)).to_le_bytes();
                self.bytes.extend(kept.iter().take(length as usize));
            }
        }
    }

    fn write_idle(&mut self) {
        if self.idle > 0 {
            put_varint(&mut self.bytes, u64::from(std::mem::take(&mut self.idle)) << 2 | IDLE);
        }
    }

    /// Gives back the room that more samples would have taken.
    pub(crate) fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
    }

    /// All samples in order, until `visit` wants no more.
    pub(crate) fn each(&self, visit: impl FnMut(i64, f64) -> bool) {
        each_sample(&self.bytes, u64::from(self.idle), visit);
    }

    /// Adds the samples between the two times, inclusive, to columns.
    pub(crate) fn copy_between(&self, range_ms: (i64, i64), times_ms: &mut Vec<i64>, values: &mut Vec<f64>) {
        copy_between(&self.bytes, u64::from(self.idle), range_ms, times_ms, values);
    }

    /// Adds the samples in the form that [`each_sample`] reads to `bytes`.
    pub(crate) fn write_into(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.bytes);
        if self.idle > 0 {
            put_varint(bytes, u64::from(self.idle) << 2 | IDLE);
        }
    }

    /// Forgets all samples and keeps the room.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        *self = Chunk { bytes: std::mem::take(&mut self.bytes), ..Chunk::default() };
    }

    pub(crate) fn len(&self) -> usize {
        self.count as usize
    }
}

/// The samples that a chunk's bytes stand for, and the repetitions that follow them, until `visit` wants no more.
fn each_sample(mut rest: &[u8], idle: u64, mut visit: impl FnMut(i64, f64) -> bool) {
    let mut state = Reader::default();
    let mut next = |state: &mut Reader| {
        state.time_ms = state.time_ms.wrapping_add(state.interval_ms);
        visit(state.time_ms, f64::from_bits(state.value_bits))
    };
    while let Some(token) = take_varint(&mut rest) {
        let samples = if token & 3 == IDLE { token >> 2 } else { u64::from(state.advance(token, &mut rest)) };
        if samples == 0 || !(0..samples).all(|_| next(&mut state)) {
            return;
        }
    }
    (0..idle).all(|_| next(&mut state));
}

/// Adds those of the samples that lie between the two times, inclusive, to columns.
pub(crate) fn copy_between(
    mut rest: &[u8],
    idle: u64,
    range_ms: (i64, i64),
    times_ms: &mut Vec<i64>,
    values: &mut Vec<f64>,
) {
    let mut state = Reader::default();
    // Where the values begin whose times are not made yet: they are an interval apart, and made all at once.
    let mut run = values.len();
    while let Some(token) = take_varint(&mut rest) {
        match token & 3 {
            REGULAR => values.push(state.add(token >> 2)),
            IDLE => {
                let value = f64::from_bits(state.value_bits);
                let count = (token >> 2) as usize;
                // Most runs are short.
                if count <= 4 {
                    (0..count).for_each(|_| values.push(value));
                } else {
                    values.extend(std::iter::repeat_n(value, count));
                }
            }
            _ => {
                if changes_interval(token) {
                    let is_past =
                        values.len() > run && state.end_run(run, range_ms, times_ms, values) >= range_ms.1;
                    if is_past {
                        return;
                    }
                    run = values.len();
                }
                if !state.advance(token, &mut rest) {
                    break;
                }
                values.push(f64::from_bits(state.value_bits));
            }
        }
    }
    values.extend(std::iter::repeat_n(f64::from_bits(state.value_bits), idle as usize));
    state.end_run(run, range_ms, times_ms, values);
}

/// Whether a token begins with another interval than that of the sample before.
fn changes_interval(token: u64) -> bool {
    token & 3 == OFF_TIME || token & 7 == FLOAT | 4
}

/// The sample that a reader is at.
#[derive(Default)]
struct Reader {
    time_ms: i64,
    interval_ms: i64,
    value_bits: u64,
    /// The value, if it is whole, else 0: what the next whole one is told relative to.
    number: i64,
}

impl Reader {
    /// Takes the interval and the value of the next sample from a token that is not of a repetition. False where the
    /// bytes are cut short.
    fn advance(&mut self, token: u64, rest: &mut &[u8]) -> bool {
        if changes_interval(token) {
            let off_ms = unzigzag(take_varint(rest).unwrap_or(0));
            self.interval_ms = self.interval_ms.wrapping_add(off_ms);
        }
        if token & 3 != FLOAT {
            self.add(token >> 2);
            return true;
        }
        let (low_zeros, length) = ((token >> 3) / 9, (token >> 3) % 9);
        let Some((kept, after)) = rest.split_at_checked(length as usize) else { return false };
        *rest = after;
        let mut changed = [0; 8];
        changed.iter_mut().zip(kept).for_each(|(into, byte)| *into = *byte);
        self.value_bits ^= u64::from_le_bytes(changed) << ((low_zeros * 8) & 63);
        self.number = whole(self.value_bits).unwrap_or(0);
        true
    }

    /// Goes on by a whole number in value.
    #[inline]
    fn add(&mut self, number: u64) -> f64 {
        self.number = self.number.wrapping_add(unzigzag(number));
        let value = self.number as f64;
        self.value_bits = value.to_bits();
        value
    }

    /// Makes the times of the values from `run` on, drops those of them that are outside of the range, and gives the
    /// last one's time.
    fn end_run(
        &mut self,
        run: usize,
        (first_ms, last_ms): (i64, i64),
        times_ms: &mut Vec<i64>,
        values: &mut Vec<f64>,
    ) -> i64 {
        let (before_ms, interval_ms) = (self.time_ms, self.interval_ms);
        let count = (values.len() - run) as i64;
        self.time_ms = before_ms.wrapping_add(interval_ms.wrapping_mul(count));
        let time_ms = |number: i64| before_ms.wrapping_add(interval_ms.wrapping_mul(number));
        if before_ms.saturating_add(interval_ms) >= first_ms && self.time_ms <= last_ms {
            times_ms.extend((1..=count).map(time_ms));
            return self.time_ms;
        }
        // The numbers of the last value before the stretch, and of the last one in it.
        let until = |time_ms: i64| match interval_ms {
            ..=0 => 0,
            _ => (time_ms.saturating_sub(before_ms) / interval_ms).clamp(0, count),
        };
        let (skipped, end) = (until(first_ms.saturating_sub(1)), until(last_ms));
        values.truncate(run + end as usize);
        values.drain(run..run + skipped.min(end) as usize);
        times_ms.extend((skipped..end).map(|number| time_ms(number + 1)));
        self.time_ms
    }
}

#[cfg(test)]
mod tests {
    use pharos_model::stale_nan;
    use proptest::prelude::*;

    use super::*;

    fn chunk(samples: &[(i64, f64)]) -> Chunk {
        let mut chunk = Chunk::default();
        samples.iter().for_each(|(time, value)| chunk.push(*time, *value));
        chunk
    }

    fn check(samples: &[(i64, f64)]) {
        let mut found = Vec::new();
        let chunk = chunk(samples);
        chunk.each(|time, value| {
            found.push((time, value.to_bits()));
            true
        });
        let wanted: Vec<(i64, u64)> = samples.iter().map(|(time, value)| (*time, value.to_bits())).collect();
        assert_eq!((&found, chunk.count as usize), (&wanted, samples.len()));
        let time = |share: usize| samples.get(samples.len() * share / 4).map_or(99, |(time, _)| *time);
        for range_ms in
            [(i64::MIN, i64::MAX), (time(1), time(3)), (time(1) + 1, time(3) - 1), (time(0) - 9, time(2) + 9)]
        {
            let (mut times_ms, mut values) = (Vec::new(), Vec::new());
            chunk.copy_between(range_ms, &mut times_ms, &mut values);
            let found: Vec<(i64, u64)> =
                times_ms.into_iter().zip(values.into_iter().map(f64::to_bits)).collect();
            let mut wanted = wanted.clone();
            wanted.retain(|(time, _)| (range_ms.0..=range_ms.1).contains(time));
            assert_eq!(found, wanted, "{range_ms:?}");
        }
    }

    #[test]
    fn every_double_comes_back_bit_by_bit() {
        let odd = [
            0.0,
            -0.0,
            1.0,
            -1.0,
            0.1,
            f64::MIN,
            f64::MAX,
            f64::MIN_POSITIVE,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::NAN,
            stale_nan(),
            MAX_WHOLE,
            -MAX_WHOLE,
            MAX_WHOLE - 1.0,
            5e-324,
            1e300,
        ];
        let mut samples = Vec::new();
        for first in odd {
            for second in odd {
                samples.extend([first, second, second, first]);
            }
        }
        check(&samples.iter().zip(0..).map(|(value, n)| (-40 + n * n, *value)).collect::<Vec<_>>());
        check(&samples.iter().zip(0..).map(|(value, n)| (n * 15_000, *value)).collect::<Vec<_>>());
        check(&[(0, 0.0), (1, 0.0)]);
        check(&[(-9_223_372_036_000, 1.0), (9_223_372_036_000, 2.0)]);
        check(&[]);
    }

    #[test]
    fn a_steady_counter_takes_a_byte_a_sample_and_an_idle_one_hardly_any() {
        let of = |value: fn(i64) -> f64| {
            chunk(&(0..1_000).map(|n| (n * 15_000, value(n))).collect::<Vec<_>>()).bytes.len()
        };
        assert!(of(|n| (n * 7) as f64) <= 1_010);
        assert!(of(|_| 12.0) <= 20);
    }

    proptest! {
        #[test]
        fn any_samples_come_back(steps in prop::collection::vec((1i64..100_000, any::<f64>(), 0u8..4, -50i64..50), 0..200)) {
            let (mut time, mut samples) = (-1_000_000, Vec::<(i64, f64)>::new());
            for (step, float, kind, whole) in steps {
                time += if kind == 3 { 15_000 } else { step };
                let last = samples.last().map_or(0.0, |(_, value)| *value);
                let value = match kind { 0 => float, 1 => whole as f64, 2 => last + whole as f64, _ => last };
                samples.push((time, value));
            }
            check(&samples);
        }
    }
}
