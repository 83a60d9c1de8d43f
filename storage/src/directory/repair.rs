use std::{collections::BTreeSet, sync::Arc};

use arrow::{array::RecordBatch, compute::concat_batches};
use futures::TryStreamExt;
use object_store::{ObjectStoreExt, path::Path};
use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;
use serde::Serialize;

use super::{DataDirectory, Progress};
use crate::{
    DataFile, Storage, StorageError, Table,
    disk::{Existing, put},
    flush::blocking,
    parquet_file::{COMPACT_LEVEL, FileWriter, day_of},
    promoted::{Promoted, View},
    read::FileSource,
    table::fitted,
    table_log::{Change, DeltaLog, TableLog},
    wal::QUARANTINE_DIRECTORY,
};

/// What a repair did.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RepairReport {
    pub repaired: Vec<Repaired>,
    /// Bytes of the write-ahead log that could not be read and were put aside.
    pub wal_quarantined_bytes: u64,
}

/// A file, or a table's log, that was broken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Repaired {
    pub path: String,
    pub problem: String,
    /// Rows that are in another file now, and rows that are gone.
    pub rows_kept: u64,
    pub rows_lost: u64,
    /// Where the broken file is now, if there was one.
    pub kept_as: Option<String>,
}

/// What is left of a file.
struct Kept {
    groups: Vec<RecordBatch>,
    promoted: Promoted,
    partial: BTreeSet<String>,
}

impl DataDirectory {
    /// Puts aside what cannot be read and keeps the rest: of a broken file those row groups that can be decoded, of a
    /// broken log all files that it may have named. Then writes the write-ahead log's rows to files.
    ///
    /// # Errors
    /// The directory was not opened to be changed, or cannot be changed.
    pub async fn repair(mut self, progress: Progress<'_>) -> Result<RepairReport, StorageError> {
        let Some(lock) = self.lock.take() else {
            return Err(StorageError::DataDir("it was opened to be read only".to_string()));
        };
        let mut report = RepairReport::default();
        for (place, table) in Table::ALL.into_iter().enumerate() {
            progress(table.name(), place as u64, Table::ALL.len() as u64);
            self.repair_table(table, &mut report).await?;
        }
        let storage = Storage::open_in(self.config, self.places, Some(lock)).await?;
        report.wal_quarantined_bytes = storage.stats().quarantined_bytes;
        storage.close().await?;
        Ok(report)
    }

    async fn repair_table(&self, table: Table, report: &mut RepairReport) -> Result<(), StorageError> {
        let mut log = match DeltaLog::find(self.objects(), table).await {
            Ok(Some(log)) => log,
            Ok(None) => return Ok(()),
            Err(error @ StorageError::ObjectStore(_)) => return Err(error),
            Err(error) => self.repair_log(table, &error.to_string(), report).await?,
        };
        for file in log.files().await? {
            if let Err(problem) = self.check_file(&file).await {
                report.repaired.push(self.replace(&mut log, table, &file, problem).await?);
            }
        }
        Ok(())
    }

    async fn replace(
        &self,
        log: &mut DeltaLog,
        table: Table,
        file: &Arc<DataFile>,
        problem: String,
    ) -> Result<Repaired, StorageError> {
        let kept = self.readable_rows(table, file).await;
        let rows_kept: u64 = kept.groups.iter().map(|batch| batch.num_rows() as u64).sum();
        let mut add = Vec::new();
        if rows_kept > 0 {
            let mut writer = FileWriter::create(
                self.places.tables.disk().clone(),
                table,
                Arc::new(kept.promoted),
                day_of(file.min_time),
                rows_kept as usize,
                COMPACT_LEVEL,
            )?;
            writer.note_partial(kept.partial);
            kept.groups.iter().try_for_each(|group| match table.sort().stretch_rows {
                Some(_) => writer.write_stretch(group),
                None => writer.write(group),
            })?;
            add.push(Arc::new(self.places.tables.publish(writer.finish()?).await?));
        }
        let kept_as = self.put_aside(&file.path).await?;
        log.commit(&Change { add, remove: vec![file.clone()], ..Change::default() }).await?;
        self.places.tables.remove(&file.path).await?;
        Ok(Repaired {
            path: file.path.to_string(),
            problem,
            rows_kept,
            rows_lost: file.rows.saturating_sub(rows_kept),
            kept_as,
        })
    }

    /// Those row groups that can be decoded, in their order.
    async fn readable_rows(&self, table: Table, file: &Arc<DataFile>) -> Kept {
        let mut source = FileSource::new(self.objects(), file.clone());
        let Ok(footer) = source.footer(&DataDirectory::footers()).await else {
            return Kept {
                groups: Vec::new(),
                promoted: Promoted::of_schema(table, &table.schema()),
                partial: BTreeSet::new(),
            };
        };
        let view = View::of_file(table, &footer);
        let promoted = view.promoted().clone();
        let mut groups = Vec::new();
        for group in 0..footer.metadata().num_row_groups() {
            let builder = ParquetRecordBatchStreamBuilder::new_with_metadata(source.clone(), footer.clone());
            let Ok(batches) = builder.with_row_groups(vec![group]).build() else { continue };
            let Ok(batches) = batches.try_collect::<Vec<_>>().await else { continue };
            let fitted: Result<Vec<_>, _> =
                batches.iter().map(|batch| fitted(&promoted.schema, batch)).collect();
            let group = fitted.and_then(|batches| concat_batches(&promoted.schema, &batches));
            groups.extend(group.ok().filter(|group| group.num_rows() > 0));
        }
        Kept { groups, promoted, partial: view.partial().clone() }
    }

    /// A copy in the data directory's quarantine; its path, unless there is nothing to copy.
    pub(super) async fn put_aside(&self, path: &Path) -> Result<Option<String>, StorageError> {
        let bytes = match self.objects().get(path).await {
            Ok(object) => object.bytes().await?,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let kept = format!("{QUARANTINE_DIRECTORY}/{path}");
        let (disk, name) = (self.places.disk.clone(), kept.clone());
        blocking(move || {
            put(&*disk, &name, &[bytes], Existing::Replace).map_err(|error| StorageError::io(name, error))
        })
        .await?;
        Ok(Some(kept))
    }
}
