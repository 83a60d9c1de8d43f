//! Bytes of a segment: the header and the frames.

/// Of a segment's header.
const MAGIC: &[u8; 8] = b"PHARWAL1";
/// Of each frame, so that the next one is found behind a broken one.
const FRAME_MAGIC: &[u8; 4] = b"FRM1";
/// Magic, length, checksum, sequence number.
const FRAME_HEAD: usize = 4 + 4 + 4 + 8;
/// No commit comes near it; a length beyond it is damage.
const MAX_FRAME: usize = 1 << 30;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) segment: u64,
    /// How many bytes of the segment before this one count. What lies behind was never acknowledged and may have
    /// been sent again. `None` if there was none.
    pub(crate) previous: Option<(u64, u64)>,
    /// The schemas of the tables' payloads, encoded.
    pub(crate) schemas: Vec<u8>,
}

impl Header {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let (previous, length) = self.previous.unwrap_or((u64::MAX, 0));
        let mut body = Vec::with_capacity(24 + self.schemas.len());
        for number in [self.segment, previous, length] {
            body.extend_from_slice(&number.to_le_bytes());
        }
        body.extend_from_slice(&self.schemas);
        let mut bytes = Vec::with_capacity(16 + body.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
        bytes.extend_from_slice(&body);
        bytes
    }

    /// The header and its length; `None` if it is cut short or damaged.
    pub(crate) fn decode(bytes: &[u8]) -> Option<(Header, usize)> {
        let rest = bytes.strip_prefix(MAGIC)?;
        let (length, rest) = take_u32(rest)?;
        let (checksum, rest) = take_u32(rest)?;
        let body = rest.get(..length as usize)?;
        if crc32c::crc32c(body) != checksum {
            return None;
        }
        let (segment, body) = take_u64(body)?;
        let (previous, body) = take_u64(body)?;
        let (previous_length, schemas) = take_u64(body)?;
        let previous = (previous != u64::MAX).then_some((previous, previous_length));
        Some((Header { segment, previous, schemas: schemas.to_vec() }, 16 + length as usize))
    }
}

pub(crate) fn encode_frame(sequence: u64, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(FRAME_HEAD + payload.len());
    bytes.extend_from_slice(FRAME_MAGIC);
    bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&checksum(sequence, payload).to_le_bytes());
    bytes.extend_from_slice(&sequence.to_le_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

fn checksum(sequence: u64, payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&sequence.to_le_bytes()), payload)
}

pub(crate) struct Frame<'a> {
    pub(crate) sequence: u64,
    pub(crate) payload: &'a [u8],
    /// Of the whole frame.
    pub(crate) length: usize,
}

/// The frame at the start of `bytes`, if there is a whole one.
pub(crate) fn decode_frame(bytes: &[u8]) -> Option<Frame<'_>> {
    let rest = bytes.strip_prefix(FRAME_MAGIC)?;
    let (length, rest) = take_u32(rest)?;
    let length = length as usize;
    let (expected, rest) = take_u32(rest)?;
    let (sequence, rest) = take_u64(rest)?;
    if length > MAX_FRAME {
        return None;
    }
    let payload = rest.get(..length)?;
    (checksum(sequence, payload) == expected).then_some(Frame {
        sequence,
        payload,
        length: FRAME_HEAD + length,
    })
}

/// Where the next whole frame begins, searching from the start of `bytes`.
pub(crate) fn find_frame(bytes: &[u8]) -> Option<usize> {
    (0..bytes.len()).find(|at| bytes.get(*at..).is_some_and(|rest| decode_frame(rest).is_some()))
}

fn take_u32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u32::from_le_bytes(*number), rest))
}

fn take_u64(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u64::from_le_bytes(*number), rest))
}
