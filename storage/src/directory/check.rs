use std::{collections::HashSet, sync::Arc};

use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;
use serde::Serialize;

use super::{DataDirectory, OtherFile, Progress};
use crate::{
    DataFile, StorageError, Table,
    flush::blocking,
    parquet_file::times_us,
    read::FileSource,
    table_log::{DeltaLog, TableLog},
    wal::{self, WAL_DIRECTORY},
};

/// What a full check found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CheckReport {
    pub tables: Vec<TableCheck>,
    pub wal_segments: u64,
    pub wal_frames: u64,
    pub problems: Vec<Problem>,
    /// Data files that no log names: a crash left them, or readers might still need them. The server removes them.
    pub unnamed: Vec<OtherFile>,
    /// What was put aside before.
    pub quarantine: Vec<OtherFile>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct TableCheck {
    pub table: String,
    pub files: u64,
    /// Decoded, every column.
    pub rows: u64,
    pub bytes: u64,
}

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    pub path: String,
    pub message: String,
    /// Rows that are at stake, where that is known.
    pub rows: Option<u64>,
}

impl DataDirectory {
    /// Reads everything: each file's checksum and every value in it, each frame of the write-ahead log, each log.
    ///
    /// # Errors
    /// Only when the directory or the store cannot be asked at all; what is broken is in the report.
    pub async fn check(&self, progress: Progress<'_>) -> Result<CheckReport, StorageError> {
        let mut report = CheckReport { quarantine: self.quarantine()?, ..CheckReport::default() };
        let mut files: Vec<(Table, Vec<Arc<DataFile>>)> = Vec::new();
        for table in Table::ALL {
            match self.files_of(table).await {
                Ok(of_table) => files.push((table, of_table)),
                Err(error) => report.problems.push(Problem {
                    path: format!("{}/_delta_log", table.name()),
                    message: error.to_string(),
                    rows: None,
                }),
            }
        }
        let all: u64 = files.iter().flat_map(|(_, files)| files).map(|file| file.size_bytes).sum();
        let mut done = 0;
        for (table, files) in files {
            let named: HashSet<_> = files.iter().map(|file| &file.path).collect();
            for object in self.places.tables.data_files(table.name()).await? {
                if !named.contains(&object.location) {
                    let path = object.location.to_string();
                    report.unnamed.push(OtherFile { path, bytes: object.size });
                }
            }
            let mut found = TableCheck { table: table.name().to_string(), ..TableCheck::default() };
            for file in &files {
                progress(table.name(), done, all);
                (found.files, found.bytes) = (found.files + 1, found.bytes + file.size_bytes);
                match self.check_file(file).await {
                    Ok(()) => found.rows += file.rows,
                    Err(message) => report.problems.push(Problem {
                        path: file.path.to_string(),
                        message,
                        rows: Some(file.rows),
                    }),
                }
                done += file.size_bytes;
            }
            report.tables.push(found);
        }
        progress("write-ahead log", all, all);
        self.check_wal(&mut report).await?;
        Ok(report)
    }

    async fn files_of(&self, table: Table) -> Result<Vec<Arc<DataFile>>, StorageError> {
        match DeltaLog::find(self.objects(), table).await? {
            Some(log) => log.files().await,
            None => Ok(Vec::new()),
        }
    }

    /// Says what is wrong with a file.
    pub(super) async fn check_file(&self, file: &Arc<DataFile>) -> Result<(), String> {
        self.check_bytes(file).await?;
        let text = |error: StorageError| match error {
            StorageError::BrokenFile { message, .. } => message,
            other => other.to_string(),
        };
        let mut source = FileSource::new(self.objects(), file.clone());
        let footer = source.footer(&DataDirectory::footers()).await.map_err(text)?;
        let reader = ParquetRecordBatchStreamBuilder::new_with_metadata(source, footer).build();
        let mut batches = reader.map_err(|error| error.to_string())?;
        let mut rows = 0;
        while let Some(batch) = batches.try_next().await.map_err(|error| error.to_string())? {
            rows += batch.num_rows() as u64;
            let (first, last) = (file.min_time.micros(), file.max_time.micros());
            if times_us(&batch).map_err(text)?.iter().any(|time| !(first..=last).contains(time)) {
                return Err("it has a time that is not between those that its table's log tells".to_string());
            }
        }
        match rows == file.rows {
            true => Ok(()),
            false => Err(format!("it has {rows} rows, its table's log tells of {}", file.rows)),
        }
    }

    async fn check_bytes(&self, file: &DataFile) -> Result<(), String> {
        let object = self.objects().get(&file.path).await.map_err(|error| match error {
            object_store::Error::NotFound { .. } => "it is not there".to_string(),
            other => other.to_string(),
        })?;
        let (mut size, mut checksum) = (0, 0);
        let mut parts = object.into_stream();
        while let Some(part) = parts.try_next().await.map_err(|error| error.to_string())? {
            size += part.len() as u64;
            checksum = crc32c::crc32c_append(checksum, &part);
        }
        if size != file.size_bytes {
            return Err(format!("it has {size} bytes instead of {}", file.size_bytes));
        }
        match file.checksum() {
            Some(expected) if expected != checksum => {
                Err(format!("its checksum is {checksum:08x} instead of {expected:08x}"))
            }
            _ => Ok(()),
        }
    }

    async fn check_wal(&self, report: &mut CheckReport) -> Result<(), StorageError> {
        let disk = self.places.disk.clone();
        let (replayed, problems) = blocking(move || {
            let mut problems = Vec::new();
            let replayed = wal::look(&*disk, &mut |segment, at, bytes| {
                problems.push(Problem {
                    path: wal::segment_path(segment),
                    message: format!("{} bytes from byte {at} on cannot be read", bytes.len()),
                    rows: None,
                });
                Ok(())
            })?;
            Ok((replayed, problems))
        })
        .await
        .map_err(|error| match error {
            StorageError::Io { source, .. } => StorageError::Io { path: WAL_DIRECTORY.into(), source },
            other => other,
        })?;
        report.wal_segments = replayed.len() as u64;
        report.wal_frames = replayed.iter().map(|segment| segment.frames).sum();
        report.problems.extend(problems);
        Ok(())
    }
}
