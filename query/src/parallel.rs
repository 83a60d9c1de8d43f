//! Work in several threads whose outcomes are used in order.

use std::{
    collections::BTreeMap,
    num::NonZero,
    ops::ControlFlow,
    sync::{Arc, LazyLock},
    thread::available_parallelism,
};

use axum::{
    body::{Body, Bytes},
    response::Response,
};
use futures::{Stream, StreamExt, stream};
use parking_lot::{Condvar, Mutex};
use tokio::task::JoinError;

/// How many threads run at once here. Looked up but once: where the processor is shared by quota, that reads files.
pub(crate) fn threads() -> usize {
    static THREADS: LazyLock<usize> = LazyLock::new(|| available_parallelism().map_or(1, NonZero::get));
    *THREADS
}

/// Items that are worked on ahead of the reader, for each thread: one in its hands, and one so that it need not wait
/// for the reader to ask for more.
const AHEAD: usize = 2;

/// The stream of what `work` makes of each item, in order, by several threads. What panics is an error.
pub(crate) fn map_ahead<I, O>(
    items: impl Stream<Item = I> + Send + 'static,
    work: impl Fn(I) -> O + Clone + Send + 'static,
) -> impl Stream<Item = Result<O, JoinError>> + Send
where
    I: Send + 'static,
    O: Send + 'static,
{
    let spawned = items.map(move |item| {
        let work = work.clone();
        async move { tokio::task::spawn_blocking(move || work(item)).await }
    });
    spawned.buffered(AHEAD * threads())
}

/// What makes a body, piece by piece, in any order and as often as it is asked.
#[derive(Clone)]
pub(crate) struct Pieces {
    pub(crate) count: usize,
    pub(crate) make: Arc<dyn Fn(usize) -> Bytes + Send + Sync>,
}

impl Pieces {
    /// An answer whose body is made while it is sent. The pieces are among its extensions too, so that whoever encodes
    /// the body can do so piece by piece, in the threads that make them.
    pub(crate) fn into_response(self) -> Response {
        let make = self.make.clone();
        let stream = map_ahead(stream::iter(0..self.count), move |piece| make(piece));
        let mut response = Response::new(Body::from_stream(stream));
        response.extensions_mut().insert(self);
        response
    }
}

/// Parts read and not yet used, besides one in each worker's hands.
const WAITING: usize = 2;

struct Queue<R> {
    /// The next part to be read.
    next: usize,
    /// The next part to be used, past the end when no more are wanted.
    wanted: usize,
    read: BTreeMap<usize, R>,
    /// Threads that still read.
    workers: usize,
}

/// Calls `read` for every part, several at a time, and `take` with the outcomes, one after the other in the order of
/// the parts, on the calling thread. Ends early when `take` breaks or `read` fails.
pub(crate) fn read_ahead<P: Sync + Copy, R: Send, E: Send>(
    parts: &[P],
    workers: usize,
    read: impl Fn(P) -> Result<R, E> + Sync,
    mut take: impl FnMut(P, R) -> ControlFlow<()>,
) -> Result<(), E> {
    if parts.len() < 2 || workers < 2 {
        for part in parts {
            if take(*part, read(*part)?).is_break() {
                break;
            }
        }
        return Ok(());
    }
    let workers = workers.min(parts.len());
    let queue = Mutex::new(Queue { next: 0, wanted: 0, read: BTreeMap::new(), workers });
    let changed = Condvar::new();
    let work = || {
        let _end = OnDrop(|| {
            queue.lock().workers -= 1;
            changed.notify_all();
        });
        let mut state = queue.lock();
        loop {
            let at = state.next;
            let Some(part) = parts.get(at).filter(|_| state.wanted < parts.len()) else { return };
            if at >= state.wanted + workers + WAITING {
                changed.wait(&mut state);
                continue;
            }
            state.next += 1;
            drop(state);
            let outcome = read(*part);
            state = queue.lock();
            state.read.insert(at, outcome);
            changed.notify_all();
        }
    };
    std::thread::scope(|scope| {
        // However this thread ends, the others must not wait for it.
        let _end = OnDrop(|| {
            queue.lock().wanted = usize::MAX - workers - WAITING;
            changed.notify_all();
        });
        for _ in 0..workers {
            scope.spawn(work);
        }
        for (at, part) in parts.iter().enumerate() {
            let mut state = queue.lock();
            let outcome = loop {
                match state.read.remove(&at) {
                    Some(outcome) => break outcome,
                    // One panicked, and so will this thread.
                    None if state.workers == 0 => return Ok(()),
                    None => changed.wait(&mut state),
                }
            };
            state.wanted = at + 1;
            drop(state);
            changed.notify_all();
            if take(*part, outcome?).is_break() {
                break;
            }
        }
        Ok(())
    })
}

struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// The parts that were taken, and how many were read.
    fn run(
        parts: usize,
        workers: usize,
        fails_at: usize,
        breaks_at: usize,
    ) -> (Result<(), usize>, Vec<usize>, usize) {
        let parts: Vec<usize> = (0..parts).collect();
        let (reads, mut taken) = (AtomicUsize::new(0), Vec::new());
        let outcome = read_ahead(
            &parts,
            workers,
            |part| {
                reads.fetch_add(1, Ordering::Relaxed);
                if part == fails_at { Err(part) } else { Ok(part * 10) }
            },
            |part, read| {
                assert_eq!(read, part * 10);
                taken.push(part);
                if part == breaks_at { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            },
        );
        (outcome, taken, reads.into_inner())
    }

    #[test]
    fn parts_are_taken_in_order_until_one_fails_or_no_more_are_wanted() {
        const NEVER: usize = usize::MAX;
        for workers in [1, 2, 3, 8] {
            for parts in [0, 1, 2, 50] {
                let (outcome, taken, reads) = run(parts, workers, NEVER, NEVER);
                assert_eq!((outcome, taken, reads), (Ok(()), (0..parts).collect(), parts));
            }
            let (outcome, taken, reads) = run(1000, workers, 7, NEVER);
            assert_eq!((outcome, taken), (Err(7), (0..7).collect()));
            assert!(reads <= 8 + workers + WAITING, "{reads} reads by {workers} workers");
            let (outcome, taken, reads) = run(1000, workers, NEVER, 4);
            assert_eq!((outcome, taken), (Ok(()), (0..5).collect()));
            assert!(reads <= 5 + workers + WAITING, "{reads} reads by {workers} workers");
        }
    }
}
