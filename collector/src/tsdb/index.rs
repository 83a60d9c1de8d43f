//! A block's index, version 2 (`tsdb/docs/format/index.md`): symbols, series with their chunks, and the list of all.

use pharos_model::Labels;

use super::{
    TsdbError,
    bits::unzigzag,
    file::{BlockFile, Cursor},
};

const MAGIC: u32 = 0xBAAA_D700;
const TOC_BYTES: u64 = 6 * 8 + 4;
/// Larger than any series or list that Prometheus writes; what says otherwise is damaged.
const MAX_ENTRY_BYTES: u64 = 256 << 20;

pub(super) struct Index {
    file: BlockFile,
    /// Texts one after the other, and where each ends.
    symbols: String,
    ends: Vec<u32>,
    /// Of the list of all series: its first reference, and how many there are.
    all: (u64, u32),
}

/// A series as the index has it.
pub(super) struct IndexedSeries {
    pub(super) labels: Labels,
    pub(super) chunks: Vec<ChunkMeta>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct ChunkMeta {
    pub(super) min_ms: i64,
    pub(super) max_ms: i64,
    pub(super) reference: u64,
}

impl Index {
    pub(super) fn open(mut file: BlockFile) -> Result<Index, TsdbError> {
        let head = file.read(0, 5)?;
        let (magic, version) = (be32(head), head.get(4).copied().unwrap_or_default());
        if magic != MAGIC {
            return Err(file.wrong(0, format!("{magic:#x} is no index")));
        }
        if version != 2 {
            return Err(file.wrong(
                4,
                format!("index version {version} is not supported; Prometheus 2.3 and later write 2"),
            ));
        }
        let toc_at = file.length().checked_sub(TOC_BYTES);
        let toc_at = toc_at.ok_or_else(|| file.wrong(0, "too short for a table of contents".into()))?;
        let toc = file.checked(toc_at, TOC_BYTES - 4)?.to_vec();
        let section = |number: usize| {
            toc.get(number * 8..)
                .and_then(|bytes| bytes.first_chunk())
                .map_or(0, |bytes| u64::from_be_bytes(*bytes))
        };
        let (symbols_at, postings_table_at) = (section(0), section(5));
        let (symbols, ends) = read_symbols(&mut file, symbols_at)?;
        let all = read_all_postings(&mut file, postings_table_at)?;
        Ok(Index { file, symbols, ends, all })
    }

    pub(super) fn series_count(&self) -> u32 {
        self.all.1
    }

    /// The reference of the `number`th series.
    pub(super) fn reference(&mut self, number: u32) -> Result<u64, TsdbError> {
        let at = self.all.0 + u64::from(number) * 4;
        Ok(u64::from(be32(self.file.read(at, 4)?)))
    }

    pub(super) fn series(&mut self, reference: u64) -> Result<IndexedSeries, TsdbError> {
        // Series begin at multiples of 16.
        let at = reference * 16;
        let (length, head) = self.file.uvarint(at)?;
        if length > MAX_ENTRY_BYTES {
            return Err(self.file.wrong(at, format!("a series of {length} bytes")));
        }
        let entry = self.file.checked(at + head, length)?.to_vec();
        let mut cursor = Cursor::new(&entry);
        self.read_series(&mut cursor)
            .map_err(|message| self.file.wrong(at + head + cursor.at() as u64, message))
    }

    fn read_series(&self, cursor: &mut Cursor<'_>) -> Result<IndexedSeries, String> {
        let pairs = cursor.uvarint()?;
        if pairs > cursor.left() as u64 {
            return Err(format!("{pairs} labels do not fit the series"));
        }
        let mut labels = Vec::with_capacity(pairs as usize);
        for _ in 0..pairs {
            labels.push((self.symbol(cursor.uvarint()?)?, self.symbol(cursor.uvarint()?)?));
        }
        let count = cursor.uvarint()?;
        if count > cursor.left() as u64 {
            return Err(format!("{count} chunks do not fit the series"));
        }
        let mut chunks: Vec<ChunkMeta> = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let chunk = match chunks.last() {
                None => {
                    let min_ms = unzigzag(cursor.uvarint()?);
                    let max_ms = min_ms.wrapping_add(cursor.uvarint()? as i64);
                    ChunkMeta { min_ms, max_ms, reference: cursor.uvarint()? }
                }
                Some(before) => {
                    let min_ms = before.max_ms.wrapping_add(cursor.uvarint()? as i64);
                    let max_ms = min_ms.wrapping_add(cursor.uvarint()? as i64);
                    let reference = before.reference.wrapping_add_signed(unzigzag(cursor.uvarint()?));
                    ChunkMeta { min_ms, max_ms, reference }
                }
            };
            chunks.push(chunk);
        }
        Ok(IndexedSeries { labels: Labels::from_pairs(labels), chunks })
    }

    fn symbol(&self, number: u64) -> Result<&str, String> {
        let at = usize::try_from(number).ok().filter(|at| *at < self.ends.len());
        let at =
            at.ok_or_else(|| format!("symbol {number} does not exist, there are {}", self.ends.len()))?;
        let end = |at: usize| self.ends.get(at).map_or(0, |end| *end as usize);
        let start = at.checked_sub(1).map_or(0, end);
        self.symbols.get(start..end(at)).ok_or_else(|| format!("symbol {number} is damaged"))
    }
}

fn read_symbols(file: &mut BlockFile, at: u64) -> Result<(String, Vec<u32>), TsdbError> {
    let length = u64::from(be32(file.read(at, 4)?));
    let section = file.checked(at + 4, length)?.to_vec();
    let mut cursor = Cursor::new(&section);
    let read = (|| {
        let count = cursor.be32()?;
        let mut symbols = String::with_capacity(section.len());
        let mut ends = Vec::with_capacity((count as usize).min(section.len()));
        for number in 0..count {
            let bytes = cursor.uvarint_bytes()?;
            let text = std::str::from_utf8(bytes).map_err(|_| format!("symbol {number} is not UTF-8"))?;
            symbols.push_str(text);
            ends.push(u32::try_from(symbols.len()).map_err(|_| "the symbols are larger than 4 GiB")?);
        }
        Ok((symbols, ends))
    })();
    read.map_err(|message: String| file.wrong(at + 4 + cursor.at() as u64, message))
}

/// The first entry of the table is the list of all series.
fn read_all_postings(file: &mut BlockFile, table_at: u64) -> Result<(u64, u32), TsdbError> {
    let length = u64::from(be32(file.read(table_at, 4)?));
    let available = file.length().saturating_sub(table_at + 4);
    let start = file.read(table_at + 4, length.min(64).min(available))?.to_vec();
    let mut cursor = Cursor::new(&start);
    let entry = (|| {
        let entries = cursor.be32()?;
        if entries == 0 {
            return Ok(None);
        }
        let names = cursor.uvarint()?;
        let (name, value) = (cursor.uvarint_bytes()?, cursor.uvarint_bytes()?);
        if names != 2 || !name.is_empty() || !value.is_empty() {
            return Err("the list of all series does not come first".to_string());
        }
        cursor.uvarint().map(Some)
    })();
    let Some(at) = entry.map_err(|message| file.wrong(table_at + 4 + cursor.at() as u64, message))? else {
        return Ok((0, 0));
    };
    let count = be32(file.read(at + 4, 4)?);
    let bytes = u64::from(be32(file.read(at, 4)?));
    if bytes != 4 + u64::from(count) * 4 {
        return Err(file.wrong(at, format!("{count} series do not fit {bytes} bytes")));
    }
    file.check(at + 4, bytes)?;
    Ok((at + 8, count))
}

fn be32(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}
