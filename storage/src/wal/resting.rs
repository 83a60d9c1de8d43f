//! Rows that were replayed and stay in their segment until somebody reads them: a start takes neither the time nor the
//! memory of what it finds.

use std::{ops::Range, sync::Arc};

use arrow::{array::RecordBatch, error::ArrowError};
use bytes::Bytes;

use super::{Part, Schemas, segment_path};
use crate::{StorageError, Table, disk::OpenFile};

/// A segment of an earlier run. Its rows can be read for as long as it is held, even when its file is gone.
pub(crate) struct RestingSegment {
    pub(crate) number: u64,
    pub(super) file: Box<dyn OpenFile>,
    pub(crate) schemas: Schemas,
}

/// What one frame has of a table, but for samples.
#[derive(Clone)]
pub(crate) struct RestingRows {
    segment: Arc<RestingSegment>,
    table: Table,
    place: Range<u64>,
    checksum: u32,
    rows: usize,
    decoded_bytes: usize,
}

/// Why rows cannot be read that could be outlined.
pub(crate) enum Unreadable {
    /// The disk does not answer.
    Io(StorageError),
    /// These bytes, and they will never be.
    Broken { segment: u64, at: usize, bytes: Bytes, error: ArrowError },
}

impl From<Unreadable> for StorageError {
    fn from(unreadable: Unreadable) -> StorageError {
        match unreadable {
            Unreadable::Io(error) => error,
            Unreadable::Broken { segment, at, error, .. } => StorageError::BrokenFile {
                path: segment_path(segment),
                message: format!("rows from byte {at} on: {error}"),
            },
        }
    }
}

impl RestingRows {
    /// `at` is where the frame's payload begins in the segment.
    pub(crate) fn new(
        segment: &Arc<RestingSegment>,
        at: u64,
        payload: &[u8],
        part: &Part,
        rows: usize,
    ) -> Result<RestingRows, ArrowError> {
        let bytes = payload.get(part.place.clone()).unwrap_or_default();
        Ok(RestingRows {
            segment: segment.clone(),
            table: part.table,
            place: at + part.place.start as u64..at + part.place.end as u64,
            checksum: crc32c::crc32c(bytes),
            rows,
            decoded_bytes: part.decoded_bytes()?,
        })
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes that the rows take in memory once they are read.
    pub(crate) fn decoded_bytes(&self) -> usize {
        self.decoded_bytes
    }

    /// The rows with all columns of their table, or with these of them. Blocks.
    pub(crate) fn load(&self, columns: Option<&[&str]>) -> Result<RecordBatch, Unreadable> {
        let read = self.segment.file.read(self.place.clone());
        let bytes =
            read.map_err(|error| Unreadable::Io(StorageError::io(segment_path(self.segment.number), error)))?;
        self.decode(&bytes, columns).map_err(|error| Unreadable::Broken {
            segment: self.segment.number,
            at: self.place.start as usize,
            bytes,
            error,
        })
    }

    fn decode(&self, bytes: &Bytes, columns: Option<&[&str]>) -> Result<RecordBatch, ArrowError> {
        if crc32c::crc32c(bytes) != self.checksum {
            return Err(ArrowError::IpcError("the checksum is wrong".to_string()));
        }
        let part = self.segment.schemas.parts(bytes)?.pop();
        part.filter(|part| part.table == self.table)
            .ok_or_else(|| ArrowError::IpcError(format!("no rows of {}", self.table.name())))?
            .rows(columns)
    }
}
