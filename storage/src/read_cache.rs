//! Blocks of data files in a bucket, kept on the local disk: what was read once is not fetched again. Data files never
//! change, so a block is right for as long as its file is there; a copy that a crash or the medium has damaged is
//! fetched anew.

use std::{
    collections::BTreeMap,
    fmt, io,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream, stream::BoxStream};
use hashbrown::HashMap;
use object_store::{
    CopyOptions, GetOptions, GetRange, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, path::Path,
};
use parking_lot::Mutex;

use crate::{
    StorageError,
    checked_files::checksum_in_name,
    disk::{Disk, UNFINISHED, is_unfinished},
    flush::blocking,
};

/// In the data directory.
const FOLDER: &str = "cache";

/// Much enough to be worth a request to a bucket.
const BLOCK_BYTES: u64 = 512 << 10;

/// Requests for one read.
const REQUESTS: usize = 8;

/// After the bytes of a block: their CRC-32C.
const SUM_BYTES: usize = 4;

/// What the cache has done since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadCacheStats {
    /// Blocks that were there, and those that had to be fetched.
    pub hits: u64,
    pub misses: u64,
    /// On disk now.
    pub bytes: u64,
}

/// An object store in front of which blocks of data files are kept.
#[derive(Clone)]
pub(crate) struct ReadCache {
    objects: Arc<dyn ObjectStore>,
    disk: Arc<dyn Disk>,
    limit_bytes: u64,
    blocks: Arc<Mutex<Blocks>>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    hits: AtomicU64,
    misses: AtomicU64,
}

/// The blocks on disk by the path of their copy.
#[derive(Default)]
struct Blocks {
    known: HashMap<String, Block>,
    /// By when they were used last.
    by_use: BTreeMap<u64, String>,
    bytes: u64,
    uses: u64,
}

struct Block {
    bytes: u64,
    used: u64,
}

impl Blocks {
    fn insert(&mut self, path: String, bytes: u64) {
        self.remove(&path);
        self.uses += 1;
        self.by_use.insert(self.uses, path.clone());
        self.bytes += bytes;
        self.known.insert(path, Block { bytes, used: self.uses });
    }

    fn remove(&mut self, path: &str) {
        if let Some(block) = self.known.remove(path) {
            self.by_use.remove(&block.used);
            self.bytes -= block.bytes;
        }
    }

    /// Whether it is there; if so, it is the newest from now on.
    fn touch(&mut self, path: &str) -> bool {
        let Some(block) = self.known.get_mut(path) else { return false };
        self.uses += 1;
        if let Some(path) = self.by_use.remove(&block.used) {
            self.by_use.insert(self.uses, path);
        }
        block.used = self.uses;
        true
    }

    /// Those that have to go.
    fn beyond(&mut self, limit_bytes: u64) -> Vec<String> {
        let mut gone = Vec::new();
        while self.bytes > limit_bytes {
            let Some((_, path)) = self.by_use.first_key_value() else { break };
            let path = path.clone();
            self.remove(&path);
            gone.push(path);
        }
        gone
    }
}

impl ReadCache {
    /// Knows again what an earlier run has left on the disk.
    pub(crate) fn open(
        objects: Arc<dyn ObjectStore>,
        disk: Arc<dyn Disk>,
        limit_bytes: u64,
    ) -> Result<ReadCache, StorageError> {
        let wrap = |error| StorageError::io(FOLDER, error);
        let mut found = disk.list(FOLDER).map_err(wrap)?;
        found.sort_by_key(|(_, stat)| stat.modified);
        let mut blocks = Blocks::default();
        for (path, stat) in found.into_iter().filter(|(path, _)| !is_unfinished(path)) {
            blocks.insert(path, stat.size);
        }
        for path in blocks.beyond(limit_bytes) {
            disk.remove(&path).map_err(wrap)?;
        }
        let (blocks, counts) = (Arc::new(Mutex::new(blocks)), Arc::default());
        Ok(ReadCache { objects, disk, limit_bytes, blocks, counts })
    }

    pub(crate) fn stats(&self) -> ReadCacheStats {
        ReadCacheStats {
            hits: self.counts.hits.load(Ordering::Relaxed),
            misses: self.counts.misses.load(Ordering::Relaxed),
            bytes: self.blocks.lock().bytes,
        }
    }

    /// The bytes of one block, shorter at the end of the file.
    async fn block(&self, location: &Path, number: u64) -> Result<Bytes> {
        let copy = format!("{FOLDER}/{}-{number}", location.filename().unwrap_or_default());
        if self.blocks.lock().touch(&copy) {
            let (disk, path) = (self.disk.clone(), copy.clone());
            if let Ok(Some(bytes)) = blocking(move || Ok(read_copy(&*disk, &path).ok().flatten())).await {
                self.counts.hits.fetch_add(1, Ordering::Relaxed);
                return Ok(bytes);
            }
            self.blocks.lock().remove(&copy);
        }
        self.counts.misses.fetch_add(1, Ordering::Relaxed);
        let start = number * BLOCK_BYTES;
        let range = Some(GetRange::Bounded(start..start + BLOCK_BYTES));
        let bytes =
            self.objects.get_opts(location, GetOptions::new().with_range(range)).await?.bytes().await?;
        // A full disk costs the copy, not the read.
        if let Err(error) = self.keep(copy, bytes.clone()).await {
            tracing::warn!(%error, "a block of a data file could not be kept on the local disk");
        }
        Ok(bytes)
    }

    async fn keep(&self, copy: String, bytes: Bytes) -> Result<(), StorageError> {
        let length = (bytes.len() + SUM_BYTES) as u64;
        if length > self.limit_bytes {
            return Ok(());
        }
        let (disk, path) = (self.disk.clone(), copy.clone());
        blocking(move || write_copy(&*disk, &path, &bytes).map_err(|error| StorageError::io(path, error)))
            .await?;
        let gone = {
            let mut blocks = self.blocks.lock();
            blocks.insert(copy, length);
            blocks.beyond(self.limit_bytes)
        };
        let disk = self.disk.clone();
        blocking(move || {
            gone.iter().try_for_each(|path| match disk.remove(path) {
                // Somebody found it damaged meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                removed => removed.map_err(|error| StorageError::io(path, error)),
            })
        })
        .await
    }
}

fn read_copy(disk: &dyn Disk, path: &str) -> io::Result<Option<Bytes>> {
    let copy = disk.read(path, 0..u64::MAX)?;
    let Some((bytes, sum)) = copy.split_last_chunk::<SUM_BYTES>() else { return Ok(None) };
    let is_whole = crc32c::crc32c(bytes) == u32::from_le_bytes(*sum);
    Ok(is_whole.then(|| copy.slice(..bytes.len())))
}

/// Nothing is synced: a copy that a crash has torn is noticed.
fn write_copy(disk: &dyn Disk, path: &str, bytes: &[u8]) -> io::Result<()> {
    let unfinished = format!("{path}{UNFINISHED}{}", uuid::Uuid::new_v4().simple());
    let written = (|| {
        let mut file = disk.create(&unfinished)?;
        file.append(bytes)?;
        file.append(&crc32c::crc32c(bytes).to_le_bytes())?;
        disk.rename(&unfinished, path)
    })();
    if written.is_err() {
        let _ = disk.remove(&unfinished);
    }
    written
}

impl fmt::Display for ReadCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.objects.fmt(f)
    }
}

impl fmt::Debug for ReadCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReadCache({:?})", self.objects)
    }
}

#[async_trait]
impl ObjectStore for ReadCache {
    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        if checksum_in_name(location).is_none() {
            return self.objects.get_ranges(location, ranges).await;
        }
        let mut numbers: Vec<u64> = ranges
            .iter()
            .filter(|range| !range.is_empty())
            .flat_map(|range| range.start / BLOCK_BYTES..range.end.div_ceil(BLOCK_BYTES))
            .collect();
        numbers.sort_unstable();
        numbers.dedup();
        let blocks: HashMap<u64, Bytes> = stream::iter(numbers)
            .map(async |number| Ok::<_, object_store::Error>((number, self.block(location, number).await?)))
            .buffer_unordered(REQUESTS)
            .try_collect()
            .await?;
        Ok(ranges.iter().map(|range| of_blocks(&blocks, range)).collect())
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.objects.get_opts(location, options).await
    }

    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.objects.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.objects.put_multipart_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.objects.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.objects.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.objects.copy_opts(from, to, options).await
    }
}

/// A range's bytes, as far as the file has them.
fn of_blocks(blocks: &HashMap<u64, Bytes>, range: &Range<u64>) -> Bytes {
    let mut parts: Vec<Bytes> = Vec::new();
    for number in range.start / BLOCK_BYTES..range.end.div_ceil(BLOCK_BYTES) {
        let Some(block) = blocks.get(&number) else { continue };
        let within = |at: u64| (at.saturating_sub(number * BLOCK_BYTES).min(block.len() as u64)) as usize;
        let (start, end) = (within(range.start), within(range.end));
        if start < end {
            parts.push(block.slice(start..end));
        }
    }
    match parts.len() {
        1 => parts.pop().unwrap_or_default(),
        _ => parts.concat().into(),
    }
}

#[cfg(test)]
mod tests;
