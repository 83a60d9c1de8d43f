//! Recognises a span that is sent again because its acknowledgement was lost.

use hashbrown::HashSet;
use pharos_model::Span;
use xxhash_rust::xxh3::Xxh3;

/// Newest identities held; after this many, the older half is forgotten. 8 bytes each.
const CAPACITY: usize = 1_000_000;

/// A 64-bit hash of what identifies a row. Among a million others a new row is taken for a known one with a
/// probability of 5e-14.
pub(crate) type Identity = u64;

pub(crate) fn of_span(span: &Span) -> Identity {
    let mut hash = Xxh3::new();
    hash.update(&span.trace_id.0);
    hash.update(&span.span_id.0);
    hash.update(&[span.kind as u8]);
    hash.update(&span.start.0.to_le_bytes());
    hash.digest()
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
