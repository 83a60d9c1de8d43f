//! Arrow values as JSON: times in RFC 3339, bytes in hex, maps and structs as objects.

use datafusion::arrow::{
    array::{Array, ArrayRef, AsArray},
    datatypes::{
        DataType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimeUnit,
        TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
        UInt8Type, UInt16Type, UInt32Type, UInt64Type,
    },
    error::ArrowError,
    util::display::{ArrayFormatter, FormatOptions},
};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// The name of a type as people say it.
pub(super) fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Dictionary(_, values) => type_name(values),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "string".into(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            "binary".into()
        }
        DataType::Boolean => "boolean".into(),
        DataType::Timestamp(..) => "timestamp".into(),
        DataType::Float16 | DataType::Float32 | DataType::Float64 => "double".into(),
        DataType::Null => "null".into(),
        DataType::Map(..) => "map".into(),
        DataType::List(inner) | DataType::LargeList(inner) => {
            format!("list<{}>", type_name(inner.data_type()))
        }
        DataType::Struct(_) => "struct".into(),
        other if other.is_integer() => "integer".into(),
        other => other.to_string().to_lowercase(),
    }
}

/// The value of one cell.
pub(super) fn cell(array: &ArrayRef, row: usize) -> Result<Value, ArrowError> {
    if array.is_null(row) {
        return Ok(Value::Null);
    }
    Ok(match array.data_type() {
        DataType::Null => Value::Null,
        DataType::Boolean => json!(array.as_boolean().value(row)),
        DataType::Int8 => json!(array.as_primitive::<Int8Type>().value(row)),
        DataType::Int16 => json!(array.as_primitive::<Int16Type>().value(row)),
        DataType::Int32 => json!(array.as_primitive::<Int32Type>().value(row)),
        DataType::Int64 => json!(array.as_primitive::<Int64Type>().value(row)),
        DataType::UInt8 => json!(array.as_primitive::<UInt8Type>().value(row)),
        DataType::UInt16 => json!(array.as_primitive::<UInt16Type>().value(row)),
        DataType::UInt32 => json!(array.as_primitive::<UInt32Type>().value(row)),
        DataType::UInt64 => json!(array.as_primitive::<UInt64Type>().value(row)),
        DataType::Float32 => double(f64::from(array.as_primitive::<Float32Type>().value(row))),
        DataType::Float64 => double(array.as_primitive::<Float64Type>().value(row)),
        DataType::Utf8 => json!(array.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => json!(array.as_string::<i64>().value(row)),
        DataType::Utf8View => json!(array.as_string_view().value(row)),
        DataType::Binary => json!(hex::encode(array.as_binary::<i32>().value(row))),
        DataType::LargeBinary => json!(hex::encode(array.as_binary::<i64>().value(row))),
        DataType::BinaryView => json!(hex::encode(array.as_binary_view().value(row))),
        DataType::FixedSizeBinary(_) => json!(hex::encode(array.as_fixed_size_binary().value(row))),
        DataType::Timestamp(unit, _) => {
            let (time, ns) = match unit {
                TimeUnit::Second => (array.as_primitive::<TimestampSecondType>().value(row), 1_000_000_000),
                TimeUnit::Millisecond => {
                    (array.as_primitive::<TimestampMillisecondType>().value(row), 1_000_000)
                }
                TimeUnit::Microsecond => (array.as_primitive::<TimestampMicrosecondType>().value(row), 1_000),
                TimeUnit::Nanosecond => (array.as_primitive::<TimestampNanosecondType>().value(row), 1),
            };
            match Timestamp::from_nanosecond(i128::from(time) * ns) {
                Ok(time) => json!(time.to_string()),
                Err(_) => json!(time),
            }
        }
        DataType::Dictionary(key, _) if **key == DataType::Int32 => {
            let dictionary = array.as_dictionary::<Int32Type>();
            match dictionary.key(row) {
                Some(key) => cell(dictionary.values(), key)?,
                None => Value::Null,
            }
        }
        DataType::Dictionary(..) => {
            let dictionary = array.as_any_dictionary();
            match dictionary.normalized_keys().get(row) {
                Some(key) => cell(dictionary.values(), *key)?,
                None => Value::Null,
            }
        }
        DataType::List(_) => list(&array.as_list::<i32>().value(row))?,
        DataType::LargeList(_) => list(&array.as_list::<i64>().value(row))?,
        DataType::Map(..) => {
            let entries = array.as_map().value(row);
            let (keys, values) = (entries.column(0), entries.column(1));
            let mut object = Map::new();
            for entry in 0..entries.len() {
                let key = cell(keys, entry)?;
                let key = key.as_str().map_or_else(|| key.to_string(), str::to_string);
                object.insert(key, cell(values, entry)?);
            }
            Value::Object(object)
        }
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns();
            let mut object = Map::new();
            for (field, column) in fields.iter().zip(columns) {
                object.insert(field.name().clone(), cell(column, row)?);
            }
            Value::Object(object)
        }
        // Dates, intervals, decimals: as DataFusion prints them.
        _ => json!(ArrayFormatter::try_new(array, &FormatOptions::default())?.value(row).to_string()),
    })
}

fn list(items: &ArrayRef) -> Result<Value, ArrowError> {
    (0..items.len()).map(|item| cell(items, item)).collect()
}

/// JSON has no NaN and no infinities: those are text.
fn double(number: f64) -> Value {
    if number.is_finite() { json!(number) } else { json!(number.to_string()) }
}
