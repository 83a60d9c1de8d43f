//! Gzip of answers (RFC 1952), the pieces of a long one compressed by several threads at once.
//!
//! Each piece is a deflate stream of its own that ends at a byte with an empty block (RFC 1951), so that they follow
//! each other as one stream; the checksum of the whole is combined of theirs.

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::Request,
    http::{HeaderMap, HeaderValue, header},
    middleware::Next,
    response::Response,
};
use flate2::{Compress, Compression, Crc, FlushCompress, Status};
use futures::{Stream, StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;

use crate::{
    accept::weighted,
    parallel::{Pieces, map_ahead, threads},
};

/// A shorter answer fits in a packet as it is.
const LEAST_BYTES: u64 = 1_000;

/// What is compressed at once. That much takes a fraction of a millisecond.
const PIECE_BYTES: usize = 128 << 10;

/// Ten bytes: the magic number, deflate, no flags, no time, the fastest level, an unknown system.
const HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 255];

/// An empty last block.
const LAST_BLOCK: [u8; 2] = [3, 0];

/// Compresses what is worth it for who asks for it.
pub(crate) async fn compress(request: Request, next: Next) -> Response {
    let is_accepted = accepts_gzip(request.headers());
    let mut response = next.run(request).await;
    if !is_compressible(&response) {
        return response;
    }
    response.headers_mut().append(header::VARY, HeaderValue::from_static("accept-encoding"));
    if !is_accepted {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.remove(header::ACCEPT_RANGES);
    parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    let is_short = body.size_hint().exact().is_some_and(|bytes| bytes <= PIECE_BYTES as u64);
    let body = match parts.extensions.remove::<Pieces>() {
        Some(Pieces { count, make }) => {
            let pieces = map_ahead(stream::iter(0..count), move |piece| Piece::of(&make(piece)));
            Body::from_stream(joined(pieces.map_err(axum::Error::new)))
        }
        None if is_short => short(body).await,
        None => Body::from_stream(long(body)),
    };
    Response::from_parts(parts, body)
}

/// RFC 9110, 12.5.3. What is not said is not accepted: not every program that says nothing can read it.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let mut of_any = false;
    let values = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    for (coding, weight) in values.flat_map(weighted) {
        let name = coding.split(';').next().unwrap_or_default().trim();
        if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") {
            return weight > 0.0;
        }
        of_any |= name == "*" && weight > 0.0;
    }
    of_any
}

/// Events are sent one by one, images are compressed, and ranges of a file are of what the file is.
fn is_compressible(response: &Response) -> bool {
    let headers = response.headers();
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let is_kind = |prefix: &str| kind.starts_with(prefix);
    !headers.contains_key(header::CONTENT_ENCODING)
        && !headers.contains_key(header::CONTENT_RANGE)
        && !["text/event-stream", "image/", "application/grpc"].into_iter().any(is_kind)
        && response.body().size_hint().exact().is_none_or(|bytes| bytes >= LEAST_BYTES)
}

async fn short(body: Body) -> Body {
    match axum::body::to_bytes(body, usize::MAX).await {
        Ok(bytes) => {
            let piece = Piece::of(&bytes);
            Body::from([&HEAD, piece.deflated.as_slice(), &end(&piece.sum)].concat())
        }
        // Whoever reads gets to know.
        Err(error) => Body::from_stream(stream::once(async { Err::<Bytes, _>(error) })),
    }
}

fn long(body: Body) -> impl Stream<Item = Result<Bytes, axum::Error>> + Send {
    let pieces = body.into_data_stream().map_ok(split).try_flatten();
    let compressed = map_ahead(pieces, |piece| piece.map(|bytes| Piece::of(&bytes)));
    joined(compressed.map(|piece| piece.map_err(axum::Error::new)?))
}

/// Pieces as one body, which ends with the first fault.
fn joined(
    pieces: impl Stream<Item = Result<Piece, axum::Error>> + Send,
) -> impl Stream<Item = Result<Bytes, axum::Error>> + Send {
    // What follows the last piece needs the sum of all of them.
    let with_end = pieces.map(Some).chain(stream::iter([None]));
    with_end.scan((HEAD.as_slice(), Crc::new()), |(head, sum), piece| {
        let head = std::mem::take(head);
        let bytes = match piece {
            Some(Ok(piece)) => {
                sum.combine(&piece.sum);
                Ok(Bytes::from([head, &piece.deflated].concat()))
            }
            Some(Err(error)) => Err(error),
            None => Ok(Bytes::from([head, &end(sum)].concat())),
        };
        futures::future::ready(Some(bytes))
    })
}

fn split(bytes: Bytes) -> impl Stream<Item = Result<Bytes, axum::Error>> {
    let pieces = bytes.len().div_ceil(PIECE_BYTES);
    stream::iter((0..pieces).map(move |piece| {
        let start = piece * PIECE_BYTES;
        Ok(bytes.slice(start..bytes.len().min(start + PIECE_BYTES)))
    }))
}

/// Compressors to be used again: to make one takes a tenth of what a piece takes.
static SPARE: Mutex<Vec<Compress>> = Mutex::new(Vec::new());

struct Piece {
    deflated: Vec<u8>,
    sum: Crc,
}

impl Piece {
    fn of(bytes: &[u8]) -> Piece {
        let mut sum = Crc::new();
        sum.update(bytes);
        // Answers are large and read once: what a higher level saves on the wire it costs several times in waiting.
        let spare = SPARE.lock().pop();
        let mut deflate = spare.unwrap_or_else(|| Compress::new(Compression::fast(), false));
        let mut deflated = Vec::with_capacity(bytes.len() / 6 + 512);
        loop {
            let rest = usize::try_from(deflate.total_in()).ok().and_then(|done| bytes.get(done..));
            let status = deflate.compress_vec(rest.unwrap_or_default(), &mut deflated, FlushCompress::Sync);
            // There is room left only when all is written.
            if !matches!(status, Ok(Status::Ok)) || deflated.len() < deflated.capacity() {
                break;
            }
            deflated.reserve(deflated.capacity());
        }
        deflate.reset();
        let mut spare = SPARE.lock();
        if spare.len() < threads() {
            spare.push(deflate);
        }
        Piece { deflated, sum }
    }
}

/// The last block, then the checksum and the length of all bytes.
fn end(sum: &Crc) -> [u8; 10] {
    let mut end = [0; 10];
    let bytes = LAST_BLOCK.into_iter().chain(sum.sum().to_le_bytes()).chain(sum.amount().to_le_bytes());
    end.iter_mut().zip(bytes).for_each(|(into, byte)| *into = byte);
    end
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use axum::{Router, middleware::from_fn, routing::get};
    use tower::ServiceExt;

    use super::*;

    /// What a client that asks so gets of a body in frames: the coding and the bytes.
    async fn fetch(
        frames: Vec<Bytes>,
        content_type: &'static str,
        accepted: &str,
    ) -> (Option<String>, Vec<u8>) {
        let answer = async move || {
            let body = match frames.as_slice() {
                [only] => Body::from(only.clone()),
                frames => Body::from_stream(stream::iter(frames.to_vec()).map(Ok::<_, axum::Error>)),
            };
            ([(header::CONTENT_TYPE, content_type)], body)
        };
        let router = Router::new().route("/", get(answer)).layer(from_fn(compress));
        let request =
            Request::get("/").header(header::ACCEPT_ENCODING, accepted).body(Body::empty()).unwrap();
        let response = router.oneshot(request).await.unwrap();
        let coding =
            response.headers().get(header::CONTENT_ENCODING).map(|it| it.to_str().unwrap().to_owned());
        let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (coding, bytes.to_vec())
    }

    fn unpacked(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        // One member: programs that stop after the first get all.
        let mut decoder = flate2::read::GzDecoder::new(bytes);
        decoder.read_to_end(&mut out).unwrap();
        assert!(decoder.into_inner().is_empty(), "bytes after the end");
        out
    }

    /// Text that repeats itself here and there, and bytes that do not.
    fn sample(bytes: usize) -> Bytes {
        let mut state = 1u64;
        let random = std::iter::from_fn(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            Some((state >> 33) as u8)
        });
        let text = b"{\"metric\":{\"source_workload\":\"a\"}}".iter().copied().cycle();
        text.zip(random).map(|(text, noise)| if noise < 40 { noise } else { text }).take(bytes).collect()
    }

    #[tokio::test]
    async fn what_was_sent_is_what_is_read() {
        for sizes in [
            vec![1_000],
            vec![PIECE_BYTES],
            vec![PIECE_BYTES + 1],
            vec![5 * PIECE_BYTES + 77],
            vec![],
            vec![1, 0, 5_000, PIECE_BYTES, 3 * PIECE_BYTES + 1, 17],
        ] {
            let frames: Vec<Bytes> = sizes.iter().map(|bytes| sample(*bytes)).collect();
            let whole = frames.concat();
            let (coding, bytes) = fetch(frames, "application/json", "deflate, gzip;q=0.8").await;
            assert_eq!(coding.as_deref(), Some("gzip"), "{sizes:?}");
            assert!(unpacked(&bytes) == whole, "{sizes:?}");
        }
    }

    #[tokio::test]
    async fn only_what_is_worth_it_is_compressed_and_only_for_who_asks() {
        let long = || vec![sample(5_000)];
        for (frames, content_type, accepted, is_compressed) in [
            (long(), "application/json", "gzip", true),
            (long(), "application/json", "br, *", true),
            (long(), "application/json", "", false),
            (long(), "application/json", "identity", false),
            (long(), "application/json", "gzip;q=0, *", false),
            (long(), "application/json", "br", false),
            (long(), "image/png", "gzip", false),
            (long(), "text/event-stream", "gzip", false),
            (vec![sample(999)], "application/json", "gzip", false),
        ] {
            let whole = frames.concat();
            let (coding, bytes) = fetch(frames, content_type, accepted).await;
            assert_eq!(coding.is_some(), is_compressed, "{content_type} for {accepted:?}");
            assert!(if is_compressed { unpacked(&bytes) == whole } else { bytes == whole });
        }
    }
}
