//! The samples of chosen series, from memory and from files, block by block.

use std::{ops::Range, sync::Arc};

use arrow::{
    array::{Array, AsArray, Int64Array, RecordBatch},
    datatypes::{Float64Type, Int64Type, TimestampMicrosecondType},
};
use futures::TryStreamExt;
use hashbrown::HashMap;
use parquet::arrow::{
    ProjectionMask,
    arrow_reader::{RowSelection, RowSelector, statistics::StatisticsConverter},
    async_reader::ParquetRecordBatchStreamBuilder,
};
use pharos_model::{Labels, Matcher, SeriesId, TimeRange, UnixNanos};

use super::{DataFile, FileSource, prune};
use crate::{
    StorageError, Table,
    head::{FrozenSamples, Generation, put_in_order},
    promoted::Questions,
    series_index::{Entry, Ordinal},
    shared::Shared,
};

/// Samples of one series in ascending time, no time twice.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SeriesColumns {
    pub id: SeriesId,
    pub times_ms: Vec<i64>,
    pub values: Vec<f64>,
}

/// Samples of several series, series after series: two columns, and where each series ends in them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SampleBlock {
    times_ms: Vec<i64>,
    values: Vec<f64>,
    ends: Vec<usize>,
}

impl SampleBlock {
    /// Series; some may have no samples.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Times in milliseconds since 1970, rising, and the values at them. Staleness markers are among these.
    pub fn series(&self, place: usize) -> (&[i64], &[f64]) {
        let Some(end) = self.ends.get(place).copied() else { return (&[], &[]) };
        let start = place.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        (self.times_ms.get(start..end).unwrap_or_default(), self.values.get(start..end).unwrap_or_default())
    }

    fn clear(&mut self) {
        self.times_ms.clear();
        self.values.clear();
        self.ends.clear();
    }
}

/// The samples of chosen series at one moment, whatever is written, merged or dropped meanwhile. Several threads may
/// read blocks at once.
#[derive(Clone)]
pub struct SampleReader {
    shared: Arc<Shared>,
    series: Arc<Vec<Chosen>>,
    first_ms: i64,
    last_ms: i64,
    /// Oldest first.
    recent: Vec<Arc<FrozenSamples>>,
    sealed: Vec<Arc<Generation>>,
    /// Of the part of the head that still changes; without series where that has none of them.
    open: Arc<SampleBlock>,
    /// Those whose rows are not in `recent`.
    files: Vec<Arc<DataFile>>,
}

struct Chosen {
    id: SeriesId,
    labels: Labels,
    /// Nothing in memory is of a series without.
    ordinal: Option<Ordinal>,
}

impl SampleReader {
    pub(crate) fn select(
        shared: &Arc<Shared>,
        matchers: &[Matcher],
        first_ms: i64,
        last_ms: i64,
        limit: usize,
    ) -> Result<SampleReader, StorageError> {
        let range = TimeRange::new(
            UnixNanos::from_millis(first_ms),
            UnixNanos::from_millis(last_ms.saturating_add(1)),
        );
        // Held on, so that no number is given to another series before its samples are taken.
        let index = shared.index.read();
        let found = index.select(matchers, range);
        if found.len() > limit {
            return Err(StorageError::TooManySeries { limit });
        }
        let chosen = |(ordinal, entry): (Ordinal, &Entry)| Chosen {
            id: entry.id,
            labels: entry.labels.clone(),
            ordinal: Some(ordinal),
        };
        let series = found.into_iter().map(chosen).collect();
        Ok(SampleReader::new(shared, series, first_ms, last_ms))
    }

    pub(crate) fn of_ids(
        shared: &Arc<Shared>,
        ids: &[SeriesId],
        first_ms: i64,
        last_ms: i64,
    ) -> SampleReader {
        let index = shared.index.read();
        let chosen = |id: &SeriesId| {
            let ordinal = index.ordinal(*id);
            let entry = ordinal.and_then(|ordinal| index.entry(ordinal));
            Chosen { id: *id, labels: entry.map(|entry| entry.labels.clone()).unwrap_or_default(), ordinal }
        };
        SampleReader::new(shared, ids.iter().map(chosen).collect(), first_ms, last_ms)
    }

    fn new(shared: &Arc<Shared>, series: Vec<Chosen>, first_ms: i64, last_ms: i64) -> SampleReader {
        let range =
            TimeRange::new(UnixNanos::from_millis(first_ms), UnixNanos::from_millis(last_ms).plus_nanos(1));
        let mut open = SampleBlock::default();
        let state = shared.state.read();
        let flushed = state.table(Table::Samples).flushed_through;
        let sealed = state.sealed.iter().filter(|sealed| Some(sealed.segment) > flushed).cloned().collect();
        let times = state.open.samples.times();
        if times.is_some_and(|(first, last)| first.millis() <= last_ms && last.millis() >= first_ms) {
            open.ends.reserve_exact(series.len());
            for chosen in &series {
                if let Some(ordinal) = chosen.ordinal {
                    let SampleBlock { times_ms, values, .. } = &mut open;
                    state.open.samples.copy_between(ordinal, first_ms, last_ms, times_ms, values);
                }
                open.ends.push(open.times_ms.len());
            }
        }
        let mut files: Vec<Arc<DataFile>> =
            state.table(Table::Samples).files.iter().filter(|file| file.overlaps(range)).cloned().collect();
        files.sort_by_key(|file| (file.min_time, file.max_time));
        let (recent, files) = shared.recent.between(first_ms, last_ms, files);
        drop(state);
        SampleReader {
            shared: shared.clone(),
            series: Arc::new(series),
            first_ms,
            last_ms,
            recent,
            sealed,
            open: Arc::new(open),
            files,
        }
    }

    /// Series that were chosen.
    pub fn len(&self) -> usize {
        self.series.len()
    }

    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// The chosen series at these places. Those of ids that are not known have no labels.
    pub fn series(&self, places: Range<usize>) -> impl Iterator<Item = (SeriesId, &Labels)> {
        let places = places.start..places.end.min(self.series.len());
        let series = self.series.get(places).unwrap_or_default();
        series.iter().map(|chosen| (chosen.id, &chosen.labels))
    }

    /// Whether some of the series may have native histograms besides.
    pub fn may_have_histograms(&self) -> bool {
        let index = self.shared.index.read();
        self.series.iter().any(|chosen| index.may_have_histograms(chosen.id))
    }

    /// Whether files have to be read. Otherwise a block comes from memory and is ready at once.
    pub fn needs_files(&self) -> bool {
        !self.files.is_empty()
    }

    /// Puts the samples of the series at these places into `block`. Files are read best for places of many series
    /// that follow each other in the order of `Storage::select_samples`.
    pub async fn read(&self, places: Range<usize>, block: &mut SampleBlock) -> Result<(), StorageError> {
        block.clear();
        let places = places.start..places.end.min(self.series.len());
        let wanted = self.series.get(places.clone()).unwrap_or_default();
        let mut of_files = match self.files.is_empty() {
            true => OfFiles::default(),
            false => OfFiles::new(wanted.iter().map(|chosen| chosen.id), self.first_ms, self.last_ms),
        };
        for file in &self.files {
            of_files.read(&self.shared, file.clone()).await?;
        }
        for (place, chosen) in places.zip(wanted) {
            let SampleBlock { times_ms, values, ends } = &mut *block;
            let start = times_ms.len();
            if let Some(samples) = of_files.samples.get_mut(ends.len()) {
                times_ms.append(&mut samples.0);
                values.append(&mut samples.1);
            }
            if let Some(ordinal) = chosen.ordinal {
                for part in &self.recent {
                    part.copy_between(ordinal, self.first_ms, self.last_ms, times_ms, values);
                }
                for generation in &self.sealed {
                    generation.samples.copy_between(ordinal, self.first_ms, self.last_ms, times_ms, values);
                }
            }
            let (open_times, open_values) = self.open.series(place);
            times_ms.extend_from_slice(open_times);
            values.extend_from_slice(open_values);
            put_in_order(times_ms, values, start);
            ends.push(times_ms.len());
        }
        Ok(())
    }
}

/// Rows per batch read from a file.
const BATCH_ROWS: usize = 16_384;

/// What files hold of the wanted series.
#[derive(Default)]
struct OfFiles {
    /// Place among the wanted series.
    places: HashMap<i64, usize>,
    sorted: Vec<i64>,
    first_ms: i64,
    last_ms: i64,
    /// Times and values by place; empty if there are no files.
    samples: Vec<(Vec<i64>, Vec<f64>)>,
}

impl OfFiles {
    fn new(wanted: impl Iterator<Item = SeriesId>, first_ms: i64, last_ms: i64) -> OfFiles {
        let mut sorted: Vec<i64> = wanted.map(SeriesId::to_i64).collect();
        let places = sorted.iter().zip(0..).map(|(id, place)| (*id, place)).collect();
        sorted.sort_unstable();
        OfFiles { places, sorted, first_ms, last_ms, samples: Vec::new() }
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

    async fn read(&mut self, shared: &Shared, file: Arc<DataFile>) -> Result<(), StorageError> {
        self.samples.resize_with(self.places.len(), Default::default);
        let path = file.path.clone();
        let mut source = FileSource::new(shared.object_store.clone(), file);
        let footer = source.footer(&shared.footers).await?;
        let mut builder = ParquetRecordBatchStreamBuilder::new_with_metadata(source.clone(), footer);
        let mut groups = Vec::new();
        let mut selectors: Vec<RowSelector> = Vec::new();
        for group in prune::row_groups(&mut source, &mut builder, self.range(), &Questions::default()).await?
        {
            let pages = prune::pages(&builder, group, self.range(), &Questions::default())?
                .intersection(&series_pages(&builder, group, self)?);
            if pages.selects_any() {
                groups.push(group);
                selectors.extend(Vec::<RowSelector>::from(pages));
            }
        }
        if groups.is_empty() {
            return Ok(());
        }
        let mask = ProjectionMask::columns(builder.parquet_schema(), ["series", "time", "value"]);
        let mut batches = builder
            .with_row_groups(groups)
            .with_row_selection(RowSelection::from(selectors))
            .with_projection(mask)
            .with_batch_size(BATCH_ROWS)
            .build()?;
        while let Some(batch) =
            batches.try_next().await.map_err(|error| StorageError::of_file(&path, error))?
        {
            self.take(&batch)?;
        }
        Ok(())
    }

    fn take(&mut self, batch: &RecordBatch) -> Result<(), StorageError> {
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
        // Rows of one series follow each other, and are in the order of time.
        let mut start = 0;
        for run in ids.values().chunk_by(|left, right| left == right) {
            let rows = start..start + run.len();
            start = rows.end;
            let Some(id) = run.first() else { continue };
            let place = self.places.get(id).copied();
            let Some((of_times, of_values)) = place.and_then(|place| self.samples.get_mut(place)) else {
                continue;
            };
            let times = times.values().get(rows.clone()).unwrap_or_default();
            let from = times.partition_point(|time| time.div_euclid(1_000) < self.first_ms);
            let to = times.partition_point(|time| time.div_euclid(1_000) <= self.last_ms).max(from);
            of_times.extend(times.iter().take(to).skip(from).map(|time| time.div_euclid(1_000)));
            let values = values.values().get(rows).unwrap_or_default();
            of_values.extend_from_slice(values.get(from..to).unwrap_or_default());
        }
        Ok(())
    }
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
    wanted: &OfFiles,
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
