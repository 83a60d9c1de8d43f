//! A bounded queue whose receiver gets batches: at most [`MAX_BATCH`] items, at most [`MAX_WAIT`] after
//! the first of them came.

use prometheus_client::metrics::counter::Counter;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Items that wait while the other end is away; about 1 MB of access logs.
const CAPACITY: usize = 1024;
const MAX_BATCH: usize = 128;
const MAX_WAIT: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(crate) struct Queue<T> {
    sender: mpsc::Sender<T>,
    dropped: Counter,
}

impl<T> Queue<T> {
    /// Never waits: an item that does not fit is dropped and counted.
    pub(crate) fn offer(&self, item: T) {
        if self.sender.try_send(item).is_err() {
            self.dropped.inc();
        }
    }
}

#[derive(Debug)]
pub(crate) struct Batches<T> {
    receiver: mpsc::Receiver<T>,
    stop: CancellationToken,
    dropped: Counter,
}

pub(crate) fn queue<T>(dropped: Counter, stop: CancellationToken) -> (Queue<T>, Batches<T>) {
    let (sender, receiver) = mpsc::channel(CAPACITY);
    (Queue { sender, dropped: dropped.clone() }, Batches { receiver, stop, dropped })
}

impl<T> Batches<T> {
    /// The next batch; `None` once stopped and empty.
    pub(crate) async fn next(&mut self) -> Option<Vec<T>> {
        let first = tokio::select! {
            biased;
            item = self.receiver.recv() => item?,
            () = self.stop.cancelled() => {
                self.receiver.close();
                self.receiver.recv().await?
            }
        };
        let mut batch = vec![first];
        let full = async {
            while batch.len() < MAX_BATCH {
                match self.receiver.recv().await {
                    Some(item) => batch.push(item),
                    None => break,
                }
            }
        };
        tokio::select! {
            () = full => {}
            () = tokio::time::sleep(MAX_WAIT) => {}
            () = self.stop.cancelled() => {}
        }
        Some(batch)
    }

    /// True once the process is to end: then nothing is tried for long.
    pub(crate) fn stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    pub(crate) fn stop_token(&self) -> &CancellationToken {
        &self.stop
    }

    pub(crate) fn count_dropped(&self, items: usize) {
        self.dropped.inc_by(items as u64);
    }
}

/// Waits between attempts to reach a receiver that is away.
#[derive(Debug)]
pub(crate) struct Backoff(Duration);

impl Backoff {
    const FIRST: Duration = Duration::from_millis(100);
    const LAST: Duration = Duration::from_secs(2);

    pub(crate) fn new() -> Self {
        Self(Self::FIRST)
    }

    pub(crate) fn reset(&mut self) {
        self.0 = Self::FIRST;
    }

    /// Sleeps, or returns at once when the process is to end.
    pub(crate) async fn wait(&mut self, stop: &CancellationToken) {
        tokio::select! {
            () = tokio::time::sleep(self.0) => {}
            () = stop.cancelled() => {}
        }
        self.0 = (self.0 * 2).min(Self::LAST);
    }
}
