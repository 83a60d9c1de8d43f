//! Files that have served: small ones are merged, old ones dropped, and what was replaced is removed from the disk
//! once nobody reads it any more.

mod join;
mod merge;
mod samples;
mod stretches;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use hashbrown::{HashMap, HashSet};
use object_store::path::Path;
use pharos_model::UnixNanos;
use tokio::sync::Mutex;

use crate::{DataFile, StorageError, Table, flush::Flusher, table_log::Change};

/// How often files are looked through.
const ROUND: Duration = Duration::from_secs(20);

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// Between two searches for files on disk that no log knows.
const SWEEP: Duration = Duration::from_secs(3_600);

/// Files are of one size if the largest of them is at most this many times the smallest. Eight such merge into one that
/// is near three times the largest at least, so that a row is written again few times.
const SIZE_RATIO: u64 = 4;
/// Below it all are of one size.
const SMALLEST_BYTES: u64 = 64 << 10;

/// Merged at once: bounds the memory that readers of the inputs take.
const MOST_INPUTS: usize = 32;

/// Round after round, until the storage is gone.
pub(crate) async fn run(compactor: Arc<Mutex<Compactor>>) {
    loop {
        if let Err(error) = compactor.lock().await.round().await {
            tracing::error!(%error, "files could not be merged or dropped; will try again");
        }
        tokio::time::sleep(ROUND).await;
    }
}

pub(crate) struct Compactor {
    flusher: Flusher,
    /// Files that a merge could not read. They stay as they are, for those who can do without the broken part of them.
    unreadable: HashSet<Path>,
    /// Files that no log names any more.
    replaced: Vec<(Instant, Arc<DataFile>)>,
    swept: Option<Instant>,
}

impl Compactor {
    pub(crate) fn new(flusher: Flusher) -> Compactor {
        Compactor { flusher, unreadable: HashSet::new(), replaced: Vec::new(), swept: None }
    }

    pub(crate) fn flusher(&self) -> &Flusher {
        &self.flusher
    }

    /// Does what is due now.
    pub(crate) async fn round(&mut self) -> Result<(), StorageError> {
        self.drop_expired().await?;
        self.drop_beyond_budget().await?;
        for table in Table::ALL {
            while let Some(inputs) = self.due_for_merge(table) {
                self.merge(table, inputs).await?;
                // While much is merged the disk need not hold all of it twice.
                self.remove_replaced().await?;
            }
        }
        self.remove_replaced().await?;
        self.sweep().await
    }

    fn due_for_merge(&self, table: Table) -> Option<Vec<Arc<DataFile>>> {
        let config = &self.flusher.shared.config;
        let files = self.flusher.shared.state.read().table(table).files.clone();
        let readable = |file: &&Arc<DataFile>| !self.unreadable.contains(&file.path);
        let files: Vec<_> = files.iter().filter(readable).cloned().collect();
        due_for_merge(&files, config.compact_files, config.compact_bytes)
    }

    async fn merge(&mut self, table: Table, inputs: Vec<Arc<DataFile>>) -> Result<(), StorageError> {
        let merged = match merge::merge(&self.flusher.shared, table, &inputs).await {
            // One broken file must not keep others from being merged, dropped and removed.
            Err(StorageError::BrokenFile { path, message })
                if inputs.iter().any(|file| file.path.as_ref() == path) =>
            {
                tracing::error!(path, message, "a file cannot be merged with others and stays as it is");
                self.unreadable.insert(Path::from(path));
                return Ok(());
            }
            merged => merged?,
        };
        let merged = Arc::new(self.flusher.shared.tables.publish(merged).await?);
        self.flusher.read_back(std::slice::from_ref(&merged)).await?;
        tracing::debug!(table = table.name(), files = inputs.len(), rows = merged.rows, "merged files");
        let change =
            Change { add: vec![merged], remove: inputs, same_rows: !table.is_derived(), ..Change::default() };
        self.commit(table, change).await
    }

    pub(crate) async fn commit(&mut self, table: Table, change: Change) -> Result<(), StorageError> {
        self.flusher.replace(table, &change).await?;
        for file in change.remove {
            self.flusher.shared.footers.remove(&file.path);
            self.unreadable.remove(&file.path);
            self.replaced.push((Instant::now(), file));
        }
        Ok(())
    }

    async fn drop_expired(&mut self) -> Result<(), StorageError> {
        let now = UnixNanos::now();
        for table in Table::ALL {
            let Some(retention) = self.flusher.shared.config.retention_of(table) else { continue };
            // A series' row is of its first sample on a day, and its samples of that day are a day younger.
            let retention = if table == Table::Series { retention.saturating_add(DAY) } else { retention };
            let before = now.plus_nanos(-i64::try_from(retention.as_nanos()).unwrap_or(i64::MAX));
            let files = self.flusher.shared.state.read().table(table).files.clone();
            let expired: Vec<_> = files.iter().filter(|file| file.max_time < before).cloned().collect();
            if !expired.is_empty() {
                self.commit(table, Change { remove: expired, ..Change::default() }).await?;
                if table == Table::Series {
                    let shared = &self.flusher.shared;
                    let mut index = shared.index.write();
                    index.forget_before(before.millis(), |ordinal| shared.holds_samples_of(ordinal));
                }
            }
        }
        Ok(())
    }

    /// The oldest files of all tables, but for the labels of series whose samples may stay.
    async fn drop_beyond_budget(&mut self) -> Result<(), StorageError> {
        let Some(budget) = self.flusher.shared.config.retention_bytes else { return Ok(()) };
        let mut files: Vec<(Table, Arc<DataFile>)> = {
            let state = self.flusher.shared.state.read();
            let of = |table| {
                state.table(table).files.iter().map(move |file| (table, file.clone())).collect::<Vec<_>>()
            };
            Table::ALL.into_iter().filter(|table| *table != Table::Series).flat_map(of).collect()
        };
        files.sort_by_key(|(_, file)| file.max_time);
        let mut bytes: u64 = files.iter().map(|(_, file)| file.size_bytes).sum();
        let mut dropped: HashMap<Table, Vec<Arc<DataFile>>> = HashMap::new();
        for (table, file) in files {
            if bytes <= budget {
                break;
            }
            bytes -= file.size_bytes;
            dropped.entry(table).or_default().push(file);
        }
        for (table, remove) in dropped {
            self.commit(table, Change { remove, ..Change::default() }).await?;
        }
        Ok(())
    }

    /// Removes replaced files that are past their grace and in no snapshot.
    async fn remove_replaced(&mut self) -> Result<(), StorageError> {
        let grace = self.flusher.shared.config.vacuum_after;
        let free = |(since, file): &mut (Instant, Arc<DataFile>)| {
            since.elapsed() >= grace && Arc::strong_count(file) == 1
        };
        let removable: Vec<Path> =
            self.replaced.extract_if(.., free).map(|(_, file)| file.path.clone()).collect();
        for path in removable {
            self.flusher.shared.tables.remove(&path).await?;
        }
        Ok(())
    }

    /// Files that a crash left without a commit, or replaced files of an earlier run.
    async fn sweep(&mut self) -> Result<(), StorageError> {
        if self.swept.is_some_and(|at| at.elapsed() < SWEEP) {
            return Ok(());
        }
        self.swept = Some(Instant::now());
        let grace = self.flusher.shared.config.vacuum_after;
        for table in Table::ALL {
            // Under the log's lock nobody is between writing a file and committing it.
            let committed = self.flusher.lock(table).await?;
            let mut known: HashSet<Path> =
                committed.log.files().await?.iter().map(|file| file.path.clone()).collect();
            known.extend(self.replaced.iter().map(|(_, file)| file.path.clone()));
            let tables = &self.flusher.shared.tables;
            for object in tables.data_files(table.name()).await? {
                let written = SystemTime::from(object.last_modified);
                let old = written.elapsed().is_ok_and(|age| age >= grace);
                if old && !known.contains(&object.location) {
                    tracing::info!(path = %object.location, "removing a file that its table's log does not name");
                    tables.remove(&object.location).await?;
                }
            }
        }
        Ok(())
    }
}

/// Files of one day and one size, if there are enough of them: of the newest day the smallest first. Two at least, that
/// fit into one file.
fn due_for_merge(files: &[Arc<DataFile>], enough: usize, most_bytes: u64) -> Option<Vec<Arc<DataFile>>> {
    let mut days: BTreeMap<&str, Vec<&Arc<DataFile>>> = BTreeMap::new();
    for file in files.iter().filter(|file| file.size_bytes < most_bytes) {
        days.entry(file.date().unwrap_or_default()).or_default().push(file);
    }
    days.into_values().rev().find_map(|mut files| {
        files.sort_by_key(|file| file.size_bytes);
        (0..files.len()).find_map(|smallest| {
            let most = files[smallest].size_bytes.max(SMALLEST_BYTES) * SIZE_RATIO;
            let end = files.partition_point(|file| file.size_bytes <= most);
            let of_one_size = &files[smallest..end];
            (of_one_size.len() >= enough.max(2)).then(|| longest_run(of_one_size, most_bytes)).flatten()
        })
    })
}

/// Neighbours in time, so that the merged file covers a short stretch of it. A file by itself would be written as it is,
/// again and again.
fn longest_run(files: &[&Arc<DataFile>], most_bytes: u64) -> Option<Vec<Arc<DataFile>>> {
    let mut files = files.to_vec();
    files.sort_by_key(|file| (file.min_time, file.max_time));
    let mut runs: Vec<(u64, Vec<Arc<DataFile>>)> = Vec::new();
    for file in files {
        match runs.last_mut() {
            Some((bytes, run)) if *bytes + file.size_bytes <= most_bytes && run.len() < MOST_INPUTS => {
                *bytes += file.size_bytes;
                run.push(file.clone());
            }
            _ => runs.push((file.size_bytes, vec![file.clone()])),
        }
    }
    runs.into_iter().map(|(_, run)| run).filter(|run| run.len() >= 2).max_by_key(Vec::len)
}

#[cfg(test)]
mod tests;
