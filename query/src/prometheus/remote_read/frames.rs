//! An answer as a stream: frames of chunks, series after series, read while they are sent.
//!
//! A frame is the length of its message as a varint, the message's CRC-32C in four bytes, big end first, and the
//! message. Source: Prometheus' `storage/remote/chunked.go`.

use std::collections::VecDeque;

use axum::{
    body::{Body, Bytes},
    http::header,
    response::{IntoResponse, Response},
};
use pharos_model::{Labels, SeriesId};
use pharos_proto::prometheus::remote_write_v1::{
    Chunk, ChunkedReadResponse, ChunkedSeries, Label, chunk::Encoding,
};
use pharos_storage::{SeriesColumns, Storage, StorageError};
use prost::Message;

use super::{SERIES_AT_ONCE, Selected, wire_labels, xor};

/// A frame is closed when its chunks have this many bytes, as in Prometheus; clients refuse much longer ones.
const FRAME_BYTES: usize = 1 << 20;
/// As Prometheus cuts its own chunks.
const SAMPLES_A_CHUNK: usize = 120;

const CONTENT_TYPE: &str = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";

struct Progress {
    storage: Storage,
    external: Labels,
    selections: VecDeque<Selected>,
    query: i64,
    /// Series of the first selection that are sent.
    sent: usize,
}

/// An error in the middle breaks the stream off, which the client notices.
pub(super) fn stream(storage: Storage, selections: Vec<Selected>, external: Labels) -> Response {
    let progress = Progress { storage, external, selections: selections.into(), query: 0, sent: 0 };
    let frames = futures::stream::try_unfold(progress, |mut progress| async move {
        Ok::<_, StorageError>(progress.next().await?.map(|bytes| (bytes, progress)))
    });
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], Body::from_stream(frames)).into_response()
}

impl Progress {
    /// The frames of some more series.
    async fn next(&mut self) -> Result<Option<Bytes>, StorageError> {
        let mut out = Vec::new();
        while let Some(selected) = self.selections.front() {
            let some: Vec<&(SeriesId, Labels)> =
                selected.series.iter().skip(self.sent).take(SERIES_AT_ONCE).collect();
            if some.is_empty() {
                self.selections.pop_front();
                self.query += 1;
                self.sent = 0;
                continue;
            }
            let ids: Vec<SeriesId> = some.iter().map(|(id, _)| *id).collect();
            let columns = self.storage.read_samples(&ids, selected.first_ms, selected.last_ms).await?;
            let mut columns = columns.into_iter().peekable();
            for (id, labels) in some {
                if let Some(column) = columns.next_if(|column| column.id == *id) {
                    write_series(&mut out, self.query, wire_labels(labels, &self.external), &column);
                }
            }
            self.sent += ids.len();
            if !out.is_empty() {
                return Ok(Some(Bytes::from(out)));
            }
        }
        Ok(None)
    }
}

/// A series in as many frames as it takes, its labels in each.
fn write_series(out: &mut Vec<u8>, query: i64, labels: Vec<Label>, column: &SeriesColumns) {
    let mut chunks = Vec::new();
    let mut bytes = 0;
    let times = column.times_ms.chunks(SAMPLES_A_CHUNK);
    for (times_ms, values) in times.zip(column.values.chunks(SAMPLES_A_CHUNK)) {
        let data = xor::encode(times_ms, values);
        bytes += data.len();
        chunks.push(Chunk {
            min_time_ms: times_ms.first().copied().unwrap_or(0),
            max_time_ms: times_ms.last().copied().unwrap_or(0),
            r#type: Encoding::Xor.into(),
            data,
        });
        if bytes >= FRAME_BYTES {
            write_frame(out, query, labels.clone(), std::mem::take(&mut chunks));
            bytes = 0;
        }
    }
    if !chunks.is_empty() {
        write_frame(out, query, labels, chunks);
    }
}

fn write_frame(out: &mut Vec<u8>, query_index: i64, labels: Vec<Label>, chunks: Vec<Chunk>) {
    let message = ChunkedReadResponse { chunked_series: vec![ChunkedSeries { labels, chunks }], query_index };
    let message = message.encode_to_vec();
    xor::push_varint(out, message.len() as u64);
    out.extend_from_slice(&crc32c::crc32c(&message).to_be_bytes());
    out.extend_from_slice(&message);
}
