use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, BinaryBuilder, RecordBatch},
    datatypes::{Float64Type, Int32Type, Int64Type},
    error::ArrowError,
};

use super::{AttributeMap, IN_COLUMN, MOVED, Promoted, ValueKind};
use crate::{
    attribute_types::{Tags, read_length, take_byte},
    columns::PairsBuilder,
};

/// A map and its types as they came in, from what a file has of them. `file` are the promoted columns of the file,
/// those of the map are all among `rows`.
pub(super) fn restore(
    map: AttributeMap,
    file: &Promoted,
    rows: &RecordBatch,
) -> Result<(ArrayRef, ArrayRef), ArrowError> {
    let missing = |name: &str| ArrowError::SchemaError(format!("no column {name:?}"));
    let rest_column = rows.column_by_name(map.name).ok_or_else(|| missing(map.name))?;
    let types_column = rows.column_by_name(map.types).ok_or_else(|| missing(map.types))?;
    if file.of_map(map).next().is_none() {
        return Ok((rest_column.clone(), types_column.clone()));
    }
    let wrong = || ArrowError::SchemaError(format!("column {:?} is no map of texts", map.name));
    let rest = rest_column.as_map_opt().ok_or_else(wrong)?;
    let orders = types_column.as_binary_opt::<i32>().ok_or_else(wrong)?;
    let keys = rest.keys().as_string_opt::<i32>().ok_or_else(wrong)?;
    let values = rest.values().as_string_opt::<i32>().ok_or_else(wrong)?;
    let mut sources = Vec::new();
    for column in file.of_map(map) {
        let name = column.name();
        let array = rows.column_by_name(&name).ok_or_else(|| missing(&name))?;
        sources.push((column.key.as_str(), Source::new(column.kind, array)?));
    }
    let mut all = PairsBuilder::default();
    let mut all_types = BinaryBuilder::new();
    let mut tags: Vec<u8> = Vec::new();
    let mut scratch = String::new();
    for (row, ends) in rest.offsets().windows(2).enumerate() {
        let [start, end] = ends else { continue };
        let mut pairs = *start as usize..*end as usize;
        let order = orders.is_valid(row).then(|| orders.value(row));
        let Some([MOVED, moved @ ..]) = order else {
            pairs.for_each(|pair| all.append_pair(keys.value(pair), values.value(pair)));
            all.end_row()?;
            match order {
                Some(types) => all_types.append_value(types),
                None => all_types.append_null(),
            }
            continue;
        };
        tags.clear();
        let mut typed = false;
        let mut moved = moved;
        while let Some(first) = moved.first() {
            if *first == IN_COLUMN {
                let _ = take_byte(&mut moved);
                // Numbers beyond the columns, and nulls, are damage: the rest is still of use.
                let place = read_length(&mut moved).and_then(|place| sources.get(place));
                if let Some((key, source)) = place
                    && let Some(text) = source.text(row, &mut scratch)
                {
                    all.append_pair(key, text);
                    tags.push(source.kind.tag());
                    typed |= source.kind != ValueKind::Text;
                }
                continue;
            }
            let mut one = Tags::new(Some(moved));
            let (Some((tag, whole)), Some(pair)) = (one.next(), pairs.next()) else { break };
            moved = one.rest();
            all.append_pair(keys.value(pair), values.value(pair));
            tags.push(tag);
            tags.extend_from_slice(whole);
            typed |= tag != ValueKind::Text.tag();
        }
        all.end_row()?;
        if typed {
            all_types.append_value(&tags);
        } else {
            all_types.append_null();
        }
    }
    Ok((all.finish()?, Arc::new(all_types.finish())))
}

/// A promoted column that is read.
pub(super) struct Source {
    pub(super) kind: ValueKind,
    array: ArrayRef,
}

impl Source {
    pub(super) fn new(kind: ValueKind, array: &ArrayRef) -> Result<Source, ArrowError> {
        let array = if *array.data_type() == kind.data_type() {
            array.clone()
        } else {
            arrow::compute::cast(array, &kind.data_type())?
        };
        Ok(Source { kind, array })
    }

    pub(super) fn array(&self) -> &ArrayRef {
        &self.array
    }

    /// The value as a map has it.
    pub(super) fn text<'a>(&'a self, row: usize, scratch: &'a mut String) -> Option<&'a str> {
        use std::fmt::Write;
        if self.array.is_null(row) {
            return None;
        }
        scratch.clear();
        // Writing to a string cannot fail.
        let _ = match self.kind {
            ValueKind::Text => {
                let texts = self.array.as_dictionary_opt::<Int32Type>()?;
                let key = usize::try_from(texts.keys().value(row)).ok()?;
                return Some(texts.values().as_string_opt::<i32>()?.value(key));
            }
            ValueKind::Int => write!(scratch, "{}", self.array.as_primitive_opt::<Int64Type>()?.value(row)),
            ValueKind::Double => {
                write!(scratch, "{}", self.array.as_primitive_opt::<Float64Type>()?.value(row))
            }
            ValueKind::Bool => write!(scratch, "{}", self.array.as_boolean_opt()?.value(row)),
        };
        Some(scratch)
    }
}
