use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
};

use pharos_model::UnixNanos;

/// A way in which data comes to Pharos.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    OtlpGrpc,
    OtlpHttp,
    Zipkin,
    Als,
    RemoteWrite,
    Scrape,
}

impl Protocol {
    pub const ALL: [Protocol; 6] = [
        Protocol::OtlpGrpc,
        Protocol::OtlpHttp,
        Protocol::Zipkin,
        Protocol::Als,
        Protocol::RemoteWrite,
        Protocol::Scrape,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Protocol::OtlpGrpc => "otlp-grpc",
            Protocol::OtlpHttp => "otlp-http",
            Protocol::Zipkin => "zipkin",
            Protocol::Als => "als",
            Protocol::RemoteWrite => "remote-write",
            Protocol::Scrape => "scrape",
        }
    }
}

/// What came in by one protocol since the start. An item is a span, a log record or a sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    pub protocol: Protocol,
    /// Items that were stored.
    pub items: u64,
    /// Items that were refused because they were invalid.
    pub rejected: u64,
    /// Requests that were refused as a whole: unreadable, too large, or at a bad time.
    pub failed_requests: u64,
    /// When the last item was stored.
    pub last_unix_ms: Option<i64>,
}

#[derive(Default)]
struct Cell {
    items: AtomicU64,
    rejected: AtomicU64,
    failed_requests: AtomicU64,
    last_unix_ms: AtomicI64,
}

pub(crate) struct Counters(BTreeMap<Protocol, Cell>);

impl Counters {
    pub(crate) fn new() -> Counters {
        Counters(Protocol::ALL.into_iter().map(|protocol| (protocol, Cell::default())).collect())
    }

    pub(crate) fn stored(&self, protocol: Protocol, items: usize) {
        if let Some(cell) = self.0.get(&protocol).filter(|_| items > 0) {
            cell.items.fetch_add(items as u64, Relaxed);
            cell.last_unix_ms.store(UnixNanos::now().millis(), Relaxed);
        }
    }

    pub(crate) fn rejected(&self, protocol: Protocol, items: usize) {
        if let Some(cell) = self.0.get(&protocol) {
            cell.rejected.fetch_add(items as u64, Relaxed);
        }
    }

    pub(crate) fn failed(&self, protocol: Protocol) {
        if let Some(cell) = self.0.get(&protocol) {
            cell.failed_requests.fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn snapshot(&self) -> Vec<Received> {
        let read = |(protocol, cell): (&Protocol, &Cell)| Received {
            protocol: *protocol,
            items: cell.items.load(Relaxed),
            rejected: cell.rejected.load(Relaxed),
            failed_requests: cell.failed_requests.load(Relaxed),
            last_unix_ms: Some(cell.last_unix_ms.load(Relaxed)).filter(|ms| *ms > 0),
        };
        self.0.iter().map(read).collect()
    }
}
