//! The WAL's rows back into the head. Samples are put among their series; of everything else no more is read than
//! where it is, of which time, and by what a row that is sent again is recognised.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use arrow::error::ArrowError;
use bytes::Bytes;
use hashbrown::HashSet;
use pharos_model::SeriesId;

use crate::{
    StorageError, Table,
    columns::from_batch,
    commit::Columns,
    head::{Chunk, Generation, extent_us},
    identity::{self, Identity, RecentIdentities},
    rows::{HistogramRow, SeriesRow},
    shared::Shared,
    wal::{self, FoundSegment, Part, RestingRows, RestingSegment},
};

/// A part of a frame with fewer bytes is read at once, as long as the head has room for it: by itself it would make a
/// poor chunk.
const SMALL_BYTES: usize = 64 << 10;

/// What a frame holds.
#[derive(Default)]
struct Outline {
    in_memory: Columns,
    resting: Vec<(Table, Chunk)>,
    /// Of its spans.
    identities: Vec<Identity>,
}

pub(super) struct Restore<'a> {
    pub(super) shared: &'a Shared,
    pub(super) identities: RecentIdentities,
    /// Series whose samples were found, and not their labels.
    pub(super) unknown: HashSet<SeriesId>,
}

impl Restore<'_> {
    /// Makes a segment's rows a sealed generation of the head. Gives back its number and how much of it counts.
    pub(super) fn segment(&mut self, found: FoundSegment) -> Result<(u64, u64), StorageError> {
        let number = found.number;
        let shared = self.shared;
        let mut generation = Generation::new(number);
        let needed = Table::ALL.map(|table| is_needed(shared, table, number));
        let is_needed = |table: Table| needed[table.index()];
        let room = shared.config.head_bytes / 2;
        let room = AtomicUsize::new(room.saturating_sub(shared.head_bytes.load(Ordering::Relaxed)));
        let outline = |segment: &Arc<RestingSegment>, at: u64, payload: &Bytes| {
            let mut outline = Outline::default();
            for part in segment.schemas.parts(payload)? {
                outline.add(segment, at, payload, &part, is_needed(part.table), &room)?;
            }
            Ok(outline)
        };
        let mut aside =
            |segment, at, bytes: &[u8]| wal::quarantine(&*shared.disk, segment, at, bytes).map(drop);
        let replayed =
            found.read(&mut aside, outline, |outline| self.take(outline, &mut generation, is_needed))?;
        generation.wal_bytes = replayed.length;
        generation.samples.shrink();
        shared.quarantined_bytes.fetch_add(replayed.quarantined_bytes, Ordering::Relaxed);
        shared.wal_bytes.fetch_add(replayed.length, Ordering::Relaxed);
        let mut state = shared.state.write();
        state.sealed.push(Arc::new(generation));
        shared.head_bytes.store(state.head_bytes(), Ordering::Relaxed);
        Ok((number, replayed.length))
    }

    fn take(
        &mut self,
        outline: Outline,
        generation: &mut Generation,
        is_needed: impl Fn(Table) -> bool,
    ) -> Result<(), StorageError> {
        let Outline { in_memory: mut columns, resting, identities } = outline;
        let mut index = self.shared.index.write();
        for (table, batch) in &columns.tables {
            match table {
                Table::Series => from_batch::<SeriesRow>(batch)?.iter().for_each(|row| {
                    index.insert(row);
                }),
                Table::Histograms => {
                    for row in from_batch::<HistogramRow>(batch)? {
                        index.add_histogram_metric(&row.metric);
                        index.recall_histogram(row.series, row.time_ms);
                    }
                }
                _ => {}
            }
        }
        columns.samples.retain_mut(|row| {
            let Some(ordinal) = index.ordinal(row.series) else {
                self.unknown.insert(row.series);
                return false;
            };
            row.ordinal = ordinal;
            index.recall(ordinal, row.time_ms);
            true
        });
        drop(index);
        identities.into_iter().for_each(|identity| {
            self.identities.insert(identity);
        });
        if !is_needed(Table::Samples) {
            columns.samples.clear();
        }
        columns.tables.retain(|(table, _)| is_needed(*table));
        generation.add(columns, &self.shared.index.read())?;
        resting.into_iter().for_each(|(table, chunk)| generation.push_resting(table, chunk));
        Ok(())
    }
}

/// Whether files lack rows of a segment, of the table itself or of one that is made of it.
fn is_needed(shared: &Shared, table: Table, segment: u64) -> bool {
    let state = shared.state.read();
    let lacks = |table| state.table(table).flushed_through < Some(segment);
    let derived: &[Table] = match table {
        Table::Spans => &[Table::Edges, Table::TraceSummaries],
        Table::AccessLogs => &[Table::Edges],
        _ => &[],
    };
    lacks(table) || derived.iter().any(|table| lacks(*table))
}

impl Outline {
    /// `room` is what may be read into memory.
    fn add(
        &mut self,
        segment: &Arc<RestingSegment>,
        at: u64,
        payload: &Bytes,
        part: &Part,
        is_needed: bool,
        room: &AtomicUsize,
    ) -> Result<(), ArrowError> {
        match part.table {
            Table::Samples => {
                self.in_memory.samples = part.samples()?;
                return Ok(());
            }
            // Small, and needed to make sense of samples.
            Table::Series | Table::Histograms => {
                self.in_memory.tables.push((part.table, part.rows(None)?));
                return Ok(());
            }
            Table::Spans => {}
            _ if !is_needed => return Ok(()),
            _ => {}
        }
        if is_needed && part.place.len() < SMALL_BYTES {
            let bytes = part.decoded_bytes()?;
            let take = |room: usize| room.checked_sub(bytes);
            if room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
                let rows = part.rows(None)?;
                if part.table == Table::Spans {
                    self.identities.extend(identity::of_batch(&rows)?);
                }
                self.in_memory.tables.push((part.table, rows));
                return Ok(());
            }
        }
        let columns: &[&str] = if part.table == Table::Spans { &identity::COLUMNS } else { &["time"] };
        let rows = part.rows(Some(columns))?;
        if part.table == Table::Spans {
            self.identities.extend(identity::of_batch(&rows)?);
        }
        if is_needed {
            let resting = RestingRows::new(segment, at, payload, part, rows.num_rows())?;
            self.resting.push((part.table, Chunk::resting(resting, extent_us(&rows))));
        }
        Ok(())
    }
}
