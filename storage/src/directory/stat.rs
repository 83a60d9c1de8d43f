use std::collections::BTreeMap;

use serde::Serialize;

use super::{DataDirectory, OtherFile, Progress};
use crate::{
    StorageError, Table,
    read::FileSource,
    table_log::{DeltaLog, TableLog, rfc3339},
    wal::WAL_DIRECTORY,
};

/// What a data directory holds.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DirectoryStat {
    pub tables: Vec<TableStat>,
    pub wal_segments: u64,
    pub wal_bytes: u64,
    pub quarantine: Vec<OtherFile>,
}

/// One table, as its log and its files' footers tell.
#[derive(Clone, Debug, Default, Serialize)]
pub struct TableStat {
    pub table: String,
    pub files: u64,
    pub rows: u64,
    pub bytes: u64,
    /// RFC 3339, of the column `time`.
    pub oldest: Option<String>,
    pub newest: Option<String>,
    /// All rows of this WAL segment and of those before it are in the files.
    pub flushed_through: Option<u64>,
    /// The largest first.
    pub columns: Vec<ColumnStat>,
    /// What could not be read.
    pub problems: Vec<String>,
}

/// A column with everything below it, compressed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ColumnStat {
    pub name: String,
    pub bytes: u64,
}

impl DataDirectory {
    /// Reads the logs and the files' footers.
    pub async fn stat(&self, progress: Progress<'_>) -> Result<DirectoryStat, StorageError> {
        let mut tables = Vec::new();
        for (place, table) in Table::ALL.into_iter().enumerate() {
            progress(table.name(), place as u64, Table::ALL.len() as u64);
            tables.push(self.stat_table(table).await);
        }
        let segments =
            self.places.disk.list(WAL_DIRECTORY).map_err(|error| StorageError::io(WAL_DIRECTORY, error))?;
        Ok(DirectoryStat {
            tables,
            wal_segments: segments.len() as u64,
            wal_bytes: segments.iter().map(|(_, stat)| stat.size).sum(),
            quarantine: self.quarantine()?,
        })
    }

    async fn stat_table(&self, table: Table) -> TableStat {
        let mut found = TableStat { table: table.name().to_string(), ..TableStat::default() };
        if let Err(error) = self.stat_files(table, &mut found).await {
            found.problems.push(error.to_string());
        }
        found
    }

    async fn stat_files(&self, table: Table, found: &mut TableStat) -> Result<(), StorageError> {
        let Some(log) = DeltaLog::find(self.objects(), table).await? else { return Ok(()) };
        found.flushed_through = log.through_segment().await?;
        let mut columns: BTreeMap<String, u64> = BTreeMap::new();
        let footers = DataDirectory::footers();
        let files = log.files().await?;
        for file in &files {
            (found.files, found.rows, found.bytes) =
                (found.files + 1, found.rows + file.rows, found.bytes + file.size_bytes);
            let footer = match FileSource::new(self.objects(), file.clone()).footer(&footers).await {
                Ok(footer) => footer,
                Err(error) => {
                    found.problems.push(error.to_string());
                    continue;
                }
            };
            for column in footer.metadata().row_groups().iter().flat_map(|group| group.columns()) {
                let name = column.column_path().parts().first().cloned().unwrap_or_default();
                *columns.entry(name).or_default() += column.compressed_size().max(0) as u64;
            }
        }
        found.oldest = files.iter().map(|file| file.min_time).min().map(|time| rfc3339(time.micros()));
        found.newest = files.iter().map(|file| file.max_time).max().map(|time| rfc3339(time.micros()));
        found.columns = columns.into_iter().map(|(name, bytes)| ColumnStat { name, bytes }).collect();
        found.columns.sort_by_key(|column| std::cmp::Reverse(column.bytes));
        Ok(())
    }
}
