//! Bodies on their way through: counted, kept for a retry, and followed to their end.

use crate::pool::Lease;
use crate::record::Record;
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use parking_lot::Mutex;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, Sleep};

/// Request bytes that are kept for a retry, as in Envoy's default buffer; a longer body is sent once.
const MAX_REPLAY_BYTES: usize = 64 * 1024;
/// Frames a mirror may lag behind before its copy is given up.
const MIRROR_LAG: usize = 16;

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

/// The client's body, counted while it is read.
struct Counted {
    incoming: Incoming,
    progress: Arc<Progress>,
    grpc: Option<GrpcFrames>,
    mirrors: Vec<mpsc::Sender<Piece>>,
}

impl Counted {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        let piece = match frame {
            None => {
                self.progress.end();
                return Poll::Ready(None);
            }
            Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    self.progress.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
                    if let Some(grpc) = &mut self.grpc {
                        self.progress.messages.fetch_add(grpc.feed(&data), Ordering::Relaxed);
                    }
                    Piece::Data(data)
                }
                Err(frame) => Piece::Trailers(frame.into_trailers().unwrap_or_default()),
            },
        };
        self.mirrors.retain(|mirror| mirror.try_send(piece.clone()).is_ok());
        if self.incoming.is_end_stream() {
            self.progress.end();
        }
        Poll::Ready(Some(Ok(piece)))
    }
}

/// A frame that can be sent more than once.
#[derive(Clone)]
pub(crate) enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
}

impl From<Piece> for Frame<Bytes> {
    fn from(piece: Piece) -> Self {
        match piece {
            Piece::Data(data) => Frame::data(data),
            Piece::Trailers(trailers) => Frame::trailers(trailers),
        }
    }
}

struct Replay {
    source: Counted,
    kept: Vec<Piece>,
    kept_bytes: usize,
    /// More came than is kept: what was sent cannot be sent again.
    overflowed: bool,
    ended: bool,
    /// Of the body that may read on; those of earlier tries may not.
    current: u64,
}

/// A request body that several tries can send.
#[derive(Clone)]
pub(crate) struct Upload(Option<Arc<Mutex<Replay>>>);

impl Upload {
    /// Takes the client's body. The receivers get a copy of it as it goes by.
    pub(crate) fn new(
        incoming: Incoming,
        progress: &Arc<Progress>,
        grpc: bool,
        mirrors: usize,
    ) -> (Self, Vec<RequestBody>) {
        if incoming.is_end_stream() {
            progress.end();
            return (Self(None), (0..mirrors).map(|_| RequestBody::empty()).collect());
        }
        let (senders, receivers) = (0..mirrors)
            .map(|_| {
                let (sender, receiver) = mpsc::channel(MIRROR_LAG);
                (sender, RequestBody(BodySource::Mirror(receiver)))
            })
            .unzip();
        let source = Counted {
            incoming,
            progress: progress.clone(),
            grpc: grpc.then(GrpcFrames::default),
            mirrors: senders,
        };
        let replay =
            Replay { source, kept: Vec::new(), kept_bytes: 0, overflowed: false, ended: false, current: 0 };
        (Self(Some(Arc::new(Mutex::new(replay)))), receivers)
    }

    /// True while a further try could send the whole body.
    pub(crate) fn can_replay(&self) -> bool {
        self.0.as_ref().is_none_or(|replay| !replay.lock().overflowed)
    }

    /// The body for the next try; the one before gets no more.
    pub(crate) fn body(&self) -> RequestBody {
        match &self.0 {
            None => RequestBody::empty(),
            Some(shared) => {
                let mut replay = shared.lock();
                replay.current += 1;
                let number = replay.current;
                RequestBody(BodySource::Upload { shared: shared.clone(), number, position: 0 })
            }
        }
    }
}

/// A body that goes upstream.
pub(crate) struct RequestBody(BodySource);

enum BodySource {
    Empty,
    Upload { shared: Arc<Mutex<Replay>>, number: u64, position: usize },
    Mirror(mpsc::Receiver<Piece>),
}

impl RequestBody {
    pub(crate) fn empty() -> Self {
        Self(BodySource::Empty)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let (shared, number, position) = match &mut self.get_mut().0 {
            BodySource::Empty => return Poll::Ready(None),
            BodySource::Mirror(receiver) => {
                return receiver.poll_recv(cx).map(|piece| piece.map(|piece| Ok(piece.into())));
            }
            BodySource::Upload { shared, number, position } => (shared, *number, position),
        };
        let mut replay = shared.lock();
        if replay.current != number {
            return Poll::Ready(Some(Err("a later try sends this body".into())));
        }
        if let Some(piece) = replay.kept.get(*position) {
            *position += 1;
            return Poll::Ready(Some(Ok(piece.clone().into())));
        }
        if replay.ended {
            return Poll::Ready(None);
        }
        match ready!(replay.source.poll(cx)) {
            None => {
                replay.ended = true;
                Poll::Ready(None)
            }
            Some(Err(error)) => Poll::Ready(Some(Err(error.into()))),
            Some(Ok(piece)) => {
                if let Piece::Data(data) = &piece {
                    replay.kept_bytes += data.len();
                }
                if replay.kept_bytes > MAX_REPLAY_BYTES {
                    replay.overflowed = true;
                    replay.kept = Vec::new();
                    *position = 0;
                } else {
                    replay.kept.push(piece.clone());
                    *position += 1;
                }
                replay.ended = replay.source.incoming.is_end_stream();
                Poll::Ready(Some(Ok(piece.into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            BodySource::Empty => true,
            BodySource::Mirror(_) => false,
            BodySource::Upload { shared, position, .. } => {
                let replay = shared.lock();
                replay.ended && *position >= replay.kept.len()
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            BodySource::Empty => SizeHint::with_exact(0),
            BodySource::Mirror(_) | BodySource::Upload { .. } => SizeHint::default(),
        }
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

/// A body that goes to the client. When it ends, or is dropped before, the request's record is closed.
pub(crate) struct ResponseBody {
    source: ResponseSource,
    record: Option<Box<Record>>,
    grpc: Option<GrpcFrames>,
    /// The route's timeout, which covers the whole response.
    deadline: Option<Pin<Box<Sleep>>>,
}

enum ResponseSource {
    Local(Option<Bytes>),
    Upstream { incoming: Incoming, lease: Option<Lease> },
}

impl ResponseBody {
    pub(crate) fn local(text: Bytes, record: Box<Record>) -> Self {
        let source = ResponseSource::Local(Some(text).filter(|text| !text.is_empty()));
        Self { source, record: Some(record), grpc: None, deadline: None }
    }

    pub(crate) fn upstream(
        incoming: Incoming,
        lease: Lease,
        record: Box<Record>,
        deadline: Option<Instant>,
    ) -> Self {
        Self {
            source: ResponseSource::Upstream { incoming, lease: Some(lease) },
            grpc: record.grpc.then(GrpcFrames::default),
            record: Some(record),
            deadline: deadline.map(|at| Box::pin(tokio::time::sleep_until(at))),
        }
    }

    /// Everything was sent: the connection can serve the next request and the record is complete.
    fn complete(&mut self) {
        if let ResponseSource::Upstream { lease, .. } = &mut self.source
            && let Some(lease) = lease.take()
        {
            lease.give_back();
        }
        if let Some(record) = self.record.take() {
            record.complete();
        }
    }

    fn source_ended(&self) -> bool {
        match &self.source {
            ResponseSource::Local(text) => text.is_none(),
            ResponseSource::Upstream { incoming, .. } => incoming.is_end_stream(),
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if let Some(deadline) = &mut this.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            if let Some(mut record) = this.record.take() {
                record.timed_out();
                record.complete();
            }
            return Poll::Ready(Some(Err("the route's timeout ended the response".into())));
        }
        let frame = match &mut this.source {
            ResponseSource::Local(text) => text.take().map(|text| Ok(Frame::data(text))),
            ResponseSource::Upstream { incoming, .. } => ready!(Pin::new(incoming).poll_frame(cx)),
        };
        let frame = match frame {
            None => {
                this.complete();
                return Poll::Ready(None);
            }
            Some(Err(error)) => {
                if let Some(mut record) = this.record.take() {
                    record.response_broke(&error);
                    record.complete();
                }
                return Poll::Ready(Some(Err(error.into())));
            }
            Some(Ok(frame)) => frame,
        };
        if let Some(record) = &mut this.record {
            if let Some(data) = frame.data_ref() {
                record.response_body_bytes += data.len() as u64;
                if let Some(grpc) = &mut this.grpc {
                    record.response_messages += grpc.feed(data);
                }
            }
            if let Some(trailers) = frame.trailers_ref() {
                record.read_grpc_status(trailers);
                record.response_trailer_bytes = crate::headers::wire_bytes(trailers);
            }
        }
        if this.source_ended() {
            this.complete();
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.source_ended()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            ResponseSource::Local(text) => SizeHint::with_exact(text.as_ref().map_or(0, Bytes::len) as u64),
            ResponseSource::Upstream { incoming, .. } => incoming.size_hint(),
        }
    }
}

impl Drop for ResponseBody {
    /// A body that was at its end when hyper let go of it is complete: an empty one is never polled.
    /// Otherwise the record goes with it, and says that the client went away.
    fn drop(&mut self) {
        if self.source_ended() {
            self.complete();
        }
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
