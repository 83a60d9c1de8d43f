use std::{collections::BTreeSet, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, StringArray, new_null_array},
    datatypes::{Field, FieldRef, Schema},
    error::ArrowError,
};
use hashbrown::{HashMap, HashSet};
use parquet::arrow::arrow_reader::ArrowReaderMetadata;

use super::{
    AttributeMap, Promoted, ValueKind, maps, parse_name,
    restore::{Source, restore},
    values::Values,
};
use crate::{ScanValue, StorageError, Table, head::Chunk};

/// Key of a file's metadata: the promoted columns of which some values are in the map, as a JSON list.
pub(crate) const PARTIAL: &str = "pharos.partial";

/// A column that a reader asks for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Wanted {
    /// One of the table's own.
    Own(FieldRef),
    /// An attribute, promoted or not.
    Attribute { name: String, map: AttributeMap, key: String, kind: ValueKind },
}

impl Wanted {
    /// The column of that name; `None` if the table can have none. An attribute has the type of its promoted column,
    /// or is text.
    pub(crate) fn new(table: Table, promoted: &Promoted, name: &str) -> Option<Wanted> {
        if let Ok(field) = table.schema().field_with_name(name) {
            return Some(Wanted::Own(Arc::new(field.clone())));
        }
        let (map, key) = parse_name(table, name)?;
        let known = promoted.of_map(map).find(|column| column.key == key);
        let kind = known.map_or(ValueKind::Text, |column| column.kind);
        Some(Wanted::Attribute { name: name.to_string(), map, key: key.to_string(), kind })
    }

    /// As `new`, for a comparison with `value`: an attribute is compared as what the value is.
    pub(crate) fn to_compare(
        table: Table,
        promoted: &Promoted,
        name: &str,
        value: &ScanValue,
    ) -> Option<Wanted> {
        Some(match Wanted::new(table, promoted, name)? {
            Wanted::Attribute { name, map, key, .. } => {
                let kind = match value {
                    ScanValue::Text(_) | ScanValue::Bytes(_) => ValueKind::Text,
                    ScanValue::Int(_) => ValueKind::Int,
                    ScanValue::Bool(_) => ValueKind::Bool,
                };
                Wanted::Attribute { name, map, key, kind }
            }
            own => own,
        })
    }

    pub(crate) fn name(&self) -> &str {
        match self {
            Wanted::Own(field) => field.name(),
            Wanted::Attribute { name, .. } => name,
        }
    }

    fn field(&self) -> FieldRef {
        match self {
            Wanted::Own(field) => field.clone(),
            Wanted::Attribute { name, kind, .. } => Arc::new(Field::new(name, kind.data_type(), true)),
        }
    }
}

/// What may be asked of a file's statistics and bloom filters.
#[derive(Default)]
pub(crate) struct Questions {
    /// Columns with the value that they must have.
    pub(crate) equals: Vec<(String, ScanValue)>,
    /// The same of bloom filters alone, by the path of the leaf.
    pub(crate) blooms: Vec<(String, ScanValue)>,
}

/// How columns that are asked for come from what one file, or the head, has.
#[derive(Clone)]
pub(crate) struct View {
    table: Table,
    promoted: Promoted,
    partial: BTreeSet<String>,
    /// All columns that are there.
    names: HashSet<String>,
}

impl View {
    pub(crate) fn of_head(table: Table) -> View {
        View::new(table, &table.schema(), BTreeSet::new())
    }

    pub(crate) fn of_file(table: Table, footer: &ArrowReaderMetadata) -> View {
        let entries = footer.metadata().file_metadata().key_value_metadata();
        let partial = entries.and_then(|entries| entries.iter().find(|entry| entry.key == PARTIAL));
        let partial = partial.and_then(|entry| serde_json::from_str(entry.value.as_deref()?).ok());
        View::new(table, footer.schema(), partial.unwrap_or_default())
    }

    fn new(table: Table, schema: &Schema, partial: BTreeSet<String>) -> View {
        let names = schema.fields().iter().map(|field| field.name().clone()).collect();
        View { table, promoted: Promoted::of_schema(table, schema), partial, names }
    }

    /// Its promoted columns.
    pub(crate) fn promoted(&self) -> &Promoted {
        &self.promoted
    }

    pub(crate) fn partial(&self) -> &BTreeSet<String> {
        &self.partial
    }

    /// The columns that have to be read.
    pub(crate) fn reads(&self, wanted: &[Wanted]) -> HashSet<String> {
        let mut names = HashSet::new();
        for column in wanted {
            match column {
                Wanted::Own(field) => match self.map_of(field.name()) {
                    Some(map) => {
                        names.extend([map.name.to_string(), map.types.to_string()]);
                        names.extend(self.promoted.of_map(map).map(|column| column.name()));
                    }
                    None => {
                        names.insert(field.name().clone());
                    }
                },
                Wanted::Attribute { name, map, .. } => {
                    if self.names.contains(name) {
                        names.insert(name.clone());
                    }
                    if !self.is_whole(name) {
                        names.insert(map.name.to_string());
                    }
                }
            }
        }
        names.retain(|name| self.names.contains(name));
        names
    }

    /// What of a chunk of the head has to be read for these columns. May block.
    pub(crate) fn load(&self, chunk: &Chunk, wanted: &[Wanted]) -> Result<RecordBatch, StorageError> {
        let names = self.reads(wanted);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        Ok(chunk.load(Some(&names))?)
    }

    fn map_of(&self, column: &str) -> Option<AttributeMap> {
        maps(self.table).iter().find(|map| map.name == column || map.types == column).copied()
    }

    /// Whether all values of that attribute are in a column.
    fn is_whole(&self, name: &str) -> bool {
        self.names.contains(name) && !self.partial.contains(name)
    }

    /// The columns that were asked for, in their order, from the batch of those that were read.
    pub(crate) fn show(&self, rows: &RecordBatch, wanted: &[Wanted]) -> Result<RecordBatch, ArrowError> {
        let mut restored: HashMap<&str, (ArrayRef, ArrayRef)> = HashMap::new();
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(wanted.len());
        for column in wanted {
            columns.push(match column {
                Wanted::Own(field) => match self.map_of(field.name()) {
                    Some(map) if rows.column_by_name(map.name).is_some() => {
                        let (attributes, types) = match restored.get(map.name) {
                            Some(known) => known.clone(),
                            None => {
                                let made = restore(map, &self.promoted, rows)?;
                                restored.insert(map.name, made.clone());
                                made
                            }
                        };
                        if field.name() == map.name { attributes } else { types }
                    }
                    _ => own(field, rows)?,
                },
                Wanted::Attribute { name, map, key, kind } => self.attribute(rows, name, *map, key, *kind)?,
            });
        }
        let schema = Arc::new(Schema::new(wanted.iter().map(Wanted::field).collect::<Vec<_>>()));
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        RecordBatch::try_new_with_options(schema, columns, &options)
    }

    fn attribute(
        &self,
        rows: &RecordBatch,
        name: &str,
        map: AttributeMap,
        key: &str,
        kind: ValueKind,
    ) -> Result<ArrayRef, ArrowError> {
        let promoted = self.promoted.of_map(map).find(|column| column.key == key);
        let column = match (promoted, rows.column_by_name(name)) {
            (Some(promoted), Some(array)) => Some(Source::new(promoted.kind, array)?),
            _ => None,
        };
        if let Some(source) = &column
            && source.kind == kind
            && self.is_whole(name)
        {
            return Ok(source.array().clone());
        }
        let in_map = if self.is_whole(name) { None } else { Pairs::of(rows, map) };
        let mut values = Values::with_capacity(kind, rows.num_rows());
        let mut scratch = String::new();
        for row in 0..rows.num_rows() {
            let text = match column.as_ref().and_then(|source| source.text(row, &mut scratch)) {
                Some(text) => Some(text),
                None => in_map.as_ref().and_then(|pairs| pairs.get(row, key)),
            };
            // What is no value of the column's type is null.
            let taken = text.map_or(Ok(false), |text| values.append(text))?;
            if !taken {
                values.append_null();
            }
        }
        values.finish()
    }

    /// What the conditions say of this file; `None` if no row of it can fulfil them.
    pub(crate) fn questions(&self, equals: &[(Wanted, ScanValue)]) -> Option<Questions> {
        let mut questions = Questions::default();
        for (column, value) in equals {
            match column {
                Wanted::Own(field) => {
                    if self.names.contains(field.name()) {
                        questions.equals.push((field.name().clone(), value.clone()));
                    }
                }
                Wanted::Attribute { name, map, key, .. } if self.is_whole(name) => {
                    let kind = self.promoted.of_map(*map).find(|known| known.key == *key).map(|c| c.kind);
                    match (kind, value) {
                        (Some(ValueKind::Text), ScanValue::Text(_))
                        | (Some(ValueKind::Int), ScanValue::Int(_))
                        | (Some(ValueKind::Bool), ScanValue::Bool(_)) => {
                            questions.equals.push((name.clone(), value.clone()));
                        }
                        // What is stored as a number has one text.
                        (Some(ValueKind::Int), ScanValue::Text(text)) => {
                            let number: i64 = text.parse().ok()?;
                            if number.to_string() != *text {
                                return None;
                            }
                            questions.equals.push((name.clone(), ScanValue::Int(number)));
                        }
                        _ => {}
                    }
                }
                Wanted::Attribute { name, map, key, .. } if !self.names.contains(name) => {
                    let leaf = |end: &str| format!("{}.key_value.{end}", map.name);
                    questions.blooms.push((leaf("key"), ScanValue::Text(key.clone())));
                    if let ScanValue::Text(_) = value {
                        questions.blooms.push((leaf("value"), value.clone()));
                    }
                }
                Wanted::Attribute { .. } => {}
            }
        }
        Some(questions)
    }
}

/// A column of the table's own; null where a file of another release lacks it.
fn own(field: &FieldRef, rows: &RecordBatch) -> Result<ArrayRef, ArrowError> {
    match rows.column_by_name(field.name()) {
        Some(column) if column.data_type() == field.data_type() => Ok(column.clone()),
        Some(column) => arrow::compute::cast(column, field.data_type()),
        None => Ok(new_null_array(field.data_type(), rows.num_rows())),
    }
}

/// The attributes that are in a map.
struct Pairs<'a> {
    offsets: &'a [i32],
    keys: &'a StringArray,
    values: &'a StringArray,
}

impl Pairs<'_> {
    fn of(rows: &RecordBatch, map: AttributeMap) -> Option<Pairs<'_>> {
        let map = rows.column_by_name(map.name)?.as_map_opt()?;
        Some(Pairs {
            offsets: map.offsets(),
            keys: map.keys().as_string_opt()?,
            values: map.values().as_string_opt()?,
        })
    }

    fn get(&self, row: usize, key: &str) -> Option<&str> {
        let (start, end) = (*self.offsets.get(row)? as usize, *self.offsets.get(row + 1)? as usize);
        (start..end).find(|pair| self.keys.value(*pair) == key).map(|pair| self.values.value(pair))
    }
}
