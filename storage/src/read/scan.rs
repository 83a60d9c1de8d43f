use arrow::{array::RecordBatch, compute::filter_record_batch};
use futures::{Stream, StreamExt, TryStreamExt, stream, stream::BoxStream};
use parquet::arrow::{
    ProjectionMask,
    arrow_reader::{ArrowPredicateFn, RowFilter, RowSelection},
    async_reader::ParquetRecordBatchStreamBuilder,
};
use pharos_model::TimeRange;

use super::{
    FileSource, ScanValue, TableSnapshot, newest,
    predicate::{NANOS_COLUMNS, matching, times_ns},
    prune,
};
use crate::{DataFile, StorageError, flush::off_thread};

/// Rows per batch read from a file.
const BATCH_ROWS: usize = 8_192;

/// Which rows and columns of a table to read.
#[derive(Clone, Debug)]
pub struct Scan {
    /// In this order; `None` is all of them.
    pub columns: Option<Vec<String>>,
    /// Of the column `time`. An end of `UnixNanos::MAX` includes the last instant.
    pub range: TimeRange,
    /// Columns with the value that they must have.
    pub equals: Vec<(String, ScanValue)>,
    /// Latest rows first. Needs a `limit` that fits in memory, since the rows are sorted; without one all matching
    /// rows are.
    pub newest_first: bool,
    pub limit: Option<usize>,
}

impl Scan {
    pub fn new(range: TimeRange) -> Scan {
        Scan { columns: None, range, equals: Vec::new(), newest_first: false, limit: None }
    }

    #[must_use]
    pub fn columns<N: Into<String>>(mut self, columns: impl IntoIterator<Item = N>) -> Scan {
        self.columns = Some(columns.into_iter().map(Into::into).collect());
        self
    }

    #[must_use]
    pub fn equal(mut self, column: impl Into<String>, value: ScanValue) -> Scan {
        self.equals.push((column.into(), value));
        self
    }

    #[must_use]
    pub fn newest_first(mut self) -> Scan {
        self.newest_first = true;
        self
    }

    #[must_use]
    pub fn limit(mut self, limit: usize) -> Scan {
        self.limit = Some(limit);
        self
    }
}

/// A scan whose columns are known to exist.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) scan: Scan,
    /// What the answer has.
    pub(super) output: Vec<String>,
    /// What the choice of rows needs.
    pub(super) tested: Vec<String>,
}

impl Plan {
    fn new(snapshot: &TableSnapshot, scan: &Scan) -> Result<Plan, StorageError> {
        let schema = &snapshot.schema;
        let output = match &scan.columns {
            Some(columns) => columns.clone(),
            None => schema.fields().iter().map(|field| field.name().clone()).collect(),
        };
        for column in output.iter().chain(scan.equals.iter().map(|(column, _)| column)) {
            if schema.field_with_name(column).is_err() {
                return Err(StorageError::NoColumn { table: snapshot.table.name(), column: column.clone() });
            }
        }
        let nanos = NANOS_COLUMNS.into_iter().find(|name| schema.field_with_name(name).is_ok());
        let tested =
            ["time"].into_iter().chain(nanos).chain(scan.equals.iter().map(|(column, _)| column.as_str()));
        let tested = tested.map(str::to_string).collect();
        Ok(Plan { scan: scan.clone(), output, tested })
    }

    pub(super) fn project(&self, batch: &RecordBatch) -> Result<RecordBatch, StorageError> {
        let schema = batch.schema();
        let places = self.output.iter().map(|name| schema.index_of(name)).collect::<Result<Vec<_>, _>>()?;
        Ok(batch.project(&places)?)
    }

    pub(super) fn mask(&self, builder: &prune::Builder, columns: &[String]) -> ProjectionMask {
        ProjectionMask::columns(builder.parquet_schema(), columns.iter().map(String::as_str))
    }
}

impl TableSnapshot {
    /// The rows that the scan asks for. Unless it asks for the newest first, they come in the order of files, each
    /// sorted as its table is, and those of the head last.
    pub async fn read(
        &self,
        scan: &Scan,
    ) -> Result<BoxStream<'static, Result<RecordBatch, StorageError>>, StorageError> {
        let plan = Plan::new(self, scan)?;
        if scan.newest_first {
            let snapshot = self.clone();
            let batches = off_thread(async move { newest::read(&snapshot, &plan).await }).await?;
            return Ok(stream::iter(batches.into_iter().map(Ok)).boxed());
        }
        let files: Vec<_> = self.files.iter().filter(|file| file.overlaps(scan.range)).cloned().collect();
        let (snapshot, of_files) = (self.clone(), plan.clone());
        let from_files = stream::iter(files)
            .then(move |file| {
                let (snapshot, plan) = (snapshot.clone(), of_files.clone());
                async move { file_stream(&snapshot, &plan, file).await }
            })
            .try_flatten();
        let from_head = stream::iter(self.head.clone()).map(move |batch| {
            let rows = matching(&batch, &times_ns(&batch), plan.scan.range, &plan.scan.equals)?;
            Ok(filter_record_batch(&plan.project(&batch)?, &rows)?)
        });
        let rows = from_files.chain(from_head).try_filter(|batch| std::future::ready(batch.num_rows() > 0));
        Ok(ahead(match scan.limit {
            Some(limit) => first_rows(rows.boxed(), limit).boxed(),
            None => rows.boxed(),
        }))
    }
}

/// Batches that are decoded before anyone asks for them.
const READ_AHEAD: usize = 2;

/// Decodes on a thread where blocking hurts nobody, until the stream that is returned is dropped.
fn ahead(
    mut rows: BoxStream<'static, Result<RecordBatch, StorageError>>,
) -> BoxStream<'static, Result<RecordBatch, StorageError>> {
    let (sender, receiver) = tokio::sync::mpsc::channel(READ_AHEAD);
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || {
        runtime.block_on(async move {
            while let Some(batch) = rows.next().await {
                if sender.send(batch).await.is_err() {
                    break;
                }
            }
        });
    });
    stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) }).boxed()
}

async fn file_stream(
    snapshot: &TableSnapshot,
    plan: &Plan,
    file: std::sync::Arc<DataFile>,
) -> Result<BoxStream<'static, Result<RecordBatch, StorageError>>, StorageError> {
    let path = file.path.clone();
    let mut source = FileSource::new(snapshot.object_store.clone(), file);
    let footer = source.footer(&snapshot.footers).await?;
    let mut builder = ParquetRecordBatchStreamBuilder::new_with_metadata(source, footer);
    let (range, equals) = (plan.scan.range, plan.scan.equals.clone());
    let groups = prune::row_groups(&mut builder, range, &equals).await?;
    let mut selectors = Vec::new();
    for group in &groups {
        let pages: Vec<_> = prune::pages(&builder, *group, range, &equals)?.into();
        selectors.extend(pages);
    }
    let predicate = ArrowPredicateFn::new(plan.mask(&builder, &plan.tested), move |batch: RecordBatch| {
        matching(&batch, &times_ns(&batch), range, &equals)
            .map_err(|error| arrow::error::ArrowError::ExternalError(Box::new(error)))
    });
    let mask = plan.mask(&builder, &plan.output);
    let rows = builder
        .with_row_groups(groups)
        .with_row_selection(RowSelection::from(selectors))
        .with_row_filter(RowFilter::new(vec![Box::new(predicate)]))
        .with_projection(mask)
        .with_batch_size(BATCH_ROWS)
        .build()?;
    let plan = plan.clone();
    Ok(rows
        .map_err(move |error| StorageError::of_file(&path, error))
        .and_then(move |batch| std::future::ready(plan.project(&batch)))
        .boxed())
}

fn first_rows(
    rows: BoxStream<'static, Result<RecordBatch, StorageError>>,
    limit: usize,
) -> impl Stream<Item = Result<RecordBatch, StorageError>> + Send + 'static {
    stream::try_unfold((rows, limit), |(mut rows, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        Ok(rows.try_next().await?.map(|batch| {
            let batch = batch.slice(0, batch.num_rows().min(left));
            let left = left - batch.num_rows();
            (batch, (rows, left))
        }))
    })
}
