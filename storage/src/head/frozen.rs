mod loading;

use hashbrown::HashMap;
pub(crate) use loading::{Loaded, Loading};

use super::{
    HeadSamples,
    chunk::{self, Chunk},
};
use crate::series_index::Ordinal;

/// Samples that do not change any more, by series: one run of bytes and, for each ordinal, where its samples end.
#[derive(Default)]
pub(crate) struct FrozenSamples {
    bytes: Vec<u8>,
    ends: Vec<u32>,
    samples: usize,
    /// Of all samples, inclusive.
    first_ms: i64,
    last_ms: i64,
}

impl FrozenSamples {
    /// `None` when they are too many for offsets of 32 bits.
    pub(crate) fn of_head(head: &HeadSamples) -> Option<FrozenSamples> {
        let by_ordinal: HashMap<Ordinal, _> = head.iter().map(|series| (series.ordinal, series)).collect();
        let ordinals = head.iter().map(|series| series.ordinal as usize + 1).max().unwrap_or(0);
        let mut own = Chunk::default();
        FrozenSamples::new(ordinals, |ordinal, frozen| {
            let Some(series) = by_ordinal.get(&ordinal) else { return };
            let late = head.late(ordinal);
            if late.is_empty() {
                frozen.add(&series.chunk);
            } else {
                let (mut times_ms, mut values) = (Vec::new(), Vec::new());
                head.copy(series, i64::MIN, i64::MAX, &mut times_ms, &mut values);
                frozen.encode(&mut own, &times_ms, &values);
            }
        })
    }

    /// Those of all parts. Of two samples of a series at one time the one of the earlier part stays.
    pub(crate) fn merged(parts: &[&FrozenSamples]) -> Option<FrozenSamples> {
        let ordinals = parts.iter().map(|part| part.ends.len()).max().unwrap_or(0);
        let mut chunk = Chunk::default();
        let (mut times_ms, mut values) = (Vec::new(), Vec::new());
        FrozenSamples::new(ordinals, |ordinal, frozen| {
            times_ms.clear();
            values.clear();
            for part in parts {
                part.copy_between(ordinal, i64::MIN, i64::MAX, &mut times_ms, &mut values);
            }
            put_in_order(&mut times_ms, &mut values, 0);
            frozen.encode(&mut chunk, &times_ms, &values);
        })
    }

    /// `add` adds the samples of one series.
    fn new(ordinals: usize, mut add: impl FnMut(Ordinal, &mut FrozenSamples)) -> Option<FrozenSamples> {
        let mut frozen = FrozenSamples { first_ms: i64::MAX, last_ms: i64::MIN, ..FrozenSamples::default() };
        frozen.ends.reserve_exact(ordinals);
        for ordinal in 0..ordinals {
            add(ordinal as Ordinal, &mut frozen);
            frozen.ends.push(u32::try_from(frozen.bytes.len()).ok()?);
        }
        frozen.bytes.shrink_to_fit();
        Some(frozen)
    }

    fn add(&mut self, chunk: &Chunk) {
        let Some((first_ms, last_ms)) = chunk.times_ms() else { return };
        self.first_ms = self.first_ms.min(first_ms);
        self.last_ms = self.last_ms.max(last_ms);
        self.samples += chunk.len();
        chunk.write_into(&mut self.bytes);
    }

    /// Adds samples in ascending time; `chunk` is lent for it.
    fn encode(&mut self, chunk: &mut Chunk, times_ms: &[i64], values: &[f64]) {
        chunk.clear();
        for (time_ms, value) in times_ms.iter().zip(values) {
            chunk.push(*time_ms, *value);
        }
        self.add(chunk);
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * size_of::<u32>()
    }

    /// Of the first and the last sample.
    pub(crate) fn times_ms(&self) -> (i64, i64) {
        (self.first_ms, self.last_ms)
    }

    pub(crate) fn overlaps(&self, first_ms: i64, last_ms: i64) -> bool {
        self.samples > 0 && self.first_ms <= last_ms && self.last_ms >= first_ms
    }

    fn of(&self, ordinal: Ordinal) -> &[u8] {
        let at = ordinal as usize;
        let Some(end) = self.ends.get(at) else { return &[] };
        let start = at.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        self.bytes.get(start as usize..*end as usize).unwrap_or_default()
    }

    pub(crate) fn has_any(&self, ordinal: Ordinal) -> bool {
        !self.of(ordinal).is_empty()
    }

    /// Adds the series' samples between the two times, inclusive, to columns, in ascending time.
    pub(crate) fn copy_between(
        &self,
        ordinal: Ordinal,
        first_ms: i64,
        last_ms: i64,
        times_ms: &mut Vec<i64>,
        values: &mut Vec<f64>,
    ) {
        if self.overlaps(first_ms, last_ms) {
            chunk::copy_between(self.of(ordinal), 0, (first_ms, last_ms), times_ms, values);
        }
    }
}

/// Sorts what comes after `start` by time and drops all but the first sample of a time: what late data and resends
/// need.
pub(crate) fn put_in_order(times_ms: &mut Vec<i64>, values: &mut Vec<f64>, start: usize) {
    let rising = times_ms.get(start..).unwrap_or_default().is_sorted_by(|left, right| left < right);
    if rising {
        return;
    }
    let mut samples: Vec<(i64, f64)> = times_ms.drain(start..).zip(values.drain(start..)).collect();
    samples.sort_by_key(|(time, _)| *time);
    samples.dedup_by_key(|(time, _)| *time);
    times_ms.extend(samples.iter().map(|(time, _)| *time));
    values.extend(samples.iter().map(|(_, value)| *value));
}

#[cfg(test)]
mod tests {
    use pharos_model::Labels;

    use super::*;

    fn head(samples: &[(Ordinal, i64, f64)]) -> HeadSamples {
        let mut head = HeadSamples::default();
        for (ordinal, time_ms, value) in samples {
            head.push(*ordinal, *time_ms, *value, Labels::empty);
        }
        head
    }

    fn of(frozen: &FrozenSamples, ordinal: Ordinal) -> Vec<(i64, f64)> {
        let (mut times_ms, mut values) = (Vec::new(), Vec::new());
        frozen.copy_between(ordinal, 2, 90, &mut times_ms, &mut values);
        times_ms.into_iter().zip(values).collect()
    }

    #[test]
    fn late_samples_are_in_their_place_and_a_time_is_there_once() {
        let first = FrozenSamples::of_head(&head(&[
            (3, 10, 1.0),
            (3, 30, 3.0),
            (3, 20, 2.0),
            (3, 20, 9.0),
            (0, 5, 0.5),
        ]));
        let second = FrozenSamples::of_head(&head(&[(3, 20, 8.0), (3, 15, 1.5), (3, 99, 9.9), (7, 1, 1.0)]));
        let (first, second) = (first.unwrap(), second.unwrap());
        assert_eq!(of(&first, 3), [(10, 1.0), (20, 2.0), (30, 3.0)]);
        let merged = FrozenSamples::merged(&[&first, &second]).unwrap();
        assert_eq!(of(&merged, 3), [(10, 1.0), (15, 1.5), (20, 2.0), (30, 3.0)]);
        assert_eq!((of(&merged, 0), of(&merged, 1), of(&merged, 100)), (vec![(5, 0.5)], vec![], vec![]));
        assert!(merged.has_any(7) && !merged.has_any(1));
        assert!(merged.overlaps(99, 200) && !merged.overlaps(100, 200));
    }
}
