//! The newest rows of a table: times and tested columns are read first, from the newest row group backwards until
//! nothing newer can follow, and the other columns of the chosen rows only then.

use std::{cmp::Reverse, collections::BinaryHeap, sync::Arc};

use arrow::{array::RecordBatch, compute::interleave_record_batch};
use futures::TryStreamExt;
use hashbrown::HashMap;
use parquet::arrow::{
    arrow_reader::{ArrowReaderMetadata, RowSelection},
    async_reader::ParquetRecordBatchStreamBuilder,
};

use super::{
    FileSource, TableSnapshot,
    predicate::{matching, times_ns},
    prune,
    scan::Plan,
};
use crate::{DataFile, StorageError};

/// Rows per batch of the answer.
const BATCH_ROWS: usize = 4_096;

/// A part of the table that is read at once.
enum Part {
    Head(RecordBatch),
    RowGroup { source: FileSource, footer: ArrowReaderMetadata, group: usize, last_us: i64 },
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
    let limit = plan.scan.limit.unwrap_or(usize::MAX);
    if limit == 0 {
        return Ok(Vec::new());
    }
    let mut newest = Newest { limit, heap: BinaryHeap::new() };
    let mut parts: Vec<Part> = Vec::new();
    for batch in &snapshot.head {
        let times = times_ns(batch);
        let rows = matching(batch, &times, plan.scan.range, &plan.scan.equals)?;
        for row in rows.values().set_indices() {
            newest.offer((times.get(row).copied().unwrap_or_default(), parts.len(), row));
        }
        parts.push(Part::Head(batch.clone()));
    }
    let mut files: Vec<&Arc<DataFile>> =
        snapshot.files.iter().filter(|file| file.overlaps(plan.scan.range)).collect();
    files.sort_by_key(|file| Reverse(file.max_time));
    for file in files {
        if newest.is_beyond(file.max_time.micros()) {
            break;
        }
        for part in row_groups(snapshot, plan, file.clone()).await? {
            if let Part::RowGroup { source, footer, group, last_us } = &part
                && !newest.is_beyond(*last_us)
            {
                choose(plan, source, footer, *group, parts.len(), &mut newest).await?;
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
    let mut builder = ParquetRecordBatchStreamBuilder::new_with_metadata(source.clone(), footer.clone());
    let mut parts = Vec::new();
    for group in prune::row_groups(&mut builder, plan.scan.range, &plan.scan.equals).await? {
        let (_, last_us) = prune::times_us(&builder, group)?;
        parts.push((last_us, group));
    }
    parts.sort_by_key(|part| Reverse(*part));
    let part =
        |(last_us, group)| Part::RowGroup { source: source.clone(), footer: footer.clone(), group, last_us };
    Ok(parts.into_iter().map(part).collect())
}

async fn choose(
    plan: &Plan,
    source: &FileSource,
    footer: &ArrowReaderMetadata,
    group: usize,
    part: usize,
    newest: &mut Newest,
) -> Result<(), StorageError> {
    let builder = ParquetRecordBatchStreamBuilder::new_with_metadata(source.clone(), footer.clone());
    let selection = prune::pages(&builder, group, plan.scan.range, &plan.scan.equals)?;
    let mut rows = selected_rows(&selection);
    let mask = plan.mask(&builder, &plan.tested);
    let mut batches =
        builder.with_row_groups(vec![group]).with_row_selection(selection).with_projection(mask).build()?;
    while let Some(batch) = batches.try_next().await? {
        let times = times_ns(&batch);
        let fits = matching(&batch, &times, plan.scan.range, &plan.scan.equals)?;
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
        match part {
            Part::Head(batch) => {
                places.extend(rows.iter().map(|row| ((number, *row), (batches.len(), *row))));
                batches.push(plan.project(batch)?);
            }
            Part::RowGroup { source, footer, group, .. } => {
                let mut rows = rows.iter();
                for batch in read_rows(plan, source, footer, *group, rows.as_slice()).await? {
                    let found = rows.by_ref().take(batch.num_rows()).enumerate();
                    places.extend(found.map(|(place, row)| ((number, *row), (batches.len(), place))));
                    batches.push(batch);
                }
            }
        }
    }
    chosen.sort_unstable_by(|left, right| right.cmp(left));
    let order: Vec<(usize, usize)> =
        chosen.iter().filter_map(|(_, part, row)| places.get(&(*part, *row)).copied()).collect();
    let batches: Vec<&RecordBatch> = batches.iter().collect();
    order.chunks(BATCH_ROWS).map(|order| Ok(interleave_record_batch(&batches, order)?)).collect()
}

async fn read_rows(
    plan: &Plan,
    source: &FileSource,
    footer: &ArrowReaderMetadata,
    group: usize,
    rows: &[usize],
) -> Result<Vec<RecordBatch>, StorageError> {
    let builder = ParquetRecordBatchStreamBuilder::new_with_metadata(source.clone(), footer.clone());
    let total = builder.metadata().row_group(group).num_rows().max(0) as usize;
    let selection = RowSelection::from_consecutive_ranges(rows.iter().map(|row| *row..row + 1), total);
    let mask = plan.mask(&builder, &plan.output);
    let stream =
        builder.with_row_groups(vec![group]).with_row_selection(selection).with_projection(mask).build()?;
    let batches: Vec<RecordBatch> = stream.try_collect().await?;
    batches.iter().map(|batch| plan.project(batch)).collect()
}
