//! Which files a table consists of: a log of atomic commits.

mod delta;

use std::sync::Arc;

use async_trait::async_trait;

pub(crate) use delta::{APP_ID, DeltaLog, DeltaLogs, rfc3339};

use object_store::ObjectStore;

use crate::{DataFile, StorageError, Table, promoted::Promoted};

/// One atomic change of a table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Change {
    pub(crate) add: Vec<Arc<DataFile>>,
    pub(crate) remove: Vec<Arc<DataFile>>,
    /// All rows of this WAL segment and of those before it are in the table from now on.
    pub(crate) through_segment: Option<u64>,
    /// From now on the table has these columns of attributes.
    pub(crate) promoted: Option<Arc<Promoted>>,
    /// The added files hold the same rows as the removed ones.
    pub(crate) same_rows: bool,
}

/// How a table's log is found, or made.
#[async_trait]
pub(crate) trait OpenTableLog: Send + Sync {
    async fn open(
        &self,
        objects: Arc<dyn ObjectStore>,
        table: Table,
    ) -> Result<Box<dyn TableLog>, StorageError>;
}

#[async_trait]
pub(crate) trait TableLog: Send + Sync {
    /// Whether there was no log before.
    fn is_new(&self) -> bool;

    /// The live files.
    async fn files(&self) -> Result<Vec<Arc<DataFile>>, StorageError>;

    /// The newest WAL segment whose rows are all in the table.
    async fn through_segment(&self) -> Result<Option<u64>, StorageError>;

    /// The columns of attributes that the table has.
    async fn promoted(&self) -> Result<Promoted, StorageError>;

    /// After an error the change may have happened: [`TableLog::reload`] tells.
    async fn commit(&mut self, change: &Change) -> Result<(), StorageError>;

    /// Reads the log anew.
    async fn reload(&mut self) -> Result<(), StorageError>;
}
