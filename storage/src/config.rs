use std::{path::PathBuf, time::Duration};

use crate::Table;

/// When an append counts as done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// After fdatasync: survives power loss.
    Fsync,
    /// After the write; synced at this interval. Survives the process, and power loss but for the last interval.
    Interval(Duration),
    /// After the write; synced only when a segment ends. Survives the process.
    None,
}

/// Where and how data is kept. `StorageConfig::new(dir)` has the defaults.
#[derive(Clone, Debug)]
pub struct StorageConfig {
    /// For the write-ahead log, and for the tables unless they are elsewhere.
    pub data_dir: PathBuf,
    /// Where the tables are: `s3://bucket/prefix`, `gs://…`, `az://…`, `file:///…`. `None` is in `data_dir`.
    pub tables_url: Option<String>,
    /// Of a bucket's data files, kept on the local disk, in `data_dir`, so that they are not fetched again; 0 is none.
    pub read_cache_bytes: u64,
    pub durability: Durability,
    /// How long a commit waits for company before it is synced.
    pub group_commit: Duration,
    /// Rows in memory that no file holds yet, in all; past it writers are told 'later'.
    pub head_bytes: usize,
    /// Samples of the newest files that are kept in memory as well, compressed, for queries and to recognise what is
    /// sent again.
    pub recent_samples_bytes: usize,
    /// The head is flushed when it reaches this size…
    pub flush_bytes: usize,
    /// …or when its oldest row is this old.
    pub flush_after: Duration,
    /// WAL segments on disk, in all; past it writers are told 'later'.
    pub wal_bytes: u64,
    /// Rows older than this are dropped, a day at a time; `None` keeps them.
    pub retention: Option<Duration>,
    /// Where a table's retention differs.
    pub table_retention: Vec<(Table, Option<Duration>)>,
    /// Files of all tables; past it the oldest days go first.
    pub retention_bytes: Option<u64>,
    /// Smaller files of one day are merged when there are this many.
    pub compact_files: usize,
    /// Files are not merged past this size.
    pub compact_bytes: u64,
    /// How long files that a merge or retention has replaced stay on disk for the queries that still read them.
    pub vacuum_after: Duration,
    /// Most series held in the index; samples of further ones are refused.
    pub max_series: usize,
    /// Most labels of a series; those of one with more are refused.
    pub max_labels: usize,
    /// Longest name and longest value of a label, in bytes.
    pub max_label_name_bytes: usize,
    pub max_label_value_bytes: usize,
}

impl StorageConfig {
    pub fn new(data_dir: impl Into<PathBuf>) -> StorageConfig {
        StorageConfig {
            data_dir: data_dir.into(),
            tables_url: None,
            read_cache_bytes: 0,
            durability: Durability::Fsync,
            group_commit: Duration::from_millis(2),
            head_bytes: 64 << 20,
            recent_samples_bytes: 64 << 20,
            flush_bytes: 24 << 20,
            flush_after: Duration::from_secs(45),
            wal_bytes: 1 << 30,
            retention: Some(Duration::from_secs(14 * 24 * 3_600)),
            table_retention: Vec::new(),
            retention_bytes: None,
            compact_files: 8,
            compact_bytes: 128 << 20,
            vacuum_after: Duration::from_secs(15 * 60),
            max_series: 2_000_000,
            max_labels: 128,
            max_label_name_bytes: 1_024,
            max_label_value_bytes: 8_192,
        }
    }

    pub fn retention_of(&self, table: Table) -> Option<Duration> {
        let own = self.table_retention.iter().find(|(known, _)| *known == table);
        own.map_or(self.retention, |(_, retention)| *retention)
    }
}
