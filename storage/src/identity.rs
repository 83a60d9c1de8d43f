//! Recognises a span that is sent again because its acknowledgement was lost.

use arrow::{array::RecordBatch, error::ArrowError};
use hashbrown::HashSet;
use pharos_model::{Span, SpanId, SpanKind, TraceId, UnixNanos};
use xxhash_rust::xxh3::xxh3_64;

use crate::columns::{Column, Row, field, from_batch};

/// Newest identities held; after this many, the older half is forgotten. 8 bytes each.
const CAPACITY: usize = 1_000_000;

/// A 64-bit hash of what identifies a row. Among a million others a new row is taken for a known one with a
/// probability of 5e-14.
pub(crate) type Identity = u64;

pub(crate) fn of_span(span: &Span) -> Identity {
    identity(&span.trace_id.0, &span.span_id.0, span.kind, span.start)
}

fn identity(trace_id: &[u8; 16], span_id: &[u8; 8], kind: SpanKind, start: UnixNanos) -> Identity {
    let mut bytes = [0; 33];
    bytes[..16].copy_from_slice(trace_id);
    bytes[16..24].copy_from_slice(span_id);
    bytes[24] = kind as u8;
    bytes[25..].copy_from_slice(&start.0.to_le_bytes());
    xxh3_64(&bytes)
}

/// The columns that identify a row of the table `spans`.
pub(crate) const COLUMNS: [&str; 5] = ["time", "start_nanos_rem", "kind", "trace_id", "span_id"];

#[derive(Default)]
struct SpanIdentity {
    trace_id: TraceId,
    span_id: SpanId,
    kind: SpanKind,
    start: UnixNanos,
}

impl Row for SpanIdentity {
    const COLUMNS: &'static [Column<SpanIdentity>] = &[
        field!(time "time", start),
        field!(nanos "start_nanos_rem", start),
        field!(kind "kind", kind),
        field!(id TraceId, "trace_id", trace_id),
        field!(id SpanId, "span_id", span_id),
    ];

    fn blank() -> SpanIdentity {
        SpanIdentity::default()
    }
}

/// The identities of the rows of a batch of the table `spans` that has at least [`COLUMNS`].
pub(crate) fn of_batch(batch: &RecordBatch) -> Result<impl Iterator<Item = Identity> + use<>, ArrowError> {
    let rows = from_batch::<SpanIdentity>(batch)?.into_iter();
    Ok(rows.map(|SpanIdentity { trace_id, span_id, kind, start }| {
        identity(&trace_id.0, &span_id.0, kind, start)
    }))
}

/// The identities of the newest rows.
#[derive(Default)]
pub(crate) struct RecentIdentities {
    newer: HashSet<Identity>,
    older: HashSet<Identity>,
}

impl RecentIdentities {
    /// Whether it is new.
    pub(crate) fn insert(&mut self, identity: Identity) -> bool {
        if self.older.contains(&identity) || !self.newer.insert(identity) {
            return false;
        }
        if self.newer.len() >= CAPACITY / 2 {
            self.older = std::mem::take(&mut self.newer);
        }
        true
    }

    /// For a row that was not stored after all, so that it can be sent again.
    pub(crate) fn remove(&mut self, identity: Identity) {
        self.newer.remove(&identity);
        self.older.remove(&identity);
    }
}
