mod load;

use std::sync::Arc;

use hashbrown::HashMap;
use object_store::path::Path;
use parking_lot::RwLock;

pub(crate) use self::load::{load_recent, recall_samples};
use super::DataFile;
use crate::{
    head::{FrozenSamples, Loaded},
    series_index::Ordinal,
    table_log::Change,
};

/// The newest samples of files, in memory as well: those that dashboards ask for, and by which a resend is recognised.
/// Bounded by bytes; what was flushed first goes first.
pub(crate) struct RecentSamples {
    limit_bytes: usize,
    held: RwLock<Held>,
}

#[derive(Default)]
struct Held {
    /// In the order in which they were flushed.
    parts: Vec<Part>,
    /// Of the next part that is flushed, and of the next one that is older than all others.
    next: i64,
    before: i64,
    files: HashMap<Path, HeldFile>,
}

#[derive(Clone)]
struct Part {
    /// Of the newest flush in it. Rises in `parts`.
    number: i64,
    samples: Arc<FrozenSamples>,
}

/// What memory has of a file: its rows from a time on, in parts of this number and later ones.
#[derive(Clone, Copy)]
struct HeldFile {
    number: i64,
    from_ms: i64,
}

/// Parts are merged with their elders while these are less than so many times as large…
const MERGE_FACTOR: usize = 3;

/// …and no part reaches over more: whoever wants the newest samples reads through all of their part.
const MAX_SPAN_MS: i64 = 32 * 60 * 1_000;

impl RecentSamples {
    pub(crate) fn new(limit_bytes: usize) -> RecentSamples {
        let held = Held { before: -1, ..Held::default() };
        RecentSamples { limit_bytes, held: RwLock::new(held) }
    }

    /// Bytes of samples for which there is room.
    pub(crate) fn room(&self) -> usize {
        self.limit_bytes.saturating_sub(self.held.read().bytes())
    }

    /// Rows of the file before this time are in memory only if they came late, or not at all.
    pub(crate) fn held_from_ms(&self, file: &DataFile) -> Option<i64> {
        self.held.read().files.get(&file.path).map(|held| held.from_ms)
    }

    /// Takes in what was read back of a file, which is older than all that there is, as far as there is room.
    pub(crate) fn add_older(&self, loaded: Loaded, file: &DataFile) {
        let mut held = self.held.write();
        let mut bytes = held.bytes();
        let Loaded { parts, mut from_ms, .. } = loaded;
        for samples in parts {
            bytes += samples.bytes();
            if bytes > self.limit_bytes {
                from_ms = from_ms.max(samples.times_ms().1.saturating_add(1));
                break;
            }
            let number = held.before;
            held.before -= 1;
            held.parts.insert(0, Part { number, samples: Arc::new(samples) });
        }
        let number = held.before + 1;
        held.files.insert(file.path.clone(), HeldFile { number, from_ms });
    }

    /// Takes in what a flush has written. The files' table is locked meanwhile, so this does not merge.
    pub(crate) fn add(&self, samples: Arc<FrozenSamples>, files: &[Arc<DataFile>]) {
        let mut held = self.held.write();
        let number = held.next;
        held.next += 1;
        held.parts.push(Part { number, samples });
        let whole = HeldFile { number, from_ms: i64::MIN };
        held.files.extend(files.iter().map(|file| (file.path.clone(), whole)));
    }

    /// Files were merged, or dropped.
    pub(crate) fn replace(&self, change: &Change) {
        let mut held = self.held.write();
        let mut merged: Option<HeldFile> = None;
        let mut unheld_ms = i64::MIN;
        for file in &change.remove {
            match (held.files.remove(&file.path), merged) {
                (Some(input), Some(known)) => {
                    let number = input.number.min(known.number);
                    merged = Some(HeldFile { number, from_ms: input.from_ms.max(known.from_ms) });
                }
                (Some(input), None) => merged = Some(input),
                (None, _) => unheld_ms = unheld_ms.max(last_ms(file).saturating_add(1)),
            }
        }
        if let Some(HeldFile { number, from_ms }) = merged.filter(|_| change.same_rows) {
            let merged = HeldFile { number, from_ms: from_ms.max(unheld_ms) };
            held.files.extend(change.add.iter().map(|file| (file.path.clone(), merged)));
        }
    }

    /// Merges small parts and drops the oldest ones beyond the limit.
    pub(crate) fn settle(&self) {
        while let Some(parts) = self.due_for_merge() {
            let samples: Vec<&FrozenSamples> = parts.iter().map(|part| &*part.samples).collect();
            let Some(merged) = FrozenSamples::merged(&samples) else { break };
            let number = parts.last().map_or(0, |part| part.number);
            let mut held = self.held.write();
            let merged = Part { number, samples: Arc::new(merged) };
            let is_input = |part: &Part| parts.iter().any(|input| input.number == part.number);
            let Some(at) = held.parts.iter().position(is_input) else { break };
            held.parts.retain(|part| !is_input(part));
            held.parts.insert(at, merged);
        }
        let mut held = self.held.write();
        let mut bytes = held.bytes();
        while bytes > self.limit_bytes && !held.parts.is_empty() {
            let oldest = held.parts.remove(0);
            bytes -= oldest.samples.bytes();
            let dropped_to_ms = oldest.samples.times_ms().1.saturating_add(1);
            for file in held.files.values_mut().filter(|file| file.number <= oldest.number) {
                file.from_ms = file.from_ms.max(dropped_to_ms);
            }
        }
    }

    fn due_for_merge(&self) -> Option<Vec<Part>> {
        let held = self.held.read();
        let mut start = held.parts.len().saturating_sub(1);
        let newest = &held.parts.get(start)?.samples;
        let mut bytes = newest.bytes();
        let (mut first_ms, mut last_ms) = newest.times_ms();
        while let Some(elder) = start.checked_sub(1).and_then(|at| held.parts.get(at)) {
            // A part of the limit's size is dropped at once: it must stay a fraction of it.
            let times_ms = elder.samples.times_ms();
            (first_ms, last_ms) = (first_ms.min(times_ms.0), last_ms.max(times_ms.1));
            let fits = bytes + elder.samples.bytes() <= self.limit_bytes / 4
                && last_ms.saturating_sub(first_ms) <= MAX_SPAN_MS;
            if !fits || elder.samples.bytes() >= MERGE_FACTOR * bytes {
                break;
            }
            bytes += elder.samples.bytes();
            start -= 1;
        }
        let due = held.parts.get(start..)?;
        (due.len() > 1).then(|| due.to_vec())
    }

    /// Those that have samples between the two times, inclusive; with `files`, those of them that have rows of that time
    /// which are in none.
    pub(crate) fn between(
        &self,
        first_ms: i64,
        last_ms: i64,
        mut files: Vec<Arc<DataFile>>,
    ) -> (Vec<Arc<FrozenSamples>>, Vec<Arc<DataFile>>) {
        let held = self.held.read();
        files.retain(|file| {
            let from_ms = held.files.get(&file.path).map_or(i64::MAX, |held| held.from_ms);
            from_ms > first_ms.max(file.min_time.millis())
        });
        let parts = held.parts.iter().filter(|part| part.samples.overlaps(first_ms, last_ms));
        (parts.map(|part| part.samples.clone()).collect(), files)
    }

    /// Adds the series' samples between the two times, inclusive, to columns.
    pub(crate) fn copy_between(
        &self,
        ordinal: Ordinal,
        first_ms: i64,
        last_ms: i64,
        times_ms: &mut Vec<i64>,
        values: &mut Vec<f64>,
    ) {
        let held = self.held.read();
        for part in held.parts.iter().filter(|part| part.samples.overlaps(first_ms, last_ms)) {
            part.samples.copy_between(ordinal, first_ms, last_ms, times_ms, values);
        }
    }

    pub(crate) fn has_any(&self, ordinal: Ordinal) -> bool {
        self.held.read().parts.iter().any(|part| part.samples.has_any(ordinal))
    }
}

impl Held {
    fn bytes(&self) -> usize {
        self.parts.iter().map(|part| part.samples.bytes()).sum()
    }
}

/// Of the last row, rounded up.
fn last_ms(file: &DataFile) -> i64 {
    file.max_time.millis().saturating_add(1)
}
