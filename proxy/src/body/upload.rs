//! From the client to the upstream, perhaps several times, perhaps to several.

use super::{BoxError, GrpcFrames, Progress};
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use parking_lot::Mutex;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use tokio::sync::mpsc;

/// Request bytes that are kept for a retry, as in Envoy's default buffer; a longer body is sent once.
const MAX_REPLAY_BYTES: usize = 64 * 1024;
/// Frames a mirror may lag behind before its copy is given up.
const MIRROR_LAG: usize = 16;

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
