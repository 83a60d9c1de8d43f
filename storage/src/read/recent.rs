use std::sync::Arc;

use hashbrown::HashMap;
use object_store::path::Path;
use parking_lot::RwLock;

use super::DataFile;
use crate::{head::FrozenSamples, series_index::Ordinal, table_log::Change};

/// The samples of the newest files of their table, in memory as well: those that dashboards ask for, and by which a
/// resend is recognised. Bounded by bytes; what was flushed first goes first.
pub(crate) struct RecentSamples {
    limit_bytes: usize,
    held: RwLock<Held>,
}

#[derive(Default)]
struct Held {
    /// In the order in which they were flushed.
    parts: Vec<Part>,
    next: u64,
    /// Files of which each row is in a part of this number or a later one.
    files: HashMap<Path, u64>,
}

#[derive(Clone)]
struct Part {
    /// Of the newest flush in it.
    number: u64,
    samples: Arc<FrozenSamples>,
}

/// Parts are merged with their elders while these are less than so many times as large…
const MERGE_FACTOR: usize = 3;

/// …and no part reaches over more: whoever wants the newest samples reads through all of their part.
const MAX_SPAN_MS: i64 = 32 * 60 * 1_000;

impl RecentSamples {
    pub(crate) fn new(limit_bytes: usize) -> RecentSamples {
        RecentSamples { limit_bytes, held: RwLock::default() }
    }

    /// Takes in what a flush has written. The files' table is locked meanwhile, so this does not merge.
    pub(crate) fn add(&self, samples: Arc<FrozenSamples>, files: &[Arc<DataFile>]) {
        let mut held = self.held.write();
        let number = held.next;
        held.next += 1;
        held.parts.push(Part { number, samples });
        held.files.extend(files.iter().map(|file| (file.path.clone(), number)));
    }

    /// Files were merged, or dropped.
    pub(crate) fn replace(&self, change: &Change) {
        let mut held = self.held.write();
        let numbers: Option<Vec<u64>> =
            change.remove.iter().map(|file| held.files.get(&file.path).copied()).collect();
        for file in &change.remove {
            held.files.remove(&file.path);
        }
        if change.same_rows
            && let Some(number) = numbers.and_then(|numbers| numbers.into_iter().min())
        {
            held.files.extend(change.add.iter().map(|file| (file.path.clone(), number)));
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
        let mut bytes: usize = held.parts.iter().map(|part| part.samples.bytes()).sum();
        while bytes > self.limit_bytes && !held.parts.is_empty() {
            let oldest = held.parts.remove(0);
            bytes -= oldest.samples.bytes();
            held.files.retain(|_, number| *number > oldest.number);
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

    /// Those that have samples between the two times, inclusive; with `files`, those of them whose rows are in none.
    pub(crate) fn between(
        &self,
        first_ms: i64,
        last_ms: i64,
        mut files: Vec<Arc<DataFile>>,
    ) -> (Vec<Arc<FrozenSamples>>, Vec<Arc<DataFile>>) {
        let held = self.held.read();
        files.retain(|file| !held.files.contains_key(&file.path));
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
