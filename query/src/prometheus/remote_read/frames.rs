//! An answer as a stream: frames of chunks, series after series, read while they are sent.
//!
//! A frame is the length of its message as a varint, the message's CRC-32C in four bytes, big end first, and the
//! message. Source: Prometheus' `storage/remote/chunked.go`.

use std::{collections::VecDeque, sync::Arc};

use axum::{
    body::{Body, Bytes},
    http::header,
    response::{IntoResponse, Response},
};
use pharos_model::{Labels, NativeHistogram, SeriesId};
use pharos_proto::prometheus::remote_write_v1::{
    Chunk, ChunkedReadResponse, ChunkedSeries, Label, chunk::Encoding,
};
use pharos_storage::{Storage, StorageError};
use prost::Message;
use tokio::sync::OwnedSemaphorePermit;

use super::{SERIES_AT_ONCE, Selected, histogram_chunk, wire_labels, xor};

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
    /// To read, which ends with the stream.
    _permit: OwnedSemaphorePermit,
}

/// An error in the middle breaks the stream off, which the client notices.
pub(super) fn stream(
    storage: Storage,
    selections: Vec<Selected>,
    external: Labels,
    permit: OwnedSemaphorePermit,
) -> Response {
    let selections = selections.into();
    let progress = Progress { storage, external, selections, query: 0, sent: 0, _permit: permit };
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
            let (first_ms, last_ms) = (selected.first_ms, selected.last_ms);
            let columns = self.storage.read_samples(&ids, first_ms, last_ms).await?;
            let mut columns = columns.into_iter().peekable();
            let histograms = self.storage.read_histograms(&ids, first_ms, last_ms).await?;
            let mut histograms = histograms.into_iter().peekable();
            for (id, labels) in some {
                let column = columns.next_if(|column| column.id == *id);
                let (times_ms, values) =
                    column.map(|column| (column.times_ms, column.values)).unwrap_or_default();
                let own = histograms.next_if(|found| found.id == *id);
                let own = own.map(|found| found.samples).unwrap_or_default();
                let chunks = chunks_of(&times_ms, &values, &own);
                write_series(&mut out, self.query, wire_labels(labels, &self.external), chunks);
            }
            self.sent += ids.len();
            if !out.is_empty() {
                return Ok(Some(Bytes::from(out)));
            }
        }
        Ok(None)
    }
}

/// Chunks that follow each other in time: where floats and histograms alternate, so do their chunks.
fn chunks_of(
    mut times_ms: &[i64],
    mut values: &[f64],
    mut histograms: &[(i64, Arc<NativeHistogram>)],
) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    while !times_ms.is_empty() || !histograms.is_empty() {
        let is_before = |time_ms: &i64| histograms.first().is_none_or(|(until_ms, _)| time_ms < until_ms);
        let (now, later) = times_ms.split_at(times_ms.partition_point(is_before));
        let (of_now, of_later) = values.split_at(now.len());
        for (times_ms, values) in now.chunks(SAMPLES_A_CHUNK).zip(of_now.chunks(SAMPLES_A_CHUNK)) {
            chunks.push(Chunk {
                min_time_ms: times_ms.first().copied().unwrap_or(0),
                max_time_ms: times_ms.last().copied().unwrap_or(0),
                r#type: Encoding::Xor.into(),
                data: xor::encode(times_ms, values),
            });
        }
        (times_ms, values) = (later, of_later);
        // At one time with a float, the float is behind.
        let is_before = |time_ms: &i64| times_ms.first().is_none_or(|until_ms| time_ms <= until_ms);
        let (now, later) = histograms.split_at(histograms.partition_point(|(time_ms, _)| is_before(time_ms)));
        chunks.extend(histogram_chunk::encode_all(now).into_iter().map(|chunk| Chunk {
            min_time_ms: chunk.first_ms,
            max_time_ms: chunk.last_ms,
            r#type: Encoding::FloatHistogram.into(),
            data: chunk.data,
        }));
        histograms = later;
    }
    chunks
}

/// A series in as many frames as it takes, its labels in each.
fn write_series(out: &mut Vec<u8>, query: i64, labels: Vec<Label>, all: Vec<Chunk>) {
    let mut chunks = Vec::new();
    let mut bytes = 0;
    for chunk in all {
        bytes += chunk.data.len();
        chunks.push(chunk);
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
