use std::{num::NonZero, sync::Arc, sync::mpsc::sync_channel};

use arrow::error::ArrowError;
use bytes::Bytes;

use super::{
    QUARANTINE_DIRECTORY, RestingSegment, Schemas, WAL_DIRECTORY,
    frame::{self, Header},
    segment_path,
};
use crate::{
    StorageError,
    disk::{Disk, Existing, OpenFile, put},
};

/// Read at a time. A frame that is larger is read by itself.
const WINDOW_BYTES: u64 = 16 << 20;

/// No header comes near it.
const MOST_HEADER_BYTES: u64 = 1 << 20;

/// What was left of a segment of an earlier run.
pub(crate) struct Replayed {
    /// Those that could be read.
    pub(crate) frames: u64,
    /// Bytes that count: up to the end of the last whole frame.
    pub(crate) length: u64,
    /// Bytes in whole frames' places that could not be read.
    pub(crate) quarantined_bytes: u64,
}

/// Is given the number of a segment, and the place and bytes of a stretch of it that cannot be read.
pub(crate) type Aside<'a> = &'a mut dyn FnMut(u64, usize, &[u8]) -> Result<(), StorageError>;

/// Reads all segments and every row in them, and hands what cannot be read to `aside`.
pub(crate) fn look(disk: &dyn Disk, aside: Aside<'_>) -> Result<Vec<Replayed>, StorageError> {
    let read = |segment: FoundSegment| {
        let decode =
            |segment: &Arc<RestingSegment>, _, payload: &Bytes| segment.schemas.columns(payload).map(drop);
        segment.read(aside, decode, |()| Ok(()))
    };
    find(disk)?.into_iter().map(read).collect()
}

/// A segment of an earlier run that has not been read yet.
pub(crate) struct FoundSegment {
    pub(crate) number: u64,
    file: Box<dyn OpenFile>,
    /// Where its frames begin.
    start: u64,
    /// Where they end, as far as the next segment's header or the file tells.
    end: u64,
    schemas: Vec<u8>,
    is_newest: bool,
}

/// All segments, oldest first.
pub(crate) fn find(disk: &dyn Disk) -> Result<Vec<FoundSegment>, StorageError> {
    let number = |path: &str| path.strip_prefix("wal/")?.strip_suffix(".wal")?.parse().ok();
    let mut segments: Vec<(u64, u64)> = disk
        .list(WAL_DIRECTORY)
        .map_err(|error| StorageError::io(WAL_DIRECTORY, error))?
        .into_iter()
        .filter_map(|(path, stat)| Some((number(&path)?, stat.size)))
        .collect();
    segments.sort_unstable();
    // Newest first: each header says how much of the segment before it counts, and that those between do not.
    let mut limit: Option<(u64, u64)> = None;
    // Whether no later segment has anything that was acknowledged: a crash may come while one is made, and again.
    let mut is_newest = true;
    let mut found = Vec::with_capacity(segments.len());
    for (number, size) in segments.into_iter().rev() {
        let path = segment_path(number);
        let failed = |error| StorageError::io(&path, error);
        let file = disk.open(&path).map_err(failed)?;
        let counted = limit.filter(|(segment, _)| *segment <= number);
        let counted = counted.map(|(segment, length)| if segment == number { length } else { 0 });
        if let Some(missing) = counted.and_then(|length| length.checked_sub(size)).filter(|bytes| *bytes > 0)
        {
            tracing::error!(segment = number, missing, "WAL segment is shorter than it was");
        }
        let end = counted.map_or(size, |length| length.min(size));
        let mut segment = FoundSegment { number, file, start: 0, end, schemas: Vec::new(), is_newest };
        match Header::decode(&segment.file.read(0..MOST_HEADER_BYTES.min(end)).map_err(failed)?) {
            Some((header, start)) => {
                (segment.start, segment.schemas, limit) = (start as u64, header.schemas, header.previous);
                is_newest = false;
            }
            None if end == 0 => {}
            // A crash while it was made: it has no frame that anyone was told of.
            None if is_newest && frame::find_frame(&segment.file.read(0..end).map_err(failed)?).is_none() => {
                segment.end = 0;
            }
            // The frames behind it have checksums of their own, and most likely this release's columns.
            None => {
                (segment.schemas, limit, is_newest) = (Schemas::current().encode()?, None, false);
            }
        }
        found.push(segment);
    }
    found.reverse();
    Ok(found)
}

impl FoundSegment {
    /// Decodes its frames on all processors and hands them over in order. `decode` is given the place of a frame's
    /// payload in the segment, and the payload. A frame that a crash cut off at the end of the newest segment is
    /// dropped: nobody was told that it was stored. Anything else that cannot be read is reported and handed to
    /// `aside`.
    pub(crate) fn read<T: Send>(
        self,
        aside: Aside<'_>,
        decode: impl Fn(&Arc<RestingSegment>, u64, &Bytes) -> Result<T, ArrowError> + Sync,
        mut take: impl FnMut(T) -> Result<(), StorageError>,
    ) -> Result<Replayed, StorageError> {
        let FoundSegment { number, file, start, end, schemas, is_newest } = self;
        let mut replayed = Replayed { frames: 0, length: start, quarantined_bytes: 0 };
        let failed = |error| StorageError::io(segment_path(number), error);
        let Some(schemas) = Schemas::decode(&schemas) else {
            let bytes = file.read(start..end).map_err(failed)?;
            aside(number, start as usize, &bytes)?;
            return Ok(Replayed { quarantined_bytes: bytes.len() as u64, ..replayed });
        };
        let segment = Arc::new(RestingSegment { number, file, schemas });
        let decode = &|stretch: &Stretch| match stretch {
            Stretch::Frame { at, payload, .. } => Some(decode(&segment, *at, payload)),
            Stretch::Broken { .. } => None,
        };
        let mut windows = Windows { segment: segment.clone(), at: start, end, is_newest };
        std::thread::scope(|scope| {
            let (sender, received) = sync_channel(1);
            // Reads and decodes on while rows are taken in.
            scope.spawn(move || {
                while let Some(window) = windows.next().transpose() {
                    let window = window.map(|stretches| on_all_processors(stretches, decode));
                    let is_last = window.is_err();
                    if sender.send(window).is_err() || is_last {
                        break;
                    }
                }
            });
            for window in received {
                for (stretch, decoded) in window? {
                    match (stretch, decoded) {
                        (Stretch::Frame { end, .. }, Some(Ok(rows))) => {
                            (replayed.frames, replayed.length) = (replayed.frames + 1, end);
                            take(rows)?;
                        }
                        (Stretch::Frame { at, sequence, payload, end }, Some(Err(error))) => {
                            tracing::error!(segment = number, sequence, %error, "WAL frame has no readable rows");
                            aside(number, at as usize, &payload)?;
                            replayed.quarantined_bytes += payload.len() as u64;
                            replayed.length = end;
                        }
                        (Stretch::Broken { at, bytes }, _) => {
                            aside(number, at as usize, &bytes)?;
                            replayed.quarantined_bytes += bytes.len() as u64;
                        }
                        (Stretch::Frame { .. }, None) => {}
                    }
                }
            }
            Ok(replayed)
        })
    }
}

enum Stretch {
    Frame {
        /// Of its payload, in the segment.
        at: u64,
        /// Of the frame.
        end: u64,
        sequence: u64,
        payload: Bytes,
    },
    /// What is no frame, up to the next one.
    Broken { at: u64, bytes: Bytes },
}

/// A segment's frames, some at a time.
struct Windows {
    segment: Arc<RestingSegment>,
    at: u64,
    end: u64,
    is_newest: bool,
}

impl Windows {
    fn next(&mut self) -> Result<Option<Vec<Stretch>>, StorageError> {
        let mut size = WINDOW_BYTES;
        while self.at < self.end {
            let range = self.at..self.end.min(self.at.saturating_add(size));
            let bytes = self.segment.file.read(range.clone());
            let bytes = bytes.map_err(|error| StorageError::io(segment_path(self.segment.number), error))?;
            let is_last = range.end == self.end || (bytes.len() as u64) < range.end - range.start;
            let (stretches, length) = self.stretches(&bytes, is_last);
            if is_last {
                self.at = self.end;
                return Ok(Some(stretches));
            }
            if length > 0 {
                self.at += length as u64;
                return Ok(Some(stretches));
            }
            // No frame begins here, or it is longer than that.
            size = size.saturating_mul(2);
        }
        Ok(None)
    }

    /// What the bytes consist of, and how many of them that is: all if they are the segment's last.
    fn stretches(&self, bytes: &Bytes, is_last: bool) -> (Vec<Stretch>, usize) {
        let mut stretches = Vec::new();
        let mut done = 0;
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            let at = self.at + done as u64;
            if let Some(frame) = frame::decode_frame(rest) {
                let end = at + frame.length as u64;
                stretches.push(Stretch::Frame {
                    at: end - frame.payload.len() as u64,
                    end,
                    sequence: frame.sequence,
                    payload: bytes.slice_ref(frame.payload),
                });
                done += frame.length;
                continue;
            }
            if !is_last {
                break;
            }
            let next = frame::find_frame(rest);
            // Behind the last whole frame of the newest segment lies what was not acknowledged.
            if next.is_none() && self.is_newest {
                let (segment, bytes) = (self.segment.number, rest.len());
                tracing::info!(segment, bytes, "cut off an unfinished frame at the end of the WAL");
                break;
            }
            let broken = rest.get(..next.unwrap_or(rest.len())).unwrap_or_default();
            stretches.push(Stretch::Broken { at, bytes: bytes.slice_ref(broken) });
            done += broken.len();
        }
        (stretches, done)
    }
}

/// What is made of a frame; `None` for what is none.
type Decoded<T> = Option<Result<T, ArrowError>>;

/// Each with what `work` makes of it, in their order.
fn on_all_processors<T: Send>(
    stretches: Vec<Stretch>,
    work: &(impl Fn(&Stretch) -> Decoded<T> + Sync),
) -> Vec<(Stretch, Decoded<T>)> {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let share = stretches.len().div_ceil(threads).max(1);
    let decoded: Vec<Decoded<T>> = std::thread::scope(|scope| {
        let shares: Vec<_> = stretches
            .chunks(share)
            .map(|share| (share.len(), scope.spawn(move || share.iter().map(work).collect::<Vec<_>>())))
            .collect();
        let lost = || Some(Err(ArrowError::ComputeError("decoding panicked".to_string())));
        let joined = shares
            .into_iter()
            .map(|(count, share)| share.join().unwrap_or_else(|_| (0..count).map(|_| lost()).collect()));
        joined.flatten().collect()
    });
    stretches.into_iter().zip(decoded).collect()
}

/// Keeps a stretch of a segment that cannot be read. Says how many bytes of it were not kept before.
pub(crate) fn quarantine(
    disk: &dyn Disk,
    segment: u64,
    at: usize,
    bytes: &[u8],
) -> Result<u64, StorageError> {
    let path = format!("{QUARANTINE_DIRECTORY}/wal-{segment:020}-at-{at}.bin");
    if bytes.is_empty() || disk.stat(&path).is_ok_and(|known| known.size == bytes.len() as u64) {
        return Ok(0);
    }
    tracing::error!(
        segment,
        at,
        bytes = bytes.len(),
        kept = path,
        "a broken stretch of the WAL was put aside"
    );
    put(disk, &path, &[Bytes::copy_from_slice(bytes)], Existing::Replace)
        .map_err(|error| StorageError::io(path, error))?;
    Ok(bytes.len() as u64)
}
