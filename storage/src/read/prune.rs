//! What of a file need not be read: row groups by their statistics and bloom filters, pages by the page index.

use std::ops::Range;

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, Scalar, TimestampMicrosecondArray},
    compute::kernels::cmp,
    datatypes::TimestampMicrosecondType,
};
use parquet::{
    arrow::{
        arrow_reader::{RowSelection, RowSelector, statistics::StatisticsConverter},
        async_reader::{AsyncFileReader, ParquetRecordBatchStreamBuilder},
    },
    bloom_filter::Sbbf,
    file::metadata::{ColumnChunkMetaData, ParquetMetaData},
};
use pharos_model::TimeRange;

use super::{FileSource, ScanValue};
use crate::{StorageError, promoted::Questions};

pub(crate) type Builder = ParquetRecordBatchStreamBuilder<FileSource>;

/// A stretch of values that a column has to overlap.
struct Bounds {
    column: String,
    low: Scalar<ArrayRef>,
    high: Scalar<ArrayRef>,
}

/// What the statistics are asked; `None` if no row of this file can fulfil the scan.
fn bounds(builder: &Builder, range: TimeRange, equals: &[(String, ScanValue)]) -> Option<Vec<Bounds>> {
    let time = |micros: i64| -> Scalar<ArrayRef> {
        Scalar::new(std::sync::Arc::new(TimestampMicrosecondArray::from(vec![micros]).with_timezone("UTC")))
    };
    let mut bounds = vec![Bounds {
        column: "time".to_string(),
        low: time(range.start.micros()),
        high: time(range.end.micros()),
    }];
    for (column, value) in equals {
        let Ok(field) = builder.schema().field_with_name(column) else { continue };
        let scalar = value.scalar(field.data_type())?;
        bounds.push(Bounds { column: column.clone(), low: scalar.clone(), high: scalar });
    }
    Some(bounds)
}

/// Without statistics anything may be inside.
fn may_overlap(mins: &ArrayRef, maxes: &ArrayRef, bounds: &Bounds) -> Result<Vec<bool>, StorageError> {
    let high_enough = cmp::gt_eq(maxes, &bounds.low)?;
    let low_enough = cmp::lt_eq(mins, &bounds.high)?;
    let yes = |answer: &BooleanArray, at: usize| answer.is_null(at) || answer.value(at);
    Ok((0..mins.len()).map(|at| yes(&high_enough, at) && yes(&low_enough, at)).collect())
}

/// The row groups that may hold matching rows, by statistics and then by bloom filters.
pub(crate) async fn row_groups(
    source: &mut FileSource,
    builder: &mut Builder,
    range: TimeRange,
    questions: &Questions,
) -> Result<Vec<usize>, StorageError> {
    let Some(bounds) = bounds(builder, range, &questions.equals) else { return Ok(Vec::new()) };
    let metadata = builder.metadata().clone();
    let mut keep = vec![true; metadata.num_row_groups()];
    for bounds in &bounds {
        let converter =
            StatisticsConverter::try_new(&bounds.column, builder.schema(), builder.parquet_schema())?;
        let mins = converter.row_group_mins(metadata.row_groups())?;
        let maxes = converter.row_group_maxes(metadata.row_groups())?;
        let overlaps = may_overlap(&mins, &maxes, bounds)?;
        keep.iter_mut().zip(overlaps).for_each(|(keep, overlaps)| *keep &= overlaps);
    }
    let groups = (0..keep.len()).filter(|group| keep.get(*group) == Some(&true)).collect();
    past_blooms(source, &metadata, groups, questions).await
}

/// Those of the row groups whose bloom filters may hold all that is asked for. All filters are read at once.
async fn past_blooms(
    source: &mut FileSource,
    metadata: &ParquetMetaData,
    mut groups: Vec<usize>,
    questions: &Questions,
) -> Result<Vec<usize>, StorageError> {
    let (mut asked, mut ranges) = (Vec::new(), Vec::new());
    for (name, value) in questions.equals.iter().chain(&questions.blooms) {
        for group in &groups {
            let columns = metadata.row_group(*group).columns();
            let column = columns.iter().find(|column| column.column_path().string() == *name);
            if let Some(range) = column.and_then(bloom_range) {
                asked.push((*group, value));
                ranges.push(range);
            }
        }
    }
    if ranges.is_empty() {
        return Ok(groups);
    }
    let blooms = source.get_byte_ranges(ranges).await.map_err(|error| source.broken(error))?;
    for ((group, value), bytes) in asked.into_iter().zip(blooms) {
        let bloom = Sbbf::from_bytes(&bytes).map_err(|error| source.broken(error))?;
        let may_hold = match value {
            ScanValue::Text(text) => bloom.check(text.as_str()),
            ScanValue::Bytes(bytes) => bloom.check(bytes.as_slice()),
            ScanValue::Int(number) => bloom.check(number),
            ScanValue::Bool(_) => true,
        };
        if !may_hold {
            groups.retain(|kept| *kept != group);
        }
    }
    Ok(groups)
}

fn bloom_range(column: &ColumnChunkMetaData) -> Option<Range<u64>> {
    let start = u64::try_from(column.bloom_filter_offset()?).ok()?;
    Some(start..start + u64::try_from(column.bloom_filter_length()?).ok()?)
}

/// The rows of one row group that the page index cannot rule out; all of them if the file has no page index.
pub(crate) fn pages(
    builder: &Builder,
    group: usize,
    range: TimeRange,
    questions: &Questions,
) -> Result<RowSelection, StorageError> {
    let metadata = builder.metadata();
    let rows = metadata.row_group(group).num_rows().max(0) as usize;
    let mut selection = RowSelection::from(vec![RowSelector::select(rows)]);
    let (Some(column_index), Some(offset_index)) = (metadata.column_index(), metadata.offset_index()) else {
        return Ok(selection);
    };
    let Some(bounds) = bounds(builder, range, &questions.equals) else {
        return Ok(RowSelection::from(vec![RowSelector::skip(rows)]));
    };
    for bounds in &bounds {
        let converter =
            StatisticsConverter::try_new(&bounds.column, builder.schema(), builder.parquet_schema())?;
        let group = [group];
        let mins = converter.data_page_mins(column_index, offset_index, &group)?;
        let maxes = converter.data_page_maxes(column_index, offset_index, &group)?;
        let Some(counts) = converter.data_page_row_counts(offset_index, metadata.row_groups(), &group)?
        else {
            continue;
        };
        let counts = counts.values();
        if mins.len() != counts.len() {
            continue;
        }
        let overlaps = may_overlap(&mins, &maxes, bounds)?;
        let pages: Vec<RowSelector> = overlaps
            .into_iter()
            .zip(counts)
            .map(|(overlaps, count)| match overlaps {
                true => RowSelector::select(*count as usize),
                false => RowSelector::skip(*count as usize),
            })
            .collect();
        selection = selection.intersection(&RowSelection::from(pages));
    }
    Ok(selection)
}

/// Whether statistics say of all rows of these row groups that they lie in the range.
pub(crate) fn all_within(builder: &Builder, groups: &[usize], range: TimeRange) -> bool {
    groups.iter().all(|group| {
        let columns = builder.metadata().row_group(*group).columns();
        let time = columns.iter().find(|column| column.column_path().string() == "time");
        // A row without a time is of 1970.
        let is_full = time
            .and_then(|time| time.statistics())
            .is_some_and(|statistics| statistics.null_count_opt() == Some(0));
        is_full
            && times_us(builder, *group).is_ok_and(|(first, last)| {
                let last_ns = last.saturating_mul(1_000).saturating_add(999);
                range.start.0 <= first.saturating_mul(1_000)
                    && (last_ns < range.end.0 || range.end.0 == i64::MAX)
            })
    })
}

/// First and last value of the column `time` in a row group, in microseconds, inclusive.
pub(crate) fn times_us(builder: &Builder, group: usize) -> Result<(i64, i64), StorageError> {
    let converter = StatisticsConverter::try_new("time", builder.schema(), builder.parquet_schema())?;
    let group = [builder.metadata().row_group(group)];
    let first = |array: ArrayRef| {
        array
            .as_primitive_opt::<TimestampMicrosecondType>()
            .filter(|array| array.is_valid(0))
            .map(|array| array.value(0))
    };
    let min = first(converter.row_group_mins(group)?).unwrap_or(i64::MIN);
    let max = first(converter.row_group_maxes(group)?).unwrap_or(i64::MAX);
    Ok((min, max))
}
