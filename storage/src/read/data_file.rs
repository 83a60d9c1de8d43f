use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use object_store::{ObjectStore, ObjectStoreExt, path::Path};
use parquet::{
    arrow::{
        arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions},
        async_reader::AsyncFileReader,
    },
    errors::{ParquetError, Result as ParquetResult},
    file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader},
};
use pharos_model::{TimeRange, UnixNanos};

use crate::{StorageError, checked_files::checksum_in_name, file_cache::FileCache};

/// A Parquet file of a table, as its log states it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataFile {
    /// In the snapshot's object store: `spans/date=2026-11-21/<unique>-<CRC-32C of the file>.parquet`.
    pub path: Path,
    pub size_bytes: u64,
    pub rows: u64,
    /// Of the column `time`, both inclusive. The later one is rounded up to the end of its microsecond.
    pub min_time: UnixNanos,
    pub max_time: UnixNanos,
    /// When it was written.
    pub modified_ms: i64,
}

impl DataFile {
    pub(crate) fn overlaps(&self, range: TimeRange) -> bool {
        range.overlaps(self.min_time, self.max_time)
    }

    /// The CRC-32C that the file had when it was written; files of others have none in their names.
    pub(crate) fn checksum(&self) -> Option<u32> {
        checksum_in_name(&self.path)
    }

    /// The UTC date of its partition, `2026-11-21`.
    pub(crate) fn date(&self) -> Option<&str> {
        self.path.as_ref().split('/').find_map(|part| part.strip_prefix("date="))
    }
}

/// Footers of files, so that a dashboard's refresh does not parse them again.
pub(crate) type FooterCache = FileCache<Arc<ParquetMetaData>>;

pub(crate) fn footer_cache(limit_bytes: usize) -> FooterCache {
    FileCache::new(limit_bytes, |footer| footer.memory_size())
}

/// Byte ranges of one file, read through the object store.
#[derive(Clone)]
pub(crate) struct FileSource {
    store: Arc<dyn ObjectStore>,
    file: Arc<DataFile>,
}

impl FileSource {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, file: Arc<DataFile>) -> FileSource {
        FileSource { store, file }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.file.path
    }

    /// What went wrong while the file was read.
    pub(crate) fn broken(&self, error: ParquetError) -> StorageError {
        StorageError::of_file(&self.file.path, error)
    }

    /// The footer with its page index, from the cache if it is there.
    pub(crate) async fn footer(&mut self, cache: &FooterCache) -> Result<ArrowReaderMetadata, StorageError> {
        let footer = match cache.get(&self.file.path) {
            Some(footer) => footer,
            None => {
                let footer = self.get_metadata(None).await;
                let footer = footer.map_err(|error| self.broken(error))?;
                cache.insert(self.file.path.clone(), footer.clone());
                footer
            }
        };
        Ok(ArrowReaderMetadata::try_new(footer, ArrowReaderOptions::new())?)
    }
}

fn external(error: object_store::Error) -> ParquetError {
    ParquetError::External(Box::new(error))
}

impl AsyncFileReader for FileSource {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        async move { self.store.get_range(&self.file.path, range).await.map_err(external) }.boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        async move { self.store.get_ranges(&self.file.path, &ranges).await.map_err(external) }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        async move {
            let size = self.file.size_bytes;
            let reader = ParquetMetaDataReader::new()
                .with_page_index_policy(PageIndexPolicy::Optional)
                .with_prefetch_hint(Some(64 << 10));
            Ok(Arc::new(reader.load_and_finish(self, size).await?))
        }
        .boxed()
    }
}
