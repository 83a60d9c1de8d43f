use std::sync::Arc;

use arrow::{
    array::RecordBatch,
    compute::interleave_record_batch,
    row::{OwnedRow, RowConverter, Rows, SortField},
};
use futures::TryStreamExt;
use object_store::path::Path;
use parquet::arrow::async_reader::{ParquetRecordBatchStream, ParquetRecordBatchStreamBuilder};

use super::{join::Join, samples, stretches};
use crate::{
    DataFile, StorageError, Table,
    flush::off_thread,
    parquet_file::{COMPACT_LEVEL, FileWriter, day_of, sort_keys},
    read::FileSource,
    shared::Shared,
    table::in_schema,
    table_store::Unpublished,
};

/// Rows that are decoded of each input at a time, and rows written at a time.
const BATCH_ROWS: usize = 2_048;

/// One file with the rows of all `inputs`, which are of one day; those of derived tables joined. Memory is bounded by a batch and a page of each
/// input and a row group of the output.
pub(crate) async fn merge(
    shared: &Arc<Shared>,
    table: Table,
    inputs: &[Arc<DataFile>],
) -> Result<Unpublished, StorageError> {
    let (shared, inputs) = (shared.clone(), inputs.to_vec());
    off_thread(async move { merge_here(&shared, table, &inputs).await }).await
}

async fn merge_here(
    shared: &Shared,
    table: Table,
    inputs: &[Arc<DataFile>],
) -> Result<Unpublished, StorageError> {
    let rows: u64 = inputs.iter().map(|file| file.rows).sum();
    let day = inputs.first().map_or(0, |file| day_of(file.min_time));
    let promoted = shared.state.read().table(table).promoted.clone();
    let mut writer = FileWriter::create(
        shared.tables.disk().clone(),
        table,
        promoted.clone(),
        day,
        rows as usize,
        COMPACT_LEVEL,
    )?;
    if let Some(length) = table.sort().stretch_rows {
        stretches::merge(shared, table, &promoted, length, inputs, &mut writer).await?;
        return writer.finish();
    }
    if table == Table::Samples {
        samples::merge(shared, inputs, &mut writer).await?;
        return writer.finish();
    }
    let mut merge = Merge::new(shared, table, inputs).await?;
    let mut join = Join::of(table);
    while let Some(batch) = merge.next_batch().await? {
        if let Some(batch) = join.push(batch)? {
            writer.write(&batch)?;
        }
    }
    if let Some(batch) = join.finish()? {
        writer.write(&batch)?;
    }
    writer.finish()
}

/// A sorted input, at its next row.
struct Cursor {
    path: Path,
    stream: ParquetRecordBatchStream<FileSource>,
    keys: Rows,
    /// Number of the current batch among those that the output may still refer to.
    batch: usize,
    row: usize,
}

struct Merge {
    table: Table,
    converter: RowConverter,
    /// Those that have rows left.
    cursors: Vec<Cursor>,
    batches: Vec<RecordBatch>,
    last: Option<OwnedRow>,
}

impl Merge {
    async fn new(shared: &Shared, table: Table, inputs: &[Arc<DataFile>]) -> Result<Merge, StorageError> {
        let none = RecordBatch::new_empty(table.schema());
        let fields =
            sort_keys(table, &none)?.iter().map(|key| SortField::new(key.data_type().clone())).collect();
        let mut merge = Merge {
            table,
            converter: RowConverter::new(fields)?,
            cursors: Vec::new(),
            batches: Vec::new(),
            last: None,
        };
        for file in inputs {
            let mut source = FileSource::new(shared.object_store.clone(), file.clone());
            let footer = source.footer(&shared.footers).await?;
            let builder = ParquetRecordBatchStreamBuilder::new_with_metadata(source, footer);
            let stream = builder.with_batch_size(BATCH_ROWS).build()?;
            let keys = merge.converter.empty_rows(0, 0);
            let mut cursor = Cursor { path: file.path.clone(), stream, keys, batch: 0, row: 0 };
            if merge.refill(&mut cursor).await? {
                merge.cursors.push(cursor);
            }
        }
        Ok(merge)
    }

    /// Whether the cursor has another batch.
    async fn refill(&mut self, cursor: &mut Cursor) -> Result<bool, StorageError> {
        let next = async |cursor: &mut Cursor| {
            let next = cursor.stream.try_next().await;
            next.map_err(|error| StorageError::of_file(&cursor.path, error))
        };
        while let Some(batch) = next(cursor).await? {
            if batch.num_rows() > 0 {
                // A file of an earlier release may lack columns.
                let batch = in_schema(self.table, &batch)?;
                cursor.keys = self.converter.convert_columns(&sort_keys(self.table, &batch)?)?;
                (cursor.batch, cursor.row) = (self.batches.len(), 0);
                self.batches.push(batch);
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn next_batch(&mut self) -> Result<Option<RecordBatch>, StorageError> {
        let mut chosen: Vec<(usize, usize)> = Vec::with_capacity(BATCH_ROWS);
        while chosen.len() < BATCH_ROWS {
            let least = self.cursors.iter().enumerate().min_by_key(|(_, cursor)| cursor.keys.row(cursor.row));
            let Some((at, cursor)) = least else { break };
            let key = cursor.keys.row(cursor.row);
            // Of a series there is one sample at a time; a second one was sent again.
            let known = self.table.is_by_series_and_time()
                && self.last.as_ref().is_some_and(|last| last.row() == key);
            if !known {
                chosen.push((cursor.batch, cursor.row));
                if self.table.is_by_series_and_time() {
                    self.last = Some(key.owned());
                }
            }
            let mut cursor = self.cursors.swap_remove(at);
            cursor.row += 1;
            if cursor.row < cursor.keys.num_rows() || self.refill(&mut cursor).await? {
                self.cursors.push(cursor);
            }
        }
        if chosen.is_empty() {
            return Ok(None);
        }
        let batches: Vec<&RecordBatch> = self.batches.iter().collect();
        let merged = interleave_record_batch(&batches, &chosen)?;
        self.forget_finished();
        Ok(Some(merged))
    }

    /// Lets go of the batches that no cursor stands in.
    fn forget_finished(&mut self) {
        let kept: Vec<RecordBatch> =
            self.cursors.iter().filter_map(|cursor| self.batches.get(cursor.batch).cloned()).collect();
        self.batches = kept;
        self.cursors.iter_mut().enumerate().for_each(|(number, cursor)| cursor.batch = number);
    }
}
