//! Samples of series as rows: `time`, `value` or `histogram`, and a column for each label.

use std::sync::Arc;

use datafusion::arrow::{
    array::{
        ArrayRef, DictionaryArray, Float64Array, Int32Array, ListArray, RecordBatch, RecordBatchOptions,
        StringBuilder, StructArray, TimestampMicrosecondArray,
    },
    buffer::{NullBuffer, OffsetBuffer},
    datatypes::{DataType, Field, Fields, Int32Type, Schema, SchemaRef, TimeUnit},
    error::ArrowError,
};
use pharos_model::Labels;
use pharos_promql::Histogram;

/// A row for each sample of a series: floats, then native histograms.
pub(super) struct SeriesRows<'s> {
    pub(super) labels: &'s Labels,
    pub(super) times_ms: Vec<i64>,
    pub(super) values: Vec<f64>,
    pub(super) histograms: Vec<(i64, Arc<Histogram>)>,
}

impl SeriesRows<'_> {
    fn len(&self) -> usize {
        self.times_ms.len() + self.histograms.len()
    }
}

/// What a column holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Column {
    Time,
    /// Null for a native histogram.
    Value,
    /// Count, sum and buckets of a native histogram; null for a float.
    Histogram,
    /// Null where a series lacks the label.
    Label(String),
}

impl Column {
    /// `time`, `value`, `histogram`, and the labels in their order.
    pub(super) fn all(labels: impl IntoIterator<Item = String>) -> Vec<Column> {
        let own = [Column::Time, Column::Value, Column::Histogram];
        own.into_iter().chain(labels.into_iter().map(Column::Label)).collect()
    }

    /// A label that is called as one of ours gets `label_` in front.
    pub(super) fn name(&self) -> String {
        match self {
            Column::Time => "time".into(),
            Column::Value => "value".into(),
            Column::Histogram => "histogram".into(),
            Column::Label(label) if matches!(label.as_str(), "time" | "value" | "histogram") => {
                format!("label_{label}")
            }
            Column::Label(label) => label.clone(),
        }
    }

    fn field(&self) -> Field {
        let (data_type, is_nullable) = match self {
            Column::Time => (DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
            Column::Value => (DataType::Float64, true),
            Column::Histogram => (DataType::Struct(histogram_fields()), true),
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
    let rows = series.iter().map(SeriesRows::len).sum();
    let arrays = columns.iter().map(|column| match column {
        Column::Time => {
            let times = series.iter().flat_map(|series| {
                series.times_ms.iter().chain(series.histograms.iter().map(|(time_ms, _)| time_ms))
            });
            let times = TimestampMicrosecondArray::from_iter_values(times.map(|ms| ms.saturating_mul(1_000)));
            Ok(Arc::new(times.with_timezone("UTC")) as ArrayRef)
        }
        Column::Value => {
            let values = series.iter().flat_map(|series| {
                let none = std::iter::repeat_n(None, series.histograms.len());
                series.values.iter().copied().map(Some).chain(none)
            });
            Ok(Arc::new(Float64Array::from_iter(values)) as ArrayRef)
        }
        Column::Histogram => histogram_array(series),
        Column::Label(label) => label_array(label, rows, series),
    });
    let arrays = arrays.collect::<Result<Vec<_>, ArrowError>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema.clone(), arrays, &options)
}

fn bucket_fields() -> Fields {
    ["lower", "upper", "count"].map(|name| Field::new(name, DataType::Float64, false)).into_iter().collect()
}

fn histogram_fields() -> Fields {
    let bucket = Field::new_list_field(DataType::Struct(bucket_fields()), false);
    let float = |name: &str| Field::new(name, DataType::Float64, false);
    [float("count"), float("sum"), Field::new_list("buckets", bucket, false)].into_iter().collect()
}

/// Buckets that are filled, from the lowest to the highest; bounds may be infinite.
fn histogram_array(series: &[SeriesRows<'_>]) -> Result<ArrayRef, ArrowError> {
    let (mut counts, mut sums, mut lengths, mut is_valid) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut buckets: [Vec<f64>; 3] = Default::default();
    for series in series {
        let floats = series.times_ms.len();
        counts.extend(std::iter::repeat_n(0.0, floats));
        sums.extend(std::iter::repeat_n(0.0, floats));
        lengths.extend(std::iter::repeat_n(0, floats));
        is_valid.extend(std::iter::repeat_n(false, floats));
        for (_, histogram) in &series.histograms {
            let [lower, upper, count] = &mut buckets;
            let before = count.len();
            for bucket in histogram.buckets().filter(|bucket| bucket.count != 0.0) {
                lower.push(bucket.lower);
                upper.push(bucket.upper);
                count.push(bucket.count);
            }
            lengths.push(count.len() - before);
            counts.push(histogram.count);
            sums.push(histogram.sum);
            is_valid.push(true);
        }
    }
    let floats = |values: Vec<f64>| Arc::new(Float64Array::from(values)) as ArrayRef;
    let buckets = StructArray::try_new(bucket_fields(), buckets.map(floats).into(), None)?;
    let item = Arc::new(Field::new_list_field(DataType::Struct(bucket_fields()), false));
    let lists = ListArray::try_new(item, OffsetBuffer::from_lengths(lengths), Arc::new(buckets), None)?;
    let columns = vec![floats(counts), floats(sums), Arc::new(lists) as ArrayRef];
    Ok(Arc::new(StructArray::try_new(histogram_fields(), columns, Some(NullBuffer::from(is_valid)))?))
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
        keys.extend(std::iter::repeat_n(key, series.len()));
    }
    let array = DictionaryArray::<Int32Type>::try_new(Int32Array::from(keys), Arc::new(values.finish()))?;
    Ok(Arc::new(array))
}
