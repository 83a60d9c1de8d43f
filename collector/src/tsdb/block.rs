//! A block: a folder with an index, chunks and tombstones.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

use pharos_model::TimeSeries;
use serde::Deserialize;

use super::{
    TsdbError,
    bits::unzigzag,
    chunk,
    file::{BlockFile, Cursor},
    index::{ChunkMeta, Index},
};

/// What `meta.json` tells of a block.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Meta {
    pub(super) ulid: String,
    pub(super) min_time: i64,
    /// Exclusive.
    pub(super) max_time: i64,
    version: u32,
}

impl Meta {
    pub(super) fn read(block: &Path) -> Result<Meta, TsdbError> {
        let path = block.join("meta.json");
        let wrong = |message: String| TsdbError::new(&path, 0, message);
        let text = std::fs::read_to_string(&path).map_err(|error| wrong(error.to_string()))?;
        let meta: Meta = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        if meta.version != 1 {
            return Err(wrong(format!("block version {} is not supported", meta.version)));
        }
        // It becomes a file's name.
        if meta.ulid.is_empty() || !meta.ulid.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(wrong(format!("{:?} is no ULID", meta.ulid)));
        }
        Ok(meta)
    }
}

pub(super) struct Block {
    folder: PathBuf,
    pub(super) index: Index,
    /// Opened when first needed.
    segments: BTreeMap<u32, BlockFile>,
    /// Deleted stretches by series, both ends inclusive.
    tombstones: HashMap<u64, Vec<(i64, i64)>>,
}

const CHUNKS_MAGIC: u32 = 0x85BD_40DD;
const TOMBSTONES_MAGIC: u32 = 0x0130_BA30;
const SEGMENT_HEADER_BYTES: u64 = 8;
/// Far beyond what 65,535 samples can take.
const MAX_CHUNK_BYTES: u64 = 64 << 20;

impl Block {
    pub(super) fn open(folder: &Path) -> Result<Block, TsdbError> {
        let index = Index::open(BlockFile::open(&folder.join("index"))?)?;
        let tombstones = read_tombstones(&folder.join("tombstones"))?;
        Ok(Block { folder: folder.to_path_buf(), index, segments: BTreeMap::new(), tombstones })
    }

    /// The `number`th series with its samples, in parts of about `weight` float samples.
    pub(super) fn series(
        &mut self,
        number: u32,
        from_ms: i64,
        weight: usize,
        mut each: impl FnMut(TimeSeries),
    ) -> Result<(), TsdbError> {
        let reference = self.index.reference(number)?;
        let series = self.index.series(reference)?;
        let deleted = self.tombstones.get(&reference).cloned().unwrap_or_default();
        let stays = |time_ms: i64| {
            time_ms >= from_ms && !deleted.iter().any(|(first, last)| (*first..=*last).contains(&time_ms))
        };
        let empty = || TimeSeries { labels: series.labels.clone(), ..TimeSeries::default() };
        let mut part = empty();
        for chunk in
            series.chunks.iter().filter(|chunk| chunk.max_ms >= from_ms && chunk.min_ms <= chunk.max_ms)
        {
            let decoded = self.chunk(chunk)?;
            part.samples.extend(decoded.samples.into_iter().filter(|sample| stays(sample.time_ms)));
            part.histograms.extend(decoded.histograms.into_iter().filter(|sample| stays(sample.time_ms)));
            if part.samples.len() + part.histograms.len() * super::HISTOGRAM_WEIGHT >= weight {
                each(std::mem::replace(&mut part, empty()));
            }
        }
        if !part.samples.is_empty() || !part.histograms.is_empty() {
            each(part);
        }
        Ok(())
    }

    fn chunk(&mut self, meta: &ChunkMeta) -> Result<chunk::Decoded, TsdbError> {
        let (segment, at) = ((meta.reference >> 32) as u32, meta.reference & 0xffff_ffff);
        let file = match self.segments.entry(segment) {
            std::collections::btree_map::Entry::Occupied(open) => open.into_mut(),
            std::collections::btree_map::Entry::Vacant(free) => {
                let path = self.folder.join("chunks").join(format!("{:06}", u64::from(segment) + 1));
                free.insert(open_segment(&path)?)
            }
        };
        if at < SEGMENT_HEADER_BYTES {
            return Err(file.wrong(at, "a chunk cannot begin in the file's header".into()));
        }
        let (length, head) = file.uvarint(at)?;
        if length > MAX_CHUNK_BYTES {
            return Err(file.wrong(at, format!("a chunk of {length} bytes")));
        }
        let bytes = file.checked(at + head, length + 1)?;
        let decoded = match bytes.split_first() {
            Some((encoding, data)) => chunk::decode(*encoding, data),
            None => Err("a chunk without an encoding".into()),
        };
        decoded.map_err(|message| file.wrong(at, message))
    }
}

fn open_segment(path: &Path) -> Result<BlockFile, TsdbError> {
    let mut file = BlockFile::open(path)?;
    let head = file.read(0, SEGMENT_HEADER_BYTES)?;
    let (magic, version) = (Cursor::new(head).be32().unwrap_or_default(), head.get(4).copied());
    if magic != CHUNKS_MAGIC || version != Some(1) {
        return Err(file.wrong(0, format!("{magic:#x} version {version:?} are no chunks")));
    }
    Ok(file)
}

fn read_tombstones(path: &Path) -> Result<HashMap<u64, Vec<(i64, i64)>>, TsdbError> {
    let mut tombstones: HashMap<u64, Vec<(i64, i64)>> = HashMap::new();
    if !path.exists() {
        return Ok(tombstones);
    }
    let mut file = BlockFile::open(path)?;
    let wanted = file.length();
    if wanted < 9 {
        return Err(file.wrong(0, "too short for tombstones".into()));
    }
    let head = file.read(0, 5)?.to_vec();
    if Cursor::new(&head).be32() != Ok(TOMBSTONES_MAGIC) || head.get(4) != Some(&1) {
        return Err(file.wrong(0, "no tombstones of version 1".into()));
    }
    let entries = file.checked(5, wanted - 9)?.to_vec();
    let mut cursor = Cursor::new(&entries);
    while cursor.left() > 0 {
        let mut entry = || {
            let series = cursor.uvarint()?;
            Ok((series, (unzigzag(cursor.uvarint()?), unzigzag(cursor.uvarint()?))))
        };
        let (series, stretch) =
            entry().map_err(|message: String| file.wrong(5 + cursor.at() as u64, message))?;
        tombstones.entry(series).or_default().push(stretch);
    }
    Ok(tombstones)
}
