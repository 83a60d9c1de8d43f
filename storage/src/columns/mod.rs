//! How a row becomes Arrow columns and back: each table lists its columns once, with a getter and a setter.

mod build;
mod concat;
mod parse;

use std::{borrow::Cow, sync::Arc};

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
pub(crate) use build::{PairsBuilder, SymbolBuilder, to_batch};
pub(crate) use concat::concat;
pub(crate) use parse::from_batch;
use pharos_model::{Attributes, Labels, SpanEvent, SpanLink};

use crate::rows::ServiceCount;

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
    (id $id:ty, $name:literal, $($field:tt)+) => {
        $crate::columns::Column {
            name: $name,
            kind: $crate::columns::Kind::Bytes,
            get: |row| $crate::columns::Cell::bytes(&row.$($field)+.0),
            set: |row, cell| row.$($field)+ = <$id>::from_slice(cell.as_bytes()).unwrap_or_default(),
        }
    };
    (kind $name:literal, $($field:tt)+) => {
        $crate::columns::Column {
            name: $name,
            kind: $crate::columns::Kind::Symbol,
            get: |row| $crate::columns::Cell::text(row.$($field)+.name()),
            set: |row, cell| row.$($field)+ = $crate::rows::span_kind(cell.as_text()),
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

/// Text with a dictionary.
pub(crate) fn symbol_type() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

fn map_entries() -> Fields {
    Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Utf8, true)])
}

fn map_field() -> FieldRef {
    Arc::new(Field::new("key_value", DataType::Struct(map_entries()), false))
}

fn list_of<R: Row>() -> DataType {
    DataType::List(Arc::new(Field::new("element", DataType::Struct(fields::<R>()), true)))
}

fn data_type(kind: Kind) -> DataType {
    match kind {
        Kind::Bool => DataType::Boolean,
        Kind::Int32 => DataType::Int32,
        Kind::Int64 => DataType::Int64,
        Kind::Double => DataType::Float64,
        Kind::Time => DataType::Timestamp(TimeUnit::Microsecond, utc()),
        Kind::Symbol => symbol_type(),
        Kind::Text => DataType::Utf8,
        Kind::Bytes => DataType::Binary,
        Kind::Map => DataType::Map(map_field(), false),
        Kind::Events => list_of::<SpanEvent>(),
        Kind::Links => list_of::<SpanLink>(),
        Kind::Services => list_of::<ServiceCount>(),
    }
}

fn fields<R: Row>() -> Fields {
    R::COLUMNS.iter().map(|column| Field::new(column.name, data_type(column.kind), true)).collect()
}

pub(crate) fn schema_of<R: Row>() -> SchemaRef {
    Arc::new(Schema::new(fields::<R>()))
}
