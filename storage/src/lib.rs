//! The storage engine: takes rows, makes them durable, keeps them in columnar tables and gives them back.
//!
//! [`Storage`] is the face: `append` batches of `pharos_model` values; `snapshot` a table and `read` it; choose
//! series and read their values, block by block, with `select_samples`; sum up `edges`.
//!
//! It knows Arrow and Parquet. It knows no query language, no wire protocol and no DataFusion, and it derives no
//! truth of its own: `edges` and `trace_summaries` can be made anew from the other tables.

mod attribute_types;
mod checked_files;
mod columns;
mod commit;
mod compact;
mod config;
#[cfg(test)]
mod crash_tests;
mod decode;
mod derive;
mod directory;
mod disk;
mod error;
mod export;
#[cfg(test)]
mod fault_tests;
mod file_cache;
mod flush;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod head;
mod identity;
mod open;
mod parquet_file;
mod promoted;
mod read;
mod read_cache;
mod rebuild;
mod rows;
mod series_index;
mod shared;
mod stats;
mod storage;
mod table;
mod table_log;
mod table_store;
#[cfg(test)]
mod test_rows;
mod wal;
mod weight;

pub use commit::{Appended, RejectedSamples};
pub use config::{Durability, StorageConfig};
pub use decode::{access_logs_of, edges_of, logs_of, mesh_objects_of, spans_of, trace_summaries_of};
pub use directory::{
    CheckReport, ColumnStat, DataDirectory, DirectoryStat, OtherFile, Problem, Progress, RepairReport,
    Repaired, TableCheck, TableStat,
};
pub use error::{AppendError, StorageError};
pub use read::{
    DataFile, SampleBlock, SampleReader, Scan, ScanValue, SeriesColumns, SeriesHistograms, TableSnapshot,
};
pub use read_cache::ReadCacheStats;
pub use rebuild::RebuildProgress;
pub use rows::{ServiceCount, TraceSummary};
pub use series_index::{Cardinality, Count};
pub use stats::{StorageStats, TableStats};
pub use storage::Storage;
pub use table::{Batch, Table};
