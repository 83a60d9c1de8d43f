//! The newest rows of a table: times and tested columns are read first, from the newest row group backwards until
//! nothing newer can follow, and the other columns of the chosen rows only then.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    num::NonZero,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use arrow::{
    array::{BooleanArray, RecordBatch, UInt32Array},
    compute::{interleave_record_batch, take_record_batch},
};
use futures::{StreamExt, TryStreamExt, stream, stream::BoxStream};
use hashbrown::HashMap;
use parquet::arrow::{
    arrow_reader::{ArrowReaderMetadata, RowSelection},
    async_reader::ParquetRecordBatchStreamBuilder,
};

use super::{
    FileSource, TableSnapshot,
    predicate::{having, matching, times_ns},
    prune,
    scan::{FILES_AHEAD, Plan, mask},
};
use crate::{
    DataFile, StorageError, Table,
    flush::off_thread,
    head::Chunk,
    promoted::{Questions, View, Wanted},
};

/// Rows per batch of the answer.
const BATCH_ROWS: usize = 4_096;

/// Rows that are decoded at a time: few columns, many rows.
const READ_ROWS: usize = 65_536;

/// A part of the table that is read at once.
enum Part {
    Head(Chunk),
    RowGroup(RowGroup),
}

/// Time in nanoseconds, then number of the part and row within it.
type Candidate = (i64, usize, usize);

/// Time in nanoseconds, and row within a part.
type Found = (i64, usize);

/// The newest candidates, the oldest of them on top.
struct Newest {
    limit: usize,
    heap: BinaryHeap<Reverse<Candidate>>,
    needed: Needed,
}

impl Newest {
    fn new(limit: usize) -> Newest {
        Newest { limit, heap: BinaryHeap::new(), needed: Needed::default() }
    }

    fn offer(&mut self, candidate: Candidate) {
        if self.heap.len() < self.limit {
            self.heap.push(Reverse(candidate));
        } else if self.heap.peek().is_some_and(|Reverse(oldest)| candidate > *oldest) {
            self.heap.pop();
            self.heap.push(Reverse(candidate));
        }
        if let (true, Some(Reverse((oldest, ..)))) = (self.heap.len() >= self.limit, self.heap.peek()) {
            self.needed.0.store(*oldest, Ordering::Relaxed);
        }
    }
}

/// The time before which rows are too old to matter, as far as is known. It only grows.
#[derive(Clone)]
struct Needed(Arc<AtomicI64>);

impl Default for Needed {
    fn default() -> Needed {
        Needed(Arc::new(AtomicI64::new(i64::MIN)))
    }
}

impl Needed {
    /// Whether rows up to this microsecond may matter.
    fn reaches(&self, last_us: i64) -> bool {
        last_us.saturating_mul(1_000).saturating_add(999) >= self.0.load(Ordering::Relaxed)
    }
}

pub(super) async fn read(snapshot: &TableSnapshot, plan: &Plan) -> Result<Vec<RecordBatch>, StorageError> {
    let limit = plan.limit.unwrap_or(usize::MAX);
    if limit == 0 {
        return Ok(Vec::new());
    }
    let mut newest = Newest::new(limit);
    let mut parts: Vec<Part> = Vec::new();
    let head = View::of_head(plan.table);
    let mut offer = |chunk: Chunk, newest: &mut Newest| -> Result<(), StorageError> {
        let tested = head.show(&head.load(&chunk, &plan.tested)?, &plan.tested)?;
        let times = times_ns(&tested);
        let rows = matching(&tested, &times, plan.range, &plan.equals)?;
        for row in rows.values().set_indices() {
            newest.offer((times.get(row).copied().unwrap_or_default(), parts.len(), row));
        }
        parts.push(Part::Head(chunk));
        Ok(())
    };
    let mut chunks: Vec<&Chunk> = snapshot.head.iter().collect();
    chunks.sort_by_key(|chunk| Reverse(chunk.last_us()));
    for chunk in chunks {
        if !newest.needed.reaches(chunk.last_us()) {
            break;
        }
        offer(chunk.clone(), &mut newest)?;
    }
    if let Some(made) = &snapshot.made {
        for window in made.windows(plan.range).into_iter().rev() {
            if !newest.needed.reaches(window.end.micros()) {
                break;
            }
            offer(Chunk::new(made.batch(window).await?), &mut newest)?;
        }
    }
    let mut found = of_files(snapshot, plan, newest.needed.clone());
    while let Some((group, rows)) = found.try_next().await? {
        for (time, row) in rows {
            newest.offer((time, parts.len(), row));
        }
        parts.push(Part::RowGroup(group));
    }
    drop(found);
    collect(plan, parts, newest).await
}

/// Row groups of files with the times and places of their matching rows, from the newest on for as long as they are
/// needed. Some are read ahead, and those after them not before it is known what they found.
fn of_files(
    snapshot: &TableSnapshot,
    plan: &Plan,
    needed: Needed,
) -> BoxStream<'static, Result<(RowGroup, Vec<Found>), StorageError>> {
    let mut files: Vec<Arc<DataFile>> =
        snapshot.files.iter().filter(|file| file.overlaps(plan.range)).cloned().collect();
    files.sort_by_key(|file| Reverse(file.max_time));
    let (snapshot, plan) = (snapshot.clone(), Arc::new(plan.clone()));
    let (of_file, of_group) = (needed.clone(), needed);
    let planned = plan.clone();
    stream::iter(files)
        .filter(move |file| std::future::ready(of_file.reaches(file.max_time.micros())))
        .map(move |file| {
            let (snapshot, plan) = (snapshot.clone(), planned.clone());
            off_thread(async move { row_groups(&snapshot, &plan, file).await })
        })
        .buffered(FILES_AHEAD)
        .map_ok(|groups| stream::iter(groups.into_iter().map(Ok)))
        .try_flatten()
        .try_filter(move |group| std::future::ready(of_group.reaches(group.last_us)))
        .map_ok(move |group| {
            let plan = plan.clone();
            off_thread(async move { choose(&plan, &group).await.map(|rows| (group, rows)) })
        })
        .try_buffered(groups_ahead())
        .try_filter(|(_, rows)| std::future::ready(!rows.is_empty()))
        .boxed()
}

/// Row groups that are decoded at one time.
fn groups_ahead() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

/// The row groups of a file that may have matching rows, newest first.
async fn row_groups(
    snapshot: &TableSnapshot,
    plan: &Plan,
    file: Arc<DataFile>,
) -> Result<Vec<RowGroup>, StorageError> {
    let mut source = FileSource::new(snapshot.object_store.clone(), file);
    let footer = source.footer(&snapshot.footers).await?;
    let view = Arc::new(View::of_file(plan.table, &footer));
    let Some(questions) = view.questions(&plan.equals) else { return Ok(Vec::new()) };
    let questions = Arc::new(questions);
    let mut builder = ParquetRecordBatchStreamBuilder::new_with_metadata(source.clone(), footer.clone());
    let mut groups = Vec::new();
    for number in prune::row_groups(&mut source, &mut builder, plan.range, &questions).await? {
        let (_, last_us) = prune::times_us(&builder, number)?;
        groups.push(RowGroup {
            source: source.clone(),
            footer: footer.clone(),
            view: view.clone(),
            questions: questions.clone(),
            number,
            last_us,
        });
    }
    groups.sort_by_key(|group| Reverse((group.last_us, group.number)));
    Ok(groups)
}

/// A row group of a file.
struct RowGroup {
    source: FileSource,
    footer: ArrowReaderMetadata,
    view: Arc<View>,
    questions: Arc<Questions>,
    number: usize,
    last_us: i64,
}

impl RowGroup {
    fn builder(&self) -> prune::Builder {
        ParquetRecordBatchStreamBuilder::new_with_metadata(self.source.clone(), self.footer.clone())
    }

    /// These columns of the rows of a selection.
    async fn read(
        &self,
        selection: RowSelection,
        wanted: &[Wanted],
    ) -> Result<BoxStream<'static, Result<RecordBatch, StorageError>>, StorageError> {
        let builder = self.builder();
        let mask = mask(&self.view, &builder, wanted);
        let rows = builder
            .with_row_groups(vec![self.number])
            .with_row_selection(selection)
            .with_projection(mask)
            .with_batch_size(READ_ROWS)
            .build()?;
        let (view, wanted) = (self.view.clone(), wanted.to_vec());
        let shown = move |batch| std::future::ready(view.show(&batch, &wanted).map_err(StorageError::from));
        Ok(rows.map_err(StorageError::from).and_then(shown).boxed())
    }
}

/// Time in nanoseconds and place of each matching row. What they are compared by is read first, and their times only if
/// there are any.
async fn choose(plan: &Plan, group: &RowGroup) -> Result<Vec<Found>, StorageError> {
    let mut selection = prune::pages(&group.builder(), group.number, plan.range, &group.questions)?;
    if !plan.equals.is_empty() {
        let mut batches = group.read(selection.clone(), plan.compared()).await?;
        let mut equal: Vec<BooleanArray> = Vec::new();
        while let Some(batch) = batches.try_next().await? {
            equal.push(BooleanArray::new(having(&batch, &plan.equals)?, None));
        }
        if equal.iter().all(|batch| batch.true_count() == 0) {
            return Ok(Vec::new());
        }
        selection = selection.and_then(&RowSelection::from_filters(&equal));
    }
    let mut places = selected_rows(&selection);
    let mut chosen = Vec::new();
    let mut batches = group.read(selection, plan.times()).await?;
    while let Some(batch) = batches.try_next().await? {
        let times = times_ns(&batch);
        let fits = matching(&batch, &times, plan.range, &[])?;
        for (time, fits) in times.iter().zip(fits.values()) {
            if let (Some(place), true) = (places.next(), fits) {
                chosen.push((*time, place));
            }
        }
    }
    Ok(chosen)
}

fn selected_rows(selection: &RowSelection) -> impl Iterator<Item = usize> + use<> {
    let mut start = 0;
    let mut ranges = Vec::new();
    for selector in selection.iter() {
        if !selector.skip {
            ranges.push(start..start + selector.row_count);
        }
        start += selector.row_count;
    }
    ranges.into_iter().flatten()
}

async fn collect(plan: &Plan, parts: Vec<Part>, newest: Newest) -> Result<Vec<RecordBatch>, StorageError> {
    let mut chosen: Vec<Candidate> = newest.heap.into_iter().map(|Reverse(candidate)| candidate).collect();
    let mut rows_of: HashMap<usize, Vec<usize>> = HashMap::new();
    for (_, part, row) in &chosen {
        rows_of.entry(*part).or_default().push(*row);
    }
    let wanted = parts.into_iter().enumerate().filter_map(|(number, part)| {
        let mut rows = rows_of.remove(&number)?;
        rows.sort_unstable();
        Some((number, part, rows))
    });
    let output = Arc::new((plan.table, plan.output.clone()));
    let mut read = stream::iter(wanted)
        .map(|(number, part, rows)| {
            let output = output.clone();
            off_thread(async move { Ok((number, part.rows(output.0, &output.1, &rows).await?, rows)) })
        })
        .buffered(groups_ahead());
    // Where each chosen row ends up among the batches that are read.
    let mut places: HashMap<(usize, usize), (usize, usize)> = HashMap::new();
    let mut batches: Vec<RecordBatch> = Vec::new();
    while let Some((number, read, rows)) = read.try_next().await? {
        let mut rows = rows.into_iter();
        for batch in read {
            let found = rows.by_ref().take(batch.num_rows()).enumerate();
            places.extend(found.map(|(place, row)| ((number, row), (batches.len(), place))));
            batches.push(batch);
        }
    }
    chosen.sort_unstable_by(|left, right| right.cmp(left));
    let order: Vec<(usize, usize)> =
        chosen.iter().filter_map(|(_, part, row)| places.get(&(*part, *row)).copied()).collect();
    let batches: Vec<&RecordBatch> = batches.iter().collect();
    order.chunks(BATCH_ROWS).map(|order| Ok(interleave_record_batch(&batches, order)?)).collect()
}

impl Part {
    /// These columns of these rows, which are in order.
    async fn rows(
        &self,
        table: Table,
        wanted: &[Wanted],
        rows: &[usize],
    ) -> Result<Vec<RecordBatch>, StorageError> {
        match self {
            Part::Head(chunk) => {
                let head = View::of_head(table);
                let places: UInt32Array = rows.iter().map(|row| *row as u32).collect();
                let batch = take_record_batch(&head.load(chunk, wanted)?, &places)?;
                Ok(vec![head.show(&batch, wanted)?])
            }
            Part::RowGroup(group) => {
                let total = group.builder().metadata().row_group(group.number).num_rows().max(0) as usize;
                let ranges = rows.iter().map(|row| *row..row + 1);
                let selection = RowSelection::from_consecutive_ranges(ranges, total);
                group.read(selection, wanted).await?.try_collect().await
            }
        }
    }
}
