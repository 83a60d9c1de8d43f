//! The samples of chosen series, from files and from the head.

use std::sync::Arc;

use arrow::{
    array::{Array, AsArray, BooleanArray, Int64Array, RecordBatch},
    datatypes::{Float64Type, Int64Type, TimestampMicrosecondType},
    error::ArrowError,
};
use futures::TryStreamExt;
use hashbrown::HashMap;
use parquet::arrow::{
    ProjectionMask,
    arrow_reader::{ArrowPredicateFn, RowFilter, RowSelection, RowSelector, statistics::StatisticsConverter},
    async_reader::ParquetRecordBatchStreamBuilder,
};
use pharos_model::{SeriesId, TimeRange, UnixNanos};

use super::{DataFile, FileSource, prune};
use crate::{StorageError, Table, flush::off_thread, promoted::Questions, shared::Shared};

/// Samples of one series in ascending time, no time twice.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SeriesColumns {
    pub id: SeriesId,
    pub times_ms: Vec<i64>,
    pub values: Vec<f64>,
}

/// Rows per batch read from a file.
const BATCH_ROWS: usize = 16_384;

/// The series' samples between the two times, both inclusive, in the order of `ids`. A series without samples has
/// empty columns.
pub(crate) async fn read_samples(
    shared: &Arc<Shared>,
    ids: &[SeriesId],
    first_ms: i64,
    last_ms: i64,
) -> Result<Vec<SeriesColumns>, StorageError> {
    let mut columns: Vec<SeriesColumns> =
        ids.iter().map(|id| SeriesColumns { id: *id, ..SeriesColumns::default() }).collect();
    let wanted = Wanted::new(ids, first_ms, last_ms);
    let files = from_head(shared, &wanted, &mut columns);
    if files.is_empty() {
        return Ok(columns);
    }
    let mut of_files: Vec<SeriesColumns> =
        columns.iter().map(|series| SeriesColumns { id: series.id, ..SeriesColumns::default() }).collect();
    let shared = shared.clone();
    let of_files = off_thread(async move {
        for file in files {
            read_file(&shared, file, &wanted, &mut of_files).await?;
        }
        Ok(of_files)
    })
    .await?;
    for (series, mut stored) in columns.iter_mut().zip(of_files) {
        stored.times_ms.append(&mut series.times_ms);
        stored.values.append(&mut series.values);
        stored.put_in_order();
        *series = stored;
    }
    Ok(columns)
}

struct Wanted {
    /// Place among the asked-for series.
    places: HashMap<i64, usize>,
    sorted: Vec<i64>,
    first_ms: i64,
    last_ms: i64,
}

impl Wanted {
    fn new(ids: &[SeriesId], first_ms: i64, last_ms: i64) -> Wanted {
        let mut sorted: Vec<i64> = ids.iter().map(|id| id.to_i64()).collect();
        let places = sorted.iter().enumerate().map(|(place, id)| (*id, place)).collect();
        sorted.sort_unstable();
        Wanted { places, sorted, first_ms, last_ms }
    }

    fn range(&self) -> TimeRange {
        TimeRange::new(
            UnixNanos::from_millis(self.first_ms),
            UnixNanos::from_millis(self.last_ms).plus_nanos(1),
        )
    }

    /// Whether any wanted id lies between the two, inclusive.
    fn any_between(&self, low: i64, high: i64) -> bool {
        let at = self.sorted.partition_point(|id| *id < low);
        self.sorted.get(at).is_some_and(|id| *id <= high)
    }
}

/// Copies the head's samples and returns the files that hold the rest: both of one moment.
fn from_head(shared: &Shared, wanted: &Wanted, columns: &mut [SeriesColumns]) -> Vec<Arc<DataFile>> {
    let state = shared.state.read();
    for generation in state.unflushed(Table::Samples) {
        for series in columns.iter_mut() {
            let Some(head) = generation.samples.get(series.id) else { continue };
            let rows = head.between(wanted.first_ms, wanted.last_ms);
            series.times_ms.extend_from_slice(head.times_ms.get(rows.clone()).unwrap_or_default());
            series.values.extend_from_slice(head.values.get(rows).unwrap_or_default());
        }
    }
    let range = wanted.range();
    let mut files: Vec<Arc<DataFile>> =
        state.table(Table::Samples).files.iter().filter(|file| file.overlaps(range)).cloned().collect();
    files.sort_by_key(|file| (file.min_time, file.max_time));
    files
}

async fn read_file(
    shared: &Shared,
    file: Arc<DataFile>,
    wanted: &Wanted,
    columns: &mut [SeriesColumns],
) -> Result<(), StorageError> {
    let path = file.path.clone();
    let mut source = FileSource::new(shared.object_store.clone(), file);
    let footer = source.footer(&shared.footers).await?;
    let mut builder = ParquetRecordBatchStreamBuilder::new_with_metadata(source, footer);
    let mut groups = Vec::new();
    let mut selectors: Vec<RowSelector> = Vec::new();
    for group in prune::row_groups(&mut builder, wanted.range(), &Questions::default()).await? {
        let pages = prune::pages(&builder, group, wanted.range(), &Questions::default())?
            .intersection(&series_pages(&builder, group, wanted)?);
        if pages.selects_any() {
            groups.push(group);
            selectors.extend(Vec::<RowSelector>::from(pages));
        }
    }
    if groups.is_empty() {
        return Ok(());
    }
    let schema = builder.parquet_schema();
    let mask = ProjectionMask::columns(schema, ["series", "time", "value"]);
    let places: hashbrown::HashSet<i64> = wanted.sorted.iter().copied().collect();
    let predicate =
        ArrowPredicateFn::new(ProjectionMask::columns(schema, ["series"]), move |batch: RecordBatch| {
            let ids = int64(&batch, "series").map_err(|error| ArrowError::ExternalError(Box::new(error)))?;
            Ok(BooleanArray::from_unary(&ids, |id| places.contains(&id)))
        });
    let mut batches = builder
        .with_row_groups(groups)
        .with_row_selection(RowSelection::from(selectors))
        .with_row_filter(RowFilter::new(vec![Box::new(predicate)]))
        .with_projection(mask)
        .with_batch_size(BATCH_ROWS)
        .build()?;
    while let Some(batch) = batches.try_next().await.map_err(|error| StorageError::of_file(&path, error))? {
        take(&batch, wanted, columns)?;
    }
    Ok(())
}

fn take(batch: &RecordBatch, wanted: &Wanted, columns: &mut [SeriesColumns]) -> Result<(), StorageError> {
    let ids = int64(batch, "series")?;
    let missing =
        |name: &str| StorageError::NoColumn { table: Table::Samples.name(), column: name.to_string() };
    let times = batch
        .column_by_name("time")
        .and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>())
        .ok_or_else(|| missing("time"))?;
    let values = batch
        .column_by_name("value")
        .and_then(|column| column.as_primitive_opt::<Float64Type>())
        .ok_or_else(|| missing("value"))?;
    // Rows of one series follow each other.
    let mut last: Option<(i64, Option<usize>)> = None;
    for ((id, time_us), value) in ids.values().iter().zip(times.values()).zip(values.values()) {
        let place = match last {
            Some((known, place)) if known == *id => place,
            _ => wanted.places.get(id).copied(),
        };
        last = Some((*id, place));
        let time_ms = time_us.div_euclid(1_000);
        if (wanted.first_ms..=wanted.last_ms).contains(&time_ms)
            && let Some(series) = place.and_then(|place| columns.get_mut(place))
        {
            series.times_ms.push(time_ms);
            series.values.push(*value);
        }
    }
    Ok(())
}

fn int64(batch: &RecordBatch, name: &str) -> Result<Int64Array, StorageError> {
    batch
        .column_by_name(name)
        .and_then(|column| column.as_primitive_opt::<Int64Type>())
        .cloned()
        .ok_or_else(|| StorageError::NoColumn { table: Table::Samples.name(), column: name.to_string() })
}

/// The rows of the pages whose range of ids holds a wanted one.
fn series_pages(
    builder: &prune::Builder,
    group: usize,
    wanted: &Wanted,
) -> Result<RowSelection, StorageError> {
    let metadata = builder.metadata();
    let rows = metadata.row_group(group).num_rows().max(0) as usize;
    let all = RowSelection::from(vec![RowSelector::select(rows)]);
    let (Some(column_index), Some(offset_index)) = (metadata.column_index(), metadata.offset_index()) else {
        return Ok(all);
    };
    let converter = StatisticsConverter::try_new("series", builder.schema(), builder.parquet_schema())?;
    let group = [group];
    let mins = converter.data_page_mins(column_index, offset_index, &group)?;
    let maxes = converter.data_page_maxes(column_index, offset_index, &group)?;
    let counts = converter.data_page_row_counts(offset_index, metadata.row_groups(), &group)?;
    let (Some(mins), Some(maxes), Some(counts)) =
        (mins.as_primitive_opt::<Int64Type>(), maxes.as_primitive_opt::<Int64Type>(), counts)
    else {
        return Ok(all);
    };
    let page = |at: usize| {
        let unknown = mins.is_null(at) || maxes.is_null(at);
        let rows = counts.value(at) as usize;
        match unknown || wanted.any_between(mins.value(at), maxes.value(at)) {
            true => RowSelector::select(rows),
            false => RowSelector::skip(rows),
        }
    };
    if mins.len() != counts.len() {
        return Ok(all);
    }
    Ok(RowSelection::from((0..mins.len()).map(page).collect::<Vec<_>>()))
}

impl SeriesColumns {
    /// Sorts by time and drops all but the first sample of a time: what late data and resends need.
    fn put_in_order(&mut self) {
        if self.times_ms.windows(2).all(|pair| pair[0] < pair[1]) {
            return;
        }
        let mut samples: Vec<(i64, f64)> = self.times_ms.drain(..).zip(self.values.drain(..)).collect();
        samples.sort_by_key(|(time, _)| *time);
        samples.dedup_by_key(|(time, _)| *time);
        (self.times_ms, self.values) = samples.into_iter().unzip();
    }
}
