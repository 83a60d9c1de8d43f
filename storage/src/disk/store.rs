use std::{collections::BTreeSet, fmt, io, ops::Range, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{FutureExt, StreamExt, TryStreamExt, future::try_join_all, stream, stream::BoxStream};
use object_store::{
    CopyMode, CopyOptions, Error, GetOptions, GetRange, GetResult, GetResultPayload, ListResult,
    MultipartUpload, ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result, UploadPart, path::Path,
};

use parking_lot::Mutex;

use super::{Disk, Existing, FileStat, is_unfinished, put};

/// Reads of one file that wait for the disk at one time: a disk serves several as fast as one.
const READS_AT_ONCE: usize = 8;

/// A disk as an object store: what is put is durable and whole before the put returns, as it is in a bucket.
/// (`object_store`'s own local store syncs nothing.)
#[derive(Clone, Debug)]
pub(crate) struct DiskStore {
    disk: Arc<dyn Disk>,
    /// Names that a put failed to make durable: they may be seen, and a crash may take them back.
    doubts: Arc<Mutex<BTreeSet<String>>>,
}

impl DiskStore {
    pub(crate) fn new(disk: Arc<dyn Disk>) -> DiskStore {
        DiskStore { disk, doubts: Arc::default() }
    }

    /// Nobody gets to see a name before it is durable: whoever believes in what it tells gives up what it replaces.
    fn settle(&self, is_asked: impl Fn(&str) -> bool) -> io::Result<()> {
        let mut doubts = self.doubts.lock();
        let asked: Vec<String> = doubts.iter().filter(|name| is_asked(name)).cloned().collect();
        asked.into_iter().try_for_each(|name| {
            let is_seen = self.disk.stat(&name).is_ok();
            if is_seen {
                let named = |error: io::Error| io::Error::new(error.kind(), format!("{name}: {error}"));
                self.disk.sync_names(&name).map_err(named)?;
            }
            doubts.remove(&name);
            Ok(())
        })
    }

    fn put_parts(&self, path: &str, parts: &[Bytes], existing: Existing) -> io::Result<()> {
        let done = put(&*self.disk, path, parts, existing);
        if done.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::AlreadyExists) {
            self.doubts.lock().insert(path.to_string());
        }
        done
    }

    /// File I/O blocks, so it runs apart from the async threads.
    async fn run<T: Send + 'static>(
        &self,
        path: &Path,
        work: impl FnOnce(&DiskStore, &str) -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let (store, name) = (self.clone(), path.as_ref().to_string());
        let done = tokio::task::spawn_blocking(move || work(&store, &name)).await;
        let done = done.unwrap_or_else(|error| Err(io::Error::other(error)));
        done.map_err(|error| store_error(path, error))
    }

    async fn list_under(&self, prefix: Option<&Path>) -> Result<Vec<ObjectMeta>> {
        let prefix = prefix.cloned().unwrap_or_default();
        let files = self.run(&prefix, |store, directory| {
            store.settle(|name| name.starts_with(directory))?;
            store.disk.list(directory)
        });
        let files = files.await?;
        let mut files: Vec<ObjectMeta> = files
            .into_iter()
            .filter(|(path, _)| !is_unfinished(path))
            .map(|(path, stat)| Ok(meta(Path::parse(path)?, &stat)))
            .collect::<Result<_>>()?;
        files.sort_by(|left, right| left.location.cmp(&right.location));
        Ok(files)
    }
}

impl fmt::Display for DiskStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DiskStore({:?})", self.disk)
    }
}

fn store_error(path: &Path, error: io::Error) -> Error {
    let path = path.to_string();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::IsADirectory | io::ErrorKind::NotADirectory => {
            Error::NotFound { path, source: error.into() }
        }
        io::ErrorKind::AlreadyExists => Error::AlreadyExists { path, source: error.into() },
        _ => Error::Generic { store: "disk", source: error.into() },
    }
}

fn meta(location: Path, stat: &FileStat) -> ObjectMeta {
    ObjectMeta {
        location,
        last_modified: stat.modified.into(),
        size: stat.size,
        // Files are replaced whole and rarely within one tick of the clock.
        e_tag: Some(format!("{:x}-{:x}", modified_nanos(stat), stat.size)),
        version: None,
    }
}

fn modified_nanos(stat: &FileStat) -> u128 {
    stat.modified.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_nanos())
}

#[async_trait]
impl ObjectStore for DiskStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let existing = match options.mode {
            PutMode::Overwrite => Existing::Replace,
            PutMode::Create => Existing::Keep,
            PutMode::Update(_) => {
                return Err(Error::NotImplemented {
                    operation: "conditional update".into(),
                    implementer: self.to_string(),
                });
            }
        };
        let parts: Vec<Bytes> = payload.into_iter().collect();
        let stat = self
            .run(location, move |store, path| {
                store.put_parts(path, &parts, existing)?;
                store.disk.stat(path)
            })
            .await?;
        Ok(PutResult { e_tag: meta(location.clone(), &stat).e_tag, version: None })
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Ok(Box::new(Upload { store: self.clone(), location: location.clone(), parts: Vec::new() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let stat = self.run(location, |store, path| {
            store.settle(|name| name == path)?;
            store.disk.stat(path)
        });
        let meta = meta(location.clone(), &stat.await?);
        options.check_preconditions(&meta)?;
        let range = match &options.range {
            _ if options.head => 0..0,
            None => 0..meta.size,
            Some(range) => within(range, meta.size).ok_or_else(|| beyond(location, meta.size))?,
        };
        let wanted = range.clone();
        let bytes = match range.is_empty() {
            true => Bytes::new(),
            false => self.run(location, move |store, path| store.disk.read(path, wanted)).await?,
        };
        let payload = GetResultPayload::Stream(stream::once(async move { Ok(bytes) }).boxed());
        Ok(GetResult { payload, meta, range, attributes: Default::default() })
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let of_one_task = ranges.len().div_ceil(READS_AT_ONCE).max(1);
        let tasks = ranges.chunks(of_one_task).map(|ranges| {
            let ranges = ranges.to_vec();
            self.run(location, move |store, path| {
                let file = store.disk.open(path)?;
                ranges.into_iter().map(|range| file.read(range)).collect::<io::Result<Vec<Bytes>>>()
            })
        });
        Ok(try_join_all(tasks).await?.into_iter().flatten().collect())
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        locations
            .and_then(move |location| {
                let store = store.clone();
                async move {
                    store.run(&location, |store, path| store.disk.remove(path)).await?;
                    Ok(location)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, prefix) = (self.clone(), prefix.cloned());
        stream::once(async move { store.list_under(prefix.as_ref()).await })
            .map_ok(|files| stream::iter(files.into_iter().map(Ok)))
            .try_flatten()
            .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let root = prefix.cloned().unwrap_or_default();
        let mut common_prefixes = BTreeSet::new();
        let mut objects = Vec::new();
        for file in self.list_under(prefix).await? {
            let Some(mut parts) = file.location.prefix_match(&root) else { continue };
            match (parts.next(), parts.next()) {
                (Some(directory), Some(_)) => {
                    common_prefixes.insert(root.clone().join(directory));
                }
                (Some(_), None) => {
                    drop(parts);
                    objects.push(file);
                }
                (None, _) => {}
            }
        }
        Ok(ListResult { common_prefixes: common_prefixes.into_iter().collect(), objects })
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let existing = match options.mode {
            CopyMode::Overwrite => Existing::Replace,
            CopyMode::Create => Existing::Keep,
        };
        let target = to.as_ref().to_string();
        self.run(from, move |store, path| {
            let bytes = store.disk.read(path, 0..u64::MAX)?;
            store.put_parts(&target, &[bytes], existing)
        })
        .await
    }
}

fn within(range: &GetRange, size: u64) -> Option<Range<u64>> {
    match range {
        GetRange::Bounded(range) if range.start < size && range.start < range.end => {
            Some(range.start..range.end.min(size))
        }
        GetRange::Bounded(_) => None,
        GetRange::Offset(start) => (*start < size).then_some(*start..size),
        GetRange::Suffix(length) => Some(size.saturating_sub(*length)..size),
    }
}

fn beyond(path: &Path, size: u64) -> Error {
    Error::Generic { store: "disk", source: format!("{path} has {size} bytes; the range lies beyond").into() }
}

/// Parts are gathered and put at once: only the table log's checkpoints come this way.
#[derive(Debug)]
struct Upload {
    store: DiskStore,
    location: Path,
    parts: Vec<Bytes>,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.parts.extend(data);
        async { Ok(()) }.boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let payload = PutPayload::from_iter(std::mem::take(&mut self.parts));
        self.store.put_opts(&self.location, payload, PutOptions::default()).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.parts.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt;

    use super::*;
    use crate::disk::{CrashDisk, Fault, Unsynced};

    #[tokio::test]
    async fn what_is_seen_after_a_failed_put_survives_a_crash() {
        let path = Path::from("log/00.json");
        let mut failures = 0;
        for (from, mode) in (1..12).flat_map(|from| [(from, PutMode::Create), (from, PutMode::Overwrite)]) {
            let disk = CrashDisk::new().copy(Fault::Full { from, steps: 5 });
            let store = DiskStore::new(Arc::new(disk.clone()));
            let put = store.put_opts(&path, "contents".into(), mode.clone().into()).await;
            failures += u32::from(put.is_err());
            // Nothing is told for as long as the disk is full; then what there is.
            let listed = loop {
                match store.list(None).try_collect::<Vec<_>>().await {
                    Ok(listed) => break listed,
                    Err(error) => assert!(put.is_err(), "from step {from}, {mode:?}: {error}"),
                }
            };
            let found = store.get(&path).await;
            assert_eq!(found.is_ok(), !listed.is_empty(), "from step {from}, {mode:?}");
            assert!(put.is_err() || found.is_ok(), "from step {from}, {mode:?}");
            let after = DiskStore::new(Arc::new(disk.now().after_crash(Unsynced::Lost)));
            let is_there = after.get(&path).await.is_ok();
            assert!(
                is_there || found.is_err(),
                "from step {from}, {mode:?}: seen before the crash, not after"
            );
        }
        assert!(failures > 5, "{failures}");
    }
}
