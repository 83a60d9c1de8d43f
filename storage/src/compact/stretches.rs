//! Merging files whose row groups are stretches of time: row groups are read in the order of time, as many at once as
//! overlap, and cut into new ones.

use std::sync::Arc;

use arrow::array::RecordBatch;
use futures::TryStreamExt;
use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;

use crate::{
    DataFile, StorageError, Table,
    columns::concat,
    parquet_file::{FileWriter, by_time, times_us},
    promoted::{Promoted, Split, View, Wanted, split},
    read::{FileSource, row_group_times_us},
    shared::Shared,
};

/// Stretches whose rows wait for others of their time. Beyond it the oldest are written whatever may still come: row
/// groups that overlap cost readers a little, and memory has its bound.
const MOST_WAITING: usize = 2;

struct Stretch {
    file: usize,
    group: usize,
    first_us: i64,
}

/// Writes the rows of all inputs, in stretches of so many.
pub(super) async fn merge(
    shared: &Shared,
    table: Table,
    promoted: &Arc<Promoted>,
    length: usize,
    inputs: &[Arc<DataFile>],
    writer: &mut FileWriter,
) -> Result<(), StorageError> {
    let mut files = Vec::with_capacity(inputs.len());
    let mut stretches = Vec::new();
    for (file, input) in inputs.iter().enumerate() {
        let mut source = FileSource::new(shared.object_store.clone(), input.clone());
        let footer = source.footer(&shared.footers).await?;
        let view = View::of_file(table, &footer);
        let builder = ParquetRecordBatchStreamBuilder::new_with_metadata(source.clone(), footer.clone());
        for group in 0..footer.metadata().num_row_groups() {
            let (first_us, _) = row_group_times_us(&builder, group)?;
            stretches.push(Stretch { file, group, first_us });
        }
        files.push((source, footer, view));
    }
    stretches.sort_by_key(|stretch| (stretch.first_us, stretch.file, stretch.group));
    let mut waiting: Vec<RecordBatch> = Vec::new();
    for (at, stretch) in stretches.iter().enumerate() {
        let Some((source, footer, view)) = files.get(stretch.file) else { continue };
        let builder = ParquetRecordBatchStreamBuilder::new_with_metadata(source.clone(), footer.clone());
        let rows = builder.with_row_groups(vec![stretch.group]).with_batch_size(length).build()?;
        let rows: Vec<RecordBatch> =
            rows.try_collect().await.map_err(|error| StorageError::of_file(source.path(), error))?;
        for rows in rows {
            let Split { rows, partial } = in_form(table, promoted, view, rows)?;
            writer.note_partial(partial);
            waiting.push(rows);
        }
        // Rows of before the next stretch are complete.
        let complete_us = stretches.get(at + 1).map_or(i64::MAX, |next| next.first_us);
        write_complete(&mut waiting, complete_us, length, writer)?;
    }
    Ok(())
}

/// The rows of a file with all promoted columns. A file that has them keeps its form.
fn in_form(table: Table, promoted: &Promoted, view: &View, rows: RecordBatch) -> Result<Split, StorageError> {
    if view.promoted().columns == promoted.columns && rows.schema().fields() == promoted.schema.fields() {
        return Ok(Split { rows, partial: view.partial().clone() });
    }
    let all: Vec<Wanted> = table.schema().fields().iter().map(|field| Wanted::Own(field.clone())).collect();
    Ok(split(table, promoted, &view.show(&rows, &all)?)?)
}

fn write_complete(
    waiting: &mut Vec<RecordBatch>,
    complete_us: i64,
    length: usize,
    writer: &mut FileWriter,
) -> Result<(), StorageError> {
    let count: usize = waiting.iter().map(RecordBatch::num_rows).sum();
    let is_last = complete_us == i64::MAX;
    if count == 0 || (count < length && !is_last) {
        return Ok(());
    }
    let rows = by_time(&concat(&std::mem::take(waiting))?)?;
    let complete = times_us(&rows)?.partition_point(|time| *time < complete_us || is_last);
    let mut start = 0;
    while start < count {
        let left = count - start;
        let is_due = if is_last {
            true
        } else {
            left >= length && (start + length <= complete || left > MOST_WAITING * length)
        };
        if !is_due {
            break;
        }
        writer.write_stretch(&rows.slice(start, left.min(length)))?;
        start += left.min(length);
    }
    if start < count {
        let rest = rows.slice(start, count - start);
        // A slice would keep all rows in memory.
        let all = arrow::array::UInt32Array::from_iter_values(0..rest.num_rows() as u32);
        waiting.push(arrow::compute::take_record_batch(&rest, &all)?);
    }
    Ok(())
}
