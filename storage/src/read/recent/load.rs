//! Samples of files back into memory after a start.

use std::sync::Arc;

use arrow::{
    array::{AsArray, RecordBatch},
    datatypes::{Float64Type, Int64Type},
};
use futures::TryStreamExt;
use hashbrown::HashSet;
use object_store::path::Path;
use parquet::arrow::{ProjectionMask, async_reader::ParquetRecordBatchStreamBuilder};
use pharos_model::SeriesId;

use super::last_ms;
use crate::{
    DataFile, StorageError, Table,
    flush::off_thread,
    head::{Loaded, Loading},
    parquet_file::times_us,
    read::FileSource,
    series_index::Ordinal,
    shared::Shared,
};

/// Rows that are decoded at a time.
const BATCH_ROWS: usize = 16_384;

/// By the files' samples a resend is recognised from now on. Those for which there is room stay in memory.
pub(crate) async fn recall_samples(
    shared: &Arc<Shared>,
    mut files: Vec<Arc<DataFile>>,
) -> Result<(), StorageError> {
    files.sort_by_key(|file| std::cmp::Reverse(file.max_time));
    for file in files {
        load(shared, file, true).await?;
    }
    Ok(())
}

/// Fills the room that there is for samples in memory, from the newest file on.
pub(crate) async fn load_recent(shared: Arc<Shared>) {
    let mut tried = HashSet::new();
    while let Some(file) = next(&shared, &tried) {
        tried.insert(file.path.clone());
        let is_whole = |file: &DataFile| shared.recent.held_from_ms(file) <= Some(file.min_time.millis());
        match load(&shared, file.clone(), false).await {
            // What is older than what had no room has none either.
            Ok(true) if !is_whole(&file) => return,
            Ok(_) => {}
            Err(error) => tracing::warn!(path = %file.path, %error, "samples stay on disk alone"),
        }
    }
}

/// The newest file with samples that are not in memory.
fn next(shared: &Shared, tried: &HashSet<Path>) -> Option<Arc<DataFile>> {
    let state = shared.state.read();
    let files = state.table(Table::Samples).files.iter();
    let open = files.filter(|file| !tried.contains(&file.path));
    let open =
        open.filter(|file| shared.recent.held_from_ms(file).is_none_or(|from| from > file.min_time.millis()));
    open.max_by_key(|file| file.max_time).cloned()
}

/// Whether the file's samples were taken in, as far as there was room. Not if the file was merged meanwhile.
async fn load(shared: &Arc<Shared>, file: Arc<DataFile>, recalling: bool) -> Result<bool, StorageError> {
    let of_thread = (shared.clone(), file.clone());
    let loaded = off_thread(async move { read(&of_thread.0, &of_thread.1, recalling).await }).await?;
    // Held on, so that no ordinal is given to another series meanwhile.
    let index = shared.index.read();
    let state = shared.state.read();
    let is_there = state.table(Table::Samples).files.iter().any(|known| known.path == file.path);
    match loaded.filter(|loaded| is_there && loaded.is_of(&index)) {
        Some(loaded) => {
            shared.recent.add_older(loaded, &file);
            Ok(true)
        }
        None => Ok(false),
    }
}

/// The file's samples that are not in memory, as far as there is room. `None` if it is not in order.
async fn read(
    shared: &Shared,
    file: &Arc<DataFile>,
    recalling: bool,
) -> Result<Option<Loaded>, StorageError> {
    let until_ms = shared.recent.held_from_ms(file).map_or(i64::MAX, |from_ms| from_ms.saturating_sub(1));
    let mut loading = Loading::new(shared.recent.room(), until_ms.min(last_ms(file)));
    let mut source = FileSource::new(shared.object_store.clone(), file.clone());
    let footer = source.footer(&shared.footers).await?;
    let builder = ParquetRecordBatchStreamBuilder::new_with_metadata(source, footer);
    let mask = ProjectionMask::columns(builder.parquet_schema(), ["time", "series", "value"]);
    let mut batches = builder.with_projection(mask).with_batch_size(BATCH_ROWS).build()?;
    let mut series = Series::default();
    while let Some(batch) =
        batches.try_next().await.map_err(|error| StorageError::of_file(&file.path, error))?
    {
        each_run(&batch, |id, times_us, values| {
            if id != series.id {
                series.hand_over(shared, recalling, &mut loading);
                series.id = id;
            }
            series.times_ms.extend(times_us.iter().map(|time| time.div_euclid(1_000)));
            series.values.extend_from_slice(values);
        })?;
    }
    series.hand_over(shared, recalling, &mut loading);
    Ok(loading.finish())
}

/// The rows of one series, of several batches perhaps.
#[derive(Default)]
struct Series {
    id: i64,
    times_ms: Vec<i64>,
    values: Vec<f64>,
}

impl Series {
    fn hand_over(&mut self, shared: &Shared, recalling: bool, loading: &mut Loading) {
        let id = SeriesId::from_i64(self.id);
        if let Some(last_ms) = self.times_ms.last()
            && let Some(ordinal) = ordinal(shared, id, recalling.then_some(*last_ms))
        {
            loading.add(ordinal, id, &self.times_ms, &self.values);
        }
        self.times_ms.clear();
        self.values.clear();
    }
}

/// The series' ordinal. With a time, it is the newest that the series has a sample of.
fn ordinal(shared: &Shared, id: SeriesId, recall_ms: Option<i64>) -> Option<Ordinal> {
    let Some(time_ms) = recall_ms else { return shared.index.read().ordinal(id) };
    let mut index = shared.index.write();
    let ordinal = index.ordinal(id)?;
    index.recall(ordinal, time_ms);
    Some(ordinal)
}

/// Runs of rows of one series: its id, times in microseconds, values.
fn each_run(batch: &RecordBatch, mut run: impl FnMut(i64, &[i64], &[f64])) -> Result<(), StorageError> {
    let missing =
        |name: &str| StorageError::NoColumn { table: Table::Samples.name(), column: name.to_string() };
    let column = |name: &str| batch.column_by_name(name).ok_or_else(|| missing(name));
    let ids = column("series")?.as_primitive_opt::<Int64Type>().ok_or_else(|| missing("series"))?.values();
    let values = column("value")?.as_primitive_opt::<Float64Type>().ok_or_else(|| missing("value"))?.values();
    let times_us = times_us(batch)?;
    let mut start = 0;
    for ids in ids.chunk_by(|left, right| left == right) {
        let rows = start..start + ids.len();
        start = rows.end;
        if let (Some(id), Some(times_us), Some(values)) =
            (ids.first(), times_us.get(rows.clone()), values.get(rows))
        {
            run(*id, times_us, values);
        }
    }
    Ok(())
}
