//! What a frame carries: one Arrow IPC record-batch message per table, lz4-compressed. Their schemas are in the
//! segment's header, so that a release with other columns can still read them.

use std::sync::Arc;

use arrow::{
    array::{Float64Array, Int64Array, RecordBatch, TimestampMicrosecondArray},
    buffer::Buffer,
    datatypes::{Schema, SchemaRef},
    error::ArrowError,
    ipc::{
        CompressionType, MetadataVersion,
        convert::fb_to_schema,
        reader::read_record_batch,
        root_as_message,
        writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions},
    },
};
use pharos_model::{AccessLog, LogRecord, MeshObject, Span};

use crate::{
    Table,
    columns::{Layout, from_batch, schema_of, to_batch},
    commit::Rows,
    rows::{ExemplarRow, SampleRow, SeriesRow},
};

/// The tables whose rows come in from outside, in the order in which a frame has them: a series before its samples.
const TABLES: [Table; 7] = [
    Table::Series,
    Table::Samples,
    Table::Exemplars,
    Table::Spans,
    Table::AccessLogs,
    Table::Logs,
    Table::MeshConfig,
];

/// Schemas of the payloads, by table.
pub(crate) struct Schemas(Vec<(Table, SchemaRef)>);

impl Schemas {
    pub(crate) fn current() -> Schemas {
        Schemas(TABLES.map(|table| (table, schema(table))).into())
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>, ArrowError> {
        let options = options()?;
        let mut bytes = Vec::new();
        for (table, schema) in &self.0 {
            let mut tracker = DictionaryTracker::new(false);
            let message = IpcDataGenerator::default().schema_to_bytes_with_dictionary_tracker(
                schema,
                &mut tracker,
                &options,
            );
            write_part(&mut bytes, table.name().as_bytes(), &message.ipc_message);
        }
        Ok(bytes)
    }

    /// `None` for bytes that are no schemas. Tables that this release does not know are left out.
    pub(crate) fn decode(mut bytes: &[u8]) -> Option<Schemas> {
        let mut schemas = Vec::new();
        while !bytes.is_empty() {
            let (name, message, rest) = read_part(bytes)?;
            bytes = rest;
            let schema: Schema = fb_to_schema(root_as_message(message).ok()?.header_as_schema()?);
            if let Some(table) = std::str::from_utf8(name).ok().and_then(Table::from_name) {
                schemas.push((table, Arc::new(schema)));
            }
        }
        Some(Schemas(schemas))
    }

    fn of(&self, table: Table) -> Option<&SchemaRef> {
        self.0.iter().find(|(known, _)| *known == table).map(|(_, schema)| schema)
    }

    /// The rows of a payload.
    pub(crate) fn rows(&self, mut payload: &[u8]) -> Result<Rows, ArrowError> {
        let cut_short = || ArrowError::IpcError("payload cut short".to_string());
        let mut rows = Rows::default();
        while !payload.is_empty() {
            let (table, rest) = payload.split_first().ok_or_else(cut_short)?;
            let (message, body, rest) = read_part(rest).ok_or_else(cut_short)?;
            payload = rest;
            let Some(table) = TABLES.get(usize::from(*table)) else { continue };
            let Some(schema) = self.of(*table) else { continue };
            let message =
                root_as_message(message).map_err(|error| ArrowError::IpcError(error.to_string()))?;
            let batch = message
                .header_as_record_batch()
                .ok_or_else(|| ArrowError::IpcError("a message that is no record batch".to_string()))?;
            let body = Buffer::from(body);
            let batch = read_record_batch(
                &body,
                batch,
                schema.clone(),
                &Default::default(),
                None,
                &message.version(),
            )?;
            match table {
                Table::Series => rows.series = from_batch(&batch)?,
                Table::Samples => rows.samples = from_batch::<SampleRow>(&batch)?,
                Table::Exemplars => rows.exemplars = from_batch(&batch)?,
                Table::Spans => rows.spans = from_batch(&batch)?,
                Table::AccessLogs => rows.access_logs = from_batch(&batch)?,
                Table::Logs => rows.logs = from_batch(&batch)?,
                Table::MeshConfig => rows.mesh_config = from_batch(&batch)?,
                Table::Edges | Table::TraceSummaries => {}
            }
        }
        Ok(rows)
    }
}

fn schema(table: Table) -> SchemaRef {
    match table {
        Table::Series => schema_of::<SeriesRow>(Layout::Wal),
        Table::Samples => samples_schema(),
        Table::Exemplars => schema_of::<ExemplarRow>(Layout::Wal),
        Table::Spans => schema_of::<Span>(Layout::Wal),
        Table::AccessLogs => schema_of::<AccessLog>(Layout::Wal),
        Table::Logs => schema_of::<LogRecord>(Layout::Wal),
        Table::MeshConfig => schema_of::<MeshObject>(Layout::Wal),
        Table::Edges | Table::TraceSummaries => Arc::new(Schema::empty()),
    }
}

/// A sample's metric is found by its series.
fn samples_schema() -> SchemaRef {
    let all = schema_of::<SampleRow>(Layout::Wal);
    Arc::new(Schema::new(
        all.fields().iter().filter(|field| field.name() != "metric").cloned().collect::<Vec<_>>(),
    ))
}

fn samples(rows: &[SampleRow]) -> Result<RecordBatch, ArrowError> {
    let times =
        TimestampMicrosecondArray::from_iter_values(rows.iter().map(|row| row.time_ms.saturating_mul(1_000)));
    let series = Int64Array::from_iter_values(rows.iter().map(|row| row.series.to_i64()));
    let values = Float64Array::from_iter_values(rows.iter().map(|row| row.value));
    let columns: Vec<arrow::array::ArrayRef> =
        vec![Arc::new(times.with_timezone("UTC")), Arc::new(series), Arc::new(values)];
    RecordBatch::try_new(samples_schema(), columns)
}

fn options() -> Result<IpcWriteOptions, ArrowError> {
    IpcWriteOptions::try_new(8, false, MetadataVersion::V5)?
        .try_with_compression(Some(CompressionType::LZ4_FRAME))
}

/// The rows of a commit as a frame's payload.
pub(crate) fn encode(rows: &Rows) -> Result<Vec<u8>, ArrowError> {
    let options = options()?;
    let mut payload = Vec::new();
    for (number, table) in TABLES.iter().enumerate() {
        let batch = match table {
            Table::Series if !rows.series.is_empty() => to_batch(&rows.series, Layout::Wal)?,
            Table::Samples if !rows.samples.is_empty() => samples(&rows.samples)?,
            Table::Exemplars if !rows.exemplars.is_empty() => to_batch(&rows.exemplars, Layout::Wal)?,
            Table::Spans if !rows.spans.is_empty() => to_batch(&rows.spans, Layout::Wal)?,
            Table::AccessLogs if !rows.access_logs.is_empty() => to_batch(&rows.access_logs, Layout::Wal)?,
            Table::Logs if !rows.logs.is_empty() => to_batch(&rows.logs, Layout::Wal)?,
            Table::MeshConfig if !rows.mesh_config.is_empty() => to_batch(&rows.mesh_config, Layout::Wal)?,
            _ => continue,
        };
        let mut tracker = DictionaryTracker::new(false);
        let (_, message) = IpcDataGenerator::default().encode(
            &batch,
            &mut tracker,
            &options,
            &mut IpcWriteContext::default(),
        )?;
        payload.push(number as u8);
        write_part(&mut payload, &message.ipc_message, &message.arrow_data);
    }
    Ok(payload)
}

/// Two byte strings, each after its length.
fn write_part(out: &mut Vec<u8>, first: &[u8], second: &[u8]) {
    for bytes in [first, second] {
        out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        out.extend_from_slice(bytes);
    }
}

fn read_part(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let take = |bytes: &mut &[u8]| -> Option<usize> {
        let (length, rest) = bytes.split_first_chunk()?;
        *bytes = rest;
        Some(u32::from_le_bytes(*length) as usize)
    };
    let mut rest = bytes;
    let length = take(&mut rest)?;
    let (first, mut rest) = rest.split_at_checked(length)?;
    let length = take(&mut rest)?;
    let (second, rest) = rest.split_at_checked(length)?;
    Some((first, second, rest))
}
