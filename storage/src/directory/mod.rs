//! A data directory looked at from outside: what is in it, whether all of it can be read, and what to do if not.

mod check;
mod log_repair;
mod repair;
mod stat;
#[cfg(test)]
mod tests;

use std::{fs::File, sync::Arc};

use object_store::ObjectStore;
use serde::Serialize;

pub use self::{
    check::{CheckReport, Problem, TableCheck},
    repair::{RepairReport, Repaired},
    stat::{ColumnStat, DirectoryStat, TableStat},
};
use crate::{
    StorageConfig, StorageError,
    open::Places,
    read::{FooterCache, footer_cache},
    storage::lock,
    wal::QUARANTINE_DIRECTORY,
};

/// Told how far long work has come: what is being done, and bytes done of how many.
pub type Progress<'a> = &'a (dyn Fn(&str, u64, u64) + Send + Sync);

/// Footers are read once here.
const FOOTER_BYTES: usize = 1 << 20;

/// A data directory, and its tables wherever they are.
pub struct DataDirectory {
    config: StorageConfig,
    places: Places,
    /// Held while nobody else may write.
    lock: Option<File>,
}

/// A file that no table consists of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OtherFile {
    pub path: String,
    pub bytes: u64,
}

impl DataDirectory {
    /// To look at, also while a server uses it. Nothing is changed.
    ///
    /// # Errors
    /// There is no such directory, or the tables' URL is wrong.
    pub fn to_read(config: StorageConfig) -> Result<DataDirectory, StorageError> {
        if !config.data_dir.is_dir() {
            let message = format!("{} is no directory", config.data_dir.display());
            return Err(StorageError::DataDir(message));
        }
        let places = Places::of(&config)?;
        Ok(DataDirectory { config, places, lock: None })
    }

    /// To check and to change.
    ///
    /// # Errors
    /// As [`DataDirectory::to_read`], or a server uses it.
    pub fn to_change(config: StorageConfig) -> Result<DataDirectory, StorageError> {
        let directory = DataDirectory::to_read(config)?;
        let lock = lock(&directory.config.data_dir)?;
        Ok(DataDirectory { lock: Some(lock), ..directory })
    }

    fn objects(&self) -> Arc<dyn ObjectStore> {
        self.places.tables.objects()
    }

    fn footers() -> FooterCache {
        footer_cache(FOOTER_BYTES)
    }

    /// What was put aside because it could not be read.
    fn quarantine(&self) -> Result<Vec<OtherFile>, StorageError> {
        let files = self.places.disk.list(QUARANTINE_DIRECTORY);
        let files = files.map_err(|error| StorageError::io(QUARANTINE_DIRECTORY, error))?;
        let mut files: Vec<OtherFile> =
            files.into_iter().map(|(path, stat)| OtherFile { path, bytes: stat.size }).collect();
        files.sort_by(|left, right| left.path.cmp(&right.path));
        Ok(files)
    }
}
