use std::collections::BTreeMap;

use crate::NativeHistogram;

/// Relative error of a quantile: two neighbouring bins differ by (1 + a) / (1 - a).
const RELATIVE_ACCURACY: f64 = 0.01;

/// What an edge knows of its latency.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Latency {
    #[default]
    None,
    /// From single durations: access logs and spans.
    Sketch(LatencySketch),
    /// From a classic Prometheus histogram.
    Histogram(HistogramPart),
}

/// Stored bytes are no latency sketch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a latency sketch: {0}")]
pub struct SketchDecodeError(pub &'static str);

/// A mergeable sketch of durations in microseconds: a DDSketch (Masson, Rim and Lee, VLDB 2019) with a relative
/// error of 1 %. Merging two sketches gives the sketch of both sets, so every edge, box and window has right
/// quantiles.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LatencySketch {
    /// Durations below one microsecond.
    zeros: u64,
    /// Bin `i` holds durations in (gamma^(i-1), gamma^i].
    bins: BTreeMap<u16, u64>,
}

impl LatencySketch {
    pub fn new() -> LatencySketch {
        LatencySketch::default()
    }

    pub fn insert_micros(&mut self, micros: i64) {
        self.insert_many(micros, 1);
    }

    fn insert_many(&mut self, micros: i64, count: u64) {
        if micros < 1 {
            self.zeros += count;
        } else {
            // i64::MAX microseconds is bin 2184: far inside u16.
            let bin = ((micros as f64).ln() / gamma().ln()).ceil() as u16;
            *self.bins.entry(bin).or_default() += count;
        }
    }

    pub fn merge(&mut self, other: &LatencySketch) {
        self.zeros += other.zeros;
        for (bin, count) in &other.bins {
            *self.bins.entry(*bin).or_default() += count;
        }
    }

    pub fn count(&self) -> u64 {
        self.zeros + self.bins.values().sum::<u64>()
    }

    /// The duration in microseconds below which the share `q` (0 to 1) of all durations lies, by the nearest-rank
    /// rule; `None` when empty.
    pub fn quantile_micros(&self, q: f64) -> Option<f64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = ((q.clamp(0.0, 1.0) * count as f64).ceil() as u64).max(1);
        let mut seen = self.zeros;
        if seen >= rank {
            return Some(0.0);
        }
        for (bin, in_bin) in &self.bins {
            seen += in_bin;
            if seen >= rank {
                return Some(2.0 * gamma().powi(i32::from(*bin)) / (gamma() + 1.0));
            }
        }
        None
    }

    fn write(&self, out: &mut Vec<u8>) {
        write_varint(self.zeros, out);
        write_varint(self.bins.len() as u64, out);
        let mut previous = 0;
        for (bin, count) in &self.bins {
            write_varint(u64::from(bin - previous), out);
            write_varint(*count, out);
            previous = *bin;
        }
    }

    fn read(bytes: &mut &[u8]) -> Result<LatencySketch, SketchDecodeError> {
        let zeros = read_varint(bytes)?;
        let len = read_varint(bytes)?;
        let mut bins = BTreeMap::new();
        let mut bin = 0u16;
        for _ in 0..len {
            let step =
                u16::try_from(read_varint(bytes)?).map_err(|_| SketchDecodeError("bin out of range"))?;
            bin = bin.checked_add(step).ok_or(SketchDecodeError("bin out of range"))?;
            let count = read_varint(bytes)?;
            let entry: &mut u64 = bins.entry(bin).or_default();
            *entry = entry.checked_add(count).ok_or(SketchDecodeError("count out of range"))?;
        }
        Ok(LatencySketch { zeros, bins })
    }
}

fn gamma() -> f64 {
    (1.0 + RELATIVE_ACCURACY) / (1.0 - RELATIVE_ACCURACY)
}

/// The buckets of one classic histogram over a stretch of time: for each upper bound (`le`, ascending, the last is
/// +Inf) the first and the last cumulative value and the reset-corrected increase between the two.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HistogramPart {
    pub bounds: Vec<f64>,
    pub first: Vec<f64>,
    pub last: Vec<f64>,
    pub increase: Vec<f64>,
}

impl HistogramPart {
    /// Of one sample of a native histogram of milliseconds. Exponential ones are told of by the same bounds whatever
    /// buckets they have: four for each power of two, from a quarter of a millisecond to more than an hour.
    pub fn of_native(histogram: &NativeHistogram) -> HistogramPart {
        let mut bounds = match histogram.uses_custom_buckets() {
            true => histogram.custom_bounds.clone(),
            false => (-8..=88).map(|quarter| (f64::from(quarter) / 4.0).exp2()).collect(),
        };
        bounds.push(f64::INFINITY);
        let up_to = |bound: &f64| {
            if bound.is_infinite() { histogram.count } else { histogram.count_up_to(*bound) }
        };
        let counts: Vec<f64> = bounds.iter().map(up_to).collect();
        HistogramPart { increase: vec![0.0; bounds.len()], first: counts.clone(), last: counts, bounds }
    }

    /// Adds the part that follows in time, with the step between the two. If the bounds differ, the histogram was
    /// reconfigured: the later part alone stays, since the two cannot be added.
    pub fn join(&mut self, next: &HistogramPart) {
        if self.bounds.is_empty() || self.bounds != next.bounds {
            *self = next.clone();
            return;
        }
        let step = self.last.iter().zip(&next.first).zip(&next.increase);
        for (sum, ((last, first), increase)) in self.increase.iter_mut().zip(step) {
            *sum += increase + if first >= last { first - last } else { *first };
        }
        self.last.clone_from(&next.last);
    }

    /// As PromQL's `histogram_quantile` over the increases: linear inside a bucket, the highest finite bound for
    /// what lies above it. `None` without observations.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        quantile_of_buckets(&self.bounds, &self.increase, q)
    }
}

/// `increase` is cumulative, one value a bound.
fn quantile_of_buckets(bounds: &[f64], increase: &[f64], q: f64) -> Option<f64> {
    let total = *increase.last()?;
    if total <= 0.0 || bounds.len() != increase.len() {
        return None;
    }
    let rank = q.clamp(0.0, 1.0) * total;
    let index = increase.iter().position(|count| *count >= rank)?;
    let upper = *bounds.get(index)?;
    let (lower, below) = match index.checked_sub(1) {
        Some(previous) => (*bounds.get(previous)?, *increase.get(previous)?),
        None => (0.0, 0.0),
    };
    if upper.is_infinite() {
        return Some(lower);
    }
    let in_bucket = increase.get(index)? - below;
    Some(if in_bucket <= 0.0 { upper } else { lower + (upper - lower) * (rank - below) / in_bucket })
}

const SKETCH: u8 = 1;
const HISTOGRAM: u8 = 2;

/// The stored form: a tag, then varints or little-endian floats. Empty bytes are no latency at all.
impl Latency {
    /// Adds the part that follows in time. Sketches and histograms do not mix within one edge.
    pub fn join(&mut self, next: &Latency) {
        match (&mut *self, next) {
            (_, Latency::None) => {}
            (Latency::Sketch(sum), Latency::Sketch(next)) => sum.merge(next),
            (Latency::Histogram(sum), Latency::Histogram(next)) => sum.join(next),
            (this, next) => *this = next.clone(),
        }
    }

    /// In milliseconds.
    pub fn quantile_ms(&self, q: f64) -> Option<f64> {
        match self {
            Latency::None => None,
            Latency::Sketch(sketch) => sketch.quantile_micros(q).map(|micros| micros / 1_000.0),
            Latency::Histogram(histogram) => histogram.quantile(q),
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Latency::None => {}
            Latency::Sketch(sketch) => {
                out.push(SKETCH);
                sketch.write(&mut out);
            }
            Latency::Histogram(part) => {
                out.push(HISTOGRAM);
                write_varint(part.bounds.len() as u64, &mut out);
                for column in [&part.bounds, &part.first, &part.last, &part.increase] {
                    column.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
                }
            }
        }
        out
    }

    pub fn decode(mut bytes: &[u8]) -> Result<Latency, SketchDecodeError> {
        let Some((tag, rest)) = bytes.split_first() else { return Ok(Latency::None) };
        bytes = rest;
        let latency = match *tag {
            SKETCH => Latency::Sketch(LatencySketch::read(&mut bytes)?),
            HISTOGRAM => {
                let len = read_varint(&mut bytes)?;
                let (values, rest) = bytes.as_chunks::<8>();
                if !rest.is_empty() || values.len() as u64 != len.saturating_mul(4) {
                    return Err(SketchDecodeError("histogram cut short"));
                }
                let values: Vec<f64> = values.iter().map(|value| f64::from_le_bytes(*value)).collect();
                bytes = rest;
                let mut columns = values.chunks_exact(values.len().div_ceil(4).max(1)).map(<[f64]>::to_vec);
                let mut column = || columns.next().unwrap_or_default();
                Latency::Histogram(HistogramPart {
                    bounds: column(),
                    first: column(),
                    last: column(),
                    increase: column(),
                })
            }
            _ => return Err(SketchDecodeError("unknown kind")),
        };
        if bytes.is_empty() { Ok(latency) } else { Err(SketchDecodeError("trailing bytes")) }
    }
}

fn write_varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn read_varint(bytes: &mut &[u8]) -> Result<u64, SketchDecodeError> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or(SketchDecodeError("cut short"))?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(SketchDecodeError("number too long"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sketch(durations: impl IntoIterator<Item = i64>) -> LatencySketch {
        let mut sketch = LatencySketch::new();
        durations.into_iter().for_each(|micros| sketch.insert_micros(micros));
        sketch
    }

    #[test]
    fn quantiles_are_within_one_percent_also_after_a_merge() {
        let mut merged = sketch((1..=5_000).map(|n| n * 2));
        merged.merge(&sketch((0..5_000).map(|n| n * 2 + 1)));
        assert_eq!(merged.count(), 10_000);
        for q in [0.01, 0.5, 0.9, 0.99, 1.0] {
            let (got, want) = (merged.quantile_micros(q).unwrap(), q * 10_000.0);
            assert!((got - want).abs() <= want * 0.0101, "q {q}: {got} is not near {want}");
        }
    }

    #[test]
    fn every_latency_survives_encoding_and_damage_is_named() {
        let histogram = HistogramPart {
            bounds: vec![1.0, 5.0, f64::INFINITY],
            first: vec![0.0, 2.0, 3.0],
            last: vec![4.0, 6.0, 9.0],
            increase: vec![4.0, 4.0, 6.0],
        };
        for latency in
            [Latency::None, Latency::Sketch(sketch([0, 1, 999, i64::MAX])), Latency::Histogram(histogram)]
        {
            let bytes = latency.encode();
            assert_eq!(Latency::decode(&bytes), Ok(latency));
            for end in 1..bytes.len() {
                assert!(Latency::decode(&bytes[..end]).is_err(), "cut at {end} of {}", bytes.len());
            }
        }
        assert_eq!(Latency::decode(&[9]), Err(SketchDecodeError("unknown kind")));
    }

    #[test]
    fn joined_histograms_see_the_step_between_them_and_resets() {
        let part = |first: [f64; 2], last: [f64; 2], increase: [f64; 2]| HistogramPart {
            bounds: vec![10.0, f64::INFINITY],
            first: first.to_vec(),
            last: last.to_vec(),
            increase: increase.to_vec(),
        };
        let mut sum = part([1.0, 2.0], [3.0, 4.0], [2.0, 2.0]);
        sum.join(&part([5.0, 7.0], [5.0, 8.0], [0.0, 1.0]));
        assert_eq!(sum.increase, [4.0, 6.0]);
        sum.join(&part([1.0, 1.0], [1.0, 1.0], [0.0, 0.0]));
        assert_eq!(sum.increase, [5.0, 7.0], "a counter that fell was reset to zero before it rose to 1");
    }
}
