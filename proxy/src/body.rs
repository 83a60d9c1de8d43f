//! Bodies on their way through: counted, kept for a retry, and followed to their end.

mod response;
mod upload;

pub(crate) use response::ResponseBody;
pub(crate) use upload::{RequestBody, Upload};

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Notify;
use tokio::time::Instant;

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How far a request body has come. Shared by the task that reads it and the record of the request.
#[derive(Debug)]
pub(crate) struct Progress {
    started: Instant,
    bytes: AtomicU64,
    /// gRPC messages.
    messages: AtomicU64,
    /// Nanoseconds since `started` of the end; 0 while it goes on.
    ended_ns: AtomicU64,
    ended: Notify,
}

impl Progress {
    pub(crate) fn new(started: Instant) -> Arc<Self> {
        Arc::new(Self {
            started,
            bytes: AtomicU64::new(0),
            messages: AtomicU64::new(0),
            ended_ns: AtomicU64::new(0),
            ended: Notify::new(),
        })
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn messages(&self) -> u64 {
        self.messages.load(Ordering::Relaxed)
    }

    /// Since the request's start; `None` while it goes on.
    pub(crate) fn ended_after(&self) -> Option<std::time::Duration> {
        match self.ended_ns.load(Ordering::Acquire) {
            0 => None,
            ns => Some(std::time::Duration::from_nanos(ns)),
        }
    }

    fn end(&self) {
        let ns = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1);
        if self.ended_ns.compare_exchange(0, ns, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            self.ended.notify_waiters();
        }
    }

    /// Waits for the end of the request; when it was.
    pub(crate) async fn ended_at(&self) -> Instant {
        let notified = self.ended.notified();
        tokio::pin!(notified);
        notified.as_mut().enable();
        if self.ended_after().is_none() {
            notified.await;
        }
        self.started + self.ended_after().unwrap_or_default()
    }
}

/// Counts gRPC messages: each is a flag byte, a 4-byte length and that many bytes.
#[derive(Debug, Default)]
pub(crate) struct GrpcFrames {
    head: [u8; 5],
    head_len: usize,
    left: u32,
}

impl GrpcFrames {
    /// Messages that begin in `data`.
    pub(crate) fn feed(&mut self, mut data: &[u8]) -> u64 {
        let mut messages = 0;
        while !data.is_empty() {
            if self.left > 0 {
                let skip = usize::try_from(self.left).unwrap_or(usize::MAX).min(data.len());
                self.left -= skip as u32;
                data = data.get(skip..).unwrap_or_default();
                continue;
            }
            let (byte, rest) = (data.first().copied().unwrap_or_default(), data.get(1..).unwrap_or_default());
            data = rest;
            if let Some(slot) = self.head.get_mut(self.head_len) {
                *slot = byte;
            }
            self.head_len += 1;
            if self.head_len == self.head.len() {
                let [_, a, b, c, d] = self.head;
                self.left = u32::from_be_bytes([a, b, c, d]);
                self.head_len = 0;
                messages += 1;
            }
        }
        messages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_messages_are_counted_however_they_are_cut() {
        let mut wire = Vec::new();
        for message in [&b"hello"[..], b"", b"x"] {
            wire.push(0);
            wire.extend_from_slice(&(message.len() as u32).to_be_bytes());
            wire.extend_from_slice(message);
        }
        for piece in 1..=wire.len() {
            let mut frames = GrpcFrames::default();
            let counted: u64 = wire.chunks(piece).map(|chunk| frames.feed(chunk)).sum();
            assert_eq!(counted, 3, "pieces of {piece}");
        }
    }
}
