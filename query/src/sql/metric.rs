//! `metric('istio_requests_total{reporter="source"}')`: the samples that a selector selects, with labels as columns.

use std::{collections::VecDeque, fmt, sync::Arc};

use async_trait::async_trait;
use datafusion::{
    arrow::{array::RecordBatch, datatypes::SchemaRef},
    catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider},
    common::{Result, ScalarValue, plan_err},
    datasource::TableType,
    error::DataFusionError,
    execution::TaskContext,
    logical_expr::{BinaryExpr, Expr, Like, Operator, TableProviderFilterPushDown, expr::InList},
    physical_plan::{
        ExecutionPlan, SendableRecordBatchStream,
        stream::RecordBatchStreamAdapter,
        streaming::{PartitionStream, StreamingTableExec},
    },
};
use pharos_model::{Labels, METRIC_NAME, MatchOp, Matcher, SeriesId, TimeRange, is_stale};
use pharos_promql::parse_selector;
use pharos_storage::{Storage, StorageError};

use super::{
    series_rows::{Column, SeriesRows, batch_of, schema_of},
    table::time_range,
};

/// Samples that are read at once, by estimate.
const SAMPLES_A_READ: i64 = 1_000_000;

/// Makes a table of a selector.
#[derive(Clone)]
pub(super) struct MetricFunction {
    pub(super) storage: Storage,
    pub(super) max_series: usize,
}

impl fmt::Debug for MetricFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("metric")
    }
}

impl TableFunctionImpl for MetricFunction {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        let [Expr::Literal(ScalarValue::Utf8(Some(text)), _)] = args.exprs() else {
            return plan_err!(
                "metric takes one text: a metric's name or a selector such as 'up{{job=\"a\"}}'"
            );
        };
        let selector = parse_selector(text)
            .map_err(|error| DataFusionError::Plan(format!("metric({text:?}): {error}")))?;
        let matchers = selector.matchers;
        let is_named =
            matchers.iter().any(|matcher| matcher.name() == METRIC_NAME && matcher.op() == MatchOp::Equal);
        let labels = self.storage.label_names(&matchers, TimeRange::ALL);
        let labels = labels.into_iter().filter(|label| !is_named || label != METRIC_NAME);
        let columns = Column::all(labels);
        let schema = schema_of(&columns);
        Ok(Arc::new(MetricTable { function: self.clone(), matchers, columns, schema }))
    }
}

fn external(error: StorageError) -> DataFusionError {
    match error {
        error @ StorageError::TooManySeries { .. } => DataFusionError::Plan(error.to_string()),
        error => DataFusionError::External(Box::new(error)),
    }
}

#[derive(Debug)]
struct MetricTable {
    function: MetricFunction,
    matchers: Vec<Matcher>,
    columns: Vec<Column>,
    schema: SchemaRef,
}

#[async_trait]
impl TableProvider for MetricTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// The index leaves series out by the filters; DataFusion filters what remains.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut matchers = self.matchers.clone();
        for filter in filters {
            matchers.extend(self.matchers_of(filter));
        }
        let range = time_range(filters);
        let MetricFunction { storage, max_series } = &self.function;
        let mut series = storage.select_series(&matchers, range, *max_series).map_err(external)?;
        series.sort_by(|a, b| a.1.cmp(&b.1));
        let columns: Vec<Column> = match projection {
            Some(chosen) => chosen.iter().filter_map(|at| self.columns.get(*at).cloned()).collect(),
            None => self.columns.clone(),
        };
        let schema = schema_of(&columns);
        let share = series.len().div_ceil(state.config().target_partitions().max(1)).max(1);
        let mut partitions: Vec<Arc<dyn PartitionStream>> = Vec::new();
        while !series.is_empty() || partitions.is_empty() {
            let rest = series.split_off(share.min(series.len()));
            partitions.push(Arc::new(MetricPartition {
                storage: storage.clone(),
                series,
                range,
                columns: columns.clone(),
                schema: schema.clone(),
            }));
            series = rest;
        }
        let plan = StreamingTableExec::try_new(schema, partitions, None, [], false, limit)?;
        Ok(Arc::new(plan))
    }
}

impl MetricTable {
    fn label_of(&self, expr: &Expr) -> Option<&str> {
        let expr = match expr {
            Expr::Cast(cast) => &cast.expr,
            other => other,
        };
        let Expr::Column(column) = expr else { return None };
        self.columns.iter().find_map(|known| match known {
            Column::Label(label) if known.name() == column.name => Some(label.as_str()),
            _ => None,
        })
    }

    /// What a filter says of labels, at least.
    fn matchers_of(&self, filter: &Expr) -> Vec<Matcher> {
        // What is no expression of RE2 is left to DataFusion.
        let one = |label: &str, op, value: &str| Matcher::new(label, op, value).into_iter().collect();
        match filter {
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
                [self.matchers_of(left), self.matchers_of(right)].concat()
            }
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                let (label, text) = match (self.label_of(left), text_of(right)) {
                    (Some(label), Some(text)) => (label, text),
                    _ => match (self.label_of(right), text_of(left)) {
                        (Some(label), Some(text)) if matches!(op, Operator::Eq | Operator::NotEq) => {
                            (label, text)
                        }
                        _ => return Vec::new(),
                    },
                };
                match op {
                    // An absent label is null, which equals nothing.
                    Operator::Eq if !text.is_empty() => one(label, MatchOp::Equal, text),
                    Operator::NotEq => one(label, MatchOp::NotEqual, text),
                    Operator::RegexMatch => one(label, MatchOp::Regex, &format!("(?:.*(?:{text}).*)")),
                    _ => Vec::new(),
                }
            }
            Expr::InList(InList { expr, list, negated: false }) => {
                let texts: Option<Vec<&str>> = list.iter().map(text_of).collect();
                match (self.label_of(expr), texts) {
                    (Some(label), Some(texts)) if !texts.is_empty() => {
                        vec![Matcher::one_of(label, texts)]
                    }
                    _ => Vec::new(),
                }
            }
            Expr::Like(Like {
                negated: false,
                expr,
                pattern,
                escape_char: None,
                case_insensitive: false,
            }) => match (self.label_of(expr), text_of(pattern)) {
                (Some(label), Some(pattern)) if !pattern.contains('\\') => {
                    let regex = regex::escape(pattern).replace('%', ".*").replace('_', ".");
                    one(label, MatchOp::Regex, &regex)
                }
                _ => Vec::new(),
            },
            Expr::IsNotNull(expr) => {
                self.label_of(expr).map(|label| one(label, MatchOp::NotEqual, "")).unwrap_or_default()
            }
            _ => Vec::new(),
        }
    }
}

fn text_of(expr: &Expr) -> Option<&str> {
    let Expr::Literal(value, _) = expr else { return None };
    let value = match value {
        ScalarValue::Dictionary(_, value) => value,
        other => other,
    };
    match value {
        ScalarValue::Utf8(Some(text))
        | ScalarValue::LargeUtf8(Some(text))
        | ScalarValue::Utf8View(Some(text)) => Some(text),
        _ => None,
    }
}

/// Some of the series, read a few at a time while the query goes on.
struct MetricPartition {
    storage: Storage,
    series: Vec<(SeriesId, Labels)>,
    range: TimeRange,
    columns: Vec<Column>,
    schema: SchemaRef,
}

impl fmt::Debug for MetricPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MetricPartition({} series)", self.series.len())
    }
}

impl PartitionStream for MetricPartition {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let first_ms = self.range.start.millis();
        // The end does not belong to the range.
        let last_ms = self.range.end.plus_nanos(-1).millis();
        // At the usual scrape interval.
        let samples_each = (last_ms.saturating_sub(first_ms) / 15_000).clamp(1, SAMPLES_A_READ / 16);
        let at_once = usize::try_from(SAMPLES_A_READ / samples_each).unwrap_or(1).min(4_096);
        let chunks: VecDeque<Vec<(SeriesId, Labels)>> =
            self.series.chunks(at_once).map(<[_]>::to_vec).collect();
        let (storage, columns, schema) = (self.storage.clone(), self.columns.clone(), self.schema.clone());
        let batches = futures::stream::try_unfold(chunks, move |mut chunks| {
            let (storage, columns, schema) = (storage.clone(), columns.clone(), schema.clone());
            async move {
                let Some(some) = chunks.pop_front() else { return Ok(None) };
                let batch = read(&storage, &some, (first_ms, last_ms), &columns, &schema).await?;
                Ok(Some((batch, chunks)))
            }
        });
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), batches))
    }
}

/// Samples without the markers of series' ends.
async fn read(
    storage: &Storage,
    series: &[(SeriesId, Labels)],
    (first_ms, last_ms): (i64, i64),
    columns: &[Column],
    schema: &SchemaRef,
) -> Result<RecordBatch> {
    let ids: Vec<SeriesId> = series.iter().map(|(id, _)| *id).collect();
    let found = storage.read_samples(&ids, first_ms, last_ms).await.map_err(external)?;
    let mut found = found.into_iter().peekable();
    let histograms = storage.read_histograms(&ids, first_ms, last_ms).await.map_err(external)?;
    let mut histograms = histograms.into_iter().peekable();
    let mut rows = Vec::with_capacity(series.len());
    for (id, labels) in series {
        let floats = found.next_if(|column| column.id == *id);
        let floats = floats.iter().flat_map(|column| column.times_ms.iter().zip(&column.values));
        let floats = floats.filter(|(_, value)| !is_stale(**value));
        let (times_ms, values) = floats.map(|(time_ms, value)| (*time_ms, *value)).unzip();
        let own = histograms.next_if(|known| known.id == *id).map(|known| known.samples).unwrap_or_default();
        let own = own.into_iter().filter(|(_, histogram)| !histogram.is_stale());
        let histograms = own.map(|(time_ms, histogram)| (time_ms, Arc::new((&*histogram).into()))).collect();
        rows.push(SeriesRows { labels, times_ms, values, histograms });
    }
    Ok(batch_of(columns, schema, &rows)?)
}
