//! Data files as they were written, or an error: whoever reads a range of one, through whatever reader of Parquet,
//! gets bytes whose checksums were right a moment ago. A bit that flipped on the medium is found by the query that
//! needs it, and stays out of merged files.

mod sums;
#[cfg(test)]
mod tests;

use std::{fmt, ops::Range, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream, stream::BoxStream};
use hashbrown::HashSet;
use object_store::{
    CopyOptions, Error, GetOptions, GetRange, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
    path::Path,
};
use parking_lot::Mutex;

use self::sums::{BLOCK_BYTES, Parsed};
pub(crate) use self::sums::{BlockSums, FileSums, PARQUET_END_BYTES, footer_bytes};
use crate::file_cache::FileCache;

/// Checksums kept in memory: about those of 400 GB of files.
const SUMS_BYTES: usize = 48 << 20;

/// Read of a file's end at first; its footer and the checksums are often within.
const END_BYTES: u64 = 64 << 10;

/// A data file whose bytes are not those that were written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its bytes from {} to {} are not those that were written", .damaged.start, .damaged.end)]
pub(crate) struct Damage {
    pub(crate) path: Path,
    pub(crate) damaged: Range<u64>,
}

impl Damage {
    /// The damage that an error of a reader goes back to.
    pub(crate) fn behind<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Damage> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(damage) = error.downcast_ref::<Damage>() {
                return Some(damage);
            }
            next = error.source();
        }
        None
    }
}

/// The CRC-32C of the whole file that a data file of ours has in its name.
pub(crate) fn checksum_in_name(path: &Path) -> Option<u32> {
    let (_, checksum) = path.filename()?.strip_suffix(".parquet")?.rsplit_once('-')?;
    u32::from_str_radix(checksum, 16).ok().filter(|_| checksum.len() == 8)
}

/// An object store that looks at the checksums of the data files that are read from it. Other objects, and data files
/// that are read whole, pass as they are.
#[derive(Clone)]
pub(crate) struct CheckedFiles {
    objects: Arc<dyn ObjectStore>,
    known: Arc<FileCache<Known>>,
    /// Files of which damage was told.
    damaged: Arc<Mutex<HashSet<Path>>>,
}

/// What is known of a data file, which never changes.
#[derive(Clone)]
struct Known {
    meta: ObjectMeta,
    /// `None` for a file that has none and was found to be whole when it was first read.
    sums: Option<Arc<FileSums>>,
}

impl CheckedFiles {
    pub(crate) fn new(objects: Arc<dyn ObjectStore>) -> CheckedFiles {
        let weigh =
            |known: &Known| size_of::<Known>() + known.sums.as_ref().map_or(0, |sums| sums.memory_bytes());
        CheckedFiles { objects, known: Arc::new(FileCache::new(SUMS_BYTES, weigh)), damaged: Arc::default() }
    }

    /// Files that were found to be damaged since the start.
    pub(crate) fn damaged_files(&self) -> usize {
        self.damaged.lock().len()
    }

    fn damage(&self, path: &Path, damaged: Range<u64>) -> Error {
        let damage = Damage { path: path.clone(), damaged };
        if self.damaged.lock().insert(path.clone()) {
            tracing::error!(%path, "{damage}");
        }
        Error::Generic { store: "data files", source: Box::new(damage) }
    }

    /// What is known of a file. `end` are bytes of it that were read already, up to its last.
    async fn know(&self, meta: ObjectMeta, checksum: u32, mut end: Bytes) -> Result<Known> {
        let path = meta.location.clone();
        if end.is_empty() {
            end = self.objects.get_range(&path, meta.size.saturating_sub(END_BYTES)..meta.size).await?;
        }
        let sums = loop {
            match FileSums::parse(meta.size, &end) {
                Parsed::Sums(sums) => break Some(Arc::new(sums)),
                Parsed::ReadFrom(from) => {
                    end = self.objects.get_range(&path, from..meta.size).await?;
                    if end.len() as u64 != meta.size - from {
                        return Err(self.damage(&path, from..meta.size));
                    }
                }
                Parsed::Damaged(from) => return Err(self.damage(&path, from..meta.size)),
                Parsed::None => {
                    self.check_whole(&path, checksum).await?;
                    break None;
                }
            }
        };
        let known = Known { meta, sums };
        self.known.insert(path, known.clone());
        Ok(known)
    }

    /// For a file without checksums of its blocks: of an earlier release, or with damage to just these.
    async fn check_whole(&self, path: &Path, expected: u32) -> Result<()> {
        let (mut size, mut found) = (0, 0);
        let mut parts = self.objects.get(path).await?.into_stream();
        while let Some(part) = parts.try_next().await? {
            size += part.len() as u64;
            found = crc32c::crc32c_append(found, &part);
        }
        if found == expected { Ok(()) } else { Err(self.damage(path, 0..size)) }
    }

    /// Ranges of a file, with their checksums looked at.
    async fn read(&self, known: &Known, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let path = &known.meta.location;
        let Some(sums) = &known.sums else { return self.objects.get_ranges(path, ranges).await };
        let size = known.meta.size;
        let ranges: Vec<Range<u64>> =
            ranges.iter().map(|range| range.start.min(size)..range.end.min(size)).collect();
        let mut wide: Vec<Range<u64>> = ranges.iter().map(|range| sums.whole_blocks(range)).collect();
        wide.sort_unstable_by_key(|range| range.start);
        // Neighbours share blocks, which are read once.
        wide.dedup_by(|next, before| {
            let touches = next.start <= before.end;
            if touches {
                before.end = before.end.max(next.end);
            }
            touches
        });
        let blocks = self.objects.get_ranges(path, &wide).await?;
        for (range, bytes) in wide.iter().zip(&blocks) {
            if bytes.len() as u64 != range.end - range.start {
                return Err(self.damage(path, range.clone()));
            }
            if let Some(damaged) = sums.damaged(range.start, bytes) {
                return Err(self.damage(path, damaged));
            }
        }
        let within = |range: &Range<u64>| {
            let at = wide.partition_point(|wide| wide.end < range.end);
            let (start, bytes) = (wide.get(at)?.start, blocks.get(at)?);
            let place = |byte: u64| usize::try_from(byte.checked_sub(start)?).ok();
            let (from, to) = (place(range.start)?, place(range.end)?);
            (from <= to && to <= bytes.len()).then(|| bytes.slice(from..to))
        };
        Ok(ranges.iter().map(|range| within(range).unwrap_or_default()).collect())
    }

    /// A range of a file of which nothing is known yet: most often its end, which tells.
    async fn read_first(
        &self,
        location: &Path,
        checksum: u32,
        range: GetRange,
        options: GetOptions,
    ) -> Result<GetResult> {
        let block = u64::from(BLOCK_BYTES);
        let wide = match &range {
            GetRange::Bounded(range) => GetRange::Bounded(range.start - range.start % block..range.end),
            GetRange::Offset(start) => GetRange::Offset(start - start % block),
            GetRange::Suffix(length) => GetRange::Suffix(length.saturating_add(block)),
        };
        let found = self.objects.get_opts(location, options.with_range(Some(wide))).await?;
        let (got, attributes) = (found.range.clone(), found.attributes.clone());
        // A store within a bucket's prefix tells the path with it.
        let meta = ObjectMeta { location: location.clone(), ..found.meta.clone() };
        let bytes = found.bytes().await?;
        let asked = range.as_range(meta.size).unwrap_or_else(|_| got.clone());
        let end = if got.end == meta.size { bytes.clone() } else { Bytes::new() };
        let known = self.know(meta.clone(), checksum, end).await?;
        let bytes = match &known.sums {
            Some(sums) => {
                let wide = sums.whole_blocks(&asked);
                let have = |at: u64| at.checked_sub(got.start).and_then(|at| usize::try_from(at).ok());
                let blocks = have(wide.start).zip(have(wide.end)).filter(|_| wide.end <= got.end);
                match blocks.and_then(|(start, end)| bytes.get(start..end)) {
                    None => self.read(&known, std::slice::from_ref(&asked)).await?.into_iter().next(),
                    Some(blocks) => {
                        if let Some(damaged) = sums.damaged(wide.start, blocks) {
                            return Err(self.damage(location, damaged));
                        }
                        have(asked.start).zip(have(asked.end)).map(|(start, end)| bytes.slice(start..end))
                    }
                }
            }
            None => self.read(&known, std::slice::from_ref(&asked)).await?.into_iter().next(),
        };
        Ok(result(meta, asked, attributes, bytes.unwrap_or_default()))
    }
}

fn result(
    meta: ObjectMeta,
    range: Range<u64>,
    attributes: object_store::Attributes,
    bytes: Bytes,
) -> GetResult {
    let payload = GetResultPayload::Stream(stream::once(async move { Ok(bytes) }).boxed());
    GetResult { payload, meta, range, attributes }
}

impl fmt::Display for CheckedFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.objects.fmt(f)
    }
}

impl fmt::Debug for CheckedFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CheckedFiles({:?})", self.objects)
    }
}

#[async_trait]
impl ObjectStore for CheckedFiles {
    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let (Some(checksum), Some(range), false) =
            (checksum_in_name(location), options.range.clone(), options.head)
        else {
            return self.objects.get_opts(location, options).await;
        };
        let Some(known) = self.known.get(location) else {
            return self.read_first(location, checksum, range, options).await;
        };
        options.check_preconditions(&known.meta)?;
        let range = range
            .as_range(known.meta.size)
            .map_err(|error| Error::Generic { store: "data files", source: Box::new(error) })?;
        let bytes = self.read(&known, std::slice::from_ref(&range)).await?.into_iter().next();
        Ok(result(known.meta, range, Default::default(), bytes.unwrap_or_default()))
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let Some(checksum) = checksum_in_name(location) else {
            return self.objects.get_ranges(location, ranges).await;
        };
        let known = match self.known.get(location) {
            Some(known) => known,
            None => {
                let meta = self.objects.head(location).await?;
                let meta = ObjectMeta { location: location.clone(), ..meta };
                self.know(meta, checksum, Bytes::new()).await?
            }
        };
        self.read(&known, ranges).await
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
