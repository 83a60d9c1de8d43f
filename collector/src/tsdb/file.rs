//! Files of a block, read piece by piece.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use super::{TsdbError, bits::unzigzag};

/// Read ahead at once: entries follow each other.
const WINDOW_BYTES: u64 = 256 << 10;

pub(super) struct BlockFile {
    path: PathBuf,
    file: File,
    length: u64,
    /// What lies from `start` on.
    window: Vec<u8>,
    start: u64,
}

impl BlockFile {
    pub(super) fn open(path: &Path) -> Result<BlockFile, TsdbError> {
        let failed = |error: std::io::Error| TsdbError::new(path, 0, error.to_string());
        let file = File::open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        Ok(BlockFile { path: path.to_path_buf(), file, length, window: Vec::new(), start: 0 })
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn wrong(&self, offset: u64, message: String) -> TsdbError {
        TsdbError::new(&self.path, offset, message)
    }

    pub(super) fn read(&mut self, at: u64, length: u64) -> Result<&[u8], TsdbError> {
        let end = at.checked_add(length).filter(|end| *end <= self.length);
        let end = end.ok_or_else(|| {
            self.wrong(at, format!("{length} bytes are wanted, but the file ends at {}", self.length))
        })?;
        if at < self.start || end > self.start + self.window.len() as u64 {
            let wanted = length.max(WINDOW_BYTES).min(self.length - at);
            self.window.resize(wanted as usize, 0);
            let read =
                self.file.seek(SeekFrom::Start(at)).and_then(|_| self.file.read_exact(&mut self.window));
            if let Err(error) = read {
                self.window.clear();
                return Err(self.wrong(at, error.to_string()));
            }
            self.start = at;
        }
        let from = (at - self.start) as usize;
        Ok(self.window.get(from..from + length as usize).unwrap_or_default())
    }

    /// Bytes that are followed by their CRC-32C.
    pub(super) fn checked(&mut self, at: u64, length: u64) -> Result<&[u8], TsdbError> {
        let bytes = self.read(at, length.saturating_add(4))?;
        let (data, sum) = bytes.split_at(length as usize);
        let (found, wanted) =
            (crc32c::crc32c(data), sum.first_chunk().map_or(0, |sum| u32::from_be_bytes(*sum)));
        if found != wanted {
            return Err(self.wrong(
                at,
                format!("checksum {found:#010x} instead of {wanted:#010x}: the file is damaged"),
            ));
        }
        self.read(at, length)
    }

    /// The same for more than belongs in memory.
    pub(super) fn check(&mut self, at: u64, length: u64) -> Result<(), TsdbError> {
        let mut found = 0;
        let mut done = 0;
        while done < length {
            let part = (length - done).min(WINDOW_BYTES);
            found = crc32c::crc32c_append(found, self.read(at + done, part)?);
            done += part;
        }
        let wanted = self.read(at + length, 4)?.first_chunk().map_or(0, |sum| u32::from_be_bytes(*sum));
        match found == wanted {
            true => Ok(()),
            false => Err(self
                .wrong(at, format!("checksum {found:#010x} instead of {wanted:#010x}: the file is damaged"))),
        }
    }

    /// The number at `at`, and how many bytes it takes.
    pub(super) fn uvarint(&mut self, at: u64) -> Result<(u64, u64), TsdbError> {
        let available = self.length.saturating_sub(at).min(10);
        let bytes = self.read(at, available)?;
        let mut cursor = Cursor::new(bytes);
        match cursor.uvarint() {
            Ok(number) => Ok((number, cursor.at() as u64)),
            Err(message) => Err(self.wrong(at, message)),
        }
    }
}

/// Bytes read one thing after the other.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { bytes, at: 0 }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn left(&self) -> usize {
        self.bytes.len().saturating_sub(self.at)
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], String> {
        let end = self.at.checked_add(length);
        let taken = end.and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.ok_or_else(|| format!("{length} bytes are wanted, {} are left", self.left()))?;
        self.at += length;
        Ok(taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, String> {
        Ok(*self.take(1)?.first().unwrap_or(&0))
    }

    pub(super) fn be16(&mut self) -> Result<u16, String> {
        Ok(self.take(2)?.first_chunk().map_or(0, |bytes| u16::from_be_bytes(*bytes)))
    }

    pub(super) fn be64(&mut self) -> Result<u64, String> {
        Ok(self.take(8)?.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes)))
    }

    pub(super) fn be32(&mut self) -> Result<u32, String> {
        Ok(self.take(4)?.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes)))
    }

    pub(super) fn uvarint(&mut self) -> Result<u64, String> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.take(1)?.first().unwrap_or(&0);
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err("a number of more than 64 bits".into())
    }

    /// Zigzag.
    pub(super) fn varint(&mut self) -> Result<i64, String> {
        self.uvarint().map(unzigzag)
    }

    /// As many bytes as the number before them says.
    pub(super) fn uvarint_bytes(&mut self) -> Result<&'a [u8], String> {
        let length = self.uvarint()?;
        self.take(usize::try_from(length).unwrap_or(usize::MAX))
    }
}
