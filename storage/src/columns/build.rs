//! Rows into columns. This is on the path of every row that comes in, so cells of one column are added many at a
//! time, and a text that repeats costs a comparison.

use std::{borrow::Cow, sync::Arc};

use arrow::{
    array::{
        ArrayRef, BinaryBuilder, BooleanBuilder, DictionaryArray, Float64Builder, Int32Array, Int32Builder,
        Int64Builder, ListArray, MapArray, RecordBatch, StringArray, StringBuilder, StructArray,
        TimestampMicrosecondBuilder,
    },
    buffer::{NullBuffer, OffsetBuffer},
    datatypes::{Field, Int32Type},
    error::ArrowError,
};
use hashbrown::{HashTable, hash_table::Entry};
use pharos_model::{SpanEvent, SpanLink};
use xxhash_rust::xxh3::xxh3_64;

use super::{Cell, Kind, Row, map_entries, map_field, schema_of, utc};
use crate::{attribute_types, rows::ServiceCount};

/// Rows whose cells are added column by column: few enough to stay in the processor's cache.
const STRIDE: usize = 64;

/// The rows of one batch, turned into columns. Fails only when a column outgrows its offsets.
pub(crate) fn to_batch<R: Row>(rows: &[R]) -> Result<RecordBatch, ArrowError> {
    let mut builder = RowsBuilder::<R>::with_capacity(rows.len());
    builder.append(rows)?;
    builder.finish()
}

struct RowsBuilder<R: Row> {
    columns: Vec<ColumnBuilder>,
    rows: usize,
    row: std::marker::PhantomData<fn(R)>,
}

impl<R: Row> RowsBuilder<R> {
    fn with_capacity(rows: usize) -> RowsBuilder<R> {
        let columns = R::COLUMNS.iter().map(|column| ColumnBuilder::new(column.kind, rows)).collect();
        RowsBuilder { columns, rows: 0, row: std::marker::PhantomData }
    }

    fn append(&mut self, rows: &[R]) -> Result<(), ArrowError> {
        for rows in rows.chunks(STRIDE) {
            for (builder, column) in self.columns.iter_mut().zip(R::COLUMNS) {
                rows.iter().try_for_each(|row| builder.append((column.get)(row)))?;
            }
        }
        self.rows += rows.len();
        Ok(())
    }

    fn finish(self) -> Result<RecordBatch, ArrowError> {
        let arrays = self.columns.into_iter().map(ColumnBuilder::finish).collect::<Result<Vec<_>, _>>()?;
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(self.rows));
        RecordBatch::try_new_with_options(schema_of::<R>(), arrays, &options)
    }
}

/// Text by the number of its first occurrence. Cells of neighbouring rows are mostly equal.
pub(crate) struct SymbolBuilder {
    keys: Vec<i32>,
    /// Made at the first null.
    valid: Option<Vec<bool>>,
    ends: Vec<i32>,
    text: Vec<u8>,
    places: HashTable<i32>,
    last: usize,
}

impl SymbolBuilder {
    pub(crate) fn with_capacity(rows: usize) -> SymbolBuilder {
        SymbolBuilder {
            keys: Vec::with_capacity(rows),
            valid: None,
            ends: vec![0],
            text: Vec::new(),
            places: HashTable::new(),
            last: 0,
        }
    }

    pub(crate) fn append(&mut self, text: &str) -> Result<(), ArrowError> {
        let key = self.intern(text)?;
        self.append_key(key);
        Ok(())
    }

    pub(crate) fn append_key(&mut self, key: i32) {
        self.keys.push(key);
        if let Some(valid) = &mut self.valid {
            valid.push(true);
        }
    }

    pub(crate) fn append_null(&mut self) {
        self.valid.get_or_insert_with(|| vec![true; self.keys.len()]).push(false);
        self.keys.push(0);
    }

    /// The number of a text.
    pub(crate) fn intern(&mut self, text: &str) -> Result<i32, ArrowError> {
        let (ends, all) = (&self.ends, &self.text);
        let known = |number: usize| match (ends.get(number), ends.get(number + 1)) {
            (Some(start), Some(end)) => all.get(*start as usize..*end as usize),
            _ => None,
        };
        if known(self.last) == Some(text.as_bytes()) {
            return Ok(self.last as i32);
        }
        let same = |key: &i32| known(*key as usize) == Some(text.as_bytes());
        let rehash = |key: &i32| known(*key as usize).map_or(0, xxh3_64);
        let key = match self.places.entry(xxh3_64(text.as_bytes()), same, rehash) {
            Entry::Occupied(place) => *place.get(),
            Entry::Vacant(place) => {
                let key = (self.ends.len() - 1) as i32;
                let end = i32::try_from(self.text.len() + text.len())
                    .map_err(|_| ArrowError::OffsetOverflowError(self.text.len() + text.len()))?;
                place.insert(key);
                self.text.extend_from_slice(text.as_bytes());
                self.ends.push(end);
                key
            }
        };
        self.last = key as usize;
        Ok(key)
    }

    pub(crate) fn finish(self) -> Result<DictionaryArray<Int32Type>, ArrowError> {
        let values = StringArray::try_new(OffsetBuffer::new(self.ends.into()), self.text.into(), None)?;
        let keys = Int32Array::try_new(self.keys.into(), self.valid.map(NullBuffer::from))?;
        DictionaryArray::try_new(keys, Arc::new(values))
    }
}

/// A list column under construction: the length of each list, and the rows of all of them.
struct ListBuilder<R: Row> {
    lengths: Vec<usize>,
    rows: RowsBuilder<R>,
}

impl<R: Row> ListBuilder<R> {
    fn new() -> Box<ListBuilder<R>> {
        Box::new(ListBuilder { lengths: Vec::new(), rows: RowsBuilder::with_capacity(0) })
    }

    fn append(&mut self, rows: &[R]) -> Result<(), ArrowError> {
        self.rows.append(rows)?;
        self.lengths.push(rows.len());
        Ok(())
    }

    fn finish(self) -> Result<ArrayRef, ArrowError> {
        let items = StructArray::from(self.rows.finish()?);
        let field = Arc::new(Field::new("element", arrow::array::Array::data_type(&items).clone(), true));
        Ok(Arc::new(ListArray::try_new(
            field,
            OffsetBuffer::from_lengths(self.lengths),
            Arc::new(items),
            None,
        )?))
    }
}

/// A map of texts under construction.
#[derive(Default)]
pub(crate) struct PairsBuilder {
    ends: Vec<i32>,
    keys: StringBuilder,
    values: StringBuilder,
    pairs: usize,
}

impl PairsBuilder {
    pub(crate) fn append_pair(&mut self, key: &str, value: &str) {
        self.keys.append_value(key);
        self.values.append_value(value);
        self.pairs += 1;
    }

    pub(crate) fn end_row(&mut self) -> Result<(), ArrowError> {
        let end = i32::try_from(self.pairs).map_err(|_| ArrowError::OffsetOverflowError(self.pairs))?;
        self.ends.push(end);
        Ok(())
    }

    fn append<'a>(&mut self, pairs: impl Iterator<Item = (&'a str, Cow<'a, str>)>) -> Result<(), ArrowError> {
        pairs.for_each(|(key, value)| self.append_pair(key, &value));
        self.end_row()
    }

    pub(crate) fn finish(mut self) -> Result<ArrayRef, ArrowError> {
        let (keys, values) = (Arc::new(self.keys.finish()), Arc::new(self.values.finish()));
        let entries = StructArray::try_new(map_entries(), vec![keys, values], None)?;
        self.ends.insert(0, 0);
        Ok(Arc::new(MapArray::try_new(
            map_field(),
            OffsetBuffer::new(self.ends.into()),
            entries,
            None,
            false,
        )?))
    }
}

enum ColumnBuilder {
    Bool(BooleanBuilder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    Double(Float64Builder),
    Time(TimestampMicrosecondBuilder),
    Symbol(SymbolBuilder),
    Text(StringBuilder),
    Bytes(BinaryBuilder),
    Map(PairsBuilder),
    Events(Box<ListBuilder<SpanEvent>>),
    Links(Box<ListBuilder<SpanLink>>),
    Services(Box<ListBuilder<ServiceCount>>),
}

impl ColumnBuilder {
    fn new(kind: Kind, rows: usize) -> ColumnBuilder {
        match kind {
            Kind::Bool => ColumnBuilder::Bool(BooleanBuilder::with_capacity(rows)),
            Kind::Int32 => ColumnBuilder::Int32(Int32Builder::with_capacity(rows)),
            Kind::Int64 => ColumnBuilder::Int64(Int64Builder::with_capacity(rows)),
            Kind::Double => ColumnBuilder::Double(Float64Builder::with_capacity(rows)),
            Kind::Time => {
                let builder = TimestampMicrosecondBuilder::with_capacity(rows);
                ColumnBuilder::Time(builder.with_timezone_opt(utc()))
            }
            Kind::Symbol => ColumnBuilder::Symbol(SymbolBuilder::with_capacity(rows)),
            Kind::Text => ColumnBuilder::Text(StringBuilder::with_capacity(rows, 0)),
            Kind::Bytes => ColumnBuilder::Bytes(BinaryBuilder::with_capacity(rows, 0)),
            Kind::Map => ColumnBuilder::Map(PairsBuilder::default()),
            Kind::Events => ColumnBuilder::Events(ListBuilder::new()),
            Kind::Links => ColumnBuilder::Links(ListBuilder::new()),
            Kind::Services => ColumnBuilder::Services(ListBuilder::new()),
        }
    }

    fn append(&mut self, cell: Cell<'_>) -> Result<(), ArrowError> {
        match (self, cell) {
            (ColumnBuilder::Bool(builder), Cell::Bool(flag)) => builder.append_value(flag),
            (ColumnBuilder::Bool(builder), _) => builder.append_null(),
            (ColumnBuilder::Int32(builder), Cell::Int32(number)) => builder.append_value(number),
            (ColumnBuilder::Int32(builder), _) => builder.append_null(),
            (ColumnBuilder::Int64(builder), Cell::Int64(number)) => builder.append_value(number),
            (ColumnBuilder::Int64(builder), _) => builder.append_null(),
            (ColumnBuilder::Double(builder), Cell::Double(number)) => builder.append_value(number),
            (ColumnBuilder::Double(builder), _) => builder.append_null(),
            (ColumnBuilder::Time(builder), Cell::Time(micros)) => builder.append_value(micros),
            (ColumnBuilder::Time(builder), _) => builder.append_null(),
            (ColumnBuilder::Symbol(builder), Cell::Text(text)) => builder.append(&text)?,
            (ColumnBuilder::Symbol(builder), _) => builder.append_null(),
            (ColumnBuilder::Text(builder), Cell::Text(text)) => builder.append_value(text),
            (ColumnBuilder::Text(builder), _) => builder.append_null(),
            (ColumnBuilder::Bytes(builder), Cell::Bytes(bytes)) => builder.append_value(bytes),
            (ColumnBuilder::Bytes(builder), _) => builder.append_null(),
            (ColumnBuilder::Map(builder), Cell::Attributes(attributes)) => {
                builder.append(attributes.iter().map(|(key, value)| (key, attribute_types::text(value))))?;
            }
            (ColumnBuilder::Map(builder), Cell::Labels(labels)) => {
                builder.append(labels.iter().map(|(name, value)| (name, Cow::Borrowed(value))))?;
            }
            (ColumnBuilder::Map(builder), Cell::Pairs(pairs)) => {
                builder.append(pairs.into_iter().map(|(key, value)| (key, Cow::Borrowed(value))))?;
            }
            (ColumnBuilder::Map(builder), _) => builder.append(std::iter::empty())?,
            (ColumnBuilder::Events(builder), Cell::Events(events)) => builder.append(&events)?,
            (ColumnBuilder::Events(builder), _) => builder.append(&[])?,
            (ColumnBuilder::Links(builder), Cell::Links(links)) => builder.append(&links)?,
            (ColumnBuilder::Links(builder), _) => builder.append(&[])?,
            (ColumnBuilder::Services(builder), Cell::Services(services)) => builder.append(&services)?,
            (ColumnBuilder::Services(builder), _) => builder.append(&[])?,
        }
        Ok(())
    }

    fn finish(self) -> Result<ArrayRef, ArrowError> {
        Ok(match self {
            ColumnBuilder::Bool(mut builder) => Arc::new(builder.finish()),
            ColumnBuilder::Int32(mut builder) => Arc::new(builder.finish()),
            ColumnBuilder::Int64(mut builder) => Arc::new(builder.finish()),
            ColumnBuilder::Double(mut builder) => Arc::new(builder.finish()),
            ColumnBuilder::Time(mut builder) => Arc::new(builder.finish()),
            ColumnBuilder::Symbol(builder) => Arc::new(builder.finish()?),
            ColumnBuilder::Text(mut builder) => Arc::new(builder.finish()),
            ColumnBuilder::Bytes(mut builder) => Arc::new(builder.finish()),
            ColumnBuilder::Map(builder) => builder.finish()?,
            ColumnBuilder::Events(builder) => builder.finish()?,
            ColumnBuilder::Links(builder) => builder.finish()?,
            ColumnBuilder::Services(builder) => builder.finish()?,
        })
    }
}
