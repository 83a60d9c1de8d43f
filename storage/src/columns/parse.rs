//! Rows back from columns.

use std::borrow::Cow;

use arrow::{
    array::{Array, ArrayRef, AsArray, ListArray, RecordBatch},
    buffer::{NullBuffer, OffsetBuffer},
    datatypes::{DataType, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType},
    error::ArrowError,
};

use super::{Cell, Column, Kind, Row};

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
