use std::sync::Arc;

use arrow::{
    array::{
        DictionaryArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
        TimestampMicrosecondArray,
    },
    datatypes::Int32Type,
};
use hashbrown::HashMap;
use parking_lot::Mutex;
use pharos_model::{SeriesId, TimeRange, UnixNanos};

use crate::{StorageError, Table};

/// A series' samples in the head, in ascending time.
#[derive(Clone, Debug, Default)]
pub(crate) struct HeadSeries {
    pub(crate) metric: Arc<str>,
    pub(crate) times_ms: Vec<i64>,
    pub(crate) values: Vec<f64>,
}

impl HeadSeries {
    /// Positions of the samples between the two times, inclusive.
    pub(crate) fn between(&self, first_ms: i64, last_ms: i64) -> std::ops::Range<usize> {
        let start = self.times_ms.partition_point(|time| *time < first_ms);
        let end = self.times_ms.partition_point(|time| *time <= last_ms);
        start..end.max(start)
    }
}

/// Samples by series: appended, looked up and written series by series.
#[derive(Default)]
pub(crate) struct HeadSamples {
    series: HashMap<SeriesId, HeadSeries>,
    samples: usize,
    /// Of all samples, inclusive.
    first_ms: i64,
    last_ms: i64,
    /// All samples as one sorted batch, for as long as none is added.
    columns: Mutex<Option<RecordBatch>>,
}

/// A series' two vectors, its name and its place in the map.
const SERIES_BYTES: usize = 160;
const SAMPLE_BYTES: usize = 16;

impl HeadSamples {
    pub(crate) fn len(&self) -> usize {
        self.samples
    }

    pub(crate) fn bytes(&self) -> usize {
        // Vectors double: on average a quarter of their room is empty, and the sorted batch may exist beside them.
        self.series.len() * SERIES_BYTES + self.samples * SAMPLE_BYTES * 2
    }

    pub(crate) fn times(&self) -> Option<(UnixNanos, UnixNanos)> {
        (self.samples > 0)
            .then(|| (UnixNanos::from_millis(self.first_ms), UnixNanos::from_millis(self.last_ms)))
    }

    pub(crate) fn get(&self, id: SeriesId) -> Option<&HeadSeries> {
        self.series.get(&id)
    }

    pub(crate) fn columns(&self) -> impl Iterator<Item = (SeriesId, &[i64], &[f64])> {
        self.series.iter().map(|(id, series)| (*id, &*series.times_ms, &*series.values))
    }

    pub(crate) fn has(&self, id: SeriesId, time_ms: i64) -> bool {
        self.series.get(&id).is_some_and(|series| series.times_ms.binary_search(&time_ms).is_ok())
    }

    pub(crate) fn push(&mut self, id: SeriesId, metric: &Arc<str>, time_ms: i64, value: f64) {
        let series = self.series.entry(id).or_insert_with(|| HeadSeries {
            metric: metric.clone(),
            times_ms: Vec::new(),
            values: Vec::new(),
        });
        match series.times_ms.last() {
            Some(last) if *last >= time_ms => {
                let at = series.times_ms.partition_point(|time| *time < time_ms);
                series.times_ms.insert(at, time_ms);
                series.values.insert(at, value);
            }
            _ => {
                series.times_ms.push(time_ms);
                series.values.push(value);
            }
        }
        if self.samples == 0 {
            (self.first_ms, self.last_ms) = (time_ms, time_ms);
        }
        self.first_ms = self.first_ms.min(time_ms);
        self.last_ms = self.last_ms.max(time_ms);
        self.samples += 1;
        *self.columns.get_mut() = None;
    }

    /// One batch in the order of the table's files: metric, series, time.
    pub(crate) fn batches(&self, range: TimeRange) -> Result<Vec<RecordBatch>, StorageError> {
        if self.samples == 0 || self.first_ms > range.end.millis() || self.last_ms < range.start.millis() {
            return Ok(Vec::new());
        }
        let mut known = self.columns.lock();
        if let Some(columns) = &*known {
            return Ok(vec![columns.clone()]);
        }
        let columns = self.batch()?;
        *known = Some(columns.clone());
        Ok(vec![columns])
    }

    fn batch(&self) -> Result<RecordBatch, StorageError> {
        let mut order: Vec<(&SeriesId, &HeadSeries)> = self.series.iter().collect();
        order.sort_unstable_by(|(left_id, left), (right_id, right)| {
            (&left.metric, left_id.to_i64()).cmp(&(&right.metric, right_id.to_i64()))
        });
        let mut names: Vec<&str> = Vec::new();
        let mut metrics = Vec::with_capacity(self.samples);
        let mut ids = Vec::with_capacity(self.samples);
        let mut times = Vec::with_capacity(self.samples);
        let mut values = Vec::with_capacity(self.samples);
        for (id, series) in order {
            if names.last() != Some(&&*series.metric) {
                names.push(&series.metric);
            }
            let count = series.times_ms.len();
            metrics.extend(std::iter::repeat_n(names.len() as i32 - 1, count));
            ids.extend(std::iter::repeat_n(id.to_i64(), count));
            times.extend(series.times_ms.iter().map(|time| time.saturating_mul(1_000)));
            values.extend_from_slice(&series.values);
        }
        let metrics = DictionaryArray::<Int32Type>::try_new(
            Int32Array::from(metrics),
            Arc::new(StringArray::from_iter_values(names)),
        )?;
        Ok(RecordBatch::try_new(
            Table::Samples.schema(),
            vec![
                Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC")),
                Arc::new(metrics),
                Arc::new(Int64Array::from(ids)),
                Arc::new(Float64Array::from(values)),
            ],
        )?)
    }
}
