use arrow::array::RecordBatch;
use hashbrown::HashMap;
use pharos_model::{Labels, METRIC_NAME, Sample, TimeRange, UnixNanos};

use super::chunk::Chunk;
use crate::{StorageError, rows::SampleBatch, series_index::Ordinal};

/// A series' samples in the head.
pub(crate) struct HeadSeries {
    pub(crate) labels: Labels,
    pub(crate) ordinal: Ordinal,
    /// Those that came in order of their time.
    pub(super) chunk: Chunk,
}

/// The samples of one WAL segment, by series.
#[derive(Default)]
pub(crate) struct HeadSamples {
    /// By ordinal: the place in `series`, or `NONE`.
    places: Vec<u32>,
    series: Vec<HeadSeries>,
    /// By ordinal: those that came late, in ascending time, none at a time of the chunk.
    late: HashMap<Ordinal, Vec<Sample>>,
    samples: usize,
    bytes: usize,
    /// Of all samples, inclusive.
    first_ms: i64,
    last_ms: i64,
}

const NONE: u32 = u32::MAX;

/// Rows of a batch in the table's form.
const BATCH_ROWS: usize = 32_768;

impl HeadSamples {
    pub(crate) fn len(&self) -> usize {
        self.samples
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes + self.series.len() * size_of::<HeadSeries>() + self.places.len() * size_of::<u32>()
    }

    pub(crate) fn times(&self) -> Option<(UnixNanos, UnixNanos)> {
        (self.samples > 0)
            .then(|| (UnixNanos::from_millis(self.first_ms), UnixNanos::from_millis(self.last_ms)))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &HeadSeries> {
        self.series.iter()
    }

    fn get(&self, ordinal: Ordinal) -> Option<&HeadSeries> {
        self.series.get(*self.places.get(ordinal as usize)? as usize)
    }

    /// Those that came late, in ascending time.
    pub(super) fn late(&self, ordinal: Ordinal) -> &[Sample] {
        self.late.get(&ordinal).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn has_any(&self, ordinal: Ordinal) -> bool {
        self.get(ordinal).is_some()
    }

    pub(crate) fn has(&self, ordinal: Ordinal, time_ms: i64) -> bool {
        let Some(series) = self.get(ordinal) else { return false };
        let Some((first_ms, last_ms)) = series.chunk.times_ms() else { return false };
        if time_ms == last_ms {
            return true;
        }
        let mut found = false;
        if (first_ms..last_ms).contains(&time_ms) {
            series.chunk.each(|time, _| {
                found = time == time_ms;
                time < time_ms
            });
        }
        found
            || self
                .late
                .get(&ordinal)
                .is_some_and(|late| late.binary_search_by_key(&time_ms, |sample| sample.time_ms).is_ok())
    }

    /// Adds a sample; one of a time that the series has already is dropped.
    pub(crate) fn push(
        &mut self,
        ordinal: Ordinal,
        time_ms: i64,
        value: f64,
        labels: impl FnOnce() -> Labels,
    ) {
        let at = ordinal as usize;
        if self.places.len() <= at {
            self.places.resize((at + 1).next_multiple_of(1_024), NONE);
        }
        let Some(place) = self.places.get_mut(at) else { return };
        if *place == NONE {
            *place = self.series.len() as u32;
            self.series.push(HeadSeries { labels: labels(), ordinal, chunk: Chunk::default() });
        }
        let Some(series) = self.series.get_mut(*place as usize) else { return };
        if series.chunk.times_ms().is_some_and(|(_, last_ms)| time_ms <= last_ms) {
            if self.has(ordinal, time_ms) {
                return;
            }
            let late = self.late.entry(ordinal).or_default();
            let at = late.partition_point(|sample| sample.time_ms < time_ms);
            late.insert(at, Sample { time_ms, value });
            self.bytes += 2 * size_of::<Sample>();
        } else {
            let before = series.chunk.bytes();
            series.chunk.push(time_ms, value);
            self.bytes += series.chunk.bytes() - before;
        }
        if self.samples == 0 {
            (self.first_ms, self.last_ms) = (time_ms, time_ms);
        }
        self.first_ms = self.first_ms.min(time_ms);
        self.last_ms = self.last_ms.max(time_ms);
        self.samples += 1;
    }

    /// Gives back room for samples that will not come.
    pub(crate) fn shrink(&mut self) {
        for series in &mut self.series {
            let before = series.chunk.bytes();
            series.chunk.shrink();
            self.bytes -= before - series.chunk.bytes();
        }
        self.series.shrink_to_fit();
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
        let Some(series) = self.get(ordinal) else { return };
        self.copy(series, first_ms, last_ms, times_ms, values);
    }

    pub(crate) fn copy(
        &self,
        series: &HeadSeries,
        first_ms: i64,
        last_ms: i64,
        times_ms: &mut Vec<i64>,
        values: &mut Vec<f64>,
    ) {
        let late = self.late(series.ordinal);
        let from = times_ms.len();
        if series.chunk.times_ms().is_some_and(|(first, last)| first <= last_ms && last >= first_ms) {
            series.chunk.copy_between((first_ms, last_ms), times_ms, values);
        }
        let mut at = from;
        for sample in late.iter().filter(|sample| (first_ms..=last_ms).contains(&sample.time_ms)) {
            at += times_ms.get(at..).unwrap_or_default().partition_point(|time| *time < sample.time_ms);
            times_ms.insert(at, sample.time_ms);
            values.insert(at, sample.value);
        }
    }

    /// The series in the order of the table's files: metric, series.
    pub(crate) fn in_order(&self) -> Vec<&HeadSeries> {
        let mut order: Vec<&HeadSeries> = self.series.iter().collect();
        order.sort_by_cached_key(|series| {
            (series.labels.symbol(METRIC_NAME), series.labels.series_id().to_i64())
        });
        order
    }

    /// The samples in `range` as batches in the order of the table's files: metric, series, time.
    pub(crate) fn batches(&self, range: TimeRange) -> Result<Vec<RecordBatch>, StorageError> {
        if self.samples == 0 || self.first_ms > range.end.millis() || self.last_ms < range.start.millis() {
            return Ok(Vec::new());
        }
        let mut batches = Vec::new();
        self.write(range, |batch| {
            batches.push(batch);
            Ok(())
        })?;
        Ok(batches)
    }

    /// Makes the samples in `range` rows, a batch at a time, in the order of the table's files.
    pub(crate) fn write(
        &self,
        range: TimeRange,
        mut write: impl FnMut(RecordBatch) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        let (first_ms, last_ms) = (range.start.millis(), range.end.millis());
        let mut rows = SampleBatch::default();
        let (mut times_ms, mut values) = (Vec::new(), Vec::new());
        for series in self.in_order() {
            times_ms.clear();
            values.clear();
            self.copy(series, first_ms, last_ms, &mut times_ms, &mut values);
            let times_us = times_ms.iter().map(|time| time.saturating_mul(1_000));
            rows.add(series.labels.metric_name(), series.labels.series_id(), times_us, &values);
            if rows.len() >= BATCH_ROWS {
                write(std::mem::take(&mut rows).finish()?)?;
            }
        }
        if rows.len() > 0 {
            write(rows.finish()?)?;
        }
        Ok(())
    }
}
