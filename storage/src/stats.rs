use std::sync::atomic::Ordering;

use pharos_model::UnixNanos;

use crate::{ReadCacheStats, Table, shared::Shared};

/// What the storage holds, at one moment.
#[derive(Clone, Debug, Default)]
pub struct StorageStats {
    pub tables: Vec<TableStats>,
    /// Rows that no file holds yet.
    pub head_bytes: u64,
    /// WAL segments on disk.
    pub wal_bytes: u64,
    /// Put aside since the start because it could not be read.
    pub quarantined_bytes: u64,
    /// Data files of which a read found damage since the start.
    pub damaged_files: u64,
    /// Of a bucket's files, where there is one.
    pub read_cache: Option<ReadCacheStats>,
    /// Tries to write files that failed since the start.
    pub flush_failures: u64,
    pub series: u64,
}

#[derive(Clone, Debug)]
pub struct TableStats {
    pub table: Table,
    /// In files and, but for derived tables, in the head.
    pub rows: u64,
    pub files: u64,
    pub file_bytes: u64,
    /// Attributes that are columns by themselves.
    pub attribute_columns: u64,
    /// Attributes that are frequent enough for it, but would have been too many.
    pub attributes_refused: u64,
    pub oldest: Option<UnixNanos>,
    pub newest: Option<UnixNanos>,
}

pub(crate) fn collect(shared: &Shared) -> StorageStats {
    let series = shared.index.read().len() as u64;
    let state = shared.state.read();
    let tables = Table::ALL.map(|table| {
        let files = &state.table(table).files;
        let head: usize = state.unflushed(table).map(|generation| generation.rows(table)).sum();
        let head_times = state.unflushed(table).filter_map(|generation| generation.times(table));
        let (mut oldest, mut newest) =
            (files.iter().map(|file| file.min_time).min(), files.iter().map(|file| file.max_time).max());
        for (first, last) in head_times {
            oldest = Some(oldest.map_or(first, |known| known.min(first)));
            newest = Some(newest.map_or(last, |known| known.max(last)));
        }
        TableStats {
            table,
            rows: files.iter().map(|file| file.rows).sum::<u64>() + head as u64,
            files: files.len() as u64,
            attribute_columns: state.table(table).promoted.columns.len() as u64,
            attributes_refused: shared.censuses[table.index()].lock().refused(),
            file_bytes: files.iter().map(|file| file.size_bytes).sum(),
            oldest,
            newest,
        }
    });
    StorageStats {
        tables: tables.into(),
        head_bytes: shared.head_bytes.load(Ordering::Relaxed) as u64,
        wal_bytes: shared.wal_bytes.load(Ordering::Relaxed),
        quarantined_bytes: shared.quarantined_bytes.load(Ordering::Relaxed),
        damaged_files: shared.tables.damaged_files() as u64,
        read_cache: shared.tables.read_cache(),
        flush_failures: shared.flushed.borrow().failures,
        series,
    }
}
