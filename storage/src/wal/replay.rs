use std::num::NonZero;

use arrow::error::ArrowError;
use bytes::Bytes;

use super::{
    QUARANTINE_DIRECTORY, Schemas, WAL_DIRECTORY,
    frame::{self, Frame},
    segment_path,
};
use crate::{
    StorageError,
    commit::Columns,
    disk::{Disk, Existing, put},
};

/// What is left of a segment of an earlier run.
pub(crate) struct Replayed {
    pub(crate) segment: u64,
    /// Its frames' rows, in order.
    pub(crate) commits: Vec<Columns>,
    /// Bytes that count: up to the end of the last whole frame.
    pub(crate) length: u64,
    /// Bytes in whole frames' places that could not be read.
    pub(crate) quarantined_bytes: u64,
}

impl Replayed {
    fn nothing_of(segment: u64) -> Replayed {
        Replayed { segment, commits: Vec::new(), length: 0, quarantined_bytes: 0 }
    }
}

/// Reads all segments, oldest first. A frame that a crash cut off at the end of the newest is dropped: nobody was
/// told that it was stored. Anything else that cannot be read is reported, copied to `quarantine/` and passed over.
pub(crate) fn replay(disk: &dyn Disk) -> Result<Vec<Replayed>, StorageError> {
    look(disk, &mut |segment, at, bytes| quarantine(disk, segment, at, bytes))
}

/// Is given the number of a segment, and the place and bytes of a stretch of it that cannot be read.
pub(crate) type Aside<'a> = &'a mut dyn FnMut(u64, usize, &[u8]) -> Result<(), StorageError>;

/// The same, and what cannot be read is handed to `aside`.
pub(crate) fn look(disk: &dyn Disk, aside: Aside<'_>) -> Result<Vec<Replayed>, StorageError> {
    let mut numbers: Vec<u64> = disk
        .list(WAL_DIRECTORY)
        .map_err(|error| StorageError::io(WAL_DIRECTORY, error))?
        .into_iter()
        .filter_map(|(path, _)| path.strip_prefix("wal/")?.strip_suffix(".wal")?.parse().ok())
        .collect();
    numbers.sort_unstable();
    // Newest first: each header says how much of the segment before it counts, and that those between do not.
    let mut limit: Option<(u64, u64)> = None;
    // Whether no later segment has anything that was acknowledged: a crash may come while one is made, and again.
    let mut is_newest = true;
    let mut replayed = Vec::new();
    for number in numbers.iter().rev() {
        if limit.is_some_and(|(segment, _)| segment < *number) {
            replayed.push(Replayed::nothing_of(*number));
            continue;
        }
        let path = segment_path(*number);
        let bytes = disk.read(&path, 0..u64::MAX).map_err(|error| StorageError::io(&path, error))?;
        let counted = match limit {
            Some((segment, length)) if segment == *number => Some(length),
            _ => None,
        };
        let (header, start) = match frame::Header::decode(&bytes) {
            Some(header) => header,
            // A crash while it was made: it has no frame that anyone was told of.
            None if is_newest && frame::find_frame(&bytes).is_none() => {
                replayed.push(Replayed::nothing_of(*number));
                continue;
            }
            // The frames behind it have checksums of their own, and most likely this release's columns.
            None => {
                let schemas = Schemas::current().encode()?;
                (frame::Header { segment: *number, previous: None, schemas }, 0)
            }
        };
        limit = header.previous;
        let read = Stretch { bytes: &bytes, start, counted, is_newest };
        is_newest = false;
        replayed.push(read_segment(*number, &header.schemas, &read, aside)?);
    }
    replayed.reverse();
    Ok(replayed)
}

/// A segment's frames.
struct Stretch<'a> {
    bytes: &'a Bytes,
    start: usize,
    /// Bytes of the segment that count, where the next one's header says so.
    counted: Option<u64>,
    is_newest: bool,
}

fn read_segment(
    segment: u64,
    schemas: &[u8],
    stretch: &Stretch<'_>,
    aside: Aside<'_>,
) -> Result<Replayed, StorageError> {
    let Stretch { bytes, start, counted, is_newest } = *stretch;
    let end = counted.map_or(bytes.len(), |length| bytes.len().min(length as usize));
    let mut replayed = Replayed { length: start as u64, ..Replayed::nothing_of(segment) };
    if counted.is_some_and(|length| length > bytes.len() as u64) {
        tracing::error!(
            segment,
            missing = counted.unwrap_or(0) - bytes.len() as u64,
            "WAL segment is shorter than it was"
        );
    }
    let Some(schemas) = Schemas::decode(schemas) else {
        replayed.quarantined_bytes = (end - start) as u64;
        aside(segment, start, bytes.get(start..end).unwrap_or_default())?;
        return Ok(replayed);
    };
    let mut at = start;
    let mut frames: Vec<(usize, Frame<'_>)> = Vec::new();
    while let Some(rest) = bytes.get(at..end).filter(|rest| !rest.is_empty()) {
        let Some(frame) = frame::decode_frame(rest) else {
            let next = frame::find_frame(rest);
            // Behind the last whole frame of all lies what was not acknowledged.
            if next.is_none() && is_newest {
                tracing::info!(
                    segment,
                    bytes = rest.len(),
                    "cut off an unfinished frame at the end of the WAL"
                );
                break;
            }
            let broken = rest.get(..next.unwrap_or(rest.len())).unwrap_or_default();
            aside(segment, at, broken)?;
            replayed.quarantined_bytes += broken.len() as u64;
            at += broken.len();
            continue;
        };
        let length = frame.length;
        frames.push((at, frame));
        at += length;
        replayed.length = at as u64;
    }
    for ((at, frame), decoded) in frames.iter().zip(decode(&schemas, &frames)) {
        match decoded {
            Ok(columns) => replayed.commits.push(columns),
            Err(error) => {
                tracing::error!(segment, sequence = frame.sequence, %error, "WAL frame has no readable rows");
                aside(segment, *at, bytes.get(*at..*at + frame.length).unwrap_or_default())?;
                replayed.quarantined_bytes += frame.length as u64;
            }
        }
    }
    Ok(replayed)
}

/// The rows of each frame, decoded on all processors.
fn decode(schemas: &Schemas, frames: &[(usize, Frame<'_>)]) -> Vec<Result<Columns, ArrowError>> {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let share = frames.len().div_ceil(threads).max(1);
    let of_share = |frames: &[(usize, Frame<'_>)]| -> Vec<Result<Columns, ArrowError>> {
        frames.iter().map(|(_, frame)| schemas.columns(frame.payload)).collect()
    };
    std::thread::scope(|scope| {
        let shares: Vec<_> = frames
            .chunks(share)
            .map(|frames| (frames.len(), scope.spawn(move || of_share(frames))))
            .collect();
        let lost = || ArrowError::ComputeError("decoding panicked".to_string());
        let joined = shares
            .into_iter()
            .map(|(count, share)| share.join().unwrap_or_else(|_| (0..count).map(|_| Err(lost())).collect()));
        joined.flatten().collect()
    })
}

fn quarantine(disk: &dyn Disk, segment: u64, at: usize, bytes: &[u8]) -> Result<(), StorageError> {
    if bytes.is_empty() {
        return Ok(());
    }
    let path = format!("{QUARANTINE_DIRECTORY}/wal-{segment:020}-at-{at}.bin");
    tracing::error!(
        segment,
        at,
        bytes = bytes.len(),
        kept = path,
        "a broken stretch of the WAL was put aside"
    );
    put(disk, &path, &[Bytes::copy_from_slice(bytes)], Existing::Replace)
        .map_err(|error| StorageError::io(path, error))
}
