use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Int32Array, Int64Array, RecordBatch, Scalar,
        StringArray,
    },
    buffer::BooleanBuffer,
    compute::kernels::cmp,
    datatypes::{DataType, Int32Type, TimestampMicrosecondType},
};
use pharos_model::TimeRange;

use crate::{StorageError, promoted::Wanted};

/// A value that a column is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScanValue {
    Text(String),
    Bytes(Vec<u8>),
    Int(i64),
    Bool(bool),
}

impl ScanValue {
    /// As an array of one, of the type in which a column of `data_type` is compared; `None` where the two can never
    /// be equal.
    pub(crate) fn scalar(&self, data_type: &DataType) -> Option<Scalar<ArrayRef>> {
        let value_type = match data_type {
            DataType::Dictionary(_, value_type) => value_type,
            plain => plain,
        };
        let array: ArrayRef = match (self, value_type) {
            (ScanValue::Text(text), DataType::Utf8) => Arc::new(StringArray::from(vec![text.as_str()])),
            (ScanValue::Bytes(bytes), DataType::Binary) => {
                Arc::new(BinaryArray::from(vec![bytes.as_slice()]))
            }
            (ScanValue::Int(number), DataType::Int64) => Arc::new(Int64Array::from(vec![*number])),
            (ScanValue::Int(number), DataType::Int32) => {
                Arc::new(Int32Array::from(vec![i32::try_from(*number).ok()?]))
            }
            (ScanValue::Bool(flag), DataType::Boolean) => Arc::new(BooleanArray::from(vec![*flag])),
            _ => return None,
        };
        Some(Scalar::new(array))
    }
}

/// Nanoseconds beyond the microsecond, for the tables that have them.
pub(crate) const NANOS_COLUMNS: [&str; 2] = ["start_nanos_rem", "time_nanos_rem"];

/// The rows' times in nanoseconds; a row without one counts as the year 1970.
pub(crate) fn times_ns(batch: &RecordBatch) -> Vec<i64> {
    let Some(times) =
        batch.column_by_name("time").and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>())
    else {
        return vec![0; batch.num_rows()];
    };
    let nanos =
        NANOS_COLUMNS.iter().find_map(|name| batch.column_by_name(name)?.as_primitive_opt::<Int32Type>());
    let base = times.values().iter().map(|micros| micros.saturating_mul(1_000));
    match nanos {
        Some(nanos) => {
            base.zip(nanos.values()).map(|(base, rest)| base.saturating_add(i64::from(*rest))).collect()
        }
        None => base.collect(),
    }
}

/// Which rows lie in the range and have all the values. `times` are those of [`times_ns`].
pub(crate) fn matching(
    batch: &RecordBatch,
    times: &[i64],
    range: TimeRange,
    equals: &[(Wanted, ScanValue)],
) -> Result<BooleanArray, StorageError> {
    let in_range = BooleanBuffer::collect_bool(batch.num_rows(), |row| {
        times
            .get(row)
            .is_some_and(|time| range.start.0 <= *time && (*time < range.end.0 || range.end.0 == i64::MAX))
    });
    Ok(BooleanArray::new(&in_range & &having(batch, equals)?, None))
}

/// Which rows have all the values.
pub(crate) fn having(
    batch: &RecordBatch,
    equals: &[(Wanted, ScanValue)],
) -> Result<BooleanBuffer, StorageError> {
    let mut rows = BooleanBuffer::new_set(batch.num_rows());
    for (column, value) in equals {
        let Some(column) = batch.column_by_name(column.name()) else { continue };
        rows = &rows & &equal(column, value)?;
    }
    Ok(rows)
}

/// A null equals nothing.
fn equal(column: &ArrayRef, value: &ScanValue) -> Result<BooleanBuffer, StorageError> {
    let none = || Ok(BooleanBuffer::new_unset(column.len()));
    // Texts with a dictionary are compared once each.
    if let (Some(symbols), ScanValue::Text(text)) = (column.as_dictionary_opt::<Int32Type>(), value)
        && let Some(texts) = symbols.values().as_string_opt::<i32>()
    {
        let wanted: Vec<bool> = texts.iter().map(|known| known == Some(text)).collect();
        if !wanted.contains(&true) {
            return none();
        }
        let keys = symbols.keys().values();
        let is_wanted = |key: i32| usize::try_from(key).is_ok_and(|key| wanted.get(key) == Some(&true));
        let rows =
            BooleanBuffer::collect_bool(keys.len(), |row| keys.get(row).is_some_and(|key| is_wanted(*key)));
        return Ok(match symbols.nulls() {
            Some(nulls) => &rows & nulls.inner(),
            None => rows,
        });
    }
    let Some(scalar) = value.scalar(column.data_type()) else { return none() };
    let equal = cmp::eq(column, &scalar)?;
    Ok(match equal.nulls() {
        Some(nulls) => equal.values() & nulls.inner(),
        None => equal.values().clone(),
    })
}
