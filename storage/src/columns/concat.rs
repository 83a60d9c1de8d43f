//! Batches joined to one, with one dictionary for each column of symbols.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch},
    datatypes::{DataType, Int32Type},
    error::ArrowError,
};

use super::SymbolBuilder;

/// The rows of all batches, which have one schema. Unlike arrow's, a text is once in a dictionary however many batches
/// it came in, so that the dictionary says which rows are alike.
pub(crate) fn concat(batches: &[RecordBatch]) -> Result<RecordBatch, ArrowError> {
    let Some(first) = batches.first() else {
        return Err(ArrowError::InvalidArgumentError("no batches to join".to_string()));
    };
    if batches.len() == 1 {
        return Ok(first.clone());
    }
    let rows = batches.iter().map(RecordBatch::num_rows).sum();
    let joined = |(at, column): (usize, &ArrayRef)| -> Result<ArrayRef, ArrowError> {
        let parts: Vec<&ArrayRef> = batches.iter().map(|batch| batch.column(at)).collect();
        match column.data_type() {
            DataType::Dictionary(key, value) if **key == DataType::Int32 && **value == DataType::Utf8 => {
                concat_symbols(&parts, rows)
            }
            _ => arrow::compute::concat(&parts.iter().map(|part| part.as_ref()).collect::<Vec<_>>()),
        }
    };
    let columns = first.columns().iter().enumerate().map(joined).collect::<Result<Vec<_>, _>>()?;
    RecordBatch::try_new(first.schema(), columns)
}

fn concat_symbols(parts: &[&ArrayRef], rows: usize) -> Result<ArrayRef, ArrowError> {
    let wrong = || ArrowError::SchemaError("a column has another type than in the first batch".to_string());
    let mut all = SymbolBuilder::with_capacity(rows);
    for part in parts {
        let part = part.as_dictionary_opt::<Int32Type>().ok_or_else(wrong)?;
        let texts = part.values().as_string_opt::<i32>().ok_or_else(wrong)?;
        // Only texts that occur get into the new dictionary.
        let mut known: Vec<Option<i32>> = vec![None; texts.len()];
        for key in part.keys() {
            let Some(key) = key else {
                all.append_null();
                continue;
            };
            let place = known.get_mut(key as usize).ok_or_else(wrong)?;
            let key = match place {
                Some(key) => *key,
                None => *place.insert(all.intern(texts.value(key as usize))?),
            };
            all.append_key(key);
        }
    }
    Ok(Arc::new(all.finish()?))
}
