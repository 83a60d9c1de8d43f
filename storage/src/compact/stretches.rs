//! Merging files whose row groups are stretches of time: row groups are read in the order of time, as many at once as
//! overlap, and cut into new ones.

use std::sync::Arc;

use arrow::{
    array::{RecordBatch, UInt32Array},
    compute::take_record_batch,
};
use futures::TryStreamExt;
use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;

use crate::{
    DataFile, StorageError, Table,
    columns::concat,
    parquet_file::{FileWriter, times_us},
    promoted::{Promoted, Split, View, Wanted, split},
    read::{FileSource, row_group_times_us},
    shared::Shared,
};

/// Stretches whose rows wait for others of their time. Beyond it the oldest are written whatever may still come: row
/// groups that overlap cost readers a little, and memory has its bound.
const MOST_WAITING: usize = 2;

/// What the rows of a stretch may take in memory: of large rows a stretch has fewer.
const STRETCH_BYTES: usize = 48 << 20;

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
        let mut complete = Waiting::new(std::mem::take(&mut waiting), length);
        complete.write_complete(complete_us, writer)?;
        waiting = complete.rows;
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

/// Rows that are not written yet, with what tells when they may be.
struct Waiting {
    rows: Vec<RecordBatch>,
    /// Rows of a full stretch, as large as they are.
    length: usize,
}

/// Time in microseconds, number of the batch, row within it.
type Place = (i64, usize, u32);

impl Waiting {
    fn new(rows: Vec<RecordBatch>, most_rows: usize) -> Waiting {
        let count: usize = rows.iter().map(RecordBatch::num_rows).sum();
        let bytes: usize = rows.iter().map(RecordBatch::get_array_memory_size).sum();
        let fitting = STRETCH_BYTES / (bytes / count.max(1)).max(1);
        Waiting { rows, length: most_rows.min(fitting).max(1) }
    }

    fn count(&self) -> usize {
        self.rows.iter().map(RecordBatch::num_rows).sum()
    }

    fn by_time(&self) -> Result<Vec<Place>, StorageError> {
        let mut places = Vec::with_capacity(self.count());
        for (batch, rows) in self.rows.iter().enumerate() {
            places.extend(times_us(rows)?.iter().enumerate().map(|(row, time)| (*time, batch, row as u32)));
        }
        places.sort_unstable();
        Ok(places)
    }

    /// A copy of the rows at these places, in the order of batches.
    fn copy(&self, places: &[Place]) -> Result<Vec<RecordBatch>, StorageError> {
        let mut of_batches: Vec<Vec<u32>> = vec![Vec::new(); self.rows.len()];
        for (_, batch, row) in places {
            of_batches[*batch].push(*row);
        }
        let wanted = self.rows.iter().zip(of_batches).filter(|(_, places)| !places.is_empty());
        wanted
            .map(|(rows, mut places)| {
                if places.len() == rows.num_rows() {
                    return Ok(rows.clone());
                }
                places.sort_unstable();
                Ok(take_record_batch(rows, &UInt32Array::from(places))?)
            })
            .collect()
    }

    /// Writes full stretches of what no row to come is older than, or of all if too much waits; at the end, all.
    fn write_complete(&mut self, complete_us: i64, writer: &mut FileWriter) -> Result<(), StorageError> {
        let is_last = complete_us == i64::MAX;
        if self.rows.is_empty() || (self.count() < self.length && !is_last) {
            return Ok(());
        }
        let places = self.by_time()?;
        let complete = places.partition_point(|(time, ..)| *time < complete_us);
        let mut start = 0;
        while start < places.len() {
            let left = places.len() - start;
            let is_full = left >= self.length;
            let is_due = is_last
                || (is_full && (start + self.length <= complete || left > MOST_WAITING * self.length));
            if !is_due {
                break;
            }
            let end = start + left.min(self.length);
            let stretch = concat(&self.copy(places.get(start..end).unwrap_or_default())?)?;
            writer.write_stretch(&stretch)?;
            start = end;
        }
        if start > 0 {
            self.rows = self.copy(places.get(start..).unwrap_or_default())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
