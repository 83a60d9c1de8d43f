use std::io;

use super::{WAL_DIRECTORY, frame};
use crate::disk::{Disk, DiskFile};

pub(crate) fn segment_path(segment: u64) -> String {
    format!("{WAL_DIRECTORY}/{segment:020}.wal")
}

/// The segment that is being written.
pub(crate) struct Segment {
    number: u64,
    file: Box<dyn DiskFile>,
    /// Of everything that was acknowledged.
    length: u64,
    sequence: u64,
    synced: bool,
}

impl Segment {
    /// A new segment, durable with its header before this returns. `previous` is the segment before it, with the
    /// number of its bytes that count.
    pub(crate) fn create(
        disk: &dyn Disk,
        number: u64,
        previous: Option<(u64, u64)>,
        schemas: Vec<u8>,
    ) -> io::Result<Segment> {
        let path = segment_path(number);
        let header = frame::Header { segment: number, previous, schemas }.encode();
        let mut file = disk.create(&path)?;
        let written = file.append(&header).and_then(|()| file.sync()).and_then(|()| disk.sync_names(&path));
        if let Err(error) = written {
            let _ = disk.remove(&path);
            return Err(error);
        }
        Ok(Segment { number, file, length: header.len() as u64, sequence: 0, synced: true })
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Adds a frame. After an error the segment must not be written again: whether the frame is in it is unknown.
    pub(crate) fn append(&mut self, payload: &[u8], sync: bool) -> io::Result<()> {
        let frame = frame::encode_frame(self.sequence, payload);
        self.file.append(&frame)?;
        if sync {
            self.file.sync()?;
        }
        self.synced = sync;
        self.length += frame.len() as u64;
        self.sequence += 1;
        Ok(())
    }

    /// Makes everything appended durable.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        if !self.synced {
            self.file.sync()?;
            self.synced = true;
        }
        Ok(())
    }
}
