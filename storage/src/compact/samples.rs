//! Merging files of samples: series by series, each with all its samples of all files at once, since a row is less than
//! what comparing it with others would cost.

use std::{cmp::Ordering, sync::Arc};

use arrow::{
    array::{Array, AsArray, RecordBatch, StringArray},
    datatypes::{Float64Type, Int32Type, Int64Type},
};
use futures::TryStreamExt;
use parquet::arrow::async_reader::{ParquetRecordBatchStream, ParquetRecordBatchStreamBuilder};
use pharos_model::SeriesId;

use crate::{
    DataFile, StorageError, Table,
    head::put_in_order,
    parquet_file::{FileWriter, times_us},
    read::FileSource,
    rows::SampleBatch,
    shared::Shared,
    table::in_schema,
};

/// Rows that are decoded of each input at a time.
const READ_ROWS: usize = 8_192;

/// Rows that are written at a time, or those of one series if they are more.
const WRITE_ROWS: usize = 32_768;

/// Writes the samples of all inputs, of each series one at a time.
pub(super) async fn merge(
    shared: &Shared,
    inputs: &[Arc<DataFile>],
    writer: &mut FileWriter,
) -> Result<(), StorageError> {
    let mut cursors = Vec::with_capacity(inputs.len());
    for file in inputs {
        cursors.extend(Cursor::open(shared, file).await?);
    }
    let mut rows = SampleBatch::default();
    let (mut times_us, mut values) = (Vec::new(), Vec::new());
    while let Some((metric, id)) = cursors.iter().map(Cursor::series).min() {
        let metric = metric.to_string();
        times_us.clear();
        values.clear();
        let mut left = Vec::with_capacity(cursors.len());
        for mut cursor in cursors {
            // The first of two samples of one time stays, as where rows are read.
            if cursor.take(&metric, id, &mut times_us, &mut values).await? {
                left.push(cursor);
            }
        }
        cursors = left;
        put_in_order(&mut times_us, &mut values, 0);
        rows.add(&metric, SeriesId::from_i64(id), times_us.iter().copied(), &values);
        if rows.len() >= WRITE_ROWS {
            writer.write(&std::mem::take(&mut rows).finish()?)?;
        }
    }
    if rows.len() > 0 {
        writer.write(&rows.finish()?)?;
    }
    Ok(())
}

/// An input at its next row, of which there is one.
struct Cursor {
    stream: ParquetRecordBatchStream<FileSource>,
    batch: Columns,
    row: usize,
}

/// A batch with rows.
struct Columns {
    names: StringArray,
    metrics: Vec<usize>,
    ids: Vec<i64>,
    times_us: Vec<i64>,
    values: Vec<f64>,
}

impl Columns {
    fn of(batch: &RecordBatch) -> Result<Columns, StorageError> {
        // A file of an earlier release may lack columns.
        let batch = in_schema(Table::Samples, batch)?;
        let missing =
            |name: &str| StorageError::NoColumn { table: Table::Samples.name(), column: name.to_string() };
        let column = |name: &str| batch.column_by_name(name).ok_or_else(|| missing(name));
        let metrics = column("metric")?.as_dictionary_opt::<Int32Type>().ok_or_else(|| missing("metric"))?;
        let names = metrics.values().as_string_opt::<i32>().ok_or_else(|| missing("metric"))?;
        let ids = column("series")?.as_primitive_opt::<Int64Type>().ok_or_else(|| missing("series"))?;
        let values = column("value")?.as_primitive_opt::<Float64Type>().ok_or_else(|| missing("value"))?;
        Ok(Columns {
            names: names.clone(),
            metrics: metrics.keys().values().iter().map(|key| usize::try_from(*key).unwrap_or(0)).collect(),
            ids: ids.values().to_vec(),
            times_us: times_us(&batch)?.to_vec(),
            values: values.values().to_vec(),
        })
    }

    fn metric(&self, row: usize) -> &str {
        match self.metrics.get(row) {
            Some(name) if *name < self.names.len() => self.names.value(*name),
            _ => "",
        }
    }
}

impl Cursor {
    async fn open(shared: &Shared, file: &Arc<DataFile>) -> Result<Option<Cursor>, StorageError> {
        let mut source = FileSource::new(shared.object_store.clone(), file.clone());
        let footer = source.footer(&shared.footers).await?;
        let builder = ParquetRecordBatchStreamBuilder::new_with_metadata(source, footer);
        let mut stream = builder.with_batch_size(READ_ROWS).build()?;
        Ok(next(&mut stream).await?.map(|batch| Cursor { stream, batch, row: 0 }))
    }

    /// Metric and id of the next row, in the order of the table's files.
    fn series(&self) -> (&str, i64) {
        (self.batch.metric(self.row), self.batch.ids.get(self.row).copied().unwrap_or(i64::MAX))
    }

    /// Moves the series' samples to the columns, and says whether rows are left.
    async fn take(
        &mut self,
        metric: &str,
        id: i64,
        times_us: &mut Vec<i64>,
        values: &mut Vec<f64>,
    ) -> Result<bool, StorageError> {
        while self.series().cmp(&(metric, id)) == Ordering::Equal {
            let Columns { ids, times_us: all_times, values: all_values, .. } = &self.batch;
            let run = ids.iter().skip(self.row).take_while(|other| **other == id).count();
            let rows = self.row..self.row + run;
            times_us.extend_from_slice(all_times.get(rows.clone()).unwrap_or_default());
            values.extend_from_slice(all_values.get(rows.clone()).unwrap_or_default());
            self.row = rows.end;
            if self.row >= ids.len() {
                let Some(batch) = next(&mut self.stream).await? else { return Ok(false) };
                (self.batch, self.row) = (batch, 0);
            }
        }
        Ok(true)
    }
}

async fn next(stream: &mut ParquetRecordBatchStream<FileSource>) -> Result<Option<Columns>, StorageError> {
    while let Some(batch) = stream.try_next().await? {
        if batch.num_rows() > 0 {
            return Ok(Some(Columns::of(&batch)?));
        }
    }
    Ok(None)
}
