//! What a frame carries: for each table that has rows the number of the table, the count of its dictionaries, an Arrow
//! IPC message for each of them and one for the record batch, all lz4-compressed. Their schemas are in the segment's
//! header, so that a release with other columns can still read them. Samples come in a form of their own.

use std::{collections::HashMap, ops::Range, sync::Arc};

use arrow::{
    array::RecordBatch,
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
use bytes::Bytes;

use super::samples;
use crate::{
    Table,
    commit::{Columns, NewSample},
    table::fitted,
};

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
    pub(crate) fn columns(&self, payload: &Bytes) -> Result<Columns, ArrowError> {
        let mut columns = Columns::default();
        for part in self.parts(payload)? {
            match part.table {
                Table::Samples => columns.samples = part.samples()?,
                table => columns.tables.push((table, part.rows(None)?)),
            }
        }
        Ok(columns)
    }

    /// What a payload has of each table that this release knows, not decoded yet.
    pub(crate) fn parts(&self, payload: &Bytes) -> Result<Vec<Part>, ArrowError> {
        let mut parts = Vec::new();
        let mut at = 0;
        while at < payload.len() {
            let (part, length) = self.part(&payload.slice(at..))?;
            parts.extend(part.map(|part| Part { place: at..at + length, ..part }));
            at += length;
        }
        Ok(parts)
    }

    /// The part that the bytes begin with, and its length.
    fn part(&self, payload: &Bytes) -> Result<(Option<Part>, usize), ArrowError> {
        let cut_short = || ArrowError::IpcError("payload cut short".to_string());
        let [number, count] = *payload.first_chunk().ok_or_else(cut_short)?;
        let mut at = 2;
        let mut next = || {
            let rest = payload.get(at..)?;
            let (message, body, after) = read_part(rest)?;
            at = payload.len() - after.len();
            Some(Encoded { message: payload.slice_ref(message), body: payload.slice_ref(body) })
        };
        let dictionaries: Vec<Encoded> = (0..count).map_while(|_| next()).collect();
        if dictionaries.len() < usize::from(count) {
            return Err(cut_short());
        }
        let batch = next().ok_or_else(cut_short)?;
        let table = TABLES.get(usize::from(number)).copied();
        let part = table.zip(table.and_then(|table| self.of(table))).map(|(table, schema)| Part {
            table,
            place: 0..at,
            schema: schema.clone(),
            dictionaries,
            batch,
        });
        Ok((part, at))
    }
}

/// An Arrow IPC message and its body.
struct Encoded {
    message: Bytes,
    body: Bytes,
}

/// What a frame has of one table.
pub(crate) struct Part {
    pub(crate) table: Table,
    /// Of the payload, and enough to be read without the rest.
    pub(crate) place: Range<usize>,
    schema: SchemaRef,
    dictionaries: Vec<Encoded>,
    batch: Encoded,
}

impl Part {
    /// Of the table `samples`. They lack their ordinal.
    pub(crate) fn samples(&self) -> Result<Vec<NewSample>, ArrowError> {
        samples::decode(&self.batch.body).ok_or_else(|| ArrowError::IpcError("samples cut short".to_string()))
    }

    /// Of any other table: the rows with its own columns, or with these of them.
    pub(crate) fn rows(&self, columns: Option<&[&str]>) -> Result<RecordBatch, ArrowError> {
        unpanicked(|| self.decode(columns))
    }

    /// Bytes that the rows take in memory.
    pub(crate) fn decoded_bytes(&self) -> Result<usize, ArrowError> {
        unpanicked(|| {
            let mut bytes = 0;
            for dictionary in &self.dictionaries {
                let message = message_of(&dictionary.message)?;
                let data = message.header_as_dictionary_batch().and_then(|message| message.data());
                bytes += checked_length(data, &dictionary.body)?;
            }
            let message = message_of(&self.batch.message)?;
            Ok(bytes + checked_length(message.header_as_record_batch(), &self.batch.body)?)
        })
    }

    fn decode(&self, columns: Option<&[&str]>) -> Result<RecordBatch, ArrowError> {
        let fields = self.schema.fields();
        let wanted = |field: &FieldRef| columns.is_none_or(|columns| columns.contains(&&**field.name()));
        // As the writer numbers them.
        let of_dictionaries: Vec<bool> =
            fields.iter().filter(|field| is_dictionary(field)).map(&wanted).collect();
        let mut known = HashMap::new();
        for Encoded { message, body } in &self.dictionaries {
            let message = message_of(message)?;
            let dictionary = message
                .header_as_dictionary_batch()
                .ok_or_else(|| ArrowError::IpcError("a message that is no dictionary".to_string()))?;
            let number = usize::try_from(dictionary.id()).ok();
            if number.and_then(|number| of_dictionaries.get(number)) == Some(&false) {
                continue;
            }
            checked_length(dictionary.data(), body)?;
            let body = Buffer::from(body.clone());
            read_dictionary(&body, dictionary, &self.schema, &mut known, &message.version())?;
        }
        let message = message_of(&self.batch.message)?;
        let batch = message
            .header_as_record_batch()
            .ok_or_else(|| ArrowError::IpcError("a message that is no record batch".to_string()))?;
        checked_length(Some(batch), &self.batch.body)?;
        let places = fields.iter().enumerate().filter(|(_, field)| wanted(field)).map(|(place, _)| place);
        let places: Option<Vec<usize>> = columns.map(|_| places.collect());
        // What stays must not keep all that was read with it in memory.
        let body = match columns {
            None => Buffer::from(&*self.batch.body),
            Some(_) => Buffer::from(self.batch.body.clone()),
        };
        let schema = self.schema.clone();
        let rows = read_record_batch(&body, batch, schema, &known, places.as_deref(), &message.version())?;
        let schema = self.table.schema();
        match columns {
            None => fitted(&schema, &rows),
            Some(columns) => {
                let places = columns.iter().map(|column| schema.index_of(column));
                fitted(&Arc::new(schema.project(&places.collect::<Result<Vec<_>, _>>()?)?), &rows)
            }
        }
    }
}

/// Arrow's reader trusts what it reads in places; its panic is these bytes' fault alone.
fn unpanicked<T>(read: impl FnOnce() -> Result<T, ArrowError>) -> Result<T, ArrowError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(read))
        .unwrap_or_else(|_| Err(ArrowError::IpcError("no Arrow messages".to_string())))
}

fn is_dictionary(field: &FieldRef) -> bool {
    matches!(field.data_type(), DataType::Dictionary(..))
}

/// The bytes of a message's buffers once they are decompressed. What they say of it is believed, and memory is taken
/// for it, so there is a bound.
fn checked_length(batch: Option<ipc::RecordBatch<'_>>, body: &[u8]) -> Result<usize, ArrowError> {
    let Some(batch) = batch else { return Ok(body.len()) };
    let (Some(buffers), true) = (batch.buffers(), batch.compression().is_some()) else {
        return Ok(body.len());
    };
    let mut all: i64 = 0;
    for buffer in buffers.iter().filter(|buffer| buffer.length() > 0) {
        let start = usize::try_from(buffer.offset()).unwrap_or(usize::MAX);
        let Some(length) = body.get(start..).and_then(|bytes| bytes.first_chunk()) else { continue };
        // Of one that is not compressed it is -1.
        let length = match i64::from_le_bytes(*length) {
            length if length < 0 => buffer.length().max(0),
            length => length,
        };
        all = all.saturating_add(length);
    }
    if all > MAX_DECOMPRESSED {
        return Err(ArrowError::IpcError(format!("{all} bytes in one message")));
    }
    Ok(usize::try_from(all).unwrap_or(usize::MAX))
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
            batch.schema().fields().iter().filter(|field| is_dictionary(field)).for_each(|_| {
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
