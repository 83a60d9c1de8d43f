//! A table whose log cannot be read gets a new one: of the files that are in its folder, without those of which any
//! commit that can still be read says that they were removed.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use futures::TryStreamExt;
use object_store::{ObjectStoreExt, path::Path};
use parquet::arrow::{ProjectionMask, async_reader::ParquetRecordBatchStreamBuilder};
use pharos_model::UnixNanos;
use serde_json::Value;

use super::{DataDirectory, RepairReport, Repaired};
use crate::{
    DataFile, StorageError, Table,
    parquet_file::times_us,
    promoted::{Promoted, PromotedColumn},
    read::FileSource,
    table_log::{APP_ID, Change, DeltaLog, TableLog},
};

/// What can still be read of a log's commits.
#[derive(Default)]
struct Readable {
    removed: HashSet<String>,
    flushed_through: Option<u64>,
}

impl Readable {
    /// A commit is a JSON object in each line; broken ones are passed over.
    fn read(&mut self, commit: &[u8]) {
        for line in commit.split(|byte| *byte == b'\n') {
            let Ok(action) = serde_json::from_slice::<Value>(line) else { continue };
            if let Some(path) = action["remove"]["path"].as_str() {
                self.removed.insert(path.to_string());
            }
            if action["txn"]["appId"] == APP_ID {
                self.flushed_through = self.flushed_through.max(action["txn"]["version"].as_u64());
            }
        }
    }
}

impl DataDirectory {
    /// Puts the log aside and makes a new one.
    pub(super) async fn repair_log(
        &self,
        table: Table,
        problem: &str,
        report: &mut RepairReport,
    ) -> Result<DeltaLog, StorageError> {
        let folder = Path::from(format!("{}/_delta_log", table.name()));
        let mut readable = Readable::default();
        let of_log: Vec<_> = self.objects().list(Some(&folder)).try_collect().await?;
        for object in &of_log {
            if object.location.as_ref().ends_with(".json") {
                readable.read(&self.objects().get(&object.location).await?.bytes().await?);
            }
            self.put_aside(&object.location).await?;
        }
        let (mut files, mut lost) = (HashMap::new(), Vec::new());
        let mut promoted = Promoted::of_schema(table, &table.schema());
        for object in self.places.tables.data_files(table.name()).await? {
            let path = object.location.to_string();
            let within = path.strip_prefix(table.name()).and_then(|path| path.strip_prefix('/'));
            if within.is_some_and(|path| readable.removed.contains(path)) {
                continue;
            }
            match self.described(table, &object).await {
                Ok((file, of_file)) => {
                    let known: HashSet<String> = promoted.columns.iter().map(PromotedColumn::name).collect();
                    let more = of_file.columns.into_iter().filter(|column| !known.contains(&column.name()));
                    promoted = promoted.with(table, more.collect());
                    files.insert(path, Arc::new(file));
                }
                Err(error) => lost.push((object.location, error.to_string())),
            }
        }
        for (location, problem) in lost {
            let kept_as = self.put_aside(&location).await?;
            self.places.tables.remove(&location).await?;
            let path = location.to_string();
            report.repaired.push(Repaired { path, problem, rows_kept: 0, rows_lost: 0, kept_as });
        }
        for object in &of_log {
            self.places.tables.remove(&object.location).await?;
        }
        let mut log = DeltaLog::open(self.objects(), table).await?;
        let add: Vec<_> = files.into_values().collect();
        let rows_kept = add.iter().map(|file| file.rows).sum();
        let through_segment = readable.flushed_through;
        let promoted = Some(Arc::new(promoted)).filter(|promoted| !promoted.columns.is_empty());
        log.commit(&Change { add, through_segment, promoted, ..Change::default() }).await?;
        report.repaired.push(Repaired {
            path: folder.to_string(),
            problem: problem.to_string(),
            rows_kept,
            rows_lost: 0,
            kept_as: Some(format!("{}/{folder}", crate::wal::QUARANTINE_DIRECTORY)),
        });
        Ok(log)
    }

    /// What a log would say of a file, and the attributes that are columns in it.
    async fn described(
        &self,
        table: Table,
        object: &object_store::ObjectMeta,
    ) -> Result<(DataFile, Promoted), StorageError> {
        let mut file = DataFile {
            path: object.location.clone(),
            size_bytes: object.size,
            rows: 0,
            min_time: UnixNanos::MAX,
            max_time: UnixNanos::MIN,
            modified_ms: object.last_modified.timestamp_millis(),
        };
        let mut source = FileSource::new(self.objects(), Arc::new(file.clone()));
        let footer = source.footer(&DataDirectory::footers()).await?;
        let promoted = Promoted::of_schema(table, footer.schema());
        let builder = ParquetRecordBatchStreamBuilder::new_with_metadata(source, footer);
        let mask = ProjectionMask::columns(builder.parquet_schema(), ["time"]);
        let mut batches = builder.with_projection(mask).build()?;
        while let Some(batch) = batches.try_next().await? {
            file.rows += batch.num_rows() as u64;
            for micros in times_us(&batch)? {
                file.min_time = file.min_time.min(UnixNanos::from_micros(*micros));
                file.max_time = file.max_time.max(UnixNanos::from_micros(*micros).plus_nanos(999));
            }
        }
        Ok((file, promoted))
    }
}
