use arrow::{
    array::{BooleanArray, RecordBatch},
    compute::filter_record_batch,
    error::ArrowError,
};
use futures::{Stream, StreamExt, TryStreamExt, stream, stream::BoxStream};
use parquet::arrow::{
    ProjectionMask,
    arrow_reader::{ArrowPredicate, ArrowPredicateFn, RowFilter, RowSelection},
    async_reader::ParquetRecordBatchStreamBuilder,
};
use pharos_model::TimeRange;

use super::{
    FileSource, MetricEdges, ScanValue, TableSnapshot, newest,
    predicate::{NANOS_COLUMNS, having, matching, times_ns},
    prune,
};
use crate::{
    DataFile, StorageError, Table,
    flush::off_thread,
    head::Chunk,
    promoted::{View, Wanted},
};

/// Rows per batch read from a file.
const BATCH_ROWS: usize = 8_192;

/// Which rows and columns of a table to read.
#[derive(Clone, Debug)]
pub struct Scan {
    /// In this order; `None` is all of the table's own, without the attributes that are columns by themselves, which
    /// are in their map then. `attributes.<key>` is the attribute of that key, promoted or not.
    pub columns: Option<Vec<String>>,
    /// Of the column `time`. An end of `UnixNanos::MAX` includes the last instant.
    pub range: TimeRange,
    /// Columns with the value that they must have. An attribute that is compared with a text is compared as text,
    /// whatever its type is.
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
    pub(super) table: Table,
    pub(super) range: TimeRange,
    pub(super) limit: Option<usize>,
    pub(super) equals: Vec<(Wanted, ScanValue)>,
    /// What the answer has.
    pub(super) output: Vec<Wanted>,
    /// The time, and what it is compared by.
    pub(super) tested: Vec<Wanted>,
}

impl Plan {
    fn new(snapshot: &TableSnapshot, scan: &Scan) -> Result<Plan, StorageError> {
        let (table, promoted) = (snapshot.table, &snapshot.promoted);
        let missing =
            |column: &str| StorageError::NoColumn { table: table.name(), column: column.to_string() };
        let wanted = |name: &str| Wanted::new(table, promoted, name).ok_or_else(|| missing(name));
        let output = match &scan.columns {
            Some(columns) => columns.iter().map(|name| wanted(name)).collect::<Result<Vec<_>, _>>()?,
            None => table.schema().fields().iter().map(|field| Wanted::Own(field.clone())).collect(),
        };
        let mut equals = Vec::with_capacity(scan.equals.len());
        for (name, value) in &scan.equals {
            let column = Wanted::to_compare(table, promoted, name, value).ok_or_else(|| missing(name))?;
            equals.push((column, value.clone()));
        }
        let nanos = NANOS_COLUMNS.into_iter().find(|name| table.schema().field_with_name(name).is_ok());
        let times = ["time"].into_iter().chain(nanos).map(wanted).collect::<Result<Vec<_>, _>>()?;
        let tested = times.into_iter().chain(equals.iter().map(|(column, _)| column.clone())).collect();
        Ok(Plan { table, range: scan.range, limit: scan.limit, equals, output, tested })
    }

    /// Of `tested`, the columns that make up the time.
    pub(super) fn times(&self) -> &[Wanted] {
        self.tested.get(..self.tested.len() - self.equals.len()).unwrap_or_default()
    }

    /// Of `tested`, those that are compared with a value.
    pub(super) fn compared(&self) -> &[Wanted] {
        self.tested.get(self.tested.len() - self.equals.len()..).unwrap_or_default()
    }
}

/// The columns of a file that have to be read for those that are wanted.
pub(super) fn mask(view: &View, builder: &prune::Builder, wanted: &[Wanted]) -> ProjectionMask {
    let names = view.reads(wanted);
    let roots =
        builder.schema().fields().iter().enumerate().filter(|(_, field)| names.contains(field.name()));
    ProjectionMask::roots(builder.parquet_schema(), roots.map(|(at, _)| at))
}

impl TableSnapshot {
    /// The rows that the scan asks for. Unless it asks for the newest first, they come in the order of files, each
    /// sorted as its table is, and those of the head last, before those that are made as they are read.
    pub async fn read(
        &self,
        scan: &Scan,
    ) -> Result<BoxStream<'static, Result<RecordBatch, StorageError>>, StorageError> {
        self.read_with(scan, self.made.clone()).await
    }

    /// As `read`, but for the rows that are made as they are read.
    pub(super) async fn read_stored(
        &self,
        scan: &Scan,
    ) -> Result<BoxStream<'static, Result<RecordBatch, StorageError>>, StorageError> {
        self.read_with(scan, None).await
    }

    async fn read_with(
        &self,
        scan: &Scan,
        made: Option<MetricEdges>,
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
            .map(move |file| {
                let (snapshot, plan) = (snapshot.clone(), of_files.clone());
                off_thread(async move { Ok(file_stream(&snapshot, &plan, file).await?.map(ahead)) })
            })
            .buffered(FILES_AHEAD)
            .try_filter_map(|rows| std::future::ready(Ok(rows)))
            .try_flatten();
        let windows = made.iter().flat_map(|made| made.windows(plan.range)).collect::<Vec<_>>();
        let made = stream::iter(windows.into_iter().zip(std::iter::repeat(made)))
            .filter_map(|(window, made)| async move { Some(made?.batch(window).await.map(Chunk::new)) });
        let head: Vec<Chunk> = self.head.iter().filter(|chunk| chunk.overlaps(scan.range)).cloned().collect();
        let from_head = stream::iter(head).map(Ok).chain(made).map(move |chunk| rows_of_head(&plan, &chunk?));
        let rows = from_files.chain(from_head).try_filter(|batch| std::future::ready(batch.num_rows() > 0));
        Ok(ahead(match scan.limit {
            Some(limit) => first_rows(rows.boxed(), limit).boxed(),
            None => rows.boxed(),
        }))
    }
}

/// The rows of a chunk of the head that the scan asks for. What they are tested by is read first.
fn rows_of_head(plan: &Plan, chunk: &Chunk) -> Result<RecordBatch, StorageError> {
    let head = View::of_head(plan.table);
    let tested = head.show(&head.load(chunk, &plan.tested)?, &plan.tested)?;
    let rows = matching(&tested, &times_ns(&tested), plan.range, &plan.equals)?;
    if rows.true_count() == 0 {
        return Ok(RecordBatch::new_empty(tested.schema()));
    }
    let batch = head.load(chunk, &plan.output)?;
    Ok(head.show(&filter_record_batch(&batch, &rows)?, &plan.output)?)
}

/// Files that are read at one time: they are asked for together, and each is decoded in a thread of its own.
pub(super) const FILES_AHEAD: usize = 4;

/// Batches of each file that are decoded before anyone asks for them.
const READ_AHEAD: usize = 1;

/// Decodes on a thread where blocking hurts nobody, until the stream that is returned is dropped.
fn ahead(
    mut rows: BoxStream<'static, Result<RecordBatch, StorageError>>,
) -> BoxStream<'static, Result<RecordBatch, StorageError>> {
    let (sender, receiver) = tokio::sync::mpsc::channel(READ_AHEAD);
    let runtime = tokio::runtime::Handle::current();
    let reader = tokio::task::spawn_blocking(move || {
        runtime.block_on(async move {
            while let Some(batch) = rows.next().await {
                if sender.send(batch).await.is_err() {
                    break;
                }
            }
        });
    });
    stream::unfold((receiver, Some(reader)), |(mut receiver, mut reader)| async move {
        if let Some(batch) = receiver.recv().await {
            return Some((batch, (receiver, reader)));
        }
        // A reader that broke down has not come to the end.
        let error = reader.take()?.await.err()?;
        Some((Err(StorageError::DataDir(error.to_string())), (receiver, reader)))
    })
    .boxed()
}

/// `None` if the file can have no such row.
async fn file_stream(
    snapshot: &TableSnapshot,
    plan: &Plan,
    file: std::sync::Arc<DataFile>,
) -> Result<Option<BoxStream<'static, Result<RecordBatch, StorageError>>>, StorageError> {
    let path = file.path.clone();
    let mut source = FileSource::new(snapshot.object_store.clone(), file);
    let footer = source.footer(&snapshot.footers).await?;
    let view = View::of_file(plan.table, &footer);
    let Some(questions) = view.questions(&plan.equals) else { return Ok(None) };
    let mut builder = ParquetRecordBatchStreamBuilder::new_with_metadata(source.clone(), footer);
    let groups = prune::row_groups(&mut source, &mut builder, plan.range, &questions).await?;
    if groups.is_empty() {
        return Ok(None);
    }
    let mut selectors = Vec::new();
    for group in &groups {
        let pages: Vec<_> = prune::pages(&builder, *group, plan.range, &questions)?.into();
        selectors.extend(pages);
    }
    let mut tests: Vec<Box<dyn ArrowPredicate>> = Vec::new();
    if !plan.equals.is_empty() {
        let (compared, equals) = (plan.compared().to_vec(), plan.equals.clone());
        let test = move |batch: &RecordBatch| Ok(BooleanArray::new(having(batch, &equals)?, None));
        tests.push(predicate(&view, &builder, compared, test));
    }
    // Times are read of the rows that are left, and only where statistics do not tell enough.
    if !prune::all_within(&builder, &groups, plan.range) {
        let range = plan.range;
        let test = move |batch: &RecordBatch| matching(batch, &times_ns(batch), range, &[]);
        tests.push(predicate(&view, &builder, plan.times().to_vec(), test));
    }
    let columns = mask(&view, &builder, &plan.output);
    let rows = builder
        .with_row_groups(groups)
        .with_row_selection(RowSelection::from(selectors))
        .with_row_filter(RowFilter::new(tests))
        .with_projection(columns)
        .with_batch_size(BATCH_ROWS)
        .build()?;
    let output = plan.output.clone();
    let rows = rows
        .map_err(move |error| StorageError::of_file(&path, error))
        .and_then(move |batch| std::future::ready(view.show(&batch, &output).map_err(StorageError::from)));
    Ok(Some(rows.boxed()))
}

/// A test of rows by these columns.
fn predicate(
    view: &View,
    builder: &prune::Builder,
    columns: Vec<Wanted>,
    test: impl Fn(&RecordBatch) -> Result<BooleanArray, StorageError> + Send + 'static,
) -> Box<dyn ArrowPredicate> {
    let (mask, view) = (mask(view, builder, &columns), view.clone());
    Box::new(ArrowPredicateFn::new(mask, move |batch: RecordBatch| {
        test(&view.show(&batch, &columns)?).map_err(|error| ArrowError::ExternalError(Box::new(error)))
    }))
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
