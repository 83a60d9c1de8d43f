//! `POST /api/v1/read`: Prometheus' remote read, as one message of samples or as a stream of chunks: of the two, what
//! the client names first. Errors are plain text, as Prometheus' own.

mod frames;
mod histogram_chunk;
mod samples;
#[cfg(test)]
mod tests;
mod xor;

use axum::{
    body::Bytes,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use pharos_model::{Labels, MatchOp, Matcher, RegexError, SeriesId, TimeRange, UnixNanos};
use pharos_proto::prometheus::remote_write_v1::{
    Label, Query, ReadRequest, label_matcher::Type, read_request::ResponseType,
};
use pharos_storage::StorageError;
use prost::Message;

use crate::Engine;

/// Of a request when it is unpacked; packed, it has the limit of every posted body.
const MAX_UNPACKED_BYTES: usize = 16 << 20;
const MAX_QUERIES: usize = 100;
/// Samples of an answer that is not a stream, as in Prometheus.
const MAX_SAMPLES: usize = 50_000_000;
/// Series whose samples are read at once.
const SERIES_AT_ONCE: usize = 256;

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error("{0}")]
    Request(String),
    #[error("exceeded sample limit ({MAX_SAMPLES})")]
    TooManySamples,
    #[error("the server is stopping")]
    Closed,
    #[error(transparent)]
    Regex(#[from] RegexError),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl IntoResponse for ReadError {
    fn into_response(self) -> Response {
        let status = match &self {
            ReadError::Request(_)
            | ReadError::TooManySamples
            | ReadError::Regex(_)
            | ReadError::Storage(StorageError::TooManySeries { .. }) => StatusCode::BAD_REQUEST,
            ReadError::Closed => StatusCode::SERVICE_UNAVAILABLE,
            ReadError::Storage(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, format!("{self}\n")).into_response()
    }
}

/// What one query asks for: its series in the order of their labels, and the times, both inclusive.
struct Selected {
    series: Vec<(SeriesId, Labels)>,
    first_ms: i64,
    last_ms: i64,
}

pub(crate) async fn read(engine: &Engine, body: &Bytes) -> Response {
    match answer(engine, body).await {
        Ok(response) => response,
        Err(error) => error.into_response(),
    }
}

async fn answer(engine: &Engine, body: &Bytes) -> Result<Response, ReadError> {
    let request = unpack(body)?;
    let accepted: Vec<ResponseType> = request.accepted_response_types().collect();
    let external = engine.host().configuration().external_labels;
    let mut selections = Vec::with_capacity(request.queries.len());
    for query in request.queries {
        selections.push(select(engine, query, &external)?);
    }
    let takes = |kind: ResponseType| accepted.contains(&kind);
    let takes_samples = accepted.is_empty() || takes(ResponseType::Samples);
    let prefers_chunks = accepted.first() == Some(&ResponseType::StreamedXorChunks);
    if !takes_samples && !takes(ResponseType::StreamedXorChunks) {
        return Err(ReadError::Request(format!("none of the response types {accepted:?} is known")));
    }
    let storage = engine.storage();
    let permit = engine.remote_read_permits().acquire_owned().await.map_err(|_| ReadError::Closed)?;
    if prefers_chunks || !takes_samples {
        return Ok(frames::stream(storage.clone(), selections, external, permit));
    }
    samples::respond(storage, selections, &external).await
}

fn unpack(body: &[u8]) -> Result<ReadRequest, ReadError> {
    let wrong = |what: &str| ReadError::Request(format!("the body is no remote read request: {what}"));
    let length = snap::raw::decompress_len(body).map_err(|error| wrong(&error.to_string()))?;
    if length > MAX_UNPACKED_BYTES {
        return Err(wrong(&format!("{length} bytes are more than {MAX_UNPACKED_BYTES}")));
    }
    let bytes = snap::raw::Decoder::new().decompress_vec(body).map_err(|error| wrong(&error.to_string()))?;
    let request = ReadRequest::decode(bytes.as_slice()).map_err(|error| wrong(&error.to_string()))?;
    if request.queries.len() > MAX_QUERIES {
        return Err(wrong(&format!("more than {MAX_QUERIES} queries")));
    }
    Ok(request)
}

/// A matcher that asks for our own external label is true of everything here, and of nothing as it is stored.
fn select(engine: &Engine, query: Query, external: &Labels) -> Result<Selected, ReadError> {
    let (mut first_ms, mut last_ms) = (query.start_timestamp_ms, query.end_timestamp_ms);
    // Of a query with several selectors: what this one is for.
    if let Some(hints) = query.hints.filter(|hints| hints.end_ms > 0 && hints.start_ms <= hints.end_ms) {
        (first_ms, last_ms) = (first_ms.max(hints.start_ms), last_ms.min(hints.end_ms));
    }
    let mut matchers = Vec::with_capacity(query.matchers.len());
    for matcher in query.matchers {
        let op = match matcher.r#type() {
            Type::Eq => MatchOp::Equal,
            Type::Neq => MatchOp::NotEqual,
            Type::Re => MatchOp::Regex,
            Type::Nre => MatchOp::NotRegex,
        };
        let is_external =
            op == MatchOp::Equal && !matcher.value.is_empty() && external.get(&matcher.name) == matcher.value;
        if !is_external {
            matchers.push(Matcher::new(matcher.name, op, matcher.value)?);
        }
    }
    let range =
        TimeRange::new(UnixNanos::from_millis(first_ms), UnixNanos::from_millis(last_ms.saturating_add(1)));
    let mut series = engine.storage().select_series(&matchers, range, engine.config().promql_max_series)?;
    series.sort_by(|a, b| a.1.cmp(&b.1));
    Ok(Selected { series, first_ms, last_ms })
}

/// Sorted by name, with the external labels that the series does not have itself.
fn wire_labels(labels: &Labels, external: &Labels) -> Vec<Label> {
    let missing = external.iter().filter(|(name, _)| !labels.contains(name));
    let mut all: Vec<Label> = labels
        .iter()
        .chain(missing)
        .map(|(name, value)| Label { name: name.into(), value: value.into() })
        .collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}
