//! Prometheus remote write, 1.0 and 2.0.

mod decoded;
mod families;
mod known;
mod v1;
mod v2;
mod wire;

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{DefaultBodyLimit, State},
    response::{IntoResponse, Response},
    routing::post,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use pharos_model::{Labels, UnixNanos};
use pharos_storage::Batch;

use self::{
    decoded::{Decoded, Written},
    families::Families,
    known::KnownLabels,
};
use crate::{
    body::{self, Share, too_large},
    clock::latest_sample_ms,
    counters::Protocol,
    fault::Fault,
    intake::Intake,
};

pub(crate) fn router(receiver: Receiver) -> Router {
    Router::new().route("/api/v1/write", post(write)).layer(DefaultBodyLimit::disable()).with_state(receiver)
}

#[derive(Clone)]
pub(crate) struct Receiver {
    intake: Arc<Intake>,
    families: Arc<Families>,
    known: Arc<KnownLabels>,
}

impl Receiver {
    pub(crate) fn new(intake: Arc<Intake>) -> Receiver {
        Receiver { intake, families: Arc::default(), known: Arc::default() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

async fn write(State(receiver): State<Receiver>, headers: HeaderMap, body: Body) -> Response {
    let (written, result) = take(&receiver, &headers, body).await;
    let mut response = match result {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(fault) => {
            receiver.intake.counters.failed(Protocol::RemoteWrite);
            let mut response = (fault.http_status(), format!("{fault}\n")).into_response();
            if let Some(seconds) = fault.retry_after_s() {
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            }
            response
        }
    };
    // A sender of version 2 takes an answer without these for one of a receiver that does not know it.
    for (name, count) in [
        ("x-prometheus-remote-write-samples-written", written.samples),
        ("x-prometheus-remote-write-histograms-written", written.histograms),
        ("x-prometheus-remote-write-exemplars-written", written.exemplars),
    ] {
        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from(count));
    }
    response
}

async fn take(receiver: &Receiver, headers: &HeaderMap, body: Body) -> (Written, Result<(), Fault>) {
    let intake = &receiver.intake;
    let decoded = match read(receiver, headers, body).await {
        Ok(decoded) => decoded,
        Err(fault) => return (Written::default(), Err(fault)),
    };
    let mut written = decoded.written;
    let mut series = decoded.series;
    receiver.families.learn(decoded.families.into_iter());
    receiver.families.attach(&mut series.rows);
    let items = written.samples + written.histograms;
    match intake.append(Protocol::RemoteWrite, Batch::Samples(series.rows), items).await {
        Ok(refused) => {
            written.samples -= refused.of_series.samples.min(written.samples);
            written.histograms -= refused.of_series.histograms.min(written.histograms);
            written.exemplars -= refused.of_series.exemplars.min(written.exemplars);
            series.rejected.merge(refused);
        }
        Err(fault) => return (Written::default(), Err(fault)),
    }
    intake.counters.rejected(Protocol::RemoteWrite, series.rejected.items);
    // The valid part is kept; 400 tells the sender not to send the rest again.
    let result = match series.rejected.is_empty() {
        true => Ok(()),
        false => Err(Fault::Malformed(format!(
            "{} samples were not stored: {}",
            series.rejected.items,
            series.rejected.message()
        ))),
    };
    (written, result)
}

async fn read(receiver: &Receiver, headers: &HeaderMap, body: Body) -> Result<Decoded, Fault> {
    let Receiver { intake, known, .. } = receiver;
    let version = version_of(headers)?;
    let (wire, _share) = body::read_wire(headers, body, &intake.limits, &intake.budget).await?;
    let (bytes, _decoded_share) = uncompress(intake, &wire)?;
    let latest_ms = latest_sample_ms(UnixNanos::now());
    match version {
        Version::V1 => v1::decode(&bytes, latest_ms, known),
        Version::V2 => v2::decode(&bytes, latest_ms, known, intake.start_times.as_deref()),
    }
}

fn version_of(headers: &HeaderMap) -> Result<Version, Fault> {
    let text = |name: header::HeaderName| {
        headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    };
    let encoding = text(header::CONTENT_ENCODING);
    if !encoding.is_empty() && !encoding.eq_ignore_ascii_case("snappy") {
        return Err(Fault::UnsupportedMedia(format!(
            "Content-Encoding {encoding:?} is not supported; send snappy"
        )));
    }
    let content_type = text(header::CONTENT_TYPE);
    let mut parts = content_type.split(';').map(str::trim);
    let media = parts.next().unwrap_or_default();
    if !media.is_empty() && !media.eq_ignore_ascii_case("application/x-protobuf") {
        return Err(Fault::UnsupportedMedia(format!(
            "Content-Type {content_type:?} is not supported; send application/x-protobuf"
        )));
    }
    let message = parts.find_map(|part| part.strip_prefix("proto=")).map(|name| name.trim_matches('"'));
    match message {
        None | Some("prometheus.WriteRequest") => Ok(Version::V1),
        Some("io.prometheus.write.v2.Request") => Ok(Version::V2),
        Some(other) => Err(Fault::UnsupportedMedia(format!("protobuf message {other:?} is not known"))),
    }
}

/// Snappy's block format states the size of what it holds, which is checked before any of it is made.
fn uncompress(intake: &Intake, wire: &[u8]) -> Result<(Vec<u8>, Share), Fault> {
    let broken = |error: snap::Error| Fault::Malformed(format!("the body is not valid snappy: {error}"));
    if wire.is_empty() {
        return Err(Fault::Malformed("the body is empty; a snappy block was expected".into()));
    }
    let len = snap::raw::decompress_len(wire).map_err(broken)?;
    if len > intake.limits.max_body_bytes {
        return Err(too_large("decompressed body", intake.limits.max_body_bytes));
    }
    let share = intake.budget.take(len)?;
    Ok((snap::raw::Decoder::new().decompress_vec(wire).map_err(broken)?, share))
}

/// A series' labels as they must be: named, no name twice.
fn check_labels<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Labels, String> {
    let pairs: Vec<(&str, &str)> = labels.collect();
    let labels = Labels::from_pairs(pairs.iter().copied());
    if let Some((_, value)) = pairs.iter().find(|(name, _)| name.is_empty()) {
        return Err(format!("series {labels} has a label without a name (value {value:?})"));
    }
    if labels.metric_name().is_empty() {
        return Err(format!("series {labels} has no label __name__"));
    }
    if labels.len() != pairs.iter().filter(|(_, value)| !value.is_empty()).count() {
        return Err(format!("series {labels} has a label twice"));
    }
    Ok(labels)
}

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use self::tests::{sample_request, take_apart};
