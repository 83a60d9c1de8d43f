//! A table's rows as one plain Parquet file, for programs that know nothing of Delta.

use std::{
    fs::{self, File},
    path::Path,
};

use futures::TryStreamExt;
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    file::properties::WriterProperties,
};
use pharos_model::TimeRange;

use crate::{Scan, Storage, StorageError, Table, flush::off_thread, parquet_file::COMPACT_LEVEL};

impl Storage {
    /// Writes the rows of `range` to a new file, which is there whole or not at all, and says how many there are.
    /// `progress` is told how many of about how many are written.
    ///
    /// # Errors
    /// There is a file of that name, or rows cannot be read or written.
    pub async fn export(
        &self,
        table: Table,
        range: TimeRange,
        path: &Path,
        progress: impl Fn(u64, u64) + Send + Sync + 'static,
    ) -> Result<u64, StorageError> {
        let snapshot = self.snapshot(table, range)?;
        let (path, about) = (path.to_path_buf(), snapshot.rows());
        off_thread(async move {
            let unfinished = path.with_extension("parquet.unfinished");
            let wrap = |error| StorageError::io(&path, error);
            if path.exists() {
                return Err(wrap(std::io::ErrorKind::AlreadyExists.into()));
            }
            let file = File::create(&unfinished).map_err(wrap)?;
            let properties = WriterProperties::builder()
                .set_compression(Compression::ZSTD(ZstdLevel::try_new(COMPACT_LEVEL)?))
                .build();
            let written = async {
                let mut writer = ArrowWriter::try_new(file, table.schema(), Some(properties))?;
                // Attributes all in their maps.
                let schema = table.schema();
                let columns = schema.fields().iter().map(|field| field.name().as_str());
                let mut batches = snapshot.read(&Scan::new(range).columns(columns)).await?;
                let mut rows = 0;
                while let Some(batch) = batches.try_next().await? {
                    writer.write(&batch)?;
                    rows += batch.num_rows() as u64;
                    progress(rows, about);
                }
                writer.into_inner()?.sync_all().map_err(wrap)?;
                fs::rename(&unfinished, &path).map_err(wrap)?;
                Ok(rows)
            }
            .await;
            if written.is_err() {
                let _ = fs::remove_file(&unfinished);
            }
            written
        })
        .await
    }
}
