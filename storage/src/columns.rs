//! How a row becomes Arrow columns and back: each table lists its columns once, with a getter and a setter.

use std::{borrow::Cow, sync::Arc};

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BinaryBuilder, BooleanBuilder, Float64Builder, Int32Builder, Int64Builder,
        ListArray, MapArray, RecordBatch, StringBuilder, StringDictionaryBuilder, StructArray,
        TimestampMicrosecondBuilder,
    },
    buffer::{NullBuffer, OffsetBuffer},
    datatypes::{
        DataType, Field, Fields, Float64Type, Int32Type, Int64Type, Schema, SchemaRef, TimeUnit,
        TimestampMicrosecondType,
    },
    error::ArrowError,
};
use pharos_model::{Attributes, Labels, SpanEvent, SpanLink};

use crate::{attribute_types, rows::ServiceCount};

/// What a column holds, apart from how its text is laid out in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Bool,
    Int32,
    Int64,
    Double,
    /// Microseconds since 1970, UTC.
    Time,
    /// Text that repeats: dictionary-encoded.
    Symbol,
    Text,
    Bytes,
    /// `map<string, string>`.
    Map,
    Events,
    Links,
    Services,
}

/// Where a batch goes. The WAL's batches are small and read once, so a dictionary each would only cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    Table,
    Wal,
}

/// A value on its way into or out of a column.
pub(crate) enum Cell<'a> {
    Null,
    Bool(bool),
    Int32(i32),
    Int64(i64),
    Double(f64),
    Time(i64),
    Text(Cow<'a, str>),
    Bytes(Cow<'a, [u8]>),
    Attributes(&'a Attributes),
    Labels(&'a Labels),
    Pairs(Vec<(&'a str, &'a str)>),
    Events(Cow<'a, [SpanEvent]>),
    Links(Cow<'a, [SpanLink]>),
    Services(Cow<'a, [ServiceCount]>),
}

/// What a setter reads. A null, or a value of another kind (a file of another release), is the kind's zero.
impl<'a> Cell<'a> {
    pub(crate) fn text(text: &'a str) -> Cell<'a> {
        Cell::Text(Cow::Borrowed(text))
    }

    pub(crate) fn optional(text: Option<&'a str>) -> Cell<'a> {
        text.map_or(Cell::Null, Cell::text)
    }

    pub(crate) fn bytes(bytes: &'a [u8]) -> Cell<'a> {
        Cell::Bytes(Cow::Borrowed(bytes))
    }

    pub(crate) fn as_text(&self) -> &str {
        match self {
            Cell::Text(text) => text,
            _ => "",
        }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Cell::Bytes(bytes) => bytes,
            _ => &[],
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self, Cell::Null)
    }

    pub(crate) fn as_bool(&self) -> bool {
        matches!(self, Cell::Bool(true))
    }

    pub(crate) fn as_i64(&self) -> i64 {
        match self {
            Cell::Int64(number) | Cell::Time(number) => *number,
            Cell::Int32(number) => i64::from(*number),
            _ => 0,
        }
    }

    pub(crate) fn as_f64(&self) -> f64 {
        match self {
            Cell::Double(number) => *number,
            _ => 0.0,
        }
    }

    pub(crate) fn as_pairs(&self) -> &[(&'a str, &'a str)] {
        match self {
            Cell::Pairs(pairs) => pairs,
            _ => &[],
        }
    }
}

pub(crate) struct Column<R: 'static> {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) get: for<'a> fn(&'a R) -> Cell<'a>,
    /// Does nothing for a column that only repeats, for SQL, what others hold.
    pub(crate) set: fn(&mut R, &Cell<'_>),
}

/// A row of a table. Columns are set in their order, on a row that starts out blank.
pub(crate) trait Row: Sized + 'static {
    const COLUMNS: &'static [Column<Self>];

    fn blank() -> Self;
}

/// Columns that are a plain field of their row.
macro_rules! field {
    (symbol $name:literal, $($field:tt)+) => {
        $crate::columns::Column {
            name: $name,
            kind: $crate::columns::Kind::Symbol,
            get: |row| $crate::columns::Cell::text(&row.$($field)+),
            set: |row, cell| row.$($field)+ = cell.as_text().into(),
        }
    };
    (text $name:literal, $($field:tt)+) => {
        $crate::columns::Column {
            name: $name,
            kind: $crate::columns::Kind::Text,
            get: |row| $crate::columns::Cell::text(&row.$($field)+),
            set: |row, cell| row.$($field)+ = cell.as_text().into(),
        }
    };
    (int64 $name:literal, $($field:tt)+) => {
        $crate::columns::Column {
            name: $name,
            kind: $crate::columns::Kind::Int64,
            get: |row| $crate::columns::Cell::Int64(row.$($field)+),
            set: |row, cell| row.$($field)+ = cell.as_i64(),
        }
    };
    (bool $name:literal, $($field:tt)+) => {
        $crate::columns::Column {
            name: $name,
            kind: $crate::columns::Kind::Bool,
            get: |row| $crate::columns::Cell::Bool(row.$($field)+),
            set: |row, cell| row.$($field)+ = cell.as_bool(),
        }
    };
    (time $name:literal, $($field:tt)+) => {
        $crate::columns::Column {
            name: $name,
            kind: $crate::columns::Kind::Time,
            get: |row| $crate::columns::Cell::Time(row.$($field)+.micros()),
            set: |row, cell| row.$($field)+ = pharos_model::UnixNanos::from_micros(cell.as_i64()),
        }
    };
    (nanos $name:literal, $($field:tt)+) => {
        $crate::columns::Column {
            name: $name,
            kind: $crate::columns::Kind::Int32,
            get: |row| $crate::columns::Cell::Int32(row.$($field)+.0.rem_euclid(1_000) as i32),
            set: |row, cell| row.$($field)+ = row.$($field)+.plus_nanos(cell.as_i64()),
        }
    };
    (attributes $name:literal, $($field:tt)+) => {
        $crate::columns::Column {
            name: $name,
            kind: $crate::columns::Kind::Map,
            get: |row| $crate::columns::Cell::Attributes(&row.$($field)+),
            set: |row, cell| row.$($field)+ = $crate::attribute_types::texts(cell.as_pairs()).into(),
        }
    };
    (attribute_types $name:literal, $($field:tt)+) => {
        $crate::columns::Column {
            name: $name,
            kind: $crate::columns::Kind::Bytes,
            get: |row| $crate::attribute_types::cell(&row.$($field)+),
            set: |row, cell| {
                if !cell.is_null() {
                    row.$($field)+ = $crate::attribute_types::retype(&row.$($field)+, cell.as_bytes()).into();
                }
            },
        }
    };
    (scope_text $name:literal, $field:ident) => {
        $crate::columns::Column {
            name: $name,
            kind: $crate::columns::Kind::Symbol,
            get: |row| $crate::columns::Cell::text(&row.scope.$field),
            set: |row, cell| {
                if !cell.as_text().is_empty() {
                    std::sync::Arc::make_mut(&mut row.scope).$field = cell.as_text().to_string();
                }
            },
        }
    };
    (scope_attributes $name:literal) => {
        $crate::columns::Column {
            name: $name,
            kind: $crate::columns::Kind::Map,
            get: |row| $crate::columns::Cell::Attributes(&row.scope.attributes),
            set: |row, cell| {
                if !cell.as_pairs().is_empty() {
                    std::sync::Arc::make_mut(&mut row.scope).attributes =
                        $crate::attribute_types::texts(cell.as_pairs());
                }
            },
        }
    };
    (scope_attribute_types $name:literal) => {
        $crate::columns::Column {
            name: $name,
            kind: $crate::columns::Kind::Bytes,
            get: |row| $crate::attribute_types::cell(&row.scope.attributes),
            set: |row, cell| {
                if !cell.is_null() {
                    let scope = std::sync::Arc::make_mut(&mut row.scope);
                    scope.attributes = $crate::attribute_types::retype(&scope.attributes, cell.as_bytes());
                }
            },
        }
    };
}
pub(crate) use field;

fn utc() -> Option<Arc<str>> {
    Some("UTC".into())
}

fn map_entries() -> Fields {
    Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Utf8, true)])
}

fn list_of<R: Row>() -> DataType {
    DataType::List(Arc::new(Field::new("element", DataType::Struct(fields::<R>(Layout::Wal)), true)))
}

fn data_type(kind: Kind, layout: Layout) -> DataType {
    match kind {
        Kind::Bool => DataType::Boolean,
        Kind::Int32 => DataType::Int32,
        Kind::Int64 => DataType::Int64,
        Kind::Double => DataType::Float64,
        Kind::Time => DataType::Timestamp(TimeUnit::Microsecond, utc()),
        Kind::Symbol if layout == Layout::Table => {
            DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
        }
        Kind::Symbol | Kind::Text => DataType::Utf8,
        Kind::Bytes => DataType::Binary,
        Kind::Map => {
            DataType::Map(Arc::new(Field::new("key_value", DataType::Struct(map_entries()), false)), false)
        }
        Kind::Events => list_of::<SpanEvent>(),
        Kind::Links => list_of::<SpanLink>(),
        Kind::Services => list_of::<ServiceCount>(),
    }
}

fn fields<R: Row>(layout: Layout) -> Fields {
    R::COLUMNS.iter().map(|column| Field::new(column.name, data_type(column.kind, layout), true)).collect()
}

pub(crate) fn schema_of<R: Row>(layout: Layout) -> SchemaRef {
    Arc::new(Schema::new(fields::<R>(layout)))
}

/// The rows of one batch, turned into columns.
pub(crate) fn to_batch<'a, R: Row>(
    rows: impl IntoIterator<Item = &'a R>,
    layout: Layout,
) -> Result<RecordBatch, ArrowError> {
    let mut builder = RowsBuilder::<R>::new(layout);
    for row in rows {
        builder.append(row)?;
    }
    builder.finish()
}

pub(crate) struct RowsBuilder<R: Row> {
    columns: Vec<ColumnBuilder>,
    rows: usize,
    layout: Layout,
    row: std::marker::PhantomData<fn(R)>,
}

impl<R: Row> RowsBuilder<R> {
    pub(crate) fn new(layout: Layout) -> RowsBuilder<R> {
        let columns = R::COLUMNS.iter().map(|column| ColumnBuilder::new(column.kind, layout)).collect();
        RowsBuilder { columns, rows: 0, layout, row: std::marker::PhantomData }
    }

    /// Fails only when a dictionary outgrows its keys.
    pub(crate) fn append(&mut self, row: &R) -> Result<(), ArrowError> {
        for (builder, column) in self.columns.iter_mut().zip(R::COLUMNS) {
            builder.append((column.get)(row))?;
        }
        self.rows += 1;
        Ok(())
    }

    pub(crate) fn finish(self) -> Result<RecordBatch, ArrowError> {
        let arrays = self.columns.into_iter().map(ColumnBuilder::finish).collect::<Result<Vec<_>, _>>()?;
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(self.rows));
        RecordBatch::try_new_with_options(schema_of::<R>(self.layout), arrays, &options)
    }
}

/// A list column under construction: the end of each list, and the rows of all of them.
struct ListBuilder<R: Row> {
    lengths: Vec<usize>,
    rows: RowsBuilder<R>,
}

impl<R: Row> ListBuilder<R> {
    fn new() -> Box<ListBuilder<R>> {
        Box::new(ListBuilder { lengths: Vec::new(), rows: RowsBuilder::new(Layout::Wal) })
    }

    fn append(&mut self, rows: &[R]) -> Result<(), ArrowError> {
        rows.iter().try_for_each(|row| self.rows.append(row))?;
        self.lengths.push(rows.len());
        Ok(())
    }

    fn finish(self) -> Result<ArrayRef, ArrowError> {
        let items = StructArray::from(self.rows.finish()?);
        let field = Arc::new(Field::new("element", items.data_type().clone(), true));
        Ok(Arc::new(ListArray::try_new(
            field,
            OffsetBuffer::from_lengths(self.lengths),
            Arc::new(items),
            None,
        )?))
    }
}

#[derive(Default)]
struct PairsBuilder {
    lengths: Vec<usize>,
    keys: StringBuilder,
    values: StringBuilder,
}

impl PairsBuilder {
    fn append<'a>(&mut self, pairs: impl Iterator<Item = (&'a str, Cow<'a, str>)>) {
        let before = self.keys.values_len();
        for (key, value) in pairs {
            self.keys.append_value(key);
            self.values.append_value(value);
        }
        self.lengths.push(self.keys.values_len() - before);
    }

    fn finish(mut self) -> Result<ArrayRef, ArrowError> {
        let (keys, values) = (Arc::new(self.keys.finish()), Arc::new(self.values.finish()));
        let entries = StructArray::try_new(map_entries(), vec![keys, values], None)?;
        let field = Arc::new(Field::new("key_value", entries.data_type().clone(), false));
        Ok(Arc::new(MapArray::try_new(
            field,
            OffsetBuffer::from_lengths(self.lengths),
            entries,
            None,
            false,
        )?))
    }
}

trait ValuesLen {
    fn values_len(&self) -> usize;
}

impl ValuesLen for StringBuilder {
    fn values_len(&self) -> usize {
        arrow::array::ArrayBuilder::len(self)
    }
}

enum ColumnBuilder {
    Bool(BooleanBuilder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    Double(Float64Builder),
    Time(TimestampMicrosecondBuilder),
    Symbol(StringDictionaryBuilder<Int32Type>),
    Text(StringBuilder),
    Bytes(BinaryBuilder),
    Map(PairsBuilder),
    Events(Box<ListBuilder<SpanEvent>>),
    Links(Box<ListBuilder<SpanLink>>),
    Services(Box<ListBuilder<ServiceCount>>),
}

impl ColumnBuilder {
    fn new(kind: Kind, layout: Layout) -> ColumnBuilder {
        match kind {
            Kind::Bool => ColumnBuilder::Bool(BooleanBuilder::new()),
            Kind::Int32 => ColumnBuilder::Int32(Int32Builder::with_capacity(0)),
            Kind::Int64 => ColumnBuilder::Int64(Int64Builder::with_capacity(0)),
            Kind::Double => ColumnBuilder::Double(Float64Builder::with_capacity(0)),
            Kind::Time => {
                ColumnBuilder::Time(TimestampMicrosecondBuilder::with_capacity(0).with_timezone_opt(utc()))
            }
            Kind::Symbol if layout == Layout::Table => ColumnBuilder::Symbol(StringDictionaryBuilder::new()),
            Kind::Symbol | Kind::Text => ColumnBuilder::Text(StringBuilder::with_capacity(0, 0)),
            Kind::Bytes => ColumnBuilder::Bytes(BinaryBuilder::with_capacity(0, 0)),
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
            (ColumnBuilder::Symbol(builder), Cell::Text(text)) => builder.append(text).map(drop)?,
            (ColumnBuilder::Symbol(builder), _) => builder.append_null(),
            (ColumnBuilder::Text(builder), Cell::Text(text)) => builder.append_value(text),
            (ColumnBuilder::Text(builder), _) => builder.append_null(),
            (ColumnBuilder::Bytes(builder), Cell::Bytes(bytes)) => builder.append_value(bytes),
            (ColumnBuilder::Bytes(builder), _) => builder.append_null(),
            (ColumnBuilder::Map(builder), Cell::Attributes(attributes)) => {
                builder.append(attributes.iter().map(|(key, value)| (key, attribute_types::text(value))));
            }
            (ColumnBuilder::Map(builder), Cell::Labels(labels)) => {
                builder.append(labels.iter().map(|(name, value)| (name, Cow::Borrowed(value))));
            }
            (ColumnBuilder::Map(builder), Cell::Pairs(pairs)) => {
                builder.append(pairs.into_iter().map(|(key, value)| (key, Cow::Borrowed(value))));
            }
            (ColumnBuilder::Map(builder), _) => builder.append(std::iter::empty()),
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
            ColumnBuilder::Symbol(mut builder) => Arc::new(builder.finish()),
            ColumnBuilder::Text(mut builder) => Arc::new(builder.finish()),
            ColumnBuilder::Bytes(mut builder) => Arc::new(builder.finish()),
            ColumnBuilder::Map(builder) => builder.finish()?,
            ColumnBuilder::Events(builder) => builder.finish()?,
            ColumnBuilder::Links(builder) => builder.finish()?,
            ColumnBuilder::Services(builder) => builder.finish()?,
        })
    }
}

/// The rows of a batch of either layout. Columns are found by name; one that is missing leaves its field blank,
/// and one that is unknown is skipped, so that files of another release can be read.
pub(crate) fn from_batch<R: Row>(batch: &RecordBatch) -> Result<Vec<R>, ArrowError> {
    let mut rows: Vec<R> = (0..batch.num_rows()).map(|_| R::blank()).collect();
    for column in R::COLUMNS {
        let Some(array) = batch.column_by_name(column.name) else { continue };
        let cells = Cells::new(array, column)?;
        for (index, row) in rows.iter_mut().enumerate() {
            (column.set)(row, &cells.get(index)?);
        }
    }
    Ok(rows)
}

/// One column, downcast once.
struct Cells {
    nulls: Option<NullBuffer>,
    values: Values,
}

enum Values {
    Bool(arrow::array::BooleanArray),
    Int32(arrow::array::Int32Array),
    Int64(arrow::array::Int64Array),
    Double(arrow::array::Float64Array),
    Time(arrow::array::TimestampMicrosecondArray),
    Symbol(arrow::array::Int32Array, arrow::array::StringArray),
    Text(arrow::array::StringArray),
    Bytes(arrow::array::BinaryArray),
    Map(OffsetBuffer<i32>, arrow::array::StringArray, arrow::array::StringArray),
    List(Kind, ListArray),
}

impl Cells {
    fn new<R>(array: &ArrayRef, column: &Column<R>) -> Result<Cells, ArrowError> {
        let wrong = || {
            ArrowError::SchemaError(format!("column {:?} has the type {}", column.name, array.data_type()))
        };
        let text = |array: &ArrayRef| array.as_string_opt::<i32>().cloned().ok_or_else(wrong);
        let values = match column.kind {
            Kind::Bool => Values::Bool(array.as_boolean_opt().cloned().ok_or_else(wrong)?),
            Kind::Int32 => Values::Int32(array.as_primitive_opt::<Int32Type>().cloned().ok_or_else(wrong)?),
            Kind::Int64 => Values::Int64(array.as_primitive_opt::<Int64Type>().cloned().ok_or_else(wrong)?),
            Kind::Double => {
                Values::Double(array.as_primitive_opt::<Float64Type>().cloned().ok_or_else(wrong)?)
            }
            Kind::Time => {
                Values::Time(array.as_primitive_opt::<TimestampMicrosecondType>().cloned().ok_or_else(wrong)?)
            }
            Kind::Symbol | Kind::Text => match array.as_dictionary_opt::<Int32Type>() {
                Some(dictionary) => Values::Symbol(dictionary.keys().clone(), text(dictionary.values())?),
                None if *array.data_type() == DataType::Utf8View => {
                    Values::Text(text(&arrow::compute::cast(array, &DataType::Utf8)?)?)
                }
                None => Values::Text(text(array)?),
            },
            Kind::Bytes if *array.data_type() == DataType::BinaryView => {
                let plain = arrow::compute::cast(array, &DataType::Binary)?;
                Values::Bytes(plain.as_binary_opt::<i32>().cloned().ok_or_else(wrong)?)
            }
            Kind::Bytes => Values::Bytes(array.as_binary_opt::<i32>().cloned().ok_or_else(wrong)?),
            Kind::Map => {
                let map = array.as_map_opt().ok_or_else(wrong)?;
                Values::Map(map.offsets().clone(), text(map.keys())?, text(map.values())?)
            }
            Kind::Events | Kind::Links | Kind::Services => {
                Values::List(column.kind, array.as_list_opt::<i32>().cloned().ok_or_else(wrong)?)
            }
        };
        Ok(Cells { nulls: array.nulls().cloned(), values })
    }

    fn get(&self, row: usize) -> Result<Cell<'_>, ArrowError> {
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            return Ok(Cell::Null);
        }
        Ok(match &self.values {
            Values::Bool(array) => Cell::Bool(array.value(row)),
            Values::Int32(array) => Cell::Int32(array.value(row)),
            Values::Int64(array) => Cell::Int64(array.value(row)),
            Values::Double(array) => Cell::Double(array.value(row)),
            Values::Time(array) => Cell::Time(array.value(row)),
            Values::Symbol(keys, values) => Cell::text(values.value(keys.value(row) as usize)),
            Values::Text(array) => Cell::text(array.value(row)),
            Values::Bytes(array) => Cell::bytes(array.value(row)),
            Values::Map(offsets, keys, values) => {
                let (start, end) = (offsets[row] as usize, offsets[row + 1] as usize);
                Cell::Pairs((start..end).map(|index| (keys.value(index), values.value(index))).collect())
            }
            Values::List(kind, array) => {
                let items = array.value(row);
                let items = items
                    .as_struct_opt()
                    .ok_or_else(|| ArrowError::SchemaError("a list of anything but structs".to_string()))?;
                if items.is_empty() {
                    return Ok(Cell::Null);
                }
                let items = RecordBatch::from(items);
                match kind {
                    Kind::Events => Cell::Events(Cow::Owned(from_batch(&items)?)),
                    Kind::Links => Cell::Links(Cow::Owned(from_batch(&items)?)),
                    _ => Cell::Services(Cow::Owned(from_batch(&items)?)),
                }
            }
        })
    }
}
