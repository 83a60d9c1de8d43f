use std::sync::Arc;

use arrow::{
    array::{
        DictionaryArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
        TimestampMicrosecondArray,
    },
    datatypes::Int32Type,
};
use pharos_model::SeriesId;

use crate::{StorageError, Table};

/// Rows of the table `samples` under construction, series by series in the order of the table's files.
#[derive(Default)]
pub(crate) struct SampleBatch {
    names: Vec<String>,
    metrics: Vec<i32>,
    ids: Vec<i64>,
    times_us: Vec<i64>,
    values: Vec<f64>,
}

impl SampleBatch {
    pub(crate) fn len(&self) -> usize {
        self.times_us.len()
    }

    pub(crate) fn add(
        &mut self,
        metric: &str,
        id: SeriesId,
        times_us: impl ExactSizeIterator<Item = i64>,
        values: &[f64],
    ) {
        if self.names.last().is_none_or(|last| last != metric) {
            self.names.push(metric.to_string());
        }
        self.metrics.extend(std::iter::repeat_n(self.names.len() as i32 - 1, times_us.len()));
        self.ids.extend(std::iter::repeat_n(id.to_i64(), times_us.len()));
        self.times_us.extend(times_us);
        self.values.extend_from_slice(values);
    }

    pub(crate) fn finish(self) -> Result<RecordBatch, StorageError> {
        let metrics = DictionaryArray::<Int32Type>::try_new(
            Int32Array::from(self.metrics),
            Arc::new(StringArray::from_iter_values(self.names)),
        )?;
        Ok(RecordBatch::try_new(
            Table::Samples.schema(),
            vec![
                Arc::new(TimestampMicrosecondArray::from(self.times_us).with_timezone("UTC")),
                Arc::new(metrics),
                Arc::new(Int64Array::from(self.ids)),
                Arc::new(Float64Array::from(self.values)),
            ],
        )?)
    }
}
