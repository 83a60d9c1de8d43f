//! Attributes that are columns by themselves.
//!
//! An attribute that many rows have moves out of the table's map into a column `attributes.<key>` (or
//! `resource_attributes.<key>`) of its own type. A table's list of such columns only grows, and every file that is
//! written has all of them. What is in a column is not in the map any more; the column of the map's types says, for each
//! row, in which order columns and map make up the attributes, so that a reader gets back exactly what was sent.
//!
//! Rows in the head, and files of before, have everything in the map: there a column is looked up in it.

mod census;
mod restore;
mod split;
mod values;
mod view;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
pub(crate) use census::Census;
pub(crate) use split::{Split, split};
pub(crate) use view::{PARTIAL, Questions, View, Wanted};

use crate::{Table, columns::symbol_type};

/// Promoted columns of one table. Further attributes stay in the map.
pub(crate) const MAX_COLUMNS: usize = 200;

/// First byte of a row's types when some of its attributes are in columns.
const MOVED: u8 = b'p';
/// In place of a type: the attribute is in a column, whose number among the map's follows.
const IN_COLUMN: u8 = b'c';

/// A column of attributes and, beside it, the column of their types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AttributeMap {
    pub(crate) name: &'static str,
    pub(crate) types: &'static str,
}

const OWN: AttributeMap = AttributeMap { name: "attributes", types: "attribute_types" };
const OF_RESOURCE: AttributeMap =
    AttributeMap { name: "resource_attributes", types: "resource_attribute_types" };

/// The maps of which attributes are promoted.
pub(crate) fn maps(table: Table) -> &'static [AttributeMap] {
    match table {
        Table::Spans | Table::Logs => &[OWN, OF_RESOURCE],
        Table::AccessLogs => &[OWN],
        _ => &[],
    }
}

/// The map and the key of a promoted column's name.
pub(crate) fn parse_name(table: Table, column: &str) -> Option<(AttributeMap, &str)> {
    maps(table).iter().find_map(|map| Some((*map, column.strip_prefix(map.name)?.strip_prefix('.')?)))
}

/// What a promoted column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ValueKind {
    Text,
    Int,
    Double,
    Bool,
}

impl ValueKind {
    pub(crate) const ALL: [ValueKind; 4] =
        [ValueKind::Text, ValueKind::Int, ValueKind::Double, ValueKind::Bool];

    pub(crate) fn data_type(self) -> DataType {
        match self {
            ValueKind::Text => symbol_type(),
            ValueKind::Int => DataType::Int64,
            ValueKind::Double => DataType::Float64,
            ValueKind::Bool => DataType::Boolean,
        }
    }

    fn of_data_type(data_type: &DataType) -> Option<ValueKind> {
        ValueKind::ALL.into_iter().find(|kind| match (kind, data_type) {
            // As a table's log has it.
            (ValueKind::Text, DataType::Utf8) => true,
            (kind, data_type) => kind.data_type() == *data_type,
        })
    }

    /// Of the tag that stands for it among a map's types.
    fn of_tag(tag: u8) -> Option<ValueKind> {
        ValueKind::ALL.into_iter().find(|kind| kind.tag() == tag)
    }

    fn tag(self) -> u8 {
        match self {
            ValueKind::Text => b's',
            ValueKind::Int => b'i',
            ValueKind::Double => b'd',
            ValueKind::Bool => b'b',
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PromotedColumn {
    pub(crate) map: AttributeMap,
    pub(crate) key: String,
    pub(crate) kind: ValueKind,
}

impl PromotedColumn {
    pub(crate) fn name(&self) -> String {
        format!("{}.{}", self.map.name, self.key)
    }
}

/// A table's promoted columns, in the order in which they became ones.
#[derive(Clone, Debug)]
pub(crate) struct Promoted {
    pub(crate) columns: Vec<PromotedColumn>,
    /// The table's own columns, then these.
    pub(crate) schema: SchemaRef,
}

impl Promoted {
    pub(crate) fn new(table: Table, columns: Vec<PromotedColumn>) -> Promoted {
        let own = table.schema();
        let field =
            |column: &PromotedColumn| Arc::new(Field::new(column.name(), column.kind.data_type(), true));
        let fields: Vec<_> = own.fields().iter().cloned().chain(columns.iter().map(field)).collect();
        Promoted { columns, schema: Arc::new(Schema::new(fields)) }
    }

    /// Those among the columns of a file or of a table's log.
    pub(crate) fn of_schema(table: Table, schema: &Schema) -> Promoted {
        let column = |field: &Arc<Field>| {
            let (map, key) = parse_name(table, field.name())?;
            let kind = ValueKind::of_data_type(field.data_type())?;
            Some(PromotedColumn { map, key: key.to_string(), kind })
        };
        Promoted::new(table, schema.fields().iter().filter_map(column).collect())
    }

    pub(crate) fn of_map(&self, map: AttributeMap) -> impl Iterator<Item = &PromotedColumn> {
        self.columns.iter().filter(move |column| column.map == map)
    }

    /// With more columns; those that are there keep their place.
    pub(crate) fn with(&self, table: Table, more: Vec<PromotedColumn>) -> Promoted {
        Promoted::new(table, self.columns.iter().cloned().chain(more).collect())
    }
}

#[cfg(test)]
mod tests;
