use std::{collections::BTreeSet, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, BinaryBuilder, RecordBatch},
    error::ArrowError,
};
use hashbrown::HashMap;

use super::{AttributeMap, IN_COLUMN, MOVED, Promoted, ValueKind, maps, values::Values};
use crate::{
    Table,
    attribute_types::{Tags, write_length},
    columns::PairsBuilder,
};

/// Rows as files have them.
pub(crate) struct Split {
    pub(crate) rows: RecordBatch,
    /// Columns of which some values had to stay in the map, since they are of another type.
    pub(crate) partial: BTreeSet<String>,
}

/// Moves attributes out of the maps of `rows`, which have the table's own columns, into the promoted columns.
pub(crate) fn split(table: Table, promoted: &Promoted, rows: &RecordBatch) -> Result<Split, ArrowError> {
    let mut split: HashMap<String, ArrayRef> = HashMap::new();
    let mut partial = BTreeSet::new();
    for map in maps(table) {
        split_map(*map, promoted, rows, &mut split, &mut partial)?;
    }
    let column = |field: &arrow::datatypes::FieldRef| match split.remove(field.name()) {
        Some(column) => Ok(column),
        None => rows.column_by_name(field.name()).cloned().ok_or_else(|| {
            ArrowError::SchemaError(format!("no column {:?} in table {}", field.name(), table.name()))
        }),
    };
    let columns = promoted.schema.fields().iter().map(column).collect::<Result<Vec<_>, _>>()?;
    Ok(Split { rows: RecordBatch::try_new(promoted.schema.clone(), columns)?, partial })
}

fn split_map(
    map: AttributeMap,
    promoted: &Promoted,
    rows: &RecordBatch,
    split: &mut HashMap<String, ArrayRef>,
    partial: &mut BTreeSet<String>,
) -> Result<(), ArrowError> {
    let wrong = || ArrowError::SchemaError(format!("column {:?} is no map of texts", map.name));
    let attributes = rows.column_by_name(map.name).and_then(|c| c.as_map_opt()).ok_or_else(wrong)?;
    let types = rows.column_by_name(map.types).and_then(|c| c.as_binary_opt::<i32>()).ok_or_else(wrong)?;
    let keys = attributes.keys().as_string_opt::<i32>().ok_or_else(wrong)?;
    let values = attributes.values().as_string_opt::<i32>().ok_or_else(wrong)?;
    let mut targets: Vec<Target> =
        promoted.of_map(map).map(|column| Target::new(column.kind, column.name(), rows.num_rows())).collect();
    let places: HashMap<&str, usize> =
        promoted.of_map(map).enumerate().map(|(place, column)| (column.key.as_str(), place)).collect();
    let mut rest = PairsBuilder::default();
    let mut rest_types = BinaryBuilder::new();
    let mut order: Vec<u8> = Vec::new();
    // Neighbours have the same keys in the same order.
    let mut memory: Vec<(&str, Option<usize>)> = Vec::new();
    for (row, ends) in attributes.offsets().windows(2).enumerate() {
        let [start, end] = ends else { continue };
        let own_types = types.is_valid(row).then(|| types.value(row));
        let mut tags = Tags::new(own_types);
        let mut moved = false;
        order.clear();
        order.push(MOVED);
        for (at, pair) in (*start as usize..*end as usize).enumerate() {
            let (tag, whole) = tags.next().unwrap_or((b's', &[]));
            let key = keys.value(pair);
            let place = match memory.get(at) {
                Some((known, place)) if *known == key => *place,
                _ => {
                    let place = places.get(key).copied();
                    memory.truncate(at);
                    memory.push((key, place));
                    place
                }
            };
            if let Some((place, target)) = place.and_then(|place| Some((place, targets.get_mut(place)?))) {
                if target.take(row, tag, values.value(pair))? {
                    moved = true;
                    order.push(IN_COLUMN);
                    write_length(place, &mut order);
                    continue;
                }
                if !partial.contains(&target.name) {
                    partial.insert(target.name.clone());
                }
            }
            order.push(tag);
            order.extend_from_slice(whole);
            rest.append_pair(key, values.value(pair));
        }
        rest.end_row()?;
        match own_types {
            _ if moved => rest_types.append_value(&order),
            Some(types) => rest_types.append_value(types),
            None => rest_types.append_null(),
        }
    }
    split.insert(map.name.to_string(), rest.finish()?);
    split.insert(map.types.to_string(), Arc::new(rest_types.finish()));
    for target in targets {
        let (name, column) = target.finish(rows.num_rows())?;
        split.insert(name, column);
    }
    Ok(())
}

/// A promoted column under construction.
struct Target {
    kind: ValueKind,
    name: String,
    values: Values,
    /// Rows that have a value or a null.
    rows: usize,
}

impl Target {
    fn new(kind: ValueKind, name: String, rows: usize) -> Target {
        Target { kind, name, values: Values::with_capacity(kind, rows), rows: 0 }
    }

    /// Whether the row's value went in: not if it is of another type, or the row's second.
    fn take(&mut self, row: usize, tag: u8, text: &str) -> Result<bool, ArrowError> {
        if self.kind.tag() != tag || self.rows > row {
            return Ok(false);
        }
        self.fill(row);
        let taken = self.values.append(text)?;
        self.rows += usize::from(taken);
        Ok(taken)
    }

    fn fill(&mut self, rows: usize) {
        (self.rows..rows).for_each(|_| self.values.append_null());
        self.rows = rows;
    }

    fn finish(mut self, rows: usize) -> Result<(String, ArrayRef), ArrowError> {
        self.fill(rows);
        Ok((self.name, self.values.finish()?))
    }
}
