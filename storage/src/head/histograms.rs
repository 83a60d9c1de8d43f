use std::{collections::BTreeMap, sync::Arc};

use arrow::array::RecordBatch;
use hashbrown::HashMap;
use parking_lot::Mutex;
use pharos_model::{NativeHistogram, SeriesId, TimeRange, UnixNanos};

use crate::{StorageError, columns::to_batch, rows::HistogramRow};

/// A series' histograms by time in milliseconds.
type ByTime = BTreeMap<i64, Arc<NativeHistogram>>;

/// Native histograms of the head by series and time.
#[derive(Default)]
pub(crate) struct HeadHistograms {
    /// With their metric's name.
    series: HashMap<SeriesId, (Arc<str>, ByTime)>,
    rows: usize,
    bytes: usize,
    /// Of all rows, inclusive.
    times: Option<(i64, i64)>,
    /// All rows as one sorted batch, for as long as none is added.
    columns: Mutex<Option<RecordBatch>>,
}

impl HeadHistograms {
    pub(crate) fn len(&self) -> usize {
        self.rows
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn times(&self) -> Option<(UnixNanos, UnixNanos)> {
        self.times.map(|(first, last)| (UnixNanos::from_millis(first), UnixNanos::from_millis(last)))
    }

    /// Of two rows of one series and time the first stays.
    pub(crate) fn push(&mut self, rows: Vec<HistogramRow>) {
        for row in rows {
            let bytes = weight(&row.histogram);
            let (_, series) = self.series.entry(row.series).or_insert_with(|| (row.metric, BTreeMap::new()));
            if let std::collections::btree_map::Entry::Vacant(place) = series.entry(row.time_ms) {
                place.insert(row.histogram);
                self.rows += 1;
                self.bytes += bytes;
                let (first, last) = self.times.unwrap_or((row.time_ms, row.time_ms));
                self.times = Some((first.min(row.time_ms), last.max(row.time_ms)));
                *self.columns.get_mut() = None;
            }
        }
    }

    pub(crate) fn has(&self, id: SeriesId, time_ms: i64) -> bool {
        self.series.get(&id).is_some_and(|(_, histograms)| histograms.contains_key(&time_ms))
    }

    /// Of one series, both times inclusive; ascending.
    pub(crate) fn between(
        &self,
        id: SeriesId,
        first_ms: i64,
        last_ms: i64,
    ) -> impl Iterator<Item = (i64, &Arc<NativeHistogram>)> {
        let series = self.series.get(&id).filter(|_| first_ms <= last_ms);
        series
            .into_iter()
            .flat_map(move |(_, histograms)| histograms.range(first_ms..=last_ms))
            .map(|(time_ms, histogram)| (*time_ms, histogram))
    }

    /// Everything, or nothing if no row lies in `range`.
    pub(crate) fn batches(&self, range: TimeRange) -> Result<Vec<RecordBatch>, StorageError> {
        if !self.times().is_some_and(|(first, last)| range.overlaps(first, last)) {
            return Ok(Vec::new());
        }
        let mut known = self.columns.lock();
        if let Some(batch) = &*known {
            return Ok(vec![batch.clone()]);
        }
        let mut series: Vec<_> = self.series.iter().collect();
        series.sort_by(|(left, (left_name, _)), (right, (right_name, _))| {
            (left_name, left.to_i64()).cmp(&(right_name, right.to_i64()))
        });
        let rows: Vec<HistogramRow> = series
            .into_iter()
            .flat_map(|(id, (metric, histograms))| {
                histograms.iter().map(move |(time_ms, histogram)| HistogramRow {
                    metric: metric.clone(),
                    series: *id,
                    time_ms: *time_ms,
                    histogram: histogram.clone(),
                })
            })
            .collect();
        let batch = to_batch(&rows)?;
        *known = Some(batch.clone());
        Ok(vec![batch])
    }
}

/// About how many bytes it takes in memory, its place in the map and its columns among them.
pub(crate) fn weight(histogram: &NativeHistogram) -> usize {
    let buckets = histogram.positive.len() + histogram.negative.len();
    size_of::<NativeHistogram>() + 64 + 100 + buckets * (16 + 4) + histogram.custom_bounds.len() * 16
}
