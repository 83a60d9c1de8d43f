//! Writing a table's files: sorted, split by date, each whole and durable before anyone hears of it.

use std::{io, sync::Arc};

use arrow::{
    array::{ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array},
    compute::{SortColumn, lexsort_to_indices, take_record_batch},
    datatypes::{SchemaRef, TimestampMicrosecondType},
};
use object_store::path::Path;
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, Encoding, ZstdLevel},
    file::{
        metadata::SortingColumn,
        properties::{EnabledStatistics, WriterProperties},
    },
    schema::types::ColumnPath,
};
use pharos_model::UnixNanos;

use crate::{
    DataFile, StorageError, Table,
    columns::concat,
    disk::{Disk, DiskFile, UNFINISHED},
    table_store::Unpublished,
};

const MICROS_PER_DAY: i64 = 24 * 3_600 * 1_000_000;
const MICROS_PER_MINUTE: i64 = 60_000_000;

/// Rows of a row group: what a reader that prunes nothing decodes at once.
pub(crate) const ROW_GROUP_ROWS: usize = 131_072;
/// Rows of a page: what a reader that looks for a few rows decodes.
const PAGE_ROWS: usize = 8_192;

/// Zstandard's level where writing should be fast, and where a file is to stay.
pub(crate) const FLUSH_LEVEL: i32 = 1;
pub(crate) const COMPACT_LEVEL: i32 = 3;

/// The column `time` of a batch, in microseconds.
pub(crate) fn times_us(batch: &RecordBatch) -> Result<&[i64], StorageError> {
    let times =
        batch.column_by_name("time").and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>());
    Ok(times.ok_or_else(|| StorageError::NoColumn { table: "", column: "time".to_string() })?.values())
}

/// The columns by which the table's files are sorted.
pub(crate) fn sort_keys(table: Table, batch: &RecordBatch) -> Result<Vec<ArrayRef>, StorageError> {
    let sort = table.sort();
    let mut keys: Vec<ArrayRef> = Vec::with_capacity(sort.columns.len() + 1);
    if sort.minute_first {
        let minutes = times_us(batch)?.iter().map(|micros| micros.div_euclid(MICROS_PER_MINUTE));
        keys.push(Arc::new(Int64Array::from_iter_values(minutes)));
    }
    for name in sort.columns {
        let column = batch.column_by_name(name);
        keys.push(
            column
                .cloned()
                .ok_or_else(|| StorageError::NoColumn { table: table.name(), column: (*name).to_string() })?,
        );
    }
    Ok(keys)
}

/// The rows in the order of the table's files.
pub(crate) fn sorted(table: Table, rows: &RecordBatch) -> Result<RecordBatch, StorageError> {
    Ok(take_record_batch(rows, &order_of(table, rows)?)?)
}

fn order_of(table: Table, rows: &RecordBatch) -> Result<UInt32Array, StorageError> {
    let columns: Vec<SortColumn> =
        sort_keys(table, rows)?.into_iter().map(|values| SortColumn { values, options: None }).collect();
    Ok(lexsort_to_indices(&columns, None)?)
}

/// The rows of all batches in the order of the table's files, a batch for each UTC day on which there are some.
pub(crate) fn sorted_by_day(
    table: Table,
    batches: &[RecordBatch],
) -> Result<Vec<(i64, RecordBatch)>, StorageError> {
    let rows = concat(batches)?;
    let order = order_of(table, &rows)?;
    let times = times_us(&rows)?;
    let day_of = |row: &u32| times.get(*row as usize).map_or(0, |micros| micros.div_euclid(MICROS_PER_DAY));
    let mut days: Vec<i64> = order.values().iter().map(day_of).collect();
    days.sort_unstable();
    days.dedup();
    let one_day = |day: i64| {
        let chosen: UInt32Array = order.values().iter().copied().filter(|row| day_of(row) == day).collect();
        Ok((day, take_record_batch(&rows, &chosen)?))
    };
    match days.as_slice() {
        [day] => Ok(vec![(*day, take_record_batch(&rows, &order)?)]),
        days => days.iter().map(|day| one_day(*day)).collect(),
    }
}

/// The UTC day of an instant, counted from 1970.
pub(crate) fn day_of(time: UnixNanos) -> i64 {
    time.micros().div_euclid(MICROS_PER_DAY)
}

/// `2026-11-21`, as in the path of the partition.
fn date_of_day(day: i64) -> String {
    let days = i32::try_from(day).unwrap_or(0);
    arrow::temporal_conversions::date32_to_datetime(days)
        .map_or_else(|| "1970-01-01".into(), |at| at.date().to_string())
}

/// A file under construction. Dropped unfinished, it leaves nothing.
pub(crate) struct FileWriter {
    writer: ArrowWriter<Sink>,
    unfinished: Unfinished,
    /// Of its path, to which the checksum is added.
    stem: String,
    rows: u64,
    first_us: i64,
    last_us: i64,
}

impl FileWriter {
    /// `rows` is about how many will come; `level` is Zstandard's.
    pub(crate) fn create(
        disk: Arc<dyn Disk>,
        table: Table,
        day: i64,
        rows: usize,
        level: i32,
    ) -> Result<FileWriter, StorageError> {
        let name = uuid::Uuid::new_v4().simple();
        let stem = format!("{}/date={}/{name}", table.name(), date_of_day(day));
        let path = format!("{stem}{UNFINISHED}");
        let file = disk.create(&path).map_err(|error| StorageError::io(&path, error))?;
        let unfinished = Unfinished { disk, path, wanted: false };
        let schema = table.schema();
        let properties = properties(table, &schema, rows.min(ROW_GROUP_ROWS), level)?;
        let sink = Sink { file, buffer: Vec::new(), length: 0, checksum: 0 };
        let writer = ArrowWriter::try_new(sink, schema, Some(properties))?;
        Ok(FileWriter { writer, unfinished, stem, rows: 0, first_us: i64::MAX, last_us: i64::MIN })
    }

    /// Rows must come in the table's order.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<(), StorageError> {
        for micros in times_us(batch)? {
            self.first_us = self.first_us.min(*micros);
            self.last_us = self.last_us.max(*micros);
        }
        self.rows += batch.num_rows() as u64;
        Ok(self.writer.write(batch)?)
    }

    /// Returns when the file is whole and durable. It has no name yet.
    pub(crate) fn finish(self) -> Result<Unpublished, StorageError> {
        let FileWriter { writer, mut unfinished, stem, rows, first_us, last_us } = self;
        let mut sink = writer.into_inner()?;
        io::Write::flush(&mut sink)
            .and_then(|()| sink.file.sync())
            .map_err(|error| StorageError::io(&unfinished.path, error))?;
        unfinished.wanted = true;
        let file = DataFile {
            path: Path::from(format!("{stem}-{:08x}.parquet", sink.checksum)),
            size_bytes: sink.length,
            rows,
            min_time: UnixNanos::from_micros(first_us),
            max_time: UnixNanos::from_micros(last_us).plus_nanos(999),
            modified_ms: UnixNanos::now().millis(),
        };
        Ok(Unpublished { unfinished: unfinished.path.clone(), file })
    }
}

/// The file before it has its name.
struct Unfinished {
    disk: Arc<dyn Disk>,
    path: String,
    wanted: bool,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.wanted {
            // On a full disk each try would leave its part.
            let _ = self.disk.remove(&self.path);
        }
    }
}

/// Gathers small writes.
struct Sink {
    file: Box<dyn DiskFile>,
    buffer: Vec<u8>,
    /// Of everything handed over.
    length: u64,
    /// CRC-32C.
    checksum: u32,
}

const SINK_BYTES: usize = 256 << 10;

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= SINK_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.append(&self.buffer)?;
        self.length += self.buffer.len() as u64;
        self.checksum = crc32c::crc32c_append(self.checksum, &self.buffer);
        self.buffer.clear();
        Ok(())
    }
}

fn properties(
    table: Table,
    schema: &SchemaRef,
    rows: usize,
    level: i32,
) -> Result<WriterProperties, StorageError> {
    let column = |name: &str| ColumnPath::from(name);
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(level)?))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_write_batch_size(PAGE_ROWS / 8)
        // Pages' statistics only where they prune: they are parsed with each footer.
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_created_by(concat!("pharos ", env!("CARGO_PKG_VERSION")).to_string())
        // Times of sorted rows are near each other.
        .set_column_dictionary_enabled(column("time"), false)
        .set_column_encoding(column("time"), Encoding::DELTA_BINARY_PACKED)
        // Random bytes, hardly ever the same.
        .set_column_dictionary_enabled(column("span_id"), false)
        .set_column_compression(column("span_id"), Compression::UNCOMPRESSED)
        .set_column_dictionary_enabled(column("duration_ns"), false);
    if table == Table::Samples {
        // Measured on mesh counters: smaller than plain and than a dictionary.
        properties = properties
            .set_column_dictionary_enabled(column("value"), false)
            .set_column_encoding(column("value"), Encoding::BYTE_STREAM_SPLIT);
    }
    let sort = table.sort();
    let looked_up = ["time"]
        .iter()
        .chain(sort.columns)
        .chain(table.bloom_columns())
        .chain(&["response_code", "http_status"]);
    for name in looked_up.filter(|name| schema.field_with_name(name).is_ok()) {
        properties = properties.set_column_statistics_enabled(column(name), EnabledStatistics::Page);
    }
    for name in table.bloom_columns() {
        properties = properties
            .set_column_bloom_filter_enabled(column(name), true)
            .set_column_bloom_filter_fpp(column(name), 0.01)
            .set_column_bloom_filter_max_ndv(column(name), rows as u64);
    }
    if !sort.minute_first {
        let sorting = sort
            .columns
            .iter()
            .filter_map(|name| schema.index_of(name).ok())
            .map(|at| SortingColumn { column_idx: at as i32, descending: false, nulls_first: true });
        // Columns before the first nested one have the same place in both schemas.
        properties = properties.set_sorting_columns(Some(sorting.collect()));
    }
    Ok(properties.build())
}

/// Writes rows in the table's order, a file for each day.
pub(crate) fn write_files(
    disk: &Arc<dyn Disk>,
    table: Table,
    batches: &[RecordBatch],
) -> Result<Vec<Unpublished>, StorageError> {
    if batches.iter().all(|batch| batch.num_rows() == 0) {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for (day, rows) in sorted_by_day(table, batches)? {
        let mut writer = FileWriter::create(disk.clone(), table, day, rows.num_rows(), FLUSH_LEVEL)?;
        writer.write(&rows)?;
        files.push(writer.finish()?);
    }
    Ok(files)
}
