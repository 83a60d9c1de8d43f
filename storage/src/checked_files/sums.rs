//! Checksums of a data file's blocks, in the file itself: between its last page and its Parquet footer, where other
//! readers see bytes that no column refers to.
//!
//! A table of little-endian numbers: a CRC-32C for each block before the table, one for everything after the table,
//! then the length of a block (u32), the number of blocks (u32), the CRC-32C of the table so far, and [`MAGIC`].

use std::ops::Range;

/// Little enough that a reader of a few pages does not pay for their neighbours, and much enough that the table is a
/// few thousandths of a percent of the file.
pub(crate) const BLOCK_BYTES: u32 = 32 << 10;

const MAGIC: &[u8; 8] = b"PHRSUMS1";

/// After the checksums of blocks: that of the footer, length, number, that of the table, magic.
const FIXED_BYTES: u64 = 4 + 4 + 4 + 4 + 8;

/// At the end of a Parquet file: the footer's length and Parquet's own magic.
pub(crate) const PARQUET_END_BYTES: u64 = 8;

/// Of a file that is being written.
#[derive(Debug, Default)]
pub(crate) struct BlockSums {
    sums: Vec<u32>,
    /// Of the last block, which may grow.
    filled: usize,
}

impl BlockSums {
    /// The next bytes of the file.
    pub(crate) fn add(&mut self, mut bytes: &[u8]) {
        let block = BLOCK_BYTES as usize;
        while !bytes.is_empty() {
            if self.filled == block || self.sums.is_empty() {
                self.sums.push(0);
                self.filled = 0;
            }
            let (now, later) = bytes.split_at(bytes.len().min(block - self.filled));
            if let Some(last) = self.sums.last_mut() {
                *last = crc32c::crc32c_append(*last, now);
            }
            self.filled += now.len();
            bytes = later;
        }
    }

    /// What follows in the file, before `footer`, which ends it.
    pub(crate) fn table(&self, footer: &[u8]) -> Vec<u8> {
        let numbers = [crc32c::crc32c(footer), BLOCK_BYTES, self.sums.len() as u32];
        let mut table: Vec<u8> =
            self.sums.iter().chain(&numbers).flat_map(|number| number.to_le_bytes()).collect();
        table.extend(crc32c::crc32c(&table).to_le_bytes());
        table.extend(MAGIC);
        table
    }
}

/// Length of the Parquet footer at the end of a file, with what ends it.
pub(crate) fn footer_bytes(end: &[u8]) -> Option<u64> {
    let (length, magic) = end.last_chunk::<8>()?.split_at(4);
    let length = u32::from_le_bytes(length.try_into().ok()?);
    (magic == b"PAR1").then_some(u64::from(length) + PARQUET_END_BYTES)
}

/// What is known of a file's blocks.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FileSums {
    block_bytes: u64,
    /// The last block may be shorter.
    sums: Vec<u32>,
    /// Where the blocks end and the table begins.
    covered: u64,
    /// Of the file.
    size: u64,
    /// Of everything from the table on.
    end_sum: u32,
}

/// What the end of a file says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    Sums(FileSums),
    /// It has to be looked at from this byte on.
    ReadFrom(u64),
    /// There is no table.
    None,
    /// The end of the file, from this byte on, is not what was written.
    Damaged(u64),
}

impl FileSums {
    /// `end` are the last bytes of a file of `size` bytes.
    pub(crate) fn parse(size: u64, end: &[u8]) -> Parsed {
        let from = size.saturating_sub(end.len() as u64);
        let Some(footer_bytes) = footer_bytes(end) else {
            return if size < PARQUET_END_BYTES || end.len() as u64 >= PARQUET_END_BYTES {
                Parsed::Damaged(from)
            } else {
                Parsed::ReadFrom(size - PARQUET_END_BYTES)
            };
        };
        let Some(fixed) = size.checked_sub(footer_bytes + FIXED_BYTES) else { return Parsed::Damaged(from) };
        if fixed < from {
            return Parsed::ReadFrom(fixed);
        }
        let (Some(table), Some(footer)) =
            (slice(end, from, fixed, fixed + FIXED_BYTES), { slice(end, from, fixed + FIXED_BYTES, size) })
        else {
            return Parsed::Damaged(from);
        };
        let number = |at: usize| {
            let bytes = table.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(0, u32::from_le_bytes)
        };
        if table.get(16..) != Some(MAGIC.as_slice()) {
            return Parsed::None;
        }
        let (footer_sum, block_bytes, blocks, table_sum) = (number(0), number(4), number(8), number(12));
        let Some(covered) = fixed.checked_sub(4 * u64::from(blocks)) else { return Parsed::Damaged(fixed) };
        let block_bytes = u64::from(block_bytes);
        if block_bytes == 0 || covered.div_ceil(block_bytes) != u64::from(blocks) {
            return Parsed::Damaged(fixed);
        }
        if covered < from {
            return Parsed::ReadFrom(covered);
        }
        let (Some(summed), Some(sums), Some(all)) = (
            slice(end, from, covered, fixed + 12),
            slice(end, from, covered, fixed),
            slice(end, from, covered, size),
        ) else {
            return Parsed::Damaged(from);
        };
        if crc32c::crc32c(summed) != table_sum || crc32c::crc32c(footer) != footer_sum {
            return Parsed::Damaged(covered);
        }
        let (sums, _) = sums.as_chunks::<4>();
        let sums = sums.iter().map(|sum| u32::from_le_bytes(*sum)).collect();
        Parsed::Sums(FileSums { block_bytes, sums, covered, size, end_sum: crc32c::crc32c(all) })
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        size_of::<FileSums>() + self.sums.len() * 4
    }

    /// The smallest range of whole blocks that holds a range. The table and what follows it are one block.
    pub(crate) fn whole_blocks(&self, range: &Range<u64>) -> Range<u64> {
        let start = match range.start >= self.covered {
            true => self.covered,
            false => range.start - range.start % self.block_bytes,
        };
        let end = match range.end > self.covered {
            true => self.size,
            false => range.end.next_multiple_of(self.block_bytes).min(self.covered),
        };
        start.min(range.start)..end.max(start)
    }

    /// The first range, if any, whose bytes are not those that were written. `bytes` begin at `start`, where a block
    /// begins, and end where one ends.
    pub(crate) fn damaged(&self, start: u64, bytes: &[u8]) -> Option<Range<u64>> {
        let (mut at, mut rest) = (start, bytes);
        while !rest.is_empty() {
            let (length, expected) = match at >= self.covered {
                true => (self.size - self.covered, Some(self.end_sum)),
                false => {
                    let length = self.block_bytes.min(self.covered - at);
                    let place = usize::try_from(at / self.block_bytes).ok();
                    (length, place.and_then(|place| self.sums.get(place)).copied())
                }
            };
            let (block, later) = rest.split_at(rest.len().min(usize::try_from(length).unwrap_or(usize::MAX)));
            if block.len() as u64 != length || Some(crc32c::crc32c(block)) != expected {
                return Some(at..at + length);
            }
            (at, rest) = (at + length, later);
        }
        None
    }
}

/// Bytes `start..end` of a file, of which `bytes` begin at `from`.
fn slice(bytes: &[u8], from: u64, start: u64, end: u64) -> Option<&[u8]> {
    let place = |at: u64| usize::try_from(at.checked_sub(from)?).ok();
    bytes.get(place(start)?..place(end)?)
}
