//! The newest rows of a table: times and tested columns are read first, from the newest row group backwards until
//! nothing newer can follow, and the other columns of the chosen rows only then.

use std::{cmp::Reverse, collections::BinaryHeap, sync::Arc};

use arrow::{
    array::{BooleanArray, RecordBatch, UInt32Array},
    compute::{interleave_record_batch, take_record_batch},
};
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use hashbrown::HashMap;
use parquet::arrow::{
    arrow_reader::{ArrowReaderMetadata, RowSelection},
    async_reader::ParquetRecordBatchStreamBuilder,
};

use super::{
    FileSource, TableSnapshot,
    predicate::{having, matching, times_ns},
    prune,
    scan::{Plan, mask},
};
use crate::{
    DataFile, StorageError,
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

/// The newest candidates, the oldest of them on top.
struct Newest {
    limit: usize,
    heap: BinaryHeap<Reverse<Candidate>>,
}

impl Newest {
    fn offer(&mut self, candidate: Candidate) {
        if self.heap.len() < self.limit {
            self.heap.push(Reverse(candidate));
        } else if self.heap.peek().is_some_and(|Reverse(oldest)| candidate > *oldest) {
            self.heap.pop();
            self.heap.push(Reverse(candidate));
        }
    }

    /// Whether rows up to this microsecond are too old to matter.
    fn is_beyond(&self, last_us: i64) -> bool {
        let full = self.heap.len() >= self.limit;
        full && self
            .heap
            .peek()
            .is_none_or(|Reverse((time, ..))| last_us.saturating_mul(1_000).saturating_add(999) < *time)
    }
}

pub(super) async fn read(snapshot: &TableSnapshot, plan: &Plan) -> Result<Vec<RecordBatch>, StorageError> {
    let limit = plan.limit.unwrap_or(usize::MAX);
    if limit == 0 {
        return Ok(Vec::new());
    }
    let mut newest = Newest { limit, heap: BinaryHeap::new() };
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
        if newest.is_beyond(chunk.last_us()) {
            break;
        }
        offer(chunk.clone(), &mut newest)?;
    }
    if let Some(made) = &snapshot.made {
        for window in made.windows(plan.range).into_iter().rev() {
            if newest.is_beyond(window.end.micros()) {
                break;
            }
            offer(Chunk::new(made.batch(window).await?), &mut newest)?;
        }
    }
    let mut files: Vec<&Arc<DataFile>> =
        snapshot.files.iter().filter(|file| file.overlaps(plan.range)).collect();
    files.sort_by_key(|file| Reverse(file.max_time));
    for file in files {
        if newest.is_beyond(file.max_time.micros()) {
            break;
        }
        for part in row_groups(snapshot, plan, file.clone()).await? {
            if let Part::RowGroup(group) = &part
                && !newest.is_beyond(group.last_us)
            {
                choose(plan, group, parts.len(), &mut newest).await?;
                parts.push(part);
            }
        }
    }
    collect(plan, &parts, newest).await
}

/// The row groups of a file that may have matching rows, newest first.
async fn row_groups(
    snapshot: &TableSnapshot,
    plan: &Plan,
    file: Arc<DataFile>,
) -> Result<Vec<Part>, StorageError> {
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
    Ok(groups.into_iter().map(Part::RowGroup).collect())
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

/// Offers the matching rows. What they are compared by is read first, and their times only if there are any.
async fn choose(plan: &Plan, group: &RowGroup, part: usize, newest: &mut Newest) -> Result<(), StorageError> {
    let mut selection = prune::pages(&group.builder(), group.number, plan.range, &group.questions)?;
    if !plan.equals.is_empty() {
        let compared: Vec<Wanted> = plan.equals.iter().map(|(column, _)| column.clone()).collect();
        let mut batches = group.read(selection.clone(), &compared).await?;
        let mut equal: Vec<BooleanArray> = Vec::new();
        while let Some(batch) = batches.try_next().await? {
            equal.push(BooleanArray::new(having(&batch, &plan.equals)?, None));
        }
        if equal.iter().all(|batch| batch.true_count() == 0) {
            return Ok(());
        }
        selection = selection.and_then(&RowSelection::from_filters(&equal));
    }
    let mut rows = selected_rows(&selection);
    let times = plan.tested.get(..plan.tested.len() - plan.equals.len()).unwrap_or_default();
    let mut batches = group.read(selection, times).await?;
    while let Some(batch) = batches.try_next().await? {
        let times = times_ns(&batch);
        let fits = matching(&batch, &times, plan.range, &[])?;
        for (time, fits) in times.iter().zip(fits.values()) {
            if let (Some(row), true) = (rows.next(), fits) {
                newest.offer((*time, part, row));
            }
        }
    }
    Ok(())
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

async fn collect(plan: &Plan, parts: &[Part], newest: Newest) -> Result<Vec<RecordBatch>, StorageError> {
    let mut chosen: Vec<Candidate> = newest.heap.into_iter().map(|Reverse(candidate)| candidate).collect();
    let mut rows_of: HashMap<usize, Vec<usize>> = HashMap::new();
    for (_, part, row) in &chosen {
        rows_of.entry(*part).or_default().push(*row);
    }
    // Where each chosen row ends up among the batches that are read.
    let mut places: HashMap<(usize, usize), (usize, usize)> = HashMap::new();
    let mut batches: Vec<RecordBatch> = Vec::new();
    for (number, part) in parts.iter().enumerate() {
        let Some(rows) = rows_of.get_mut(&number) else { continue };
        rows.sort_unstable();
        let read = match part {
            Part::Head(chunk) => {
                let head = View::of_head(plan.table);
                let wanted: UInt32Array = rows.iter().map(|row| *row as u32).collect();
                let batch = take_record_batch(&head.load(chunk, &plan.output)?, &wanted)?;
                vec![head.show(&batch, &plan.output)?]
            }
            Part::RowGroup(group) => {
                let total = group.builder().metadata().row_group(group.number).num_rows().max(0) as usize;
                let ranges = rows.iter().map(|row| *row..row + 1);
                let selection = RowSelection::from_consecutive_ranges(ranges, total);
                group.read(selection, &plan.output).await?.try_collect().await?
            }
        };
        let mut rows = rows.iter();
        for batch in read {
            let found = rows.by_ref().take(batch.num_rows()).enumerate();
            places.extend(found.map(|(place, row)| ((number, *row), (batches.len(), place))));
            batches.push(batch);
        }
    }
    chosen.sort_unstable_by(|left, right| right.cmp(left));
    let order: Vec<(usize, usize)> =
        chosen.iter().filter_map(|(_, part, row)| places.get(&(*part, *row)).copied()).collect();
    let batches: Vec<&RecordBatch> = batches.iter().collect();
    order.chunks(BATCH_ROWS).map(|order| Ok(interleave_record_batch(&batches, order)?)).collect()
}
