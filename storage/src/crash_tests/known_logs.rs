//! Table logs that are read once for each state of their folder, since thousands of crashes leave the same one.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use object_store::ObjectStore;
use parking_lot::Mutex;

use crate::{
    DataFile, StorageError, Table,
    disk::CrashDisk,
    promoted::Promoted,
    table_log::{Change, DeltaLogs, OpenTableLog, TableLog},
};

/// What a log said, by the fingerprint of its folder. Good for the disks that grew out of one recording.
pub(super) type Known = Arc<Mutex<HashMap<(Table, u64), (Vec<Arc<DataFile>>, Option<u64>, Promoted)>>>;

pub(super) struct KnownLogs {
    pub(super) disk: CrashDisk,
    pub(super) known: Known,
}

#[async_trait]
impl OpenTableLog for KnownLogs {
    async fn open(
        &self,
        objects: Arc<dyn ObjectStore>,
        table: Table,
    ) -> Result<Box<dyn TableLog>, StorageError> {
        let key = (table, self.disk.fingerprint(&format!("{}/_delta_log", table.name())));
        let known = self.known.lock().get(&key).cloned();
        let Some((files, through_segment, promoted)) = known else {
            let log = DeltaLogs.open(objects, table).await?;
            if !log.is_new() {
                let said = (log.files().await?, log.through_segment().await?, log.promoted().await?);
                self.known.lock().insert(key, said);
            }
            return Ok(log);
        };
        Ok(Box::new(KnownLog { objects, table, files, through_segment, promoted, log: None }))
    }
}

struct KnownLog {
    objects: Arc<dyn ObjectStore>,
    table: Table,
    files: Vec<Arc<DataFile>>,
    through_segment: Option<u64>,
    promoted: Promoted,
    /// The real one, once it is needed.
    log: Option<Box<dyn TableLog>>,
}

#[async_trait]
impl TableLog for KnownLog {
    fn is_new(&self) -> bool {
        false
    }

    async fn files(&self) -> Result<Vec<Arc<DataFile>>, StorageError> {
        match &self.log {
            Some(log) => log.files().await,
            None => Ok(self.files.clone()),
        }
    }

    async fn through_segment(&self) -> Result<Option<u64>, StorageError> {
        match &self.log {
            Some(log) => log.through_segment().await,
            None => Ok(self.through_segment),
        }
    }

    async fn promoted(&self) -> Result<Promoted, StorageError> {
        match &self.log {
            Some(log) => log.promoted().await,
            None => Ok(self.promoted.clone()),
        }
    }

    async fn commit(&mut self, change: &Change) -> Result<(), StorageError> {
        if self.log.is_none() {
            self.log = Some(DeltaLogs.open(self.objects.clone(), self.table).await?);
        }
        match &mut self.log {
            Some(log) => log.commit(change).await,
            None => Ok(()),
        }
    }

    async fn reload(&mut self) -> Result<(), StorageError> {
        match &mut self.log {
            Some(log) => log.reload().await,
            None => Ok(()),
        }
    }
}
