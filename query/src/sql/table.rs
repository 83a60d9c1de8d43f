//! A table of the storage as DataFusion sees it: Parquet files and the head's batches, at one moment.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use datafusion::{
    arrow::datatypes::SchemaRef,
    catalog::{Session, TableProvider},
    common::{DFSchema, Result, ScalarValue},
    datasource::{
        TableType,
        listing::PartitionedFile,
        memory::MemorySourceConfig,
        physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource},
        source::DataSourceExec,
    },
    error::DataFusionError,
    execution::{SendableRecordBatchStream, TaskContext, object_store::ObjectStoreUrl},
    logical_expr::{Between, BinaryExpr, Expr, Operator, TableProviderFilterPushDown, utils::conjunction},
    physical_plan::{
        ExecutionPlan,
        empty::EmptyExec,
        stream::RecordBatchStreamAdapter,
        streaming::{PartitionStream, StreamingTableExec},
        union::UnionExec,
    },
};
use futures::{TryFutureExt, TryStreamExt};
use pharos_model::{TimeRange, UnixNanos};
use pharos_storage::{Scan, ScanValue, Storage, Table, TableSnapshot};

pub(super) struct StorageTable {
    storage: Storage,
    table: Table,
}

impl StorageTable {
    pub(super) fn new(storage: Storage, table: Table) -> StorageTable {
        StorageTable { storage, table }
    }
}

impl fmt::Debug for StorageTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StorageTable({})", self.table.name())
    }
}

#[async_trait]
impl TableProvider for StorageTable {
    /// It may have got more columns by the time of the scan, after those that it has now.
    fn schema(&self) -> SchemaRef {
        self.storage.schema(self.table)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// Files, row groups and pages are left out by the filters; DataFusion filters what remains.
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
        let range = time_range(filters);
        let snapshot = self
            .storage
            .snapshot(self.table, range)
            .map_err(|error| DataFusionError::External(Box::new(error)))?;
        let schema = match projection {
            Some(columns) => Arc::new(snapshot.schema.project(columns)?),
            None => snapshot.schema.clone(),
        };
        let several = schema.fields().iter().any(|field| snapshot.is_made_of_several(field.name()));
        let head = match snapshot.head_in_memory() {
            Some(head) if !several && !snapshot.makes_rows() => head,
            _ => return storage_plan(snapshot, schema, filters, range, limit),
        };
        let mut plans: Vec<Arc<dyn ExecutionPlan>> = Vec::new();
        if !snapshot.files.is_empty() {
            plans.push(files_plan(&snapshot, state, projection, filters, limit)?);
        }
        if !head.is_empty() {
            plans.push(MemorySourceConfig::try_new_exec(&[head], self.table.schema(), projection.cloned())?);
        }
        match plans.len() {
            0 => Ok(Arc::new(EmptyExec::new(schema))),
            1 => plans.pop().ok_or_else(|| DataFusionError::Internal("a plan is missing".into())),
            _ => UnionExec::try_new(plans),
        }
    }
}

/// Attributes that are a column in one file and in the map in another, or both: the storage reads them, and leaves out
/// what it can by the filters.
fn storage_plan(
    snapshot: TableSnapshot,
    schema: SchemaRef,
    filters: &[Expr],
    range: TimeRange,
    limit: Option<usize>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    let mut scan = Scan::new(range).columns(names);
    filters.iter().for_each(|filter| add_equal(filter, &mut scan));
    // A filter that the storage does not know of may drop rows that the limit has counted.
    scan.limit = limit.filter(|_| filters.is_empty());
    let rows = Arc::new(Rows { snapshot, scan, schema: schema.clone() });
    Ok(Arc::new(StreamingTableExec::try_new(schema, vec![rows], None, [], false, limit)?))
}

/// Rows that the storage reads.
struct Rows {
    snapshot: TableSnapshot,
    scan: Scan,
    schema: SchemaRef,
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rows({:?})", self.scan)
    }
}

impl PartitionStream for Rows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (snapshot, scan) = (self.snapshot.clone(), self.scan.clone());
        let rows = async move { snapshot.read(&scan).await }.try_flatten_stream();
        let rows = rows.map_err(|error| DataFusionError::External(Box::new(error)));
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), rows))
    }
}

/// What the filter says of a column's value.
fn add_equal(filter: &Expr, scan: &mut Scan) {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = filter else { return };
    match op {
        Operator::And => {
            add_equal(left, scan);
            add_equal(right, scan);
        }
        Operator::Eq => {
            let (column, value) = match (&**left, &**right) {
                (Expr::Column(column), Expr::Literal(value, _))
                | (Expr::Literal(value, _), Expr::Column(column)) => (column, value),
                _ => return,
            };
            if let Some(value) = scan_value(value) {
                scan.equals.push((column.name.clone(), value));
            }
        }
        _ => {}
    }
}

fn scan_value(value: &ScalarValue) -> Option<ScanValue> {
    match value {
        ScalarValue::Dictionary(_, value) => scan_value(value),
        ScalarValue::Utf8(Some(text)) | ScalarValue::Utf8View(Some(text)) => {
            Some(ScanValue::Text(text.clone()))
        }
        ScalarValue::Int64(Some(number)) => Some(ScanValue::Int(*number)),
        ScalarValue::Int32(Some(number)) => Some(ScanValue::Int(i64::from(*number))),
        ScalarValue::Boolean(Some(flag)) => Some(ScanValue::Bool(*flag)),
        ScalarValue::Binary(Some(bytes)) => Some(ScanValue::Bytes(bytes.clone())),
        _ => None,
    }
}

fn files_plan(
    snapshot: &TableSnapshot,
    state: &dyn Session,
    projection: Option<&Vec<usize>>,
    filters: &[Expr],
    limit: Option<usize>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let url = ObjectStoreUrl::parse("pharos://tables")?;
    state.runtime_env().register_object_store(url.as_ref(), snapshot.object_store.clone());
    // Of the columns that are asked for here, every file has its own.
    let mut source = ParquetSource::new(snapshot.table.schema()).with_enable_page_index(true);
    if let Some(filter) = conjunction(filters.to_vec()) {
        let schema = DFSchema::try_from(snapshot.table.schema())?;
        source = source.with_predicate(state.create_physical_expr(filter, &schema)?);
    }
    let files = snapshot.files.iter().map(|file| {
        // The file stays on disk for as long as something holds it.
        PartitionedFile::new(file.path.as_ref(), file.size_bytes).with_extension(file.clone())
    });
    let groups = FileGroup::new(files.collect()).split_files(state.config().target_partitions());
    let config = FileScanConfigBuilder::new(url, Arc::new(source))
        .with_file_groups(groups)
        .with_projection_indices(projection.cloned())?
        .with_limit(limit)
        .build();
    Ok(DataSourceExec::from_data_source(config))
}

/// What the filters say of the column `time`, rounded outwards.
pub(super) fn time_range(filters: &[Expr]) -> TimeRange {
    let mut range = TimeRange::ALL;
    filters.iter().for_each(|filter| narrow(filter, &mut range));
    range
}

fn narrow(filter: &Expr, range: &mut TimeRange) {
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            narrow(left, range);
            narrow(right, range);
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let (op, time) = match (is_time(left), literal_ns(right), is_time(right), literal_ns(left)) {
                (true, Some(time), ..) => (Some(*op), time),
                (_, _, true, Some(time)) => (op.swap(), time),
                _ => return,
            };
            match op {
                Some(Operator::Gt | Operator::GtEq) => range.start = range.start.max(UnixNanos(time)),
                Some(Operator::Lt | Operator::LtEq) => range.end = range.end.min(after(time)),
                Some(Operator::Eq) => {
                    range.start = range.start.max(UnixNanos(time));
                    range.end = range.end.min(after(time));
                }
                _ => {}
            }
        }
        Expr::Between(Between { expr, negated: false, low, high }) if is_time(expr) => {
            if let (Some(low), Some(high)) = (literal_ns(low), literal_ns(high)) {
                range.start = range.start.max(UnixNanos(low));
                range.end = range.end.min(after(high));
            }
        }
        _ => {}
    }
}

/// The column has microseconds, so a time includes the nanoseconds that follow it.
fn after(time_ns: i64) -> UnixNanos {
    UnixNanos(time_ns).plus_nanos(1_000)
}

fn is_time(expr: &Expr) -> bool {
    matches!(expr, Expr::Column(column) if column.name == "time")
}

fn literal_ns(expr: &Expr) -> Option<i64> {
    let Expr::Literal(value, _) = expr else { return None };
    match value {
        ScalarValue::TimestampSecond(Some(time), _) => time.checked_mul(1_000_000_000),
        ScalarValue::TimestampMillisecond(Some(time), _) => time.checked_mul(1_000_000),
        ScalarValue::TimestampMicrosecond(Some(time), _) => time.checked_mul(1_000),
        ScalarValue::TimestampNanosecond(Some(time), _) => Some(*time),
        _ => None,
    }
}
