use std::{path::PathBuf, sync::Arc, time::Duration};

use crate::checked_files::Damage;

/// Something that the storage could not do. Cheap to clone, since one failed commit answers many writers.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StorageError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: Arc<std::io::Error> },
    #[error("columns: {0}")]
    Arrow(Arc<arrow::error::ArrowError>),
    #[error("Parquet: {0}")]
    Parquet(Arc<parquet::errors::ParquetError>),
    #[error("object store: {0}")]
    ObjectStore(Arc<object_store::Error>),
    #[error("table log of {table}: {message}")]
    TableLog { table: &'static str, message: String },
    #[error("the tables' place {url:?}: {message}")]
    TablesUrl { url: String, message: String },
    #[error("more than {limit} series match")]
    TooManySeries { limit: usize },
    #[error("no column {column:?} in table {table}")]
    NoColumn { table: &'static str, column: String },
    #[error(
        "{path} cannot be read: {message}. `pharos storage check` looks at all files, `pharos storage repair` puts aside what is broken and keeps the rest"
    )]
    BrokenFile { path: String, message: String },
    #[error("data directory: {0}")]
    DataDir(String),
    #[error("table {0} is not made of others")]
    NotDerived(&'static str),
    #[error("not now: {0}")]
    Busy(String),
    #[error("the storage is closed")]
    Closed,
}

impl StorageError {
    pub(crate) fn io(path: impl Into<PathBuf>, source: std::io::Error) -> StorageError {
        StorageError::Io { path: path.into(), source: Arc::new(source) }
    }
}

impl StorageError {
    /// The damage of a data file that another library's error goes back to, if it does.
    pub fn damage_behind(error: &(dyn std::error::Error + 'static)) -> Option<StorageError> {
        let damage = Damage::behind(error)?;
        Some(StorageError::BrokenFile { path: damage.path.to_string(), message: damage.to_string() })
    }

    /// What went wrong while a data file was read. A store that does not answer says nothing of the file.
    pub(crate) fn of_file(
        path: &object_store::path::Path,
        error: parquet::errors::ParquetError,
    ) -> StorageError {
        use object_store::Error as ObjectError;
        if let Some(broken) = StorageError::damage_behind(&error) {
            return broken;
        }
        let path = path.to_string();
        match error {
            parquet::errors::ParquetError::External(source) => match source.downcast::<ObjectError>() {
                Ok(error) => match *error {
                    ObjectError::NotFound { .. } => {
                        StorageError::BrokenFile { path, message: "it is not there".to_string() }
                    }
                    error => StorageError::ObjectStore(Arc::new(error)),
                },
                Err(source) => StorageError::BrokenFile { path, message: source.to_string() },
            },
            error => StorageError::BrokenFile { path, message: error.to_string() },
        }
    }
}

impl From<arrow::error::ArrowError> for StorageError {
    fn from(error: arrow::error::ArrowError) -> StorageError {
        StorageError::damage_behind(&error).unwrap_or_else(|| StorageError::Arrow(Arc::new(error)))
    }
}

impl From<parquet::errors::ParquetError> for StorageError {
    fn from(error: parquet::errors::ParquetError) -> StorageError {
        StorageError::damage_behind(&error).unwrap_or_else(|| StorageError::Parquet(Arc::new(error)))
    }
}

impl From<object_store::Error> for StorageError {
    fn from(error: object_store::Error) -> StorageError {
        StorageError::damage_behind(&error).unwrap_or_else(|| StorageError::ObjectStore(Arc::new(error)))
    }
}

/// Why a batch was not taken. Nothing of it was stored, except as [`AppendError::Failed`] says.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// Memory or disk for unflushed rows is used up: the protocol's own 'later'. Readers are not affected.
    #[error("overloaded, retry after {retry_after:?}")]
    Overloaded { retry_after: Duration },
    /// Sending the batch again is of no use.
    #[error("invalid batch: {message}")]
    Invalid { message: String },
    /// The batch may or may not be found after a restart; what has an identity can be sent again without doubling.
    #[error("not stored: {0}")]
    Failed(#[from] StorageError),
}
