//! Samples that are read back from a file become frozen ones: the newest, as many as there is room for.

use super::FrozenSamples;
use crate::{
    head::chunk::Chunk,
    series_index::{Ordinal, SeriesIndex},
};
use pharos_model::SeriesId;

/// Samples that become one part. Whoever wants the newest ones reads through all of their part; and a series takes some
/// twenty bytes more in each.
const SPAN_MS: i64 = 32 * 60 * 1_000;
/// A file has samples of one day.
const MOST_SPANS: usize = 24 * 60 / 32 + 1;

/// Samples of a file on their way, handed over series by series.
pub(crate) struct Loading {
    room: usize,
    /// Later samples are left out.
    last_ms: i64,
    /// Newest first. The last one is dropped when there is no room.
    spans: Vec<Span>,
    /// So many spans back and no further.
    most_spans: usize,
    /// Whether each series has come once, in ascending time.
    is_in_order: bool,
    bytes: usize,
    series: Vec<(Ordinal, SeriesId)>,
    chunk: Chunk,
}

#[derive(Default)]
struct Span {
    bytes: Vec<u8>,
    /// Where each series' samples end in `bytes`, in the order of the file.
    ends: Vec<(Ordinal, u32)>,
    samples: usize,
    first_ms: i64,
    last_ms: i64,
}

/// What has become of a file's samples.
pub(crate) struct Loaded {
    /// Newest first.
    pub(crate) parts: Vec<FrozenSamples>,
    /// Earlier samples had no room.
    pub(crate) from_ms: i64,
    series: Vec<(Ordinal, SeriesId)>,
}

impl Loaded {
    /// Whether all series still have the ordinals that they had when they were read.
    pub(crate) fn is_of(&self, index: &SeriesIndex) -> bool {
        self.series.iter().all(|(ordinal, id)| index.ordinal(*id) == Some(*ordinal))
    }
}

impl Loading {
    /// Takes up to `room` bytes of samples of up to `last_ms`.
    pub(crate) fn new(room: usize, last_ms: i64) -> Loading {
        Loading {
            room,
            last_ms,
            spans: Vec::new(),
            most_spans: MOST_SPANS,
            is_in_order: true,
            bytes: 0,
            series: Vec::new(),
            chunk: Chunk::default(),
        }
    }

    /// Adds all samples of a series, in ascending time.
    pub(crate) fn add(&mut self, ordinal: Ordinal, id: SeriesId, times_ms: &[i64], values: &[f64]) {
        self.series.push((ordinal, id));
        self.is_in_order &= times_ms.is_sorted_by(|left, right| left < right);
        let mut end = times_ms.partition_point(|time_ms| *time_ms <= self.last_ms);
        while let Some(newest_ms) = end.checked_sub(1).and_then(|at| times_ms.get(at)) {
            let number = (self.last_ms.saturating_sub(*newest_ms) / SPAN_MS) as usize;
            if number >= self.most_spans {
                break;
            }
            let before_ms = self.before_ms(number);
            let start = times_ms.partition_point(|time_ms| *time_ms <= before_ms).min(end);
            if self.spans.len() <= number {
                self.spans.resize_with(number + 1, Span::default);
            }
            if let (Some(span), Some(times_ms), Some(values)) =
                (self.spans.get_mut(number), times_ms.get(start..end), values.get(start..end))
            {
                self.bytes += span.add(ordinal, &mut self.chunk, times_ms, values);
            }
            end = start;
        }
        while self.bytes > self.room
            && let Some(oldest) = self.spans.pop()
        {
            self.bytes -= oldest.size();
            self.most_spans = self.spans.len();
        }
    }

    /// The last millisecond before a span.
    fn before_ms(&self, number: usize) -> i64 {
        let back_ms = SPAN_MS.saturating_mul((number as i64).saturating_add(1));
        self.last_ms.saturating_sub(back_ms)
    }

    /// `None` if the file's rows were not in order.
    pub(crate) fn finish(self) -> Option<Loaded> {
        if !self.is_in_order {
            return None;
        }
        let from_ms = self.last_ms.saturating_sub(SPAN_MS * self.most_spans as i64).saturating_add(1);
        let parts = self.spans.into_iter().filter(|span| span.samples > 0).map(Span::freeze);
        Some(Loaded { parts: parts.collect::<Option<_>>()?, from_ms, series: self.series })
    }
}

impl Span {
    fn size(&self) -> usize {
        self.bytes.len() + self.ends.len() * size_of::<u32>()
    }

    /// Says by how many bytes it has grown.
    fn add(&mut self, ordinal: Ordinal, chunk: &mut Chunk, times_ms: &[i64], values: &[f64]) -> usize {
        let (Some(first_ms), Some(last_ms)) = (times_ms.first(), times_ms.last()) else { return 0 };
        let before = self.size();
        (self.first_ms, self.last_ms) = match self.samples {
            0 => (*first_ms, *last_ms),
            _ => (self.first_ms.min(*first_ms), self.last_ms.max(*last_ms)),
        };
        self.samples += times_ms.len();
        chunk.clear();
        for (time_ms, value) in times_ms.iter().zip(values) {
            chunk.push(*time_ms, *value);
        }
        chunk.write_into(&mut self.bytes);
        self.ends.push((ordinal, u32::try_from(self.bytes.len()).unwrap_or(u32::MAX)));
        self.size() - before
    }

    fn freeze(self) -> Option<FrozenSamples> {
        let Span { bytes, ends, samples, first_ms, last_ms } = self;
        let mut start = 0;
        let mut places: Vec<(Ordinal, std::ops::Range<usize>)> = Vec::with_capacity(ends.len());
        for (ordinal, end) in ends {
            places.push((ordinal, start..end as usize));
            start = end as usize;
        }
        places.sort_unstable_by_key(|(ordinal, _)| *ordinal);
        if !places.is_sorted_by(|left, right| left.0 < right.0) {
            return None;
        }
        let mut frozen = FrozenSamples {
            bytes: Vec::with_capacity(bytes.len()),
            ends: Vec::with_capacity(places.last().map_or(0, |(last, _)| *last as usize + 1)),
            samples,
            first_ms,
            last_ms,
        };
        for (ordinal, place) in places {
            frozen.ends.resize(ordinal as usize, u32::try_from(frozen.bytes.len()).ok()?);
            frozen.bytes.extend_from_slice(bytes.get(place)?);
            frozen.ends.push(u32::try_from(frozen.bytes.len()).ok()?);
        }
        Some(frozen)
    }
}
