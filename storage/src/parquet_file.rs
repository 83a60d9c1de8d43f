//! Writing a table's files: sorted, split by date, each whole and durable before anyone hears of it.

mod filters;
mod tried;

use std::{collections::BTreeSet, io, sync::Arc};

use arrow::{
    array::{ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array},
    compute::{SortColumn, filter_record_batch, lexsort_to_indices, rank, take_record_batch},
    datatypes::{Int32Type, TimestampMicrosecondType},
};
use object_store::path::Path;
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, Encoding, ZstdLevel},
    file::{
        metadata::{KeyValue, SortingColumn},
        properties::{BloomFilterPosition, EnabledStatistics, WriterProperties, WriterPropertiesBuilder},
    },
    schema::types::ColumnPath,
};
use pharos_model::{TimeRange, UnixNanos};

use self::tried::TriedWriter;
use crate::{
    DataFile, StorageError, Table,
    checked_files::{BlockSums, footer_bytes},
    disk::{Disk, DiskFile, UNFINISHED},
    head::HeadSamples,
    promoted::{self, AttributeMap, PARTIAL, Promoted, Split, split},
    table_store::Unpublished,
};

const MICROS_PER_DAY: i64 = 24 * 3_600 * 1_000_000;

/// Rows of a row group, if the table has no other wish.
pub(crate) const ROW_GROUP_ROWS: usize = 131_072;

/// Rows of a page: what a reader that looks for a few rows decodes of each column. Spans are looked up by trace.
fn page_rows(table: Table) -> usize {
    match table {
        Table::Spans => 2_048,
        Table::AccessLogs | Table::Logs => 16_384,
        // Measured: a tenth fewer bytes than with 8,192.
        Table::Samples => 32_768,
        _ => 8_192,
    }
}

/// Zstandard's level where writing should be fast, and where a file is to stay.
pub(crate) const FLUSH_LEVEL: i32 = 1;
pub(crate) const COMPACT_LEVEL: i32 = 3;

/// The column `time` of a batch, in microseconds.
pub(crate) fn times_us(batch: &RecordBatch) -> Result<&[i64], StorageError> {
    let times =
        batch.column_by_name("time").and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>());
    Ok(times.ok_or_else(|| StorageError::NoColumn { table: "", column: "time".to_string() })?.values())
}

/// The columns by which the rows of a row group are sorted.
pub(crate) fn sort_keys(table: Table, batch: &RecordBatch) -> Result<Vec<ArrayRef>, StorageError> {
    let key = |name: &&'static str| {
        let column = batch.column_by_name(name).cloned();
        column.ok_or_else(|| StorageError::NoColumn { table: table.name(), column: (*name).to_string() })
    };
    table.sort().columns.iter().map(key).collect()
}

/// The rows sorted as a row group of the table is.
pub(crate) fn sorted(table: Table, rows: &RecordBatch) -> Result<RecordBatch, StorageError> {
    let keys = sort_keys(table, rows)?;
    let columns: Vec<SortColumn> = keys
        .iter()
        .map(|values| Ok(SortColumn { values: ranked(values)?, options: None }))
        .collect::<Result<_, StorageError>>()?;
    Ok(take_record_batch(rows, &lexsort_to_indices(&columns, None)?)?)
}

/// A column that sorts as `values` does: text by the rank of each word in the dictionary.
fn ranked(values: &ArrayRef) -> Result<ArrayRef, StorageError> {
    let Some(symbols) = values.as_dictionary_opt::<Int32Type>() else { return Ok(values.clone()) };
    let ranks = rank(symbols.values(), None)?;
    let rank_of = |key: Option<i32>| ranks.get(usize::try_from(key?).ok()?).copied();
    Ok(Arc::new(symbols.keys().iter().map(rank_of).collect::<UInt32Array>()))
}

/// The rows in the order of time.
pub(crate) fn by_time(rows: &RecordBatch) -> Result<RecordBatch, StorageError> {
    let times = times_us(rows)?;
    if times.is_sorted() {
        return Ok(rows.clone());
    }
    let mut order: Vec<u32> = (0..times.len() as u32).collect();
    order.sort_by_key(|row| times.get(*row as usize));
    Ok(take_record_batch(rows, &UInt32Array::from(order))?)
}

/// The rows, a batch for each UTC day on which there are some; of one day they keep their order.
pub(crate) fn by_day(rows: &RecordBatch) -> Result<Vec<(i64, RecordBatch)>, StorageError> {
    let days_of_rows: Vec<i64> =
        times_us(rows)?.iter().map(|micros| micros.div_euclid(MICROS_PER_DAY)).collect();
    let mut days = days_of_rows.clone();
    days.sort_unstable();
    days.dedup();
    if let [day] = days.as_slice() {
        return Ok(vec![(*day, rows.clone())]);
    }
    let one_day = |day: &i64| {
        let chosen = BooleanArray::from_iter(days_of_rows.iter().map(|of_row| Some(of_row == day)));
        Ok((*day, filter_record_batch(rows, &chosen)?))
    };
    days.iter().map(one_day).collect()
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
    table: Table,
    writer: RowGroups,
    partial: BTreeSet<String>,
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
        promoted: Arc<Promoted>,
        day: i64,
        rows: usize,
        level: i32,
    ) -> Result<FileWriter, StorageError> {
        let name = uuid::Uuid::new_v4().simple();
        let stem = format!("{}/date={}/{name}", table.name(), date_of_day(day));
        let path = format!("{stem}{UNFINISHED}");
        let file = disk.create(&path).map_err(|error| StorageError::io(&path, error))?;
        let unfinished = Unfinished { disk, path, wanted: false };
        let schema = promoted.schema.clone();
        let properties = properties(table, &promoted, rows, level)?;
        let sink = Sink::new(file);
        let writer = match table {
            Table::Samples => RowGroups::Tried(Box::new(TriedWriter::try_new(sink, schema, &properties)?)),
            _ => RowGroups::Plain(Box::new(ArrowWriter::try_new(sink, schema, Some(properties.build()))?)),
        };
        Ok(FileWriter {
            table,
            writer,
            partial: BTreeSet::new(),
            unfinished,
            stem,
            rows: 0,
            first_us: i64::MAX,
            last_us: i64::MIN,
        })
    }

    /// One row group of a table that is sorted in stretches of time, from rows in the order of time.
    pub(crate) fn write_stretch(&mut self, rows: &RecordBatch) -> Result<(), StorageError> {
        self.write(&sorted(self.table, rows)?)?;
        self.writer.end_group()
    }

    /// These columns lack some values, which are in their map.
    pub(crate) fn note_partial(&mut self, columns: BTreeSet<String>) {
        self.partial.extend(columns);
    }

    /// Rows, as files have them, must come in the table's order.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<(), StorageError> {
        for micros in times_us(batch)? {
            self.first_us = self.first_us.min(*micros);
            self.last_us = self.last_us.max(*micros);
        }
        self.rows += batch.num_rows() as u64;
        self.writer.write(batch)
    }

    /// Returns when the file is whole and durable. It has no name yet.
    pub(crate) fn finish(self) -> Result<Unpublished, StorageError> {
        let FileWriter { mut writer, partial, mut unfinished, stem, rows, first_us, last_us, .. } = self;
        if !partial.is_empty() {
            let names = serde_json::to_string(&partial).unwrap_or_default();
            writer.note(KeyValue::new(PARTIAL.to_string(), names));
        }
        let mut sink = writer.into_inner()?;
        filters::order_by_column(sink.length, &mut sink.buffer)?;
        sink.finish().map_err(|error| StorageError::io(&unfinished.path, error))?;
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

/// How row groups are made of rows.
enum RowGroups {
    Plain(Box<ArrowWriter<Sink>>),
    Tried(Box<TriedWriter<Sink>>),
}

impl RowGroups {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), StorageError> {
        match self {
            RowGroups::Plain(writer) => Ok(writer.write(batch)?),
            RowGroups::Tried(writer) => writer.write(batch),
        }
    }

    /// Rows to come are of another row group.
    fn end_group(&mut self) -> Result<(), StorageError> {
        match self {
            RowGroups::Plain(writer) => Ok(writer.flush()?),
            RowGroups::Tried(writer) => writer.end_group(),
        }
    }

    /// Puts a note into the footer.
    fn note(&mut self, note: KeyValue) {
        match self {
            RowGroups::Plain(writer) => writer.append_key_value_metadata(note),
            RowGroups::Tried(writer) => writer.note(note),
        }
    }

    fn into_inner(self) -> Result<Sink, StorageError> {
        match self {
            RowGroups::Plain(mut writer) => {
                writer.flush()?;
                writer.inner_mut().hold();
                Ok(writer.into_inner()?)
            }
            RowGroups::Tried(writer) => writer.into_inner(Sink::hold),
        }
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

/// Gathers small writes, and sums up what is written.
struct Sink {
    file: Box<dyn DiskFile>,
    buffer: Vec<u8>,
    /// Whether the rest is gathered until the file is finished.
    is_held: bool,
    blocks: BlockSums,
    /// Of everything handed over.
    length: u64,
    /// CRC-32C.
    checksum: u32,
}

const SINK_BYTES: usize = 256 << 10;

impl Sink {
    fn new(file: Box<dyn DiskFile>) -> Sink {
        let blocks = BlockSums::default();
        Sink { file, buffer: Vec::new(), is_held: false, blocks, length: 0, checksum: 0 }
    }

    /// All rows are written; indexes and the footer follow.
    fn hold(&mut self) {
        self.is_held = true;
    }

    /// Puts the blocks' checksums before the footer. The file is durable then.
    fn finish(&mut self) -> io::Result<()> {
        let footer = footer_bytes(&self.buffer).and_then(|bytes| usize::try_from(bytes).ok());
        let footer_at = footer.and_then(|bytes| self.buffer.len().checked_sub(bytes));
        let footer = self.buffer.split_off(footer_at.ok_or(io::ErrorKind::InvalidData)?);
        self.blocks.add(&self.buffer);
        self.buffer.extend(self.blocks.table(&footer));
        self.buffer.extend(footer);
        self.append()?;
        self.file.sync()
    }

    fn append(&mut self) -> io::Result<()> {
        self.file.append(&self.buffer)?;
        self.length += self.buffer.len() as u64;
        self.checksum = crc32c::crc32c_append(self.checksum, &self.buffer);
        self.buffer.clear();
        Ok(())
    }
}

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= SINK_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.is_held {
            return Ok(());
        }
        self.blocks.add(&self.buffer);
        self.append()
    }
}

fn properties(
    table: Table,
    promoted: &Promoted,
    rows: usize,
    level: i32,
) -> Result<WriterPropertiesBuilder, StorageError> {
    let schema = &promoted.schema;
    let group_rows = table.sort().stretch_rows.unwrap_or(ROW_GROUP_ROWS);
    let rows = rows.min(group_rows);
    let column = |name: &str| ColumnPath::from(name);
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(level)?))
        .set_max_row_group_row_count(Some(group_rows))
        .set_data_page_row_count_limit(page_rows(table))
        .set_write_batch_size(1_024)
        // All in one place, where they are put in order of columns.
        .set_bloom_filter_position(BloomFilterPosition::End)
        // Pages' statistics only where they prune: they are parsed with each footer.
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_created_by(concat!("pharos ", env!("CARGO_PKG_VERSION")).to_string())
        // Times of sorted rows are near each other.
        .set_column_dictionary_enabled(column("time"), false)
        .set_column_encoding(column("time"), Encoding::DELTA_BINARY_PACKED)
        .set_column_dictionary_enabled(column("duration_ns"), false);
    if table.sort().columns.contains(&"series") {
        // Sorted ids are near each other, too: measured, 1.5 bytes instead of 4.4 by a dictionary.
        properties = properties
            .set_column_dictionary_enabled(column("series"), false)
            .set_column_encoding(column("series"), Encoding::DELTA_BINARY_PACKED);
    }
    if table == Table::Spans {
        // Random bytes, hardly ever the same; their lengths, which are, apart.
        for name in ["span_id", "parent_span_id"] {
            properties = properties
                .set_column_dictionary_enabled(column(name), false)
                .set_column_encoding(column(name), Encoding::DELTA_LENGTH_BYTE_ARRAY)
                .set_column_compression(column(name), Compression::UNCOMPRESSED);
        }
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
    let own = table.bloom_columns().iter().map(|name| column(name));
    let of_promoted = promoted.columns.iter().map(|promoted| ColumnPath::from(promoted.name()));
    let leaf = |map: &AttributeMap, end: &str| {
        ColumnPath::from(vec![map.name.to_string(), "key_value".to_string(), end.to_string()])
    };
    let of_maps = promoted::maps(table).iter().flat_map(|map| [leaf(map, "key"), leaf(map, "value")]);
    for path in own.chain(of_promoted).chain(of_maps) {
        properties = properties
            .set_column_bloom_filter_enabled(path.clone(), true)
            .set_column_bloom_filter_fpp(path.clone(), 0.01)
            .set_column_bloom_filter_max_ndv(path, rows as u64);
    }
    if sort.stretch_rows.is_none() {
        let sorting = sort
            .columns
            .iter()
            .filter_map(|name| schema.index_of(name).ok())
            .map(|at| SortingColumn { column_idx: at as i32, descending: false, nulls_first: true });
        // Columns before the first nested one have the same place in both schemas.
        properties = properties.set_sorting_columns(Some(sorting.collect()));
    }
    Ok(properties)
}

/// Writes rows of the head, a file for each day.
pub(crate) fn write_files(
    disk: &Arc<dyn Disk>,
    table: Table,
    promoted: &Arc<Promoted>,
    rows: &RecordBatch,
) -> Result<Vec<Unpublished>, StorageError> {
    let mut files = Vec::new();
    for (day, rows) in by_day(rows)? {
        let Split { rows, partial } = split(table, promoted, &rows)?;
        let mut writer =
            FileWriter::create(disk.clone(), table, promoted.clone(), day, rows.num_rows(), FLUSH_LEVEL)?;
        writer.note_partial(partial);
        if let Some(stretch) = table.sort().stretch_rows {
            let rows = by_time(&rows)?;
            for start in (0..rows.num_rows()).step_by(stretch) {
                writer.write_stretch(&rows.slice(start, stretch.min(rows.num_rows() - start)))?;
            }
        } else {
            writer.write(&sorted(table, &rows)?)?;
        }
        files.push(writer.finish()?);
    }
    Ok(files)
}

/// Writes the head's samples, a file for each day, a batch at a time.
pub(crate) fn write_samples(
    disk: &Arc<dyn Disk>,
    promoted: &Arc<Promoted>,
    samples: &HeadSamples,
) -> Result<Vec<Unpublished>, StorageError> {
    let mut writers: Vec<(i64, FileWriter)> = Vec::new();
    samples.write(TimeRange::ALL, |batch| {
        // Rows of a day stay in order when those of other days are left out.
        for (day, rows) in by_day(&batch)? {
            let at = match writers.iter().position(|(known, _)| *known == day) {
                Some(at) => at,
                None => {
                    let (disk, promoted) = (disk.clone(), promoted.clone());
                    let (table, level) = (Table::Samples, FLUSH_LEVEL);
                    let writer = FileWriter::create(disk, table, promoted, day, samples.len(), level)?;
                    writers.push((day, writer));
                    writers.len() - 1
                }
            };
            if let Some((_, writer)) = writers.get_mut(at) {
                writer.write(&rows)?;
            }
        }
        Ok(())
    })?;
    writers.into_iter().map(|(_, writer)| writer.finish()).collect()
}
