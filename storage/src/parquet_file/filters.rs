//! Bloom filters of one column side by side: who asks a file for a trace reads those of one column, of all row groups,
//! at once. Parquet's writer puts those of one row group side by side.

use parquet::{
    errors::Result,
    file::metadata::{ParquetMetaData, ParquetMetaDataOptions, ParquetMetaDataReader, ParquetMetaDataWriter},
};

use crate::checked_files::{PARQUET_END_BYTES, footer_bytes};

/// A filter: its column, its row group, and where its bytes are in the file.
struct Filter {
    column: usize,
    group: usize,
    start: i64,
    length: i32,
}

/// Moves the filters in `end`, which is all of a file from byte `start` on, and says in the footer where they are.
pub(super) fn order_by_column(start: u64, end: &mut Vec<u8>) -> Result<()> {
    let bytes = |length: u64| usize::try_from(length).ok();
    let Some(footer_at) = footer_bytes(end).and_then(bytes).and_then(|bytes| end.len().checked_sub(bytes))
    else {
        return Ok(());
    };
    let thrift = end.get(footer_at..end.len() - PARQUET_END_BYTES as usize).unwrap_or_default();
    let options = ParquetMetaDataOptions::new().with_encoding_stats_as_mask(false);
    let footer = ParquetMetaDataReader::decode_metadata_with_options(thrift, Some(&options))?;
    let mut filters = filters(&footer);
    filters.sort_unstable_by_key(|filter| (filter.column, filter.group));
    let first = filters.iter().map(|filter| filter.start).min().unwrap_or(0);
    let place = |at: i64| u64::try_from(at).ok()?.checked_sub(start).and_then(bytes);
    let of = |filter: &Filter| {
        let from = place(filter.start)?;
        end.get(from..from + usize::try_from(filter.length).ok()?)
    };
    let Some(ordered) = filters.iter().map(of).collect::<Option<Vec<&[u8]>>>() else { return Ok(()) };
    let ordered = ordered.concat();
    // They lie in one piece, or there is something between them that must stay where it is.
    let last = filters.iter().map(|filter| filter.start + i64::from(filter.length)).max().unwrap_or(0);
    let Some(region) = place(first).filter(|_| (last - first) as usize == ordered.len()) else {
        return Ok(());
    };
    let mut at = first;
    for filter in &mut filters {
        filter.start = at;
        at += i64::from(filter.length);
    }
    let footer = with_filters(footer, &filters)?;
    end.splice(region..region + ordered.len(), ordered);
    end.truncate(footer_at);
    ParquetMetaDataWriter::new(end, &footer).finish()
}

fn filters(footer: &ParquetMetaData) -> Vec<Filter> {
    let mut filters = Vec::new();
    for (group, row_group) in footer.row_groups().iter().enumerate() {
        for (column, chunk) in row_group.columns().iter().enumerate() {
            if let (Some(start), Some(length)) = (chunk.bloom_filter_offset(), chunk.bloom_filter_length()) {
                filters.push(Filter { column, group, start, length });
            }
        }
    }
    filters
}

fn with_filters(footer: ParquetMetaData, filters: &[Filter]) -> Result<ParquetMetaData> {
    let mut footer = footer.into_builder();
    let mut groups = Vec::new();
    for (number, group) in footer.take_row_groups().into_iter().enumerate() {
        let mut columns = group.columns().to_vec();
        for filter in filters.iter().filter(|filter| filter.group == number) {
            if let Some(column) = columns.get_mut(filter.column) {
                let moved = column.clone().into_builder().set_bloom_filter_offset(Some(filter.start));
                *column = moved.build()?;
            }
        }
        groups.push(group.into_builder().set_column_metadata(columns).build()?);
    }
    Ok(footer.set_row_groups(groups).build())
}

#[cfg(test)]
mod tests;
