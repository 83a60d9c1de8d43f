use object_store::memory::InMemory;

use super::*;
use crate::{Storage, StorageConfig, disk::CrashDisk, open::Places, table_log::DeltaLogs};

fn disk() -> Arc<dyn Disk> {
    Arc::new(CrashDisk::new())
}

async fn open(disk: &Arc<dyn Disk>, objects: &Arc<InMemory>) -> Result<Storage, StorageError> {
    let tables = TableStore::in_bucket(objects.clone(), disk.clone());
    let places = Places { disk: disk.clone(), tables, logs: Arc::new(DeltaLogs) };
    Storage::open_in(StorageConfig { retention: None, ..StorageConfig::new("") }, places, None).await
}

#[tokio::test]
async fn a_bucket_has_one_data_directory() {
    let (objects, own, other) = (Arc::new(InMemory::new()), disk(), disk());
    open(&own, &objects).await.unwrap().close().await.unwrap();
    open(&own, &objects).await.unwrap().close().await.unwrap();
    let error = open(&other, &objects).await.err().unwrap().to_string();
    assert!(error.contains("belong to the data directory") && error.contains(OWNER), "{error}");
    objects.delete(&Path::from(OWNER)).await.unwrap();
    open(&other, &objects).await.unwrap();
}

#[tokio::test]
async fn large_files_are_uploaded_in_parts_and_are_the_same() {
    let (objects, disk) = (Arc::new(InMemory::new()), disk());
    let store = TableStore::in_bucket(objects.clone(), disk.clone());
    for size in [0, 1, PART_BYTES, PART_BYTES + 1, 2 * PART_BYTES + 77] {
        let bytes: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
        let mut file = disk.create("new").unwrap();
        file.append(&bytes).unwrap();
        let path = Path::from(format!("spans/date=2026-11-21/{size}.parquet"));
        let time = pharos_model::UnixNanos(0);
        let file = DataFile {
            path: path.clone(),
            size_bytes: size,
            rows: 1,
            min_time: time,
            max_time: time,
            modified_ms: 0,
        };
        store.publish(Unpublished { unfinished: "new".to_string(), file }).await.unwrap();
        assert_eq!(objects.get(&path).await.unwrap().bytes().await.unwrap(), bytes);
        assert!(disk.stat("new").is_err(), "the local copy is left");
    }
}

/// A store that takes a conditional put for a plain one.
#[derive(Debug)]
struct Careless(InMemory);

impl std::fmt::Display for Careless {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("careless store")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Careless {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        _: PutOptions,
    ) -> object_store::Result<object_store::PutResult> {
        self.0.put_opts(location, payload, PutOptions::default()).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: object_store::PutMultipartOptions,
    ) -> object_store::Result<Box<dyn object_store::MultipartUpload>> {
        self.0.put_multipart_opts(location, options).await
    }

    async fn get_opts(
        &self,
        location: &Path,
        options: object_store::GetOptions,
    ) -> object_store::Result<object_store::GetResult> {
        self.0.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: futures::stream::BoxStream<'static, object_store::Result<Path>>,
    ) -> futures::stream::BoxStream<'static, object_store::Result<Path>> {
        self.0.delete_stream(locations)
    }

    fn list(
        &self,
        prefix: Option<&Path>,
    ) -> futures::stream::BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.0.list(prefix)
    }

    async fn list_with_delimiter(
        &self,
        prefix: Option<&Path>,
    ) -> object_store::Result<object_store::ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(
        &self,
        from: &Path,
        to: &Path,
        options: object_store::CopyOptions,
    ) -> object_store::Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}

#[tokio::test]
async fn a_store_without_conditional_puts_is_refused() {
    let disk = disk();
    let store = TableStore::in_bucket(Arc::new(Careless(InMemory::new())), disk.clone());
    let error = store.claim(&disk).await.unwrap_err().to_string();
    assert!(error.contains("conditional put") && error.contains("careless store"), "{error}");
}

#[test]
fn a_wrong_url_is_named() {
    for (url, words) in
        [("bucket/x", "relative URL"), ("ftp://host/x", "recognise"), ("file://host/x", "path")]
    {
        let error = TableStore::at_url(url, disk(), 0).err().unwrap().to_string();
        assert!(error.contains(url) && error.contains(words), "{url}: {error}");
    }
}
