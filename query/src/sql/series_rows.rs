//! Samples of series as rows: `time`, `value`, and a column for each label.

use std::sync::Arc;

use datafusion::arrow::{
    array::{
        ArrayRef, DictionaryArray, Float64Array, Int32Array, RecordBatch, RecordBatchOptions, StringBuilder,
        TimestampMicrosecondArray,
    },
    datatypes::{DataType, Field, Int32Type, Schema, SchemaRef, TimeUnit},
    error::ArrowError,
};
use pharos_model::Labels;

/// A row for each sample of a series.
pub(super) struct SeriesRows<'s> {
    pub(super) labels: &'s Labels,
    pub(super) times_ms: Vec<i64>,
    pub(super) values: Vec<f64>,
}

/// What a column holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Column {
    Time,
    Value,
    /// Null where a series lacks the label.
    Label(String),
}

impl Column {
    /// `time`, `value`, and the labels in their order.
    pub(super) fn all(labels: impl IntoIterator<Item = String>) -> Vec<Column> {
        [Column::Time, Column::Value].into_iter().chain(labels.into_iter().map(Column::Label)).collect()
    }

    /// A label that is called as one of ours gets `label_` in front.
    pub(super) fn name(&self) -> String {
        match self {
            Column::Time => "time".into(),
            Column::Value => "value".into(),
            Column::Label(label) if matches!(label.as_str(), "time" | "value") => format!("label_{label}"),
            Column::Label(label) => label.clone(),
        }
    }

    fn field(&self) -> Field {
        let (data_type, is_nullable) = match self {
            Column::Time => (DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
            Column::Value => (DataType::Float64, false),
            Column::Label(_) => {
                (DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)), true)
            }
        };
        Field::new(self.name(), data_type, is_nullable)
    }
}

pub(super) fn schema_of(columns: &[Column]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(Column::field).collect::<Vec<_>>()))
}

pub(super) fn batch_of(
    columns: &[Column],
    schema: &SchemaRef,
    series: &[SeriesRows<'_>],
) -> Result<RecordBatch, ArrowError> {
    let rows = series.iter().map(|series| series.times_ms.len()).sum();
    let arrays = columns.iter().map(|column| match column {
        Column::Time => {
            let times = series.iter().flat_map(|series| &series.times_ms);
            let times = TimestampMicrosecondArray::from_iter_values(times.map(|ms| ms.saturating_mul(1_000)));
            Ok(Arc::new(times.with_timezone("UTC")) as ArrayRef)
        }
        Column::Value => {
            let values = series.iter().flat_map(|series| series.values.iter().copied());
            Ok(Arc::new(Float64Array::from_iter_values(values)) as ArrayRef)
        }
        Column::Label(label) => label_array(label, rows, series),
    });
    let arrays = arrays.collect::<Result<Vec<_>, ArrowError>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema.clone(), arrays, &options)
}

/// Each value once, and its number at every row.
fn label_array(label: &str, rows: usize, series: &[SeriesRows<'_>]) -> Result<ArrayRef, ArrowError> {
    let mut numbers = std::collections::HashMap::new();
    let mut values = StringBuilder::new();
    let mut keys = Vec::with_capacity(rows);
    for series in series {
        let key = match series.labels.get(label) {
            "" => None,
            value => {
                let next = i32::try_from(numbers.len()).unwrap_or(i32::MAX);
                let key = numbers.entry(value).or_insert_with(|| {
                    values.append_value(value);
                    next
                });
                Some(*key)
            }
        };
        keys.extend(std::iter::repeat_n(key, series.times_ms.len()));
    }
    let array = DictionaryArray::<Int32Type>::try_new(Int32Array::from(keys), Arc::new(values.finish()))?;
    Ok(Arc::new(array))
}
