//! From the upstream to the client, followed to its end.

use super::{BoxError, GrpcFrames};
use crate::pool::Lease;
use crate::record::Record;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::time::{Instant, Sleep};

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
