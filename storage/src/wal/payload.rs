//! What a frame carries: for each table that has rows the number of the table, the count of its dictionaries, an Arrow
//! IPC message for each of them and one for the record batch, all lz4-compressed. Their schemas are in the segment's
//! header, so that a release with other columns can still read them. Samples come in a form of their own.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    buffer::Buffer,
    datatypes::{DataType, FieldRef, Schema, SchemaRef},
    error::ArrowError,
    ipc::{
        self, CompressionType, Message, MetadataVersion,
        convert::fb_to_schema,
        reader::{read_dictionary, read_record_batch},
        root_as_message,
        writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions},
    },
};

use super::samples;
use crate::{Table, commit::Columns, table::in_schema};

/// The tables whose rows come in from outside, in the order in which a frame has them: a series before its samples.
const TABLES: [Table; 8] = [
    Table::Series,
    Table::Samples,
    Table::Exemplars,
    Table::Spans,
    Table::AccessLogs,
    Table::Logs,
    Table::MeshConfig,
    Table::Histograms,
];

/// No commit's rows come near it.
const MAX_DECOMPRESSED: i64 = 1 << 30;

/// Schemas of the payloads, by table.
pub(crate) struct Schemas(Vec<(Table, SchemaRef)>);

impl Schemas {
    pub(crate) fn current() -> Schemas {
        Schemas(TABLES.map(|table| (table, table.schema())).into())
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

    /// The rows of a payload. Samples lack their ordinal.
    pub(crate) fn columns(&self, payload: &[u8]) -> Result<Columns, ArrowError> {
        // Arrow's reader trusts what it reads in places; its panic is this frame's fault alone.
        std::panic::catch_unwind(|| self.decode_columns(payload))
            .unwrap_or_else(|_| Err(ArrowError::IpcError("no Arrow messages".to_string())))
    }

    fn decode_columns(&self, mut payload: &[u8]) -> Result<Columns, ArrowError> {
        let cut_short = || ArrowError::IpcError("payload cut short".to_string());
        let mut columns = Columns::default();
        while !payload.is_empty() {
            let (table, rest) = payload.split_first().ok_or_else(cut_short)?;
            let (dictionaries, mut rest) = rest.split_first().ok_or_else(cut_short)?;
            let schema = TABLES.get(usize::from(*table)).and_then(|table| Some((*table, self.of(*table)?)));
            let mut known = HashMap::new();
            for _ in 0..*dictionaries {
                let (message, body, after) = read_part(rest).ok_or_else(cut_short)?;
                rest = after;
                let Some((_, schema)) = schema else { continue };
                let message = message_of(message)?;
                let dictionary = message
                    .header_as_dictionary_batch()
                    .ok_or_else(|| ArrowError::IpcError("a message that is no dictionary".to_string()))?;
                check_lengths(dictionary.data(), body)?;
                read_dictionary(&Buffer::from(body), dictionary, schema, &mut known, &message.version())?;
            }
            let (message, body, rest) = read_part(rest).ok_or_else(cut_short)?;
            payload = rest;
            let Some((table, schema)) = schema else { continue };
            if table == Table::Samples {
                columns.samples = samples::decode(body).ok_or_else(cut_short)?;
                continue;
            }
            let message = message_of(message)?;
            let batch = message
                .header_as_record_batch()
                .ok_or_else(|| ArrowError::IpcError("a message that is no record batch".to_string()))?;
            check_lengths(Some(batch), body)?;
            let body = Buffer::from(body);
            let batch = read_record_batch(&body, batch, schema.clone(), &known, None, &message.version())?;
            columns.tables.push((table, in_schema(table, &batch)?));
        }
        Ok(columns)
    }
}

/// What the buffers say that they will be when they are decompressed is believed, and memory is taken for it.
fn check_lengths(batch: Option<ipc::RecordBatch<'_>>, body: &[u8]) -> Result<(), ArrowError> {
    let Some(buffers) = batch.filter(|batch| batch.compression().is_some()).and_then(|batch| batch.buffers())
    else {
        return Ok(());
    };
    let mut all: i64 = 0;
    for buffer in buffers {
        let start = usize::try_from(buffer.offset()).unwrap_or(usize::MAX);
        let Some(length) = body.get(start..).and_then(|bytes| bytes.first_chunk()) else { continue };
        all = all.saturating_add(i64::from_le_bytes(*length).max(0));
    }
    if all > MAX_DECOMPRESSED {
        return Err(ArrowError::IpcError(format!("{all} bytes in one message")));
    }
    Ok(())
}

fn message_of(bytes: &[u8]) -> Result<Message<'_>, ArrowError> {
    root_as_message(bytes).map_err(|error| ArrowError::IpcError(error.to_string()))
}

fn options() -> Result<IpcWriteOptions, ArrowError> {
    IpcWriteOptions::try_new(8, false, MetadataVersion::V5)?
        .try_with_compression(Some(CompressionType::LZ4_FRAME))
}

/// The rows of a commit as a frame's payload.
pub(crate) fn encode(columns: &Columns) -> Result<Vec<u8>, ArrowError> {
    let options = options()?;
    let mut payload = Vec::new();
    let mut context = IpcWriteContext::default();
    for (number, table) in TABLES.iter().enumerate() {
        if *table == Table::Samples && !columns.samples.is_empty() {
            payload.extend_from_slice(&[number as u8, 0]);
            write_part(&mut payload, &[], &samples::encode(&columns.samples));
        }
        for (_, batch) in columns.tables.iter().filter(|(of, _)| of == table) {
            // As the schema in the segment's header numbers them.
            let mut tracker = DictionaryTracker::new(false);
            let is_dictionary = |field: &&FieldRef| matches!(field.data_type(), DataType::Dictionary(..));
            batch.schema().fields().iter().filter(is_dictionary).for_each(|_| {
                tracker.next_dict_id();
            });
            let (dictionaries, message) =
                IpcDataGenerator::default().encode(batch, &mut tracker, &options, &mut context)?;
            let count = u8::try_from(dictionaries.len())
                .map_err(|_| ArrowError::IpcError(format!("{} dictionaries", dictionaries.len())))?;
            payload.extend_from_slice(&[number as u8, count]);
            for part in dictionaries.iter().chain([&message]) {
                write_part(&mut payload, &part.ipc_message, &part.arrow_data);
            }
        }
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
