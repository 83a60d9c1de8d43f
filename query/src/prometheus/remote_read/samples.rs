//! An answer as one message: every sample as it is.

use axum::{
    http::header,
    response::{IntoResponse, Response},
};
use pharos_model::{Labels, NativeHistogram, ResetHint, SeriesId, spans_of_buckets};
use pharos_proto::prometheus::remote_write_v1::{
    BucketSpan, Histogram, QueryResult, ReadResponse, Sample, TimeSeries, histogram,
};
use pharos_storage::Storage;
use prost::Message;

use super::{MAX_SAMPLES, ReadError, SERIES_AT_ONCE, Selected, wire_labels};

pub(super) async fn respond(
    storage: &Storage,
    selections: Vec<Selected>,
    external: &Labels,
) -> Result<Response, ReadError> {
    let mut response = ReadResponse::default();
    let mut left = MAX_SAMPLES;
    for selected in selections {
        let mut result = QueryResult::default();
        for some in selected.series.chunks(SERIES_AT_ONCE) {
            let ids: Vec<SeriesId> = some.iter().map(|(id, _)| *id).collect();
            let (first_ms, last_ms) = (selected.first_ms, selected.last_ms);
            let mut floats = storage.read_samples(&ids, first_ms, last_ms).await?.into_iter().peekable();
            let mut histograms =
                storage.read_histograms(&ids, first_ms, last_ms).await?.into_iter().peekable();
            for (id, labels) in some {
                let mut series =
                    TimeSeries { labels: wire_labels(labels, external), ..TimeSeries::default() };
                if let Some(column) = floats.next_if(|column| column.id == *id) {
                    let samples = column.times_ms.iter().zip(&column.values);
                    series.samples = samples
                        .map(|(time_ms, value)| Sample { timestamp: *time_ms, value: *value })
                        .collect();
                }
                if let Some(found) = histograms.next_if(|found| found.id == *id) {
                    let samples = found.samples.iter();
                    series.histograms =
                        samples.map(|(time_ms, histogram)| wire_histogram(*time_ms, histogram)).collect();
                }
                let count = series.samples.len() + series.histograms.len();
                left = left.checked_sub(count).ok_or(ReadError::TooManySamples)?;
                if count > 0 {
                    result.timeseries.push(series);
                }
            }
        }
        response.results.push(result);
    }
    let packed = snap::raw::Encoder::new()
        .compress_vec(&response.encode_to_vec())
        .map_err(|_| ReadError::TooManySamples)?;
    let headers = [(header::CONTENT_TYPE, "application/x-protobuf"), (header::CONTENT_ENCODING, "snappy")];
    Ok((headers, packed).into_response())
}

/// With float counts, which every client of native histograms reads.
fn wire_histogram(time_ms: i64, stored: &NativeHistogram) -> Histogram {
    let spans = |buckets: &[(i32, f64)]| {
        let spans = spans_of_buckets(buckets).into_iter();
        spans.map(|span| BucketSpan { offset: span.offset, length: span.length }).collect()
    };
    let counts = |buckets: &[(i32, f64)]| buckets.iter().map(|(_, count)| *count).collect();
    let reset_hint = match stored.reset_hint {
        ResetHint::Unknown => histogram::ResetHint::Unknown,
        ResetHint::Reset => histogram::ResetHint::Yes,
        ResetHint::NotReset => histogram::ResetHint::No,
        ResetHint::Gauge => histogram::ResetHint::Gauge,
    };
    Histogram {
        count: Some(histogram::Count::CountFloat(stored.count)),
        sum: stored.sum,
        schema: stored.schema,
        zero_threshold: stored.zero_threshold,
        zero_count: Some(histogram::ZeroCount::ZeroCountFloat(stored.zero_count)),
        negative_spans: spans(&stored.negative),
        negative_counts: counts(&stored.negative),
        positive_spans: spans(&stored.positive),
        positive_counts: counts(&stored.positive),
        reset_hint: reset_hint.into(),
        timestamp: time_ms,
        custom_values: stored.custom_bounds.clone(),
        ..Histogram::default()
    }
}
