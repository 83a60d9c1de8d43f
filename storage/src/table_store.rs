//! Where the tables' files and logs are: a directory, or a bucket of an object store. Both are used by one path; they
//! differ in how a finished file gets its name.

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::{
    Error as ObjectError, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
    path::Path, prefix::PrefixStore,
};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::{
    DataFile, StorageError,
    checked_files::CheckedFiles,
    disk::{Disk, DiskStore, Existing, LocalDisk, publish, put},
    flush::blocking,
    read_cache::{ReadCache, ReadCacheStats},
};

/// A larger file is uploaded in parts of this size.
const PART_BYTES: u64 = 8 << 20;

/// In a bucket: whose tables these are.
const OWNER: &str = "pharos-owner.json";

/// In a data directory: the name by which a bucket knows it.
const IDENTITY: &str = "IDENTITY";

#[derive(Clone)]
pub(crate) struct TableStore {
    objects: Arc<CheckedFiles>,
    cache: Option<ReadCache>,
    /// Where files are made before they have their name.
    disk: Arc<dyn Disk>,
    home: Home,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Home {
    /// The objects are files of the disk.
    Disk,
    Bucket,
}

/// A file that is whole and durable, but of a name that nobody looks for.
#[derive(Debug)]
pub(crate) struct Unpublished {
    pub(crate) unfinished: String,
    pub(crate) file: DataFile,
}

#[derive(Serialize, Deserialize)]
struct Owner {
    data_directory: String,
}

impl TableStore {
    pub(crate) fn on_disk(disk: Arc<dyn Disk>) -> TableStore {
        TableStore::new(Arc::new(DiskStore::new(disk.clone())), disk, Home::Disk)
    }

    /// Files are made on the disk and then uploaded.
    pub(crate) fn in_bucket(objects: Arc<dyn ObjectStore>, disk: Arc<dyn Disk>) -> TableStore {
        TableStore::new(objects, disk, Home::Bucket)
    }

    fn new(objects: Arc<dyn ObjectStore>, disk: Arc<dyn Disk>, home: Home) -> TableStore {
        TableStore { objects: Arc::new(CheckedFiles::new(objects)), cache: None, disk, home }
    }

    /// Data files that were found to be damaged since the start.
    pub(crate) fn damaged_files(&self) -> usize {
        self.objects.damaged_files()
    }

    /// `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`, `abfss://…`, or `file:///folder`.
    /// Credentials and endpoints are those of the environment, by the names that the store's own tools use
    /// (`AWS_ACCESS_KEY_ID`, `GOOGLE_SERVICE_ACCOUNT`, `AZURE_STORAGE_ACCOUNT_NAME`, …).
    ///
    /// # Errors
    /// The URL is of no known kind, or incomplete.
    pub(crate) fn at_url(
        url: &str,
        disk: Arc<dyn Disk>,
        cache_bytes: u64,
    ) -> Result<TableStore, StorageError> {
        let wrong = |error: String| StorageError::TablesUrl { url: url.to_string(), message: error };
        let parsed = Url::parse(url).map_err(|error| wrong(error.to_string()))?;
        if parsed.scheme() == "file" {
            let folder = parsed.to_file_path().map_err(|()| wrong("no path of this machine".to_string()))?;
            std::fs::create_dir_all(&folder).map_err(|error| StorageError::io(&folder, error))?;
            return Ok(TableStore::on_disk(Arc::new(LocalDisk::new(folder))));
        }
        let (objects, prefix) =
            object_store::parse_url_opts(&parsed, settings_of_environment()).map_err(|error| {
                wrong(match error {
                    ObjectError::Generic { source, .. } => source.to_string(),
                    other => other.to_string(),
                })
            })?;
        let objects: Arc<dyn ObjectStore> = Arc::from(objects);
        let objects = match prefix.as_ref() {
            "" => objects,
            _ => Arc::new(PrefixStore::new(objects, prefix)),
        };
        if cache_bytes == 0 {
            return Ok(TableStore::in_bucket(objects, disk));
        }
        let cache = ReadCache::open(objects, disk.clone(), cache_bytes)?;
        let store = TableStore::in_bucket(Arc::new(cache.clone()), disk);
        Ok(TableStore { cache: Some(cache), ..store })
    }

    /// `None` without a cache.
    pub(crate) fn read_cache(&self) -> Option<ReadCacheStats> {
        self.cache.as_ref().map(ReadCache::stats)
    }

    /// Readers get data files as they were written, or an error.
    pub(crate) fn objects(&self) -> Arc<dyn ObjectStore> {
        self.objects.clone()
    }

    /// Where files are to be made.
    pub(crate) fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// A bucket must keep two writers from overwriting each other's commits, and must have one owner: its tables are
    /// one half of what is stored, the owner's write-ahead log is the other.
    pub(crate) async fn claim(&self, data_dir: &Arc<dyn Disk>) -> Result<(), StorageError> {
        if self.home == Home::Disk {
            return Ok(());
        }
        self.probe().await?;
        let disk = data_dir.clone();
        let identity = blocking(move || identity(&*disk)).await?;
        let own = serde_json::to_vec(&Owner { data_directory: identity.clone() })
            .map_err(|error| StorageError::DataDir(error.to_string()))?;
        match self.create(OWNER, own).await {
            Ok(()) => return Ok(()),
            Err(ObjectError::AlreadyExists { .. } | ObjectError::Precondition { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let found = self.objects.get(&Path::from(OWNER)).await?.bytes().await?;
        let owner = serde_json::from_slice::<Owner>(&found).map(|owner| owner.data_directory);
        if owner.as_ref().is_ok_and(|owner| *owner == identity) {
            return Ok(());
        }
        Err(StorageError::DataDir(format!(
            "the tables in {} belong to the data directory with the identity {}, and this one has {identity}: two \
             writers would damage each other's tables. Use another prefix; or, if that data directory is gone for \
             good, remove the object {OWNER} and start again",
            self.objects,
            owner.unwrap_or_else(|_| "(unreadable)".to_string()),
        )))
    }

    /// Puts an object that is there already: a store that takes it would let commits overwrite each other.
    async fn probe(&self) -> Result<(), StorageError> {
        let name = format!("pharos-probe-{}", uuid::Uuid::new_v4().simple());
        self.create(&name, b"first".to_vec()).await?;
        let second = self.create(&name, b"second".to_vec()).await;
        self.objects.delete(&Path::from(name)).await?;
        match second {
            Err(ObjectError::AlreadyExists { .. } | ObjectError::Precondition { .. }) => Ok(()),
            Ok(()) => Err(StorageError::DataDir(format!(
                "{} does not honour conditional puts (If-None-Match: *): commits to a table could overwrite each \
                 other. Use a store that does, or keep the tables on a local disk",
                self.objects
            ))),
            Err(error) => Err(error.into()),
        }
    }

    async fn create(&self, name: &str, bytes: Vec<u8>) -> Result<(), ObjectError> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        self.objects.put_opts(&Path::from(name), bytes.into(), options).await.map(drop)
    }

    /// Gives a file the name by which logs and readers know it. Durable and whole when this returns.
    pub(crate) async fn publish(&self, written: Unpublished) -> Result<DataFile, StorageError> {
        let Unpublished { unfinished, file } = written;
        let named = match self.home {
            Home::Disk => {
                let (disk, from, to) = (self.disk.clone(), unfinished.clone(), file.path.to_string());
                blocking(move || {
                    publish(&*disk, &from, &to, Existing::Keep).map_err(|error| StorageError::io(to, error))
                })
                .await
            }
            Home::Bucket => self.upload(&unfinished, &file).await,
        };
        if self.home == Home::Bucket || named.is_err() {
            let disk = self.disk.clone();
            // What stays is removed at the next start.
            let _ = blocking(move || {
                disk.remove(&unfinished).map_err(|error| StorageError::io(unfinished, error))
            })
            .await;
        }
        named.map(|()| file)
    }

    async fn upload(&self, from: &str, file: &DataFile) -> Result<(), StorageError> {
        let read = async |range: std::ops::Range<u64>| -> Result<PutPayload, StorageError> {
            let (disk, from) = (self.disk.clone(), from.to_string());
            let bytes: Bytes =
                blocking(move || disk.read(&from, range).map_err(|error| StorageError::io(from, error)))
                    .await?;
            Ok(bytes.into())
        };
        if file.size_bytes <= PART_BYTES {
            self.objects.put(&file.path, read(0..file.size_bytes).await?).await?;
            return Ok(());
        }
        let mut upload = self.objects.put_multipart(&file.path).await?;
        let uploaded = async {
            let mut start = 0;
            while start < file.size_bytes {
                let end = (start + PART_BYTES).min(file.size_bytes);
                upload.put_part(read(start..end).await?).await?;
                start = end;
            }
            upload.complete().await?;
            Ok(())
        }
        .await;
        if uploaded.is_err() {
            // Else the store keeps the parts, and their price.
            let _ = upload.abort().await;
        }
        uploaded
    }

    /// What is gone already is removed.
    pub(crate) async fn remove(&self, path: &Path) -> Result<(), StorageError> {
        match self.objects.delete(path).await {
            Ok(()) | Err(ObjectError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The finished data files in the table's folder, whether its log names them or not.
    pub(crate) async fn data_files(&self, table: &str) -> Result<Vec<ObjectMeta>, StorageError> {
        let mut found: Vec<ObjectMeta> = self.objects.list(Some(&Path::from(table))).try_collect().await?;
        let partition = format!("{table}/date=");
        found.retain(|object| {
            let path = object.location.as_ref();
            path.starts_with(&partition) && path.ends_with(".parquet")
        });
        Ok(found)
    }
}

/// What the stores' own tools take from the environment.
fn settings_of_environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| ["AWS_", "GOOGLE_", "AZURE_"].iter().any(|prefix| name.starts_with(prefix)))
        .map(|(name, value)| (name.to_ascii_lowercase(), value))
        .collect()
}

/// The directory's own name; a new one gets one.
fn identity(disk: &dyn Disk) -> Result<String, StorageError> {
    let wrap = |error| StorageError::io(IDENTITY, error);
    match disk.read(IDENTITY, 0..u64::MAX) {
        Ok(known) => Ok(String::from_utf8_lossy(&known).trim().to_string()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let new = uuid::Uuid::new_v4().to_string();
            put(disk, IDENTITY, &[Bytes::from(new.clone())], Existing::Keep).map_err(wrap)?;
            Ok(new)
        }
        Err(error) => Err(wrap(error)),
    }
}

#[cfg(test)]
mod tests;
