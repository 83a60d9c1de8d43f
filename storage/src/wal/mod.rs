//! The write-ahead log: what was acknowledged and is in no file yet.
//!
//! A segment is a file `wal/<number>.wal`: a header, then frames. A frame holds the rows of one group commit and is
//! synced before any of its writers is answered. Segments are only ever appended to by the process that made them;
//! a segment is removed once every table's log states that its rows are in files.

mod frame;
mod payload;
mod replay;
mod resting;
mod samples;
mod segment;

#[cfg(test)]
pub(crate) use frame::{Header, decode_frame};
pub(crate) use payload::{Part, Schemas, encode};
pub(crate) use replay::{FoundSegment, find, look, quarantine};
pub(crate) use resting::{RestingRows, RestingSegment, Unreadable};
pub(crate) use segment::{Segment, segment_path};

/// Where segments live.
pub(crate) const WAL_DIRECTORY: &str = "wal";

/// Where the bytes of frames that could not be read are kept.
pub(crate) const QUARANTINE_DIRECTORY: &str = "quarantine";

#[cfg(test)]
mod tests;
